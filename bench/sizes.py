"""The same backfill at several sizes: what growth and client are made of. Not a section by itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from psycopg import sql

from bench.measure import Ran, alternate
from bench.runs import Run, measured, mebibytes, numbers, summarize
from bench.servers import End, described, one, pair, say
from bench.shapes import SHAPES, START, bound, hypertable, make_source

_STEP = timedelta(milliseconds=100)
_STRAIGHT = 0.10  # of what was measured: the most that a point may be beside its line
_LEAST_CHUNKS = 4  # of the smallest size, so that every worker has something to do


@dataclass(frozen=True)
class Size:
    """So many rows in so many chunks."""

    rows: int
    chunks: int

    @property
    def name(self) -> str:
        return f"{self.rows:,} rows, {self.chunks} chunks"


@dataclass
class Measured:
    """All sizes: a line each, as `summarize` makes it, with rows and chunks."""

    lines: list[dict[str, Any]]
    runs: list[Run]
    servers: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return all(r.verdict == "ok" for r in self.runs)

    def points(self, x: str, y: str) -> list[tuple[float, float]]:
        """Medians: `wall` or `cpu` (both in seconds) over `rows` or `chunks`."""
        found = []
        for line in self.lines:
            if line["wall"]:
                cpu = line["client_cpu_per_million"]["median"] * line["rows"] / 1e6
                found.append((float(line[x]), line["wall"]["median"] if y == "wall" else cpu))
        return found


# Growth and client look at the same runs: within one process they are made once.
_known: dict[tuple[Any, ...], Measured] = {}


def by_rows(args: argparse.Namespace, folder: Path) -> Measured:
    """From `args.rows` (several): chunks of one length, so there are more of them where there are more rows."""
    each = max(1, min(args.rows) // _LEAST_CHUNKS)
    return _all(args, folder, [Size(rows, -(-rows // each)) for rows in sorted(args.rows)])


def by_chunks(args: argparse.Namespace, folder: Path) -> Measured:
    """`args.chunk_rows` rows in `args.chunks` (several) chunks."""
    return _all(args, folder, [Size(args.chunk_rows, chunks) for chunks in sorted(args.chunks)])


def _all(args: argparse.Namespace, folder: Path, sizes: Sequence[Size]) -> Measured:
    key = (*sizes, args.rounds, args.jobs, args.source, args.target)
    if key not in _known:
        _known[key] = _measure(args, folder, sizes)
    return _known[key]


def _measure(args: argparse.Namespace, folder: Path, sizes: Sequence[Size]) -> Measured:
    runs: list[Run] = []
    largest = max(size.rows for size in sizes)
    with pair(args, folder) as (source, target, environment):
        say(f"sizes: filling the source with {largest:,} rows")
        make_source(source.connection, SHAPES["floats"], _STEP, largest)
        for made, (number, size) in enumerate([(-1, sizes[0]), *alternate(sizes, args.rounds)]):
            done = _one_run(args, size, number, f"t{made}", (source, target), environment)
            say(f"sizes, {'warm-up' if number < 0 else f'round {number + 1}'}: {done.line()}")
            if number >= 0:
                runs.append(done)
        servers = {"source": source.facts, "target": target.facts}
    lines = [{**summarize(s.name, runs, s.rows, {}), "rows": s.rows, "chunks": s.chunks} for s in sizes]
    return Measured(lines, runs, servers)


def _one_run(
    args: argparse.Namespace, size: Size, number: int, name: str, ends: tuple[End, End], environment: dict[str, str]
) -> Run:
    source, target = ends
    # The rows up to the completion point are the size; the source has those of the largest.
    length = size.rows * _STEP
    relation = hypertable(target.connection, name, SHAPES["floats"], -(-length // size.chunks))
    target.connection.execute("CHECKPOINT")
    command = [sys.executable, "-m", "hyperfill", "run", "--source", source.conninfo, "--target", target.conninfo]
    command += ["--table", "public.m", "--hypertable", f"public.{name}", "--end", bound(START + length)]
    command += ["--jobs", str(args.jobs), "--verify", "none", "--json"]
    try:
        return measured(
            size.name, number, command, environment, args.timeout,
            source=source, target=target, check=partial(_check, target, relation, size.rows),
        )  # fmt: skip
    finally:
        target.connection.execute(sql.SQL("DROP TABLE {}").format(relation))


def _check(target: End, relation: sql.Identifier, expected: int, ran: Ran) -> tuple[int, str]:
    rows = int(one(target.connection, sql.SQL("SELECT count(*) FROM {}").format(relation)))
    return rows, "FAILED" if ran.exit_code else "ok" if rows == expected else "WRONG"


@dataclass(frozen=True)
class Line:
    """A straight line through points, so that none is far from it in proportion to itself."""

    fixed: float
    slope: float
    largest: float  # distance of a point from the line, as a share of the point

    def text(self, what: str, per: float, each: str) -> str:
        """In words; `per` of x is what `each` calls them."""
        if self.slope <= 0:
            return f"{what}: no line: the larger sizes took no longer, the machine had other things to do"
        straight = "a straight line" if self.largest <= _STRAIGHT else "NOT a straight line"
        numbers = f"{self.fixed:.2f} s + {self.slope * per:.4g} s for each {each}"
        return f"{what}: {straight}: {numbers}, no point further from it than {self.largest:.0%}"


def line_through(points: Sequence[tuple[float, float]]) -> Line | None:
    """Least squares of the relative distances: otherwise only the largest size would count. None below three points."""
    if len(points) < 3:
        return None
    weights = [1 / (y * y) for _, y in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    if not spread:
        return None
    slope = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True)) / spread
    fixed = mean_y - slope * mean_x
    return Line(fixed, slope, max(abs(fixed + slope * x - y) / y for x, y in points))


def cells(line: dict[str, Any]) -> list[str]:
    """What tables of either section begin with."""
    wall = line["wall"]
    rate = f"{line['rows'] / wall['median']:,.0f}".replace(",", " ") if wall else "-"
    cpu = [numbers(line[f"{side}_cpu_per_million"])[0] for side in ("source", "target", "client")]
    peaks = [mebibytes(line[f"{whose}_peak"]) for whose in ("parent", "worker")]
    return [line["contender"], *numbers(wall), rate, *cpu, *peaks]


HEADER = ("", "wall s", "min", "max", "rows/s", "source CPU", "target CPU", "client CPU", "parent", "worker")


def facts(found: Measured) -> str:
    """The servers of these runs, in a line."""
    return f"Target: {described(found.servers['target'])}"


def as_json(found: Measured) -> dict[str, Any]:
    """For the JSON file."""
    return {"servers": found.servers, "summary": found.lines, "runs": [asdict(r) for r in found.runs]}
