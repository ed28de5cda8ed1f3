"""The run's own connection to the target."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import psycopg

from hyperfill import ledger, session
from hyperfill.errors import HyperfillError
from hyperfill.session import Connection
from hyperfill.window import Order

T = TypeVar("T")


class Control:
    """The run's own connection to the target: its session marks the backfills as running. Replaced when it is lost."""

    _PAUSE = 5.0  # seconds between two attempts to connect again

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._tried = 0.0
        self.connection = self._open()

    def _open(self) -> Connection:
        return session.connect(self._conninfo, "target", application_name="hyperfill/control")

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def keep(self, orders: Sequence[Order], *, must: bool = False) -> None:
        """Connect again if the session is gone, and mark the backfills; without `must` now and then, in silence."""
        if not self.connection.closed:
            if not must:
                return
            try:
                self.connection.execute("SELECT 1")
                return
            except psycopg.Error:
                self.connection.close()
        if not must and time.monotonic() - self._tried < self._PAUSE:
            return
        self._tried = time.monotonic()
        try:
            self.connection = self._open()
            for order in orders:
                ledger.mark_running(self.connection, order.backfill)
        except (psycopg.Error, HyperfillError):
            if must:
                raise

    def insist(self, action: Callable[[], T]) -> T:
        """Do something that can be entered again; once more where the connection was lost, or takes no writes.

        `action` has to begin with `keep(must=True)`.
        """
        try:
            return action()
        except psycopg.errors.ReadOnlySqlTransaction:
            self.connection.close()  # a session that began while its database was read-only stays so
        except psycopg.OperationalError:
            if not self.connection.closed:
                raise
        return action()
