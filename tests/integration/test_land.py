"""Chunks that are older than their policy's age end compressed and in order, each for the reason that the plan gives."""

from __future__ import annotations

import pytest

from tests.fixtures.landing import END, ORDERED, PLAIN, assert_landed, make, reasons, statuses, ways
from tests.fixtures.pair import Pair

pytestmark = pytest.mark.community


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
    pair.same("m", "note", "false")
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
