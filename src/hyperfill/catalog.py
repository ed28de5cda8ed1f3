"""What the servers say: versions and editions, relations, columns, dimensions, chunks. Reads only.

Names resolve once to an oid. What differs between versions is asked here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row

from hyperfill.errors import Refused, UsageError, first_line
from hyperfill.pgtypes import UNKNOWN, Type, build_types
from hyperfill.session import Connection, Role, fetch_one
from hyperfill.sql import query
from hyperfill.timeline import TIME_TYPES, Kind, Span, TimeType, uuid_of_milliseconds

# TimescaleDB's own "no limit" for a chunk's range; also reported for smallint and integer dimensions,
# where it is not a value of the type.
UNLIMITED = (-(2**63), 2**63 - 1)
MICROSECONDS_PER_DAY = 86_400_000_000


@dataclass(frozen=True)
class Server:
    """One end of a backfill. `timescaledb` is the extension's version in this database, or None."""

    version: int  # server_version_num, e.g. 170005
    timescaledb: tuple[int, ...] | None
    extension_schema: str | None
    license: str | None
    in_recovery: bool
    read_only: bool
    encoding: str
    database: str
    database_oid: int
    user: str
    block_size: int
    system_identifier: str | None

    @property
    def community(self) -> bool:
        """Whether the community edition's functions can be called (asked of the license, not of the function list)."""
        return self.license == "timescale"

    @property
    def versions(self) -> dict[str, str | None]:
        """What the ledger keeps for the report."""
        number = f"{self.version // 10000}.{self.version % 10000}"
        return {"postgresql": number, "timescaledb": self.timescaledb_text if self.timescaledb else None}

    @property
    def timescaledb_text(self) -> str:
        return ".".join(map(str, self.timescaledb)) if self.timescaledb else "none"


@dataclass(frozen=True)
class Column:
    """A column; `of` is what its type is made of, below all domains."""

    name: str
    type: str
    type_oid: int
    typmod: int
    not_null: bool
    generated: bool
    identity: str
    default_expression: str | None
    default_computed: bool
    sequence_oid: int | None
    selectable: bool
    insertable: bool
    of: Type = field(default=UNKNOWN)

    @property
    def time_type(self) -> TimeType | None:
        """The type as an axis, if it is one."""
        return next((t for t in TIME_TYPES.values() if self.of.builtin and _SHORT[t.sql_name] == self.of.name), None)


_SHORT = {"smallint": "int2", "integer": "int4", "bigint": "int8"} | {
    name: name for name in ("timestamptz", "timestamp", "date", "uuid")
}


@dataclass(frozen=True)
class Relation:
    """Something that can be selected from. `kind` is pg_class.relkind."""

    oid: int
    schema: str
    name: str
    kind: str
    columns: tuple[Column, ...] = ()

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def quoted(self) -> str:
        """The qualified name as SQL writes it, quoted only where it must be."""
        return ".".join(quote_name(part) for part in (self.schema, self.name))

    def column(self, name: str) -> Column | None:
        return next((c for c in self.columns if c.name == name), None)


@dataclass(frozen=True)
class Chunk:
    """A chunk's place on the time axis; `lower` and `upper` are None where the range is unbounded."""

    lower: int | None
    upper: int | None
    schema: str
    name: str
    compressed: bool
    rows: int  # the planner's count of its uncompressed part, -1 if unknown
    pages: int
    oid: int


@dataclass(frozen=True)
class Hypertable:
    """A hypertable: its time dimension, the grid of its chunks, its space partitions."""

    relation: Relation
    time_column: str
    time_type: TimeType
    interval: int  # of new chunks, in ordinals
    partitions: tuple[tuple[str, int], ...] = ()  # space dimensions: column, number of partitions
    chunks: tuple[Chunk, ...] = field(default=(), compare=False)

    def chunks_in(self, span: Span) -> list[Chunk]:
        """Chunks of which some part lies in `span`."""
        return [
            c
            for c in self.chunks
            if (c.lower is None or c.lower < span.upper)
            and (c.upper is None or span.lower is None or c.upper > span.lower)
        ]


def quote_name(name: str) -> str:
    """An identifier as a person would write it: bare if it is a plain lower-case word, else quoted."""
    plain = (
        name.isascii() and name[:1].isidentifier() and name.replace("$", "_").isidentifier() and name == name.lower()
    )
    return name if plain else '"' + name.replace('"', '""') + '"'


def read_server(connection: Connection) -> Server:
    """Versions, edition and identity of the server behind a connection."""
    row: tuple[Any, ...] = fetch_one(connection, query("catalog/server"))
    version = tuple(int(part) for part in row[1].split("-")[0].split(".")) if row[1] else None
    try:
        identifier = str(fetch_one(connection, query("catalog/system_identifier"))[0])
    except psycopg.errors.InsufficientPrivilege:
        identifier = None
    return Server(
        version=row[0],
        timescaledb=version,
        extension_schema=row[2],
        license=row[3],
        in_recovery=row[4],
        read_only=row[5],
        encoding=row[6],
        database=row[7],
        database_oid=row[8],
        user=row[9],
        block_size=row[10],
        system_identifier=identifier,
    )


def parse_name(connection: Connection, text: str) -> list[str]:
    """The parts of a possibly qualified SQL name. Raises `UsageError` where SQL could not read it."""
    try:
        row: Any = fetch_one(connection, query("catalog/parse_name"), [text])
        return list(row[0])
    except psycopg.DataError as error:
        raise UsageError(
            f"{text!r} is not a name that SQL can read: {first_line(error)}",
            hint='write schema.table, with double quotes where SQL needs them: "My Schema"."Metrics"',
        ) from None


def parse_columns(connection: Connection, text: str) -> list[str]:
    """Column names from a comma-separated list with SQL quoting, e.g. ``time,"Value, raw"``."""
    parts: list[str] = []
    current, quoted = "", False
    for character in text:
        quoted ^= character == '"'
        if character == "," and not quoted:
            parts.append(current)
            current = ""
        else:
            current += character
    names = []
    for part in [*parts, current]:
        try:
            name = parse_name(connection, part.strip())
        except UsageError:
            name = []
        if len(name) != 1:
            raise UsageError(
                f"--columns {text!r}: {part.strip()!r} is not a column name",
                hint='write names as in SQL, separated by commas: time,"Value",raw',
            )
        names.append(name[0])
    return names


def resolve(connection: Connection, text: str, role: Role, option: str) -> Relation:
    """The one relation that `text` names, with its columns.

    Without a schema the name must be that of exactly one relation: guessing by search_path fills the
    wrong table. Raises `UsageError` for an unreadable name and `Refused` for none or several.
    """
    parts = parse_name(connection, text)
    database = str(fetch_one(connection, "SELECT pg_catalog.current_database()::text")[0])
    if len(parts) == 3 and parts[0] == database:
        parts = parts[1:]
    if len(parts) > 2:
        raise UsageError(f"{option} {text}: a name has at most a schema and a table, and {role} is database {database}")
    schema, name = (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])
    rows: list[Any] = connection.execute(query("catalog/resolve"), {"schema": schema, "name": name}).fetchall()
    if not rows:
        raise Refused(
            f"{option}: the {role} has no table or view {text}" + ("" if schema else " in any schema"),
            hint='names follow SQL: unquoted ones are folded to lower case; write "Name" for upper case',
        )
    if len(rows) > 1:
        found = ", ".join(f"{quote_name(r[1])}.{quote_name(r[2])}" for r in rows)
        raise Refused(f"{option}: {text} could be any of {found}", hint="name the schema")
    oid, schema, name, kind = rows[0]
    return Relation(oid, schema, name, kind, read_columns(connection, oid))


def read_columns(connection: Connection, oid: int) -> tuple[Column, ...]:
    """The columns of a relation in their order, without dropped ones."""
    with connection.cursor(row_factory=class_row(Column)) as cursor:
        columns = cursor.execute(query("catalog/columns"), {"oid": oid}).fetchall()
    with connection.cursor(row_factory=dict_row) as described:
        rows = described.execute(query("catalog/types"), {"oid": oid}).fetchall()
    types = build_types(rows, [(c.type_oid, c.typmod) for c in columns])
    return tuple(replace(column, of=of) for column, of in zip(columns, types, strict=True))


def is_hypertable(connection: Connection, server: Server, relation: Relation) -> bool:
    """Whether a relation is a hypertable of this database."""
    if server.timescaledb is None:
        return False
    return bool(
        fetch_one(connection, query("catalog/is_hypertable"), {"schema": relation.schema, "name": relation.name})[0]
    )


def read_hypertable(connection: Connection, server: Server, relation: Relation) -> Hypertable:
    """The dimensions and chunks of a relation that must be a hypertable.

    Raises `Refused`, with a different sentence for every other kind of relation.
    """
    if server.timescaledb is None:
        raise Refused(
            f"the target database {server.database} has no TimescaleDB",
            hint="CREATE EXTENSION timescaledb; or check that --target names the right database",
        )
    names = {"schema": relation.schema, "name": relation.name}
    special: Any = connection.execute(query("catalog/what_is_it"), names).fetchone()
    if special:
        raise Refused(_SPECIAL[special[0]].format(name=relation.quoted, of=special[1]))
    rows: Sequence[Any] = connection.execute(query("catalog/hypertable_dimensions"), names).fetchall()
    if not rows:
        what = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}.get(relation.kind, "a plain table")
        raise Refused(
            f"{relation.quoted} is {what}, not a hypertable",
            hint="create_hypertable() makes one of a table" if relation.kind in "rp" else None,
        )
    column, _, micros, integer_interval, _, function = rows[0]
    attribute = relation.column(column)
    assert attribute is not None
    time_type = attribute.time_type
    if function is not None or time_type is None:
        raise Refused(
            f"{relation.quoted} is partitioned by {quote_name(column)} of type {attribute.type}"
            + (f" through the function {function}" if function else ""),
            hint="hyperfill knows timestamptz, timestamp, date, smallint, integer, bigint and uuid (v7) time columns",
        )
    interval = _interval(time_type, integer_interval if micros is None else micros)
    spaces = tuple((r[0], r[4]) for r in rows[1:] if r[4] is not None)
    chunks = read_chunks(connection, relation, time_type)
    return Hypertable(relation, column, time_type, interval, spaces, chunks)


_SPECIAL = {
    "aggregate": "{name} is a continuous aggregate: fill the hypertable below it, the aggregate is refreshed "
    "from there",
    "materialization": "{name} is the materialization of the continuous aggregate {of}: it is refreshed, never filled",
    "chunk": "{name} is a chunk of the hypertable {of}: name the hypertable",
}


def read_chunks(connection: Connection, relation: Relation, time_type: TimeType) -> tuple[Chunk, ...]:
    """The chunks of a hypertable in time order."""
    rows: list[Any] = connection.execute(
        query("catalog/chunks"), {"schema": relation.schema, "name": relation.name}
    ).fetchall()
    chunks = [
        Chunk(_edge(time_type, r[0], r[2]), _edge(time_type, r[1], r[3]), r[4], r[5], r[6], r[7], r[8], r[9])
        for r in rows
    ]
    return tuple(sorted(chunks, key=lambda c: (c.lower is not None, c.lower or 0, c.name)))


def time_order(connection: Connection, hypertable: Hypertable) -> bool | None:
    """Whether its indexes that begin with the time column have the newest row first; None: no such index, or both."""
    arguments = {"oid": hypertable.relation.oid, "column": hypertable.time_column}
    row = connection.execute(query("catalog/time_order"), arguments).fetchone()
    return None if row is None else bool(row[0])


def _interval(time_type: TimeType, micros: int | None) -> int:
    """The length of new chunks in ordinals. The view has microseconds, also for uuid (before 2.25 as an integer)."""
    if micros is None or micros <= 0:
        # Never seen; a grid of one day is only a matter of speed, not of correctness.
        micros = MICROSECONDS_PER_DAY
    if time_type.kind is Kind.INTEGER:
        return micros
    if time_type.kind is Kind.DATE:
        return max(1, micros // MICROSECONDS_PER_DAY)
    if time_type.kind is Kind.UUID:
        return uuid_of_milliseconds(max(1, micros // 1000))
    return micros


def _edge(time_type: TimeType, instant: str | None, integer: int | None) -> int | None:
    """One end of a chunk's range. The view shows every time type but integers as timestamptz, in UTC."""
    if integer is not None and integer in UNLIMITED:
        return None
    if integer is not None and time_type.kind is Kind.UUID:  # TimescaleDB before 2.24
        return uuid_of_milliseconds(integer // 1000)
    if integer is not None:
        return integer
    if instant is None or instant in ("-infinity", "infinity"):
        return None
    micros = TIME_TYPES["timestamp with time zone"].ordinal(instant)
    if time_type.kind is Kind.DATE:
        return micros // MICROSECONDS_PER_DAY
    if time_type.kind is Kind.UUID:
        return uuid_of_milliseconds(micros // 1000)
    return micros
