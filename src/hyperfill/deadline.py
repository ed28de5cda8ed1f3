"""Statements that must be answered in time. libpq waits for ever for a server that lives and says nothing.

Keepalives do not help: the system at the other end acknowledges them. A cancel request does not either: nobody is
there who would hear it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]


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


@contextlib.contextmanager
def expiring(connection: Connection, seconds: float) -> Iterator[threading.Event]:
    """End the connection when what is inside takes longer; whether that has happened."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        hang_up(connection)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()
        timer.join()  # or it might meet what comes afterwards


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
