"""Statements that must be answered in time. libpq waits for ever for a server that lives and says nothing.

Keepalives do not help: the system at the other end acknowledges them. A cancel request does not either: nobody is
there who would hear it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]
_TICK = 0.2  # seconds between two looks at the deadlines


class Stalled(psycopg.OperationalError):
    """A server has taken and given nothing for too long, though its connection is open."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing has moved for {seconds:.0f} s (--stall-timeout)")


def hang_up(connection: Connection) -> None:
    """End a connection from any thread: whoever waits for its answer is told that it is lost. No errors."""
    with (
        contextlib.suppress(OSError, psycopg.Error),
        # A descriptor of our own: libpq may close its one meanwhile, and another file may get that number.
        socket.socket(fileno=os.dup(connection.pgconn.socket)) as ours,
    ):
        ours.shutdown(socket.SHUT_RDWR)


class _Watch:
    """All deadlines of this process, and one thread for them: to start one for each statement costs more than it."""

    def __init__(self) -> None:
        self.begin()
        # Threads do not live through a fork, and a lock may be held by one.
        os.register_at_fork(after_in_child=self.begin)

    def begin(self) -> None:
        """Know no deadlines, and have no thread."""
        self._lock = threading.Lock()
        self._armed: dict[threading.Event, tuple[float, Connection]] = {}
        self._thread: threading.Thread | None = None

    def arm(self, expired: threading.Event, connection: Connection, seconds: float) -> None:
        with self._lock:
            self._armed[expired] = time.monotonic() + seconds, connection
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()

    def disarm(self, expired: threading.Event) -> None:
        # Under the lock: whoever comes afterwards must not be met.
        with self._lock:
            self._armed.pop(expired, None)

    def _run(self) -> None:
        while True:
            time.sleep(_TICK)
            with self._lock:
                now = time.monotonic()
                for expired, (deadline, connection) in self._armed.items():
                    if now > deadline and not expired.is_set():
                        expired.set()
                        hang_up(connection)


_watch = _Watch()


@contextlib.contextmanager
def expiring(connection: Connection, seconds: float) -> Iterator[threading.Event]:
    """End the connection when what is inside takes longer, up to a tick; whether that has happened."""
    expired = threading.Event()
    _watch.arm(expired, connection, seconds)
    try:
        yield expired
    finally:
        _watch.disarm(expired)


@contextlib.contextmanager
def answered(connection: Connection, seconds: float | None) -> Iterator[None]:
    """Raise `Stalled` where one short statement is not answered within so many seconds; None waits for ever."""
    if seconds is None:
        yield
        return
    with expiring(connection, seconds) as expired:
        try:
            yield
        except psycopg.OperationalError as error:
            if expired.is_set() and error.sqlstate is None:
                raise Stalled(seconds) from error
            raise
