"""What a window costs: the same rows in few windows and in very many, also while an old transaction stays open.

    python -m bench.windows                                about two minutes
    python -m bench.windows --windows 100000 --rounds 1    what the goals are stated for: about half an hour
    python -m bench.windows --windows 500 --rounds 1       a smoke run

What each run does and how it is measured: README.md in this folder.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bench.expected import Figure, words
from bench.measure import Ran, Spread, alternate, run, table
from bench.runs import Run, Section, alone, disturbed, measured, spread
from bench.servers import End, add_options, described, machine_facts, now, one, pair, positive, say
from bench.shapes import SHAPES, START, bound, hypertable, make_source

ROWS_EACH = 2  # of a tiny window
CHUNKS = 10
_STEP = timedelta(seconds=1)
PHASES = ("planned", "stored", "workers", "moved", "finished")


@dataclass(frozen=True)
class Contender:
    """`many` windows or a few, with or without an old transaction on the target."""

    name: str
    many: bool
    old: bool = False


CONTENDERS = (
    Contender("few windows", False),
    Contender("many windows", True),
    Contender("many, old transaction", True, old=True),
)


@dataclass(frozen=True)
class Phases:
    """Where the time of one run went: seconds. Windows as the ledger has them, its size in bytes."""

    round: int
    contender: str
    planned: float  # from the start of the command to a plan
    stored: float  # the plan into the ledger
    workers: float  # from there to the first window's begin: policies held, processes started
    moved: float  # from the first window's begin to the last one's end
    finished: float  # from there to the end of the command
    windows: int
    ledger_bytes: int


@dataclass
class Scene:
    """What all runs share."""

    source: End
    target: End
    environment: dict[str, str]
    rows: int
    jobs: int
    timeout: float
    made: int = 0


@contextlib.contextmanager
def old_transaction(scene: Scene, wanted: bool) -> Iterator[list[int]]:
    """A session whose transaction has an id and a snapshot and stays open: no dead row of the ledger goes away."""
    if not wanted:
        yield []
        return
    with psycopg.connect(scene.target.conninfo, passfile=scene.environment.get("PGPASSFILE")) as session:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.execute("SELECT pg_current_xact_id(), count(*) FROM pg_class")
        yield [session.info.backend_pid]
        session.rollback()


def one_run(scene: Scene, contender: Contender, number: int, probes: list[float] | None = None) -> tuple[Run, Phases]:
    """A fresh hypertable and a fresh ledger, then the command; `probes` takes how long `status` takes meanwhile."""
    scene.made += 1
    name = f"t{scene.made}"
    there = scene.target.connection
    there.execute("DROP SCHEMA IF EXISTS hyperfill CASCADE")
    relation = hypertable(there, name, SHAPES["narrow"], _STEP * (-(-scene.rows // CHUNKS)))
    there.execute("CHECKPOINT")
    until = bound(START + scene.rows * _STEP)
    command = [sys.executable, "-m", "hyperfill", "run", "--source", scene.source.conninfo]
    command += ["--target", scene.target.conninfo, "--table", "public.m", "--hypertable", f"public.{name}"]
    command += ["--end", until, "--jobs", str(scene.jobs), "--verify", "none", "--json"]
    if contender.many:
        command += ["--window", f"{ROWS_EACH} seconds"]

    def check(ran: Ran) -> tuple[int, str]:
        rows = int(one(there, sql.SQL("SELECT count(*) FROM {}").format(relation)))
        return rows, "FAILED" if ran.exit_code else "ok" if rows == scene.rows else "WRONG"

    try:
        with old_transaction(scene, contender.old) as others, asking(scene, probes):
            began = time.time()
            done = measured(
                contender.name,
                number,
                command,
                scene.environment,
                scene.timeout,
                source=scene.source,
                target=scene.target,
                check=check,
                but=others,
            )
        return done, phases(scene, done, began)
    finally:
        there.execute(sql.SQL("DROP TABLE {}").format(relation))


@contextlib.contextmanager
def asking(scene: Scene, probes: list[float] | None) -> Iterator[None]:
    """Ask for the status again and again, a pause after each answer: seconds from the command to its end."""
    if probes is None:
        yield
        return
    over = threading.Event()
    command = [sys.executable, "-m", "hyperfill", "status", "--target", scene.target.conninfo, "--json"]

    def ask() -> None:
        while not over.wait(0.5):
            ran = run(command, scene.environment, 60)
            if ran.exit_code == 0:
                probes.append(ran.wall)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def phases(scene: Scene, done: Run, began: float) -> Phases:
    """From the ledger's own times: the servers have the clock of this machine."""
    there = scene.target.connection
    if done.verdict == "FAILED":
        return Phases(done.round, done.contender, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)
    planned, stored, first, last, windows = there.execute(
        """SELECT extract(epoch FROM b.planned_at)::float8, extract(epoch FROM b.started_at)::float8,
                  extract(epoch FROM min(w.started_at))::float8,
                  extract(epoch FROM max(w.finished_at))::float8, count(*)
           FROM hyperfill.backfills b JOIN hyperfill.windows w ON w.backfill_id = b.id GROUP BY b.id"""
    ).fetchall()[0]
    size = int(one(there, "SELECT pg_total_relation_size('hyperfill.windows')"))
    times = (planned - began, stored - planned, first - stored, last - first, began + done.wall - last)
    return Phases(done.round, done.contender, *times, windows, size)


def measure(args: argparse.Namespace, folder: Path) -> Section:
    """Few and many windows in turn, then what `status` takes."""
    rows = args.windows * ROWS_EACH
    runs: list[Run] = []
    found: list[Phases] = []
    asked: dict[str, list[float]] = {}
    good = True
    with pair(args, folder) as (source, target, environment):
        say(f"windows: filling the source with {rows:,} rows")
        make_source(source.connection, SHAPES["narrow"], _STEP, rows)
        scene = Scene(source, target, environment, rows, args.jobs, args.timeout)
        one_run(scene, CONTENDERS[0], -1)  # not counted
        for number, contender in alternate(CONTENDERS, args.rounds):
            done, times = one_run(scene, contender, number)
            runs.append(done)
            found.append(times)
            say(f"windows, round {number + 1}: {done.line()}")
        for contender in CONTENDERS[1:]:
            probes = asked[contender.name] = []
            done, _ = one_run(scene, contender, args.rounds, probes)
            good = good and done.verdict == "ok" and bool(probes)
            say(f"windows, status asked {len(probes)} times: {done.line()}")
    lines = [summarized(c, runs, found, args.jobs, asked.get(c.name, [])) for c in CONTENDERS]
    figures: list[Figure] = []
    if many := next((line for line in lines if line["contender"] == "many windows" and line["overhead_ms"]), None):
        pairs, calm = many["good"], 2 * many["calm"] > many["good"]
        figures.append(Figure("windows/overhead", many["overhead_ms"]["median"], args.windows, pairs, calm))
        ready = many["planned"]["median"] + many["stored"]["median"]
        figures.append(Figure("windows/planned", ready, args.windows, pairs, calm))
    text = "\n".join(
        [
            f"{args.windows:,} windows of {ROWS_EACH} rows, {CHUNKS} chunks, {args.jobs} jobs; rounds: {args.rounds}",
            f"Target: {described(target.facts)}",
            "medians in seconds: making the plan, the plan into the ledger, starting workers, the windows, the rest\n",
            as_table(lines),
            *(words(f, full=True) for f in figures),
        ]
    )
    data: dict[str, Any] = {
        "at": now(),
        "machine": machine_facts(),
        "servers": {"source": source.facts, "target": target.facts},
        "windows": args.windows,
        "rows": rows,
        "jobs": args.jobs,
        "rounds": args.rounds,
        "summary": lines,
        "status_seconds": asked,
        "phases": [asdict(p) for p in found],
        "runs": [asdict(r) for r in runs],
    }
    return Section("windows", text + disturbed(runs), data, figures, good and all(r.verdict == "ok" for r in runs))


def summarized(
    contender: Contender, runs: list[Run], found: list[Phases], jobs: int, asked: list[float]
) -> dict[str, Any]:
    """A line: spreads of the phases, and what each window cost a worker beyond the same rows in few windows."""
    mine = [r for r in runs if r.contender == contender.name]
    good = {r.round for r in mine if r.verdict == "ok"}
    times = [p for p in found if p.contender == contender.name and p.round in good]
    line: dict[str, Any] = {"contender": contender.name, "runs": len(mine), "good": len(good)}
    line["calm"] = sum(not r.disturbed for r in mine if r.round in good)
    line["wall"] = spread([r.wall for r in mine if r.round in good])
    for phase in PHASES:
        line[phase] = spread([getattr(p, phase) for p in times])
    line["windows"] = times[0].windows if times else 0
    line["ledger_bytes"] = int(statistics.median([p.ledger_bytes for p in times])) if times else None
    few = {p.round: p for p in found if p.contender == CONTENDERS[0].name}
    # Of each worker: so many windows did it move one after another while the others did the same.
    costs = [
        (p.moved - few[p.round].moved) * jobs / p.windows * 1000
        for p in times
        if contender.many and p.windows and few.get(p.round) and few[p.round].windows
    ]
    line["overhead_ms"] = spread(costs)
    line["status"] = spread(asked)
    return line


HEADER = ("", "windows", "wall", "planned", "stored", "workers", "moved", "finished", "ms/window", "min", "max",
          "ledger", "B/window", "status", "max", "")  # fmt: skip


def as_table(lines: list[dict[str, Any]]) -> str:
    """A line for each contender."""
    rows = []
    for line in lines:
        cells = [line["contender"], str(line["windows"])]
        cells += [f"{line[key]['median']:.2f}" if line[key] else "-" for key in ("wall", *PHASES)]
        cells += Spread(**line["overhead_ms"]).text() if line["overhead_ms"] else ["-"] * 3
        size = line["ledger_bytes"]
        cells += [f"{size / 1e6:.2f} MB", f"{size / line['windows']:.0f}"] if size and line["windows"] else ["-", "-"]
        cells += Spread(**line["status"]).text()[::2] if line["status"] else ["-", "-"]
        rows.append([*cells, "" if line["good"] == line["runs"] else f"{line['runs'] - line['good']} FAILED"])
    return table(HEADER, rows)


def parser() -> argparse.ArgumentParser:
    """Its options."""
    made = argparse.ArgumentParser(prog="python -m bench.windows", description=(__doc__ or "").split("\n", 1)[0])
    add = made.add_argument
    add("--windows", type=positive, default=5_000)
    add("--rounds", type=positive, default=5)
    add("--jobs", type=positive, default=2)
    add_options(made, peer=False)
    made.set_defaults(timeout=3600)
    return made


if __name__ == "__main__":
    sys.exit(alone(measure, parser().parse_args()))
