"""`hyperfill verify`: types, encodings, names and paths that mean the same on both sides, and those that do not."""

from __future__ import annotations

import time

import pytest

from hyperfill.catalog import quote_name
from tests.fixtures.compared import END, make, verify
from tests.fixtures.pair import Pair, alter_database, connect, open_pair
from tests.fixtures.servers import Servers


@pytest.mark.parametrize(
    ("kind", "value", "interval", "end", "middle"),
    [
        ("bigint", "i * 10", "1000", "2000", "1000"),
        ("integer", "i - 150", "100", "100", "-100"),
        ("smallint", "i", "50", "200", "100"),
        ("date", "'2024-01-01'::date + i", "interval '30 days'", "2024-07-01", "2024-02-01"),
        ("timestamp", "'2024-01-01'::timestamp + interval '1 h' * i", "interval '2 days'", "2024-01-10", "2024-01-05"),
    ],
)  # fmt: skip
def test_other_types_of_time(pair: Pair, kind: str, value: str, interval: str, end: str, middle: str) -> None:
    pair.both(f"CREATE TABLE m (t {kind} NOT NULL, v float8)")
    pair.on_source(f"INSERT INTO m SELECT {value}, i FROM generate_series(0, 299) AS i", "CREATE INDEX ON m (t)")
    pair.on_target(f"SELECT create_hypertable('m', 't', chunk_time_interval => {interval})")
    pair.run("m", "--end", end)
    assert verify(pair, "--end", end)[0] == 0
    pair.on_target(f"UPDATE m SET v = -1 WHERE t = '{middle}'")
    code, found = verify(pair, "--end", end)
    assert code == 5
    [difference] = found["differences"]
    assert difference["rows_different"] == 1
    assert difference["samples"][0]["key"]["t"] == middle + (" 00:00:00" if kind == "timestamp" else "")


def test_columns_of_other_types_on_the_source_are_compared_as_they_are_moved(pair: Pair) -> None:
    pair.on_source(
        "CREATE TABLE m (at timestamptz NOT NULL, n int, f real, s varchar(10), gone text)",
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', i, i / 3.0, 's' || i "
        "FROM generate_series(0, 40) AS i",
        "CREATE INDEX ON m (at)",
    )
    pair.on_target(
        "CREATE TABLE m (s text, f float8, n numeric, t timestamptz NOT NULL, own int DEFAULT 3, "
        "twice numeric GENERATED ALWAYS AS (n * 2) STORED)",
        "SELECT create_hypertable('m', 't')",
    )
    options = (*END, "--source-time-column", "at", "--columns", "t,n,f,s")
    pair.run("m", *options)
    code, found = verify(pair, *options)
    assert code == 0
    assert sorted(found["columns_not_compared"]) == ["own", "twice"]
    pair.on_target("UPDATE m SET f = f + 0.1 WHERE n = 7")
    code, found = verify(pair, *options)
    assert code == 5
    assert found["differences"][0]["samples"][0]["columns"] == ["f"]


def test_servers_with_different_encodings(servers: Servers, pair: Pair, target_db: str) -> None:
    with connect(servers.source.conninfo("postgres")) as admin:
        name = f"latin_{time.monotonic_ns()}"
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        try:
            for latin in open_pair(servers.source.conninfo(name), target_db, pair.hyperfill):
                latin.source.execute("SET client_encoding = 'UTF8'")
                latin.both("CREATE TABLE m (t timestamptz NOT NULL, s text, a text[], c char(6))")
                latin.on_source(
                    "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', 'é' || i, "
                    "ARRAY['ä', NULL], 'ü' FROM generate_series(0, 40) AS i",
                    "CREATE INDEX ON m (t)",
                )
                latin.on_target("SELECT create_hypertable('m', 't')")
                latin.run("m", *END)
                assert verify(latin, *END)[0] == 0
                latin.on_target("UPDATE m SET s = 'è7' WHERE s = 'é7'")
                code, found = verify(latin, *END)
                assert code == 5
                assert found["differences"][0]["samples"][0]["columns"] == ["s"]
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_types_that_hash_by_their_oid(pair: Pair) -> None:
    """Enums have other OIDs in each database: their own hash would always differ."""
    pair.on_target("CREATE TYPE other AS ENUM ('x')")  # so that the OIDs are not the same
    pair.both(
        "CREATE TYPE mood AS ENUM ('sad', 'happy')",
        "CREATE TYPE pair AS (m mood, n int)",
        "CREATE DOMAIN cheerful AS mood",
        "CREATE TABLE m (t timestamptz NOT NULL, e mood, a mood[], d cheerful, c pair, r regclass)",
    )
    pair.on_source(
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', 'sad', '{sad,happy}', 'happy', "
        "'(sad,1)', 'pg_class' FROM generate_series(0, 40) AS i",
        "CREATE INDEX ON m (t)",
    )
    pair.on_target("SELECT create_hypertable('m', 't')")
    pair.run("m", *END)
    for change in ("e = 'happy'", "a = '{happy,sad}'", "d = 'sad'", "c = '(happy,1)'", "r = 'pg_proc'"):
        pair.on_target(f"UPDATE m SET {change} WHERE t = '2024-01-01 08:00Z'")
        code, found = verify(pair, *END)
        assert code == 5, change
        assert found["differences"][0]["samples"][0]["columns"][-1] == change[0]


@pytest.mark.parametrize("side", ["source", "target"])
def test_names_of_objects_do_not_depend_on_anybody_s_path(pair: Pair, side: str) -> None:
    """A regclass is printed without its schema where that is on the path, and would be read as another one."""
    pair.both(
        "CREATE SCHEMA a",
        "CREATE TABLE a.foo (i int)",
        "CREATE TABLE public.foo (i int)",
        "CREATE TYPE within AS (c regclass)",
        "CREATE TABLE m (t timestamptz NOT NULL, c regclass, l regclass[], r within)",
    )
    alter_database(pair.source if side == "source" else pair.target, {"search_path": "a, public"})
    pair.on_source(
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', 'a.foo', '{a.foo,public.foo}', "
        "'(public.foo)' FROM generate_series(0, 40) AS i",
        "CREATE INDEX ON m (t)",
    )
    pair.on_target("SELECT create_hypertable('m', 't')")
    pair.run("m", *END)
    pair.on_target("SET search_path = pg_catalog")
    found = pair.query(pair.target, "SELECT DISTINCT c::text, l::text, r::text FROM public.m")
    assert found == [("a.foo", "{a.foo,public.foo}", "(public.foo)")]
    assert verify(pair, *END)[0] == 0
    pair.on_target("UPDATE public.m SET c = 'public.foo' WHERE t = '2024-01-01 08:00Z'")
    assert verify(pair, *END)[0] == 5


def test_hostile_names_and_values(pair: Pair) -> None:
    table, time, value = quote_name('we%ird {t} "q"'), quote_name("ti%me"), quote_name("va{}l%s")
    pair.both(f"CREATE TABLE {table} ({time} timestamptz NOT NULL, {value} text, PRIMARY KEY ({time}))")
    pair.on_source(
        f"INSERT INTO {table} SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', "
        "E'%s {0} \\\\ \\n '' \" ' || i FROM generate_series(0, 40) AS i"
    )
    pair.on_target(f"SELECT create_hypertable('{table}', 'ti%me')")
    pair.run(table, *END)
    assert verify(pair, *END, table=table)[0] == 0
    pair.on_target(f"UPDATE {table} SET {value} = '%(x)s' WHERE {time} = '2024-01-01 08:00Z'")
    code, found = verify(pair, *END, table=table)
    assert code == 5
    [sample] = found["differences"][0]["samples"]
    assert sample["target"]["va{}l%s"] == "%(x)s"


def test_rows_at_minus_infinity(pair: Pair) -> None:
    make(pair)
    pair.on_source("INSERT INTO m VALUES ('-infinity', 1, 1)")
    pair.run("m", *END, "--skip-unstorable")
    assert verify(pair, *END, "--skip-unstorable")[0] == 0
    code, found = verify(pair, *END)
    assert code == 5
    [difference] = found["differences"]
    assert (difference["rows_missing"], difference["samples"][0]["key"]["t"]) == (1, "-infinity")
