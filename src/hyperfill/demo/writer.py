"""The application of the demo: it writes every new row to the source and to the target."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from hyperfill.demo.data import Table
from hyperfill.session import Connection
from hyperfill.sql import query

Row = tuple[Any, ...]
_PAUSE = 0.05  # seconds between two deliveries
_EACH = 20  # rows of one delivery: 400 rows per second


def insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows as an application does, in one transaction."""
    if not rows:
        return
    statement = sql.SQL(query("demo/write")).format(
        table=table.identifier, values=sql.SQL(", ").join(sql.Placeholder() * len(rows[0]))
    )
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(statement, rows)


class DualWriter:
    """Writes rows to both sides in a thread with connections of its own, until told to stop.

    Its first error is kept and raised by `stop`. A row counts as written when both sides have it.
    """

    def __init__(self, source: str, target: str, rows: Iterable[tuple[Table, Row]]) -> None:
        self.written = 0
        self._conninfos = (source, target)
        self._rows = list(rows)
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="dual-writer", daemon=True)

    def __enter__(self) -> DualWriter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def finish(self) -> int:
        """Write what is left without pauses; how many rows were written in all. Raises the thread's error."""
        self._hurry.set()
        # With a timeout, so that signals are heard meanwhile.
        while self._thread.is_alive():
            self._thread.join(0.2)
        if self._error is not None:
            raise self._error
        return self.written

    def _run(self) -> None:
        try:
            source, target = (
                psycopg.connect(conninfo, autocommit=True, application_name="the application")
                for conninfo in self._conninfos
            )
            with source, target:
                while self.written < len(self._rows) and not self._stop.is_set():
                    size = 1000 if self._hurry.is_set() else _EACH
                    delivery = self._rows[self.written : self.written + size]
                    for connection in (source, target):
                        for table in {table for table, _ in delivery}:
                            insert(connection, table, [row for t, row in delivery if t is table])
                    self.written += len(delivery)
                    if not self._hurry.is_set():
                        self._hurry.wait(_PAUSE)
        except BaseException as error:
            self._error = error
