"""A worker of a dump: one process, one connection, writes the windows that its parent hands it, one file each.

The parent alone hears signals. When its pipe breaks (it was killed) a worker cancels what it does and leaves.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import psycopg
from psycopg import pq, sql

from hyperfill import session
from hyperfill.archives import Compress, Output
from hyperfill.deadline import answered
from hyperfill.dialect import Dialect
from hyperfill.dump_folder import Lock, Piece, cannot_write
from hyperfill.errors import (
    RETRY_FEW_STATES,
    HyperfillError,
    Incomplete,
    RelationChanged,
    WindowAborted,
    WindowError,
    backoff,
    first_line,
)
from hyperfill.manifest import DumpedWindow, sync_folder
from hyperfill.relay import RelayError, Throttle, drain
from hyperfill.sql import query
from hyperfill.stopping import CANCEL
from hyperfill.survey import Axis
from hyperfill.timeline import Span
from hyperfill.window import check_identity, translate
from hyperfill.worker import IGNORED, Event

_FEW = 5  # attempts for conflicts that the next attempt usually does not meet
_SAY_EVERY = 0.5  # seconds between two reports of how far a window is
_SAY_RETRY = 5.0


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


class _Orders:
    """Windows that the parent has handed out, and what else it says."""

    def __init__(self, commands: Pipe) -> None:
        self.pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self.drain = threading.Event()
        self.cancel = threading.Event()
        self.connection: session.Connection | None = None
        self._commands = commands
        threading.Thread(target=self._listen, name="commands", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                command = self._commands.recv()
            except (EOFError, OSError):
                command = CANCEL
            if isinstance(command, Piece):
                self.pieces.put(command)
                continue
            self.drain.set()
            self.pieces.put(None)
            if command == CANCEL:
                break
        self.cancel.set()
        # A cancel that arrives between two statements is lost: repeat it until the worker is gone.
        while True:
            if (connection := self.connection) is not None:
                with contextlib.suppress(Exception):
                    connection.cancel_safe(timeout=5)
            time.sleep(0.2)


class Worker:
    """Writes windows into files, one after another. Not to be used by two threads."""

    def __init__(self, task: Task, orders: _Orders, tell: Callable[[DumpEvent], None]) -> None:
        self._task = task
        self._orders = orders
        self._tell = tell
        self._source: session.Connection | None = None
        self._said_retry = 0.0
        rate = task.bytes_per_second
        self._throttle = Throttle(rate, orders.cancel) if rate else None

    def run(self) -> None:
        """Until the parent says that there is no more, or that it is enough."""
        while (piece := self._orders.pieces.get()) is not None and not self._orders.drain.is_set():
            self._piece(piece)

    def close(self) -> None:
        self._orders.connection = None
        if self._source is not None:
            with contextlib.suppress(Exception):
                self._source.close()
        self._source = None

    def _piece(self, piece: Piece) -> None:
        """One window, tried again where that may help."""
        number = self._task.number
        started, count = time.monotonic(), 0
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
                again = time.monotonic() - started < self._task.retry and not self._orders.drain.is_set()
                transient, state = (error.transient, error.sqlstate) if isinstance(error, WindowError) else (True, None)
                if again and (transient or (state in RETRY_FEW_STATES and count + 1 < _FEW)):
                    if time.monotonic() - self._said_retry > _SAY_RETRY:
                        self._said_retry = time.monotonic()
                        text = f"window {piece.id}: {error.message}; trying again"
                        self._tell(DumpEvent("retry", number, window=piece.id, text=text))
                    self._orders.drain.wait(backoff(count))
                    count += 1
                    continue
                self._tell(DumpEvent("failed", number, window=piece.id, error=error))
                return
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
        self._orders.connection = source
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
    # Ctrl-C reaches every process of the terminal's group; only the parent decides what it means.
    for signum in IGNORED:
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)  # the parent blocked them while we started
    logging.getLogger("hyperfill").addHandler(logging.NullHandler())
    orders = _Orders(commands)

    def tell(event: DumpEvent) -> None:
        # A parent that is gone hears nothing; the command pipe has broken as well and stops us.
        with contextlib.suppress(OSError):
            events.send(event)

    worker = Worker(task, orders, tell)
    ended = DumpEvent("ended", task.number)
    try:
        worker.run()
    except WindowAborted:
        ended = replace(ended, text="aborted")
    except HyperfillError as error:
        ended = replace(ended, error=error)
    except Exception as error:
        ended = replace(ended, error=Incomplete(f"{type(error).__name__}: {first_line(error)}"))
    finally:
        worker.close()
        tell(ended)
        with contextlib.suppress(OSError):
            events.close()
    if orders.cancel.is_set():
        os._exit(0)  # the command thread may be inside a cancel request
