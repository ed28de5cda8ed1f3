"""COPY data from socket to socket, in runs of whole messages: the hot path where nothing is encrypted.

PostgreSQL's protocol ("Frontend/Backend Protocol", "Message Formats") gives CopyData the same form in both directions:
'd', the length as Int32, the data. So what a source sends is already what a target expects, and libpq need not take
each row out of one message and put it into another. Only the headers are looked at, to find where a run ends.

The conditions: neither connection is encrypted, for then a socket does not carry these messages; and libpq expects
nothing on the source's. There the statement is sent and its answer read to the end behind libpq's back, so libpq stays
idle; if the end was not reached the connection is closed, for libpq knows nothing of what is still to come. On the
target libpq begins and ends the COPY and alone reads; between them it has nothing to send. There a message that was
begun is always completed, or the connection closed: what libpq says afterwards would be taken for its data.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
from collections.abc import Callable, Iterator

import psycopg
from psycopg import pq
from psycopg.errors import get_base_exception, lookup
from psycopg.pq import DiagnosticField
from psycopg.pq.abc import PGconn

from hyperfill.endpoint import TICK, Endpoint, RelayError

SIZE = 256 * 1024
# A source that is slower than the target gives 8 KiB at a time: gathered, or each of them costs a write and a look.
GATHER = 64 * 1024
HEADER = 5
_LONGEST = 1 << 24  # a message that is no row: an error that quotes a whole document, not what was read wrongly
_PAD = b"\xff" * HEADER
_header = struct.Struct(">BI")
_DATA = ord("d")
_BEGINS, _ENDS, _COMPLETE, _READY, _ERROR = b"HcCZE"
# What says nothing about the COPY. NoticeResponse: nobody reads the source's notices. ParameterStatus: libpq asks its
# copies only for the encoding and the quoting of literals, which are pinned. NotificationResponse: nobody listens.
_SKIPPED = b"NSA"
_UNDERSTOOD = bytes((_BEGINS, _ENDS, _COMPLETE, _READY, _ERROR)) + _SKIPPED


def possible(source: PGconn, target: PGconn) -> bool:
    """Whether rows can go this way between the two: nothing encrypted, and libpq waits for nothing of the source."""
    return (
        _plain(source)
        and _plain(target)
        and source.transaction_status == pq.TransactionStatus.IDLE
        and source.pipeline_status == pq.PipelineStatus.OFF
        and source.flush() == 0
        and not source.is_busy()
    )


def _plain(pgconn: PGconn) -> bool:
    # libpq notes that it used GSSAPI for encryption as well as for authentication; before 16 it did not tell.
    return not pgconn.ssl_in_use and pq.version() >= 160000 and not pgconn.used_gssapi


class Walker:
    """Finds where a run of whole CopyData messages ends, of which there may be a million in a second.

    Rows of equal length have their headers at equal distances, so many are compared at once: if a message begins here
    with this header, the next one begins that much further, and so on. Where lengths vary this is tried less often.
    """

    _WORTH, _FIRST, _SELDOM = 16, 64, 4096

    def __init__(self) -> None:
        self._pause = 1  # rows to be looked at one by one between two tries
        self._left = 1  # of these

    def run(self, buffer: bytearray, at: int, end: int) -> tuple[int, int]:
        """Where the run that begins at `at` ends, and of how many messages it is.

        Overwrites the 5 bytes after `end`: with them a header that is cut off is never one of a whole message.
        """
        unpack = _header.unpack_from
        buffer[end : end + HEADER] = _PAD
        rows = before = 0
        while True:
            for count in range(self._left):
                kind, length = unpack(buffer, at)
                after = at + 1 + length
                if kind != _DATA or after > end:
                    self._left -= count
                    return at, rows + count
                before, at = at, after
            rows += self._left
            self._left = 1
            step = at - before
            if end - at >= step * self._WORTH:
                equal = _equal(buffer, before, at, step, (end - at) // step, self._FIRST)
                at += equal * step
                rows += equal
                self._pause = 1 if equal >= self._WORTH else min(2 * self._pause, self._SELDOM)
                self._left = self._pause


def _equal(buffer: bytearray, before: int, at: int, step: int, room: int, first: int) -> int:
    """Of how many messages from `at` on the headers are that of the one at `before`, `step` bytes before; of `room` at
    the most. Looks at `first` of them, and ever more as long as they are equal: the cost is that of what is found.
    """
    found = 0
    while room:
        asked = same = min(room, first)
        for i in (4, 3, 2, 1, 0):  # the lowest byte of the length differs most often
            column, byte = buffer[at + i : at + same * step : step], buffer[before + i : before + i + 1]
            if column != byte * same:
                same -= len(column.lstrip(byte))
                if not same:
                    break
        found += same
        if same < asked:
            break
        at += asked * step
        room -= asked
        first *= 4
    return found


class _Spliced(Endpoint):
    """An endpoint that reads or writes its connection's socket itself."""

    def __init__(self, server: str, pgconn: PGconn, stall: float | None) -> None:
        super().__init__(server, pgconn, stall)
        # A descriptor of our own: Python closes what it has, and libpq's must stay open. Both are without blocking.
        self._socket = socket.socket(fileno=os.dup(pgconn.socket))
        self._socket.setblocking(False)
        self._halfway = False  # something was begun of which libpq does not know

    def close(self) -> None:
        super().close()
        self._socket.close()
        if self._halfway:
            self.pgconn.finish()


class SplicedTarget(_Spliced):
    """A target whose COPY libpq begins and ends, and whose rows are sent by us."""

    def put(self, data: bytes | bytearray | memoryview) -> None:
        """Send whole messages."""
        left = memoryview(data)
        self._halfway = True
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                self.wait_to_send()
            except OSError as error:
                self.pgconn.consume_input()  # raises what libpq says of a connection that has gone
                raise psycopg.OperationalError(f"could not send data to server: {error.strerror}") from error
        self._halfway = False

    def put_end(self, reason: bytes | None = None) -> None:
        if self._halfway:
            # It would be taken for the rest of a row, and never answered.
            raise psycopg.OperationalError("a message to the server was not sent to its end")
        super().put_end(reason)


class SplicedSource(_Spliced):
    """A source whose COPY TO STDOUT is asked for and read without libpq, which is idle all the while.

    Where it was not read to its end the connection is closed by `close`.
    """

    def __init__(self, pgconn: PGconn, stall: float | None) -> None:
        super().__init__("source", pgconn, stall)
        self._buffer = bytearray(SIZE + HEADER)
        self._view = memoryview(self._buffer)
        self._at = 0  # what lies before has been dealt with
        self._have = 0  # how far the buffer is filled
        self._copying = False
        self._over = False
        self._rows = -1
        self._failed: psycopg.Error | None = None

    def start(self, statement: bytes) -> None:
        left = memoryview(_header.pack(ord("Q"), 4 + len(statement) + 1) + statement + b"\0")
        self._halfway = True
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                self.wait(selectors.EVENT_WRITE, TICK)
            except OSError as error:
                raise _lost(error.strerror) from error

    def runs(self, idle: Callable[[], object]) -> Iterator[tuple[memoryview, int]]:
        """The rows as messages to be sent on at once, with the bytes of COPY data in them; all of the answer is read.

        `idle` is called now and then while nothing comes. Raises `RelayError`.
        """
        try:
            yield from self._runs(idle)
        except psycopg.Error as error:
            raise RelayError(self.server, error) from error

    def sent(self) -> int:
        """After the last run: how many rows the server says that it sent, or its error raised."""
        if self._failed is not None:
            raise self._failed
        if self._rows < 0:
            raise psycopg.OperationalError("the server did not start a COPY")
        return self._rows

    def _runs(self, idle: Callable[[], object]) -> Iterator[tuple[memoryview, int]]:
        walker = Walker()
        begin = rows = 0  # what is gathered: from where on, how many
        while not self._over:
            if self._copying:
                self._at, more = walker.run(self._buffer, self._at, self._have)
                rows += more
            kind, length = 0, 0
            if self._have - self._at >= HEADER:
                kind, length = _header.unpack_from(self._buffer, self._at)
            row = self._copying and kind == _DATA
            cut_off = kind == 0 or (row and length < SIZE)
            if rows and (not cut_off or self._have == SIZE or self._at - begin >= GATHER):
                yield self._view[begin : self._at], self._at - begin - HEADER * rows
                rows = 0
            if cut_off:
                if not rows:
                    self._make_room()
                self._fill(idle)
            elif row:
                yield from self._pieces(length - 4, idle)
            else:
                self._hear(kind, self._body(kind, length, idle))
            if not rows:
                begin = self._at

    def _pieces(self, left: int, idle: Callable[[], object]) -> Iterator[tuple[memoryview, int]]:
        """A row that is larger than the buffer, as messages of their own: a target takes data cut anywhere."""
        self._make_room()
        part = 0
        while left:
            part = min(left, self._have - HEADER)
            if part < min(left, GATHER):
                self._fill(idle)
                continue
            _header.pack_into(self._buffer, 0, _DATA, 4 + part)
            yield self._view[: HEADER + part], part
            left -= part
            if left:
                self._have = HEADER
        self._at = HEADER + part

    def _body(self, kind: int, length: int, idle: Callable[[], object]) -> bytes:
        """Read a message that is no row to its end."""
        if kind not in _UNDERSTOOD or not 4 <= length <= _LONGEST:
            raise psycopg.OperationalError(f"unexpected message from server: type {chr(kind)!r}, {length} bytes")
        self._at += HEADER
        body, left = bytearray(), length - 4
        while True:
            part = self._view[self._at : min(self._at + left, self._have)]
            body += part
            self._at += len(part)
            left -= len(part)
            if not left:
                return bytes(body)
            self._make_room()
            self._fill(idle)

    def _hear(self, kind: int, body: bytes) -> None:
        if kind == _BEGINS:
            self._copying = True
        elif kind == _ENDS:
            self._copying = False
        elif kind == _COMPLETE and body.startswith(b"COPY "):
            self._rows = int(body[5:].rstrip(b"\0"))
        elif kind == _ERROR:
            self._copying = False
            self._failed = self._failed or _error(body)
        elif kind == _READY:
            self._over = True
            # What came after it libpq will never see. Nearly always there is nothing.
            self._halfway = body != b"I" or self._at < self._have

    def _make_room(self) -> None:
        """Move what has not been dealt with to the buffer's beginning."""
        left = self._have - self._at
        self._view[:left] = self._view[self._at : self._have]
        self._at, self._have = 0, left

    def _fill(self, idle: Callable[[], object]) -> None:
        """Read what there is, something at least."""
        while True:
            try:
                count = self._socket.recv_into(self._view[self._have : SIZE])
            except BlockingIOError:
                if not self.wait(selectors.EVENT_READ, TICK):
                    idle()
                continue
            except OSError as error:
                raise self._failed or _lost(error.strerror) from error
            if count == 0:
                raise self._failed or _lost()
            self._have += count
            return


def _lost(reason: str | None = None) -> psycopg.OperationalError:
    # Without an SQLSTATE, as libpq's own: the connection is gone, and another one may be had.
    return psycopg.OperationalError("server closed the connection unexpectedly" + (f": {reason}" if reason else ""))


def _error(body: bytes) -> psycopg.Error:
    """An ErrorResponse as libpq and the driver make it: class, text, `diag`."""
    fields: dict[int, bytes | None] = {field[0]: field[1:] for field in body.split(b"\0") if field}

    def text(field: DiagnosticField) -> str:
        return (fields.get(field) or b"").decode("utf-8", "replace")

    said = text(DiagnosticField.MESSAGE_PRIMARY)
    for word, field in _LINES.items():
        said += f"\n{word}:  {text(field)}" if fields.get(field) else ""
    state = text(DiagnosticField.SQLSTATE)
    try:
        kind = lookup(state)
    except KeyError:
        kind = get_base_exception(state)
    return kind(said, info=fields, encoding="utf-8")


_LINES = {
    "DETAIL": DiagnosticField.MESSAGE_DETAIL,
    "HINT": DiagnosticField.MESSAGE_HINT,
    "QUERY": DiagnosticField.INTERNAL_QUERY,
    "CONTEXT": DiagnosticField.CONTEXT,
}
