"""Findings about columns, bounds and rows."""

from __future__ import annotations

import datetime as dt
import json
import tomllib
from pathlib import Path

import psycopg
import pytest

from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import T, arguments, assert_equal_below, execute, make_metrics, nothing_written
from tests.integration.test_preflight import done, find, only, refused

TYPES = {
    "timestamptz": "1 day", "timestamp": "1 day", "date": "7 days", "smallint": "100", "integer": "1000",
    "bigint": "1000",
}  # fmt: skip

WRONG_BOUNDS = [
    ("timestamptz", "end", "2024-01-10T00:00:00", "it has no time zone"),
    ("timestamptz", "end", "2024-01-10", "it has no time zone"),
    ("timestamptz", "end", "infinity", "still writing"),
    ("timestamptz", "end", "-infinity", "only a start can be open"),
    ("timestamptz", "start", "infinity", "without an end"),
    ("timestamptz", "end", "now", "another moment each time"),
    ("timestamptz", "end", "12345", "it does not read"),
    ("timestamptz", "end", "2024-01-10T00:00:00.0000001Z", "microsecond"),
    ("timestamptz", "end", "2024-02-30T00:00:00Z", "2024-02-30"),
    ("timestamptz", "end", "2024-01-10T00:00:00 Nowhere/City", "Nowhere/City"),
    ("timestamptz", "end", "300000-01-01T00:00:00Z", "out of range"),
    ("timestamptz", "start", "2024-01-11T00:00:00Z", "is after --end"),
    ("timestamp", "end", "2024-01-10T00:00:00Z", "time zone (Z), which the server would silently drop"),
    ("timestamp", "end", "10", "it does not read"),
    ("date", "end", "2024-01-10 00:00:00", "time of day"),
    ("date", "end", "2024-01-10Z", "time zone"),
    ("smallint", "end", "40000", "out of range (-32768 to 32767)"),
    ("smallint", "end", "2024-01-10T00:00:00Z", "not a whole number"),
    ("integer", "end", "3000000000", "out of range"),
    ("integer", "end", "1,000", "thousands separators"),
    ("integer", "end", "1.5", "decimal point"),
    ("integer", "start", "2000000", "is after --end"),
    ("bigint", "end", "9223372036854775808", "out of range"),
    ("bigint", "end", "infinity", "without an end"),
]
GOOD_END = {"timestamptz": T, "timestamp": "2024-01-10", "date": "2024-01-10"}


def test_wrong_bounds_of_every_type(hyperfill: Hyperfill, source_db: str, target_db: str, tmp_path: Path) -> None:
    """Also: one command names everything that is wrong with all its tables."""
    for name, interval in TYPES.items():
        table = f'CREATE TABLE t_{name} ("When" {name} NOT NULL, id int)'
        chunk = f"interval '{interval}'" if " " in interval else interval
        execute(source_db, table, f'CREATE INDEX ON t_{name} ("When")')
        execute(target_db, table, f"SELECT create_hypertable('t_{name}', 'When', chunk_time_interval => {chunk})")
    lines = []
    for name, option, bound, _ in WRONG_BOUNDS:
        lines += ["[[backfill]]", f'table = "public.t_{name}"', f"{option} = {json.dumps(bound)}"]
        lines += [f'end = "{GOOD_END.get(name, "1000")}"'] if option == "start" else []
    config = tmp_path / "bounds.toml"
    config.write_text("\n".join(lines))
    assert len(tomllib.loads(config.read_text())["backfill"]) == len(WRONG_BOUNDS)
    ended = hyperfill("run", "--source", source_db, "--target", target_db, "--config", str(config), "--json")
    assert ended.returncode == 3, ended.stderr
    assert not scenes.has_ledger(target_db)
    errors = [f for f in json.loads(ended.stdout)["findings"] if f["severity"] == "error"]
    assert len(errors) == len(WRONG_BOUNDS)
    for (name, option, bound, said), error in zip(WRONG_BOUNDS, errors, strict=True):
        text = error["message"]
        assert said in text, (bound, text)
        assert error["table"] == f"public.t_{name}"
        if "is after" not in said:
            assert f'--{option} (column "When" of public.t_{name})' in text
            assert f"of type {name}" in text or f"is not a {name}" in text


@pytest.mark.parametrize(
    ("kind", "bounds", "inside"),
    [
        ("timestamp", ("2024-01-02 00:00:00", "2024-01-09T12:00"), "'2024-01-02', '2024-01-09 11:59:59.999999'"),
        ("date", ("2024-01-02", "2024-01-09"), "'2024-01-02', '2024-01-08'"),
        ("smallint", ("-32768", "32767"), "-32768, 32766"),
        ("integer", ("-5", "5"), "-5, 4"),
        ("bigint", ("-9223372036854775808", "9000000000000"), "-9223372036854775808, 8999999999999"),
        ("bigint", (None, "-1"), "-9223372036854775808, -2"),
        (
            "timestamptz", ("0044-03-15T00:00:00Z BC", "2024-01-02T01:00:00+01:00"),
            "'0044-03-15 BC', '2024-01-01 23:59:59.999999Z'",
        ),
    ],
)  # fmt: skip
def test_right_bounds(
    hyperfill: Hyperfill, source_db: str, target_db: str, kind: str, bounds: tuple[str | None, str], inside: str
) -> None:
    interval = TYPES[kind]
    chunk = f"interval '{interval}'" if " " in interval else str(10**15) if kind == "bigint" else interval
    first, last = inside.split(", ")
    step = {"timestamp": "interval '1 us'", "timestamptz": "interval '1 us'"}.get(kind, "1")
    table = f"CREATE TABLE metrics (time {kind} NOT NULL, id int)"
    execute(source_db, table, f"INSERT INTO metrics VALUES ({first}, 1), ({last}, 2), (({last})::{kind} + {step}, 3)")
    if not first.startswith(("-3", "-9")):
        execute(source_db, f"INSERT INTO metrics VALUES (({first})::{kind} - {step}, 4)")
    execute(source_db, "CREATE INDEX ON metrics (time)")
    execute(target_db, table, f"SELECT create_hypertable('metrics', 'time', chunk_time_interval => {chunk})")
    start = [] if bounds[0] is None else [f"--start={bounds[0]}"]
    options = ["--source", source_db, "--target", target_db, "--table", "public.metrics", f"--end={bounds[1]}"]
    done(hyperfill, *options, *start)
    assert scenes.rows(target_db, "SELECT id FROM metrics ORDER BY id") == [(1,), (2,)]


def test_all_findings_at_once(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, overlap=10)
    execute(
        source_db,
        'ALTER TABLE metrics ALTER value TYPE numeric, ALTER id TYPE text, ADD extra int, ADD "Other ""one""" int',
    )
    execute(
        target_db, "ALTER TABLE metrics ADD must int NOT NULL DEFAULT 1", "ALTER TABLE metrics ALTER must DROP DEFAULT"
    )
    options = arguments(source_db, target_db, "--window", "1 month", "--where", "nonsense > 1", end="2024-01-10")
    with nothing_written(target_db):
        errors = refused(hyperfill, *options)
        codes = [f["code"] for f in errors]
        assert sorted(codes) == sorted(
            ["bound", "missing-not-null", "source-only-columns", "type", "type", "where", "where", "window"]
        )
        texts = "\n".join(f["message"] for f in errors)
        for said in (
            "column id: text on the source, bigint on the target",
            "column value: numeric on the source, double precision on the target",
            "the target's column must is NOT NULL and has no default",
            'the source has columns that the target has not: extra, "Other ""one"""',
            "a month has no fixed length",
            'column "nonsense" does not exist',
        ):
            assert said in texts
        plan = json.loads(hyperfill("plan", *options, "--json").stdout)
        assert plan["state"] == "refused"
        assert [f for f in plan["findings"] if f["severity"] == "error"] == errors


def test_time_columns(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, overlap=10)
    execute(source_db, "CREATE VIEW local AS SELECT time::timestamp, id, value, note FROM metrics")
    execute(source_db, "CREATE VIEW other AS SELECT time AS at, id, value, note FROM metrics")
    with nothing_written(target_db):
        for table, more, said in (
            ("metrics", ["--time-column", "id"], "the time column of public.metrics is time, not id"),
            ("other", [], "the source public.other has no column time"),
            ("local", [], "is of type timestamp without time zone, the hypertable's time of type timestamp with"),
            ("other", ["--source-time-column", "id"], "is of type bigint"),
        ):
            options = arguments(source_db, target_db, "--hypertable", "metrics", *more, table=table)
            assert said in only(refused(hyperfill, *options), "time-column")
    options = ["--hypertable", "metrics", "--source-time-column", "at", "--time-column", "time"]
    done(hyperfill, *arguments(source_db, target_db, *options, table="other"))
    assert_equal_below(source_db, target_db)


def test_conditions(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, overlap=950)
    with nothing_written(target_db):
        for condition in (
            "id >", "true) OR (true", "true; DROP TABLE metrics", "id", "true) --", "id = $1"
        ):  # fmt: skip
            errors = refused(hyperfill, *arguments(source_db, target_db, f"--where={condition}"))
            assert {f["code"] for f in errors} == {"where"}, condition
    before = scenes.physical(target_db, "id % 10 <> 7")
    findings = done(hyperfill, *arguments(source_db, target_db, "--where", "id % 10 = 7 -- or note LIKE '%7'"))
    assert "the target has 95 rows in the range" in find(findings, "overlap", "note")
    assert scenes.physical(target_db, "id % 10 <> 7") == before
    assert scenes.fingerprint(source_db, "id % 10 = 7") == scenes.fingerprint(target_db, "id % 10 = 7")


def test_values_that_only_the_target_has(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, overlap=30)
    execute(target_db, "ALTER TABLE metrics ADD tag text, ADD made timestamptz DEFAULT now()")
    execute(target_db, f"UPDATE metrics SET tag = 'ours' WHERE time < '{T}' AND id % 2 = 0")
    with nothing_written(target_db):
        text = only(refused(hyperfill, *arguments(source_db, target_db)), "target-only-values")
        assert text.startswith(
            "15 rows of the target in the range hold values in columns that the source does not have (tag)"
        )
        # Where the dual-writer filled nothing, nothing would be lost.
    findings = done(hyperfill, *arguments(source_db, target_db, end="2024-01-10T04:00:00Z"))
    assert "target-only-values" not in {f["code"] for f in findings}
    findings = done(hyperfill, *arguments(source_db, target_db, "--start", "2024-01-10T04:00:00Z", "--replace"))
    assert "15 rows" in find(findings, "target-only-values", "warning")
    assert "the target computes made anew" in find(findings, "renewed", "warning")
    assert_equal_below(source_db, target_db)
    assert scenes.scalar(target_db, "SELECT count(*) FROM metrics WHERE tag IS NOT NULL") == 0


def test_a_source_with_fewer_rows_wipes_nothing(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, overlap=300)
    before = scenes.physical(target_db)
    execute(source_db, "DELETE FROM metrics WHERE time >= '2024-01-08T00:00:00Z' AND time < '2024-01-09T00:00:00Z'")
    ended = hyperfill("run", *arguments(source_db, target_db, "--json"))
    report = json.loads(ended.stdout)
    assert (ended.returncode, report["state"], report["windows"]["failed"]) == (4, "incomplete", 1)
    [failed] = report["failed_windows"]
    assert failed["message"] == "the target has 100 rows in this window and the source only 0: nothing was deleted"
    assert "--replace" in failed["hint"] and "--replace" in ended.stderr
    inside = "time >= '2024-01-08T00:00:00Z' AND time < '2024-01-09T00:00:00Z'"
    assert set(scenes.physical(target_db, inside)) <= set(before)
    assert scenes.scalar(target_db, f"SELECT count(*) FROM metrics WHERE {inside}") == 100
    assert hyperfill("run", *arguments(source_db, target_db, "--replace")).returncode == 0
    assert_equal_below(source_db, target_db)


def test_a_completion_point_in_the_future_and_old_transactions(
    hyperfill: Hyperfill, source_db: str, target_db: str
) -> None:
    make_metrics(source_db, target_db)
    with psycopg.connect(source_db) as here, psycopg.connect(target_db, application_name="slow report") as there:
        here.execute("SELECT 1")
        there.execute("SELECT 1")
        findings = done(hyperfill, *arguments(source_db, target_db, end="2100-01-01T00:00:00Z"))
        assert "the end 2100-01-01 00:00:00+00 is in the future" in find(findings, "end-in-future", "warning")
        texts = [f["message"] for f in findings if f["code"] == "old-transactions"]
        assert [t.split(" are ")[0] for t in texts] == ["1 transactions on the source", "1 transactions on the target"]
        assert f"slow report (pid {there.info.backend_pid})" in texts[1]
        # Begun after the completion point: they cannot write below it.
        codes = {f["code"] for f in done(hyperfill, *arguments(source_db, target_db, end=T))}
        assert not codes & {"end-in-future", "old-transactions"}
    past = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    assert "end-in-future" in {f["code"] for f in done(hyperfill, *arguments(source_db, target_db, end=past))}


def test_triggers_and_foreign_keys(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    execute(
        target_db,
        "CREATE TABLE things (id bigint PRIMARY KEY)",
        "INSERT INTO things SELECT generate_series(-100, 899)",
        "ALTER TABLE metrics ADD FOREIGN KEY (id) REFERENCES things",
        "CREATE TABLE seen (id bigint)",
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN INSERT INTO seen VALUES (NEW.id); RETURN NEW; END'",
        'CREATE TRIGGER "See it" AFTER INSERT ON metrics FOR EACH ROW EXECUTE FUNCTION see()',
    )
    ended = hyperfill("run", *arguments(source_db, target_db, "--json"))
    report = json.loads(ended.stdout)
    assert (ended.returncode, report["windows"]["failed"]) == (4, 1)
    assert 'for every row that is deleted or copied: "See it"' in find(report["findings"], "triggers", "warning")
    assert "every copied row is checked against public.things" in find(report["findings"], "foreign-key", "warning")
    assert {f["sqlstate"] for f in report["failed_windows"]} == {"23503"}
    assert all("load the referenced table first" in f["hint"] for f in report["failed_windows"])
    execute(target_db, "INSERT INTO things SELECT generate_series(900, 1000)")
    done(hyperfill, *arguments(source_db, target_db))
    assert_equal_below(source_db, target_db)
    # Each row once: the row that makes a chunk must not be seen.
    assert scenes.rows(target_db, "SELECT count(*), count(DISTINCT id), min(id) FROM seen") == [(950, 950, 0)]


def test_no_index(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    execute(source_db, "DROP INDEX metrics_time_idx")
    findings = done(hyperfill, *arguments(source_db, target_db))
    text = find(findings, "no-index", "warning")
    assert (
        "the source has no usable index on time" in text
        and "CREATE INDEX CONCURRENTLY ON public.metrics (time)" in text
    )
    assert_equal_below(source_db, target_db)


def test_no_index_on_a_large_table(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    execute(
        source_db,
        "CREATE UNLOGGED TABLE large (time timestamptz, id bigint, value float8, note text STORAGE PLAIN)",
        "INSERT INTO large SELECT '2024-01-01T00:00:00Z'::timestamptz + i * interval '5 s', i, 0, repeat('x', 7900) "
        "FROM generate_series(1, 130000) i",
        "ANALYZE large",
    )
    assert scenes.scalar(source_db, "SELECT pg_table_size('large')") > 10**9
    options = arguments(source_db, target_db, "--hypertable", "metrics", "--max-window-rows", "5000", table="large")
    with nothing_written(target_db):
        text = only(refused(hyperfill, *options), "no-index")
        assert "each of" in text and "1.1 GB" in text and "--allow-seqscan" in text
        ended = hyperfill("plan", *options, "--allow-seqscan", "--json")
        plan = json.loads(ended.stdout)
        assert (ended.returncode, plan["state"]) == (0, "planned")
        assert "no usable index" in find(plan["findings"], "no-index", "warning")
        assert plan["windows"]["total"] > 10
        # So few windows that it is not read over and over again: only a warning.
        options = arguments(source_db, target_db, "--hypertable", "metrics", table="large")
        assert hyperfill("plan", *options).returncode == 0


def test_rows_without_a_time(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    execute(source_db, "ALTER TABLE metrics ALTER time DROP NOT NULL")
    assert "null-time" not in {
        f["code"] for f in done(hyperfill, *arguments(source_db, target_db, end="2024-01-02T00:00:00Z"))
    }
    execute(source_db, "INSERT INTO metrics SELECT NULL, i, i, 'when?' FROM generate_series(1, 1234) i")
    findings = done(hyperfill, *arguments(source_db, target_db, "--start", "2024-01-02T00:00:00Z"))
    assert "1,234 rows of the source have no time (time IS NULL)" in find(findings, "null-time", "warning")
    assert_equal_below(source_db, target_db)


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
def test_rows_at_minus_infinity(hyperfill: Hyperfill, source_db: str, target_db: str, kind: str) -> None:
    table = f"CREATE TABLE metrics (time {kind} NOT NULL, id bigint)"
    execute(
        source_db,
        table,
        "INSERT INTO metrics VALUES ('-infinity', 1), ('-infinity', 2), ('2024-01-01', 3), ('infinity', 4)",
    )
    execute(source_db, "CREATE INDEX ON metrics (time)")
    execute(target_db, table, "SELECT create_hypertable('metrics', 'time')")
    end = {"timestamptz": T, "timestamp": "2024-01-10T12:00:00", "date": "2024-01-10"}[kind]
    options = arguments(source_db, target_db, end=end)
    with nothing_written(target_db):
        text = only(refused(hyperfill, *options), "unstorable")
        assert "2 rows of the source have the time -infinity, which no hypertable can hold" in text
        assert "--skip-unstorable" in text
    findings = done(hyperfill, *options, "--skip-unstorable")
    assert "2 rows at -infinity are left out" in find(findings, "unstorable", "warning")
    assert scenes.rows(target_db, "SELECT id FROM metrics") == [(3,)]


def test_sequences(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, after=0)
    execute(source_db, "ALTER TABLE metrics ADD serial int, ADD high int")
    execute(source_db, "UPDATE metrics SET serial = id + 1, high = id")
    execute(
        target_db,
        "ALTER TABLE metrics ALTER id ADD GENERATED ALWAYS AS IDENTITY",
        "CREATE SEQUENCE down INCREMENT -1 MAXVALUE 100000 START 100000",
        "CREATE SEQUENCE ahead",
        "SELECT setval('ahead', 1000000)",
        "ALTER TABLE metrics ADD serial int DEFAULT nextval('down'), ADD high int DEFAULT nextval('ahead')",
    )
    middle = "2024-01-05T00:00:00Z"
    findings = done(hyperfill, *arguments(source_db, target_db, end=middle))
    text = find(findings, "sequences", "warning")
    assert "the sequence behind id, serial, high" in text and "--sync-sequences" in text
    assert scenes.scalar(target_db, "SELECT nextval(pg_get_serial_sequence('metrics', 'id'))") == 1
    findings = done(hyperfill, *arguments(source_db, target_db, "--start", middle, "--sync-sequences"))
    assert [f["severity"] for f in findings if f["code"] == "sequences"] == ["note"] * 2
    columns = "time, id, value, note, serial, high"
    assert_equal_below(source_db, target_db, columns=columns)
    for sequence, value in (("metrics_id_seq", 950), ("down", 0)):
        assert scenes.scalar(target_db, f"SELECT nextval('{sequence}')") == value
    # Now they are ahead of the rows: never back.
    done(hyperfill, *arguments(source_db, target_db, "--again", "--replace", "--sync-sequences"))
    for sequence, value in (("metrics_id_seq", 951), ("down", -1)):
        assert scenes.scalar(target_db, f"SELECT nextval('{sequence}')") == value
    # What rolls back and what makes chunks may take some values, but none is given twice.
    assert 1_000_000 < scenes.scalar(target_db, "SELECT nextval('ahead')") < 1_000_100
