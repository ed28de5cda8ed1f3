"""What the source holds, found out cheaply: where rows are, how many, whether an index leads to them.

Never a blind full scan: planner statistics, a sample of pages, or one probe of the index for each cell.
The answers decide only how the range is cut (see plan.py), so being wrong costs time and never a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

from psycopg import sql

from hyperfill.catalog import Chunk, Relation, Server, is_hypertable, read_chunks
from hyperfill.plan import Density, Grid, cells_between, histogram_bins
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query
from hyperfill.timeline import Kind, Span, TimeType, milliseconds_of_uuid

_SAMPLE_PAGES = 500
_BATCH_MAX = 4096  # cells probed in one statement
_EXPLAIN_MAX = 500  # cells asked of the planner, where only it knows (views, foreign tables)
_SCANS = frozenset({"Seq Scan", "Sample Scan"})


@dataclass(frozen=True)
class Axis:
    """A relation, seen along its time column."""

    relation: Relation
    column: str
    time_type: TimeType  # of the target's dimension: literals are written in it on both sides
    where: str | None = None

    def literal(self, ordinal: int) -> sql.Composed:
        """A typed literal: chunk and partition exclusion at plan time need one."""
        return sql.SQL("{}::{}").format(sql.Literal(self.time_type.text(ordinal)), sql.SQL(self._type))

    @property
    def bare(self) -> Axis:
        """Without the user's condition, which only makes probes slower."""
        return Axis(self.relation, self.column, self.time_type)

    @property
    def _type(self) -> Any:
        return self.time_type.sql_name

    def condition(self, span: Span, *, finite: bool = False) -> sql.Composed:
        """`span` of the relation, which every statement calls r, half-open as SQL.

        `finite` leaves -infinity out where the span is open below.
        """
        column = sql.Identifier("r", self.column)
        terms = [sql.SQL("{} < {}").format(column, self.literal(span.upper))]
        if span.lower is not None:
            terms.insert(0, sql.SQL("{} >= {}").format(column, self.literal(span.lower)))
        elif finite and self.time_type.has_infinity:
            terms.insert(0, sql.SQL("{} > '-infinity'::{}").format(column, sql.SQL(self._type)))
        if self.where:
            # A newline before the bracket: the condition may end in a comment. That it is one whole
            # expression, and cannot close the bracket itself, was checked in preflight.
            terms.append(sql.SQL("({}\n)").format(sql.SQL(cast(Any, self.where))))
        return sql.SQL(" AND ").join(terms)

    def compose(self, name: Any, **parts: sql.Composable) -> sql.Composed:
        return sql.SQL(query(name)).format(
            column=sql.Identifier(self.column), relation=self.relation.identifier, **parts
        )


@dataclass(frozen=True)
class Survey:
    """What is known of the source before the plan is made."""

    axis: Axis
    span: Span
    first: int | None  # ordinals of the first and last row in the range; None: it is empty
    last: int | None
    indexed: bool
    scan_bytes: int  # what one window reads without an index
    table_bytes: int
    density: Density
    chunks: tuple[Chunk, ...] | None  # where the source is a hypertable itself
    numbers: list[int]  # without an index: which multiples of `interval` begin a stretch with rows
    interval: int


def survey(connection: Connection, server: Server, axis: Axis, span: Span, interval: int) -> Survey:
    """Look at the source in `span`. Costs a few index probes, or one scan where there is no index.

    `interval`: the length of the target's chunks, in ordinals.
    """
    numbers: list[int] = []
    bare = axis.bare
    heap, everything = cast(tuple[int, int], fetch_one(connection, query("survey/size"), {"oid": axis.relation.oid}))
    chunks = (
        read_chunks(connection, axis.relation, axis.time_type)
        if is_hypertable(connection, server, axis.relation)
        else None
    )
    scan_bytes = 0 if chunks is not None else scanned(connection, bare, span)
    indexed = scan_bytes == 0
    if indexed:
        first, last = first_row(connection, bare, span), last_row(connection, bare, span)
    else:
        numbers = _scan_cells(connection, bare, span, interval)
        first = numbers[0] * interval if numbers else None
        last = min((numbers[-1] + 1) * interval, span.upper) - 1 if numbers else None
        if first is not None:
            first = max(first, axis.time_type.minimum if span.lower is None else span.lower)
    density = Density([])
    if first is not None and last is not None:
        density = Density(_bins(connection, bare, span, first, last, chunks))
    return Survey(axis, span, first, last, indexed, scan_bytes, everything or heap, density, chunks, numbers, interval)


def first_row(connection: Connection, axis: Axis, span: Span) -> int | None:
    """Where the rows of a span begin, those at -infinity left out; None if there are none. Without an index: a scan."""
    return _time(connection, axis, axis.compose("survey/first", range=axis.condition(span, finite=True)))


def last_row(connection: Connection, axis: Axis, span: Span) -> int | None:
    """Where they end, likewise."""
    return _time(connection, axis, axis.compose("survey/last", range=axis.condition(span, finite=True)))


def _time(connection: Connection, axis: Axis, statement: sql.Composed) -> int | None:
    row: Any = connection.execute(statement).fetchone()
    return None if row is None or row[0] is None else axis.time_type.ordinal(row[0])


def occupied_cells(connection: Connection, found: Survey, grid: Grid) -> list[Span]:
    """The cells of the target's grid in which the source may have rows, in order."""
    if found.first is None or found.last is None:
        return []
    if not found.indexed:
        cells: list[Span] = []
        for number in found.numbers:
            lower = max(number * found.interval, found.first)
            upper = min((number + 1) * found.interval - 1, found.last)
            # Existing chunks may cut such a stretch: which part has the rows is not known.
            cells += cells_between(grid, lower, upper, 1_000_000)
        return cells
    if found.chunks is not None:
        return list(_cells_of_chunks(found, grid))
    return list(_probe(connection, found, grid))


def _cells_of_chunks(found: Survey, grid: Grid) -> Iterator[Span]:
    """A source that is a hypertable says itself where it has nothing: where it has no chunk."""
    assert found.first is not None and found.last is not None
    position = found.first
    for chunk in found.chunks or ():
        lower = position if chunk.lower is None else max(position, chunk.lower)
        upper = found.last + 1 if chunk.upper is None else min(found.last + 1, chunk.upper)
        while lower < upper:
            cell = grid.cell(lower)
            yield cell
            lower = position = cell.upper


def _probe(connection: Connection, found: Survey, grid: Grid) -> Iterator[Span]:
    """Skip ahead by index: many cells in one statement where rows are dense, a jump where they are not."""
    assert found.first is not None and found.last is not None
    axis = found.axis.bare
    position: int | None = found.first
    batch = 64
    with connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off")
        while position is not None and position <= found.last:
            cells = cells_between(grid, position, found.last, batch)
            lowers = [
                axis.time_type.text(max(position, c.lower or 0) if i == 0 else cast(int, c.lower))
                for i, c in enumerate(cells)
            ]
            uppers = [axis.time_type.text(min(c.upper, found.last + 1)) for c in cells]
            # Literals, no parameters: a name in a composed statement may hold a percent sign.
            statement = axis.compose(
                "survey/occupied", type=sql.SQL(axis._type), lowers=sql.Literal(lowers), uppers=sql.Literal(uppers)
            )
            hits = [cast(int, row[0]) - 1 for row in connection.execute(statement)]
            yield from (cells[hit] for hit in hits)
            position = cells[-1].upper
            if len(hits) * 2 >= len(cells):
                batch = min(_BATCH_MAX, batch * 4)
            else:
                batch = max(4, batch // 4)
                if position <= found.last:
                    position = first_row(connection, axis, Span(position, found.last + 1))


_MICROSECONDS = "extract(epoch FROM r.{column})::numeric * 1000000"
_POSITION = {
    Kind.INSTANT: _MICROSECONDS,
    Kind.LOCAL: _MICROSECONDS,
    Kind.DATE: "(r.{column} - date '1970-01-01')::numeric",
    Kind.INTEGER: "r.{column}::numeric",
    # The milliseconds of a UUIDv7 are its first 48 bits: twelve digits, with a hyphen behind the eighth.
    Kind.UUID: "('x' || pg_catalog.left(pg_catalog.replace(r.{column}::text, '-', ''), 12))::bit(48)::bigint::numeric",
}


def _scan_cells(connection: Connection, axis: Axis, span: Span, interval: int) -> list[int]:
    """Numbers of the stretches of length `interval`, counted from the epoch, that have rows: in one scan."""
    kind = axis.time_type.kind
    length = milliseconds_of_uuid(interval) if kind is Kind.UUID else interval
    position = sql.SQL(cast(Any, _POSITION[kind])).format(column=sql.Identifier(axis.column))
    cell = sql.SQL("pg_catalog.floor({} / {})").format(position, sql.Literal(length))
    rows = connection.execute(axis.compose("survey/cells", cell=cell, range=axis.condition(span, finite=True)))
    return sorted(int(str(row[0])) for row in rows)


def explain(connection: Connection, statement: sql.Composable) -> dict[str, Any]:
    """The planner's plan of a statement, as its JSON."""
    row: Any = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) ") + statement).fetchone()
    return cast(dict[str, Any], row[0][0]["Plan"])


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes, from the top."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def scanned(connection: Connection, axis: Axis, span: Span) -> int:
    """Bytes that a window would read by sequential scans: 0 where an index leads to its rows.

    Asks the planner with sequential scans made unattractive, so it answers for tables, partitions,
    views and partial indexes alike. A foreign server's plan cannot be seen: taken for indexed.
    """
    with connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off")
        statement = sql.SQL("SELECT 1 FROM {} AS r WHERE {}").format(axis.relation.identifier, axis.condition(span))
        scanned = [
            node["Relation Name"]
            for node in nodes(explain(connection, statement))
            if node["Node Type"] in _SCANS and "Relation Name" in node
        ]
    if not scanned:
        return 0
    sizes = [cast(int, row[0]) for row in connection.execute(query("survey/sizes_by_name"), [scanned])]
    # A window reads one partition of a partitioned table, and everything of a plain one or a view.
    return max(1, max(sizes, default=0) if axis.relation.kind == "p" else sum(sizes))


def estimate(connection: Connection, axis: Axis, span: Span) -> float:
    """The planner's estimate of the rows in a span."""
    plan = explain(
        connection, sql.SQL("SELECT 1 FROM {} AS r WHERE {}").format(axis.relation.identifier, axis.condition(span))
    )
    return float(plan["Plan Rows"])


def _bins(
    connection: Connection, axis: Axis, span: Span, first: int, last: int, chunks: tuple[Chunk, ...] | None
) -> list[tuple[int, int, float]]:
    """Where the rows are, as bins of a density: from chunks, statistics, a sample, or the planner."""
    if chunks is not None:
        return _bins_of_chunks(connection, axis, Span(first, last + 1), chunks)
    total = float(explain(connection, sql.SQL("SELECT 1 FROM {} AS r").format(axis.relation.identifier))["Plan Rows"])
    if axis.relation.kind in "rpm":
        bins = _bins_of_statistics(connection, axis, total) or _bins_of_sample(connection, axis)
        if bins:
            return _stretched(bins, first, last)
    whole = Span(first, last + 1)
    width = max(1, -(-(last + 1 - first) // 64))
    edges = [*range(first, last + 1, width), last + 1]
    bins = [(a, b, estimate(connection, axis, Span(a, b))) for a, b in pairwise(edges)]
    known = sum(rows for *_, rows in bins)
    share = total if span.lower is None else estimate(connection, axis, whole)
    # Where the planner only guesses (0.5 % for any range), trust its total and spread it evenly.
    return bins if known >= share / 4 else [(first, last + 1, total)]


def _bins_of_chunks(
    connection: Connection, axis: Axis, span: Span, chunks: tuple[Chunk, ...]
) -> list[tuple[int, int, float]]:
    bins = []
    asked = 0
    for chunk in chunks:
        part = Span(chunk.lower, span.upper if chunk.upper is None else chunk.upper).intersect(span)
        if part is None or part.is_empty or part.lower is None:
            continue
        rows = float(chunk.rows)
        if (chunk.compressed or chunk.rows < 0 or (chunk.rows == 0 and chunk.pages == 0)) and asked < _EXPLAIN_MAX:
            asked += 1
            rows = estimate(connection, axis, part)
        bins.append((part.lower, part.upper, max(rows, 0.0)))
    return bins


def _bins_of_statistics(connection: Connection, axis: Axis, total: float) -> list[tuple[int, int, float]]:
    row: Any = connection.execute(
        query("survey/statistics"), [axis.relation.schema, axis.relation.name, axis.column]
    ).fetchone()
    if row is None:
        return []
    nulls, values, shares, bounds = row
    ordinal = axis.time_type.ordinal
    common = [(ordinal(v), s) for v, s in zip(values or [], shares or [], strict=True) if not v.endswith("infinity")]
    rest = max(0.0, 1.0 - nulls - sum(share for _, share in common))
    return histogram_bins([ordinal(v) for v in bounds or [] if not v.endswith("infinity")], common, total, rest)


def _bins_of_sample(connection: Connection, axis: Axis) -> list[tuple[int, int, float]]:
    pages = max(1, cast(int, fetch_one(connection, query("survey/size"), {"oid": axis.relation.oid})[0]) // 8192)
    percent = min(100.0, 100.0 * _SAMPLE_PAGES / pages)
    rows = connection.execute(axis.compose("survey/sample", percent=sql.Literal(percent))).fetchall()
    texts = [cast(str, r[0]) for r in rows if r[0] is not None]
    values = sorted(axis.time_type.ordinal(text) for text in texts if not text.endswith("infinity"))
    if not values:
        return []
    each = max(1, len(values) // 200)
    # The sample knows how many rows a page has; the planner of a table that was never analyzed only guesses.
    return histogram_bins([*values[::each], values[-1]], [], len(values) * 100.0 / percent, 1.0)


def _stretched(bins: list[tuple[int, int, float]], first: int, last: int) -> list[tuple[int, int, float]]:
    """Statistics are older than the table: rows before and after what they know are given the mean density.

    Never more than are known in all: the mean density of one crowded moment says nothing of a year.
    """
    low, high = min(b[0] for b in bins), max(b[1] for b in bins)
    total = sum(rows for *_, rows in bins)
    density = total / max(1, high - low)
    if first < low:
        bins.append((first, low, min(total, density * (low - first))))
    if last >= high:
        bins.append((high, last + 1, min(total, density * (last + 1 - high))))
    return bins
