"""Whatever the hypertable looks like: the same rows and answers, compressed."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg import sql

from tests.fixtures.landing import (
    COLUMNS,
    END,
    ORDERED,
    ROWS,
    SEGMENTBY,
    assert_landed,
    columnstore,
    hypertable,
    make,
    policy,
    reasons,
    run_all,
    statuses,
    ways,
)
from tests.fixtures.pair import Pair

pytestmark = pytest.mark.community

BELOW = f"time < '{END}'"


def landed(pair: Pair, way: str, *options: str, chunks: int = 6, jobs: int = 2) -> set[str]:
    """Plan and run; every chunk ends in this way, compressed and in order. The plan's reasons."""
    plan = pair.plan("m", "--end", END, *options)
    assert ways(plan) == [way] * chunks, plan["landing"]
    report = pair.run("m", "--end", END, *options, jobs=jobs)
    assert report["landed"] == {"written": 0, "afterwards": 0, "left": 0} | {way: chunks}
    assert statuses(pair) == [ORDERED] * chunks
    return reasons(plan)


ORDERS = {
    "o1": ("device", "time"),
    "o2": ("device", "time ASC NULLS FIRST"),
    "o3": ("device", "time DESC NULLS LAST, value ASC NULLS FIRST"),
    "o4": ("", "time DESC"),
    "o5": ("", "device NULLS FIRST, time"),
    "o6": ("device", "value DESC NULLS LAST, time"),
    "o7": ("device", "value NULLS FIRST, time DESC"),
    "o8": ("note", "device DESC, time"),
    "o9": ("note, device", "time DESC"),
    "default": ("device", None),
}


def test_orders(policy_pair: Pair, tmp_path: Path) -> None:
    """Directions, NULLs, and orders that do not begin with the time, of a source that lies in another order."""
    pair = policy_pair
    pair.on_source(f"CREATE TABLE m ({COLUMNS})", f"INSERT INTO m {ROWS}", "CREATE INDEX ON m (time)", "ANALYZE m")
    for name, (segmentby, orderby) in ORDERS.items():
        settings = SEGMENTBY.format(segmentby, orderby) if orderby else SEGMENTBY.partition(",")[0].format(segmentby)
        hypertable(pair, f'"{name}"', settings)
    for name, (plan, report) in run_all(pair, tmp_path, {f'"{name}"': "m" for name in ORDERS}).items():
        assert ways(plan) == ["written"] * 6, (name, plan["landing"])
        assert report["landed"] == {"written": 6, "afterwards": 0, "left": 0}, name
        assert statuses(pair, name.strip('"')) == [ORDERED] * 6, name
        assert_landed(pair, name, where=BELOW, origin="m")


KEYS = {
    "a unique key": ("CREATE UNIQUE INDEX ON {} (time)",),
    "triggers or foreign keys": (
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER t AFTER INSERT ON {} FOR EACH ROW EXECUTE FUNCTION nothing()",
    ),
    "foreign keys": (
        "CREATE TABLE devices (id int PRIMARY KEY)",
        "INSERT INTO devices SELECT generate_series(0, 6)",
        "ALTER TABLE {} ADD FOREIGN KEY (device) REFERENCES devices",
    ),
    "segmentby is left": (
        "INSERT INTO {} VALUES ('2024-01-08Z', 1, 1, 'x')",
        "ANALYZE {}",
        "SELECT drop_chunks('{}', '2030-01-01Z'::timestamptz)",
    ),
}


def test_what_is_compressed_when_it_is_filled(policy_pair: Pair, tmp_path: Path) -> None:
    pair = policy_pair
    pair.on_source(f"CREATE TABLE m ({COLUMNS})", f"INSERT INTO m {ROWS}", "CREATE INDEX ON m (time)", "ANALYZE m")
    expected = {}
    for number, (why, statements) in enumerate(KEYS.items()):
        expected[f"m{number}"] = why
        settings = "timescaledb.compress_orderby = 'time'" if why == "segmentby is left" else ""
        hypertable(pair, f"m{number}", settings)
        pair.on_target(*(statement.format(f"m{number}") for statement in statements))
    for name, (plan, report) in run_all(pair, tmp_path, dict.fromkeys(expected, "m")).items():
        assert ways(plan) == ["afterwards"] * 6 and expected[name] in str(reasons(plan)), plan["landing"]
        assert report["landed"] == {"written": 0, "afterwards": 6, "left": 0}
        assert statuses(pair, name) == [ORDERED] * 6
        assert_landed(pair, name, where=BELOW, origin="m")
        pair.on_target(f"DROP TABLE {name}")


def test_windows_that_cut_chunks(policy_pair: Pair) -> None:
    make(policy_pair)
    found = landed(policy_pair, "afterwards", "--max-window-rows", "500", jobs=3)
    assert found == {"it is not filled by one window of its own"}
    assert_landed(policy_pair, where=BELOW)


def test_triggers_off(policy_pair: Pair) -> None:
    """None fires, and the chunks end compressed all the same."""
    pair = policy_pair
    pair.on_target(
        "CREATE TABLE seen (n int)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO seen VALUES (1); RETURN NULL; END'",
    )
    make(pair, on_target=("CREATE TRIGGER t AFTER INSERT ON m FOR EACH ROW EXECUTE FUNCTION note()",))
    landed(pair, "afterwards", "--triggers", "off")
    assert pair.query(pair.target, "SELECT count(*) FROM seen") == [(0,)]
    assert_landed(pair, where=BELOW)


def test_columns_of_every_kind(policy_pair: Pair) -> None:
    """Generated, identity, default, dropped and added ones, and another order of them on the target."""
    pair = policy_pair
    pair.both("CREATE SEQUENCE numbers")
    pair.on_source(
        "CREATE TABLE m (time timestamptz NOT NULL, device int, value float8, twice float8, id bigint, note text)",
        f"INSERT INTO m SELECT r.t, r.d, r.v, 2 * r.v, row_number() OVER (), r.n FROM ({ROWS}) AS r (t, d, v, n)",
        "CREATE INDEX ON m (time)",
        "ANALYZE m",
    )
    pair.on_target(
        "CREATE TABLE m (gone int, note text, id bigint GENERATED ALWAYS AS IDENTITY, device int,"
        " time timestamptz NOT NULL, made text DEFAULT 'here')",
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        "ALTER TABLE m DROP COLUMN gone, ADD COLUMN value float8, ADD COLUMN late int DEFAULT 7,"
        " ADD COLUMN twice float8 GENERATED ALWAYS AS (2 * value) STORED",
    )
    columnstore(pair)
    policy(pair)
    landed(pair, "written", "--columns", "time,device,value,id,note")
    pair.same("m", "time, device, value, twice, id, note", BELOW)
    assert pair.query(pair.target, "SELECT DISTINCT made, late FROM m") == [("here", 7)]


def test_violations_are_refused_as_in_plain_chunks(policy_pair: Pair) -> None:
    """Of a CHECK, and of NOT NULL: none of the rows arrives, and the exit code is the same."""
    pair = policy_pair
    make(pair)
    ends = []
    for constraint in ("ADD CONSTRAINT c CHECK (value <> 2)", "DROP CONSTRAINT c, ALTER note SET NOT NULL"):
        pair.on_target(f"ALTER TABLE m {constraint}")
        for land in ("auto", "plain"):
            code, report, errors = pair.command("run", "m", "--end", END, "--land", land)
            failed = sorted((one["window"], one["sqlstate"]) for one in report.get("failed_windows", []))
            ends.append((code, report["state"], failed))
            assert pair.query(pair.target, "SELECT count(*) FROM m") == [(0,)], errors
            pair.on_target("DROP SCHEMA IF EXISTS hyperfill CASCADE")
    assert ends[0] == ends[1] and ends[2] == ends[3]
    assert ends[0][0] == 4 and len(ends[0][2]) == 6


def test_space_partitions(policy_pair: Pair) -> None:
    pair = policy_pair
    pair.both(f"CREATE TABLE m ({COLUMNS})")
    pair.on_source(f"INSERT INTO m {ROWS}", "CREATE INDEX ON m (time)", "ANALYZE m")
    pair.on_target(
        "SELECT create_hypertable('m', 'time', 'device', 3, chunk_time_interval => interval '1 day')",
    )
    columnstore(pair)
    policy(pair)
    assert ways(pair.plan("m", "--end", END)) == ["written"] * 6
    report = pair.run("m", "--end", END, jobs=2)
    assert report["landed"]["left"] == 0
    found = statuses(pair)
    assert len(found) >= 12 and set(found) == {ORDERED}, found
    assert_landed(pair, where=BELOW)


@pytest.mark.parametrize("time_type", ["bigint", "smallint", "timestamp", "date"])
def test_time_types(policy_pair: Pair, time_type: str) -> None:
    pair = policy_pair
    integer = time_type.endswith("int")
    pair.both(f"CREATE TABLE m (time {time_type} NOT NULL, device int, value float8)")
    at = "i / 3 - 900" if integer else f"('2024-01-01'::timestamp + i * interval '1 hour')::{time_type}"
    pair.on_source(
        f"INSERT INTO m SELECT {at}, i % 5, i / 7.0 FROM generate_series(0, 5399) AS i", "CREATE INDEX ON m (time)"
    )
    interval = "600" if integer else "interval '30 days'"
    pair.on_target(f"SELECT create_hypertable('m', 'time', chunk_time_interval => {interval})")
    columnstore(pair)
    if integer:
        pair.on_target(
            f"CREATE FUNCTION clock() RETURNS {time_type} LANGUAGE sql STABLE AS 'SELECT 700::{time_type}'",
            "SELECT set_integer_now_func('m', 'clock')",
            f"SELECT add_compression_policy('m', 50::{time_type}, initial_start => '2099-01-01Z'::timestamptz)",
        )
    else:
        policy(pair, "2024-06-20Z")
    end = "700" if integer else "2024-07-01"
    options = ("--end", end) if not integer else ("--start=-1200", "--end", end)
    plan = pair.plan("m", *options)
    report = pair.run("m", *options, jobs=2)
    expected = [ORDERED if way == "written" else 0 for way in ways(plan)]
    assert expected.count(ORDERED) >= 2 and expected[-1] == 0
    assert report["landed"] == {"written": expected.count(ORDERED), "afterwards": 0, "left": 0}
    assert statuses(pair) == expected
    assert_landed(pair, where=f"time < '{end}'")


def test_uuid_v7(policy_pair: Pair) -> None:
    pair = policy_pair
    made = "SELECT to_regprocedure('public.to_uuidv7_boundary(timestamptz)') IS NOT NULL"
    if pair.query(pair.target, made) != [(True,)]:
        pytest.skip("this version has no uuid v7")
    pair.both("CREATE TABLE m (time uuid NOT NULL, device int, value float8)")
    at = "lpad(to_hex(((extract(epoch FROM '2024-01-01Z'::timestamptz) + i * 60) * 1000)::bigint), 12, '0')"
    pair.on_source(
        f"INSERT INTO m SELECT ({at} || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid,"
        " i % 5, i / 7.0 FROM generate_series(0, 8699) AS i",
        "CREATE INDEX ON m (time)",
        "ANALYZE m",
    )
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")
    columnstore(pair)
    policy(pair)
    report = pair.run("m", "--end", END, jobs=2)
    assert report["landed"] == {"written": 6, "afterwards": 0, "left": 0}
    assert [bits for bits in statuses(pair) if bits] == [ORDERED] * 6
    for connection in (pair.source, pair.target):  # no min(uuid) before 18
        connection.execute("CREATE VIEW shown AS SELECT time::text AS time, device, value FROM m")
    below = f"time < '{report_boundary(pair)}'"
    assert_landed(pair, "shown", where=below)


def report_boundary(pair: Pair) -> str:
    """The first uuid at the end of the range."""
    return str(pair.query(pair.target, f"SELECT to_uuidv7_boundary('{END}')")[0][0])


ODD = '"We,ird ""x"'


def test_names_that_need_quotes(policy_pair: Pair) -> None:
    pair = policy_pair
    schema, table, time, value = '"S ""1"', '"T.2 %s {}"', '"ti;me"', '"va,l DESC"'
    pair.both(
        f"CREATE SCHEMA {schema}",
        f"CREATE TABLE {schema}.{table} ({time} timestamptz NOT NULL, {ODD} int, {value} float8)",
    )
    relation = f"{schema}.{table}"
    pair.on_source(
        f"INSERT INTO {relation} SELECT r.t, r.d, r.v FROM ({ROWS}) AS r (t, d, v, n)",
        f"CREATE INDEX ON {relation} ({time})",
    )
    quoted = sql.Literal(f"{ODD}").as_string(), sql.Literal(f"{time} DESC, {value}").as_string()
    pair.on_target(
        f"SELECT create_hypertable({sql.Literal(relation).as_string()}, {sql.Literal('ti;me').as_string()},"
        " chunk_time_interval => interval '1 day')"
    )
    columnstore(
        pair, f"timescaledb.compress_segmentby = {quoted[0]}, timescaledb.compress_orderby = {quoted[1]}", relation
    )
    report = pair.run(relation, "--end", END, "--land", "compressed", "--time-column", "ti;me", jobs=2)
    assert report["landed"] == {"written": 6, "afterwards": 0, "left": 0}
    assert statuses(pair, "T.2 %s {}") == [ORDERED] * 6
    assert_landed(pair, relation, time=time, device=ODD, value=value, where=f"{time} < '{END}'")


def test_a_source_that_is_compressed_itself(policy_pair: Pair) -> None:
    """Both on one server: its batches are read in their own order."""
    pair = policy_pair
    make(pair)
    pair.on_target(
        f"CREATE TABLE far ({COLUMNS})",
        "SELECT create_hypertable('far', 'time', chunk_time_interval => interval '12 hours')",
        f"INSERT INTO far {ROWS}",
    )
    columnstore(pair, relation="far")
    pair.on_target("SELECT compress_chunk(c) FROM show_chunks('far') AS c", "ANALYZE far")
    pair.source_conninfo = pair.target_conninfo
    report = pair.run("far", "--end", END, "--hypertable", "m", jobs=2)
    assert report["landed"] == {"written": 6, "afterwards": 0, "left": 0}
    assert statuses(pair) == [ORDERED] * 6
    assert_landed(pair, where=BELOW)
