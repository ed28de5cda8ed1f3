"""The tables that are moved from server to server: the same rows on every machine, made by the server itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg import sql

from bench.servers import Connection

START = datetime(2024, 1, 1, tzinfo=UTC)
_BLOCK = 500_000


@dataclass(frozen=True)
class Shape:
    """A table of a time and other columns."""

    columns: tuple[tuple[str, str, str], ...]  # name, type, and its value in row `i`, as SQL; the time left out
    share: float  # how many rows it has for each of the shape of floats, so that a run takes about as long, or less
    about: str

    @property
    def names(self) -> list[str]:
        return ["time", *(name for name, *_ in self.columns)]


def _hash(number: int) -> str:
    # No digit to spare, as measured values have none.
    return f"hashint8extended(i, {number})::float8 / 1e12"


def _text(number: int) -> str:
    return f"left(md5((i * 64 + {number})::text), 12)"


_DOCUMENT = """jsonb_build_object('device', i % 1000, 'state', 'running', 'readings',
    (SELECT jsonb_object_agg('sensor_' || k, hashint8extended(i, k)::float8 / 1e12)
     FROM generate_series(1, 57) AS k))"""

SHAPES = {
    "floats": Shape(
        tuple((f"f{n}", "float8", _hash(n)) for n in range(1, 11)),
        1,
        "a timestamptz and 10 float8",
    ),
    "narrow": Shape(
        (("device", "integer", "i % 1000"), ("value", "float8", _hash(1))),
        1 / 3,
        "a timestamptz, an integer and a float8",
    ),
    "wide": Shape(
        (
            *((f"f{n}", "float8", _hash(n)) for n in range(50)),
            *((f"n{n}", "integer", f"(i * {n + 7} % 1000003)::integer") for n in range(25)),
            *((f"t{n}", "text", _text(n)) for n in range(24)),
        ),
        1 / 30,
        "100 columns: a timestamptz, 50 float8, 25 integer, 24 text",
    ),
    "json": Shape(
        (("device", "integer", "i % 1000"), ("doc", "jsonb", _DOCUMENT)),
        1 / 60,
        "a timestamptz, an integer and a jsonb document of 2 KB",
    ),
}


def create(connection: Connection, name: str, shape: Shape) -> sql.Identifier:
    """An empty table."""
    relation = sql.Identifier("public", name)
    others = sql.SQL(", ").join(
        sql.SQL("{} " + kind).format(sql.Identifier(column)) for column, kind, _ in shape.columns
    )
    connection.execute(sql.SQL("CREATE TABLE {} (time timestamptz NOT NULL, {})").format(relation, others))
    return relation


def hypertable(connection: Connection, name: str, shape: Shape, interval: timedelta) -> sql.Identifier:
    """An empty hypertable, with the index that create_hypertable makes, without chunks."""
    relation = create(connection, name, shape)
    make = "SELECT create_hypertable(%s, 'time', chunk_time_interval => %s::interval)"
    connection.execute(make, [f"public.{name}", interval])
    return relation


def fill(
    connection: Connection, relation: sql.Identifier, shape: Shape, step: timedelta, first: int, last: int
) -> None:
    """The rows `first` up to, not including, `last`: row i is i steps after the start."""
    values = sql.SQL(", ").join(sql.SQL(value) for *_, value in shape.columns)
    statement = sql.SQL(
        "INSERT INTO {} SELECT {}::timestamptz + i * {}::interval, {} FROM generate_series({}::bigint, {}) AS i"
    )
    for begin in range(first, last, _BLOCK):
        end = min(last, begin + _BLOCK) - 1
        connection.execute(statement.format(relation, START, step, values, begin, end))


def make_source(connection: Connection, shape: Shape, step: timedelta, rows: int, name: str = "m") -> sql.Identifier:
    """A plain table with rows in the order of time, an index, and statistics."""
    relation = create(connection, name, shape)
    fill(connection, relation, shape, step, 0, rows)
    connection.execute(sql.SQL("CREATE INDEX ON {} (time)").format(relation))
    connection.execute(sql.SQL("VACUUM ANALYZE {}").format(relation))
    connection.execute("CHECKPOINT")
    return relation


def make_chunks(connection: Connection, relation: sql.Identifier, shape: Shape, bounds: list[datetime]) -> None:
    """The chunks at these times, empty: a row is inserted and taken away again in one transaction."""
    with connection.transaction():
        for bound in bounds:
            connection.execute(sql.SQL("INSERT INTO {} (time) VALUES ({})").format(relation, bound))
        away = sql.SQL("DELETE FROM {} WHERE time = ANY ({}) AND {} IS NULL")
        connection.execute(away.format(relation, bounds, sql.Identifier(shape.columns[0][0])))
    connection.execute(sql.SQL("VACUUM {}").format(relation))


def bound(at: datetime) -> str:
    """A time as an option takes it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
