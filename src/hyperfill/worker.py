"""A worker: one process, one source and one target connection, claims windows until there are none.

The parent alone hears signals and tells its workers through a pipe. When the pipe breaks (the parent
was killed) a worker cancels what it does and leaves: nobody would read its figures any more.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

import psycopg
from psycopg import pq

from hyperfill import ledger, policies, session
from hyperfill.chunks import ChunkMaker
from hyperfill.compressed import Guard
from hyperfill.errors import (
    RETRY_SECONDS,
    STALL_SECONDS,
    HyperfillError,
    PoliciesOn,
    RelationChanged,
    WindowAborted,
    WindowError,
    backoff,
)
from hyperfill.lander import Lander
from hyperfill.patience import Patience, Verdict, as_window_error
from hyperfill.process import Event, serve
from hyperfill.relay import Throttle
from hyperfill.source import ServerSource
from hyperfill.stopping import PipedStop, Stop
from hyperfill.window import CommitUnknown, Order, RowSource, move, rollback, span_of

# Seconds until the second look at windows that others hold: twice as many until each further one, at most the last.
# Most are done in a moment: with the longest pause at once, a run would end by waiting for a worker that waits.
_POLL, _POLL_MOST = 0.01, 0.3
_SAY_WAITING = 5.0


@dataclass(frozen=True)
class Task:
    """What a worker is started with."""

    number: int
    orders: tuple[Order, ...]
    bytes_per_second: float | None = None
    stall: float | None = STALL_SECONDS
    retry: float = RETRY_SECONDS


class Worker:
    """Moves windows of the orders, one after another. Not to be used by two threads."""

    def __init__(self, task: Task, stop: Stop, tell: Any) -> None:
        self._task = task
        self._stop = stop
        self._tell = tell
        self._target: session.Connection | None = None
        self._sources: dict[tuple[str, bool], session.Connection] = {}
        self._servers: dict[int, ServerSource] = {}  # of each backfill
        self._dumps: dict[str, RowSource] = {}
        self._making = 0  # the window whose chunks are made beforehand now
        self._patience = Patience(task.retry)
        self._replica = False
        self._throttle = Throttle(task.bytes_per_second, stop.cancel) if task.bytes_per_second else None

    def run(self) -> None:
        """Work on every order until none of its windows can be claimed by anybody."""
        for order in self._task.orders:
            if not self._stop.drain.is_set():
                self._work(order)

    def close(self) -> None:
        """Close all connections; an open transaction is rolled back by the server."""
        for connection in [self._target, *self._sources.values()]:
            self._close(connection)
        self._target, self._sources = None, {}
        self._stop.connections = []

    @staticmethod
    def _close(connection: session.Connection | None) -> None:
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()

    def _open(self, order: Order) -> tuple[RowSource | None, session.Connection]:
        """Where the rows come from, and the connection to the target, opened anew if they have gone."""
        if self._target is None or not _usable(self._target):
            self._close(self._target)
            self._target = session.connect(
                order.target_conninfo, "target", application_name=f"hyperfill/{order.backfill}", asked=True
            )
            # A crash of the server may take back the last windows, rows and ledger together: they are moved again. When
            # the ledger says that all are done, it says so on disk, and with it is what was written before.
            self._target.execute("SET synchronous_commit = off")
            self._replica = False
        if order.triggers_off is not self._replica:
            self._replica = order.triggers_off
            # The workers' sessions only: a refresh or a compression has no business with it.
            role = "replica" if self._replica else "origin"
            self._target.execute("SELECT pg_catalog.set_config('session_replication_role', %s, false)", [role])
        source = self._row_source(order)
        self._stop.connections = [self._target, *self._sources.values()]
        return source, self._target

    def _row_source(self, order: Order) -> RowSource | None:
        if order.dump is not None:
            return self._dumps.get(order.dump) or self._open_dump(order)
        if order.source_conninfo is None:
            return None
        known = order.source_conninfo, order.names_objects
        source = self._sources.get(known)
        if source is None or not _usable(source):
            self._close(source)
            name = f"hyperfill/{order.backfill}"
            source = session.connect(
                order.source_conninfo,
                "source",
                application_name=name,
                names_in_full=order.names_objects,
                asked=True,
                bulk=True,
            )
            self._sources[known] = source
        found = self._servers.get(order.backfill)
        if found is None or found.connection is not source:
            found = self._servers[order.backfill] = ServerSource(source, order, self._task.stall)
        return found

    def _open_dump(self, order: Order) -> RowSource:
        from hyperfill.dump_source import DumpSource

        found = self._dumps[str(order.dump)] = DumpSource(order, self._task.stall)
        return found

    def _work(self, order: Order) -> None:
        maker = ChunkMaker(order, lambda text: self._tell(Event("waiting", self._task.number, text=text)))
        guard = Guard(order)
        lander = Lander(order, lambda text: self._tell(Event("waiting", self._task.number, text=text)))
        begin_at = 2**31 - 1 if order.newest else 0
        cursor = begin_at
        said = time.monotonic()
        poll = _POLL
        self._patience.forget()
        while not self._stop.drain.is_set():
            claimed: ledger.Claim | None = None
            self._making = 0
            try:
                source, target = self._open(order)
                claimed = self._claim(order, maker, guard, lander, source, target, cursor)
                if claimed is None:
                    if cursor != begin_at:
                        cursor = begin_at  # once more from the start: a dead worker may have left something behind
                        continue
                    pending = ledger.pending(target, order.backfill)
                    if pending == 0:
                        return
                    if time.monotonic() - said > _SAY_WAITING:
                        said = time.monotonic()
                        self._say_waiting(order, target, pending)
                    self._stop.drain.wait(poll)
                    poll = min(2 * poll, _POLL_MOST)
                    continue
                poll = _POLL
                cursor = claimed.id
                moved = move(source, target, order, claimed, throttle=self._throttle, landing=lander)
                if moved.note:
                    text = f"window {claimed.id}: {moved.note}"
                    self._tell(Event("waiting", self._task.number, order.backfill, claimed.id, text=text))
                self._patience.forget()
                lander.filled(target, claimed.id)
                said = time.monotonic()
            except CommitUnknown as unknown:
                if not self._resolve(order, unknown.window):
                    lost = WindowError("the connection was lost at COMMIT, and the window rolled back", server="target")
                    lost.transient = True
                    if self._failed(order, unknown.window, lost):
                        cursor = unknown.window + (1 if order.newest else -1)
            except PoliciesOn:
                raise  # nothing is wrong with the window
            except (WindowError, psycopg.Error, HyperfillError) as error:
                window = claimed.id if claimed else self._making
                if isinstance(error, WindowError) and lander.refused(window, error):
                    cursor = window + (1 if order.newest else -1)
                elif self._failed(order, window, as_window_error(error)):
                    # Let the next claim find the same window again.
                    cursor = begin_at if not window else window + (1 if order.newest else -1)

    def _claim(
        self,
        order: Order,
        maker: ChunkMaker,
        guard: Guard,
        lander: Lander,
        source: RowSource | None,
        target: session.Connection,
        cursor: int,
    ) -> ledger.Claim | None:
        """Open the window's transaction and claim; chunks are created, compressed while empty, or made partial before
        and outside of it.

        Windows of a compressed chunk that another worker is in are passed over, for now.
        """
        while not self._stop.drain.is_set():
            try:
                claimed = ledger.claim(target, order.backfill, cursor, newest=order.newest)
                window = span_of(order, claimed) if claimed is not None else None
                if claimed is not None and order.watch is not None:
                    policies.check_off(target, order.watch)
            except BaseException:
                rollback(target)
                raise
            if claimed is None or window is None:
                target.execute("ROLLBACK")
                return None
            cells = maker.missing(window, claimed.estimate) if source is not None else []
            if cells and source is not None:
                target.execute("ROLLBACK")
                self._making = claimed.id
                maker.create(source, target, cells, window)
                lander.compress_empty(target, lander.plain_and_empty(target, claimed, window))
                self._making = 0
                cursor = claimed.id + (1 if order.newest else -1)
                continue
            whole = guard.enter(target, window)
            empty = lander.plain_and_empty(target, claimed, window) if whole == [] and source is not None else []
            if whole == [] and not empty:
                return claimed
            target.execute("ROLLBACK")
            cursor = claimed.id
            if whole:
                guard.soften(target, whole, window)
            if empty:
                lander.compress_empty(target, empty)
            if whole or empty:
                cursor += 1 if order.newest else -1
        return None

    def _say_waiting(self, order: Order, target: session.Connection, pending: int) -> None:
        holders = [a for a in ledger.activity(target) if a.backfill == order.backfill and a.window]
        who = ", ".join(f"window {a.window}: pid {a.pid} since {a.age:.0f} s" for a in holders[:5])
        text = f"{pending} windows are held by other workers ({who or 'their sessions are ending'}): waiting"
        self._tell(Event("waiting", self._task.number, order.backfill, text=text))

    def _failed(self, order: Order, window: int, error: WindowError) -> bool:
        """Note a failure. True: try again, the pause is over; False: this window is given up for this run."""
        if self._stop.cancel.is_set():
            raise WindowAborted("stopped") from error
        verdict = self._patience.judge(window, error, f"window {window}" if window else "")
        if window and not verdict.pause:
            self._record(order, window, error, final=verdict.wait is None)
        if self._wait(order, window, verdict):
            return True
        if not window or isinstance(error, RelationChanged):
            raise error
        self._tell(Event("failed", self._task.number, order.backfill, window, error=error))
        return False

    def _wait(self, order: Order, window: int, verdict: Verdict) -> bool:
        """Wait for the next attempt, or until told to drain; False if there is to be none."""
        if verdict.wait is None:
            return False
        if verdict.text:
            kind = "waiting" if verdict.pause else "retry"
            self._tell(Event(kind, self._task.number, order.backfill, window, text=verdict.text))
        if verdict.pause:
            # A session that began while its database was read-only stays so.
            self._close(self._target)
            self._target = None
        self._stop.drain.wait(verdict.wait)
        return True

    def _record(self, order: Order, window: int, error: WindowError, *, final: bool) -> None:
        try:
            _, target = self._open(order)
            rollback(target)
            ledger.record_failure(target, order.backfill, window, error, final=final)
        except (psycopg.Error, HyperfillError):
            # The target is away: the window stays pending in the ledger, which is true as well.
            if final:
                raise error from None

    def _resolve(self, order: Order, window: int) -> bool:
        """Find out whether a COMMIT took effect whose answer was lost."""
        deadline = time.monotonic() + self._task.retry
        attempt = 0
        while True:
            try:
                _, target = self._open(order)
                done = ledger.resolve_commit(target, order.backfill, window)
            except (psycopg.Error, HyperfillError) as error:
                if time.monotonic() > deadline or self._stop.cancel.is_set():
                    raise WindowError(
                        f"window {window}: the connection was lost at COMMIT and could not be opened again: {error}",
                        server="target",
                        hint="the ledger knows whether the window is done: run the same command again",
                    ) from error
                self._stop.cancel.wait(backoff(attempt))
                attempt += 1
                continue
            return done


def _usable(connection: session.Connection) -> bool:
    """Whether a connection lives and is between transactions: a COPY that failed on the other side is still in it."""
    return not connection.closed and connection.pgconn.transaction_status == pq.TransactionStatus.IDLE


def main(task: Task, commands: Pipe, events: Pipe) -> None:
    """The body of a worker process."""
    stop = PipedStop(commands)
    serve(stop, events, Event("ended", task.number), lambda tell: Worker(task, stop, tell))
