"""`hyperfill verify` by hash and by count, against what comparing the rows' texts costs: alternating, one table.

    python -m bench.verify                            about ten minutes, on two embedded servers
    python -m bench.verify --rows 500000 --rounds 1   a smoke run

What each run does and how it is measured: README.md in this folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bench.measure import ServerCpu, Spread, alternate, run, table
from bench.servers import SETTINGS, Connection, positive, say, server_facts
from hyperfill.sandbox import create_server

# Both tables in the servers' own cache: what is measured is comparing, and not the kernel's copying of pages.
_SETTINGS = {**SETTINGS, "shared_buffers": "2GB"}
GOAL = 2_000_000  # rows per second of one core of each server, by hash
END = "2024-02-01T00:00:00Z"
_FLOATS = [f"f{i}" for i in range(10)]
_COLUMNS = "time timestamptz NOT NULL, device int NOT NULL, " + ", ".join(f"{name} float8" for name in _FLOATS)
# The same on both sides, and no digit to spare: a hash of the row's number for each value.
_ROWS = """
    INSERT INTO m
    SELECT '2024-01-01Z'::timestamptz + i * (interval '14 days' / {rows}), i % 1000, {floats}
    FROM generate_series({first}::bigint, {last}) AS i
"""
_BLOCK = 1_000_000


@dataclass(frozen=True)
class Contender:
    """A way to compare."""

    name: str
    options: tuple[str, ...]  # of hyperfill verify; none: the rows' texts, by SQL


@dataclass(frozen=True)
class Run:
    """One measured run. Seconds and bytes."""

    round: int
    contender: str
    wall: float
    source_cpu: float
    target_cpu: float
    client_cpu: float
    client_peak: int | None
    ok: bool
    said: str


def contenders(jobs: list[int]) -> list[Contender]:
    """What is compared with what."""
    found = [Contender(f"hash --jobs {n}", ("--mode", "hash", "--jobs", str(n))) for n in jobs]
    found.append(Contender(f"count --jobs {jobs[-1]}", ("--mode", "count", "--jobs", str(jobs[-1]))))
    return [*found, Contender("row::text, one connection", ())]


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[tuple[str, str]]:
    """Conninfos of a source and a target."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in ("source", "target"):
            server = create_server(folder / name, settings=_SETTINGS)
            stack.callback(server.remove)
            server.start()
            found.append(server.conninfo())
        yield found[0], found[1]


def fill(source: Connection, target: Connection, rows: int) -> None:
    """The same rows on both sides: a plain table with an index, a hypertable with a chunk for each day."""
    floats = sql.SQL(", ").join(sql.SQL("hashint8extended(i, {}) / 1e12").format(n) for n in range(1, 11))
    target.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    for connection in (source, target):
        connection.execute(f"CREATE TABLE m ({_COLUMNS})")
    target.execute("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")
    for connection in (source, target):
        for first in range(0, rows, _BLOCK):
            last = min(rows, first + _BLOCK) - 1
            places = {"rows": sql.Literal(rows), "first": sql.Literal(first), "last": sql.Literal(last)}
            connection.execute(sql.SQL(_ROWS).format(floats=floats, **places))
        if connection is source:
            connection.execute("CREATE INDEX ON m (time)")
        connection.execute("VACUUM ANALYZE m")
        connection.execute("CHECKPOINT")


def one_run(
    contender: Contender, number: int, ends: tuple[str, str], cpus: tuple[ServerCpu, ServerCpu], timeout: float
) -> Run:
    """Compare once."""
    # In the environment: a command line, with the servers' passwords in it, is for everybody to read.
    environment = {**os.environ, "NO_COLOR": "1", "HYPERFILL_SOURCE": ends[0], "HYPERFILL_TARGET": ends[1]}
    if contender.options:
        command = [sys.executable, "-m", "hyperfill", "verify", "--table", "m", "--end", END, "--json"]
        command += contender.options
    else:
        command = [sys.executable, "-m", "bench.verify", "--texts"]
    before = [cpu.seconds() for cpu in cpus]
    done = run(command, environment, timeout)
    used = [cpu.seconds() - was for cpu, was in zip(cpus, before, strict=True)]
    return Run(number, contender.name, done.wall, used[0], used[1], done.cpu, done.peak, done.exit_code == 0, done.said)


def compare_texts() -> int:
    """What others do: a sum over hashes of the rows' texts, on one connection for each side, both at once."""
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(_texts, (os.environ["HYPERFILL_SOURCE"], os.environ["HYPERFILL_TARGET"])))
    return 0 if found[0] == found[1] and found[0][1] is not None else 1


def _texts(conninfo: str) -> tuple[Any, ...]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SET max_parallel_workers_per_gather = 0")
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute("SELECT count(*), sum(hashtextextended(m::text, 0)) FROM m").fetchall()[0]


HEADER = ("", "wall s", "min", "max", "rows/s", "source CPU", "target CPU", "rows/s/core", "client CPU", "MiB", "")


def as_table(runs: list[Run], measured: list[Contender], rows: int) -> str:
    """A line for each contender; CPU in seconds per million rows."""
    million = rows / 1_000_000
    lines = []
    for contender in measured:
        mine = [r for r in runs if r.contender == contender.name and r.ok]
        if not mine:
            lines.append([contender.name, *["-"] * 9, "FAILED"])
            continue
        wall = Spread.of([r.wall for r in mine])
        source = Spread.of([r.source_cpu / million for r in mine]).median
        target = Spread.of([r.target_cpu / million for r in mine]).median
        client = Spread.of([r.client_cpu / million for r in mine]).median
        core = 1_000_000 / max(source, target)
        remark = ""
        if contender.options[:2] == ("--mode", "hash") and rows >= 1_000_000:
            remark = f"{'met' if core >= GOAL else 'MISSED'}: {GOAL:,} a core"
        peak = max((r.client_peak or 0 for r in mine), default=0) / 2**20
        lines.append(
            [contender.name, *wall.text(), f"{rows / wall.median:,.0f}", f"{source:.2f}", f"{target:.2f}",
             f"{core:,.0f}", f"{client:.3f}", f"{peak:.0f}", remark]
        )  # fmt: skip
    return table(HEADER, lines)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=positive, default=10_000_000)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--jobs", type=positive, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="write everything that was measured")
    parser.add_argument("--dir", type=Path, help="where the servers lie; default: a temporary folder")
    parser.add_argument("--timeout", type=float, default=600.0)
    parser.add_argument("--texts", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.texts:
        return compare_texts()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=args.dir, prefix="verify-")))
        ends = stack.enter_context(servers(folder))
        source, target = (stack.enter_context(psycopg.connect(end, autocommit=True)) for end in ends)
        say(f"filling both sides with {args.rows:,} rows")
        fill(source, target, args.rows)
        here, there = ServerCpu.of(source), ServerCpu.of(target)
        if here is None or there is None:
            say("the CPU of the servers cannot be measured here")
            return 1
        facts = server_facts(target)
        measured = contenders(args.jobs)
        runs: list[Run] = []
        one_run(measured[0], -1, ends, (here, there), args.timeout)  # warms both caches, not counted
        for number, contender in alternate(measured, args.rounds):
            done = one_run(contender, number, ends, (here, there), args.timeout)
            runs.append(done)
            say(
                f"round {number + 1}: {contender.name}: {done.wall:.2f} s, CPU source {done.source_cpu:.2f} "
                f"target {done.target_cpu:.2f} client {done.client_cpu:.2f}"
            )
            if not done.ok:
                say(f"  FAILED: {done.said}")
    print(f"\n{args.rows:,} rows x 12 columns, PostgreSQL {facts['postgresql']}, TimescaleDB {facts['timescaledb']}, "
          "CPU in seconds per million rows\n")  # fmt: skip
    print(as_table(runs, measured, args.rows))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"rows": args.rows, "server": facts, "runs": [asdict(r) for r in runs]}
        args.json.write_text(json.dumps(content, indent=2))
    return 0 if all(r.ok for r in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
