"""`hyperfill run` against the published pipeline and the raw limit: the same rows from server to server, in turn.

    python -m bench.move                            ten minutes and more, on two embedded servers
    python -m bench.move --rows 100000 --rounds 1   a smoke run

What each run does and how it is measured: README.md in this folder.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, LiteralString

from psycopg import sql

from bench.expected import Figure
from bench.measure import Ran, alternate
from bench.runs import Run, Section, alone, disturbed, figure, lines_table, measured, summarize
from bench.servers import (
    PEER_NAME,
    End,
    Programs,
    add_options,
    described,
    digest,
    machine_facts,
    now,
    one,
    pair,
    positive,
    programs,
    say,
)
from bench.shapes import SHAPES, START, Shape, bound, fill, hypertable, make_chunks, make_source

DAYS = 14
UNTIL = START + timedelta(days=DAYS)  # the completion point
_DUAL = 0.01  # of the rows: what the application wrote to both sides, before the completion point and again after it


@dataclass(frozen=True)
class Contender:
    """A way to move the rows. `kind`: run, pipeline, raw."""

    name: str
    kind: str
    jobs: int
    verify: str = "none"


@dataclass
class Scene:
    """A source table and all that runs on it share."""

    shape: Shape
    name: str
    rows: int  # before the completion point
    dual: int
    step: timedelta
    source: End
    target: End
    environment: dict[str, str]
    programs: Programs
    timeout: float
    digest: str
    made: int = 0


def contenders(args: argparse.Namespace) -> list[Contender]:
    """What is compared, those first that others are compared with."""
    found = [Contender("pipeline", "pipeline", 4)]
    found += [Contender(f"raw limit x {jobs}", "raw", jobs) for jobs in args.jobs]
    for verify in args.verify:
        found += [Contender(f"run --jobs {jobs} --verify {verify}", "run", jobs, verify) for jobs in args.jobs]
    return [contender for contender in found if not args.only or contender.kind in args.only]


def command(scene: Scene, contender: Contender, table: str) -> list[str]:
    """Its command line. It holds no password; they are where PGPASSFILE says."""
    source, target = scene.source.conninfo, scene.target.conninfo
    if contender.kind == "run":
        moved = ["--table", "public.m", "--hypertable", f"public.{table}", "--end", bound(UNTIL)]
        options = ["--jobs", str(contender.jobs), "--verify", contender.verify, "--json"]
        start = [scene.programs.commands["python"], "-m", "hyperfill", "run"]
        return [*start, "--source", source, "--target", target, *moved, *options]
    names = scene.shape.names
    places = {
        "table": sql.Identifier("public", table),
        "columns": sql.SQL(", ").join(map(sql.Identifier, names)),
        "until": sql.Literal(bound(UNTIL)),
    }

    def psql(conninfo: str, statement: LiteralString, **more: sql.Composable) -> str:
        text = sql.SQL(statement).format(**places, **more).as_string(scene.source.connection)
        options = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", conninfo, "-c", text]
        return shlex.join([scene.programs.commands["psql"], *options])

    if contender.kind == "pipeline":
        away = psql(target, "DELETE FROM {table} WHERE time < {until}")
        out = psql(source, "\\copy (SELECT {columns} FROM public.m WHERE time < {until}) TO STDOUT (FORMAT csv)")
        peer = [scene.programs.commands["peer"], "--connection", target, "--schema", "public", "--table", table]
        into = shlex.join([*peer, "--columns", ",".join(names), "--workers", "4", "--batch-size", "1000"])
        return ["sh", "-c", f"{away} && {out} | {into}"]
    # Slices along chunks, as many as jobs, all at once; the shell ends with 1 if one of them failed.
    lines = ["all=0; pids="]
    part: LiteralString = "SELECT {columns} FROM public.m WHERE time >= {lower} AND time < {upper}"
    edges = [START + timedelta(days=DAYS * job // contender.jobs) for job in range(contender.jobs + 1)]
    for lower, upper in pairwise(edges):
        ends = {"lower": sql.Literal(bound(lower)), "upper": sql.Literal(bound(upper))}
        out = psql(source, f"COPY ({part}) TO STDOUT (FORMAT binary)", **ends)
        lines.append(f"{out} | {psql(target, 'COPY {table} ({columns}) FROM STDIN (FORMAT binary)')} &")
        lines.append('pids="$pids $!"')
    lines.append("for pid in $pids; do wait $pid || all=1; done; exit $all")
    return ["sh", "-c", "\n".join(lines)]


def one_run(scene: Scene, contender: Contender, number: int) -> Run:
    """A fresh hypertable with what the application wrote, a checkpoint, the command, and a look at what has arrived."""
    # A name of its own each time: the ledger keeps which range of which hypertable was filled.
    scene.made += 1
    table = f"{scene.name}_{scene.made}"
    there = scene.target.connection
    relation = hypertable(there, table, scene.shape, timedelta(days=1))
    # The raw limit deletes nothing, so it finds nothing before the completion point.
    first = scene.rows if contender.kind == "raw" else scene.rows - scene.dual
    fill(there, relation, scene.shape, scene.step, first, scene.rows + scene.dual)
    if contender.kind == "raw":
        make_chunks(there, relation, scene.shape, [START + timedelta(days=day) for day in range(DAYS)])
    there.execute("CHECKPOINT")
    try:
        return measured(
            contender.name,
            number,
            command(scene, contender, table),
            scene.environment,
            scene.timeout,
            source=scene.source,
            target=scene.target,
            check=partial(check, scene, relation, number),
        )
    finally:
        there.execute(sql.SQL("DROP TABLE {}").format(relation))


def check(scene: Scene, relation: sql.Identifier, number: int, ran: Ran) -> tuple[int, str]:
    """Every row there, once. Their content is compared once for each contender: that takes as long as moving them."""
    there = scene.target.connection
    rows = int(one(there, sql.SQL("SELECT count(*) FROM {}").format(relation)))
    if ran.exit_code != 0:
        return rows, "FAILED"
    if rows != scene.rows + scene.dual:
        return rows, "WRONG"
    if number <= 0 and digest(there, relation) != scene.digest:
        return rows, "WRONG"
    return rows, "ok"


def one_shape(
    args: argparse.Namespace, name: str, ends: tuple[End, End], environment: dict[str, str], found: Programs
) -> tuple[str, dict[str, Any], list[Figure], bool]:
    """All contenders on one table: its part of the text and of the JSON file, what is judged, whether all went well."""
    source, target = ends
    shape = SHAPES[name]
    rows = max(1, round(args.rows * shape.share))
    step = timedelta(microseconds=DAYS * 86_400_000_000 // rows)
    dual = max(1, round(rows * _DUAL))
    say(f"{name}: filling the source with {rows:,} rows")
    here = source.connection
    relation = make_source(here, shape, step, rows + dual)
    # The step is rounded down, so some rows after the last one of the range lie before its end, too.
    condition = sql.SQL("SELECT count(*) FROM {} WHERE time < {}").format(relation, UNTIL)
    before = int(one(here, condition))
    scene = Scene(
        shape, name, before, rows + dual - before, step, source, target, environment, found, args.timeout,
        digest(here, relation),
    )  # fmt: skip
    size = int(one(here, "SELECT pg_table_size('public.m')"))
    entries = contenders(args)
    missing = missing_of(entries, found)
    present = [c for c in entries if c.name not in missing]
    runs: list[Run] = []
    # One that does not count: rows come into the caches, and the target gets its WAL files.
    for number, contender in [*((-1, c) for c in present[:1]), *alternate(present, args.rounds)]:
        done = one_run(scene, contender, number)
        say(f"{name}, {'warm-up' if number < 0 else f'round {number + 1}'}: {done.line()}")
        if number >= 0:
            runs.append(done)
    here.execute(sql.SQL("DROP TABLE {}").format(relation))
    raw = {c.jobs: c.name for c in entries if c.kind == "raw"}
    lines, figures = [], {}
    for c in entries:
        against = {"pipeline": "pipeline" if c.kind != "pipeline" else None}
        against["raw"] = raw.get(c.jobs) if c.kind == "run" else None
        line = {**summarize(c.name, runs, rows, against), "kind": c.kind, "jobs": c.jobs, "verify": c.verify}
        lines.append(line)
        if c.kind == "run":
            key = f"move/{name}/run {c.jobs}" + ("" if c.verify == "none" else f" {c.verify}")
            figures[c.name] = [
                f for label in against for f in figure(f"{key}/{label}", line["ratio"][label], rows, line)
            ]
    text = f"{rows:,} rows, {shape.about}; {size / 1e6:.0f} MB, {DAYS} chunks; rounds: {args.rounds}\n\n"
    text += lines_table(lines, rows, against=("pipeline", "raw"), missing=missing, figures=figures) + disturbed(runs)
    data = {"rows": rows, "bytes": size, "about": shape.about, "missing": missing, "summary": lines}
    data["runs"] = [asdict(r) for r in runs]
    good = all(r.verdict == "ok" for r in runs)
    return text, data, [f for found in figures.values() for f in found], good


def missing_of(entries: list[Contender], found: Programs) -> dict[str, str]:
    """The contenders that cannot run here, and why."""
    needs = {
        "run": {"hyperfill": "hyperfill"},
        "raw": {"psql": "psql"},
        "pipeline": {"psql": "psql", "peer": PEER_NAME},
    }
    lacking = {c.name: [what for key, what in needs[c.kind].items() if found.versions[key] is None] for c in entries}
    return {name: f"missing: no {', '.join(what)}" for name, what in lacking.items() if what}


def measure(args: argparse.Namespace, folder: Path) -> Section:
    """All shapes, one after another."""
    with pair(args, folder) as (source, target, environment):
        found = programs(args, folder, environment)
        texts = [
            f"PostgreSQL to hypertable. Source: {described(source.facts)}",
            f"Target: {described(target.facts)}; {'; '.join(v for v in found.versions.values() if v)}",
            "medians, CPU in seconds per million rows, memory in MiB: all processes, the first, the largest other",
        ]
        data: dict[str, Any] = {
            "at": now(),
            "machine": machine_facts(),
            "servers": {"source": source.facts, "target": target.facts},
            "versions": found.versions,
            "rounds": args.rounds,
            "shapes": {},
        }
        figures, good = [], True
        for name in args.shapes:
            text, data["shapes"][name], more, well = one_shape(args, name, (source, target), environment, found)
            texts.append(f"\n{name}: {text}")
            figures += more
            good = good and well
    return Section("move", "\n".join(texts), data, figures, good)


def parser() -> argparse.ArgumentParser:
    """Its options."""
    made = argparse.ArgumentParser(prog="python -m bench.move", description=(__doc__ or "").split("\n", 1)[0])
    add = made.add_argument
    add("--rows", type=positive, default=3_000_000, help="of the shape of floats; the others have fewer")
    add("--rounds", type=positive, default=5)
    add("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    add("--jobs", type=positive, nargs="+", default=[1, 2, 4], metavar="N")
    add("--verify", nargs="+", choices=["none", "count", "hash"], default=["none", "hash"])
    add("--only", nargs="+", choices=["pipeline", "raw", "run"], help="leave the other contenders out")
    add_options(made)
    return made


if __name__ == "__main__":
    sys.exit(alone(measure, parser().parse_args()))
