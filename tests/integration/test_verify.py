"""`hyperfill verify`: whatever differs is found and named; nothing is written; what was not compared is said."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from hyperfill.catalog import quote_name
from hyperfill.sandbox import Server
from tests.fixtures.compared import BELOW, COLUMNS, END, bounds, make, moved, role_that_reads, verify
from tests.fixtures.pair import Pair, alter_database, connect, open_pair
from tests.fixtures.servers import Servers

SECOND = ("2024-01-01 06:00:00+00", "2024-01-01 12:00:00+00")
PLACE = "t = '2024-01-01 08:00Z' AND dev = 2"


def test_equal_sides(pair: Pair) -> None:
    moved(pair)
    before = pair.physical("m", "true")
    code, found = verify(pair, *END)
    assert code == 0
    assert found["state"] == "done"
    assert found["differences"] == []
    assert found["windows"]["compared"] == found["windows"]["total"] == found["windows"]["equal"]
    assert found["rows_source"] == found["rows_target"] == 288 * 3
    assert found["columns"] == ["t", "dev", "v", "note", "big", "doc"]
    assert pair.physical("m", "true") == before


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (f"UPDATE m SET v = v + 1e-9 WHERE {PLACE}", "different"),
        (f"UPDATE m SET note = NULL WHERE {PLACE}", "different"),
        (f"UPDATE m SET big = big # 4294967297 WHERE {PLACE}", "different"),
        (f'UPDATE m SET doc = \'{{"i": "48"}}\' WHERE {PLACE}', "different"),
        (f"DELETE FROM m WHERE {PLACE}", "missing"),
        (f"INSERT INTO m SELECT t + interval '1 second', dev, v FROM m WHERE {PLACE}", "extra"),
    ],
)
def test_a_change_of_one_row_is_found(pair: Pair, change: str, what: str) -> None:
    moved(pair)
    pair.on_target(change)
    code, found = verify(pair, *END)
    assert code == 5
    assert found["state"] == "mismatch"
    assert bounds(found) == [SECOND]
    [difference] = found["differences"]
    counts = {w: difference[f"rows_{w}"] for w in ("missing", "extra", "different")}
    assert counts == {"missing": 0, "extra": 0, "different": 0, what: 1}
    assert difference["exact"] is True
    [bucket] = difference["buckets"]
    assert SECOND[0] <= bucket["lower"] <= "2024-01-01 08:00:01+00" < bucket["upper"] <= SECOND[1]
    [sample] = difference["samples"]
    assert sample["what"] == what
    assert sample["key"]["dev"] == "2"
    assert sample["key"]["t"].startswith("2024-01-01 08:00:0")
    if what == "different":
        assert len(sample["columns"]) == 1
        [column] = sample["columns"]
        assert sample["source"][column] != sample["target"][column]


def test_values_swapped_between_two_rows_are_found(pair: Pair) -> None:
    moved(pair)
    pair.on_target(
        "UPDATE m SET v = o.v FROM m AS o WHERE m.dev + o.dev = 3 AND m.dev <> o.dev "
        "AND m.t = '2024-01-01 08:00Z' AND o.t = m.t"
    )
    assert verify(pair, *END, "--mode", "count")[0] == 0
    code, found = verify(pair, *END)
    assert code == 5
    assert bounds(found) == [SECOND]
    assert found["differences"][0]["rows_different"] == 2


def test_stray_rows_of_the_target_are_seen_wherever_they_are(pair: Pair) -> None:
    moved(pair)
    pair.on_target("INSERT INTO m VALUES ('1999-06-01Z', 1, 1)")
    code, found = verify(pair, *END)
    assert code == 5
    assert found["rows_target"] == found["rows_source"] + 1
    [difference] = found["differences"]
    assert difference["lower"] == "-infinity"
    [sample] = difference["samples"]
    assert (sample["what"], sample["key"]) == ("extra", {"t": "1999-06-01 00:00:00+00", "dev": "1"})
    # Without the ledger as well: windows are planned then.
    pair.on_target("DROP SCHEMA hyperfill CASCADE")
    assert verify(pair, *END)[0] == 5


def test_rows_from_the_end_on_are_not_compared(pair: Pair) -> None:
    moved(pair)
    pair.on_target("INSERT INTO m VALUES ('2024-01-03Z', 77, 1)")
    pair.on_source("DELETE FROM m WHERE t >= '2024-01-03Z'")
    assert verify(pair, *END)[0] == 0
    # And the row before it is.
    pair.on_target("INSERT INTO m VALUES ('2024-01-02 23:59:59.999999Z', 77, 1)")
    assert verify(pair, *END)[0] == 5


def test_the_table_for_people(pair: Pair) -> None:
    moved(pair)
    pair.on_target(f"UPDATE m SET v = 0.5 WHERE {PLACE}", "ALTER TABLE m ADD own int")
    done = pair.hyperfill(
        "verify", "--source", pair.source_conninfo, "--target", pair.target_conninfo, "--table", "m", *END
    )
    assert done.returncode == 5
    assert "DIFFERENT" in done.stdout
    assert "[2024-01-01 06:00:00+00, 2024-01-01 12:00:00+00) differs" in done.stdout
    assert "v: '48.2' → '0.5'" in done.stdout
    assert "NOT compared: columns that are not moved: own" in done.stdout
    # The cost is said before.
    assert "rows of the source with about" in done.stderr


def test_many_differing_windows_are_all_listed(pair: Pair) -> None:
    make(pair, interval="30 minutes")
    pair.run("m", *END)
    pair.on_target("UPDATE m SET v = v + 1")
    code, found = verify(pair, *END)
    assert code == 5
    assert len(found["differences"]) == found["windows"]["different"] == 96
    assert sum(d["examined"] for d in found["differences"]) == 20
    assert all(d["rows_different"] == 9 for d in found["differences"] if d["examined"])


def test_without_a_key_rows_are_told_apart_by_their_time(pair: Pair) -> None:
    moved(pair, key=False)
    pair.on_target(
        f"UPDATE m SET v = 0 WHERE {PLACE}",
        "UPDATE m SET v = 0 WHERE t = '2024-01-01 09:00Z'",
        f"INSERT INTO m SELECT * FROM m WHERE {PLACE.replace('dev = 2', 'dev = 1')}",
    )
    code, found = verify(pair, *END)
    assert code == 5
    [difference] = found["differences"]
    # Three rows of one moment changed, and nobody can say which was which; a row that is there twice is one too many.
    assert (difference["rows_missing"], difference["rows_extra"], difference["rows_different"]) == (4, 5, 0)


def test_a_moment_with_rows_of_one_key_on_either_side(pair: Pair) -> None:
    make(pair, key=False)
    pair.on_source("DELETE FROM m WHERE dev > 1")
    pair.run("m", *END)
    pair.on_target("UPDATE m SET note = 'other' WHERE t = '2024-01-01 08:00Z'")
    [difference] = verify(pair, *END)[1]["differences"]
    assert difference["rows_different"] == 1
    assert difference["samples"][0]["columns"] == ["note"]


def test_a_role_that_may_only_read_compares(pair: Pair) -> None:
    moved(pair)
    role = f"reader_{time.monotonic_ns()}"
    source, target = role_that_reads(pair, role)
    try:
        done = pair.hyperfill("verify", "--source", source, "--target", target, "--table", "m", "--json", *END)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["windows"]["compared"] > 1
        pair.on_target(f"REVOKE SELECT ON m FROM {role}", f"GRANT SELECT (t, dev) ON m TO {role}")
        done = pair.hyperfill("verify", "--source", source, "--target", target, "--table", "m", "--json", *END)
        assert done.returncode == 3
        messages = [f["message"] for f in json.loads(done.stdout)["findings"]]
        assert any("may not SELECT column note of the target" in m for m in messages)
    finally:
        for connection in (pair.source, pair.target):
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")


def test_row_security_is_no_silent_filter(pair: Pair) -> None:
    moved(pair)
    role = f"reader_{time.monotonic_ns()}"
    source, target = role_that_reads(pair, role)
    pair.on_target("ALTER TABLE m ENABLE ROW LEVEL SECURITY", "CREATE POLICY p ON m USING (dev = 1)")
    try:
        done = pair.hyperfill("verify", "--source", source, "--target", target, "--table", "m", "--json", *END)
        assert done.returncode == 3
        assert "row-security" in {f["code"] for f in json.loads(done.stdout)["findings"]}
    finally:
        for connection in (pair.source, pair.target):
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")


def test_counting_only(pair: Pair) -> None:
    moved(pair)
    pair.on_target(f"DELETE FROM m WHERE {PLACE}")
    code, found = verify(pair, *END, "--mode", "count")
    assert code == 5
    assert found["mode"] == "count"
    assert bounds(found) == [SECOND]


def test_a_sample_says_what_it_left_out(pair: Pair) -> None:
    moved(pair)
    pair.on_target("UPDATE m SET v = v + 1 WHERE t < '2024-01-03Z'")
    code, found = verify(pair, *END, "--sample", "50")
    assert code == 5
    assert found["sample_percent"] == 50
    windows = found["windows"]
    assert windows["compared"] + windows["not_compared"] == windows["total"]
    assert windows["not_compared"] == windows["different"] == 4
    seen = {tuple(bounds(verify(pair, *END, "--sample", "25")[1])) for _ in range(8)}
    assert len(seen) > 1, "the share is not random"
    for wrong in ("0", "101", "nan", "-5"):
        assert verify(pair, *END, f"--sample={wrong}")[0] == 2


def test_a_throttle_spares_the_servers(pair: Pair) -> None:
    moved(pair)
    began = time.monotonic()
    code, found = verify(pair, *END, "--throttle", "400")
    assert code == 0
    # 864 rows, of which the first quarter of a second is free.
    assert time.monotonic() - began > 1.5
    assert found["seconds"] > 1.5
    assert verify(pair, *END, "--throttle", "0.5")[0] == 2


def test_a_limit_of_time_leaves_windows_out(pair: Pair) -> None:
    moved(pair)
    code, found = verify(pair, *END, "--throttle", "300", "--max-duration", "1s")
    assert (code, found["state"]) == (4, "incomplete")
    windows = found["windows"]
    assert 0 < windows["compared"] < windows["total"]
    assert windows["compared"] + windows["not_compared"] == windows["total"]
    assert verify(pair, *END, "--max-duration", "10m")[0] == 0


def test_a_source_without_an_index_is_read_once(pair: Pair) -> None:
    pair.both(f"CREATE TABLE m ({COLUMNS})")
    pair.on_source(
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 min', 1, i FROM generate_series(0, 999) i",
        "ANALYZE m",
    )
    pair.on_target("SELECT create_hypertable('m', 't', chunk_time_interval => interval '1 hour')")
    pair.run("m", *END, "--verify", "none")
    # The server itself scans for the plan, and so it is counted from here on.
    pair.on_source("SELECT pg_stat_reset()")
    code, found = verify(pair, *END)
    assert code == 0
    assert "no-index" in {f["code"] for f in found["findings"]}
    pair.on_source("SELECT pg_stat_force_next_flush()")
    [(scans,)] = pair.query(pair.source, "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'm'")
    assert scans <= 4
    pair.on_target("UPDATE m SET v = -1 WHERE t = '2024-01-01 08:00Z'")
    code, found = verify(pair, *END)
    assert code == 5
    assert found["differences"][0]["rows_different"] == 1


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


def test_only_what_the_condition_says(pair: Pair) -> None:
    make(pair)
    pair.run("m", *END, "--where", "dev <> 3")
    assert verify(pair, *END, "--where", "dev <> 3")[0] == 0
    assert verify(pair, *END)[0] == 5


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


def test_an_unfinished_backfill_is_said(pair: Pair) -> None:
    make(pair)
    pair.on_target("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'",
                   "CREATE TRIGGER no BEFORE INSERT ON m FOR EACH ROW WHEN (NEW.t >= '2024-01-02 12:00Z') "
                   "EXECUTE FUNCTION no()")  # fmt: skip
    assert pair.command("run", "m", *END)[0] == 4
    code, found = verify(pair, *END)
    assert code == 5
    assert "unfinished" in {f["code"] for f in found["findings"]}
    assert ("2024-01-02 12:00:00+00", "2024-01-02 18:00:00+00") in bounds(found)


def test_a_window_that_cannot_be_read_is_named(pair: Pair) -> None:
    """A view of which some rows raise an error stands for a broken disk: the other windows are compared."""
    moved(pair)
    pair.on_source(
        "CREATE VIEW broken AS SELECT t, dev, v, note, "
        "CASE WHEN t = '2024-01-01 08:00Z' THEN 1 / (dev - 2) * 0 + big ELSE big END AS big, doc FROM m"
    )
    code, found = verify(pair, *END, "--hypertable", "m", table="broken")
    assert code == 4
    assert found["state"] == "incomplete"
    [failed] = found["failed_windows"]
    assert (failed["lower"], failed["upper"]) == SECOND
    assert "division by zero" in failed["message"]
    assert failed["server"] == "source"


def test_what_cannot_be_compared_is_refused(pair: Pair) -> None:
    make(pair)
    pair.on_target("ALTER TABLE m DROP note")
    code, found = verify(pair, *END)
    assert code == 3
    assert "source-only-columns" in {f["code"] for f in found["findings"]}
    assert verify(pair, *END, table="nothing")[0] == 3
    assert verify(pair, "--end", "tomorrow")[0] == 3
    assert not pair.query(pair.target, "SELECT 1 FROM pg_namespace WHERE nspname = 'hyperfill'")


def test_an_empty_range(pair: Pair) -> None:
    make(pair)
    code, found = verify(pair, *END, "--start", END[1])
    assert (code, found["state"]) == (0, "nothing")


def test_a_configuration(pair: Pair, tmp_path: Any) -> None:
    moved(pair)
    path = tmp_path / "m.toml"
    path.write_text("".join(f'[[backfill]]\ntable = "m"\nend = "{end}"\n' for end in (END[1], "2024-01-02Z")))
    pair.on_target("UPDATE m SET v = 0 WHERE t = '2024-01-02 08:00Z'")
    done = pair.hyperfill(
        "verify", "--source", pair.source_conninfo, "--target", pair.target_conninfo, "--config", str(path), "--json"
    )
    assert done.returncode == 5, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] == "mismatch"
    assert [b["state"] for b in found["backfills"]] == ["mismatch", "done"]


def test_a_hypertable_as_source(pair: Pair, new_database: Callable[[Server], str], servers: Servers) -> None:
    moved(pair)
    other = new_database(servers.target)
    for second in open_pair(pair.target_conninfo, other, pair.hyperfill):
        second.on_target(
            f"CREATE TABLE m ({COLUMNS}, PRIMARY KEY (t, dev))",
            "SELECT create_hypertable('m', 't', chunk_time_interval => interval '7 hours')",
        )
        second.run("m", *END)
        assert verify(second, *END)[0] == 0
        second.on_target(f"DELETE FROM m WHERE {PLACE}")
        assert verify(second, *END)[1]["differences"][0]["rows_missing"] == 1


@pytest.mark.parametrize("mode", ["hash", "count"])
def test_many_small_windows_are_read_together(pair: Pair, mode: str) -> None:
    make(pair, interval="10 minutes")
    pair.run("m", *END, "--verify", "none")
    code, found = verify(pair, *END, "--mode", mode)
    assert code == 0
    assert found["windows"]["compared"] > 280
    pair.on_target(f"DELETE FROM m WHERE {PLACE}", f"DELETE FROM m WHERE {BELOW} AND t > '2024-01-02 23:00Z'")
    found = verify(pair, *END, "--mode", mode)[1]
    assert len(found["differences"]) == 6
