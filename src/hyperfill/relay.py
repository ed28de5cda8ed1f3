"""Bytes from one server's COPY TO STDOUT to another's COPY FROM STDIN: the hot path.

libpq hands COPY data out row by row, and a Python iteration for each row costs more than the servers'
own work. So this drives libpq directly: drain `get_copy_data(1)` until it has nothing, wait on the
socket, write blocks. `get_copy_data(0)` would block inside libpq while holding the GIL.
"""

from __future__ import annotations

import contextlib
import selectors
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGconn, PGresult

from hyperfill.deadline import Stalled
from hyperfill.errors import STALL_SECONDS

# Measured: 16 KiB to 1 MiB are equal within noise, a write for each row costs twice as much.
BLOCK = 128 * 1024
_SLICE = 256 * 1024
# How long a message from the target that is no notice may lie there before it is taken for an error.
_SUSPICION = 0.05
_TICK = 1.0
_FAILED = b"hyperfill: the target has already failed"

T = TypeVar("T")
_COPY_OUT, _COPY_IN = pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_IN


class RelayError(Exception):
    """One side of the relay failed. `server` says which; the driver's error is the cause."""

    def __init__(self, server: str, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.server = server
        self.error = error


@dataclass
class Relayed:
    """What went through: rows the source says it sent, rows the target says it took, bytes of COPY data."""

    rows_sent: int = 0
    rows_taken: int = 0
    bytes: int = 0
    note: str = ""  # what is odd about it, in a sentence


class Throttle:
    """Keeps the bytes (or rows) that pass below a rate, by sleeping; bursts of at most a quarter of a second.

    `stop` ends a sleep: at a low rate one block may be worth minutes.
    """

    def __init__(self, bytes_per_second: float, stop: threading.Event) -> None:
        self._rate = bytes_per_second
        self._stop = stop
        self._due = time.monotonic()
        self._lock = threading.Lock()

    def passed(self, count: int) -> None:
        """So many have passed. Several threads together keep the rate."""
        with self._lock:
            now = time.monotonic()
            due = self._due = max(self._due, now - 0.25) + count / self._rate
        if due > now:
            self._stop.wait(due - now)


class _Side:
    """One connection in COPY state, with its socket."""

    def __init__(self, server: str, pgconn: PGconn, stall: float | None = None) -> None:
        """`stall`: how many seconds of waiting, with nothing moving, are too many."""
        self.server = server
        self.pgconn = pgconn
        self._stall = stall
        self._idle = 0.0
        self.selector = selectors.DefaultSelector()
        self.key = self.selector.register(pgconn.socket, selectors.EVENT_READ)

    def wait(self, events: int, timeout: float | None = None) -> int:
        if events != self.key.events:
            self.key = self.selector.modify(self.pgconn.socket, events)
        ready = self.selector.select(timeout)
        if ready:
            self._idle = 0.0
            return ready[0][1]
        # Only the time that was spent waiting for this side counts: meanwhile the other one may be slow.
        self._idle += timeout or 0.0
        if self._stall is not None and self._idle >= self._stall:
            raise Stalled(self._idle)
        return 0

    def flush(self) -> None:
        """Send what libpq has buffered; reads as well, or both ends could wait for each other for ever."""
        while self.pgconn.flush():
            if self.wait(selectors.EVENT_READ | selectors.EVENT_WRITE, _TICK) & selectors.EVENT_READ:
                self.pgconn.consume_input()

    def start(self, statement: bytes) -> None:
        self.pgconn.send_query(statement)
        self.flush()

    def result(self) -> PGresult | None:
        while self.pgconn.is_busy():
            if self.wait(selectors.EVENT_READ, _TICK):
                self.pgconn.consume_input()
        return self.pgconn.get_result()

    def expect(self, status: pq.ExecStatus) -> None:
        """Wait for the server to enter COPY; raises its error instead."""
        result = self.result()
        if result is None or result.status != status:
            self.finish(result)
            raise psycopg.OperationalError("the server did not start a COPY")

    def finish(self, result: PGresult | None = None) -> int:
        """Read results until there are none; the number of rows of the last, or its error raised."""
        rows = -1
        failed: PGresult | None = None
        while result is not None or (result := self.result()) is not None:
            if result.status == pq.ExecStatus.COMMAND_OK:
                rows = result.command_tuples or 0
            elif result.status in (_COPY_IN, _COPY_OUT):
                break
            else:
                failed = failed or result
            result = None
        if failed is not None:
            raise error_from_result(failed, encoding="utf-8")
        return rows


def relay(
    source: PGconn,
    target: PGconn,
    copy_out: bytes,
    copy_in: bytes,
    *,
    throttle: Throttle | None = None,
    progress: Callable[[int], None] | None = None,
    stall: float | None = STALL_SECONDS,
) -> Relayed:
    """Run `copy_out` on the source and feed its data to `copy_in` on the target, in bounded memory.

    `progress` is called with the bytes so far after each block. A side of which nothing moves for `stall` seconds is
    given up; of a target its connection is of no use any more then. On an error on either side both
    COPYs are over when `RelayError` is raised: the target's transaction can be rolled back; the source's
    connection may have data left and should be closed.
    """
    reader, writer = _Side("source", source, stall), _Side("target", target, stall)
    try:
        _guard(reader, lambda: reader.start(copy_out))
        _guard(writer, lambda: writer.start(copy_in))
        _guard(writer, lambda: writer.expect(_COPY_IN))
        return _pump(reader, writer, throttle, progress)
    finally:
        reader.selector.close()
        writer.selector.close()


def feed(
    target: PGconn,
    copy_in: bytes,
    blocks: Iterable[bytes | bytearray | memoryview],
    *,
    throttle: Throttle | None = None,
    stall: float | None = STALL_SECONDS,
) -> Relayed:
    """Feed blocks of any size to `copy_in` on the target; rows_sent is left to whoever made them.

    On an error of the target the COPY is over when `RelayError` is raised, and also when `blocks` raises.
    """
    writer = _Side("target", target, stall)
    fed = Relayed()
    try:
        _guard(writer, lambda: writer.start(copy_in))
        _guard(writer, lambda: writer.expect(_COPY_IN))
        watch = _Watch(writer)
        try:
            for block in blocks:
                view = memoryview(block)
                for start in range(0, len(view), _SLICE):
                    piece = view[start : start + _SLICE]
                    _guard(writer, partial(_write, writer, piece))
                    fed.bytes += len(piece)
                    watch.check()
                    if throttle:
                        throttle.passed(len(piece))
        except RelayError:
            raise
        except BaseException:
            _end(writer, b"interrupted")
            raise
        _guard(writer, lambda: _finish_writer(writer, None))
        fed.rows_taken = _guard(writer, writer.finish)
        return fed
    finally:
        writer.selector.close()


def _pump(reader: _Side, writer: _Side, throttle: Throttle | None, progress: Callable[[int], None] | None) -> Relayed:
    relayed = Relayed()
    target_watch = _Watch(writer)
    try:
        _guard(reader, lambda: reader.expect(_COPY_OUT))
        for data in _blocks(reader, target_watch.check):
            _guard(writer, partial(_write, writer, data))
            relayed.bytes += len(data)
            target_watch.check()
            if throttle:
                throttle.passed(len(data))
            if progress:
                progress(relayed.bytes)
        relayed.rows_sent = _guard(reader, reader.finish)
    except RelayError as error:
        if error.server == "source":
            # Leave COPY mode, so that the transaction can be rolled back on the same connection.
            _end(writer, b"the source failed")
        raise
    except BaseException:
        _end(writer, b"interrupted")
        raise
    _guard(writer, lambda: _finish_writer(writer, None))
    relayed.rows_taken = _guard(writer, writer.finish)
    return relayed


def drain(
    source: PGconn,
    copy_out: bytes,
    write: Callable[[bytes | bytearray | memoryview], object],
    *,
    throttle: Throttle | None = None,
    stall: float | None = STALL_SECONDS,
) -> int:
    """Run `copy_out` on the source and hand its data to `write`, block by block; how many rows the server sent.

    Raises `RelayError`, and whatever `write` raises. After any error the connection may have data left and
    should be closed.
    """
    reader = _Side("source", source, stall)
    try:
        _guard(reader, lambda: reader.start(copy_out))
        _guard(reader, lambda: reader.expect(_COPY_OUT))
        for data in _blocks(reader, lambda: None):
            write(data)
            if throttle:
                throttle.passed(len(data))
        return _guard(reader, reader.finish)
    finally:
        reader.selector.close()


def _blocks(reader: _Side, idle: Callable[[], object]) -> Iterator[bytearray | memoryview]:
    """The data of a COPY that has begun: rows gathered into blocks, a row of many blocks in slices.

    `idle` is called now and then while nothing comes. Raises `RelayError` for the source.
    """
    get = reader.pgconn.get_copy_data

    def fill(buffer: bytearray) -> tuple[int, bytes | memoryview]:
        # The innermost loop: once for each row. It ends with a full block, a huge row, or nothing to take.
        size, data = get(1)
        while 0 < size <= BLOCK:
            buffer += data
            if len(buffer) >= BLOCK:
                return 0, b""
            size, data = get(1)
        return size, data

    buffer = bytearray()
    while True:
        size, data = _guard(reader, partial(fill, buffer))
        if len(buffer) >= BLOCK or (size != 0 and buffer):
            yield buffer
            buffer = bytearray()
            if size == 0:
                continue
        if size > 0:  # sent in slices, not copied once more
            view = memoryview(data)
            for start in range(0, size, _SLICE):
                yield view[start : start + _SLICE]
            del view, data
        elif size < 0:
            return
        elif _guard(reader, partial(reader.wait, selectors.EVENT_READ, _TICK)):
            _guard(reader, reader.pgconn.consume_input)
        else:
            idle()


def _guard(side: _Side, action: Callable[[], T]) -> T:
    try:
        return action()
    except psycopg.Error as error:
        raise RelayError(side.server, error) from error


def _write(writer: _Side, data: bytes | bytearray | memoryview) -> None:
    while not writer.pgconn.put_copy_data(data):
        writer.flush()
        writer.wait(selectors.EVENT_WRITE, _TICK)
    writer.flush()


def _finish_writer(writer: _Side, reason: bytes | None) -> None:
    while not writer.pgconn.put_copy_end(reason):
        writer.flush()
    writer.flush()


def _end(writer: _Side, reason: bytes) -> None:
    """End the target's COPY with an error of our own; what the server answers no longer matters."""
    with contextlib.suppress(psycopg.Error):
        _finish_writer(writer, reason)
        writer.finish()


class _Watch:
    """Notices that the target has already failed, so that gigabytes are not sent to a COPY that is over.

    During COPY IN libpq does not parse an error: it lies in the input buffer until the COPY is ended.
    Anything that arrives and is no notice is such an error.
    """

    def __init__(self, side: _Side) -> None:
        self._side = side
        self._since: float | None = None
        self._notices = 0
        self._seen = 0
        side.pgconn.notice_handler = self._count

    def _count(self, _: PGresult) -> None:
        self._notices += 1

    def check(self) -> None:
        if self._side.wait(selectors.EVENT_READ, 0):
            _guard(self._side, self._side.pgconn.consume_input)
            self._side.pgconn.is_busy()  # makes libpq parse what is complete
            if self._notices > self._seen:
                self._seen, self._since = self._notices, None
            elif self._since is None:
                self._since = time.monotonic()
        if self._since is not None and time.monotonic() - self._since > _SUSPICION:
            _guard(self._side, lambda: _finish_writer(self._side, _FAILED))
            try:
                self._side.finish()
            except psycopg.Error as error:
                if _FAILED.decode() not in str(error):
                    raise RelayError("target", error) from error
            raise RelayError("target", psycopg.OperationalError("the target ended the COPY early"))
