"""Missing chunks, created before the window that fills them, in short transactions of their own.

A transaction that creates a chunk blocks, until it ends, every insert of the application that needs a
new chunk, and with a foreign key every write to the referenced table. A window transaction lasts
seconds, so it must never be the one.

The server decides the range of a new chunk: a row is inserted and taken away again in one transaction.
(`create_chunk()` of the community edition would take our word for the range, and the Apache edition
refuses to run it.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

import psycopg
from psycopg import sql

from hyperfill.errors import WindowError, first_line, retrying
from hyperfill.places import Places
from hyperfill.plan import Grid, cells_between
from hyperfill.session import Connection
from hyperfill.sql import query
from hyperfill.timeline import Kind, Span, TimeType, milliseconds_of_uuid, uuid_of_milliseconds
from hyperfill.window import MovedColumn, Order

log = logging.getLogger(__name__)

_SAMPLE_ROWS = 1000  # among which rows for every space partition are looked for
_FEW_ROWS = 20
_LARGEST_VALUE = 1_000_000  # characters; a chunk is not worth sending more
_PATIENCE = 2.0  # seconds in which a lock that is not free is tried for again, before the window's next attempt
_LOCKS = frozenset({"55P03", "40P01"})
_MAX_CELLS = 64


class Patterns(Protocol):
    """What a `RowSource` has for the rows that make chunks."""

    def anything(self, span: Span) -> bool:
        """Whether there is a row in `span`, cheaply."""

    def samples(self, columns: Sequence[MovedColumn], limit: int) -> list[list[str | None]]:
        """Some rows as text, the smallest first."""


class ChunkMaker:
    """Creates the chunks of a worker's windows. Keeps what it knows of the grid, so that most windows ask nothing."""

    def __init__(self, order: Order, notice: Callable[[str], None] | None = None) -> None:
        """`notice` is told once, in a sentence, when chunks cannot be created beforehand."""
        self._notice = notice or log.debug
        hypertable = order.hypertable
        self._order = order
        self._grid = Grid(
            hypertable.time_type, hypertable.interval, [(chunk.lower, chunk.upper) for chunk in hypertable.chunks]
        )
        self._places = Places(hypertable)
        self._tried: set[int] = set()
        self._patterns: list[list[str | None]] | None = None
        self._able = order.chunks_beforehand
        # NULL passes CHECK and foreign keys, so a pattern needs only what must not be NULL.
        spaces = {name for name, _ in hypertable.partitions} | {order.target.column}
        required = {c.name for c in hypertable.relation.columns if c.not_null} | spaces
        self._needed = [c for c in order.columns if c.target in required]
        # Said as NULL and not left out: a DEFAULT would run, and take values from its sequence.
        self._empty = [
            c.name for c in hypertable.relation.columns if c.name not in required and not c.generated and c.insertable
        ]

    def missing(self, span: Span, estimate: int) -> list[Span]:
        """Cells of a window that have no chunk as far as this worker knows, and rows to come."""
        if not self._able or estimate <= 0:
            return []
        if self._order.source_indexed:
            first = span.upper - 1 if span.lower is None else span.lower
            cells = cells_between(self._grid, first, span.upper - 1, _MAX_CELLS)
        else:
            # Windows of such a source reach over many cells, most of them empty, and looking costs a scan.
            cells = [self._grid.cell(at) for at in sorted(self._order.occupied) if span.contains(at)]
        return [
            cell
            for cell in cells
            if cell.lower is not None and not self._grid.exists(cell.lower) and cell.lower not in self._tried
        ]

    def create(self, source: Patterns, target: Connection, cells: list[Span], window: Span) -> None:
        """Create chunks, each in its own transaction. Where that is not possible the window creates what is missing.

        Raises psycopg's error where a lock was not free: the window would get it sooner or later, and keep it to its
        end from everybody else who needs a new chunk or writes to a referenced table.
        """
        for cell in cells:
            assert cell.lower is not None
            self._tried.add(cell.lower)
            inside = cell.intersect(window)
            if not self._able or inside is None or inside.is_empty:
                continue
            ordinal = inside.upper - 1 if inside.lower is None else inside.lower
            # An empty chunk would be left behind: the plan only knows that there may be a row.
            self._attempt(source, target, ordinal, inside)

    def cells(self, ordinals: Iterable[int]) -> int:
        """In how many chunks, there already or to be made, these places lie."""
        return len({self._grid.cell(ordinal) for ordinal in ordinals})

    def create_at(self, source: Patterns, target: Connection, ordinals: Iterable[int]) -> None:
        """Create the chunks of rows that are known to come, where this worker knows of none."""
        for ordinal in ordinals:
            if not self._able or self._grid.exists(ordinal):
                continue
            cell = self._grid.cell(ordinal)
            if cell.lower is not None and cell.lower not in self._tried:
                self._tried.add(cell.lower)
                self._attempt(source, target, ordinal, None)

    def _attempt(self, source: Patterns, target: Connection, ordinal: int, inside: Span | None) -> None:
        try:
            if inside is None or source.anything(inside):
                retrying(lambda: self._create(source, target, ordinal), seconds=_PATIENCE)
        except (psycopg.Error, WindowError) as error:
            lost = isinstance(error, WindowError) and error.server == "source" and error.transient
            if target.closed or lost:
                raise
            if isinstance(error, psycopg.Error) and error.sqlstate in _LOCKS:
                self._tried.discard(self._grid.cell(ordinal).lower or 0)
                raise
            log.debug("a chunk was not created beforehand: %s", first_line(error))
            if isinstance(error, psycopg.errors.InsufficientPrivilege):
                self._give_up(first_line(error))

    def _create(self, source: Patterns, target: Connection, ordinal: int) -> None:
        order = self._order
        if self._patterns is None:
            self._patterns = self._choose(source, target)
        if not self._patterns:
            self._give_up("no row of the source can serve as a pattern")
            return
        time_text = order.target.time_type.text(ordinal)
        at = next(i for i, c in enumerate(self._needed) if c.target == order.target.column)
        rows = [
            sql.SQL("({})").format(
                sql.SQL(", ").join(
                    [
                        *(sql.Literal(time_text if i == at else value) for i, value in enumerate(pattern)),
                        *(sql.NULL for _ in self._empty),
                    ]
                )
            )
            for pattern in self._patterns
        ]
        names = [c.target for c in self._needed] + self._empty
        relation = order.target.relation.identifier
        here = order.target.condition(_moment(order.target.time_type, ordinal))
        with target.transaction():
            target.execute("SELECT set_config('application_name', %s, true)", [f"hyperfill/{order.backfill}/chunk"])
            # Before any lock that the application may need. Several workers that wait for one of its transactions
            # would each hold up for 0.7 s whoever needs a chunk as well, in turn.
            target.execute(query("window/one_maker"), [order.hypertable_oid])
            found = target.execute(sql.SQL(query("window/anything")).format(relation=relation, window=here)).fetchone()
            if found and found[0]:
                return  # a dual-writer was faster: the chunk is there
            if order.converts and self._are_there(target, ordinal):
                return  # another worker was faster: in a compressed chunk our row would leave its traces
            if order.has_triggers:
                # The row must not reach a user's trigger; a role that may not switch them off leaves
                # the chunk to its window.
                target.execute("SET LOCAL session_replication_role = replica")
            made: list[Any] = target.execute(
                sql.SQL(query("window/make_chunk")).format(
                    relation=relation,
                    columns=sql.SQL(", ").join(sql.Identifier(name) for name in names),
                    rows=sql.SQL(", ").join(rows),
                )
            ).fetchall()
            # Without a right on one of them, or with a trigger that swallowed a row, all are looked for from above.
            names_of = {tuple(row[0] or ()) for row in made}
            chunks = [relation] if () in names_of else [sql.Identifier(*name) for name in names_of]
            unmake = sql.SQL(query("window/unmake_rows"))
            taken = sum(target.execute(unmake.format(relation=chunk, window=here)).rowcount for chunk in chunks)
            if taken != len(rows):
                # Something changed the rows on their way in: nothing of ours may stay.
                self._give_up("a trigger changes rows on their way in")
                raise psycopg.Rollback

    def _are_there(self, target: Connection, ordinal: int) -> bool:
        """Whether there are as many chunks here by now as would be made: one, or one for each space partition."""
        here = self._places.chunks_in(target, Span(ordinal, ordinal + 1))
        return len(here) >= len(self._patterns or [])

    def _give_up(self, reason: str) -> None:
        self._able = False
        self._notice(
            f"chunks are not created beforehand ({reason}): while a window creates one, the application's "
            "inserts into other new chunks wait for it"
        )

    def _choose(self, source: Patterns, target: Connection) -> list[list[str | None]]:
        """Rows of the source to use as patterns: one, or with space partitions one for each that can be found."""
        order = self._order
        spaces = order.hypertable.partitions
        found = source.samples(self._needed, _SAMPLE_ROWS if spaces else _FEW_ROWS)
        if not spaces:
            found = found[:1]
        if any(len(value) > _LARGEST_VALUE for row in found for value in row if value is not None):
            return []
        chosen: dict[tuple[Any, ...], list[str | None]] = {}
        seen: dict[tuple[Any, ...], tuple[int, ...]] = {}
        for row in found:
            values = tuple(self._value(row, name) for name, _ in spaces)
            if values not in seen:
                seen[values] = tuple(
                    self._partition(target, name, count, value)
                    for (name, count), value in zip(spaces, values, strict=True)
                )
            chosen.setdefault(seen[values], list(row))
        return list(chosen.values())

    def _value(self, row: Any, name: str) -> Any:
        index = next((i for i, c in enumerate(self._needed) if c.target == name), None)
        return None if index is None else row[index]

    def _partition(self, target: Connection, name: str, count: int, value: str | None) -> int:
        """Which of `count` partitions a value falls into."""
        if value is None:
            return 0
        column = self._order.target.relation.column(name)
        assert column is not None
        statement = sql.SQL(query("window/partition_hash")).format(
            value=sql.Literal(value), type=sql.SQL(cast(Any, column.type))
        )
        row: Any = target.execute(statement).fetchone()
        return min(int(row[0]) // (2147483647 // count), count - 1)


def _moment(time_type: TimeType, ordinal: int) -> Span:
    """The shortest span around a place that servers look into: of uuids a millisecond.

    They leave a chunk out where both ends of a condition lie in the same one, and find no row there.
    """
    if time_type.kind is not Kind.UUID:
        return Span(ordinal, ordinal + 1)
    ms = milliseconds_of_uuid(ordinal)
    return Span(uuid_of_milliseconds(ms), uuid_of_milliseconds(ms + 1))
