"""Continuous aggregates after a run: every bucket as a live query has it, and none wiped whose rows are gone."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.fixtures.pair import Pair, Row
from tests.fixtures.scenes import Background, until

pytestmark = pytest.mark.community

ZONE = "Europe/Berlin"
T = "2024-03-15T10:30:00Z"


def make(pair: Pair, *, overlap: str = "2024-02-20Z") -> None:
    """`m` with a row each ten minutes from December to the end of March on the source, and on the target from
    `overlap` on with other values."""
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, device int, value float8)")
    series = "generate_series('{}'::timestamptz, '2024-03-31Z', interval '10 minutes') AS t"
    pair.on_source(
        "INSERT INTO m SELECT t, extract(minute FROM t), extract(epoch FROM t) / 1e6"
        f" FROM {series.format('2023-12-10Z')}",
        "CREATE INDEX ON m (time)",
        "ANALYZE m",
    )
    pair.on_target(
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        f"INSERT INTO m SELECT t, extract(minute FROM t), -1 FROM {series.format(overlap)}",
    )


def aggregate(pair: Pair, name: str, below: str, bucket: str, column: str, *, live: bool) -> None:
    """A continuous aggregate of counts and sums, not refreshed yet."""
    values = "count(*) AS n, sum(value) AS s" if below == "m" else "sum(n) AS n, sum(s) AS s"
    only = "false" if live else "true"
    pair.on_target(
        f"CREATE MATERIALIZED VIEW {name} WITH (timescaledb.continuous, timescaledb.materialized_only = {only}) AS"
        f" SELECT time_bucket({bucket}, {column}) AS b, device, {values} FROM {below} GROUP BY 1, 2 WITH NO DATA"
    )


def hierarchy(pair: Pair, *, live: bool = False, refreshed: bool = True) -> None:
    """Hours, days of a time zone, its months."""
    aggregate(pair, "hours", "m", "'1 hour'", "time", live=live)
    for name, below, width in (("days", "hours", "1 day"), ("months", "days", "1 month")):
        only = "false" if live else "true"
        pair.on_target(
            f"CREATE MATERIALIZED VIEW {name} WITH (timescaledb.continuous, timescaledb.materialized_only = {only}) AS"
            f" SELECT time_bucket('{width}', b, '{ZONE}') AS b, device, sum(n) AS n, sum(s) AS s FROM {below}"
            " GROUP BY 1, 2 WITH NO DATA"
        )
    if refreshed:
        for name in ("hours", "days", "months"):
            pair.on_target(f"CALL refresh_continuous_aggregate('{name}', NULL, NULL)")


_WIDTHS = {"hours": ("1 hour", "UTC"), "days": ("1 day", ZONE), "months": ("1 month", ZONE)}


def buckets(pair: Pair, name: str, condition: str = "true") -> list[Row]:
    return pair.query(
        pair.target, f"SELECT b, device, n::bigint, round(s::numeric, 3) FROM {name} WHERE {condition} ORDER BY 1, 2"
    )


def live(pair: Pair, name: str, condition: str = "true") -> list[Row]:
    """What the buckets of an aggregate are, computed from the rows that are there."""
    width, zone = _WIDTHS[name]
    return pair.query(
        pair.target,
        f"SELECT * FROM (SELECT time_bucket('{width}', time, '{zone}') AS b, device, count(*),"
        f" round(sum(value)::numeric, 3) FROM m GROUP BY 1, 2) AS live WHERE {condition} ORDER BY 1, 2",
    )


def left_out(report: dict[str, object]) -> list[str]:
    found = report["findings"]
    assert isinstance(found, list)
    return [f["message"] for f in found if f["code"] == "caggs"]


@pytest.mark.parametrize("real_time", [False, True])
def test_three_levels(policy_pair: Pair, real_time: bool) -> None:
    pair = policy_pair
    make(pair)
    hierarchy(pair, live=real_time)
    plan = pair.plan("m", "--end", T)
    assert [(a["view"], a["level"]) for a in plan["aggregates"]] == [
        ("public.hours", 1),
        ("public.days", 2),
        ("public.months", 3),
    ]
    assert plan["aggregates"][0]["refresh"] == [{"lower": "2023-12-10 00:00:00+00", "upper": "2024-03-15 11:00:00+00"}]
    assert plan["aggregates"][2]["refresh"] == [{"lower": "2023-11-30 23:00:00+00", "upper": "2024-03-31 22:00:00+00"}]
    report = pair.run("m", "--end", T, jobs=2)
    assert not left_out(report)
    for name in _WIDTHS:
        assert buckets(pair, name) == live(pair, name), name
    assert pair.query(pair.target, "SELECT sum(n) FROM months") == pair.query(pair.source, "SELECT count(*) FROM m")


@pytest.mark.parametrize("real_time", [False, True])
def test_above_the_watermark(policy_pair: Pair, real_time: bool) -> None:
    """Aggregates that were refreshed up to December only: nothing between there and the windows may vanish."""
    pair = policy_pair
    make(pair, overlap="2023-12-10Z")
    hierarchy(pair, live=real_time, refreshed=False)
    for name, end in (("hours", "2024-01-05Z"), ("days", "2024-01-03Z"), ("months", "2024-01-05Z")):
        pair.on_target(f"CALL refresh_continuous_aggregate('{name}', '2023-11-01Z', '{end}')")
    pair.run("m", "--start", "2024-02-03T04:05:06Z", "--end", T, jobs=2)
    for name in _WIDTHS:
        # Above the end a materialized-only aggregate is as far as it was.
        condition = "true" if real_time else "b < '2024-02-29 23:00Z'"
        assert buckets(pair, name, condition) == live(pair, name, condition), name


@pytest.mark.parametrize("real_time", [False, True])
def test_never_refreshed(policy_pair: Pair, real_time: bool) -> None:
    pair = policy_pair
    make(pair)
    hierarchy(pair, live=real_time, refreshed=False)
    pair.run("m", "--start", "2024-01-10Z", "--end", T, jobs=2)
    for name in _WIDTHS:
        condition = "true" if real_time else "b < '2024-02-29 23:00Z'"
        assert buckets(pair, name, condition) == live(pair, name, condition), name
        assert buckets(pair, name, condition)


def test_buckets_whose_rows_were_dropped_survive(policy_pair: Pair) -> None:
    """Half of January is gone below: the month that only its bucket remembers is left out, and so told."""
    pair = policy_pair
    make(pair, overlap="2023-12-10Z")
    hierarchy(pair)
    pair.on_target("SELECT drop_chunks('m', older_than => '2024-01-20Z'::timestamptz)")
    # The same for days below months: December is gone there.
    pair.on_target("SELECT drop_chunks('days', older_than => '2024-01-10Z'::timestamptz)")
    # Buckets that begin before this remember rows that are gone below.
    old = {"hours": "b < '2024-01-12 01:00Z'", "days": "b < '2024-01-07 23:00Z'", "months": "b < '2024-01-31 22:00Z'"}
    before = {name: buckets(pair, name, condition) for name, condition in old.items()}
    assert before["hours"] and before["months"]
    counted = {name: len(buckets(pair, name)) for name in _WIDTHS}
    # From the middle of an hour on, a week before the oldest chunk that is left.
    report = pair.run("m", "--start", "2024-01-12T00:30:00Z", "--end", T, jobs=2)
    found = left_out(report)
    assert any("public.hours" in text and "[2024-01-12 00:00:00+00, 2024-01-12 01:00:00+00)" in text for text in found)
    assert any("public.months" in text and "[2023-12-31 23:00:00+00, " in text for text in found), found
    for name, condition in old.items():
        assert buckets(pair, name, condition) == before[name], name
        assert len(buckets(pair, name)) == counted[name], name
    inside = "b >= '2024-01-12 01:00Z'"
    assert buckets(pair, "hours", inside) == live(pair, "hours", inside)
    inside = "b >= '2024-01-12 23:00Z'"
    assert buckets(pair, "days", inside) == live(pair, "days", inside)
    inside = "b >= '2024-01-31 23:00Z'"
    assert buckets(pair, "months", inside) == live(pair, "months", inside)


def test_kill_9_while_aggregates_are_refreshed(policy_pair: Pair, tmp_path: Path) -> None:
    """The second level is locked, the command is killed in front of it, and run again."""
    pair = policy_pair
    make(pair)
    hierarchy(pair)
    below: list[Row] = pair.query(
        pair.target,
        "SELECT materialization_hypertable_schema, materialization_hypertable_name"
        " FROM timescaledb_information.continuous_aggregates WHERE view_name = 'days'",
    )
    table = sql.Identifier(str(below[0][0]), str(below[0][1]))
    ends = ("--source", pair.source_conninfo, "--target", pair.target_conninfo, "--table", "m", "--end", T)
    with psycopg.connect(pair.target_conninfo) as other:
        other.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(table))
        other.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(table))
        run = Background.start(tmp_path, "run", *ends)
        try:
            state = "SELECT count(*) FILTER (WHERE done_at IS NULL AND level = 1), count(*) FROM hyperfill.refreshes"
            until(lambda: pair.query(pair.target, "SELECT to_regclass('hyperfill.refreshes') IS NOT NULL")[0][0], 60)
            until(lambda: (row := pair.query(pair.target, state)[0])[0] == 0 and row[1], 90, "the first level")
        finally:
            run.end()
        other.rollback()
    assert pair.query(pair.target, "SELECT phase FROM hyperfill.backfills") == [("recompressed",)]
    first = pair.query(pair.target, "SELECT id, done_at FROM hyperfill.refreshes WHERE level = 1 ORDER BY id")
    assert not left_out(pair.run("m", "--end", T))
    assert pair.query(pair.target, "SELECT id, done_at FROM hyperfill.refreshes WHERE level = 1 ORDER BY id") == first
    for name in _WIDTHS:
        assert buckets(pair, name) == live(pair, name), name


def test_an_integer_axis(policy_pair: Pair) -> None:
    pair = policy_pair
    pair.both("CREATE TABLE m (time bigint NOT NULL, value float8)")
    pair.on_source("INSERT INTO m SELECT i, i FROM generate_series(-5000, 9999) AS i", "CREATE INDEX ON m (time)")
    pair.on_target(
        "SELECT create_hypertable('m', 'time', chunk_time_interval => 1000)",
        "CREATE FUNCTION present() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 10000::bigint'",
        "SELECT set_integer_now_func('m', 'present')",
        "INSERT INTO m SELECT i, -1 FROM generate_series(3000, 9999) AS i",
        "CREATE MATERIALIZED VIEW a WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS"
        " SELECT time_bucket(700::bigint, time, 100::bigint) AS b, count(*) AS n, sum(value) AS s FROM m GROUP BY 1"
        " WITH NO DATA",
        "CALL refresh_continuous_aggregate('a', NULL, NULL)",
    )
    pair.run("m", "--end", "7123", jobs=2)
    stored = "SELECT * FROM a ORDER BY 1"
    expected = "SELECT time_bucket(700::bigint, time, 100::bigint), count(*), sum(value) FROM m GROUP BY 1 ORDER BY 1"
    # The server never stores the last bucket of an open refresh.
    found = pair.query(pair.target, stored)
    assert found == pair.query(pair.target, expected)[: len(found)]
    assert len(found) >= 20


def test_a_role_that_may_not_refresh_is_refused(policy_pair: Pair) -> None:
    pair = policy_pair
    make(pair)
    hierarchy(pair)
    role = f"hyperfill_reader_{pair.target.info.dbname.rsplit('_', 2)[1]}"
    pair.on_target(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT CREATE ON DATABASE {pair.target.info.dbname} TO {role}",
        f"ALTER TABLE m OWNER TO {role}",
    )
    try:
        pair.target_conninfo = psycopg.conninfo.make_conninfo(pair.target_conninfo, user=role)
        code, report, _ = pair.command("run", "m", "--end", T)
        assert code == 3
        found = {f["code"]: f for f in report["findings"] if f["severity"] == "error"}
        assert set(found) == {"caggs"}, found
        assert "public.months" in found["caggs"]["message"] and "GRANT" in found["caggs"]["hint"]
        before = buckets(pair, "months")
        pair.run("m", "--end", T, "--no-refresh-caggs")
        assert buckets(pair, "months") == before
    finally:
        pair.on_target(f"REASSIGN OWNED BY {role} TO CURRENT_USER", f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_one_old_row_does_not_make_a_million_slices(policy_pair: Pair) -> None:
    """Half a century between two rows: what lies between is no reason to cut."""
    pair = policy_pair
    make(pair)
    pair.on_source("INSERT INTO m VALUES ('1970-01-01 00:30Z', 0, 1)")
    hierarchy(pair, refreshed=False)
    pair.run("m", "--end", "2023-12-20Z", jobs=2)
    for name in _WIDTHS:
        condition = "b < '2023-11-30 23:00Z'"
        assert buckets(pair, name, condition) == live(pair, name, condition) != [], name
    condition = "b < '2023-12-20Z'"
    assert buckets(pair, "hours", condition) == live(pair, "hours", condition)
    assert len(pair.query(pair.target, "SELECT 1 FROM hyperfill.refreshes")) < 60
