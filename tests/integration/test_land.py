"""Chunks that are older than their policy's age end compressed and in order, and the plan says which and why."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.landing import (
    COLUMNS,
    END,
    ORDERED,
    PLAIN,
    ROWS,
    assert_landed,
    columnstore,
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


def test_old_chunks_are_compressed_and_young_ones_and_that_of_the_end_are_not(policy_pair: Pair) -> None:
    """The policy compresses what ends by noon of the fifth day; T is within the sixth; the application writes after."""
    pair = policy_pair
    make(pair, until="2024-01-05 12:00Z")
    pair.on_target("INSERT INTO m VALUES ('2024-01-06 07:00Z', 1, 1, 'dual'), ('2024-01-07Z', 2, 2, 'dual')")
    end = "2024-01-06T06:00:00Z"
    plan = pair.plan("m", "--end", end)
    landing = plan["landing"]
    assert ways(plan) == ["written"] * 4 + ["plain"] * 2
    assert (landing["land"], landing["written"], landing["afterwards"], landing["plain"]) == ("auto", 4, 0, 2)
    young, last = (chunk["reason"] for chunk in landing["chunks"][4:])
    assert "does not compress it yet" in young and "compress_after" in young
    assert last == "it contains the end of the range"
    assert landing["waiting_bytes"] == 0 < landing["plain_bytes"]
    report = pair.run("m", "--end", end, jobs=2)
    assert report["landed"] == {"written": 4, "afterwards": 0, "left": 0}
    assert statuses(pair) == [ORDERED] * 4 + [PLAIN] * 3
    assert_landed(pair, where=f"time < '{end}'")
    assert pair.query(pair.target, f"SELECT count(*) FROM m WHERE time >= '{end}'") == [(2,)]
    assert pair.query(pair.target, "SELECT count(*) FROM hyperfill.conversions WHERE state = 'done' AND written") == [
        (4,)
    ]


def test_plain_is_plain(policy_pair: Pair) -> None:
    make(policy_pair)
    plan = policy_pair.plan("m", "--end", END, "--land", "plain")
    assert (set(ways(plan)), reasons(plan)) == ({"plain"}, {"--land plain"})
    assert "landed" not in policy_pair.run("m", "--end", END, "--land", "plain")
    assert set(statuses(policy_pair)) == {PLAIN}
    assert_landed(policy_pair, where=f"time < '{END}'")


def test_compressed_needs_no_policy(policy_pair: Pair) -> None:
    """What auto leaves plain, and says why."""
    make(policy_pair, until=None)
    plan = policy_pair.plan("m", "--end", END)
    assert set(ways(plan)) == {"plain"} and "--land compressed does without" in str(reasons(plan))
    report = policy_pair.run("m", "--end", END, "--land", "compressed", jobs=2)
    assert report["landed"] == {"written": 6, "afterwards": 0, "left": 0}
    assert statuses(policy_pair) == [ORDERED] * 6
    assert_landed(policy_pair, where=f"time < '{END}'")


def test_a_chunk_that_was_landed_is_a_chunk_like_any_other(policy_pair: Pair) -> None:
    """A late row, a DELETE, a run of the policy, and the comparison by hash, which reads what the server answers."""
    pair = policy_pair
    make(pair, until=None)
    job = policy(pair)
    pair.run("m", "--end", END, jobs=2)
    code, report, errors = pair.command("verify", "m", "--end", END, "--mode", "hash")
    assert (code, report["state"]) == (0, "done"), errors
    for connection in (pair.source, pair.target):
        connection.execute(
            "DELETE FROM m WHERE time >= '2024-01-03 05:00Z' AND time < '2024-01-03 06:00Z' AND device = 1"
        )
        connection.execute(
            "INSERT INTO m VALUES ('2024-01-02 12:00:30Z', 1, 1e9, 'late'), ('2024-01-04Z', 8, -1e9, 'new')"
        )
        connection.execute("UPDATE m SET value = 77 WHERE time = '2024-01-05 12:00Z'")
    assert statuses(pair) == [1, 9, 9, 9, 9, 1]
    assert_landed(pair, where=BELOW)
    pair.on_target(f"CALL run_job({job})")
    assert statuses(pair) == [ORDERED] * 6
    assert_landed(pair, where=BELOW)
    code, report, errors = pair.command("verify", "m", "--end", END, "--mode", "hash")
    assert (code, report["state"]) == (0, "done"), errors


def test_repair_leaves_chunks_as_they_were(policy_pair: Pair) -> None:
    """In order where they were; partly compressed where the application had made them so, with a note."""
    pair = policy_pair
    make(pair)
    pair.run("m", "--end", END)
    pair.on_source("UPDATE m SET value = -7 WHERE time = '2024-01-02 12:00Z'")
    pair.on_target("UPDATE m SET value = -5 WHERE time = '2024-01-05Z'")
    assert statuses(pair) == [1, 1, 1, 1, 9, 1]
    code, report, errors = pair.command("repair", "m", "--end", END)
    assert code == 0, (errors, report)
    assert statuses(pair) == [1, 1, 1, 1, 9, 1]
    assert [f["severity"] for f in report["findings"] if f["code"] == "recompress"] == ["note"]
    assert_landed(pair, where=BELOW)


def test_aggregates_above(policy_pair: Pair) -> None:
    """Refreshed of what was written compressed as of plain rows."""
    pair = policy_pair
    make(pair)
    pair.on_target(
        "CREATE MATERIALIZED VIEW hours WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS"
        " SELECT time_bucket('1 hour', time) AS b, device, count(*) AS n, sum(value::numeric) AS s, min(value) AS low"
        " FROM m GROUP BY 1, 2 WITH NO DATA",
        "INSERT INTO m VALUES ('2024-01-02 12:00:30Z', 1, 1, 'before')",
        "CALL refresh_continuous_aggregate('hours', NULL, NULL)",
    )
    report = pair.run("m", "--end", END, jobs=2)
    assert report["landed"] == {"written": 5, "afterwards": 1, "left": 0}
    assert statuses(pair) == [ORDERED] * 6
    live = "SELECT date_trunc('hour', time), device, count(*), sum(value::numeric), min(value) FROM m"
    expected = pair.query(pair.source, f"{live} WHERE {BELOW} GROUP BY 1, 2 ORDER BY 1, 2")
    assert pair.query(pair.target, "SELECT * FROM hours ORDER BY 1, 2") == expected
    assert len(expected) == 6 * 24 * 7


def test_a_role_that_does_not_own_the_hypertable(policy_pair: Pair) -> None:
    pair = policy_pair
    make(pair)
    name = pair.target.info.dbname
    role = f"hyperfill_land_{name.rsplit('_', 2)[1]}"
    pair.on_target(
        f"CREATE ROLE {role} LOGIN", f"GRANT CREATE ON DATABASE {name} TO {role}", f"GRANT ALL ON m TO {role}"
    )
    try:
        pair.target_conninfo = psycopg.conninfo.make_conninfo(pair.target_conninfo, user=role)
        code, report, _ = pair.command("run", "m", "--end", END, "--land", "compressed", "--hold", "none")
        errors = {f["code"]: f["message"] for f in report["findings"] if f["severity"] == "error"}
        assert code == 3 and set(errors) == {"land"} and "owner" in errors["land"], report
        plan = pair.plan("m", "--end", END, "--hold", "none")
        assert set(ways(plan)) == {"plain"} and "owner" in str(reasons(plan))
        pair.run("m", "--end", END, "--hold", "none")
        assert statuses(pair) == [PLAIN] * 6
        assert_landed(pair, where=BELOW)
    finally:
        pair.on_target(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize(("land", "status"), [("auto", ORDERED), ("plain", PLAIN), ("compressed", ORDERED)])
def test_a_dump(policy_pair: Pair, tmp_path: Path, land: str, status: int) -> None:
    """Its chunks are compressed when they are filled; with `compressed` there need be no policy."""
    pair = policy_pair
    make(pair, until=None if land == "compressed" else "2024-01-20Z")
    dumped = pair.hyperfill(
        "dump", "--source", pair.source_conninfo, "--table", "m", "--end", END, "--out", str(tmp_path / "d"),
        "--window", "12 hours",
    )  # fmt: skip
    assert dumped.returncode == 0, dumped.stderr
    options = ("load", "--target", pair.target_conninfo, "--json", "--jobs", "2", "--land", land, str(tmp_path / "d"))
    done = pair.hyperfill(*options)
    assert done.returncode == 0, done.stderr
    assert statuses(pair) == [status] * 6
    if status:
        assert json.loads(done.stdout)["landed"] == {"written": 0, "afterwards": 6, "left": 0}
    assert_landed(pair, where=BELOW)


def test_two_backfills_of_a_file_and_what_is_told_of_them(policy_pair: Pair, tmp_path: Path) -> None:
    """`land` for all and for one of them; then status, report and clean."""
    pair = policy_pair
    make(pair, until=None)
    pair.on_target(
        "CREATE TABLE n (LIKE m)", "SELECT create_hypertable('n', 'time', chunk_time_interval => '1 day'::interval)"
    )
    columnstore(pair, relation="n")
    found = run_all(pair, tmp_path, {"m": "m", "n": "m"}, land='"compressed"')
    assert {report["landed"]["written"] for _, report in found.values()} == {6}
    assert statuses(pair) == statuses(pair, "n") == [ORDERED] * 6
    for relation in ("m", "n"):
        assert_landed(pair, relation, where=BELOW, origin="m")
    where = ("--target", pair.target_conninfo)
    status = pair.hyperfill("status", *where, "--json")
    assert [b["state"] for b in json.loads(status.stdout)["backfills"]] == ["done", "done"]
    for backfill in ("1", "2"):
        out = tmp_path / f"{backfill}.md"
        report = pair.hyperfill("report", *where, "--backfill", backfill, "--out", str(out))
        assert report.returncode == 0, report.stderr
        assert re.search(r"of these written compressed[ |*`:]+6\b", out.read_text())
    cleaned = pair.hyperfill("clean", *where)
    assert cleaned.returncode == 0, cleaned.stderr
    left = "SELECT (SELECT count(*) FROM hyperfill.backfills), (SELECT count(*) FROM hyperfill.conversions)"
    assert pair.query(pair.target, left) == [(0, 0)]
    assert statuses(pair) == [ORDERED] * 6


def test_what_is_not_to_be_compressed(policy_pair: Pair) -> None:
    """Each with its reason: no columnstore, rows chosen by a condition, a policy that is off, or goes by creation."""
    pair = policy_pair
    pair.both(f"CREATE TABLE m ({COLUMNS})")
    pair.on_source(f"INSERT INTO m {ROWS}", "CREATE INDEX ON m (time)", "ANALYZE m")
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")

    def told(*options: str) -> str:
        plan = pair.plan("m", "--end", END, *options)
        assert ways(plan) == ["plain"] * 6
        [reason] = reasons(plan)
        return reason

    assert "not switched on" in told()
    columnstore(pair)
    job = policy(pair)
    assert "--where" in told("--where", "device = 1")
    pair.on_target(f"SELECT alter_job({job}, scheduled => false)")
    assert "no compression policy is on" in told()
    pair.on_target(
        f"SELECT delete_job({job})",
        "SELECT add_compression_policy('m', compress_created_before => interval '1 day',"
        " initial_start => '2099-01-01Z'::timestamptz)",
    )
    assert "created" in told()
    pair.on_target("ALTER TABLE m SET (timescaledb.compress_chunk_time_interval = '2 days')")
    code, report, _ = pair.command("run", "m", "--end", END, "--land", "compressed")
    assert code == 3 and "merges chunks" in str(report["findings"])
    assert statuses(pair) == []
