"""Cuts a stream of CSV into batches of whole rows, as fast as memory allows; what a row is, `csvrows` knows.

Each batch becomes a COPY of its own, and all of them must bring what one COPY of the whole file would. So whatever a
server would notice in the file, but not in a batch, is an error here: line ends of another kind than the file's,
quotes that do not end, and the line `\\.`, at which PostgreSQL up to 17 stops reading without a word.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hyperfill.csvrows import (
    CR,
    CRLF,
    LF,
    PLAIN,
    CsvError,
    count_lines,
    end_byte,
    fields_of,
    first_break,
    row_spans,
    scanner,
)
from hyperfill.dialect import Dialect
from hyperfill.errors import UsageError

__all__ = ["CsvError", "Piece", "Splitter", "count_lines", "fields_of", "row_spans"]

_UNBALANCED = "is there a quote too many in it, or another --quote or --escape in this file?"
_NAMES = {LF: "LF", CR: "CR", CRLF: "CRLF"}
_BOM = codecs.BOM_UTF8
# Encodings of which a byte of a character may be an ASCII letter, digit or sign, but never below "0".
_ASCII_INSIDE = {"sjis", "mskanji", "shiftjis", "win932", "windows932", "shiftjis2004", "big5", "win950", "windows950"}
_ASCII_INSIDE |= {"gbk", "win936", "windows936", "uhc", "win949", "windows949", "johab", "gb18030"}
# SQL_ASCII: the server's own encoding, unchecked.
_PYTHON_NAMES = {"unicode": "utf-8", "sqlascii": "utf-8", "koi8": "koi8_r", "koi8r": "koi8_r", "koi8u": "koi8_u"}
_PYTHON_NAMES |= {"sjis": "cp932", "mskanji": "cp932", "shiftjis": "cp932", "alt": "cp866", "win": "cp1251"}
_PYTHON_NAMES |= dict.fromkeys(("abc", "tcvn", "tcvn5712", "vscii"), "cp1258")


@dataclass(frozen=True)
class Piece:
    """Whole rows: where the first begins (bytes into the stream; physical line, from 1), how many, and their bytes."""

    offset: int
    line: int
    rows: int
    data: bytes


class Splitter:
    """Reads `read(n)` (up to n bytes, none at the end) and hands out its rows, in order: lines to skip, header, pieces.

    `offset` and `line` say where the stream stands, which must be where a row begins. `eol` is the file's line end
    where it is known. A piece has at most `max_rows` rows, and at most `max_bytes` bytes unless a single row is longer.
    `limit` ends the pieces after so many rows. `end` is an offset at which a row begins, and nothing behind it is read.

    Where pieces are cut depends on these alone, not on what `read` returns at a time. All methods raise `CsvError`.
    """

    READ = 1 << 20  # bytes to ask for at least
    # The server gathers a row in a buffer that cannot be larger. A quote too many would make us read on for ever.
    LONGEST_ROW = (1 << 30) - 1

    def __init__(
        self,
        read: Callable[[int], bytes],
        dialect: Dialect,
        *,
        offset: int = 0,
        line: int = 1,
        eol: bytes | None = None,
        max_bytes: int = 8 << 20,
        max_rows: int | None = None,
        limit: int | None = None,
        end: int | None = None,
    ) -> None:
        if max_bytes < 1 or (max_rows is not None and max_rows < 1) or (limit is not None and limit < 0):
            raise UsageError("a batch has at least one row and one byte, and a limit is not negative")
        encoding = _plain_name(dialect.encoding)
        unsafe = {chr(b) for b in (dialect.quote_byte, dialect.escape_byte) if b >= 0x40 or 0x30 <= b <= 0x39}
        if encoding in _ASCII_INSIDE and unsafe:
            raise UsageError(
                f"{' and '.join(sorted(unsafe))} as quote or escape cannot be told from a part of a character"
                f" in {dialect.encoding}",
                hint="recode the file to UTF-8 first, for instance with iconv",
            )
        self._read, self._dialect = read, dialect
        self._utf8 = encoding in {"utf8", "unicode"}
        self._offset, self._line, self._eol = offset, line, eol
        self._max_bytes, self._max_rows, self._limit, self._end = max_bytes, max_rows, limit, end
        # What was read and is not handed out yet is _data[_at:]; _got is the offset behind it.
        self._data, self._at, self._got = b"", 0, offset
        self._started = self._ended = False

    @property
    def offset(self) -> int:
        """Where the next row begins, in bytes."""
        return self._offset

    @property
    def line(self) -> int:
        """The number of the next row's first physical line, from 1."""
        return self._line

    @property
    def eol(self) -> bytes | None:
        """The file's line end; None as long as no row has ended."""
        return self._eol

    def skip_lines(self, count: int) -> None:
        """Leave out so many physical lines, whatever is in them. Says nothing if there are fewer."""
        self._start()
        pattern = re.compile(re.escape(self._eol)) if self._eol else re.compile(rb"\r\n|\n|\r")
        for _ in range(count):
            while True:
                found = pattern.search(self._data, self._at)
                left = len(self._data) - self._at
                if self._ended or (found is not None and found.end() < len(self._data)):
                    break
                # What ends the data so far may be half of a CRLF; what is before it is of no use.
                if found is None and left > 1:
                    self._consume(left - 1)
                    left = 1
                self._fill(left + 1)
            if found is None:
                self._consume(left)
                return
            self._consume(found.end() - self._at)
            self._line += 1

    def header(self) -> list[str]:
        """Consume a row and give its values as text; `CsvError` also for an empty file and a byte that is no text."""
        self._start()
        row, _ = self._cut(1, self._max_bytes)
        if not row:
            raise self._error("there is no header: nothing is left to read")
        self._check(row)
        codec = _codec(self._dialect.encoding)
        try:
            # As on the server, fields are cut after recoding: a part of a character may look like a delimiter.
            recoded = row.decode(codec).encode()
        except UnicodeDecodeError as error:
            raise self._error(
                f"byte 0x{row[error.start]:02x} of the header is no text in {self._dialect.encoding}",
                row,
                error.start,
                hint="name the file's encoding by --encoding",
            ) from error
        self._advance(row)
        return [value.decode() for value, _ in fields_of(recoded, self._dialect, self._eol or b"")]

    def pieces(self) -> Iterator[Piece]:
        """All batches, up to the end, `end` or `limit`."""
        self._start()
        left = sys.maxsize if self._limit is None else self._limit
        while left > 0:
            data, rows = self._cut(min(left, self._max_rows or left), self._max_bytes)
            if not data:
                return
            self._check(data)
            piece = [Piece(self._offset, self._line, rows, data)]
            self._advance(data, rows)
            del data
            left -= rows
            yield piece.pop()  # no reference stays here: it may be a row of hundreds of MB

    # -- reading ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        if self._offset == 0:
            self._fill(4)
            head = self._data[:4]
            if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and (self._utf8 or 0 in head):
                raise self._error(
                    "the file begins like UTF-16 or UTF-32, which no PostgreSQL server reads",
                    hint="recode it to UTF-8, for instance with iconv -f UTF-16 -t UTF-8",
                )
            if self._utf8 and head.startswith(_BOM):
                self._consume(len(_BOM))

    def _take(self, size: int) -> list[bytes]:
        """Read `size` bytes, in parts as they come; fewer only at the end."""
        parts: list[bytes] = []
        while size > 0 and not self._ended:
            wanted = size if self._end is None else min(size, self._end - self._got)
            part = self._read(wanted) if wanted else b""
            if not part:
                self._ended = True
                if self._end is not None and self._got < self._end:
                    raise self._error(f"the input ends at byte {self._got}, and more was here once: did it change?")
            else:
                parts.append(part)
                self._got += len(part)
                size -= len(part)
        return parts

    def _fill(self, size: int) -> None:
        """Have at least `size` bytes that are not handed out, unless the input ends."""
        missing = size - (len(self._data) - self._at)
        if missing > 0 and not self._ended:
            parts = self._take(max(missing, self.READ))
            if self._at < len(self._data):
                parts.insert(0, self._data[self._at :])
            self._data, self._at = b"".join(parts), 0  # of a single part: no copy

    def _consume(self, size: int) -> None:
        self._at += size
        self._offset += size

    # -- cutting ------------------------------------------------------------------------------------------------

    def _cut(self, wanted: int, size: int) -> tuple[bytes, int]:
        """The next rows, at most `wanted` and, unless a single one is longer, at most `size` bytes of them; none at
        the end. The caller notes by `_advance` that they are consumed; the buffer is behind them already."""
        if self._eol is None:
            self._find_eol()
        scan = scanner(self._dialect, end_byte(self._eol or LF))
        done = rows = 0
        state, last = PLAIN, (0, 0, PLAIN, 0)  # the last chunk with a row end: from, to, state, row ends
        while True:
            # Chunks are counted from the piece's first byte, so that filling the buffer does not disturb them.
            available = len(self._data) - self._at
            while done < min(available, size) and rows < wanted:
                top = min(done + scan.CHUNK, available, size)
                found, after = scan.scan(self._data, self._at + done, self._at + top, state)
                if found:
                    last = (done, top, state, found)
                    rows += found
                done, state = top, after
            if rows >= wanted or available > size or self._ended:
                break
            self._fill(size + 1)  # one more: whether the last row without a line end fits must not depend on chance
        if rows < wanted and done == available and self._ended and state == PLAIN:
            data = self._hand_out(done)
            return data, rows + self._open_end(data)
        if rows:
            lo, hi, state, found = last
            excess = max(rows - wanted, 0)
            end = scan.locate(self._data, self._at + lo, self._at + hi, state, found - excess)
            return self._hand_out(end - self._at), rows - excess
        return self._cut_long(done, state), 1

    def _cut_long(self, done: int, state: int) -> bytes:
        """A single row that is longer than a piece should be; `done` bytes of it are scanned.

        Its parts are joined once: a buffer that grows by halves would be copied, and held, several times.
        """
        scan = scanner(self._dialect, end_byte(self._eol or LF))
        end, state = scan.first(self._data, self._at + done, len(self._data), state)
        if end >= 0:
            return self._hand_out(end - self._at)
        parts = [self._data[self._at :]]
        size = len(parts[0])
        self._data, self._at = b"", 0
        while True:
            if size > self.LONGEST_ROW:
                raise self._error(
                    f"the row that begins here is longer than {self.LONGEST_ROW} bytes: the server takes no such row",
                    hint=_UNBALANCED,
                )
            block = b"".join(self._take(self.READ))
            if not block:
                data = b"".join(parts)
                if self._open_end(data, state) and state != PLAIN:
                    raise self._error("a quoted field of the row that begins here does not end", hint=_UNBALANCED)
                return data
            end, state = scan.first(block, 0, len(block), state)
            parts.append(block if end < 0 else block[:end])
            size += len(parts[-1])
            if end >= 0:
                self._data, self._at = block, end
                return b"".join(parts)

    def _hand_out(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        self._at += size
        return data

    def _open_end(self, data: bytes, state: int = PLAIN) -> bool:
        """Whether the last row, which ends with `data`, has no line end, as only the last of a file may."""
        missing = state != PLAIN or (data != b"" and not data.endswith(bytes([end_byte(self._eol or LF)])))
        if missing and self._end is not None:
            raise self._error(f"no row begins at byte {self._end}, and one did: did the input change?")
        return missing

    def _find_eol(self) -> None:
        """Which line end the first row has; nothing is consumed. It stays unknown if there is none."""
        self._fill(1)
        parts = [self._data[self._at :]]
        state, size = PLAIN, 0
        while True:
            at, kind, state = first_break(parts[-1], self._dialect, state=state)
            size += len(parts[-1])
            block = b""
            if kind is None or (kind == CR and at == len(parts[-1]) - 1):
                if size <= self.LONGEST_ROW:  # a longer one is an error when it is cut
                    self._data, self._at = b"", 0
                    block = b"".join(self._take(self.READ))
                if block:
                    parts.append(block)
            if kind is not None:
                self._eol = CRLF if kind == CR and block.startswith(LF) else kind
            if kind is not None or not block:
                break
        self._data, self._at = b"".join(parts), 0

    # -- what a COPY of the piece would not notice ------------------------------------------------------------------

    def _check(self, data: bytes) -> None:
        if b"\\" in data:
            self._check_marker(data)
        if self._eol is not None:
            at, kind, _ = first_break(data, self._dialect, likely=end_byte(self._eol))
            if kind not in (None, self._eol):
                raise self._error(
                    f"an unquoted {_NAMES[kind or b'']}, while lines of this file end with {_NAMES[self._eol]}",
                    data,
                    at,
                )

    def _check_marker(self, data: bytes) -> None:
        r"""Refuse a row that is `\.` and no more. In quotes, with more in its line or without a line end it is data."""
        # At the begin of a COPY the server takes any line end for its end, as it knows none yet. Only where the quote
        # is one of these two characters could such a row be data in the file; it is refused wherever it is cut.
        ends = {self._eol or LF} | ({LF, CR} if self._dialect.quote in "\\." else set())
        found = [0] if data[:3] in (b"\\.\n", b"\\.\r") else []
        found += [at for end in ends if (at := self._find_marker(data, end)) >= 0]
        if found:
            raise self._error(
                r"a line is \. and nothing more, which ends the data for PostgreSQL up to 17: the rest would be lost",
                data,
                min(found),
                hint="delete the line if it is the end of the data, quote it if it is a value",
            )

    def _find_marker(self, data: bytes, end: bytes) -> int:
        """Where such a row with this line end is, not counting the first row; -1: nowhere."""
        last = end_byte(self._eol or LF)
        needle = bytes([last]) + b"\\." + end
        done, state = 0, PLAIN
        found = data.find(needle)
        while found >= 0:
            state = scanner(self._dialect, last).advance(data, done, found + 1, state)
            done = found + 1
            if state == PLAIN:
                return done
            # Inside quotes. No other of the same quotes can be meant: there may be millions.
            quote = data.find(self._dialect.quote_byte, done)
            found = data.find(needle, max(quote, done)) if quote >= 0 else -1
        return -1

    def _advance(self, data: bytes, rows: int = 1) -> None:
        """Note that these rows, which the buffer is behind already, are consumed."""
        self._offset += len(data)
        if data.find(self._dialect.quote_byte) < 0 and self._eol is not None:
            # Counting once more would cost as much as all the rest.
            self._line += rows - (not data.endswith(bytes([end_byte(self._eol)])))
        else:
            self._line += count_lines(data, self._eol or LF)

    def _error(self, message: str, data: bytes = b"", at: int = 0, *, hint: str | None = None) -> CsvError:
        """An error at byte `at` of the rows `data` that come next."""
        line = self._line + count_lines(data[:at], self._eol or LF)
        return CsvError(message, line=line, offset=self._offset + at, hint=hint)


def _plain_name(encoding: str) -> str:
    """An encoding's name as the server compares it: letters and digits."""
    return re.sub(r"[^a-z0-9]", "", encoding.lower())


def _codec(encoding: str) -> str:
    """Python's name of an encoding of the server; ASCII where Python has none, so that a header in ASCII is read."""
    name = _plain_name(encoding)
    name = _PYTHON_NAMES.get(name, re.sub(r"^win(dows)?(?=\d)", "cp", name))
    for spelling in (name, encoding):
        try:
            return codecs.lookup(spelling).name
        except LookupError:
            pass
    return "ascii"
