"""After a mismatch policies stay held; a repair turns them on, compresses again, and refreshes what it touched."""

from __future__ import annotations

import pytest

from tests.fixtures.community import HELD, jobs_on, make_policies, whole_jobs
from tests.fixtures.pair import Pair

pytestmark = pytest.mark.community

RANGE = ("--end", "2024-02-10T00:00:00Z")
SPOIL = (
    "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.value := -1; RETURN NEW; END'",
    "CREATE TRIGGER spoil BEFORE INSERT ON m FOR EACH ROW WHEN (NEW.time = '2024-02-05Z' AND NEW.device = 2) "
    "EXECUTE FUNCTION spoil()",
)


def make_source(pair: Pair) -> None:
    pair.on_source(
        "CREATE TABLE m (time timestamptz NOT NULL, device int NOT NULL, value float8)",
        "INSERT INTO m SELECT '2024-02-01Z'::timestamptz + i * interval '1 hour', d, i "
        "FROM generate_series(0, 263) AS i, generate_series(1, 3) AS d",
        "CREATE INDEX ON m (time)",
    )


def chunk_states(pair: Pair) -> list[tuple[object, ...]]:
    return pair.query(pair.target, "SELECT status & 9 FROM _timescaledb_catalog.chunk WHERE status & 1 = 1 ORDER BY id")


def test_policies_stay_held_until_the_difference_is_repaired(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before, on = whole_jobs(pair.target), jobs_on(pair.target)
    pair.on_target(*SPOIL)
    code, report, errors = pair.command("run", "m", *RANGE)
    assert (code, report["state"]) == (5, "mismatch"), errors
    assert jobs_on(pair.target) == on - {jobs[name] for name in HELD}
    assert "still held" in errors or any("held" in f["message"] for f in report["findings"])
    # A repair that ends with a difference as well leaves them as they are.
    code, report, errors = pair.command("repair", "m", *RANGE)
    assert (code, report["state"]) == (5, "mismatch"), errors
    assert jobs_on(pair.target) == on - {jobs[name] for name in HELD}
    pair.on_target("DROP TRIGGER spoil ON m")
    code, report, errors = pair.command("repair", "m", *RANGE)
    assert (code, report["state"]) == (0, "done"), errors
    assert whole_jobs(pair.target) == before
    assert pair.query(pair.target, "SELECT count(*) FROM hyperfill.hold_users") == [(0,)]
    assert {row[0] for row in pair.query(pair.target, "SELECT phase FROM hyperfill.backfills")} == {"done"}


def test_a_repair_in_compressed_chunks_leaves_them_compressed_and_aggregates_right(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    make_policies(pair.target)
    assert pair.command("run", "m", *RANGE)[0] == 0
    pair.on_target("SELECT compress_chunk(c) FROM show_chunks('m', older_than => '2024-02-10Z'::timestamptz) AS c")
    states = chunk_states(pair)
    assert len(states) == 9 and set(states) == {(1,)}
    assert pair.command("verify", "m", *RANGE)[0] == 0
    pair.on_target(
        "DELETE FROM m WHERE time = '2024-02-05Z'",
        "INSERT INTO m VALUES ('2024-02-06 00:30Z', 9, 9)",
        "SELECT compress_chunk(c) FROM show_chunks('m', older_than => '2024-02-10Z'::timestamptz) AS c",
    )
    assert chunk_states(pair) == states
    for level in ("hourly", "daily"):
        pair.on_target(f"CALL refresh_continuous_aggregate('{level}', NULL, NULL)")
    code, report, errors = pair.command("verify", "m", *RANGE)
    assert code == 5
    assert [d["lower"] for d in report["differences"]] == ["2024-02-05 00:00:00+00", "2024-02-06 00:00:00+00"]
    code, report, errors = pair.command("repair", "m", *RANGE)
    assert (code, report["state"]) == (0, "done"), errors
    assert report["windows"]["total"] == 2
    assert chunk_states(pair) == states
    pair.same("m", "time, device, value", "time < '2024-02-10Z'")
    pair.on_target("ALTER MATERIALIZED VIEW hourly SET (timescaledb.materialized_only = true)")
    assert pair.query(pair.target, "SELECT n FROM hourly WHERE t = '2024-02-05 00:00Z'") == [(3,)]
    assert pair.query(pair.target, "SELECT n FROM hourly WHERE t = '2024-02-06 00:00Z'") == [(3,)]


def test_a_compressed_source_is_compared(policy_pair: Pair) -> None:
    """Rows are read through the columnstore on either side."""
    pair = policy_pair
    make_source(pair)
    make_policies(pair.target)
    assert pair.command("run", "m", *RANGE)[0] == 0
    pair.on_target(
        "CREATE TABLE copy (LIKE m)",
        "SELECT create_hypertable('copy', 'time', chunk_time_interval => interval '3 days')",
        "INSERT INTO copy SELECT * FROM m",
        "SELECT compress_chunk(c) FROM show_chunks('m') AS c",
    )
    conninfo = pair.target_conninfo
    ends = ("--source", conninfo, "--target", conninfo, "--table", "public.m", "--hypertable", "copy")
    assert pair.hyperfill("verify", *ends, *RANGE).returncode == 0
    pair.on_target("UPDATE copy SET value = value + 1 WHERE time = '2024-02-07Z' AND device = 1")
    assert pair.hyperfill("verify", *ends, *RANGE).returncode == 5
