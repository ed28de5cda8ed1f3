"""`hyperfill suggest-end`: the completion point is found, or it is said why there is none; and it is good to run with.

The application of these tests writes at the time that its rows bear, into the past: what matters are the rows.
"""

from __future__ import annotations

import re

from tests.fixtures.pair import Pair
from tests.fixtures.suggesting import BOTH, LATE, ROWS, make, shown, suggest, two_writers, use


def test_two_writers_and_late_data(pair: Pair) -> None:
    two_writers(pair)
    found = suggest(pair, "m")
    assert (found["table"], found["hypertable"], found["bucket"]) == ("public.m", "public.m", "30 minutes")
    assert found["since"] == "2024-03-01 12:08:00+00"
    assert found["missing_from"] == "2024-03-01 12:08:00+00"
    assert found["consistent_from"] == "2024-03-02 03:30:00+00"
    assert found["consistent_until"] == found["late_from"] == "2024-03-02 22:30:00+00"
    assert found["consistent_from"] < found["end"] < found["consistent_until"]
    assert found["end"] == "2024-03-02 13:00:00+00"
    assert not found["findings"]
    text = "\n".join(found["reasons"])
    for word in ("--since", "lacks 456 rows", "taken for the zone of late-arriving data", "only --lateness", "T = "):
        assert word in text, text
    zones = [b["zone"] for b in found["buckets"]]
    assert zones == ["missing"] * 31 + ["consistent"] * 38 + ["late"] * 3
    assert all(b["difference"] == b["target"] - b["source"] for b in found["buckets"])
    assert sum(b["source"] for b in found["buckets"]) == 2880 - 12 * 60 - 8
    # What is late arrives on both sides at last.
    pair.on_target(f"INSERT INTO m SELECT * FROM ({ROWS}) AS r (time, device, value, note) WHERE {LATE}")
    use(pair, found["end"])
    assert len(pair.same("m", "time, device, value, note")) == 2880


def test_lateness_moves_the_end(pair: Pair) -> None:
    two_writers(pair)
    found = suggest(pair, "m", "--lateness", "2 hours")
    # The newest row is at 23:59: what ends after 21:59 may still change.
    assert found["late_from"] == "2024-03-02 21:30:00+00"
    assert (found["consistent_from"], found["consistent_until"]) == ("2024-03-02 03:30:00+00", found["late_from"])
    assert found["end"] == "2024-03-02 21:00:00+00"
    assert "--lateness is 2 hours" in "\n".join(found["reasons"])
    assert "only --lateness" not in "\n".join(found["reasons"])
    assert "the target lacks" in "\n".join(found["reasons"])
    assert suggest(pair, "m", "--lateness", "2h", "--bucket", "1h")["end"] == "2024-03-02 20:00:00+00"
    narrow = suggest(pair, "m", "--lateness", "2h", "--since", "2024-03-02T05:00+01:00", "--bucket", "10 min")
    assert narrow["end"] == "2024-03-02 21:40:00+00"
    assert (narrow["since"], narrow["consistent_from"]) == ("2024-03-02 04:00:00+00",) * 2
    assert narrow["missing_from"] is None


def test_rows_that_are_missing_before_the_zone(pair: Pair) -> None:
    """With a known lateness a row that is missing before is missing for good: any T would be a guess."""
    two_writers(pair)
    found = suggest(pair, "m", "--lateness", "20 min", code=3)
    assert found["end"] is found["consistent_from"] is found["consistent_until"] is None
    assert re.search(r"\[2024-03-02 23:00:00\+00, 2024-03-02 23:30:00\+00\): source 30, target 25", found["error"])
    assert found["error"] in found["reasons"]
    assert len(found["buckets"]) == 72


def test_dual_writing_that_stopped(pair: Pair) -> None:
    make(pair, f"{BOTH} AND time < '2024-03-02 20:10Z'")
    found = suggest(pair, "m", code=3)
    assert found["end"] is None
    assert "nobody writes to the target any more" in found["error"]
    assert "2024-03-02 20:15:00+00" in found["error"]
    for lateness in ("1h", "3h30min"):
        assert suggest(pair, "m", "--lateness", lateness, code=3)["end"] is None
    # Late data comes late to both sides: whoever says that it explains this is told what it looks like.
    found = suggest(pair, "m", "--lateness", "6h")
    assert any("nobody seems to write to it any more" in reason for reason in found["reasons"])
    done = shown(pair, "m")
    assert done.returncode == 3
    assert "missing writes" in done.stdout
    assert "nobody writes to the target any more" in done.stderr


def test_one_of_two_writers_stopped(pair: Pair) -> None:
    """Rows are missing at the same rate all the time: that does not look like data which is late."""
    make(pair, f"{BOTH} AND (device = 0 OR time < '2024-03-02 20:10Z')")
    found = suggest(pair, "m")
    assert found["consistent_until"] == found["late_from"] == "2024-03-02 20:00:00+00"
    assert any("one of several writers that writes no more" in reason for reason in found["reasons"])
    # For most of the time it cannot be that at all.
    pair.on_target("DELETE FROM m WHERE device = 1 AND time > '2024-03-02 12:00Z'")
    assert "in too many buckets" in suggest(pair, "m", code=3)["error"]


def test_an_outage_is_not_stepped_over(pair: Pair) -> None:
    make(pair, f"{BOTH} AND time NOT BETWEEN '2024-03-02 10:00Z' AND '2024-03-02 11:00Z'")
    found = suggest(pair, "m")
    assert found["missing_from"] == "2024-03-02 10:00:00+00"
    assert found["consistent_from"] == "2024-03-02 11:15:00+00"
    assert found["end"] > found["consistent_from"]
    use(pair, found["end"])
    assert len(pair.same("m", "time, device, value, note")) == 2880


def test_values_that_differ_are_seen(pair: Pair) -> None:
    """As many rows in every bucket, but two of them swapped a value: T lies behind that."""
    make(pair, BOTH)
    counted = suggest(pair, "m")
    assert counted["consistent_from"] == "2024-03-02 03:20:00+00"
    pair.on_target(
        "UPDATE m SET value = value + 1 WHERE time = '2024-03-02 12:31Z'",
        "UPDATE m SET value = value - 1 WHERE time = '2024-03-02 12:33Z'",
    )
    found = suggest(pair, "m")
    assert all(b["difference"] == 0 for b in found["buckets"])
    assert [b["lower"] for b in found["buckets"] if not b["equal"]] == ["2024-03-02 12:30:00+00"]
    assert found["missing_from"] == "2024-03-02 12:30:00+00"
    assert found["consistent_from"] == "2024-03-02 12:45:00+00"
    assert "with other values: 2024-03-02 12:30:00+00" in "\n".join(found["reasons"])
    assert suggest(pair, "m", "--columns", "time,device,note")["consistent_from"] == counted["consistent_from"]
    pair.on_target("UPDATE m SET note = 'other'")
    refused = suggest(pair, "m", code=3)
    assert "with other values" in refused["error"] and "--columns" in refused["hint"]
    use(pair, found["end"], "m", "--verify", "none")
    # Only what dual-writing alone is answerable for is still as it was written.
    assert pair.query(pair.target, f"SELECT count(*) FROM m WHERE note = 'other' AND time < '{found['end']}'") == [(0,)]


def test_nothing_in_common(pair: Pair) -> None:
    make(pair, "false")
    assert "dual-writing has not begun" in suggest(pair, "m", code=3)["error"]
    assert "the target has no rows since" in suggest(pair, "m", "--since", "2024-03-01T00:00Z", code=3)["error"]
    found = suggest(pair, "m", "--since", "2030-01-01T00:00Z", code=3)
    assert "neither side has any rows since 2030-01-01 00:00:00+00" in found["error"]
    assert (found["end"], found["buckets"], found["late_from"]) == (None, [], None)
    # Rows of the target that the source never had.
    pair.on_target("INSERT INTO m SELECT time + interval '7 days' FROM (" + ROWS + ") AS r (time)")
    assert "the source has no rows since 2024-03-08" in suggest(pair, "m", code=3)["error"]
    pair.on_source(
        "INSERT INTO m SELECT '2024-03-08Z'::timestamptz + i * interval '61 s' FROM generate_series(0,2830) i"
    )
    assert suggest(pair, "m", code=3)["end"] is None


def test_more_rows_on_the_target_are_told(pair: Pair) -> None:
    make(pair, BOTH)
    pair.on_source("DELETE FROM m WHERE time BETWEEN '2024-03-02 05:00Z' AND '2024-03-02 05:05Z'")
    found = suggest(pair, "m")
    assert found["consistent_from"] == "2024-03-02 05:15:00+00"
    assert "the target has 6 rows more than the source in 1 bucket" in "\n".join(found["reasons"])


def test_since_before_anything_was_written(pair: Pair) -> None:
    make(pair, BOTH)
    found = suggest(pair, "m", "--since", "2024-03-01T00:00Z", "--bucket", "20 min")
    assert (found["missing_from"], found["consistent_from"]) == (None, "2024-03-02 03:20:00+00")
    assert {b["zone"] for b in found["buckets"] if b["target"] == 0} == {"before"}
    assert "nobody wrote to the target yet" in "\n".join(found["reasons"])


def test_rows_in_the_future_do_not_move_the_present(pair: Pair) -> None:
    make(pair, BOTH)
    before = suggest(pair, "m", "--lateness", "1h")
    for at in ("2199-01-01Z", "infinity"):
        pair.on_source(f"INSERT INTO m VALUES ('{at}')")
    pair.on_target("INSERT INTO m VALUES ('2198-01-01Z')")
    after = suggest(pair, "m", "--lateness", "1h")
    assert (after["end"], after["bucket"], after["buckets"]) == (before["end"], before["bucket"], before["buckets"])
    assert "the last of them is at 2199-01-01" in "\n".join(after["reasons"])
    assert "in the future" in suggest(pair, "m", "--since", "2100-01-01T00:00Z", code=3)["error"]
