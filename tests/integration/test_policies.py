"""Policies on a server that has them: held while windows are moved, restored exactly, whatever happens in between."""

from __future__ import annotations

import json

import pytest

from tests.fixtures.community import HELD, job_table, jobs_on, make_policies, whole_jobs
from tests.fixtures.holding import END, RANGE, START, Start, assert_moved, by_hand, done, ids, make_source, phase
from tests.fixtures.pair import Pair
from tests.fixtures.scenes import until

pytestmark = pytest.mark.community


def test_a_run_turns_policies_off_and_restores_them_exactly(policy_pair: Pair, start: Start) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before, on = whole_jobs(pair.target), jobs_on(pair.target)
    plan = pair.plan("public.m", *RANGE)
    assert {p["job"] for p in plan["policies"]} == ids(jobs, *HELD, "refresh2")
    assert "alter_job" in plan["sql"]["hold_policies"]
    assert whole_jobs(pair.target) == before
    run = start(pair, *RANGE, "--max-rate", "100kB", "--jobs", "2")
    until(lambda: done(pair) >= 2, what="two windows")
    assert jobs_on(pair.target) == on - ids(jobs, *HELD)
    assert run.wait() == 0, run.stderr
    assert whole_jobs(pair.target) == before
    assert phase(pair) == "done"
    assert_moved(pair)
    rows = pair.query(pair.target, "SELECT job_id, outcome, (job ->> 'scheduled')::bool FROM hyperfill.holds")
    assert set(rows) == {(jobs[n], "on", True) for n in HELD}
    assert pair.query(pair.target, "SELECT count(*) FROM hyperfill.hold_users") == [(0,)]


def test_both_schemas_of_procedures(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    pair.on_target(
        f"UPDATE {job_table(pair.target)} SET proc_schema = '_timescaledb_internal' WHERE id = {jobs['compression']}"
    )
    held = by_hand(pair, "hold")["held"]
    assert {h["job"] for h in held} == ids(jobs, *HELD)


def test_only_the_kinds_that_are_asked_for(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    pair.run("public.m", *RANGE, "--hold", "compression,retention")
    held = pair.query(pair.target, "SELECT job_id FROM hyperfill.holds")
    assert {r[0] for r in held} == ids(jobs, "compression", "retention")
    code, _, errors = pair.command("run", "public.m", *RANGE, "--hold", "compressoin")
    assert code == 2 and "compressoin" in errors
    plan = pair.plan("public.m", *RANGE, "--again", "--hold", "none")
    warned = [f["message"] for f in plan["findings"] if f["severity"] == "warning" and f["code"] == "policies"]
    assert len(warned) == len(HELD)


def test_two_backfills_share_a_hold(policy_pair: Pair, start: Start) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before, on = whole_jobs(pair.target), jobs_on(pair.target)
    middle = "2024-01-11T00:00:00Z"
    slow = start(pair, "--start", START, "--end", middle, "--no-refresh-caggs", "--max-rate", "30kB", "--jobs", "1")
    until(lambda: done(pair) >= 1, what="a window")
    report = pair.run("public.m", "--start", middle, "--end", END, "--no-refresh-caggs")
    assert any("stays held for backfill 1" in f["message"] for f in report["findings"])
    assert phase(pair, report["backfill"]) == "done"
    assert slow.process.poll() is None
    assert jobs_on(pair.target) == on - ids(jobs, *HELD)
    assert slow.wait() == 0, slow.stderr
    assert whole_jobs(pair.target) == before
    assert_moved(pair)


def test_what_an_operator_does_meanwhile_stays(policy_pair: Pair) -> None:
    """Turned on, deleted, changed: between an interrupted run and the release."""
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    by_hand(pair, "hold")
    pair.on_target(
        f"SELECT alter_job({jobs['compression']}, scheduled => true)",
        "SELECT remove_reorder_policy('public.m')",
        f"SELECT alter_job({jobs['retention']}, schedule_interval => interval '2 hours', timezone => 'Asia/Tokyo')",
    )
    released = by_hand(pair, "release")
    assert released["state"] == "released"
    assert len(released["changed"]) == 2 and len(released["notes"]) == 2
    on = jobs_on(pair.target)
    assert ids(jobs, "compression", "retention", "refresh1") <= on and jobs["reorder"] not in on
    row = json.loads(whole_jobs(pair.target)[jobs["retention"]][0])
    assert (row["schedule_interval"], row["timezone"]) == ("02:00:00", "Asia/Tokyo")
    assert by_hand(pair, "release")["state"] == "nothing"


def test_release_is_refused_while_a_backfill_is_unfinished(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before, on = whole_jobs(pair.target), jobs_on(pair.target)
    code, report, _ = pair.command("run", "public.m", *RANGE, "--max-duration", "1ms", "--jobs", "1")
    assert code == 4 and report["state"] == "incomplete"
    [held] = [f for f in report["findings"] if f["code"] == "held"]
    assert "policies release" in held["hint"]
    shown = by_hand(pair, "show")
    assert shown["state"] == "held"
    assert {p["job"]: p["held_for"] for p in shown["policies"] if p["held"]} == {jobs[n]: [1] for n in HELD}
    by_hand(pair, "release", code=3)
    assert jobs_on(pair.target) == on - ids(jobs, *HELD)
    cleaned = pair.hyperfill("clean", "--target", pair.target_conninfo, "--force")
    assert cleaned.returncode == 0 and "still held" in cleaned.stderr
    by_hand(pair, "release")
    assert whole_jobs(pair.target) == before
    pair.command("run", "public.m", *RANGE, "--max-duration", "1ms", "--jobs", "1")
    assert by_hand(pair, "release", "--force")["state"] == "released"
    assert whole_jobs(pair.target) == before


def test_held_by_hand_survives_a_run(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before = whole_jobs(pair.target)
    assert {h["job"] for h in by_hand(pair, "hold")["held"]} == ids(jobs, *HELD)
    assert by_hand(pair, "hold")["changed"] == []
    report = pair.run("public.m", *RANGE)
    assert any("by hand" in f["message"] for f in report["findings"])
    assert not ids(jobs, *HELD) & jobs_on(pair.target)
    by_hand(pair, "release")
    assert whole_jobs(pair.target) == before
