"""A worker of a load: one process, one connection to the target, loads the batches that come through its pipe."""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

import psycopg

from hyperfill import loads, session
from hyperfill.batch import BatchLoader, LoadOrder
from hyperfill.chunks import ChunkMaker
from hyperfill.compressed import Guard
from hyperfill.errors import (
    RETRY_FEW_STATES,
    HyperfillError,
    PoliciesOn,
    RelationChanged,
    WindowAborted,
    WindowError,
    backoff,
    first_line,
)
from hyperfill.loads import Batch
from hyperfill.sampling import Rows, ordinals
from hyperfill.window import CommitUnknown, rollback
from hyperfill.worker import RETRY_SECONDS, Event, Stop, Task, Worker, as_window_error, serve

_FEW = 5  # attempts for conflicts that the next attempt usually does not meet
_LOOK = 0.2  # seconds between two looks at whether to stop, while no batch comes


@dataclass(frozen=True)
class LoadTask:
    """What a worker of a load is started with."""

    number: int
    load: LoadOrder
    bytes_per_second: float | None = None


class LoadWorker(Worker):
    """Loads batches, one after another. Not to be used by two threads."""

    def __init__(self, task: LoadTask, data: Pipe, stop: Stop, tell: Any) -> None:
        order = task.load.order
        super().__init__(Task(task.number, (order,), task.bytes_per_second), stop, tell)
        self._load = task.load
        self._order = order
        self._data = data
        self._loader = BatchLoader(task.load, self._throttle)
        self._maker = ChunkMaker(order, lambda text: tell(Event("waiting", task.number, text=text)))
        self._guard = Guard(order)

    def run(self) -> None:
        """Load what comes until nothing more does."""
        number = 0
        while (batch := self._next()) is not None:
            number += 1
            self._load_one(batch, number)

    def _next(self) -> Batch | None:
        try:
            while not self._data.poll(_LOOK):
                if self._stop.drain.is_set():
                    return None
            if self._stop.drain.is_set():
                return None
            file, start, line, rows = self._data.recv()
            return Batch(file, start, line, rows, self._data.recv_bytes())
        except (EOFError, OSError):
            return None

    def _load_one(self, batch: Batch, number: int) -> None:
        since, count = time.monotonic(), 0
        while True:
            if self._stop.cancel.is_set():
                raise WindowAborted("stopped")
            try:
                _, target = self._open(self._order)
                self._make_room(target, batch)
                self._loader.load(target, batch)
                self._tell(Event("loaded", self._task.number, self._order.backfill, number))
                return
            except CommitUnknown:
                pass  # whether it is loaded, the next claim finds out
            except (PoliciesOn, RelationChanged):
                raise  # nothing is wrong with the batch
            except (psycopg.Error, HyperfillError) as error:
                if self._stop.cancel.is_set():
                    raise WindowAborted("stopped") from error
                found = as_window_error(error)
                again = (found.transient and time.monotonic() - since < RETRY_SECONDS) or (
                    found.sqlstate in RETRY_FEW_STATES and count + 1 < _FEW and "23" not in str(found.sqlstate)[:2]
                )
                if not again:
                    self._give_up(batch, number, found)
                    return
                self._say_retry(batch, found)
            if self._stop.drain.wait(backoff(count)):
                raise WindowAborted("stopped")
            count += 1

    def _say_retry(self, batch: Batch, error: WindowError) -> None:
        if time.monotonic() - self._said_retry > 5.0:
            self._said_retry = time.monotonic()
            text = f"batch at byte {batch.start}: {error.server or 'connection'}: {first_line(error)}; trying again"
            self._tell(Event("retry", self._task.number, self._order.backfill, text=text))

    def _give_up(self, batch: Batch, number: int, error: WindowError) -> None:
        try:
            _, target = self._open(self._order)
            rollback(target)
            loads.record_failure(target, batch.key(self._order.backfill), error)
        except (psycopg.Error, HyperfillError):
            raise error from None  # the target is away: the batch is simply not in the ledger, which is true as well
        self._tell(Event("failed", self._task.number, self._order.backfill, 0, error=error))

    def _make_room(self, target: session.Connection, batch: Batch) -> None:
        """Chunks beforehand for some of the rows, and compressed ones made partial: so nobody waits for the batch.

        Whatever is missed the batch's own transaction does, which is short.
        """
        if not self._order.chunks_beforehand:
            return
        form = self._load.files[batch.file]
        column = self._order.target.column
        if column not in form.columns:
            return
        rows = Rows(batch.data, batch.rows, self._load.dialect, form.eol, form.columns)
        times = (self._load.time_zone, self._load.date_style) if self._load.sets_times else None
        places = ordinals(target, self._order, rows.column(column), times)
        if self._load.span is not None:
            places = [at for at in places if self._load.span.contains(at)]
        self._maker.create_at(rows, target, places)
        self._guard.soften_at(target, places)


def main(task: LoadTask, commands: Pipe, events: Pipe, data: Pipe) -> None:
    """The body of a worker process."""
    serve(task.number, commands, events, lambda stop, tell: LoadWorker(task, data, stop, tell))
