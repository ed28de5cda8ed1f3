"""A fingerprint finds whatever is not equal, and nothing else: ten thousand changes, each of which must be seen."""

from __future__ import annotations

import datetime as dt
import json
import random
import struct
import uuid
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import sql

from hyperfill import catalog, session
from hyperfill.fingerprint import Fingerprint, Side, comparable, fingerprint, fingerprints
from hyperfill.survey import Axis
from hyperfill.timeline import TIME_TYPES, Span
from tests.fixtures.pair import connect

BIGINT = TIME_TYPES["bigint"]
ROWS = 8  # of each trial
COLUMNS = {
    "i": "integer",
    "b": "bigint",
    "f": "double precision",
    "t": "text",
    "ts": "timestamptz",
    "n": "numeric",
    "j": "jsonb",
    "u": "uuid",
    "y": "bytea",
    "a": "bigint[]",
    "iv": "interval",
    "tm": "time",
    "e": "mood",
}
NAMES = list(COLUMNS)
MOODS = [f"mood {i}" for i in range(20)]
EPOCH = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
Row = list[Any]


def a_row(rng: random.Random) -> Row:
    return [
        rng.randrange(-(2**31), 2**31),
        rng.randrange(-(2**63), 2**63),
        rng.uniform(-1e9, 1e9),
        f"text {rng.random()}",
        EPOCH + dt.timedelta(microseconds=rng.randrange(10**15)),
        Decimal(rng.randrange(10**20)) / 1000,
        json.dumps([rng.random() for _ in range(40)]),
        uuid.UUID(int=rng.getrandbits(128)),
        rng.randbytes(24),
        [rng.randrange(-(2**63), 2**63) for _ in range(4)],
        dt.timedelta(days=rng.randrange(1000), microseconds=rng.randrange(10**10)),
        dt.time(rng.randrange(24), rng.randrange(60), rng.randrange(60), rng.randrange(10**6)),
        rng.choice(MOODS),
    ]


def swap(rows: list[Row], rng: random.Random) -> None:
    """One value changes places with that of another row."""
    column = rng.randrange(len(NAMES))
    first, second = rng.sample(range(ROWS), 2)
    rows[first][column], rows[second][column] = rows[second][column], rows[first][column]


def shuffle(rows: list[Row], rng: random.Random) -> None:
    """All values of a column in another order."""
    column = rng.randrange(len(NAMES))
    values = [row[column] for row in rows]
    rng.shuffle(values)
    for row, value in zip(rows, values, strict=True):
        row[column] = value


def flip(rows: list[Row], rng: random.Random) -> None:
    """One bit of one value."""
    row = rng.choice(rows)
    column = rng.choice(["i", "b", "f", "ts", "u", "y", "a"])
    at = NAMES.index(column)
    value = row[at]
    match column:
        case "i":
            row[at] = struct.unpack("<i", _flipped(struct.pack("<i", value), rng))[0]
        case "b":
            row[at] = struct.unpack("<q", _flipped(struct.pack("<q", value), rng))[0]
        case "f":
            row[at] = struct.unpack("<d", _flipped(struct.pack("<d", value), rng))[0]
        case "ts":
            row[at] = value + dt.timedelta(microseconds=2 ** rng.randrange(40))
        case "u":
            row[at] = uuid.UUID(bytes=_flipped(value.bytes, rng))
        case "y":
            row[at] = _flipped(value, rng)
        case _:
            row[at] = [*value[:-1], struct.unpack("<q", _flipped(struct.pack("<q", value[-1]), rng))[0]]


def _flipped(value: bytes, rng: random.Random) -> bytes:
    number = int.from_bytes(value, "little") ^ (1 << rng.randrange(len(value) * 8))
    return number.to_bytes(len(value), "little")


def fold(rows: list[Row], rng: random.Random) -> None:
    """A change that the server's own hash of eight bytes does not see: the same bits in both halves."""
    row, bits = rng.choice(rows), rng.randrange(1, 2**20)
    row[NAMES.index("b")] = struct.unpack("<q", struct.pack("<Q", (row[1] % 2**64) ^ (bits << 32 | bits)))[0]


def far_apart(rows: list[Row], rng: random.Random) -> None:
    """A change that the server's own hash of jsonb does not see: elements 32 places apart."""
    row, at = rng.choice(rows), NAMES.index("j")
    elements = json.loads(row[at])
    first = rng.randrange(8)
    elements[first], elements[first + 32] = elements[first + 32], elements[first]
    row[at] = json.dumps(elements)


def lose(rows: list[Row], rng: random.Random) -> None:
    rows.pop(rng.randrange(ROWS))


def double(rows: list[Row], rng: random.Random) -> None:
    rows.append(list(rng.choice(rows)))


def empty(rows: list[Row], rng: random.Random) -> None:
    """A value is gone."""
    rng.choice(rows)[rng.randrange(len(NAMES))] = None


CHANGES: list[tuple[Callable[[list[Row], random.Random], None], int]] = [
    (swap, 5000),
    (shuffle, 1500),
    (flip, 2500),
    (fold, 250),
    (far_apart, 250),
    (lose, 200),
    (double, 200),
    (empty, 200),
]


def create(connection: psycopg.Connection[Any], table: str) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    connection.execute(f"CREATE TABLE {table} (trial bigint NOT NULL, {columns})")


def fill(connection: psycopg.Connection[Any], table: str, trials: Sequence[Sequence[Row]]) -> None:
    with connection.cursor().copy(f"COPY {table} (trial, {', '.join(NAMES)}) FROM STDIN") as copy:
        for number, rows in enumerate(trials):
            for row in rows:
                copy.write_row([number, *row])


def side_of(connection: session.Connection, table: str, *, recode: bool = False, whole: bool = True) -> Side:
    relation = catalog.resolve(connection, table, "source", "--table")
    compared = [c for c in relation.columns if c.name != "trial"]
    shown = tuple(sql.Identifier("r", c.name) for c in compared)
    values = tuple(comparable(v, c.of, recode=recode, whole=whole) for v, c in zip(shown, compared, strict=True))
    return Side(Axis(relation, "trial", BIGINT), tuple(c.name for c in compared), values, shown, whole)


@pytest.fixture
def reader(source_db: str) -> Iterator[session.Connection]:
    with session.connect(source_db, "source") as connection:
        yield connection


def trials(count: int) -> list[Span]:
    return [Span(n, n + 1) for n in range(count)]


@pytest.mark.parametrize("whole", [True, False], ids=["records", "text"])
def test_ten_thousand_changes_are_all_seen(source_db: str, reader: session.Connection, whole: bool) -> None:
    rng = random.Random(20261122)
    before: list[list[Row]] = []
    after: list[list[Row]] = []
    names: list[str] = []
    for change, count in CHANGES:
        for _ in range(count):
            rows = [a_row(rng) for _ in range(ROWS)]
            changed = [list(row) for row in rows]
            while sorted(map(repr, changed)) == sorted(map(repr, rows)):
                change(changed, rng)
            before.append(rows)
            rng.shuffle(changed)
            after.append(changed)
            names.append(change.__name__)
    assert len(before) >= 10_000
    with connect(source_db) as writer:
        # The labels in two orders: an enum's own hash is that of its place in the catalog.
        writer.execute(f"CREATE TYPE mood AS ENUM ({', '.join(map(repr, MOODS))})")
        for table, content in (("a", before), ("b", after), ("c", [rows[::-1] for rows in before])):
            create(writer, table)
            fill(writer, table, content)
    spans = trials(len(before))
    first, second, reversed_ = (
        fingerprints(reader, side_of(reader, table, whole=whole), spans, "hash") for table in ("a", "b", "c")
    )
    assert first == reversed_, "the order of rows must not matter"
    unseen = [name for name, one, other in zip(names, first, second, strict=True) if one == other]
    assert unseen == []
    # And all together in one number.
    whole_range = Span(0, len(before))
    assert fingerprint(reader, side_of(reader, "a", whole=whole), whole_range, "hash") == sum(
        first, start=Fingerprint(0, 0)
    )


def test_what_is_equal_by_its_type_is_equal(source_db: str, reader: session.Connection) -> None:
    with connect(source_db) as writer:
        for table, values in (
            ("a", "0::float8, 0::float4, 1.0::numeric, '1 mon'::interval, 'x'::char(5)"),
            ("b", "'-0'::float8, '-0'::float4, 1.00::numeric, '30 days'::interval, 'x   '::char(5)"),
        ):  # fmt: skip
            writer.execute(f"CREATE TABLE {table} AS SELECT 1::bigint AS trial, {values}")
    found = [fingerprint(reader, side_of(reader, table), Span(0, 2), "hash") for table in ("a", "b")]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("bigint", "0", "4294967297"),
        ("timestamptz", "'2000-01-01Z'", "'2000-01-01Z'::timestamptz + interval '4294967297 microseconds'"),
        ("timestamp", "'2000-01-01'", "'2000-01-01'::timestamp + interval '4294967297 microseconds'"),
        ("time", "'00:00'", "'01:11:34.967297'"),
        ("interval", "'0'", "'4294967297 microseconds'"),
        ("interval", "'infinity'", "'-infinity'"),
        ("interval", "'infinity'", "NULL"),
        ("bigint[]", "'{0}'", "'{4294967297}'"),
        ("text", "NULL", "''"),
        ("text", "'a'", "'A'"),
        ("varchar(9)", "'a'", "'a '"),
        ("double precision", "'NaN'", "'Infinity'"),
        ("numeric", "'NaN'", "NULL"),
        ("numeric", "'NaN'", "'Infinity'"),
        ("numeric", "'Infinity'", "'-Infinity'"),
        ("numeric[]", "'{NaN}'", "'{Infinity}'"),
        ("numeric", "0", "NULL"),
        ("double precision", "0", "NULL"),
        ("real", "0", "NULL"),
        ("real[]", "'{0}'", "'{NULL}'"),
        ("bigint", "0", "NULL"),
        ("integer", "0", "NULL"),
        ("smallint", "0", "NULL"),
        ("interval", "'0'", "NULL"),
        ("timestamptz", "'2000-01-01Z'", "NULL"),
        ("date", "'2000-01-01'", "NULL"),
        ("uuid", "'00000000-0000-0000-0000-000000000000'", "NULL"),
        ("bytea", "''", "NULL"),
        ("text[]", "'{}'", "NULL"),
        ("text[]", "'{a,b}'", "'[0:1]={a,b}'"),
        ("integer[]", "'{{1,2},{3,4}}'", "'{1,2,3,4}'"),
        ("bigint[]", "'{{1,2},{3,4}}'", "'{1,2,3,4}'"),
        ("text[]", "'{NULL}'", "'{\"NULL\"}'"),
        ("inet", "'0.0.0.0'", "NULL"),
        ("oid", "0", "NULL"),
        ("jsonb", '\'{"a": null}\'', "'{}'"),
        ("boolean", "false", "NULL"),
        ("bit(3)", "B'101'", "B'100'"),
        ("money", "1.01", "1.02"),
        ("point", "'(1,2)'", "'(2,1)'"),
        ("int4range", "'[1,2)'", "'[1,3)'"),
        ("regclass", "'pg_class'", "'pg_attribute'"),
        ("date", "'infinity'", "'-infinity'"),
    ],
)  # fmt: skip
def test_values_that_are_not_equal_differ(
    source_db: str, reader: session.Connection, kind: str, one: str, other: str
) -> None:
    with connect(source_db) as writer:
        for table, value in (("a", one), ("b", other)):
            writer.execute(f"CREATE TABLE {table} AS SELECT 1::bigint AS trial, ({value})::{kind} AS v")
    for options in ({}, {"recode": True}, {"whole": False}):
        found = [fingerprint(reader, side_of(reader, table, **options), Span(0, 2), "hash") for table in ("a", "b")]
        assert found[0].rows == found[1].rows == 1
        assert found[0].hash != found[1].hash, options


def test_somebody_s_cast_to_text_is_not_asked(source_db: str, reader: session.Connection) -> None:
    with connect(source_db) as writer:
        writer.execute("CREATE TYPE mood AS ENUM ('a', 'b')")
        writer.execute("CREATE FUNCTION said(mood) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'mood'::text $$")
        writer.execute("CREATE CAST (mood AS text) WITH FUNCTION said(mood) AS ASSIGNMENT")
        for table, value in (("a", "'a'"), ("b", "'b'"), ("c", "NULL")):
            writer.execute(f"CREATE TABLE {table} AS SELECT 1::bigint AS trial, {value}::mood AS v")
    for options in ({}, {"recode": True}, {"whole": False}):
        found = {fingerprint(reader, side_of(reader, t, **options), Span(0, 2), "hash") for t in ("a", "b", "c")}
        assert len(found) == 3, options


def test_counting_looks_at_no_value(source_db: str, reader: session.Connection) -> None:
    with connect(source_db) as writer:
        writer.execute("CREATE TABLE a AS SELECT i / 2 AS trial, i AS v FROM generate_series(0::bigint, 9) AS i")
    assert fingerprint(reader, side_of(reader, "a"), Span(0, 5), "count") == Fingerprint(10, None)
    assert fingerprints(reader, side_of(reader, "a"), trials(6), "count") == [
        *[Fingerprint(2, None)] * 5,
        Fingerprint(0, None),
    ]
