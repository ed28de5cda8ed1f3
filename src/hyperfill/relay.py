"""Bytes from one server's COPY TO STDOUT to another's COPY FROM STDIN: the hot path.

Two ways, with the same promises. Where nothing is encrypted whole messages go from socket to socket (`splice`).
Otherwise libpq hands COPY data out row by row, and a Python iteration for each row costs more than the servers'
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

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

from hyperfill.endpoint import TICK, Endpoint, RelayError, guard
from hyperfill.errors import STALL_SECONDS
from hyperfill.splice import SplicedSource, SplicedTarget, possible

# Measured: 16 KiB to 1 MiB are equal within noise, a write for each row costs twice as much.
BLOCK = 128 * 1024
_SLICE = 256 * 1024
# How long a message from the target that is no notice may lie there before it is taken for an error.
_SUSPICION = 0.05
_FAILED = b"hyperfill: the target has already failed"

_COPY_OUT, _COPY_IN = pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_IN


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


def relay(
    source: PGconn,
    target: PGconn,
    copy_out: bytes,
    copy_in: bytes,
    *,
    throttle: Throttle | None = None,
    progress: Callable[[int], None] | None = None,
    stall: float | None = STALL_SECONDS,
    splice: bool = True,
) -> Relayed:
    """Run `copy_out` on the source and feed its data to `copy_in` on the target, in bounded memory.

    `progress` is called with the bytes so far after each block. A side of which nothing moves for `stall` seconds is
    given up; of a target its connection is of no use any more then. On an error on either side both
    COPYs are over when `RelayError` is raised: the target's transaction can be rolled back; the source's
    connection may have data left and should be closed, or is closed.

    Whole messages go from socket to socket where that is possible, unless `splice` is false.
    """
    reader: SplicedSource | _LibpqSource
    writer: Endpoint
    if splice and possible(source, target):
        reader, writer = SplicedSource(source, stall), SplicedTarget("target", target, stall)
    else:
        reader, writer = _LibpqSource("source", source, stall), Endpoint("target", target, stall)
    try:
        guard(reader, lambda: reader.start(copy_out))
        guard(writer, lambda: writer.start(copy_in))
        guard(writer, lambda: writer.expect(_COPY_IN))
        return _pump(reader, writer, throttle, progress)
    finally:
        reader.close()
        writer.close()


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
    writer = Endpoint("target", target, stall)
    fed = Relayed()
    try:
        guard(writer, lambda: writer.start(copy_in))
        guard(writer, lambda: writer.expect(_COPY_IN))
        watch = _Watch(writer)
        try:
            for block in blocks:
                view = memoryview(block)
                for start in range(0, len(view), _SLICE):
                    piece = view[start : start + _SLICE]
                    guard(writer, partial(writer.put, piece))
                    fed.bytes += len(piece)
                    watch.check()
                    if throttle:
                        throttle.passed(len(piece))
        except RelayError:
            raise
        except BaseException:
            _end(writer, b"interrupted")
            raise
        guard(writer, writer.put_end)
        fed.rows_taken = guard(writer, writer.finish)
        return fed
    finally:
        writer.close()


def _pump(
    reader: SplicedSource | _LibpqSource,
    writer: Endpoint,
    throttle: Throttle | None,
    progress: Callable[[int], None] | None,
) -> Relayed:
    relayed = Relayed()
    target_watch = _Watch(writer)
    try:
        for data, size in reader.runs(target_watch.check):
            guard(writer, partial(writer.put, data))
            relayed.bytes += size
            target_watch.check()
            if throttle:
                throttle.passed(size)
            if progress:
                progress(relayed.bytes)
        relayed.rows_sent = guard(reader, reader.sent)
    except RelayError as error:
        if error.server == "source":
            # Leave COPY mode, so that the transaction can be rolled back on the same connection.
            _end(writer, b"the source failed")
        raise
    except BaseException:
        _end(writer, b"interrupted")
        raise
    guard(writer, writer.put_end)
    relayed.rows_taken = guard(writer, writer.finish)
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
    reader = _LibpqSource("source", source, stall)
    try:
        guard(reader, lambda: reader.start(copy_out))
        for data, size in reader.runs(lambda: None):
            write(data)
            if throttle:
                throttle.passed(size)
        return guard(reader, reader.sent)
    finally:
        reader.close()


class _LibpqSource(Endpoint):
    """A source whose COPY is read through libpq: rows gathered into blocks, a row of many blocks in slices."""

    def runs(self, idle: Callable[[], object]) -> Iterator[tuple[bytearray | memoryview, int]]:
        """The rows as the target's `put` takes them, with how many bytes that is.

        `idle` is called now and then while nothing comes. Raises `RelayError`.
        """
        guard(self, lambda: self.expect(_COPY_OUT))
        buffer = bytearray()
        while True:
            size, data = guard(self, partial(self._fill, buffer))
            if len(buffer) >= BLOCK or (size != 0 and buffer):
                yield buffer, len(buffer)
                buffer = bytearray()
                if size == 0:
                    continue
            if size > 0:  # sent in slices, not copied once more
                view = memoryview(data)
                for start in range(0, size, _SLICE):
                    piece = view[start : start + _SLICE]
                    yield piece, len(piece)
                del view, data
            elif size < 0:
                return
            elif guard(self, partial(self.wait, selectors.EVENT_READ, TICK)):
                guard(self, self.pgconn.consume_input)
            else:
                idle()

    def sent(self) -> int:
        """After the last run: how many rows the server says that it sent, or its error raised."""
        return self.finish()

    def _fill(self, buffer: bytearray) -> tuple[int, bytes | memoryview]:
        # The innermost loop: once for each row. It ends with a full block, a huge row, or nothing to take.
        get = self.pgconn.get_copy_data
        size, data = get(1)
        while 0 < size <= BLOCK:
            buffer += data
            if len(buffer) >= BLOCK:
                return 0, b""
            size, data = get(1)
        return size, data


def _end(writer: Endpoint, reason: bytes) -> None:
    """End the target's COPY with an error of our own; what the server answers no longer matters."""
    with contextlib.suppress(psycopg.Error):
        writer.put_end(reason)
        writer.finish()


class _Watch:
    """Notices that the target has already failed, so that gigabytes are not sent to a COPY that is over.

    During COPY IN libpq does not parse an error: it lies in the input buffer until the COPY is ended.
    Anything that arrives and is no notice is such an error.
    """

    def __init__(self, side: Endpoint) -> None:
        self._side = side
        self._since: float | None = None
        self._notices = 0
        self._seen = 0
        side.pgconn.notice_handler = self._count

    def _count(self, _: PGresult) -> None:
        self._notices += 1

    def check(self) -> None:
        if self._side.wait(selectors.EVENT_READ, 0):
            guard(self._side, self._side.pgconn.consume_input)
            self._side.heard = True
        if self._side.heard:
            self._side.heard = False
            self._side.pgconn.is_busy()  # makes libpq parse what is complete
            if self._notices > self._seen:
                self._seen, self._since = self._notices, None
            elif self._since is None:
                self._since = time.monotonic()
        if self._since is not None and time.monotonic() - self._since > _SUSPICION:
            guard(self._side, lambda: self._side.put_end(_FAILED))
            try:
                self._side.finish()
            except psycopg.Error as error:
                if _FAILED.decode() not in str(error):
                    raise RelayError("target", error) from error
            raise RelayError("target", psycopg.OperationalError("the target ended the COPY early"))
