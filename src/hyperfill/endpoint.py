"""One end of a relay: a connection in COPY state with its socket, and the waiting for it.

libpq is driven without blocking: a call that waits inside of it would hold the GIL, and could not be given up.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGconn, PGresult

from hyperfill.deadline import Stalled

# Seconds after which a wait looks at the other side, and at how long it has been.
TICK = 1.0

T = TypeVar("T")
_COPIES = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT)


class RelayError(Exception):
    """One side of the relay failed. `server` says which; the driver's error is the cause."""

    def __init__(self, server: str, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.server = server
        self.error = error


class Endpoint:
    """One connection in COPY state, with its socket. Through libpq alone; `splice` has others."""

    def __init__(self, server: str, pgconn: PGconn, stall: float | None = None) -> None:
        """`stall`: how many seconds of waiting, with nothing moving, are too many."""
        self.server = server
        self.pgconn = pgconn
        self.heard = False  # something has arrived while data was sent
        self._stall = stall
        self._idle = 0.0
        self._selector = selectors.DefaultSelector()
        self._key = self._selector.register(pgconn.socket, selectors.EVENT_READ)

    def close(self) -> None:
        """Let go of what is not the connection's own."""
        self._selector.close()

    def wait(self, events: int, timeout: float | None = None) -> int:
        """Which of `events` are there, at the latest after `timeout` seconds. Raises `Stalled`."""
        if events != self._key.events:
            self._key = self._selector.modify(self._key.fileobj, events)
        ready = self._selector.select(timeout)
        if ready:
            self._idle = 0.0
            return ready[0][1]
        # Only the time that was spent waiting for this side counts: meanwhile the other one may be slow.
        self._idle += timeout or 0.0
        if self._stall is not None and self._idle >= self._stall:
            raise Stalled(self._idle)
        return 0

    def wait_to_send(self) -> None:
        """Wait until more can be sent; reads as well, or both ends could wait for each other for ever."""
        if self.wait(selectors.EVENT_READ | selectors.EVENT_WRITE, TICK) & selectors.EVENT_READ:
            self.pgconn.consume_input()
            self.heard = True

    def flush(self) -> None:
        """Send what libpq has buffered."""
        while self.pgconn.flush():
            self.wait_to_send()

    def start(self, statement: bytes) -> None:
        self.pgconn.send_query(statement)
        self.flush()

    def result(self) -> PGresult | None:
        while self.pgconn.is_busy():
            if self.wait(selectors.EVENT_READ, TICK):
                self.pgconn.consume_input()
        return self.pgconn.get_result()

    def expect(self, status: pq.ExecStatus) -> None:
        """Wait for the server to enter COPY; raises its error instead."""
        result = self.result()
        if result is None or result.status != status:
            self.finish(result)
            raise psycopg.OperationalError("the server did not start a COPY")

    def put(self, data: bytes | bytearray | memoryview) -> None:
        """Send COPY data."""
        while not self.pgconn.put_copy_data(data):
            self.flush()
            self.wait(selectors.EVENT_WRITE, TICK)
        self.flush()

    def put_end(self, reason: bytes | None = None) -> None:
        """End the COPY; with an error of our own, if there is a reason."""
        while not self.pgconn.put_copy_end(reason):
            self.flush()
        self.flush()

    def finish(self, result: PGresult | None = None) -> int:
        """Read results until there are none; the number of rows of the last, or its error raised."""
        rows = -1
        failed: PGresult | None = None
        while result is not None or (result := self.result()) is not None:
            if result.status == pq.ExecStatus.COMMAND_OK:
                rows = result.command_tuples or 0
            elif result.status in _COPIES:
                break
            else:
                failed = failed or result
            result = None
        if failed is not None:
            raise error_from_result(failed, encoding="utf-8")
        return rows


def guard(side: Endpoint, action: Callable[[], T]) -> T:
    """Do something on a side; the driver's error becomes a `RelayError`."""
    try:
        return action()
    except psycopg.Error as error:
        raise RelayError(side.server, error) from error
