"""Where rows of CSV begin and end, by the rules of the server's COPY FROM: pure functions over bytes.

The rules are those of PostgreSQL 17. A quote toggles between outside and inside, wherever in a field it stands.
With an escape that is not the quote, inside quotes an escape takes its meaning from the byte after it; outside it is
data. A line end outside quotes ends the row.

Nothing here looks at every byte in Python. `bytes.translate` leaves a tiny string of quotes and line ends, in which
pairs of quotes cancel each other out; what is between the others is outside and inside in turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from hyperfill.dialect import Dialect
from hyperfill.errors import Incomplete

LF, CR, CRLF = b"\n", b"\r", b"\r\n"

# Where a scan stands: outside quotes, inside, inside and behind an escape that still waits for its byte.
PLAIN, QUOTED, ESCAPED = 0, 1, 2


class CsvError(Incomplete):
    """The bytes are no CSV that can be loaded as they are; `line` (from 1) and `offset` (in bytes) say where."""

    def __init__(self, message: str, *, line: int, offset: int, hint: str | None = None) -> None:
        super().__init__(f"line {line}, byte {offset}: {message}", hint=hint)
        self.line = line
        self.offset = offset


def end_byte(eol: bytes) -> int:
    """The byte at which rows end. A lone LF ends a row of a CRLF file as well: the server refuses it in any case."""
    return eol[-1]


def count_lines(data: bytes, eol: bytes) -> int:
    """By how much the line number rises over `data`: line ends also inside quotes, as the server counts them."""
    return data.count(LF if eol == LF else CR)


class Scanner:
    """Counts and finds the unquoted occurrences of one byte, a line end, in bytes of one dialect.

    `data` is looked at between `lo` and `hi`, `state` is where the scan stands at `lo`.
    """

    CHUNK = 64 * 1024  # bytes to look at in one go: all intermediate strings stay in the processor's cache
    WALK = 64  # bytes that are looked at one by one

    def __init__(self, dialect: Dialect, end: int) -> None:
        quote, escape = dialect.quote_byte, dialect.escape_byte
        self._end, self._quote = bytes([end]), bytes([quote])
        self._escape = None if dialect.doubled else bytes([escape])
        self._pair = self._quote * 2
        self._others = bytes(set(range(256)) - {end, quote})
        classes = bytearray(b"x" * 256)
        classes[end], classes[quote], classes[escape] = b"nqe"
        self._classes = bytes(classes)

    def scan(self, data: bytes, lo: int, hi: int, state: int) -> tuple[int, int]:
        """How many row ends there are, and the state at `hi`. Copies all of it: for at most a `CHUNK`."""
        if state == ESCAPED and lo < hi:
            lo, state = lo + 1, QUOTED
        if data.find(self._quote, lo, hi) < 0:
            if state == PLAIN:
                return data.count(self._end, lo, hi), PLAIN
            if self._escape is None or state == ESCAPED:
                return 0, state
            return 0, QUOTED + _trailing(data[lo:hi], self._escape) % 2
        part = data[lo:hi]
        if self._escape is not None and self._escape in part:
            return _scan_escaped(part.translate(self._classes), state)
        marks = part.translate(None, self._others).replace(self._pair, b"").split(self._quote)
        return len(b"".join(marks[state::2])), state ^ (len(marks) - 1) & 1

    def advance(self, data: bytes, lo: int, hi: int, state: int) -> int:
        """The state at `hi`, of any number of bytes."""
        while lo < hi:
            top = min(lo + self.CHUNK, hi)
            _, state = self.scan(data, lo, top, state)
            lo = top
        return state

    def first(self, data: bytes, lo: int, hi: int, state: int) -> tuple[int, int]:
        """Just behind the first row end, or -1; in that case the second is the state at `hi`."""
        step = min(256, self.CHUNK)  # most rows are short
        while lo < hi:
            top = min(lo + step, hi)
            found, after = self.scan(data, lo, top, state)
            if found:
                return self.locate(data, lo, top, state, 1), PLAIN
            lo, state, step = top, after, min(step * 4, self.CHUNK)
        return -1, state

    def locate(self, data: bytes, lo: int, hi: int, state: int, number: int) -> int:
        """Just behind row end `number` (from 1), which must be there: by halving, then byte by byte."""
        while hi - lo > self.WALK:
            middle = (lo + hi) // 2
            found, after = self.scan(data, lo, middle, state)
            if found >= number:
                hi = middle
            else:
                lo, state, number = middle, after, number - found
        quote, end, escape = self._quote[0], self._end[0], self._escape[0] if self._escape else -1
        for at in range(lo, hi):
            byte = data[at]
            if state == ESCAPED:
                state = QUOTED
            elif state == QUOTED:
                state = ESCAPED if byte == escape else PLAIN if byte == quote else QUOTED
            elif byte == quote:
                state = QUOTED
            elif byte == end:
                number -= 1
                if number == 0:
                    return at + 1
        raise ValueError("there are not so many row ends")


def _trailing(data: bytes, byte: bytes) -> int:
    """How many of this byte stand at the end."""
    return len(data) - len(data.rstrip(byte))


_QUOTED_SPAN = re.compile(b"[qQ][^q]*q")


def _scan_escaped(marks: bytes, state: int) -> tuple[int, int]:
    """`Scanner.scan` where there are escapes; the bytes stand for what they are: n, e, q, or x for anything else.

    Of a run of escapes pairs can be left out, inside quotes and outside. An odd one before a quote (Q) is what
    depends on the place: inside the quote is data, outside it opens.
    """
    marks = marks.replace(b"ee", b"").replace(b"eq", b"Q")
    waiting = marks.endswith(b"e")
    marks = marks.translate(None, b"ex").replace(b"qq", b"")
    parts = marks.split(b"q")
    outside = b"".join(parts[state::2])
    if b"Q" in outside:
        # Rare: an escape before an opening quote. From there on parity is wrong, so spans are matched one by one;
        # the q at the end is matched if one is open there, so that no search runs to the end in vain.
        if state == QUOTED:
            marks = marks.partition(b"q")[2]
        outside = _QUOTED_SPAN.sub(b"", marks + b"q")
        rows, state = outside.count(b"n"), PLAIN if outside.endswith(b"q") else QUOTED
    else:
        rows, state = len(outside), state ^ (len(parts) - 1) & 1
    return rows, ESCAPED if state == QUOTED and waiting else state


@lru_cache(maxsize=16)
def scanner(dialect: Dialect, end: int) -> Scanner:
    """The scanner for a dialect and a line end's byte; made once."""
    return Scanner(dialect, end)


def first_break(
    data: bytes, dialect: Dialect, *, likely: int = LF[0], state: int = PLAIN
) -> tuple[int, bytes | None, int]:
    """Offset and kind of the first unquoted line end, as a COPY of these bytes would find it.

    The kind is None where there is none, and only then the third is the state at the end. `likely`, LF or CR, is
    looked for first. This costs what the row up to there is long.
    """
    other = CR[0] if likely == LF[0] else LF[0]
    found, after = scanner(dialect, likely).first(data, 0, len(data), state)
    at = len(data) if found < 0 else found - 1
    if data.find(other, 0, at) >= 0:
        earlier, _ = scanner(dialect, other).first(data, 0, at, state)
        at = at if earlier < 0 else earlier - 1
    if at == len(data):
        return at, None, after
    return at, LF if data[at] == LF[0] else CRLF if data.startswith(LF, at + 1) else CR, PLAIN


def row_spans(data: bytes, dialect: Dialect, eol: bytes) -> Iterator[tuple[int, int]]:
    """Start and end (its line end included) of each row. An unterminated last row goes to the end."""
    quote, end, size = dialect.quote_byte, end_byte(eol), len(data)
    start = at = 0
    stop = -1  # the next line end, quoted or not
    while start < size:
        if stop < at:
            stop = data.find(end, at)
            stop = size if stop < 0 else stop
        opened = data.find(quote, at, stop)
        if opened >= 0:
            closed = _closing(data, dialect, opened + 1)
            at = size if closed < 0 else closed + 1
            if at < size:
                continue
            stop = size
        at = min(stop + 1, size)
        yield start, at
        start = at


def _closing(data: bytes, dialect: Dialect, at: int) -> int:
    """Where the quotes end that were open at `at`, or -1. Doubled quotes close and open again."""
    escape = bytes([dialect.escape_byte])
    while True:
        closed = data.find(dialect.quote_byte, at)
        if closed < 0 or dialect.doubled or _trailing(data[at:closed], escape) % 2 == 0:
            return closed
        at = closed + 1


@lru_cache(maxsize=16)
def _patterns(dialect: Dialect) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """What ends a run of data outside quotes, and inside."""

    def one_of(*values: int) -> re.Pattern[bytes]:
        return re.compile(b"[" + b"".join(re.escape(bytes([v])) for v in values) + b"]")

    return one_of(dialect.delimiter_byte, dialect.quote_byte), one_of(dialect.quote_byte, dialect.escape_byte)


def fields_of(row: bytes, dialect: Dialect, eol: bytes) -> list[tuple[bytes, bool]]:
    """The values of a row, unescaped as the server does it, and whether there was a quote in it: then it is not NULL.

    In an encoding in which a trailing byte may be ASCII the row must be recoded before. A row that ends inside quotes
    raises `CsvError` (line 1, byte 0).
    """
    row = row.removesuffix(eol)
    delimiter, quote, escape = dialect.delimiter_byte, dialect.quote_byte, dialect.escape_byte
    if row.find(quote) < 0:
        return [(field, False) for field in row.split(bytes([delimiter]))]
    plain, inside = _patterns(dialect)
    fields: list[tuple[bytes, bool]] = []
    value: list[bytes] = []
    quoted, at = False, 0
    while (mark := plain.search(row, at)) is not None:
        value.append(row[at : mark.start()])
        at = mark.end()
        if mark[0][0] == delimiter:
            fields.append((b"".join(value), quoted))
            value, quoted = [], False
            continue
        quoted = True
        while True:
            if (mark := inside.search(row, at)) is None:
                raise CsvError("a quoted field does not end", line=1, offset=0)
            value.append(row[at : mark.start()])
            at = mark.end()
            if mark[0][0] == escape and row[at : at + 1] and row[at] in (escape, quote):
                value.append(row[at : at + 1])
                at += 1
            elif mark[0][0] == quote:
                break
            else:
                value.append(mark[0])
    value.append(row[at:])
    fields.append((b"".join(value), quoted))
    return fields
