"""A worker of a load: one thread, one connection to the target, loads the batches that it is given."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

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
)
from hyperfill.loads import Batch
from hyperfill.patience import Patience, as_window_error
from hyperfill.process import Event
from hyperfill.relay import Throttle
from hyperfill.sampling import MANY, Rows, ordinals
from hyperfill.stopping import Stop
from hyperfill.window import CommitUnknown, rollback
from hyperfill.worker import Task, Worker

# Nothing is deleted before a batch: a key that is there will be there the next time.
_FEW_STATES = RETRY_FEW_STATES - {"23505"}

_Ready = tuple[Batch, "Future[bytes | memoryview | None]"]


class LoadWorker(Worker):
    """Loads batches, one after another. Not to be used by two threads."""

    def __init__(
        self,
        load: LoadOrder,
        task: Task,
        take: Callable[[bool], Batch | None],
        stop: Stop,
        tell: Callable[[Event], None],
    ) -> None:
        """`take(True)` waits for the next batch, None when there will be none; `take(False)` does not wait."""
        super().__init__(task, stop, tell)
        self._patience = Patience(task.retry, _FEW_STATES)
        # After a batch, not in it: its transaction must be short, whatever the rate. And a drain ends the sleep.
        self._pace = Throttle(task.bytes_per_second, stop.drain) if task.bytes_per_second else None
        self._load = load
        self._order = load.order
        self._take = take
        self._loader = BatchLoader(load, task.stall)
        self._maker = ChunkMaker(load.order, lambda text: tell(Event("waiting", task.number, text=text)))
        self._guard = Guard(load.order)

    def run(self) -> None:
        """Load what comes until nothing more does. While a batch is sent, the next one is encoded if it is there."""
        number = 0
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode") as pool:
            ready: _Ready | None = None
            while not self._stop.drain.is_set():
                ready = ready or self._next(pool, wait=True)
                if ready is None:
                    return
                batch, encoded = ready[0], ready[1].result()
                ready = self._next(pool, wait=False)
                number += 1
                self._load_one(batch, encoded, number)
                if self._pace is not None:
                    self._pace.passed(batch.length)

    def _next(self, pool: ThreadPoolExecutor, *, wait: bool) -> _Ready | None:
        batch = self._take(wait)
        return None if batch is None else (batch, pool.submit(self._loader.encode, batch))

    def _load_one(self, batch: Batch, encoded: bytes | memoryview | None, number: int) -> None:
        self._patience.forget()
        while True:
            if self._stop.cancel.is_set():
                raise WindowAborted("stopped")
            try:
                _, target = self._open(self._order)
                self._make_room(target, batch)
                self._loader.load(target, batch, encoded)
                self._tell(Event("loaded", self._task.number, self._order.backfill, number))
                return
            except CommitUnknown as unknown:
                # Whether it is loaded, the next claim finds out.
                found = WindowError("the connection was lost at COMMIT", server="target", transient=True)
                found.__cause__ = unknown
            except (PoliciesOn, RelationChanged):
                raise  # nothing is wrong with the batch
            except (psycopg.Error, HyperfillError) as error:
                if self._stop.cancel.is_set():
                    raise WindowAborted("stopped") from error
                found = as_window_error(error)
            verdict = self._patience.judge(number, found, f"batch at byte {batch.start}")
            if not self._wait(self._order, 0, verdict):
                self._give_up(batch, number, found)
                return
            if self._stop.drain.is_set():
                raise WindowAborted("stopped")

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
        if self._maker.cells(places) > 1:
            places = ordinals(target, self._order, rows.column(column, MANY), times)
        if self._load.span is not None:
            places = [at for at in places if self._load.span.contains(at)]
        self._maker.create_at(rows, target, places)
        self._guard.soften_at(target, places)
