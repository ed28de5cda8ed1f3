"""`hyperfill load` against timescaledb-parallel-copy and a single `\\copy`: the same file, alternating, one table.

    python -m bench.csv_load                          about five minutes, on an embedded server
    python -m bench.csv_load --rounds 1 --rows 200000 a smoke run

What each run does and how it is measured: README.md in this folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.csv_files import DAYS, SHAPES, make_file
from bench.measure import Ran, ServerCpu, Spread, alternate, machine_cpu, ratios, run, table
from hyperfill.sandbox import create_server

Connection = psycopg.Connection[tuple[Any, ...]]

PEER_VARIABLE = "HYPERFILL_BENCH_PEER"
PEER_NAME = "timescaledb-parallel-copy"
GOALS = {"client": 0.75, "server": 1.0}  # of the peer's wall time with as many workers

# Durable, as a server in use is. No checkpoint and no autovacuum falls into some runs and spares others.
SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    # On, for a load leaves most of ANALYZE to it where it is; but asleep for the hour.
    "autovacuum": "on",
    "autovacuum_naptime": "1h",
}
_TOLD = (*SETTINGS, "wal_level", "wal_compression", "jit", "max_connections")

# Command lines, split as a shell would before the fields are filled in: psql, peer, python, conninfo (without the
# password, which is in the environment), table, file, columns, workers, encode.
PSQL = """{psql} -X -q -v ON_ERROR_STOP=1 -d {conninfo} -c "\\copy public.{table} FROM '{file}' (FORMAT csv)\""""
PEER = "{peer} -connection {conninfo} -schema public -table {table} -file {file} -skip-header=false -workers {workers}"
LOAD = (
    "{python} -m hyperfill load --target {conninfo} --hypertable public.{table} --columns {columns} "
    "--jobs {workers} --encode {encode} --hold none"
)


@dataclass(frozen=True)
class Contender:
    """A command line to measure. `kind` is psql, peer or hyperfill."""

    name: str
    kind: str
    command: str
    workers: int = 1
    encode: str = ""

    def filled(self, fields: Mapping[str, str]) -> list[str]:
        given = {**fields, "workers": str(self.workers), "encode": self.encode}
        return [argument.format(**given) for argument in shlex.split(self.command)]


@dataclass(frozen=True)
class Run:
    """One measured run. Seconds and bytes; None is what could not be measured here."""

    round: int
    contender: str
    wall: float
    target_cpu: float | None
    client_cpu: float
    client_peak: int | None
    other_cpu: float | None  # of everything else on the machine meanwhile
    rows: int
    verdict: str  # ok, WRONG (rows or their content) or FAILED
    said: str = ""

    @property
    def disturbed(self) -> bool:
        return self.other_cpu is not None and self.other_cpu > 0.05 + 0.1 * self.wall


@dataclass
class Bench:
    """What all runs share."""

    environment: dict[str, str]
    file: Path
    shape: str
    rows: int
    timeout: float
    fields: dict[str, str]
    runs: list[Run] = field(default_factory=list)
    digest: str | None = None  # of the first table that was loaded; all others must have the same
    made: int = 0


def contenders(args: argparse.Namespace) -> list[Contender]:
    found = [Contender("psql \\copy", "psql", PSQL)]
    found += [Contender(f"parallel-copy -workers {n}", "peer", PEER, n) for n in args.workers]
    load = " ".join([LOAD, *args.load_option, "{file}"])
    for encode in args.encode:
        found += [Contender(f"hyperfill {encode} --jobs {n}", "hyperfill", load, n, encode) for n in args.workers]
    return [contender for contender in found if not args.only or contender.kind in args.only]


def available(args: argparse.Namespace, env: Mapping[str, str]) -> dict[str, str | None]:
    """What each kind of contender says of its version; None where it is missing."""
    peer = args.peer or os.environ.get(PEER_VARIABLE) or shutil.which(PEER_NAME)
    psql = args.psql or shutil.which("psql")
    args.peer, args.psql = peer or PEER_NAME, psql or "psql"

    def said(*command: str) -> str | None:
        try:
            ran = run(command, env, 60)
        except OSError:
            return None
        return ran.said.splitlines()[-1] if ran.exit_code == 0 and ran.said else None

    # The peer says it through a logger, with the date; hyperfill says the number only.
    release = (said(args.peer, "-version") or "").partition(PEER_NAME)
    module = (sys.executable, "-m", "hyperfill")
    own = f"hyperfill {said(*module, '--version')}"
    return {
        "psql": said(args.psql, "--version"),
        "peer": "".join(release[1:]) or None,
        "hyperfill": own if said(*module, "load", "--help") else None,
    }


@contextlib.contextmanager
def database(args: argparse.Namespace, folder: Path) -> Iterator[str]:
    """A conninfo of a fresh database with TimescaleDB in it, on the given server or on an embedded one."""
    server = None if args.target else create_server(folder / "server", settings=SETTINGS)
    try:
        if server:
            server.start()
        there = server.conninfo() if server else args.target
        name = sql.Identifier(f"hyperfill_bench_{os.getpid()}")
        with psycopg.connect(there, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
            try:
                conninfo = make_conninfo(there, dbname=f"hyperfill_bench_{os.getpid()}")
                with psycopg.connect(conninfo, autocommit=True) as connection:
                    connection.execute("SET client_min_messages = warning")
                    connection.execute("CREATE EXTENSION timescaledb")
                yield conninfo
            finally:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
    finally:
        if server:
            server.remove()


def one_run(bench: Bench, connection: Connection, cpu: ServerCpu | None, contender: Contender, number: int) -> Run:
    """A fresh hypertable, a checkpoint, the command, and a count of what has arrived."""
    # A name of its own each time: a load keeps in its ledger which range of which hypertable it has filled.
    bench.made += 1
    name = f"t{bench.made}"
    shape = SHAPES[bench.shape]
    columns = sql.SQL(", ").join(sql.SQL("{} " + kind).format(sql.Identifier(column)) for column, kind in shape.columns)
    relation = sql.Identifier("public", name)
    connection.execute(sql.SQL("CREATE TABLE {} (time timestamptz NOT NULL, {})").format(relation, columns))
    make = "SELECT create_hypertable(%s, 'time', chunk_time_interval => interval '1 day')"
    connection.execute(make, [f"public.{name}"])
    connection.execute("CHECKPOINT")
    fields = {**bench.fields, "table": name, "columns": ",".join(["time", *(column for column, _ in shape.columns)])}
    try:
        busy, used = machine_cpu(), cpu.seconds() if cpu else 0.0
        ran = run(contender.filled(fields), bench.environment, bench.timeout)
        _wait_for_clients(connection)
        used, busy = cpu.seconds() - used if cpu else 0.0, machine_cpu() - busy
        rows, verdict = _verdict(bench, connection, relation, ran, number)
    finally:
        connection.execute(sql.SQL("DROP TABLE {}").format(relation))
    return Run(
        round=number,
        contender=contender.name,
        wall=ran.wall,
        target_cpu=used if cpu else None,
        client_cpu=ran.cpu,
        client_peak=ran.peak,
        other_cpu=max(0.0, busy - used - ran.cpu) if cpu else None,
        rows=rows,
        verdict=verdict,
        said="" if verdict == "ok" else ran.said,
    )


def _wait_for_clients(connection: Connection) -> None:
    """Until the command's backends are gone: what a worker of a killed client still does belongs to it."""
    others = """SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""
    deadline = time.monotonic() + 10
    while _one(connection, others) and time.monotonic() < deadline:
        time.sleep(0.005)


def _verdict(bench: Bench, connection: Connection, relation: sql.Identifier, ran: Ran, number: int) -> tuple[int, str]:
    rows = int(_one(connection, sql.SQL("SELECT count(*) FROM {}").format(relation)))
    if ran.exit_code != 0:
        return rows, "FAILED"
    if rows != bench.rows:
        return rows, "WRONG"
    if number <= 0:
        # Once for each contender: equal counts say nothing of what is in the rows. Independent of their order.
        of_rows = "SELECT sum(hash_numeric_extended(hash_record_extended(t, 0)::numeric, 7))::text FROM {} t"
        digest = str(_one(connection, sql.SQL(of_rows).format(relation)))
        bench.digest = bench.digest or digest
        if digest != bench.digest:
            return rows, "WRONG"
    return rows, "ok"


def _one(connection: Connection, statement: str | sql.Composed) -> Any:
    return connection.execute(statement).fetchall()[0][0]


def summary(bench: Bench, measured: list[Contender]) -> list[dict[str, Any]]:
    """A line for each contender: spreads over its good runs, and the ratios to the peer with as many workers."""
    walls = {
        c.name: {r.round: r.wall for r in bench.runs if r.contender == c.name and r.verdict == "ok"} for c in measured
    }
    peers = {c.workers: c.name for c in measured if c.kind == "peer"}
    million = bench.rows / 1_000_000
    lines = []
    for contender in measured:
        mine = [r for r in bench.runs if r.contender == contender.name]
        good = [r for r in mine if r.verdict == "ok"]
        peer = peers.get(contender.workers)
        pairs = ratios(walls[contender.name], walls[peer]) if peer and contender.kind != "peer" else []
        target = [r.target_cpu / million for r in good if r.target_cpu is not None]
        peaks = [r.client_peak for r in good if r.client_peak is not None]
        line: dict[str, Any] = {"contender": contender.name, "kind": contender.kind, "workers": contender.workers}
        line["encode"] = contender.encode or None
        line["runs"], line["good"] = len(mine), len(good)
        line["wall"] = asdict(Spread.of([r.wall for r in good])) if good else None
        line["target_cpu_per_million"] = asdict(Spread.of(target)) if target else None
        line["client_cpu_per_million"] = asdict(Spread.of([r.client_cpu / million for r in good])) if good else None
        line["client_peak"] = max(peaks) if peaks else None
        line["ratio"] = asdict(Spread.of(pairs)) if pairs else None
        lines.append(line)
    return lines


HEADER = ("", "wall s", "min", "max", "rows/s", "target CPU", "client CPU", "MiB", "to peer", "min", "max", "")


def as_table(bench: Bench, lines: list[dict[str, Any]], missing: Mapping[str, str]) -> str:
    def spread(values: dict[str, float] | None) -> list[str]:
        return Spread(**values).text() if values else ["-", "-", "-"]

    rows = []
    for line in lines:
        wall, remark = line["wall"], missing.get(line["contender"], "")
        if not remark and line["good"] < line["runs"]:
            bad = sorted({r.verdict for r in bench.runs if r.contender == line["contender"]} - {"ok"})
            remark = f"{line['runs'] - line['good']} of {line['runs']} {' '.join(bad)}"
        # Starting Python is most of what loading a small file takes: a smoke run proves no goal met or missed.
        limit = GOALS.get(line["encode"] or "") if bench.rows >= 1_000_000 else None
        calm = [r for r in bench.runs if r.contender == line["contender"] and not r.disturbed]
        if not remark and limit and line["ratio"]:
            remark = (
                "disturbed"
                if 2 * len(calm) <= line["runs"]
                else f"{'met' if line['ratio']['median'] <= limit else 'MISSED'}: {limit:.2f}"
            )
        rate = f"{bench.rows / wall['median']:,.0f}".replace(",", " ") if wall else "-"
        cpus = [spread(line[f"{side}_cpu_per_million"])[0] for side in ("target", "client")]
        peak = f"{line['client_peak'] / 2**20:.0f}" if line["client_peak"] else "-"
        rows.append([line["contender"], *spread(wall), rate, *cpus, peak, *spread(line["ratio"]), remark])
    return table(HEADER, rows)


def server_facts(connection: Connection) -> dict[str, str]:
    names = [*_TOLD, "timescaledb.license"]
    settings = connection.execute("SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)", [names])
    facts = {"postgresql": _one(connection, "SHOW server_version")}
    facts["timescaledb"] = _one(connection, "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    return {**facts, **dict(settings.fetchall())}


def measure(args: argparse.Namespace, folder: Path) -> int:
    entries = contenders(args)
    file = folder / f"{args.shape}-{args.rows}-{args.seed}.csv"
    say(f"{'found' if file.exists() else 'making'} {file.name}")
    make_file(file, args.shape, args.rows, args.seed)
    with database(args, folder) as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
        # Anyone may read command lines, so the password goes through the environment.
        parts = conninfo_to_dict(conninfo)
        password = parts.pop("password", None)
        environment = {**os.environ, "NO_COLOR": "1", **({"PGPASSWORD": str(password)} if password else {})}
        versions = available(args, environment)
        fields = {"psql": args.psql, "peer": args.peer, "python": sys.executable, "file": str(file)}
        fields["conninfo"] = make_conninfo("", **parts)
        bench = Bench(environment, file, args.shape, args.rows, args.timeout, fields)
        cpu = ServerCpu.of(connection)
        facts = server_facts(connection)
        names = {"peer": PEER_NAME, "hyperfill": "`hyperfill load`"}
        missing = {c.name: f"missing: no {names.get(c.kind, c.kind)}" for c in entries if versions[c.kind] is None}
        present = [c for c in entries if c.name not in missing]
        # One that does not count: the file comes into the page cache, and the server gets its WAL files.
        warm = [(-1, contender) for contender in present[:1]]
        for number, contender in [*warm, *alternate(present, args.rounds)]:
            done = one_run(bench, connection, cpu, contender, number)
            if number >= 0:
                bench.runs.append(done)
            cpus = f"CPU target {done.target_cpu or 0:.2f} client {done.client_cpu:.2f} other {done.other_cpu or 0:.2f}"
            say(f"{'warm-up' if number < 0 else f'round {number + 1}'}: {contender.name}: {done.wall:.2f} s, {cpus}")
            if done.verdict != "ok":
                say(f"  {done.verdict}, {done.rows} rows: {done.said}")
    lines = summary(bench, entries)
    report(args, bench, lines, missing, facts, versions)
    return 0 if all(r.verdict == "ok" for r in bench.runs) else 1


def report(
    args: argparse.Namespace,
    bench: Bench,
    lines: list[dict[str, Any]],
    missing: Mapping[str, str],
    facts: Mapping[str, str],
    versions: Mapping[str, str | None],
) -> None:
    """The table on stdout; everything, run by run, in the JSON file."""
    size = bench.file.stat().st_size
    known = [f"{name} {facts[name]}" for name in ("postgresql", "timescaledb", "timescaledb.license") if name in facts]
    print(
        f"{bench.rows:,} rows, {SHAPES[bench.shape].about}; {size / 1e6:.0f} MB, {DAYS} chunks; rounds: {args.rounds}"
    )
    print(f"{', '.join(known)}; {', '.join(f'{name} {facts[name]}' for name in SETTINGS)}; {os.cpu_count()} cores")
    print(f"{'; '.join(said for said in versions.values() if said)}")
    print("medians, CPU in seconds per million rows, memory the highest peak, ratios round by round\n")
    print(as_table(bench, lines, missing))
    busy = [r for r in bench.runs if r.other_cpu is not None and r.other_cpu > 0.05 + 0.1 * r.wall]
    if busy:
        print(
            f"\n{len(busy)} of {len(bench.runs)} runs were disturbed: others took more than a tenth of a core meanwhile"
        )
    if args.json:
        machine = {"cores": os.cpu_count(), "system": platform.system(), "machine": platform.machine()}
        machine["python"] = platform.python_version()
        whole = {
            "bench": "csv_load",
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": machine,
            "server": facts,
            "versions": versions,
            "file": {"shape": bench.shape, "rows": bench.rows, "seed": args.seed, "bytes": size},
            "rounds": args.rounds,
            "commands": {c.name: c.command for c in contenders(args)},
            "missing": dict(missing),
            "summary": lines,
            "runs": [asdict(r) for r in bench.runs],
        }
        args.json.write_text(json.dumps(whole, indent=1) + "\n")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.csv_load", description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--target", metavar="CONNINFO", help="an existing server, as superuser (default: an embedded one)")
    add("--rows", type=int, default=2_000_000)
    add("--rounds", type=int, default=5)
    add("--shape", choices=sorted(SHAPES), default="floats")
    add("--seed", type=int, default=1)
    add("--workers", type=int, nargs="+", default=[1, 2, 4], metavar="N")
    add("--encode", nargs="+", choices=["client", "server"], default=["client", "server"])
    add("--only", nargs="+", choices=["psql", "peer", "hyperfill"], help="leave the other contenders out")
    add("--load-option", action="append", default=[], metavar="WORDS", help="more options of `hyperfill load`")
    add("--peer", help=f"{PEER_NAME} (default: {PEER_VARIABLE}, or the one on PATH)")
    add("--psql", help="the psql to use (default: the one on PATH)")
    add("--dir", type=Path, help="where the file and the server go; the file stays (default: a temporary folder)")
    add("--timeout", type=float, default=600, metavar="SECONDS", help="of one run")
    add("--json", type=Path, metavar="FILE", help="write everything measured there")
    args = parser.parse_args()
    if args.dir:
        args.dir.mkdir(parents=True, exist_ok=True)
        return measure(args, args.dir)
    with tempfile.TemporaryDirectory(prefix="hyperfill-bench-") as folder:
        return measure(args, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
