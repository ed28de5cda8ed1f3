"""The tables that are landed compressed: measurements of devices over 30 days, their sources, and empty hypertables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString

from psycopg import sql

from bench import shapes
from bench.servers import Connection
from bench.shapes import START, Shape

DAYS = 30
UNTIL = START + timedelta(days=DAYS)  # the completion point: the end of the last chunk
COMPRESS: LiteralString = "SELECT compress_chunk(c, true) FROM show_chunks({name}) AS c"
# Due in another century: what the policy would do must not fall into some runs and spare others.
_POLICY = """
    SELECT add_compression_policy(%s, compress_after => interval '7 days', initial_start => '2100-01-01Z'::timestamptz)
"""


def _devices(number: int, device: str = "integer", value: str = "i % {n}") -> Shape:
    """So many devices in turn, each with five measurements as devices have them, of which some hardly change."""
    columns = (
        ("device", device, value),
        ("temperature", "float8", "round(200 + 50 * sin(i / 50000.0) + mod(hashint8extended(i, 1), 10)) / 10"),
        ("pressure", "float8", "round(10130 + 100 * cos(i / 700000.0) + mod(hashint8extended(i, 2), 3)) / 10"),
        ("state", "float8", "mod(hashint8extended(i / (60 * {n}), 3), 5)::float8"),
        ("counter", "float8", "(i / {n})::float8"),
        ("setpoint", "float8", "hashint8extended(i / (10 * {n}), 5)::float8 / 1e12"),
    )
    filled = tuple((name, kind, made.format(n=number)) for name, kind, made in columns)
    return Shape(filled, 1, f"a timestamptz, one of {number:,} devices ({device}) and 5 float8")


@dataclass(frozen=True)
class Table:
    """A table, and what is particular about it."""

    shape: Shape
    key: bool = False  # PRIMARY KEY (device, time) on both sides
    compressed: bool = False  # the source is a compressed hypertable
    about: str = "source a plain table in the order of time"


TABLES = {
    "usual": Table(_devices(100)),
    "unique": Table(_devices(100), key=True, about="PRIMARY KEY (device, time) on both sides"),
    "series": Table(_devices(10_000)),
    "compressed": Table(_devices(100), compressed=True, about="source a compressed hypertable with the same settings"),
    "text": Table(_devices(100, "text", "'device-' || lpad((i % {n})::text, 6, '0')")),
}


def _columnstore(connection: Connection, relation: sql.Identifier) -> None:
    """Switch a hypertable's columnstore on, with the settings that all of them have here."""
    settings = "timescaledb.compress_segmentby = 'device', timescaledb.compress_orderby = 'time DESC'"
    connection.execute(sql.SQL("ALTER TABLE {} SET (timescaledb.compress, " + settings + ")").format(relation))


def _add_key(connection: Connection, relation: sql.Identifier) -> None:
    """A unique key with which most rows are found."""
    connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (device, time)").format(relation))


def make_source(connection: Connection, of: Table, rows: int) -> sql.Identifier:
    """The source: a plain table with an index on the time, or a compressed hypertable; table `m` in either case."""
    step = timedelta(microseconds=DAYS * 86_400_000_000 // rows)
    if not of.compressed:
        relation = shapes.make_source(connection, of.shape, step, rows)
        if of.key:
            _add_key(connection, relation)
        return relation
    relation = shapes.hypertable(connection, "m", of.shape, timedelta(days=1))
    _columnstore(connection, relation)
    shapes.fill(connection, relation, of.shape, step, 0, rows)
    connection.execute(sql.SQL(COMPRESS).format(name=sql.Literal("public.m")))
    connection.execute(sql.SQL("VACUUM ANALYZE {}").format(relation))
    connection.execute("CHECKPOINT")
    return relation


def make_target(connection: Connection, of: Table, name: str) -> sql.Identifier:
    """An empty hypertable without chunks, with a policy that would compress all that it is to get."""
    relation = shapes.hypertable(connection, name, of.shape, timedelta(days=1))
    if of.key:
        _add_key(connection, relation)
    _columnstore(connection, relation)
    connection.execute(_POLICY, [f"public.{name}"])
    return relation
