"""What becomes of a window or a batch that failed: waited for, tried again after a while, or given up.

One answer for every worker that writes: whether rows come from a server, a dump or files makes no difference to a
disk that is full.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass

import psycopg

from hyperfill.errors import (
    PAUSE_STATES,
    RETRY_FEW_STATES,
    WindowError,
    backoff,
    first_line,
    is_transient,
)
from hyperfill.session import ConnectFailed
from hyperfill.window import translate

_PAUSE_FIRST, _PAUSE_MOST = 2.0, 60.0  # seconds between two looks at a server that takes no rows
_FEW = 5  # attempts for conflicts that the next attempt usually does not meet
_SAY_EVERY = 5.0  # seconds until the same is said once more


@dataclass(frozen=True)
class Verdict:
    """What to do about a failure."""

    wait: float | None  # seconds until the next attempt; None: there is none
    pause: bool = False  # a person has to mend it: it is no fault of the window, and costs it no attempt
    text: str = ""  # to be said; empty: enough was said


class Patience:
    """What one worker has failed at since it last moved anything. Not to be used by two threads."""

    def __init__(self, seconds: float, few: frozenset[str] = RETRY_FEW_STATES) -> None:
        """`seconds`: how long what may go away by itself is tried again; `few`: SQLSTATEs to be tried some times."""
        self._seconds = seconds
        self._few = few
        self._attempts: dict[Hashable, tuple[int, float]] = {}  # what failed -> how often, when first
        self._paused = 0.0  # seconds, of the last pause
        self._said: tuple[str, float] = ("", 0.0)

    def forget(self) -> None:
        """Something was moved: the servers are well."""
        self._attempts.clear()
        self._paused = 0.0

    def judge(self, what: Hashable, error: WindowError, name: str = "") -> Verdict:
        """Note a failure of `what`, which is called `name` where it has a name."""
        # Only the target: of a source, this may be a temporary file of a sort, and is over with the statement.
        if error.sqlstate in PAUSE_STATES and error.server == "target":
            self._attempts.clear()
            self._paused = min(_PAUSE_MOST, self._paused * 2) if self._paused else _PAUSE_FIRST
            text = f"{error.server}: {PAUSE_STATES[error.sqlstate]}: paused, looking again in {self._paused:.0f} s"
            return Verdict(self._paused, pause=True, text=f"{text} ({first_line(error)})")
        now = time.monotonic()
        count, since = self._attempts.get(what, (0, now))
        self._attempts[what] = (count + 1, since)
        again = error.transient and now - since < self._seconds
        if not again and not (error.sqlstate in self._few and count + 1 < _FEW):
            return Verdict(None)
        reason = f"{error.server or 'connection'}: {first_line(error)}; trying again"
        text = f"{name}: {reason}" if name else reason
        if self._said[0] == reason and now - self._said[1] < _SAY_EVERY:
            text = ""
        else:
            self._said = (reason, now)
        return Verdict(backoff(count), text=text)


def as_window_error(error: Exception) -> WindowError:
    """Whatever went wrong with a window or batch, as one kind of error."""
    if isinstance(error, WindowError):
        return error
    if isinstance(error, psycopg.Error):
        return translate(error, "target")
    if isinstance(error, ConnectFailed):
        return WindowError(error.message, hint=error.hint, server=error.role, transient=True)
    return WindowError(str(error), transient=is_transient(error))
