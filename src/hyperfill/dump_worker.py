"""A worker of a dump: one process, one connection, writes the windows that its parent hands it, one file each.

The parent alone hears signals. When its pipe breaks (it was killed) a worker cancels what it does and leaves.
"""

from __future__ import annotations

import contextlib
import io
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import psycopg
from psycopg import pq, sql

from hyperfill import session
from hyperfill.archives import Compress, Output
from hyperfill.deadline import answered
from hyperfill.dialect import Dialect
from hyperfill.dump_folder import Lock, Piece, cannot_write
from hyperfill.endpoint import RelayError
from hyperfill.errors import (
    Incomplete,
    RelationChanged,
    WindowAborted,
    WindowError,
)
from hyperfill.manifest import DumpedWindow, sync_folder
from hyperfill.patience import Patience, as_window_error
from hyperfill.process import Event, serve
from hyperfill.relay import Throttle, drain
from hyperfill.sql import query
from hyperfill.stopping import PipedStop
from hyperfill.survey import Axis
from hyperfill.timeline import Span
from hyperfill.window import check_identity, translate

_SAY_EVERY = 0.5  # seconds between two reports of how far a window is


@dataclass(frozen=True)
class Task:
    """What a worker is started with. Holds a conninfo, so it is never logged."""

    number: int
    conninfo: str
    axis: Axis
    columns: tuple[str, ...]
    finite: bool  # leave out rows at -infinity
    folder: Path
    compress: Compress
    lock: Lock  # kept open, nothing else
    retry: float  # seconds for which a window is tried again
    stall: float | None  # as in `relay`
    bytes_per_second: float | None = None


@dataclass(frozen=True)
class DumpEvent(Event):
    """What a worker tells its parent. `kind`: done | failed | retry | progress | ended."""

    dumped: DumpedWindow | None = None
    csv_bytes: int = 0
    stored: int = 0  # bytes of the file


class _Orders(PipedStop):
    """Windows that the parent has handed out, and what else it says."""

    def __init__(self, commands: Pipe) -> None:
        self.pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()  # before anybody listens
        super().__init__(commands)

    def take(self, command: object) -> bool:
        if command is not None and not isinstance(command, Piece):
            return False
        self.pieces.put(command)
        return True


class Worker:
    """Writes windows into files, one after another. Not to be used by two threads."""

    def __init__(self, task: Task, orders: _Orders, tell: Callable[[DumpEvent], None]) -> None:
        self._task = task
        self._orders = orders
        self._tell = tell
        self._source: session.Connection | None = None
        self._patience = Patience(task.retry)
        rate = task.bytes_per_second
        self._throttle = Throttle(rate, orders.cancel) if rate else None

    def run(self) -> None:
        """Until the parent says that there is no more, or that it is enough."""
        while (piece := self._orders.pieces.get()) is not None and not self._orders.drain.is_set():
            self._piece(piece)

    def close(self) -> None:
        self._orders.connections = []
        if self._source is not None:
            with contextlib.suppress(Exception):
                self._source.close()
        self._source = None

    def _piece(self, piece: Piece) -> None:
        """One window, tried again where that may help."""
        number = self._task.number
        while True:
            try:
                dumped = self._dump(piece)
            except OSError as error:
                path = self._task.folder / piece.file
                raise cannot_write(path, error) from error
            except RelationChanged:
                raise
            except (WindowError, session.ConnectFailed) as error:
                if self._orders.cancel.is_set():
                    raise WindowAborted("stopped") from error
                verdict = self._patience.judge(piece.id, as_window_error(error), f"window {piece.id}")
                if verdict.wait is None or self._orders.drain.is_set():
                    self._tell(DumpEvent("failed", number, window=piece.id, error=error))
                    return
                if verdict.text:
                    self._tell(DumpEvent("retry", number, window=piece.id, text=verdict.text))
                self._orders.drain.wait(verdict.wait)
                continue
            self._patience.forget()
            self._tell(DumpEvent("done", number, window=piece.id, dumped=dumped))
            return

    def _connect(self) -> session.Connection:
        source = self._source
        if source is None or source.closed or source.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            self.close()
            relation = self._task.axis.relation
            columns = [c for c in relation.columns if c.name in self._task.columns]
            source = self._source = session.connect(
                self._task.conninfo,
                "source",
                application_name="hyperfill/dump",
                names_in_full=any(c.of.names_objects for c in columns),
                asked=True,
                bulk=True,
            )
        self._orders.connections = [source]
        return source

    def _dump(self, piece: Piece) -> DumpedWindow:
        """Write a window's file. It has its name when all of it is on the disk; before, and after an error, it has not.

        Raises `WindowError`, `ConnectFailed`, and OSError of the file.
        """
        final = self._task.folder / piece.file
        part = final.with_name(piece.file + ".part")
        source = self._connect()
        try:
            with io.FileIO(part, "w") as file:
                output = Output(file, self._task.compress)
                rows = self._copy(source, piece, output)
                if rows:
                    output.finish()
            if not rows:
                part.unlink()
                # An attempt that was not noted may have found rows that are gone by now.
                final.unlink(missing_ok=True)
                return DumpedWindow(piece.id, piece.lower, piece.upper, "", 0, 0, 0, "")
            part.replace(final)
            sync_folder(self._task.folder)
        except BaseException:
            self.close()  # it may be in the middle of a COPY
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        return DumpedWindow(
            piece.id, piece.lower, piece.upper, piece.file, rows, output.bytes, output.csv_bytes, output.sha256
        )

    def _copy(self, source: session.Connection, piece: Piece, output: Output) -> int:
        task, said = self._task, time.monotonic()

        def write(data: bytes | bytearray | memoryview) -> None:
            nonlocal said
            output.write(data)
            if time.monotonic() - said > _SAY_EVERY:
                said = time.monotonic()
                figures = DumpEvent(
                    "progress", task.number, window=piece.id, csv_bytes=output.csv_bytes, stored=output.bytes
                )
                self._tell(figures)

        time_type = task.axis.time_type
        span = Span(None if piece.lower is None else time_type.ordinal(piece.lower), time_type.ordinal(piece.upper))
        statement = sql.SQL(query("dump/copy_out")).format(
            columns=sql.SQL(", ").join(sql.Identifier("r", name) for name in task.columns),
            relation=task.axis.relation.identifier,
            window=task.axis.condition(span, finite=task.finite),
            options=Dialect().copy_options(),
        )
        try:
            with answered(source, task.stall):
                source.execute(
                    "SELECT pg_catalog.set_config('application_name', %s, false)", [f"hyperfill/dump/{piece.id}"]
                )
            rows = drain(source.pgconn, statement.as_bytes(source), write, throttle=self._throttle, stall=task.stall)
            with answered(source, task.stall):
                check_identity(source, "source", task.axis.relation)
        except RelayError as error:
            raise translate(error.error, error.server) from error.error
        except psycopg.Error as error:
            raise translate(error, "source") from error
        return rows


def main(task: Task, commands: Pipe, events: Pipe) -> None:
    """The body of a worker process."""
    orders = _Orders(commands)
    serve(orders, events, DumpEvent("ended", task.number), lambda tell: Worker(task, orders, tell), Incomplete)
