"""Runs that are killed, signalled or stopped while policies are held: nothing is lost of them."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable

import pytest

from tests.fixtures.community import FUTURE, HELD, job_table, jobs_on, make_policies, whole_jobs
from tests.fixtures.holding import LOCK, RANGE, Start, assert_moved, by_hand, done, ids, locking, make_source, phase
from tests.fixtures.pair import Pair
from tests.fixtures.scenes import until

pytestmark = pytest.mark.community


def _at_hold(pair: Pair, _: dict[str, int]) -> bool:
    return phase(pair) == "held"


def _some_windows(pair: Pair, _: dict[str, int]) -> bool:
    return done(pair) >= 3


KILL_AT: dict[str, tuple[str | None, Callable[[Pair, dict[str, int]], bool]]] = {
    "inside the hold": ("LOCK TABLE {jobs} IN SHARE MODE", lambda p, _: _waits(p)),
    "held": (None, _at_hold),
    "some windows": (None, _some_windows),
}


def _waits(pair: Pair) -> bool:
    statement = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'hyperfill/control' AND wait_event_type = 'Lock'"
    )
    return bool(pair.query(pair.target, statement)[0][0])


@pytest.mark.parametrize("moment", KILL_AT)
def test_kill_and_the_same_command_again(policy_pair: Pair, start: Start, moment: str) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before, on = whole_jobs(pair.target), jobs_on(pair.target)
    lock, reached = KILL_AT[moment]
    statement = lock.format(jobs=job_table(pair.target)) if lock else "SELECT 1"
    with locking(pair, statement):
        run = start(pair, *RANGE, "--max-rate", "100kB", "--jobs", "2")
        until(lambda: reached(pair, jobs), what=moment)
        run.signal_group(signal.SIGKILL)
        run.wait()
    until(lambda: not _waits(pair))
    held = set() if moment == "inside the hold" else ids(jobs, *HELD)
    until(lambda: jobs_on(pair.target) == on - held, what="the state at the kill")
    report = pair.run("public.m", *RANGE, jobs=2)
    assert report["backfill"] == 1
    assert whole_jobs(pair.target) == before
    assert_moved(pair)


@pytest.mark.parametrize("moment", ["before the phase", "inside the release"])
def test_kill_at_the_end_and_the_same_command_again(policy_pair: Pair, start: Start, moment: str) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before, on = whole_jobs(pair.target), jobs_on(pair.target)
    run = start(pair, *RANGE, "--max-rate", "200kB", "--jobs", "2")
    until(lambda: done(pair) >= 2, what="two windows")
    lock = LOCK if moment == "before the phase" else f"LOCK TABLE {job_table(pair.target)} IN SHARE MODE"
    with locking(pair, lock):
        until(lambda: done(pair) == 20 and _waits(pair), what=moment)
        assert (phase(pair) == "held") == (moment == "before the phase")
        assert phase(pair) != "done"
        run.signal_group(signal.SIGKILL)
        run.wait()
    until(lambda: not _waits(pair))
    time.sleep(0.3)
    assert jobs_on(pair.target) == on - ids(jobs, *HELD)
    assert phase(pair) != "done"
    pair.run("public.m", *RANGE)
    assert whole_jobs(pair.target) == before
    assert phase(pair) == "done"
    assert_moved(pair)


@pytest.mark.parametrize("how", ["turned on", "added"])
def test_a_policy_that_is_on_meanwhile_stops_the_run(policy_pair: Pair, start: Start, how: str) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    if how == "added":
        pair.on_target("SELECT remove_retention_policy('public.m')")
    before = whole_jobs(pair.target)
    run = start(pair, *RANGE, "--max-rate", "50kB", "--jobs", "2")
    until(lambda: done(pair) >= 2, what="two windows")
    if how == "added":
        pair.on_target(f"SELECT add_retention_policy('public.m', interval '400 years', initial_start => '{FUTURE}')")
    else:
        pair.on_target(f"SELECT alter_job({jobs['compression']}, scheduled => true)")
    assert run.wait() == 4, run.stderr
    report = run.report
    assert report["state"] == "incomplete" and report["windows"]["failed"] == 0
    assert next(f["message"] for f in report["findings"] if f["code"] == "policies-on").count(how) == 1
    assert any(f["code"] == "held" for f in report["findings"])
    pair.run("public.m", *RANGE)
    after = whole_jobs(pair.target)
    if how == "added":
        assert {k: v for k, v in after.items() if k in before} == before
        assert all(json.loads(row)["scheduled"] for k, (row, _) in after.items() if k not in before)
    else:
        assert jobs_on(pair.target) == {k for k, (row, _) in before.items() if json.loads(row)["scheduled"]}
        changed = {k for k in before if after[k] != before[k]}
        assert changed <= {jobs["compression"]}  # the operator's alter_job took its time zone
    original = pair.query(pair.target, f"SELECT job FROM hyperfill.holds WHERE job_id = {jobs['compression']}")
    assert [r[0]["timezone"] for r in original] == ["Europe/Berlin"]


def test_a_release_by_force_stops_a_run(policy_pair: Pair, start: Start) -> None:
    pair = policy_pair
    make_source(pair)
    make_policies(pair.target)
    before = whole_jobs(pair.target)
    runs = [start(pair, *RANGE, "--max-rate", "25kB", "--jobs", "1") for _ in range(2)]
    until(lambda: done(pair) >= 3, what="three windows")
    by_hand(pair, "release", code=3)
    assert len(by_hand(pair, "release", "--force")["changed"]) == len(HELD)
    assert whole_jobs(pair.target) == before
    assert [run.wait() for run in runs] == [4, 4]
    assert whole_jobs(pair.target) == before
    again = [start(pair, *RANGE, "--jobs", "1") for _ in range(3)]
    assert [run.wait() for run in again] == [0, 0, 0]
    assert whole_jobs(pair.target) == before
    assert_moved(pair)


def test_a_signal_leaves_the_hold_and_says_so(policy_pair: Pair, start: Start) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    run = start(pair, *RANGE, "--max-rate", "60kB", "--jobs", "1")
    until(lambda: done(pair) >= 1, what="a window")
    run.signal(signal.SIGTERM)
    assert run.wait() == 143
    assert any(f["code"] == "held" and "policies release" in f["hint"] for f in run.report["findings"])
    assert not ids(jobs, *HELD) & jobs_on(pair.target)
