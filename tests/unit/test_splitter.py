"""The splitter against a machine that looks at one byte after the other: all dialects, line ends and block sizes."""

from __future__ import annotations

import io
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hyperfill.csvrows import Scanner, first_break
from hyperfill.dialect import Dialect
from hyperfill.errors import UsageError
from hyperfill.splitter import CsvError, Piece, Splitter, count_lines, fields_of, row_spans

DEFAULT = Dialect()
BACKSLASH = Dialect(escape="\\")
DIALECTS = [
    DEFAULT,
    BACKSLASH,
    Dialect(quote="'", delimiter=";"),
    Dialect(quote="'", escape='"'),
    Dialect(quote="a", escape="b"),
    Dialect(escape=","),  # the delimiter as well: the server allows it
    Dialect(quote="\\"),  # what the line \. is made of
    Dialect(quote="."),
    Dialect(quote="\\", escape="."),
    Dialect(quote=".", escape="\\"),
    Dialect(delimiter="^", quote="]", escape="-"),  # special inside a class of a regular expression
]


# --- the machine ------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What PostgreSQL 17 makes of bytes: the rows before an error, the line end, the error and where it is noticed."""

    rows: list[bytes]
    eol: bytes | None
    error: str | None = None
    at: int = 0


def server(data: bytes, dialect: Dialect, eol: bytes | None = None) -> Outcome:
    quote, escape = dialect.quote_byte, -1 if dialect.doubled else dialect.escape_byte
    rows: list[bytes] = []
    at = 0
    while at < len(data):
        start = at
        if data[at : at + 2] == b"\\.":
            ends = {None: (b"\n", b"\r"), b"\n": (b"\n",), b"\r": (b"\r",), b"\r\n": (b"\r\n",)}[eol]
            if dialect.quote in "\\." and eol:  # what could be data in the file, but not in a COPY of its own
                ends = (b"\n", b"\r")
            if data.startswith(ends, at + 2):
                return Outcome(rows, eol, "marker", start)
            if eol in (b"\n", b"\r") and data.startswith((b"\n", b"\r"), at + 2):
                return Outcome(rows, eol, "eol", at + 2)
            if eol == b"\r\n" and data.startswith(b"\r\r", at + 2):
                return Outcome(rows, eol, "eol", at + 2)
        quoted = escaped = False
        while True:
            if at == len(data):
                if quoted:
                    return Outcome(rows, eol, "unterminated", start)
                rows.append(data[start:])
                break
            byte = data[at]
            if quoted and byte == escape:
                escaped = not escaped
            if byte == quote and not escaped:
                quoted = not quoted
            if byte != escape:
                escaped = False
            at += 1
            if byte in b"\r\n" and not quoted:
                kind = b"\n" if byte == 10 else b"\r\n" if data[at : at + 1] == b"\n" and eol != b"\r" else b"\r"
                if eol not in (None, kind):
                    return Outcome(rows, eol, "eol", at - 1)
                eol = kind
                at += len(kind) - 1
                rows.append(data[start:at])
                break
    return Outcome(rows, eol)


def values(row: bytes, dialect: Dialect, eol: bytes) -> list[tuple[bytes, bool]]:
    """A row's values as the server reads them, byte by byte."""
    row = row.removesuffix(eol)
    found: list[tuple[bytes, bool]] = []
    value, seen, quoted, at = b"", False, False, 0
    while at < len(row):
        byte = row[at]
        following = row[at + 1] if at + 1 < len(row) else -1
        at += 1
        if not quoted and byte == dialect.delimiter_byte:
            found.append((value, seen))
            value, seen = b"", False
        elif not quoted and byte == dialect.quote_byte:
            quoted = seen = True
        elif quoted and byte == dialect.escape_byte and following in (dialect.escape_byte, dialect.quote_byte):
            value += bytes([following])
            at += 1
        elif quoted and byte == dialect.quote_byte:
            quoted = False
        else:
            value += bytes([byte])
    return [*found, (value, seen)]


# --- what is tried ----------------------------------------------------------------------------------------------------

_TOKENS = [
    b"x",
    b"a",
    b"b",
    b'"',
    b"'",
    b"\\",
    b".",
    b",",
    b";",
    b"]",
    b"-",
    b"\n",
    b"\r",
    b"\r\n",
    b'""',
    b"\\.",
    b"\0",
]
_TOKENS += [b"\\.\n", b"\n\\.\n", b"\r\n\\.\r\n", b'"\n"', b'"x\ny"', b"'x\r\ny'", b'\\"', b"\\\\", b"\xff", b"x" * 70]
noise = st.lists(st.sampled_from(_TOKENS), max_size=40).map(b"".join)
sizes = st.integers(1, 12) | st.integers(13, 300)
dialects = st.sampled_from(DIALECTS)


@st.composite
def written(draw: st.DrawFn, dialect: Dialect) -> bytes:
    """CSV as a program would write it, with everything that quotes may hold."""
    eol = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    quote, escape = bytes([dialect.quote_byte]), bytes([dialect.escape_byte])
    inside = st.lists(st.sampled_from(_TOKENS), max_size=8).map(b"".join)

    def quoted(value: bytes) -> bytes:
        value = value.replace(escape, escape * 2)
        return quote + (value if escape == quote else value.replace(quote, escape + quote)) + quote

    safe = st.sampled_from([t for t in (b"", b"x", b"y" * 9, b"\\.", b"1.5", b"\\") if dialect.quote_byte not in t])
    field = safe | inside.map(quoted)
    rows = draw(st.lists(st.lists(field, min_size=1, max_size=3), max_size=12))
    data = b"".join(bytes([dialect.delimiter_byte]).join(row) + eol for row in rows)
    return data.removesuffix(eol) if draw(st.booleans()) else data


@st.composite
def cases(draw: st.DrawFn) -> tuple[Dialect, bytes]:
    dialect = draw(dialects)
    data = draw(noise | written(dialect))
    if draw(st.integers(0, 3)) == 0:  # nearly right
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from(_TOKENS)) + data[at:]
    return dialect, data


@contextmanager
def small(read: int, chunk: int) -> Iterator[None]:
    """Blocks so small that their borders fall everywhere."""
    before = Splitter.READ, Scanner.CHUNK, Scanner.WALK
    Splitter.READ, Scanner.CHUNK, Scanner.WALK = read, chunk, min(chunk, 4)
    try:
        yield
    finally:
        Splitter.READ, Scanner.CHUNK, Scanner.WALK = before


def reader(data: bytes, block: int | None = None) -> Callable[[int], bytes]:
    """A stream that gives at most `block` bytes at a time."""
    stream = io.BytesIO(data)
    return lambda size: stream.read(size if block is None else min(size, block))


def split(data: bytes, dialect: Dialect = DEFAULT, **options: int | bytes | None) -> list[Piece]:
    return list(Splitter(reader(data), dialect, **options).pieces())  # type: ignore[arg-type]


def expected(rows: list[bytes], eol: bytes | None, max_bytes: int, max_rows: int | None) -> list[Piece]:
    """Pieces as large as they may be."""
    pieces: list[Piece] = []
    offset, line = 0, 1
    while rows:
        count = size = 0
        while count < len(rows) and count != max_rows and (count == 0 or size + len(rows[count]) <= max_bytes):
            size += len(rows[count])
            count += 1
        data = b"".join(rows[:count])
        pieces.append(Piece(offset, line, count, data))
        offset, line, rows = offset + size, line + data.count(b"\n" if eol in (b"\n", None) else b"\r"), rows[count:]
    return pieces


# --- properties -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=1500)
@given(cases(), sizes, st.none() | st.integers(1, 5), sizes, sizes, sizes)
@example((DEFAULT, b'a,"x\r'), 3, None, 1, 1, 1)
@example((DEFAULT, b"a\rb\r\n"), 2, None, 1, 1, 1)
@example((DEFAULT, b"a\r\nb\r"), 3, 1, 9, 9, 9)
@example((Dialect(quote="."), b"\\.\n..\r\n"), 9, None, 9, 9, 9)
def test_pieces_are_what_one_copy_would_read(
    case: tuple[Dialect, bytes], max_bytes: int, max_rows: int | None, block: int, read: int, chunk: int
) -> None:
    dialect, data = case
    whole = server(data, dialect)
    pieces: list[Piece] = []
    with small(read, chunk):
        splitter = Splitter(reader(data, block), dialect, max_bytes=max_bytes, max_rows=max_rows)
        try:
            pieces.extend(splitter.pieces())
            error = None
        except CsvError as caught:
            error = caught
    loaded = [server(piece.data, dialect) for piece in pieces]
    if whole.error is None:
        assert error is None
        assert pieces == expected(whole.rows, whole.eol, max_bytes, max_rows)
        assert [row for one in loaded for row in one.rows] == whole.rows
        assert all(one.error is None for one in loaded)
        assert splitter.eol == whole.eol
        assert (splitter.offset, splitter.line) == (
            len(data),
            1 + count_lines(data, whole.eol or b"\n"),
        )
        return
    assert error is not None or any(one.error for one in loaded)
    if whole.error == "eol":
        # In the row with it or behind; in a file of CR the CR of a CRLF is still a row end.
        assert error is None or error.offset >= len(b"".join(whole.rows)) - 1
        return
    # All before it is as it should be, and it has its place.
    assert error is not None
    assert error.offset == whole.at
    assert ("ends the data" if whole.error == "marker" else "does not end") in str(error) or dialect.quote in "\\."
    ends = data[: whole.at].count(b"\n" if splitter.eol in (b"\n", None) else b"\r")
    assert error.line == 1 + ends
    fits = expected(whole.rows, whole.eol, max_bytes, max_rows)
    assert pieces == fits[: len(pieces)]
    assert len(fits) - len(pieces) <= 1


@settings(deadline=None, max_examples=500)
@given(cases(), st.integers(0, 20), sizes, st.none() | st.integers(1, 5), sizes, sizes)
def test_limit_is_exact_and_nothing_behind_it_matters(
    case: tuple[Dialect, bytes], limit: int, max_bytes: int, max_rows: int | None, read: int, chunk: int
) -> None:
    dialect, data = case
    whole = server(data, dialect)
    if len(whole.rows) < limit:
        return
    with small(read, chunk):
        splitter = Splitter(reader(data), dialect, limit=limit, max_bytes=max_bytes, max_rows=max_rows)
        pieces = list(splitter.pieces())
    assert pieces == expected(whole.rows[:limit], whole.eol, max_bytes, max_rows)
    assert splitter.offset == len(b"".join(whole.rows[:limit]))


@settings(deadline=None, max_examples=500)
@given(cases(), st.data(), sizes, sizes, sizes)
def test_resumed_between_any_two_rows(
    case: tuple[Dialect, bytes], data: st.DataObject, max_bytes: int, read: int, chunk: int
) -> None:
    dialect, content = case
    whole = server(content, dialect)
    if whole.error or not whole.eol:
        return
    # No gap goes up to a last row without a line end: no batch could begin behind it.
    complete = [row for row in whole.rows if row.endswith(whole.eol)]
    first = data.draw(st.integers(0, len(complete)))
    last = data.draw(st.integers(first, len(complete)))
    before = b"".join(whole.rows[:first])
    start, end = len(before), len(b"".join(whole.rows[:last]))
    line = 1 + count_lines(before, whole.eol)
    with small(read, chunk):
        for known, until, rows in ((whole.eol, end, complete[first:last]), (None, None, whole.rows[first:])):
            splitter = Splitter(
                reader(content[start:]), dialect, offset=start, line=line, eol=known, end=until, max_bytes=max_bytes
            )
            pieces = list(splitter.pieces())
            plain = expected(rows, whole.eol, max_bytes, None)
            assert pieces == [Piece(p.offset + start, p.line + line - 1, p.rows, p.data) for p in plain]
            assert splitter.offset == start + len(b"".join(rows))


@settings(deadline=None, max_examples=500)
@given(cases(), sizes, sizes)
def test_rows_and_values(case: tuple[Dialect, bytes], read: int, chunk: int) -> None:
    dialect, data = case
    whole = server(data, dialect)
    if whole.error:
        return
    eol = whole.eol or b"\n"
    assert [data[a:b] for a, b in row_spans(data, dialect, eol)] == whole.rows
    for row in whole.rows:
        assert fields_of(row, dialect, eol) == values(row, dialect, eol)
    with small(read, chunk):
        splitter = Splitter(reader(data), dialect)
        if not whole.rows:
            with pytest.raises(CsvError, match="no header"):
                splitter.header()
        elif b"\xff" not in whole.rows[0]:
            assert splitter.header() == [v.decode() for v, _ in values(whole.rows[0], dialect, eol)]
            assert b"".join(p.data for p in splitter.pieces()) == b"".join(whole.rows[1:])


@settings(deadline=None)
@given(noise, st.integers(0, 9), sizes, sizes)
def test_skipped_lines_are_physical_ones(data: bytes, count: int, read: int, block: int) -> None:
    lines = re.findall(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z", data)
    with small(read, 64):
        splitter = Splitter(reader(data, block), DEFAULT)
        splitter.skip_lines(count)
        assert splitter.offset == len(b"".join(lines[:count]))
        ended = sum(line.endswith((b"\r", b"\n")) for line in lines[:count])
        assert splitter.line == 1 + ended


@settings(deadline=None)
@given(cases())
def test_the_first_line_end_is_what_a_copy_would_find(case: tuple[Dialect, bytes]) -> None:
    dialect, data = case
    if dialect.quote in "\\." or (found := server(data, dialect)).error == "marker":
        return
    assert first_break(data, dialect)[1] == first_break(data, dialect, likely=13)[1] == found.eol


# --- cases by name ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_bytes", range(1, 60))
def test_a_byte_limit_inside_a_quoted_row(max_bytes: int) -> None:
    rows = [b'1,"aaaa\nbbbb"\n', b'2,"cccc\ndddd"\n', b"3,x\n"]
    assert split(b"".join(rows), max_bytes=max_bytes) == expected(rows, b"\n", max_bytes, None)
    assert split(b"".join(rows), max_bytes=max_bytes, max_rows=1) == expected(rows, b"\n", max_bytes, 1)


@pytest.mark.parametrize("border", [Scanner.CHUNK, Splitter.READ])
@pytest.mark.parametrize("eol", [b"\n", b"\r\n", b"\r"])
def test_quotes_and_line_ends_at_the_borders_of_blocks(border: int, eol: bytes) -> None:
    quoted = b'"' + eol + b'"'
    for near in range(-4, 3):
        long = b"x" * (border + near)
        for rows in (
            [long + quoted + eol],
            [long + quoted + b'"' + eol + b'"' + eol],
            [long + b"," + quoted + eol, quoted + eol],
            [long + eol, eol],
            [long + b'""' + eol, b'""' + eol],
        ):
            rows *= 2
            for max_bytes in (64, border, 2 << 20):
                assert split(b"".join(rows), max_bytes=max_bytes) == expected(rows, eol, max_bytes, None)
            assert split(b"".join(rows), max_rows=1) == expected(rows, eol, 8 << 20, 1)


@pytest.mark.parametrize("near", range(-2, 3))
def test_the_first_crlf_split_over_reads(near: int) -> None:
    rows = [b"x" * (Splitter.READ + near) + b"\r\n", b"y\r\n"]
    splitter = Splitter(reader(b"".join(rows)), DEFAULT)
    assert [p.rows for p in splitter.pieces()] == [2]
    assert splitter.eol == b"\r\n"


@pytest.mark.parametrize(
    ("data", "line", "offset"),
    [
        (b"\\.\n", 1, 0),
        (b"a\n\\.\n", 2, 2),
        (b"a\r\n\\.\r\nb\r\n", 2, 3),
        (b"a\r\\.\rb\r", 2, 2),
        (b'"a\n\n"\n\\.\nb\n', 4, 6),
        (b'"\n\\.\n"\n\\.\n', 4, 7),
        (b"a\n\\.\n\\.\n", 2, 2),
        (b"a\n" * 100_000 + b"\\.\n" + b"b\n" * 100_000, 100_001, 200_000),
        (b'"a\n\\.\n"\n' * 20_000 + b"\\.\n" + b"b\n" * 100_000, 60_001, 160_000),
    ],
)
def test_the_end_marker_is_an_error_with_its_place(data: bytes, line: int, offset: int) -> None:
    with pytest.raises(CsvError, match="ends the data") as caught:
        split(data)
    assert (caught.value.line, caught.value.offset) == (line, offset)
    assert caught.value.exit_code == 4
    same = pickle.loads(pickle.dumps(caught.value))
    assert (str(same), same.line, same.offset) == (str(caught.value), line, offset)


@pytest.mark.parametrize("data", [b"a\n\\.", b"\\.x\n", b"\\. \n", b'"\\."\n', b'""\\.\n', b'a"\n\\.\n"\n', b" \\.\n"])
def test_what_looks_like_the_end_marker_is_data(data: bytes) -> None:
    assert b"".join(p.data for p in split(data)) == data


@pytest.mark.parametrize(
    ("data", "line", "offset"),
    [(b'a\n"b\n', 2, 2), (b'"', 1, 0), (b'x"\n' + b"y\n" * 3_000_000, 1, 0), (b'"a\n"\nb,"\n\n', 3, 5)],
)
def test_quotes_that_do_not_end(data: bytes, line: int, offset: int) -> None:
    with pytest.raises(CsvError, match="does not end") as caught:
        split(data)
    assert (caught.value.line, caught.value.offset) == (line, offset)


def test_a_quote_too_many_does_not_read_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Splitter, "LONGEST_ROW", 5 << 20)
    for begin in (b'a\nb"', b'b"'):  # the line end is known or not
        endless = iter([begin])
        splitter = Splitter(lambda n: next(endless, b"x\n" * 50_000), DEFAULT, max_bytes=1 << 20)  # noqa: B023
        with pytest.raises(CsvError, match="longer than") as caught:
            list(splitter.pieces())
        assert (caught.value.line, caught.value.offset) == (1 + begin.count(b"\n"), begin.count(b"\n") * 2)


def test_a_gap_that_is_no_longer_there() -> None:
    with pytest.raises(CsvError, match="no row begins at byte 3"):
        split(b"a\nbc\nd\n", end=3)
    with pytest.raises(CsvError, match="no row begins at byte 4"):
        split(b'a\n"b\n"\n', end=4)
    with pytest.raises(CsvError, match="the input ends at byte 7"):
        split(b"a\nbc\nd\n", end=8)
    assert split(b"a\nbc\nd\n", end=0) == []


def test_byte_order_marks() -> None:
    bom = b"\xef\xbb\xbf"
    splitter = Splitter(reader(bom + b"a,b\n1,2\n"), DEFAULT)
    assert splitter.header() == ["a", "b"]
    assert list(splitter.pieces()) == [Piece(7, 2, 1, b"1,2\n")]
    assert split(bom) == []
    assert split(bom + b"a\n") == [Piece(3, 1, 1, b"a\n")]
    assert split(bom + b"a\n", Dialect(encoding="LATIN1")) == [Piece(0, 1, 1, bom + b"a\n")]
    assert split(bom + b"a\n", offset=9) == [Piece(9, 1, 1, bom + b"a\n")]
    for encoding in ("utf-16", "utf-16-be", "utf-32"):
        data = "\ufeff".encode(encoding) * (encoding == "utf-16-be") + "a,b\n".encode(encoding)
        for dialect in (DEFAULT, Dialect(encoding="LATIN1")):
            with pytest.raises(CsvError, match="UTF-16"):
                split(data, dialect)
    assert split(b"\xff\xfeab\n", Dialect(encoding="LATIN1"))[0].rows == 1


def test_headers_in_other_encodings() -> None:
    def header(text: str, codec: str, **options: str) -> list[str]:
        return Splitter(reader(text.encode(codec)), Dialect(**options)).header()  # type: ignore[arg-type]

    assert header('zeit,"größe\nin ""m"""\n', "utf-8") == ["zeit", 'größe\nin "m"']
    assert header("größe,€\r\n", "cp1252", encoding="WIN1252") == ["größe", "€"]
    assert header("größe\n", "latin-1", encoding="iso-8859-1") == ["größe"]
    assert header("имя\n", "koi8_r", encoding="KOI8R") == ["имя"]
    assert header("漏|ポ|ソ\n", "cp932", encoding="SJIS", delimiter="|") == ["漏", "ポ", "ソ"]  # ポ ends with a |
    assert header("名\n", "gb18030", encoding="GB18030") == ["名"]
    assert header("a\n", "ascii", encoding="MULE_INTERNAL") == ["a"]
    with pytest.raises(CsvError, match="byte 0xf6 of the header is no text in UTF8") as caught:
        header("a,größe\n", "latin-1")
    assert caught.value.offset == 4


def test_an_encoding_in_which_a_quote_may_be_half_a_character() -> None:
    for encoding in ("SJIS", "BIG5", "GBK", "UHC", "JOHAB", "GB18030", "SHIFT_JIS_2004", "shift-jis", "Windows-949"):
        assert split(b'"\x83\x5c",x\n', Dialect(encoding=encoding))[0].rows == 1
        for dialect in (Dialect(encoding=encoding, escape="\\"), Dialect(encoding=encoding, quote="0")):
            with pytest.raises(UsageError, match="part of a character"):
                Splitter(reader(b""), dialect)
    assert split(b"\\a\\\n", Dialect(encoding="EUC_JP", quote="\\"))[0].rows == 1


@pytest.mark.parametrize(("option", "value"), [("max_rows", 0), ("max_bytes", 0), ("limit", -1)])
def test_limits_that_are_none(option: str, value: int) -> None:
    with pytest.raises(UsageError):
        split(b"a\n", DEFAULT, **{option: value})


# --- size -------------------------------------------------------------------------------------------------------------

_HUGE = """
import sys
from hyperfill.dialect import Dialect
from hyperfill.splitter import Splitter
size, count = int(sys.argv[1]) << 20, int(sys.argv[2])
block = (b"some text, " * 8 + b"\\n") * 11000
def stream():
    for _ in range(count):
        yield b'1,"'
        for _ in range(size // len(block)):
            yield block
        yield b'"\\n'
parts, rest = stream(), b""
def read(n):
    global rest
    data = rest or next(parts, b"")
    rest = data[n:]
    return data[:n]
def peak():  # in KiB; ru_maxrss would be what the parent had at the fork
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
base = peak()
lengths = []
for piece in Splitter(read, Dialect()).pieces():
    lengths.append(len(piece.data))
    assert piece.rows == 1
    del piece
assert len(lengths) == count and min(lengths) > 0.99 * size
print((peak() - base) / 1024)
"""


@pytest.mark.parametrize(("size", "count"), [(200, 1), (130, 3)])
def test_rows_of_hundreds_of_megabytes(size: int, count: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HUGE, str(size), str(count)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert size < float(done.stdout) < 2.5 * size


@pytest.mark.parametrize("max_bytes", [1000, 8 << 20])
@pytest.mark.parametrize(
    ("dialect", "value"),
    [
        (DEFAULT, b"\n"),
        (DEFAULT, b"\r\n"),
        (DEFAULT, b'""'),
        (DEFAULT, b'""\n'),
        (DEFAULT, b"\\.\n"),
        (BACKSLASH, b"\\\\"),
        (BACKSLASH, b'\\"\n'),
        (BACKSLASH, b"\\.\n"),
    ],
)
def test_a_huge_field_takes_linear_time(dialect: Dialect, value: bytes, max_bytes: int) -> None:
    data = b'a,"\n' + value * ((20 << 20) // len(value)) + b'"\nb,c\n'
    began = time.monotonic()
    pieces = split(data, dialect, max_bytes=max_bytes)
    assert sum(p.rows for p in pieces) == 2
    assert b"".join(p.data for p in pieces) == data
    assert time.monotonic() - began < 15  # a tenth of it is usual, and quadratic would be hours


@pytest.mark.parametrize("unit", [b'"\n\\.\n"x', b'\\"\n\\\\"', b'\\"x\\"\\""', b'x""\\""'])
def test_adverse_bytes_take_linear_time(unit: bytes) -> None:
    data = unit * ((2 << 20) // len(unit)) + b"\n"
    for dialect in (DEFAULT, BACKSLASH):
        began = time.monotonic()
        pieces = split(data, dialect)
        assert b"".join(p.data for p in pieces) == data
        spans = list(row_spans(data, dialect, b"\n"))
        assert len(spans) == sum(p.rows for p in pieces)
        assert sum(len(fields_of(data[a:b], dialect, b"\n")) for a, b in spans) >= len(spans)
        assert time.monotonic() - began < 30
