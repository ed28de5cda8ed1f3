"""Everything that hyperfill raises on purpose, and what each means to a script.

::

    HyperfillError                1  something unexpected
    ├── UsageError                2  the words of the command are wrong
    ├── Refused                   3  a check before the first write said no; nothing was changed
    │   └── LedgerConflict        3  the ledger holds something that does not fit this command
    ├── Incomplete                4  some windows are not done; run the same command again
    │   └── PoliciesOn            4  a policy that must be off is on: the run stops
    ├── Mismatch                  5  source and target differ
    └── WindowError                  one window failed; it was rolled back
        ├── RelationChanged          a name stands for another relation now: the run stops
        ├── LedgerChanged            somebody has changed the windows in the ledger: the run stops
        └── WindowAborted            the window was given up because we were told to stop
    KeyboardInterrupt
    └── Interrupted         130/143  a signal ended the run

Classes carry data and not only text, and survive pickling: workers are processes.

The driver is imported only where one of its errors is looked at: `hyperfill --help` has no use for it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

EXIT_OK = 0
EXIT_REJECTED_ROWS = 6

T = TypeVar("T")


class HyperfillError(Exception):
    """The base of all errors that a user is meant to read: a sentence, and what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception.__reduce__ passes only positional arguments: the hint would not survive the way
        # from a worker process to the parent.
        return (_rebuild, (type(self), self.message, dict(self.__dict__)))


def _rebuild(cls: type[HyperfillError], message: str, state: dict[str, Any]) -> HyperfillError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class UsageError(HyperfillError):
    """An option or a configuration file is wrong; no server was asked to do anything."""

    exit_code = 2


class Refused(HyperfillError):
    """A check before the first write found a reason not to start. Nothing was changed."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str | None = None, findings: tuple[Any, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.findings = findings


class LedgerConflict(Refused):
    """The ledger holds a backfill that contradicts what is asked for now."""


class Incomplete(HyperfillError):
    """Some windows are not done. The same command run again continues."""

    exit_code = 4


class PoliciesOn(Incomplete):
    """A policy that was held is on again, or a new one was added: no further window is moved."""


class Mismatch(HyperfillError):
    """Source and target differ."""

    exit_code = 5


class Interrupted(KeyboardInterrupt):
    """A signal ended the run; `signum` makes the exit code, as a shell would (128 + signal).

    A KeyboardInterrupt, because that is what makes the driver cancel the running statement.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by signal {signum}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        return 128 + self.signum


class WindowError(HyperfillError):
    """One window failed and was rolled back; the others go on.

    `server` is "source" or "target" where it is known, `sqlstate` what that server said.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        server: str | None = None,
        sqlstate: str | None = None,
        context: str | None = None,
        transient: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.server = server
        self.sqlstate = sqlstate
        self.context = context
        self.transient = transient

    def as_json(self) -> dict[str, Any]:
        """What the ledger keeps of the error: never a conninfo, never a value of a row but what the server quoted."""
        fields = ("message", "hint", "server", "sqlstate", "context")
        return {name: getattr(self, name) for name in fields if getattr(self, name)}


def blamed(failure: Mapping[str, Any]) -> str:
    """Who said no to a window, of `WindowError.as_json`: " on the target (SQLSTATE 23505)", as far as it is known."""
    server = f" on the {failure['server']}" if failure.get("server") else ""
    return server + (f" (SQLSTATE {failure['sqlstate']})" if failure.get("sqlstate") else "")


class RelationChanged(WindowError):
    """A name stands for another relation than when the run began: no further window is moved."""


class LedgerChanged(WindowError):
    """The ledger says of a window what this run did not write there: no further window is moved."""


class WindowAborted(WindowError):
    """The window was rolled back because a signal or a time limit told us to stop."""


@dataclass(frozen=True)
class Finding:
    """One result of preflight. An `error` stops the run before the first write."""

    severity: str  # "error" | "warning" | "note"
    code: str
    message: str
    hint: str | None = None
    table: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if v is not None}


# How long what may go away by itself is tried again before it counts as failed.
RETRY_SECONDS = 120.0
# A server may take minutes before the first row (a scan, a sort). More than that, and nobody would know that it hangs.
STALL_SECONDS = 600.0
# What goes away only when somebody does something about it, and may take hours: a run pauses and looks again.
PAUSE_STATES = {
    "53100": "the disk is full",
    "25006": "the server takes no writes (default_transaction_read_only is on)",
}
# 08 connection exceptions, 53 insufficient resources, 57P01-03 shutdown and start-up, 40001 / 40P01
# serialization and deadlock, 55P03 a lock that was not free in time: all of them may be gone a
# moment later. 57014 is not in the list: a DBA who cancels a statement means it.
TRANSIENT_CLASSES = ("08", "53")
TRANSIENT_STATES = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "58030"})
# 23505: a row dual-written late, between our DELETE and our COPY; the next attempt deletes it.
# XX000 is what a concurrent change of the same catalog row is answered with ("tuple concurrently updated").
RETRY_FEW_STATES = frozenset({"23505", "XX000"})


def sqlstate_is_transient(sqlstate: str | None) -> bool:
    """Whether an error of this SQLSTATE may be gone when the same window is tried again."""
    return sqlstate is not None and (sqlstate[:2] in TRANSIENT_CLASSES or sqlstate in TRANSIENT_STATES)


def is_transient(error: BaseException) -> bool:
    """Whether trying the same again later may succeed: by SQLSTATE, or because the connection is gone."""
    if isinstance(error, WindowError):
        return error.transient
    import psycopg

    if isinstance(error, psycopg.Error):
        # No SQLSTATE: libpq itself gave up (connection refused, reset, timed out).
        return sqlstate_is_transient(error.sqlstate) or (
            error.sqlstate is None and isinstance(error, psycopg.OperationalError)
        )
    return False


def backoff(attempt: int, *, base: float = 0.2, cap: float = 15.0) -> float:
    """Seconds to sleep before attempt `attempt` + 1: exponential, with full jitter so that workers spread out."""
    # A server that is away for hours: after a thousand attempts the power is larger than any float.
    return random.uniform(base / 2, min(cap, base * 2.0 ** min(attempt, 64)))


def retrying(action: Callable[[], T], *, seconds: float, states: frozenset[str] = frozenset()) -> T:
    """Run `action` until it succeeds, fails for a reason that will not go away, or `seconds` have passed.

    Transient errors and the SQLSTATEs in `states` are tried again, but not a lost connection: `action` would only
    meet the same dead one, and whoever called must know to open another.
    """
    import psycopg

    deadline = time.monotonic() + seconds
    attempt = 0
    while True:
        try:
            return action()
        except psycopg.Error as error:
            again = sqlstate_is_transient(error.sqlstate) or error.sqlstate in states
            if not again or time.monotonic() >= deadline:
                raise
        time.sleep(backoff(attempt, cap=2.0))
        attempt += 1


def first_line(error: BaseException) -> str:
    """The error's text without the echoed statement that the server may have appended."""
    import psycopg

    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def describe(details: Mapping[str, tuple[Any, Any]]) -> str:
    """Differences spelled out: name, what is recorded, what is asked for; a line each."""
    return "\n".join(f"  {name}: recorded {was!r}, asked for {now!r}" for name, (was, now) in details.items())
