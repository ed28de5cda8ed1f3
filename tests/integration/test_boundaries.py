"""Every row belongs to exactly one window: rows one unit either side of the start, of every seam and of the end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest

from hyperfill.timeline import TIME_TYPES, TimeType
from tests.fixtures.pair import Pair, alter_database

HOUR, DAY = 3_600_000_000, 86_400_000_000


@dataclass(frozen=True)
class Axis:
    """A time column: its type, chunks of `interval` ordinals, a range and the chunk boundaries inside it."""

    type: str
    interval: str
    start: int
    end: int
    chunk: int

    @property
    def time_type(self) -> TimeType:
        return TIME_TYPES[self.type]

    @property
    def seams(self) -> list[int]:
        first = self.start - self.start % self.chunk + self.chunk
        return list(range(first, self.end, self.chunk))

    @property
    def places(self) -> list[int]:
        """Ordinals of rows: one unit either side of every edge, where the type has them."""
        edges = {self.start, *self.seams, self.end}
        around = {edge + delta for edge in edges for delta in (-1, 0, 1)}
        return sorted(at for at in around if self.time_type.minimum <= at <= self.time_type.maximum)


def axis(name: str, interval: str, start: int, end: int, chunk: int) -> Axis:
    return Axis(name, interval, start, end, chunk)


_MARCH = TIME_TYPES["timestamp with time zone"].ordinal("2024-03-01 00:00:00+00")
AXES = {
    "timestamptz": axis("timestamp with time zone", "interval '1 day'", _MARCH + 5 * HOUR, _MARCH + 3 * DAY + 1, DAY),
    "timestamp": axis("timestamp without time zone", "interval '1 hour'", _MARCH + 1, _MARCH + 4 * HOUR, HOUR),
    "timestamp-1969": axis("timestamp without time zone", "interval '1 day'", -2 * DAY - 7, DAY, DAY),
    "date": axis("date", "interval '7 days'", 19_780, 19_800, 7),
    "date-bc": axis("date", "interval '7 days'", -800_003, -799_980, 7),
    "smallint": axis("smallint", "100", -250, 155, 100),
    "smallint-ends": axis("smallint", "10000", -32_768, 32_767, 10_000),
    "integer": axis("integer", "1000", -1_500, 1_500, 1_000),
    "integer-ends": axis("integer", "1000000000", -(2**31), 2**31 - 1, 10**9),
    "bigint": axis("bigint", "86400000", -86_400_001, 172_800_000, 86_400_000),
    "bigint-high": axis("bigint", "1000000", 2**62 - 1_000_001, 2**62 + 1_500_000, 1_000_000),
}


@pytest.mark.parametrize("name", AXES)
def test_rows_at_every_edge_arrive_once(pair: Pair, name: str) -> None:
    """Inside [start, end) the source's rows, each once; outside the target's own, untouched."""
    one = AXES[name]
    text = one.time_type.text
    pair.both(f"CREATE TABLE edges (time {one.type} NOT NULL, n int, note text)")
    pair.on_source("CREATE INDEX ON edges (time)")
    pair.on_target(f"SELECT create_hypertable('edges', 'time', chunk_time_interval => {one.interval})")
    for number, at in enumerate(one.places):
        pair.source.execute("INSERT INTO edges VALUES (%s, %s, 'source')", [text(at), number])
        # The dual-writer wrote every other one already.
        inside = one.start <= at < one.end
        if not inside or number % 2:
            pair.target.execute("INSERT INTO edges VALUES (%s, %s, 'target')", [text(at), number])
    outside = f"time < '{text(one.start)}' OR time >= '{text(one.end)}'"
    within = f"NOT ({outside})"
    before = pair.physical("edges", outside)
    assert before
    report = pair.run("edges", "--start", text(one.start), "--end", text(one.end), jobs=2)
    assert pair.physical("edges", outside) == before
    assert pair.same("edges", "time, n, note", within)
    expected = [at for at in one.places if one.start <= at < one.end]
    assert report["rows_copied"] == len(expected)
    assert report["rows_deleted"] == sum(1 for n, at in enumerate(one.places) if one.start <= at < one.end and n % 2)
    # The seams are where the chunks of the target are: each edge of a chunk inside the range cuts.
    windows = pair.windows(report["backfill"])
    assert {upper for _, _, upper, *_ in windows} >= {text(seam) for seam in one.seams}
    assert windows[0][1] == text(one.start)
    assert windows[-1][2] == text(one.end)
    assert all(a[2] == b[1] for a, b in pairwise(windows))


@pytest.mark.parametrize("name", ["smallint-ends", "integer-ends", "bigint", "date-bc", "timestamptz"])
def test_no_start_means_no_lower_bound(pair: Pair, name: str) -> None:
    """Everything before the end moves, down to the least value of the type."""
    one = AXES[name]
    text = one.time_type.text
    pair.both(f"CREATE TABLE edges (time {one.type} NOT NULL, n int)")
    pair.on_source("CREATE INDEX ON edges (time)")
    pair.on_target(f"SELECT create_hypertable('edges', 'time', chunk_time_interval => {one.interval})")
    for number, at in enumerate(one.places):
        pair.source.execute("INSERT INTO edges VALUES (%s, %s)", [text(at), number])
    last = one.places[-1]
    pair.target.execute("INSERT INTO edges VALUES (%s, -1)", [text(last)])
    report = pair.run("edges", "--start", "-infinity", "--end", text(one.end))
    assert report["start"] == "-infinity"
    assert pair.same("edges", "time, n", f"time < '{text(one.end)}'")
    assert report["rows_copied"] == sum(1 for at in one.places if at < one.end)
    assert pair.windows(report["backfill"])[0][1] is None
    assert pair.query(pair.target, f"SELECT n FROM edges WHERE time >= '{text(one.end)}'") == [(-1,)]


@pytest.mark.parametrize("type_name", ["timestamptz", "timestamp", "date"])
def test_history_from_before_the_first_chunk_and_before_christ(pair: Pair, type_name: str) -> None:
    """The target has chunks since 2024; the source remembers more."""
    zone = "Z" if type_name == "timestamptz" else ""
    pair.both(f"CREATE TABLE long (time {type_name} NOT NULL, n int)")
    pair.on_source(
        "CREATE INDEX ON long (time)",
        "INSERT INTO long VALUES ('4000-01-01 BC', 1), ('0044-03-15 BC', 2), ('0001-12-31 BC', 3), ('0001-01-01', 4),"
        " ('1582-10-10', 5), ('1969-12-31', 6), ('2023-12-31', 7), ('2024-01-01', 8), ('2024-01-02', 9)",
    )
    pair.on_target(
        "SELECT create_hypertable('long', 'time', chunk_time_interval => interval '30 days')",
        "INSERT INTO long VALUES ('2024-01-01', 8), ('2024-01-05', 10)",
    )
    end = "2024-01-02" if type_name == "date" else f"2024-01-02T00:00:00{zone}"
    report = pair.run("long", "--end", end)
    assert (report["rows_copied"], report["rows_deleted"]) == (8, 1)
    assert len(pair.same("long", "time, n", "time < '2024-01-02'")) == 8
    assert pair.query(pair.target, "SELECT n FROM long WHERE time >= '2024-01-02'") == [(10,)]


def test_rows_at_minus_infinity_are_refused_or_left_out(pair: Pair) -> None:
    """No hypertable can hold them; that must not be found out in the middle of a run."""
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, n int)")
    pair.on_source(
        "CREATE INDEX ON m (time)",
        "INSERT INTO m VALUES ('-infinity', 1), ('-infinity', 2), ('2024-01-01Z', 3), ('infinity', 4)",
    )
    pair.on_target("SELECT create_hypertable('m', 'time')")
    assert pair.refused("m", "--end", "2024-02-01T00:00:00Z") == {"unstorable"}
    report = pair.run("m", "--end", "2024-02-01T00:00:00Z", "--skip-unstorable")
    assert [f["code"] for f in report["findings"] if f["severity"] != "note"] == ["unstorable"]
    assert pair.query(pair.target, "SELECT n FROM m") == [(3,)]


def test_settings_of_the_servers_change_nothing(pair: Pair) -> None:
    """Time zones, formats, isolation and timeouts that somebody set for the database are overridden."""
    common = {"default_transaction_isolation": "repeatable read", "statement_timeout": "1"}
    alter_database(
        pair.source,
        common
        | {
            "TimeZone": "Asia/Kathmandu",
            "DateStyle": "SQL, DMY",
            "IntervalStyle": "sql_standard",
            "extra_float_digits": "-10",
            "bytea_output": "escape",
        },
    )
    alter_database(
        pair.target,
        common
        | {
            "TimeZone": "America/St_Johns",
            "DateStyle": "German, MDY",
            "IntervalStyle": "iso_8601",
            "extra_float_digits": "-15",
            "bytea_output": "escape",
            "default_transaction_deferrable": "on",
            "idle_in_transaction_session_timeout": "1",
            "transform_null_equals": "on",
        },
    )
    # A composite column makes it the text format, in which all of these would matter.
    pair.both(
        "CREATE TYPE reading AS (at timestamptz, value float8)",
        "CREATE TABLE m (time timestamptz NOT NULL, d date, l timestamp, i interval, f float8, r real, b bytea,"
        " c reading)",
    )
    pair.on_source(
        "CREATE INDEX ON m (time)",
        r"""INSERT INTO m SELECT '2024-03-01T00:00:00Z'::timestamptz + n * interval '7 minutes', '2024-02-01',
            '2024-05-04 03:02:01.000001', make_interval(years => 1, days => -n, secs => n / 7.0), n / 7.0, n / 7.0,
            '\x00ff5c27', ROW('2024-02-03T04:05:06Z'::timestamptz, (n / 7.0)::float8)::reading
            FROM generate_series(0, 2000) AS n""",
    )
    pair.on_target(
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        "INSERT INTO m (time) VALUES ('2024-02-28T23:59:59Z'), ('2024-03-02T00:00:00Z'), ('2024-03-05T12:00:00Z')",
    )
    options = ("--start", "2024-03-01T00:00:00Z", "--end", "2024-03-05T12:00:00Z")
    assert pair.plan("m", *options)["format"] == "text"
    report = pair.run("m", *options, jobs=2)
    assert (report["rows_copied"], report["rows_deleted"]) == (926, 1)
    inside = "time >= '2024-03-01T00:00:00Z' AND time < '2024-03-05T12:00:00Z'"
    assert len(pair.same("m", "time, d, l, i, f, r, b, c", inside)) == 926
    assert len(pair.query(pair.target, f"SELECT 1 FROM m WHERE NOT ({inside})")) == 2


def test_sparse_history_has_few_windows(pair: Pair) -> None:
    """74 years of chunks of one hour would be 650 000 windows; three rows need a handful."""
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, n int)")
    pair.on_source(
        "CREATE INDEX ON m (time)",
        "INSERT INTO m VALUES ('1950-01-01Z', 1), ('2000-06-01 12:30Z', 2), ('2024-01-01Z', 3)",
    )
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 hour')")
    report = pair.run("m", "--end", "2024-06-01T00:00:00Z")
    assert report["windows"]["total"] <= 7
    assert len(pair.same("m", "time, n")) == 3
    assert_chunks_were_made_beforehand(pair, "m")


def assert_chunks_were_made_beforehand(pair: Pair, table: str) -> None:
    """No chunk was created by a transaction that also wrote rows into it."""
    chunks = pair.query(
        pair.target,
        f"SELECT format('%I.%I', n.nspname, c.relname), c.xmin::text FROM pg_class AS c"
        f" JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_inherits AS i ON i.inhrelid = c.oid"
        f" WHERE i.inhparent = '{table}'::regclass",
    )
    assert chunks
    for chunk, creator in chunks:
        assert not pair.query(pair.target, f"SELECT 1 FROM {chunk} WHERE xmin::text = '{creator}'"), chunk


def test_a_chunk_with_skewed_rows_is_split_by_rows(pair: Pair) -> None:
    """A burst of 20 000 rows in one minute of a day: windows follow the rows, not the clock."""
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, n int)")
    pair.on_source(
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 minute', i FROM generate_series(0, 1439) i",
        "INSERT INTO m SELECT '2024-01-01 12:00Z'::timestamptz + i * interval '3 ms', i"
        " FROM generate_series(0, 19999) i",
        "CREATE INDEX ON m (time)",
        "ANALYZE m",
    )
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")
    report = pair.run("m", "--end", "2024-01-02T00:00:00Z", "--max-window-rows", "2000")
    copied = [window[4] for window in pair.windows(report["backfill"])]
    assert sum(copied) == 21_440
    assert 6 <= len(copied) <= 30
    assert max(copied) <= 2 * 2000 * 1.5  # twice what was asked for, and statistics are no exact science
    pair.same("m", "time, n")


@pytest.mark.parametrize("index", [True, False])
def test_old_statistics_do_not_make_a_million_windows(pair: Pair, index: bool) -> None:
    """When the table was analyzed it held a burst of one second; since then a month of rows came, before and after."""
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, n int)")
    pair.on_source(
        "ALTER TABLE m SET (autovacuum_enabled = off)",
        "INSERT INTO m SELECT '2024-01-10Z'::timestamptz + i * interval '1 ms', i FROM generate_series(0, 999) AS i",
        "ANALYZE m",
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', i FROM generate_series(0, 700) AS i",
        "CREATE INDEX ON m (time)" if index else "SELECT 1",
    )
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '7 days')")
    report = pair.run("m", "--end", "2024-02-01T00:00:00Z", jobs=2)
    assert report["windows"]["total"] <= 10
    assert len(pair.same("m", "time, n")) == 1701


def test_a_window_length_cuts_at_its_multiples(pair: Pair) -> None:
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, n int)")
    pair.on_source(
        "CREATE INDEX ON m (time)",
        "INSERT INTO m SELECT '2024-01-01 02:00Z'::timestamptz + i * interval '10 minutes', i"
        " FROM generate_series(0, 200) i",
    )
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")
    options = ("--start", "2024-01-01T02:00:00Z", "--end", "2024-01-02T11:00:00Z", "--window", "6 hours")
    report = pair.run("m", *options)
    day = "2024-01-0{} {}:00:00+00"
    edges = [day.format(*e) for e in ((1, "02"), (1, "06"), (1, "12"), (1, "18"), (2, "00"), (2, "06"), (2, "11"))]
    assert [(w[1], w[2]) for w in pair.windows(report["backfill"])] == list(pairwise(edges))
    assert pair.same("m", "time, n", "time < '2024-01-02 11:00Z'")


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_order_decides_which_windows_come_first(pair: Pair, order: str) -> None:
    pair.both("CREATE TABLE m (time int NOT NULL, n int)")
    pair.on_source("CREATE INDEX ON m (time)", "INSERT INTO m SELECT i, i FROM generate_series(0, 999) i")
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => 100)")
    report = pair.run("m", "--end", "1000", "--order", order)
    pair.same("m", "time, n")
    finished = pair.query(pair.target, "SELECT id FROM hyperfill.windows ORDER BY started_at")
    numbers = [row[0] for row in finished]
    assert len(numbers) == report["windows"]["total"] >= 10
    assert numbers == sorted(numbers, reverse=order == "newest")


def test_a_late_row_in_a_stretch_that_seemed_empty_is_moved(pair: Pair) -> None:
    """Where nothing was when the plan was made there is a window all the same."""
    pair.both("CREATE TABLE m (time int NOT NULL, n int)")
    pair.on_source("CREATE INDEX ON m (time)", "INSERT INTO m VALUES (5, 1), (950, 2)")
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => 100)")
    # The row is written when the last window is claimed first: --order newest gives it time to appear.
    pair.on_target(
        "CREATE EXTENSION dblink",
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM dblink_exec("
        + f"'{pair.source_conninfo}'"
        + ", 'INSERT INTO m VALUES (500, 3)'); RETURN NEW; END $$",
        "CREATE TRIGGER late BEFORE INSERT ON m FOR EACH ROW WHEN (NEW.n = 2) EXECUTE FUNCTION late()",
    )
    pair.run("m", "--end", "1000", "--order", "newest")
    assert pair.same("m", "time, n") == [("5", "1"), ("500", "3"), ("950", "2")]


def test_no_statement_has_an_inclusive_end() -> None:
    folder = Path(str(files("hyperfill.sql")))
    statements = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.sql")}
    assert len(statements) > 20
    for path, text in statements.items():
        code = "\n".join(line.split("--", 1)[0] for line in text.splitlines())
        # What a window function looks at is no range of times.
        assert not re.search(r"(?<!\brows )\bbetween\b", code, re.IGNORECASE), path
        assert "<=" not in code, path


def test_statements_of_a_window_are_half_open(pair: Pair) -> None:
    """The SQL that plan shows is the SQL that run sends."""
    pair.both("CREATE TABLE m (time int NOT NULL, n int)")
    pair.on_source("CREATE INDEX ON m (time)", "INSERT INTO m VALUES (5, 1), (150, 2)")
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => 100)")
    statements = pair.plan("m", "--start", "0", "--end", "180")["sql"]
    assert set(statements) == {"count", "delete", "copy_from_source", "copy_to_target"}
    for name in ("count", "delete", "copy_from_source"):
        assert re.search(r">= '?0'?::integer", statements[name])
        assert re.search(r"< '?100'?::integer", statements[name])
        assert "<=" not in statements[name]
        assert "BETWEEN" not in statements[name].upper()
