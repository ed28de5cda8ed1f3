"""Holds that somebody deletes from the ledger, and what is not said where nothing is held."""

from __future__ import annotations

import pytest

from tests.fixtures.community import HELD, jobs_on, make_policies, whole_jobs
from tests.fixtures.holding import RANGE, Start, assert_moved, done, ids, make_source
from tests.fixtures.pair import Pair
from tests.fixtures.scenes import until

pytestmark = pytest.mark.community


def test_holds_that_are_deleted_while_it_runs(policy_pair: Pair, start: Start) -> None:
    """The run has turned the policies off, and says at its end that they are; what it says turns them on again."""
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before, on = whole_jobs(pair.target), jobs_on(pair.target)
    run = start(pair, *RANGE, "--jobs", "1", "--max-rate", "250kB")
    until(lambda: done(pair), 30, "a window")
    pair.on_target("DELETE FROM hyperfill.holds")
    assert run.wait(60) == 0, run.stderr
    [lost] = [f for f in run.report["findings"] if f["code"] == "policies-off"]
    assert lost["severity"] == "warning" and "hyperfill.holds" in lost["message"]
    for name in HELD:
        assert f"(job {jobs[name]})" in lost["message"]
    assert jobs_on(pair.target) == on - ids(jobs, *HELD)
    pair.on_target(*(s for s in lost["hint"].split(": ", 1)[1].split(";") if s.strip()))
    assert whole_jobs(pair.target) == before
    assert_moved(pair)


def test_nothing_to_do_turns_nothing_off(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    make_policies(pair.target)
    for state, expected in (("done", True), ("nothing", False)):
        code, report, errors = pair.command("run", "public.m", *RANGE)
        assert (code, report["state"]) == (0, state), errors
        said = [f["message"] for f in report["findings"] if f["code"] == "policies"]
        assert any("turned off" in text for text in said) is expected, said
        assert "policies-off" not in {f["code"] for f in report["findings"]}
