"""Landing history compressed: `hyperfill run` against the published pipeline with compression afterwards or on the way.

    python -m bench.land --target CONNINFO                                 about 40 minutes
    python -m bench.land --target CONNINFO --rows 200000 --rounds 1        a smoke run

What each run does and how it is measured: README.md in this folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from bench.expected import Figure, words
from bench.history import COMPRESS, DAYS, TABLES, UNTIL, Table, make_source, make_target
from bench.measure import Ran, alternate, ratios, table
from bench.runs import Run, Section, alone, disturbed, figure, lines_table, measured, numbers, spread, summarize
from bench.servers import (
    PEER_NAME,
    End,
    Programs,
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
from bench.shapes import bound

_COMPRESSED = 1  # the status of a chunk that is compressed, neither partial nor unordered


class RefusedError(Exception):
    """What was asked for cannot be measured there; the message says why."""


@dataclass(frozen=True)
class Contender:
    """A way to land the rows. `kind`: compress, direct, run, plain."""

    name: str
    kind: str
    jobs: int = 0


@dataclass(frozen=True)
class Ended:
    """What a run left on the target."""

    size: int  # bytes of all chunks, compressed or not, with indexes and TOAST
    statuses: dict[int, int]  # how many chunks have which status
    landed: dict[str, int]  # how many chunks hyperfill says that it has written compressed, compressed afterwards, left


@dataclass
class Scene:
    """A source table and all that runs on it share."""

    of: Table
    name: str
    rows: int
    source: End
    target: End
    one_server: bool  # both ends are databases of one server
    environment: dict[str, str]
    programs: Programs
    timeout: float
    digest: str
    ended: dict[tuple[str, int], Ended] = field(default_factory=dict)  # by contender and round
    made: int = 0


def contenders(args: argparse.Namespace) -> list[Contender]:
    """What is compared, the one first that others are compared with."""
    found = [Contender("pipeline, then compress", "compress"), Contender("pipeline, direct compress", "direct")]
    found += [Contender(f"run --jobs {jobs} --land auto", "run", jobs) for jobs in args.jobs]
    found += [Contender(f"run --jobs {jobs} --land plain, then compress", "plain", jobs) for jobs in args.jobs]
    return [contender for contender in found if contender.kind in args.only]


def command(scene: Scene, contender: Contender, name: str) -> list[str]:
    """Its command line. It holds no password; they are where PGPASSFILE says."""
    source, target = scene.source.conninfo, scene.target.conninfo
    columns = scene.of.shape.names
    places = {
        "name": sql.Literal(f"public.{name}"),
        "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
        "until": sql.Literal(bound(UNTIL)),
    }

    def psql(conninfo: str, statement: LiteralString) -> str:
        text = sql.SQL(statement).format(**places).as_string(scene.source.connection)
        options = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", conninfo, "-c", text]
        return shlex.join([scene.programs.commands["psql"], *options])

    if contender.kind in ("run", "plain"):
        moved = ["--table", "public.m", "--hypertable", f"public.{name}", "--end", bound(UNTIL)]
        options = ["--jobs", str(contender.jobs), "--verify", "none", "--json"]
        options += ["--land", "auto" if contender.kind == "run" else "plain"]
        start = [scene.programs.commands["python"], "-m", "hyperfill", "run"]
        run = [*start, "--source", source, "--target", target, *moved, *options]
        return run if contender.kind == "run" else ["sh", "-c", f"{shlex.join(run)} && {psql(target, COMPRESS)}"]
    out = psql(source, "\\copy (SELECT {columns} FROM public.m WHERE time < {until}) TO STDOUT (FORMAT csv)")
    peer = [scene.programs.commands["peer"], "--connection", target, "--schema", "public", "--table", name]
    peer += ["--columns", ",".join(columns), "--workers", "4", "--batch-size", "1000"]
    if contender.kind == "direct":
        return ["sh", "-c", f"{out} | {shlex.join(peer)}"]
    return ["sh", "-c", f"{out} | {shlex.join([*peer, '--disable-direct-compress'])} && {psql(target, COMPRESS)}"]


def one_run(scene: Scene, contender: Contender, number: int) -> Run:
    """A fresh hypertable with a policy, a checkpoint, the command, and a look at what has arrived."""
    # A name of its own each time: the ledger keeps which range of which hypertable was filled.
    scene.made += 1
    name = f"{scene.name}_{scene.made}"
    there = scene.target.connection
    relation = make_target(there, scene.of, name)
    there.execute("CHECKPOINT")
    try:
        return measured(
            contender.name,
            number,
            command(scene, contender, name),
            scene.environment,
            scene.timeout,
            # The CPU of one server is counted once, as the target's.
            source=None if scene.one_server else scene.source,
            target=scene.target,
            check=partial(check, scene, relation, name, contender, number),
        )
    finally:
        there.execute(sql.SQL("DROP TABLE {}").format(relation))


def check(
    scene: Scene, relation: sql.Identifier, name: str, contender: Contender, number: int, ran: Ran
) -> tuple[int, str]:
    """Every row there, once and as it was; of `run --land auto` also every chunk compressed and in order."""
    there = scene.target.connection
    rows = int(one(there, sql.SQL("SELECT count(*) FROM {}").format(relation)))
    if ran.exit_code != 0:
        return rows, "FAILED"
    if rows != scene.rows or digest(there, relation) != scene.digest:
        return rows, "WRONG"
    status = "SELECT _timescaledb_functions.chunk_status(c) FROM show_chunks(%s) AS c"
    statuses = Counter(row[0] for row in there.execute(status, [f"public.{name}"]).fetchall())
    size = int(one(there, "SELECT sum(total_bytes) FROM hypertable_detailed_size(%s)", [f"public.{name}"]))
    scene.ended[contender.name, number] = Ended(size, dict(sorted(statuses.items())), _landed(ran.said))
    if contender.kind == "run" and set(statuses) != {_COMPRESSED}:
        say(f"{contender.name}: not every chunk has the status {_COMPRESSED}: {_status_words(statuses)}")
        return rows, "STATUS"
    return rows, "ok"


def _landed(said: str) -> dict[str, int]:
    """What `run --json` says at its end of how chunks have landed; nothing of commands that do not say it."""
    found = re.search(r'"landed": (\{[^{}]*\})', said)
    return dict(json.loads(found[1])) if found else {}


def _status_words(statuses: dict[int, int]) -> str:
    return ", ".join(f"{number} of status {status}" for status, number in sorted(statuses.items()))


def one_table(scene: Scene, args: argparse.Namespace) -> tuple[str, dict[str, Any], list[Figure], bool]:
    """All contenders on one table: its part of the text and of the JSON file, what is judged, whether all went well."""
    entries = contenders(args)
    missing = missing_of(entries, scene.programs)
    present = [c for c in entries if c.name not in missing]
    runs: list[Run] = []
    # One that does not count: rows come into the caches, and the target gets its WAL files.
    for number, contender in [*((-1, c) for c in present[:1]), *alternate(present, args.rounds)]:
        done = one_run(scene, contender, number)
        say(f"{scene.name}, {'warm-up' if number < 0 else f'round {number + 1}'}: {done.line()}")
        if number >= 0:
            runs.append(done)
    first = next((c.name for c in entries if c.kind == "compress"), None)
    lines, figures, sizes = [], {}, []
    for c in entries:
        line = summarize(c.name, runs, scene.rows, {"pipeline": first if c.name != first else None})
        found = size_of(scene, c, runs, first)
        lines.append({**line, "kind": c.kind, "jobs": c.jobs, **found})
        judged: list[Figure] = []
        if c.kind == "run":
            key = f"land/{scene.name}/run {c.jobs}"
            figures[c.name] = figure(f"{key}/pipeline", line["ratio"]["pipeline"], scene.rows, line)
            if found["size_ratio"]:
                # What others do meanwhile changes no size.
                judged = [Figure(f"{key}/size", found["size_ratio"]["median"], scene.rows, line["pairs"]["pipeline"])]
        in_mib = {key: value / 2**20 for key, value in (found["size"] or {}).items()}
        ways = ", ".join(f"{number} {way}" for way, number in found["landed"].items() if number)
        cells = [*numbers(in_mib, 1), *numbers(found["size_ratio"], 3), _status_words(found["statuses"]) or "-", ways]
        sizes.append([c.name, *cells, "; ".join(words(f) for f in judged)])
        if judged:
            figures[c.name] = [*figures[c.name], *judged]
    speeds = {name: [f for f in some if not f.name.endswith("/size")] for name, some in figures.items()}
    header = ("", "MiB after", "min", "max", "to pipeline", "min", "max", "chunks", "landed", "")
    text = f"{scene.rows:,} rows, {scene.of.shape.about}; {scene.of.about}; {DAYS} chunks; rounds: {args.rounds}\n"
    if scene.one_server:
        text += "source and target are databases of one server: its CPU is that of the target\n"
    text += "\n" + lines_table(lines, scene.rows, against=("pipeline",), missing=missing, figures=speeds)
    text += f"\n\n{table(header, sizes)}{disturbed(runs)}"
    data: dict[str, Any] = {"rows": scene.rows, "about": [scene.of.shape.about, scene.of.about], "missing": missing}
    data |= {"one_server": scene.one_server, "summary": lines, "runs": []}
    for r in runs:
        ended = scene.ended.get((r.contender, r.round))
        data["runs"].append({**asdict(r), **(asdict(ended) if ended else {})})
    return text, data, [f for some in figures.values() for f in some], all(r.verdict == "ok" for r in runs)


def size_of(scene: Scene, contender: Contender, runs: list[Run], first: str | None) -> dict[str, Any]:
    """Spreads of the size in bytes and of its ratio to the first contender's, over the good runs; all its chunks."""
    good = {(r.contender, r.round) for r in runs if r.verdict == "ok"}
    sizes: dict[str, dict[int, float]] = {}
    for (name, number), ended in scene.ended.items():
        if (name, number) in good:
            sizes.setdefault(name, {})[number] = ended.size
    mine = sizes.get(contender.name, {})
    statuses: Counter[int] = Counter()
    landed: Counter[str] = Counter()
    for (name, number), ended in scene.ended.items():
        if name == contender.name and number >= 0:
            statuses.update(ended.statuses)
            landed.update(ended.landed)
    compared = ratios(mine, sizes.get(first or "", {})) if contender.name != first else []
    found: dict[str, Any] = {"size": spread(list(mine.values())), "size_ratio": spread(compared)}
    return found | {"statuses": dict(statuses), "landed": dict(landed)}


def missing_of(entries: list[Contender], found: Programs) -> dict[str, str]:
    """The contenders that cannot run here, and why."""
    pipeline = {"psql": "psql", "peer": PEER_NAME}
    needs = {
        "run": {"hyperfill": "hyperfill"},
        "plain": {"hyperfill": "hyperfill", "psql": "psql"},
        "compress": pipeline,
        "direct": pipeline,
    }
    lacking = {c.name: [what for key, what in needs[c.kind].items() if found.versions[key] is None] for c in entries}
    return {name: f"missing: no {', '.join(what)}" for name, what in lacking.items() if what}


@contextlib.contextmanager
def community(option: str, conninfo: str, folder: Path, name: str) -> Iterator[str]:
    """A conninfo of a fresh database with the extension on a given server.

    Raises RefusedError where the server has not the community edition.
    """
    with contextlib.ExitStack() as stack:
        why = f"{option} must be a server with the community edition of TimescaleDB"
        try:
            found = stack.enter_context(database(conninfo, folder, name=name))
            with psycopg.connect(found, autocommit=True) as connection:
                edition = one(connection, "SHOW timescaledb.license")
        except psycopg.Error as error:
            raise RefusedError(f"{why}: {str(error).strip().splitlines()[0]}") from error
        if edition != "timescale":
            raise RefusedError(f"{why}; its timescaledb.license is {edition}")
        yield found


def compressed_source(args: argparse.Namespace, folder: Path, stack: contextlib.ExitStack) -> str:
    """A conninfo of a database for a compressed source: on the source's server if that can do it, or the target's."""
    if args.source:
        try:
            return stack.enter_context(community("--source", args.source, folder, "columnstore"))
        except RefusedError as error:
            say(f"{error}: the compressed source goes to the target's server")
    return stack.enter_context(community("--target", args.target, folder, "columnstore"))


def measure(args: argparse.Namespace, folder: Path) -> Section:
    """All tables, one after another."""
    if not args.target:
        raise RefusedError("--target is needed: a server with the community edition; the embedded ones have it not")
    with contextlib.ExitStack() as stack:
        infos = {"target": stack.enter_context(community("--target", args.target, folder / "target", "target"))}
        if any(not TABLES[name].compressed for name in args.shapes):
            infos["plain"] = stack.enter_context(database(args.source, folder / "source", timescaledb=False))
        if any(TABLES[name].compressed for name in args.shapes):
            infos["compressed"] = compressed_source(args, folder / "columnstore", stack)
        ends = {name: stack.enter_context(end(conninfo)) for name, conninfo in infos.items()}
        env = environment(folder, list(infos.values()))
        found = programs(args, folder, env)
        texts = [f"{name}: {described(e.facts)}" for name, e in ends.items()]
        texts.append("; ".join(v for v in found.versions.values() if v))
        texts.append(
            "medians, CPU in seconds per million rows, memory in MiB: all processes, the first, the largest other"
        )
        data: dict[str, Any] = {"at": now(), "machine": machine_facts()}
        data |= {"servers": {name: e.facts for name, e in ends.items()}, "versions": found.versions}
        data |= {"rounds": args.rounds, "shapes": {}}
        figures, good = [], True
        for name in args.shapes:
            of = TABLES[name]
            source = ends["compressed" if of.compressed else "plain"]
            say(f"{name}: filling the source with {args.rows:,} rows")
            relation = make_source(source.connection, of, args.rows)
            scene = Scene(
                of, name, args.rows, source, ends["target"], _server(source) == _server(ends["target"]), env, found,
                args.timeout, digest(source.connection, relation),
            )  # fmt: skip
            text, data["shapes"][name], more, well = one_table(scene, args)
            source.connection.execute(sql.SQL("DROP TABLE {}").format(relation))
            texts.append(f"\n{name}: {text}")
            figures += more
            good = good and well
    return Section("land", "\n".join(texts), data, figures, good)


def _server(of: End) -> Any:
    return one(of.connection, "SELECT system_identifier FROM pg_control_system()")


def parser() -> argparse.ArgumentParser:
    """Its options."""
    made = argparse.ArgumentParser(prog="python -m bench.land", description=(__doc__ or "").split("\n", 1)[0])
    kinds = ["compress", "direct", "run", "plain"]
    add = made.add_argument
    add("--rows", type=positive, default=4_320_000)
    add("--rounds", type=positive, default=5)
    add("--shapes", nargs="+", choices=list(TABLES), default=list(TABLES))
    add("--jobs", type=positive, nargs="+", default=[2], metavar="N")
    add("--only", nargs="+", choices=kinds, default=kinds, help="leave the other contenders out")
    add_options(made)
    return made


if __name__ == "__main__":
    try:
        sys.exit(alone(measure, parser().parse_args()))
    except RefusedError as refused:
        say(str(refused))
        sys.exit(2)
