"""What the rows of a range are, in two numbers: how many, and a sum over hashes that does not depend on their order.

Equal fingerprints on two servers mean equal rows; a value that was changed, lost, added or swapped with another one
changes them. Values that are equal by their type (0 and -0, 1.0 and 1.00, '1 mon' and '30 days') are equal here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from psycopg import sql

from hyperfill.catalog import Server
from hyperfill.pgtypes import Type
from hyperfill.session import Connection
from hyperfill.sql import query
from hyperfill.survey import Axis
from hyperfill.timeline import Span
from hyperfill.window import Order

Mode = Literal["hash", "count"]

# The server's hash of these means the same everywhere, and tells all their values apart.
_OWN = frozenset(
    {
        "bool", "int2", "int4", "oid", "float4", "float8", "char", "bytea", "uuid", "date", "inet", "cidr",
        "macaddr", "macaddr8",
    }
)  # fmt: skip
# By their bytes: hash and equality of another collation may be those of another version of a library.
_BYTES = frozenset({"text", "varchar", "bpchar", "name"})
# The hash of eight bytes folds them to four: 0 and 4294967297 have the same one. That of their binary form does not.
_FOLDED = {
    "int8": "int8send",
    "timestamp": "timestamp_send",
    "timestamptz": "timestamptz_send",
    "time": "time_send",
    "timetz": "timetz_send",
}
_RECORDS_SINCE = 140000


@dataclass(frozen=True)
class Fingerprint:
    """Of some rows. `hash` is None where they were only counted."""

    rows: int
    hash: int | None

    def __add__(self, other: Fingerprint) -> Fingerprint:
        """Of both together, where they have no row in common."""
        both = None if self.hash is None or other.hash is None else self.hash + other.hash
        return Fingerprint(self.rows + other.rows, both)


NOTHING = Fingerprint(0, 0)


@dataclass(frozen=True)
class Side:
    """One of two relations as it is compared: `values` are SQL expressions of the relation r."""

    axis: Axis
    names: tuple[str, ...]  # the columns, as the target calls them
    values: tuple[tuple[sql.Composable, ...], ...]  # as they are hashed: an array is two
    shown: tuple[sql.Composable, ...]  # as they are moved
    whole: bool  # rows are hashed as records
    finite: bool = False  # leave out rows at -infinity

    def condition(self, span: Span) -> sql.Composed:
        """The rows of a span."""
        return self.axis.condition(span, finite=self.finite)

    def row_hash(self, mode: Mode = "hash") -> sql.Composable:
        """The SQL expression of one row's hash."""
        if mode == "count":
            return sql.SQL("NULL::bigint")
        return self.hash_of([one for value in self.values for one in value])

    def hash_of(self, values: Sequence[sql.Composable]) -> sql.Composable:
        """The SQL expression of one hash of several values."""
        name = query("fingerprint/row") if self.whole else query("fingerprint/row_as_text")
        return sql.SQL(name).format(values=sql.SQL(", ").join(values))


def sides(order: Order, source: Server, target: Server) -> tuple[Side, Side]:
    """Both ends of an order, their columns in forms that mean the same on both servers."""
    assert order.source is not None
    whole = min(source.version, target.version) >= _RECORDS_SINCE
    recode = source.encoding != target.encoding
    here: list[tuple[sql.Composable, tuple[sql.Composable, ...]]] = []
    there: list[tuple[sql.Composable, tuple[sql.Composable, ...]]] = []
    for column in order.columns:
        attribute = order.target.relation.column(column.target)
        assert attribute is not None
        value: sql.Composable = sql.Identifier("r", column.source)
        if column.cast:
            value = sql.SQL("{}::{}").format(value, sql.SQL(cast(Any, column.cast)))
        other = sql.Identifier("r", column.target)
        here.append((value, comparable(value, attribute.of, recode=recode, whole=whole)))
        there.append((other, comparable(other, attribute.of, recode=recode, whole=whole)))
    names = tuple(c.target for c in order.columns)
    return (
        Side(order.source, names, tuple(v for _, v in here), tuple(v for v, _ in here), whole, order.finite),
        Side(order.target, names, tuple(v for _, v in there), tuple(v for v, _ in there), whole),
    )


def comparable(
    value: sql.Composable, of: Type, *, recode: bool = False, whole: bool = True
) -> tuple[sql.Composable, ...]:
    """Expressions of `value` whose hashes are the same on two servers where the values are equal, and only there.

    The server's own hash where that is so; for all other types (enums and reg* hash by OID, jsonb's tells swaps
    32 elements apart from nothing, many have none) the text. `recode`: the databases have different encodings;
    `whole`: rows are hashed as records.
    """
    if of.kind == "b" and of.builtin:
        if of.name in _OWN:
            return (value,)
        if of.name in _FOLDED:
            return (sql.SQL("pg_catalog.{}({})").format(sql.Identifier(_FOLDED[of.name]), value),)
        if of.name in ("numeric", "interval") and whole:
            number = sql.SQL(query("fingerprint/interval")).format(value=value) if of.name == "interval" else value
            return (sql.SQL(query("fingerprint/numeric")).format(value=number),)
        if of.name in _BYTES and not recode:
            return (sql.SQL('{} COLLATE "C"').format(value),)
    # The vectors of the catalogs are arrays as well, without a hash.
    if of.kind == "a" and of.builtin and of.inner is not None and of.name.startswith("_") and whole and not recode:
        # An array's own hash is that of its elements alone, whatever its dimensions are and where they begin.
        shape = sql.SQL("pg_catalog.array_dims({})").format(value)
        if of.inner.name in _OWN:
            return (shape, value)
        if of.inner.name in _BYTES:
            return (shape, sql.SQL('{} COLLATE "C"').format(value))
    if of.kind == "b" and of.builtin and of.name in _BYTES:
        text = sql.SQL("{}::text").format(value)
    else:
        # By the output function: a cast to text may be anybody's own.
        text = sql.SQL("ROW({})::text").format(value)
    if recode:
        return (sql.SQL("pg_catalog.convert_to({}, 'UTF8')").format(text),)
    return (sql.SQL('{} COLLATE "C"').format(text),)


def readable(value: sql.Composable) -> sql.Composable:
    """A value as text for people, by its output function; NULL as NULL."""
    return sql.SQL("CASE WHEN pg_catalog.num_nulls({}) = 0 THEN pg_catalog.format('%s', {}) END").format(value, value)


def fingerprint(connection: Connection, side: Side, span: Span, mode: Mode) -> Fingerprint:
    """Of the rows of a span, in one pass over them."""
    text = query("fingerprint/count") if mode == "count" else query("fingerprint/span")
    statement = sql.SQL(text).format(
        hash=side.row_hash(), relation=side.axis.relation.identifier, range=side.condition(span)
    )
    row: Any = connection.execute(statement).fetchone()
    return _read(row[0], row[1], mode)


def fingerprints(connection: Connection, side: Side, pieces: Sequence[Span], mode: Mode) -> list[Fingerprint]:
    """Of each of neighbouring pieces in order (each begins where the one before ends), in one pass over all of them.

    Costs a third more for each row than `fingerprint`.
    """
    if len(pieces) == 1:
        return [fingerprint(connection, side, pieces[0], mode)]
    axis = side.axis
    edges = [axis.time_type.text(cast(int, piece.lower)) for piece in pieces[1:]]
    statement = axis.compose(
        "fingerprint/pieces",
        type=sql.SQL(cast(Any, axis.time_type.sql_name)),
        edges=sql.Literal(edges),
        hash=side.row_hash(mode),
        range=side.condition(Span(pieces[0].lower, pieces[-1].upper)),
    )
    found = [Fingerprint(0, None if mode == "count" else 0)] * len(pieces)
    rows: list[Any] = connection.execute(statement).fetchall()
    for number, count, total in rows:
        found[number] = _read(count, total, mode)
    return found


def _read(rows: int, total: str | None, mode: Mode) -> Fingerprint:
    return Fingerprint(rows, None if mode == "count" else int(total or 0))
