"""Generated bounds, names and options on real servers: what is accepted means what the server means by it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import sql

from hyperfill import catalog, session
from hyperfill.errors import HyperfillError
from hyperfill.preflight import read_bound
from hyperfill.session import Connection
from hyperfill.timeline import TIME_TYPES, Kind, TimeType
from tests.fixtures.fuzzing import arguments, fuzz, odd, texts
from tests.fixtures.inprocess import call
from tests.fixtures.pair import Pair

# --- bounds -----------------------------------------------------------------------------------------------------------

_ZONES = (
    "Z|Z|z| UTC|+00|+02|-02| +05:30|-15:59:59|+16|+0230| Europe/Berlin| CET| IST| America/Port-au-Prince| Etc/GMT+3"
)
_ZONES += "| Europe/Berln| Europe/Berln+3|+24| EST5EDT|| "
_FRACTIONS = ["", ".", ".5", ".123456", ".1234567", ".9999999", ".000000000", ".1234560000"]
_years = st.sampled_from(["0000", "0001", "1582", "1883", "1900", "1970", "2023", "9999", "10000", "294276"])
_years |= st.sampled_from(["4713", "4714", "5874897", "5874898"]) | st.integers(0, 9999).map(lambda y: f"{y:04}")


@st.composite
def moments(draw: st.DrawFn, kind: Kind) -> str:
    """Moments that are, nearly are, or are not."""
    two = st.integers(1, 12).map(lambda n: f"{n:02}")
    text = f"{draw(_years)}-{draw(two)}-{draw(two | st.sampled_from(['00', '28', '29', '30', '31', '32']))}"
    if draw(st.integers(0, 9)) > (8 if kind is Kind.DATE else 1):
        hour, minute = draw(two | st.sampled_from(["00", "23", "24"])), draw(two | st.sampled_from(["00", "59", "60"]))
        text += f"{draw(st.sampled_from(['T', ' ', 't', '  ']))}{hour}:{minute}"
        if draw(st.booleans()):
            text += f":{draw(two | st.sampled_from(['59', '60']))}{draw(st.sampled_from(_FRACTIONS))}"
    if draw(st.integers(0, 9)) > (0 if kind in (Kind.INSTANT, Kind.UUID) else 8):
        text += draw(st.sampled_from(_ZONES.split("|")))
    text += draw(st.sampled_from(["", "", "", " BC", " bc", " AD"]))
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(odd) + text[at:]
    return draw(st.sampled_from(["", "", " ", "\n"])) + text


_ends = st.sampled_from([2**bits - below for bits in (15, 31, 63) for below in (0, 1)])
_numbers = st.builds("{}{}".format, st.sampled_from(["", "+", "-", "0", "-00"]), st.integers(0, 2**65) | _ends)
_uuids = st.uuids().map(str).flatmap(lambda u: st.sampled_from([u, u[:14] + "7" + u[15:19] + "b" + u[20:], u.upper()]))


@st.composite
def bounds(draw: st.DrawFn) -> tuple[TimeType, str]:
    time_type = draw(st.sampled_from(list(TIME_TYPES.values())))
    kind = time_type.kind
    meant = _numbers | st.integers(0, 40_000).map(str) if kind is Kind.INTEGER else moments(kind)
    return time_type, draw(draw(st.sampled_from([meant] * 6 + [_uuids if kind is Kind.UUID else texts])))


@pytest.fixture
def server(pair: Pair) -> Iterator[Connection]:
    with session.connect(pair.target_conninfo, "target") as connection:
        yield connection


@fuzz(400)
@given(bounds())
@example((TIME_TYPES["bigint"], "0" * 5000 + "7"))
@example((TIME_TYPES["bigint"], "+" + "0" * 5000))
@example((TIME_TYPES["timestamp with time zone"], "infinity"))
@example((TIME_TYPES["date"], "now\0"))
def test_a_bound_is_what_the_server_reads_or_refused(server: Connection, bound: tuple[TimeType, str]) -> None:
    time_type, text = bound
    try:
        found = read_bound(server, time_type, text, "--end")
    except HyperfillError as refused:
        assert refused.exit_code == 3
        assert str(refused).startswith("--end: ")
        return
    assert time_type.minimum <= found <= time_type.maximum
    if time_type.kind is Kind.UUID and len(text.strip()) != 36:
        row = server.execute("SELECT extract(epoch FROM %s::timestamptz) * 1000", [text.strip()]).fetchone()
        assert row is not None and row[0] == found >> 74
        assert found & ((1 << 74) - 1) == 0
        return
    statement = sql.SQL("SELECT (%s::{})::text").format(sql.SQL(time_type.sql_name))
    row = server.execute(statement, [text.strip()]).fetchone()
    assert row is not None and row[0] == time_type.text(found)


# --- names ------------------------------------------------------------------------------------------------------------

_LETTERS = st.sampled_from("abzAZ09_$ \".,;'\\%{}-\t\n\x7f\u00e9\u00df\u0130\u212a\u017f\u4e16\U0001f600\u202e")
names = st.text(_LETTERS | st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
names |= st.sampled_from(
    ["select", "table", "public", "user", "a" * 63, "\u00e9" * 31, "a" * 62 + '"', "%s", "NULL", "M", "m"]
)
names = names.filter(lambda name: len(name.encode()) < 64)


@fuzz(50)
@given(st.lists(names, min_size=1, max_size=3, unique=True), names, texts | arguments)
def test_a_name_is_that_relation_or_refused(
    server: session.Connection, tables: list[str], schema: str, text: str
) -> None:
    """Quoted and read again it is the same relation; any other text is what the server itself would take it for."""
    if schema.startswith("pg_"):
        return
    with server.transaction(force_rollback=True):
        server.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        for table in tables:
            server.execute(sql.SQL("CREATE TABLE {} ()").format(sql.Identifier(schema, table)))
        for table in tables:
            spelt = f"{catalog.quote_name(schema)}.{catalog.quote_name(table)}"
            found = catalog.resolve(server, spelt, "target", "--table")
            assert (found.schema, found.name, found.quoted) == (schema, table, spelt)
            assert catalog.parse_columns(server, f"{catalog.quote_name(table)},a") == [table, "a"]
        # With something cut off, put in, or in another case it is another name, or none.
        for wrong in (
            text,
            spelt[:-1],
            spelt + "x",
            spelt.upper(),
            f"{spelt}.{spelt}",
            catalog.quote_name(table) + text,
        ):
            try:
                with server.transaction():
                    found = catalog.resolve(server, wrong, "target", "--table")
            except (HyperfillError, psycopg.DataError, UnicodeEncodeError):
                continue
            row = server.execute("SELECT parse_ident(%s)", [wrong]).fetchone()
            assert row is not None
            read = row[0]
            assert isinstance(read, list) and read[-1] == found.name
            assert len(read) == 1 or read[-2] == found.schema


def test_tables_of_generated_names_are_moved_and_no_others(pair: Pair) -> None:
    """Each has neighbours whose names differ in case, by a letter at the end, or by what quotes would leave out."""
    dice = random.Random(20)
    letters = "abXY09_$ \".;'\\%{}-\t\n\u00e9\u4e16\U0001f600"
    for size in (4, 15):
        name = "".join(dice.choice(letters) for _ in range(size))
        near = {name.lower(), name.upper(), name[:-1], name + "x", name.replace('"', ""), name.strip()} - {name, ""}
        for other in (name, *sorted(near)):
            table = sql.Identifier(other).as_string()
            create = f"CREATE TABLE {table} (t bigint NOT NULL, n text)"
            pair.both(create)
            pair.on_source(
                f"CREATE INDEX ON {table} (t)", f"INSERT INTO {table} SELECT i, 'new' FROM generate_series(0, 99) i"
            )
            literal = sql.Literal(f"public.{table}").as_string()
            pair.on_target(
                f"SELECT create_hypertable({literal}::regclass, 't', chunk_time_interval => 50)",
                f"INSERT INTO {table} SELECT i, 'old' FROM generate_series(0, 99) i",
            )
        mine = sql.Identifier(name).as_string()
        before = {other: pair.physical(sql.Identifier(other).as_string(), "true") for other in near}
        report = pair.run(f"public.{mine}", "--start", "10", "--end", "60")
        assert (report["rows_deleted"], report["rows_copied"]) == (50, 50)
        assert before == {other: pair.physical(sql.Identifier(other).as_string(), "true") for other in near}
        rows = pair.query(
            pair.target, f"SELECT n, count(*), min(t), max(t) FROM {mine} WHERE t < 60 GROUP BY n ORDER BY n"
        )
        assert rows == [("new", 50, 10, 59), ("old", 10, 0, 9)]


def test_limits_as_large_as_can_be_written(pair: Pair) -> None:
    """No clock, no socket and no rate of this machine holds them."""
    pair.both("CREATE TABLE m (t bigint NOT NULL)")
    pair.on_source("INSERT INTO m SELECT generate_series(0, 99)")
    pair.on_target("SELECT create_hypertable('m', 't', chunk_time_interval => 50)")
    for_ever = "999999999999999999 weeks"
    options = [f"{name}={for_ever}" for name in ("--max-duration", "--stall-timeout", "--retry-for")]
    options += [
        "--max-rate=999999999999999999TB",
        "--max-window-rows=99999999999999999999",
        "--window=9223372036854775807",
    ]
    report = pair.run("m", "--end", "100", *options, jobs=2)
    assert report["rows_copied"] == 100


# --- options ----------------------------------------------------------------------------------------------------------

_GOOD = {
    "--table": ["m", "public.m", "v"],
    "--hypertable": ["m", "public.m"],
    "--start": ["2024-01-02Z", "-infinity", "4714-11-24 00:00Z BC"],
    "--end": ["2024-01-04Z", "2024-01-01Z", "294276-12-31T23:59:59.999999Z"],
    "--window": ["1 us", "1 day", "106751991 days"],
    "--max-window-rows": ["1", "99999999999999999999"],
    "--columns": ["time,id", "id", 'time,"id"'],
    "--where": [
        "id > 0",
        "true",
        "id > 0) OR (true",
        "1/0 = 1",
        "id > 0; DROP TABLE m",
        "id > 0 --",
        "id = $1",
        "id = %s",
    ],
    "--time-column": ["time", "id"],
    "--source-time-column": ["time", "id"],
    "--hold": ["none", "compression,retention"],
    "--order": ["newest"],
    "--triggers": ["off"],
    "--max-rate": ["1B", "999999999999999999TB"],
    "--max-duration": ["1us", "999999999999999999 weeks"],
    "--stall-timeout": ["0", "1us", "999999999999999999 weeks"],
    "--retry-for": ["1us", "999999999999999999 weeks"],
    "--jobs": ["1", "256"],
}
_SINCE = {
    "--since": ["2024-01-02Z"],
    "--bucket": ["1 hour", "1us"],
    "--lateness": ["1 hour", "999999999999999999 weeks"],
}
_SINGLE = ("--table", "--hypertable", "--columns", "--where", "--source-time-column")


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    command = draw(st.sampled_from(["plan", "plan", "plan", "suggest-end"]))
    known = {k: v for k, v in _GOOD.items() if command != "suggest-end" or k in _SINGLE} | (
        _SINCE if command == "suggest-end" else {}
    )
    wrong = set(draw(st.lists(st.sampled_from(sorted(known)), max_size=2)))
    chosen = {"--table", *(["--since"] if command == "suggest-end" else ["--end"]), *wrong}
    chosen |= set(draw(st.lists(st.sampled_from(sorted(known)), max_size=3)))
    said = [command]
    for name in sorted(chosen):
        value = draw(arguments | odd if name in wrong else st.sampled_from(known[name]))
        said.append(f"{name}={value}")
    return said


@fuzz(60)
@given(commands())
def test_any_options_on_real_servers(pair: Pair, tmp_path: Path, words: list[str]) -> None:
    if not pair.query(pair.source, "SELECT 1 FROM pg_class WHERE relname = 'v'"):
        pair.both("CREATE TABLE m (time timestamptz NOT NULL, id int NOT NULL)")
        pair.on_source(
            "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 h', i FROM generate_series(0, 99) i"
        )
        pair.on_source("CREATE INDEX ON m (time)", "CREATE VIEW v AS SELECT * FROM m", "ANALYZE m")
        pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")
    options = ["--source", pair.source_conninfo, "--target", pair.target_conninfo]
    said = call([*words, *options, "--json"], tmp_path)
    assert said.code in (0, 2, 3), said
    assert "Traceback" not in said.err and "defect" not in said.err
    assert isinstance(json.loads(said.out), dict)
    assert pair.query(pair.source, "SELECT count(*) FROM m") == [(100,)]
    assert pair.query(pair.target, "SELECT count(*) FROM m") == [(0,)]
    assert not pair.query(pair.target, "SELECT 1 FROM pg_namespace WHERE nspname = 'hyperfill'")
