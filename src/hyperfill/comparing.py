"""Windows are compared: pairs of connections read both sides at the same time, and nothing is written anywhere.

Threads and not processes: a reader sends a statement and waits for two numbers.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import psycopg

from hyperfill import catalog, session
from hyperfill.errors import (
    RETRY_SECONDS,
    HyperfillError,
    Incomplete,
    RelationChanged,
    WindowError,
    backoff,
    is_transient,
)
from hyperfill.fingerprint import NOTHING, Fingerprint, Mode, Side, fingerprints, sides
from hyperfill.relay import Throttle
from hyperfill.session import Connection
from hyperfill.sql import query
from hyperfill.stopping import Stop
from hyperfill.timeline import Span, split_even
from hyperfill.window import Order, check_identity, translate

T = TypeVar("T")
Role = Literal["source", "target"]
# Windows that are read in one pass: small ones would cost more in round trips than in rows.
_PASS_ROWS = 250_000
_PASS_WINDOWS = 500
_SCAN_WINDOWS = 5_000  # without an index every pass reads everything


@dataclass(frozen=True)
class Piece:
    """A window to compare. `estimate`: how many rows the source seems to have there."""

    id: int
    span: Span
    estimate: int


@dataclass(frozen=True)
class Compared:
    """What both sides have in a window."""

    piece: Piece
    source: Fingerprint
    target: Fingerprint

    @property
    def equal(self) -> bool:
        return self.source == self.target


@dataclass(frozen=True)
class Failed:
    """A window that could not be compared."""

    piece: Piece
    error: WindowError


@dataclass(frozen=True)
class Pace:
    """How hard the servers are asked. `rows_per_second` on each side, over all jobs."""

    jobs: int
    rows_per_second: float | None = None
    retry: float = RETRY_SECONDS  # for which a lost connection is tried again


class Reader:
    """One side of the comparison: a connection that is opened when it is needed, and again when it was lost."""

    def __init__(self, order: Order, role: Role, stop: Stop, name: str) -> None:
        self._name = name
        self._order = order
        self._role: Role = role
        self._stop = stop
        self._connection: Connection | None = None

    def open(self) -> Connection:
        """A connection that reads only, and with one process: --jobs is what the user allows."""
        found = self._connection
        if found is not None and not found.closed:
            return found
        self.close()
        order = self._order
        conninfo = order.source_conninfo if self._role == "source" else order.target_conninfo
        assert conninfo is not None
        found = session.connect(conninfo, self._role, application_name=self._name, names_in_full=order.names_objects)
        found.execute(query("fingerprint/reader"))
        self._connection = found
        self._stop.connections.append(found)
        return found

    def server(self) -> catalog.Server:
        return catalog.read_server(self.open())

    def fingerprints(self, side: Side, pieces: Sequence[Span], mode: Mode) -> list[Fingerprint]:
        """Of neighbouring pieces. Raises `RelationChanged` if the relation is another one by now."""
        connection = self.open()
        relation = side.axis.relation
        # In one transaction: the lock of the statement keeps the relation and its columns until it is looked at.
        with connection.transaction():
            found = fingerprints(connection, side, pieces, mode)
            check_identity(connection, self._role, relation, [c.name for c in relation.columns])
        return found

    def fingerprint(self, side: Side, span: Span, mode: Mode) -> Fingerprint:
        """Of one span."""
        return self.fingerprints(side, [span], mode)[0]

    def cancel(self) -> None:
        """What runs on the server, asked for by another thread. One that comes between two statements is lost."""
        if (connection := self._connection) is not None:
            with contextlib.suppress(Exception):
                connection.cancel_safe(timeout=5)

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(ValueError):
                self._stop.connections.remove(self._connection)
            with contextlib.suppress(Exception):
                self._connection.close()
        self._connection = None


class Ends:
    """Both sides, asked at the same time. Not to be used by two threads."""

    def __init__(self, order: Order, stop: Stop, retry: float = RETRY_SECONDS, purpose: str = "verify") -> None:
        """`purpose`: how sessions are named that belong to no backfill."""
        self.stop = stop
        self._retry = retry
        name = f"hyperfill/{order.backfill or purpose}"
        self.source = Reader(order, "source", stop, name)
        self.target = Reader(order, "target", stop, name)
        self._order = order
        self._sides: tuple[Side, Side] | None = None
        self._other = ThreadPoolExecutor(max_workers=1, thread_name_prefix="target")

    def sides(self) -> tuple[Side, Side]:
        """The two relations as they are compared."""
        if self._sides is None:
            self._sides = sides(self._order, *self._both(self.source.server, self.target.server))
        return self._sides

    def _both(self, here: Callable[[], T], there: Callable[[], T]) -> tuple[T, T]:
        other = self._other.submit(_as_window_error, there, "target")
        try:
            return _as_window_error(here, "source"), other.result()
        except BaseException:
            # Both statements end before anything else is done with their connections. A signal is heard here alone.
            while wait([other], timeout=0.2).not_done:
                self.target.cancel()
            raise

    def ask(self, what: Callable[[Reader, Side], T]) -> tuple[T, T]:
        """Ask both. What is lost on the way is tried again for a while. Raises `WindowError`."""
        deadline = time.monotonic() + self._retry
        attempt = 0
        while True:
            try:
                here, there = self.sides()
                return self._both(partial(what, self.source, here), partial(what, self.target, there))
            except (WindowError, session.ConnectFailed) as error:
                gone = isinstance(error, session.ConnectFailed)
                if not (gone or is_transient(error)) or time.monotonic() > deadline or self.stop.drain.is_set():
                    raise
            self.stop.drain.wait(backoff(attempt))
            attempt += 1

    def close(self) -> None:
        self.source.close()
        self.target.close()
        self._other.shutdown(wait=True)


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """A server that is gone for good, or a relation that was replaced, ends a comparison of which nothing depends.

    Raises `Incomplete` then.
    """
    try:
        yield
    except (WindowError, session.ConnectFailed) as error:
        server = f"{error.server}: " if isinstance(error, WindowError) and error.server else ""
        hint = "what was compared so far is not shown, and nothing was written; run the same command again"
        raise Incomplete(
            f"the comparison could not be finished: {server}{error.message}", hint=error.hint or hint
        ) from error


def _as_window_error(action: Callable[[], T], role: str) -> T:
    try:
        return action()
    except psycopg.Error as error:
        raise translate(error, role) from error


class Comparing:
    """Compares windows with some lanes at once; to be used in a `with`, which ends them whatever happens."""

    def __init__(self, order: Order, pieces: Sequence[Piece], mode: Mode, pace: Pace) -> None:
        self._order = order
        self._mode: Mode = mode
        self._stop = Stop()
        self._retry = pace.retry
        passes = _passes(pieces, pace, indexed=order.source_indexed)
        jobs = max(1, min(pace.jobs, len(passes)))
        # One for all: lanes that have ended leave their share to the others.
        self._throttle = Throttle(pace.rows_per_second, self._stop.drain) if pace.rows_per_second else None
        self._second = pace.rows_per_second / jobs if pace.rows_per_second else 0.0  # rows of a lane
        self._passes: queue.SimpleQueue[list[Piece]] = queue.SimpleQueue()
        for one in passes:
            self._passes.put(one)
        self._left = len(pieces)
        self._read: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Compared | Failed | HyperfillError | BaseException] = queue.SimpleQueue()
        self._lanes = [threading.Thread(target=self._lane, name=f"compare-{n}", daemon=True) for n in range(jobs)]

    def __enter__(self) -> Comparing:
        for lane in self._lanes:
            lane.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._left:
            self._stop.abort()
        self._stop.drain.set()
        for lane in self._lanes:
            lane.join()
        self._stop.over.set()

    def results(self, tick: float = 0.5) -> Iterator[Compared | Failed | None]:
        """Each window as it is compared, in no order; None now and then, so that a display can move.

        Raises what ended a lane: a lost server, `RelationChanged`.
        """
        while self._left:
            try:
                found = self._results.get(timeout=tick)
            except queue.Empty:
                yield None
                continue
            if isinstance(found, BaseException):
                raise found
            self._left -= 1
            yield found

    def _lane(self) -> None:
        ends = Ends(self._order, self._stop, self._retry)
        try:
            while not self._stop.drain.is_set():
                try:
                    pieces = self._passes.get_nowait()
                except queue.Empty:
                    return
                for result in self._compare(ends, pieces):
                    self._results.put(result)
        except BaseException as error:
            self._results.put(error)
        finally:
            ends.close()

    def _compare(self, ends: Ends, pieces: list[Piece]) -> Sequence[Compared | Failed]:
        try:
            if len(pieces) == 1:
                source, target = self._slices(ends, pieces[0])
                return [Compared(pieces[0], source, target)]
            spans = [piece.span for piece in pieces]
            here, there = ends.ask(lambda reader, side: reader.fingerprints(side, spans, self._mode))
            self._passed(sum(f.rows for f in here), sum(f.rows for f in there))
            return [Compared(*one) for one in zip(pieces, here, there, strict=True)]
        except RelationChanged:
            raise
        except WindowError as error:
            if self._stop.drain.is_set() or error.transient:
                raise  # a server that is gone is gone for all windows
            if len(pieces) == 1:
                return [Failed(pieces[0], error)]
            # One of them alone may be unreadable.
            return [result for piece in pieces for result in self._compare(ends, [piece])]

    def _passed(self, source: int, target: int) -> None:
        self._read.put(source)
        if self._throttle is not None:
            self._throttle.passed(max(source, target))

    def halt(self) -> int:
        """Let what runs finish, begin nothing more; how many windows are left out by that."""
        found = 0
        with contextlib.suppress(queue.Empty):
            while True:
                found += len(self._passes.get_nowait())
        self._left -= found
        return found

    def rows_read(self) -> int:
        """Rows of the source that were read since this was asked last, also of windows that are not done yet."""
        found = 0
        with contextlib.suppress(queue.Empty):
            while True:
                found += self._read.get_nowait()
        return found

    def _slices(self, ends: Ends, piece: Piece) -> tuple[Fingerprint, Fingerprint]:
        """A window, with a throttle in slices of about a second."""
        slices = [piece.span]
        if self._second and piece.span.lower is not None and self._order.source_indexed:
            slices = split_even(piece.span, max(1, min(10_000, round(piece.estimate / self._second))))
        nothing = NOTHING if self._mode == "hash" else Fingerprint(0, None)
        source, target = nothing, nothing
        for span in slices:
            here, there = ends.ask(partial(Reader.fingerprint, span=span, mode=self._mode))
            source, target = source + here, target + there
            self._passed(here.rows, there.rows)
        return source, target


def _passes(pieces: Sequence[Piece], pace: Pace, *, indexed: bool) -> list[list[Piece]]:
    """Neighbours that are read together."""
    # All jobs shall have something to do; and without an index there are no more passes than jobs, for each reads
    # everything.
    share = sum(p.estimate for p in pieces) / pace.jobs + 1
    rows = min(_PASS_ROWS, share) if indexed else share
    if pace.rows_per_second and indexed:
        rows = min(rows, pace.rows_per_second / pace.jobs)
    most = _PASS_WINDOWS if indexed else _SCAN_WINDOWS
    found: list[list[Piece]] = []
    estimate = 0
    for piece in sorted(pieces, key=lambda p: p.span.upper):
        last = found[-1] if found else None
        if (
            last is not None
            and len(last) < most
            and estimate + piece.estimate <= rows
            and last[-1].span.upper == piece.span.lower
        ):
            last.append(piece)
            estimate += piece.estimate
        else:
            found.append([piece])
            estimate = piece.estimate
    return found
