"""How a hypertable's chunks are compressed, and in which order their rows must be read to be written so at once.

A chunk's rows are put together by the segmentby columns and sorted by the orderby columns. The server takes the
client's word that they come so (`enable_direct_compress_copy_client_sorted`), and gives wrong answers to ORDER BY, min
and max where it was not true: so it is only said where both servers sort each of these columns alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from hyperfill.catalog import Column, Relation, Server, quote_name
from hyperfill.session import Connection
from hyperfill.sql import query

if TYPE_CHECKING:
    from hyperfill.window import MovedColumn

# Types without a collation, of which every server sorts the values alike. Not enums: each database has its own order.
_SORTED_ALIKE = frozenset(
    {
        "bool", "int2", "int4", "int8", "float4", "float8", "numeric", "date", "time", "timetz", "timestamp",
        "timestamptz", "interval", "uuid", "inet", "cidr", "macaddr", "macaddr8", "bytea", "oid", "pg_lsn",
    }
)  # fmt: skip
# For segmentby equal values need only lie together; but those that are equal must be the same, or the last of them
# would be stored for all: not -0 and 0, not 1.0 and 1.00.
_GROUPED_ALIKE = _SORTED_ALIKE - {"float4", "float8", "numeric", "interval", "timetz"}
_BY_COLLATION = frozenset({"text", "varchar"})
# Beside them, types of which values that are equal are the same, whatever the order.
_EQUAL_IS_SAME = _GROUPED_ALIKE | {"char", "bpchar", "name", "bit", "varbit", "money"}


@dataclass(frozen=True)
class OrderBy:
    """An orderby column of the target: its name, and how its values are sorted."""

    column: str
    descending: bool
    nulls_first: bool


@dataclass(frozen=True)
class Settings:
    """How a hypertable or a chunk is compressed. `segmentby` None: the server chooses, for each chunk."""

    segmentby: tuple[str, ...] | None
    orderby: tuple[OrderBy, ...]


@dataclass(frozen=True)
class Collation:
    """How a column's values are compared."""

    deterministic: bool  # equal values are the same bytes
    by_bytes: bool


def read_settings(connection: Connection, oid: int) -> Settings | None:
    """The settings of the hypertable, or from 2.29 of the chunk, with this oid; None where there are none."""
    row: Any = connection.execute(sql.SQL(query("compressed/settings")).format(oid=sql.Literal(oid))).fetchone()
    if row is None:
        return None
    orderby = [OrderBy(*one) for one in zip(row[1] or [], row[2] or [], row[3] or [], strict=True)]
    return Settings(None if row[0] is None else tuple(row[0]), tuple(orderby))


def read_collations(connection: Connection, relation: Relation) -> dict[str, Collation]:
    """The collations of a relation's columns, of those that have one."""
    rows: list[Any] = connection.execute(query("compressed/collations"), [relation.oid]).fetchall()
    return {name: Collation(bool(deterministic), bool(by_bytes)) for name, deterministic, by_bytes in rows}


def columnstore_on(connection: Connection, server: Server, relation: Relation) -> bool:
    """Whether a hypertable's chunks may be compressed."""
    if not server.community:
        return False
    row: Any = connection.execute(query("compressed/able"), {"oid": relation.oid}).fetchone()
    return row is not None and bool(row[0])


@dataclass(frozen=True)
class Sides:
    """What is known of both sides' columns, to say whether an order means the same on them. Picklable."""

    source: Relation
    target: Relation
    columns: tuple[MovedColumn, ...]
    source_collations: dict[str, Collation]
    target_collations: dict[str, Collation]
    utf8: bool  # both databases: sorting by bytes is sorting by characters in both
    compressed: bool  # the source is compressed itself: its own order may be had without sorting

    def problem(self, settings: Settings) -> str | None:
        """Why rows that the source sorts would not be known to be in the target's order; None if they are."""
        for name in settings.segmentby or ():
            problem = self._problem(name, _GROUPED_ALIKE, "segmentby")
            if problem:
                return problem
        for one in settings.orderby:
            problem = self._problem(one.column, _SORTED_ALIKE, "orderby")
            if problem:
                return problem
        return None

    def _problem(self, name: str, alike: frozenset[str], role: str) -> str | None:
        mine, theirs, moved = self._pair(name)
        what = f"{role} column {quote_name(name)}"
        if mine is None or theirs is None or moved is None:
            return f"{what} is not moved"
        if moved.cast is not None or not theirs.of.builtin or mine.of.name != theirs.of.name:
            return f"{what} is of another type on the source, or of a user's own type"
        if theirs.of.name in alike:
            return None
        if theirs.of.name not in _BY_COLLATION:
            return f"the servers may not sort {what} alike (type {theirs.type})"
        here, there = self.source_collations.get(moved.source), self.target_collations.get(name)
        if here is None or there is None or not (here.deterministic and there.deterministic):
            return f"{what} has a collation in which different values are equal"
        if role == "orderby" and not (there.by_bytes and self.utf8):
            return f"the servers may not sort {what} alike (its collation on the target is not C)"
        return None

    def _pair(self, name: str) -> tuple[Column | None, Column | None, MovedColumn | None]:
        moved = next((c for c in self.columns if c.target == name), None)
        return (None if moved is None else self.source.column(moved.source), self.target.column(name), moved)

    def order_by(self, settings: Settings) -> sql.Composed:
        """The ORDER BY of the source's rows, of relation r. To be called where there is no `problem`."""
        terms = []
        for name in settings.segmentby or ():
            terms.append(self._term(name, by_bytes=not self.compressed))
        for one in settings.orderby:
            nulls = sql.SQL("FIRST" if one.nulls_first else "LAST")
            direction = sql.SQL("{} DESC NULLS {}" if one.descending else "{} ASC NULLS {}")
            terms.append(direction.format(self._term(one.column, by_bytes=True), nulls))
        return sql.SQL("ORDER BY {}").format(sql.SQL(", ").join(terms))

    def _term(self, name: str, *, by_bytes: bool) -> sql.Composable:
        """A column; text by its bytes, which is much faster, where the source has no order of its own to keep."""
        mine, _, moved = self._pair(name)
        assert mine is not None and moved is not None
        term = sql.Identifier("r", moved.source)
        if by_bytes and mine.of.name in _BY_COLLATION:
            return sql.SQL('{} COLLATE pg_catalog."C"').format(term)
        return term


def unfaithful(settings: Settings, relation: Relation, collations: dict[str, Collation]) -> str | None:
    """Why compressing would change values, whoever does it: of segmentby values that are equal one stands for all.

    So 'a' becomes 'A' (citext, collations that ignore case), 1.0 becomes 1.00 and -0 becomes 0. `collations` are those
    of `relation`, the hypertable.
    """
    for name in settings.segmentby or ():
        column = relation.column(name)
        if column is None or column.of.kind == "e":
            continue
        of, collation = column.of, collations.get(name)
        same = of.builtin and (of.name in _EQUAL_IS_SAME or of.name in _BY_COLLATION)
        fixed = of.builtin and of.name == "numeric" and of.typmod >= 0
        if of.name == "bpchar" and of.typmod < 0:
            same = False  # only char(n) fills with blanks, which count for nothing
        if not (same or fixed) or (collation is not None and not collation.deterministic):
            what = f"segmentby column {quote_name(name)}"
            return f"{what} may have values that are equal and not the same, of which one would replace all"
    return None


def time_first(settings: Settings, time_column: str) -> bool:
    """Whether slices of time that do not overlap stay in order one after another: batches of two never overlap then."""
    return bool(settings.orderby) and settings.orderby[0].column == time_column


def same(found: Sequence[Settings | None]) -> Settings | None:
    """The settings that all of these share; None where they differ, or one has none."""
    first = found[0] if found else None
    return first if first is not None and all(one == first for one in found) else None
