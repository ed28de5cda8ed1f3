"""What is tried again, how long and how often, what is waited for, and what is given up at once."""

from __future__ import annotations

import time
from itertools import pairwise

import psycopg
import pytest

from hyperfill.errors import RETRY_FEW_STATES, WindowError, backoff, retrying, sqlstate_is_transient
from hyperfill.loader import _FEW_STATES
from hyperfill.patience import Patience, as_window_error
from hyperfill.session import ConnectFailed

LONG = 1e6  # seconds
TRANSIENT = [
    "08000", "08001", "08003", "08006", "53000", "53200", "53300", "57P01", "57P02", "57P03", "40001", "40P01",
    "55P03", "58030",
]  # fmt: skip
# 57014: a DBA who cancels a statement means it. 25P02 would be a mistake of ours.
FINAL = ["57014", "42501", "23502", "23514", "22P02", "42P01", "25P02", "22021", "54000", "XX001", "XX002"]
FEW = ["23505", "XX000"]


def failed(sqlstate: str, server: str = "target", text: str = "it says why") -> WindowError:
    return WindowError(text, server=server, sqlstate=sqlstate, transient=sqlstate_is_transient(sqlstate))


def attempts(patience: Patience, error: WindowError, most: int = 50) -> int:
    """How often a window that always fails like this is tried, the first time included; at most `most` times."""
    for count in range(1, most):
        if patience.judge(1, error).wait is None:
            return count
    return most


@pytest.mark.parametrize("server", ["source", "target"])
def test_how_often_each_class_is_tried(server: str) -> None:
    for seconds, of_transient in ((LONG, 50), (0.0, 1)):
        found = {s: attempts(Patience(seconds), failed(s, server)) for s in TRANSIENT + FINAL + FEW}
        assert found == dict.fromkeys(TRANSIENT, of_transient) | dict.fromkeys(FINAL, 1) | dict.fromkeys(FEW, 5)


def test_a_lost_connection_is_tried_until_the_time_is_over() -> None:
    """No SQLSTATE: libpq itself gave up. An error of the driver's own that is none of a connection stays."""
    lost = as_window_error(psycopg.OperationalError("server closed the connection unexpectedly"))
    assert attempts(Patience(LONG), lost) == 50
    refused = as_window_error(ConnectFailed("source", "connection refused"))
    assert (refused.server, attempts(Patience(LONG), refused)) == ("source", 50)
    assert attempts(Patience(LONG), as_window_error(psycopg.DataError("no bytes"))) == 1
    assert attempts(Patience(LONG), as_window_error(ValueError("of ours"))) == 1


def test_the_time_is_that_of_a_window_and_begins_with_its_first_failure() -> None:
    patience, error = Patience(0.3), failed("40001", "source")
    assert patience.judge(1, error).wait is not None
    time.sleep(0.4)
    assert patience.judge(1, error).wait is None
    assert patience.judge(2, error).wait is not None
    patience.forget()
    assert patience.judge(1, error).wait is not None


def test_the_few_attempts_are_those_of_a_window() -> None:
    patience = Patience(0.0)
    assert [attempts(patience, failed("XX000")), attempts(patience, failed("XX000"))] == [5, 1]
    assert patience.judge(2, failed("XX000")).wait is not None
    patience.forget()
    assert attempts(patience, failed("XX000")) == 5


def test_a_load_does_not_try_a_key_again() -> None:
    """It deletes nothing before a batch: the key will be there the next time."""
    assert attempts(Patience(LONG, _FEW_STATES), failed("23505")) == 1
    assert attempts(Patience(LONG, _FEW_STATES), failed("XX000")) == 5
    assert {"23505"} == RETRY_FEW_STATES - _FEW_STATES


@pytest.mark.parametrize(("sqlstate", "word"), [("53100", "disk is full"), ("25006", "takes no writes")])
def test_a_target_that_a_person_must_mend_is_waited_for(sqlstate: str, word: str) -> None:
    patience, error = Patience(0.0), failed(sqlstate, text="No space left on device")
    verdicts = [patience.judge(1, error) for _ in range(8)]
    # No time and no number ends it, and every look is told.
    assert [v.wait for v in verdicts] == [2, 4, 8, 16, 32, 60, 60, 60]
    assert all(v.pause and word in v.text and f"again in {v.wait:.0f} s (No space" in v.text for v in verdicts)
    patience.forget()
    assert patience.judge(1, error).wait == 2


def test_a_pause_costs_a_window_none_of_its_attempts() -> None:
    patience = Patience(0.0)
    for _ in range(3):
        assert [patience.judge(1, failed("XX000")).wait is None for _ in range(4)] == [False] * 4
        assert patience.judge(1, failed("53100")).pause


def test_a_source_is_never_paused_for() -> None:
    """There a full disk is the temporary file of a sort, which is gone when the statement is over."""
    assert attempts(Patience(LONG), failed("53100", "source")) == 50
    assert attempts(Patience(0.0), failed("53100", "source")) == 1
    assert attempts(Patience(LONG), failed("25006", "source")) == 1
    for state in ("53100", "25006"):
        verdict = Patience(LONG).judge(1, failed(state, "source"))
        assert not verdict.pause and "paused" not in verdict.text


def test_the_same_is_not_said_at_every_attempt() -> None:
    patience = Patience(LONG)
    texts = [patience.judge(n, failed("55P03"), f"window {n}").text for n in range(3)]
    assert texts == ["window 0: target: it says why; trying again", "", ""]
    assert patience.judge(1, failed("55P03", "source"), "window 1").text.startswith("window 1: source: ")
    assert patience.judge(1, failed("55P03", text="another"), "window 1").text.endswith("another; trying again")


def test_pauses_grow_up_to_a_cap_and_differ() -> None:
    """Workers that failed at the same moment must not come back at the same moment."""
    for attempt, most in ((0, 0.2), (1, 0.4), (3, 1.6), (6, 12.8), (7, 15), (30, 15)):
        pauses = [backoff(attempt) for _ in range(200)]
        assert all(0.1 <= pause <= most for pause in pauses)
        # Over the whole of it: that not one of 200 is in either quarter at the ends happens once in 10^24.
        assert min(pauses) < 0.1 + (most - 0.1) / 4 and max(pauses) > most - (most - 0.1) / 4
    assert all(backoff(n, cap=2.0) <= 2.0 for n in range(50))


def test_a_server_that_is_away_for_days() -> None:
    """--retry-for may be long: some thousand attempts, each of which takes the next power of two."""
    assert all(0.1 <= backoff(attempt) <= 15 for attempt in (1000, 1023, 1024, 5000, 10**6))
    assert attempts(Patience(LONG), failed("57P03"), most=2000) == 2000


def refusing(sqlstate: str | None, times: int) -> tuple[list[float], object]:
    """What an action that fails so many times is called with: the moments, and what comes of it."""
    moments: list[float] = []

    def action() -> str:
        moments.append(time.monotonic())
        if len(moments) <= times:
            raise psycopg.errors.lookup(sqlstate)("no") if sqlstate else psycopg.OperationalError("gone")
        return "done"

    try:
        return moments, retrying(action, seconds=1.0, states=frozenset({"XX000"}))
    except psycopg.Error as error:
        return moments, error


@pytest.mark.parametrize("sqlstate", ["40P01", "55P03", "XX000"])
def test_a_transaction_of_the_run_itself_is_tried_again(sqlstate: str) -> None:
    moments, result = refusing(sqlstate, 2)
    assert (len(moments), result) == (3, "done")
    assert all(b - a >= 0.1 for a, b in pairwise(moments))


def test_and_not_for_longer_than_it_may() -> None:
    moments, result = refusing("XX000", 1000)
    assert isinstance(result, psycopg.errors.InternalError_) and len(moments) > 2
    # Neither what will not go away, nor on a connection that is gone.
    for sqlstate in ("42501", "57014", None):
        assert len(refusing(sqlstate, 1)[0]) == 1
