"""`hyperfill load` against timescaledb-parallel-copy and a single `\\copy`: the same file, alternating, one table.

    python -m bench.csv_load                          about five minutes, on an embedded server
    python -m bench.csv_load --rounds 1 --rows 200000 a smoke run

What each run does and how it is measured: README.md in this folder.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from psycopg import sql

from bench.csv_files import DAYS, SHAPES, make_file
from bench.expected import Figure
from bench.measure import Ran, alternate
from bench.runs import Run, Section, alone, disturbed, figure, lines_table, measured, summarize
from bench.servers import (
    PEER_NAME,
    End,
    add_options,
    database,
    described,
    digest,
    end,
    environment,
    machine_facts,
    now,
    one,
    positive,
    programs,
    say,
)

# Command lines, split as a shell would before the fields are filled in: psql, peer, python, conninfo (without the
# password, which is where PGPASSFILE says), table, file, columns, workers, encode.
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


@dataclass
class Bench:
    """What all runs share."""

    target: End
    environment: dict[str, str]
    shape: str
    rows: int
    timeout: float
    fields: dict[str, str]
    digest: str | None = None  # of the first table that was loaded; all others must have the same
    made: int = 0


def contenders(args: argparse.Namespace) -> list[Contender]:
    """What is compared."""
    found = [Contender("psql \\copy", "psql", PSQL)]
    found += [Contender(f"parallel-copy -workers {n}", "peer", PEER, n) for n in args.workers]
    load = " ".join([LOAD, *args.load_option, "{file}"])
    for encode in args.encode:
        found += [Contender(f"hyperfill {encode} --jobs {n}", "hyperfill", load, n, encode) for n in args.workers]
    return [contender for contender in found if not args.only or contender.kind in args.only]


def one_run(bench: Bench, contender: Contender, number: int) -> Run:
    """A fresh hypertable, a checkpoint, the command, and a count of what has arrived."""
    # A name of its own each time: a load keeps in its ledger which range of which hypertable it has filled.
    bench.made += 1
    name = f"t{bench.made}"
    shape, there = SHAPES[bench.shape], bench.target.connection
    columns = sql.SQL(", ").join(sql.SQL("{} " + kind).format(sql.Identifier(column)) for column, kind in shape.columns)
    relation = sql.Identifier("public", name)
    there.execute(sql.SQL("CREATE TABLE {} (time timestamptz NOT NULL, {})").format(relation, columns))
    make = "SELECT create_hypertable(%s, 'time', chunk_time_interval => interval '1 day')"
    there.execute(make, [f"public.{name}"])
    there.execute("CHECKPOINT")
    fields = {**bench.fields, "table": name, "columns": ",".join(["time", *(column for column, _ in shape.columns)])}
    try:
        return measured(
            contender.name,
            number,
            contender.filled(fields),
            bench.environment,
            bench.timeout,
            target=bench.target,
            check=partial(check, bench, relation, number),
        )
    finally:
        there.execute(sql.SQL("DROP TABLE {}").format(relation))


def check(bench: Bench, relation: sql.Identifier, number: int, ran: Ran) -> tuple[int, str]:
    """Every row of the file there, once."""
    there = bench.target.connection
    rows = int(one(there, sql.SQL("SELECT count(*) FROM {}").format(relation)))
    if ran.exit_code != 0:
        return rows, "FAILED"
    if rows != bench.rows:
        return rows, "WRONG"
    if number <= 0:
        # Once for each contender: equal counts say nothing of what is in the rows.
        found = digest(there, relation)
        bench.digest = bench.digest or found
        if found != bench.digest:
            return rows, "WRONG"
    return rows, "ok"


def measure(args: argparse.Namespace, folder: Path) -> Section:
    """All contenders on one file."""
    entries = contenders(args)
    file = (args.dir or folder) / f"{args.shape}-{args.rows}-{args.seed}.csv"
    say(f"{'found' if file.exists() else 'making'} {file.name}")
    make_file(file, args.shape, args.rows, args.seed)
    runs: list[Run] = []
    with database(args.target, folder / "target") as conninfo, end(conninfo) as target:
        env = environment(folder, [conninfo])
        found = programs(args, folder, env)
        fields = {**found.commands, "file": str(file), "conninfo": target.conninfo}
        bench = Bench(target, env, args.shape, args.rows, args.timeout, fields)
        names = {"peer": PEER_NAME, "hyperfill": "`hyperfill load`"}
        lacking = [c for c in entries if found.versions[c.kind] is None]
        missing = {c.name: f"missing: no {names.get(c.kind, c.kind)}" for c in lacking}
        present = [c for c in entries if c.name not in missing]
        # One that does not count: the file comes into the page cache, and the server gets its WAL files.
        for number, contender in [*((-1, c) for c in present[:1]), *alternate(present, args.rounds)]:
            done = one_run(bench, contender, number)
            say(f"csv, {'warm-up' if number < 0 else f'round {number + 1}'}: {done.line()}")
            if number >= 0:
                runs.append(done)
    peers = {c.workers: c.name for c in entries if c.kind == "peer"}
    lines, figures = [], {}
    for c in entries:
        line = summarize(c.name, runs, args.rows, {"peer": peers.get(c.workers) if c.kind != "peer" else None})
        lines.append({**line, "kind": c.kind, "workers": c.workers, "encode": c.encode or None})
        if c.kind == "hyperfill":
            figures[c.name] = figure(f"csv/{c.encode}/peer", line["ratio"]["peer"], args.rows, line)
    size = file.stat().st_size
    if not args.dir:
        file.unlink()
    text = "\n".join(
        [
            f"CSV to hypertable: {args.rows:,} rows, {SHAPES[args.shape].about}; {size / 1e6:.0f} MB, {DAYS} chunks; "
            f"rounds: {args.rounds}",
            described(target.facts),
            "; ".join(v for v in found.versions.values() if v),
            "medians, CPU in seconds per million rows, memory in MiB: all processes, the first, the largest other\n",
            lines_table(lines, args.rows, against=("peer",), missing=missing, figures=figures, source=False),
        ]
    )
    data: dict[str, Any] = {
        "at": now(),
        "machine": machine_facts(),
        "server": target.facts,
        "versions": found.versions,
        "file": {"shape": args.shape, "rows": args.rows, "seed": args.seed, "bytes": size},
        "rounds": args.rounds,
        "commands": {c.name: c.command for c in entries},
        "missing": missing,
        "summary": lines,
        "runs": [asdict(r) for r in runs],
    }
    judged: list[Figure] = [f for some in figures.values() for f in some]
    return Section("csv", text + disturbed(runs), data, judged, all(r.verdict == "ok" for r in runs))


def parser() -> argparse.ArgumentParser:
    """Its options."""
    made = argparse.ArgumentParser(prog="python -m bench.csv_load", description=(__doc__ or "").split("\n", 1)[0])
    add = made.add_argument
    add("--rows", type=positive, default=2_000_000)
    add("--rounds", type=positive, default=5)
    add("--shape", choices=sorted(SHAPES), default="floats")
    add("--seed", type=int, default=1)
    add("--workers", type=positive, nargs="+", default=[1, 2, 4], metavar="N")
    add("--encode", nargs="+", choices=["client", "server"], default=["client", "server"])
    add("--only", nargs="+", choices=["psql", "peer", "hyperfill"], help="leave the other contenders out")
    add("--load-option", action="append", default=[], metavar="WORDS", help="more options of `hyperfill load`")
    add_options(made, source=False)
    return made


if __name__ == "__main__":
    sys.exit(alone(measure, parser().parse_args()))
