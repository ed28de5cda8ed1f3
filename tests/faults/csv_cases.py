"""What any bytes must be to splitter, header and encoder: the checks that `fuzz_csv` feeds, and its tests.

A case is bytes: the first says what is tried, a few more how (dialect, sizes of blocks and batches), the rest is the
file. So a fuzzer reaches all of it by changing bytes, and a case that failed is played again from the bytes alone.
"""

from __future__ import annotations

import csv
import io
import re
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from hyperfill import moments
from hyperfill.catalog import Column
from hyperfill.csvrows import first_break
from hyperfill.dialect import Dialect
from hyperfill.encode import Encoder
from hyperfill.pgtypes import Type
from hyperfill.splitter import CsvError, Piece, Splitter, count_lines, fields_of, row_spans
from tests.fixtures.csv_machine import Outcome, expected, reader, server, small, values

DIALECTS = [
    Dialect(),
    Dialect(escape="\\"),
    Dialect(quote="'", delimiter=";"),
    Dialect(quote="'", escape='"'),
    Dialect(quote="a", escape="b"),
    Dialect(escape=","),
    Dialect(quote="\\"),
    Dialect(quote="."),
    Dialect(quote="\\", escape="."),
    Dialect(quote=".", escape="\\"),
    Dialect(delimiter="^", quote="]", escape="-"),
]
HEAD = 8  # bytes of a case that are no content
_LINE_ENDS = (b"\n", b"\r\n", b"\r")


def check(case: bytes) -> None:
    """Raises where something is not as it must be; what it raises says what was seen."""
    head, content = case[:HEAD].ljust(HEAD, b"\0"), case[HEAD:]
    CHECKS[head[0] % len(CHECKS)](head, content)


def describe(case: bytes) -> str:
    """A case, for people."""
    head, content = case[:HEAD].ljust(HEAD, b"\0"), case[HEAD:]
    what = CHECKS[head[0] % len(CHECKS)].__name__.strip("_")
    return f"{what}, {_dialect(head)}, numbers {list(head[2:])}, content {content!r}"


def _dialect(head: bytes) -> Dialect:
    return DIALECTS[head[1] % len(DIALECTS)]


def _size(byte: int) -> int:
    """From 1; mostly small, so that the border of a block falls everywhere."""
    return byte + 1 if byte < 200 else (byte - 199) * 40


def _splitter(head: bytes, data: bytes, **more: Any) -> Splitter:
    block = None if head[4] == 0 else _size(head[4])
    most = {"max_bytes": _size(head[2]), "max_rows": head[3] % 6 or None}
    return Splitter(reader(data, block), _dialect(head), **{**most, **more})


# --- any bytes --------------------------------------------------------------------------------------------------------


def _pieces(head: bytes, data: bytes) -> None:
    """Batches are the rows that one COPY of the whole would read, or it is an error with its place."""
    dialect = _dialect(head)
    while data.startswith(b"\xef\xbb\xbf"):  # looked at in a check of its own
        data = data.removeprefix(b"\xef\xbb\xbf")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return
    whole = server(data, dialect)
    pieces: list[Piece] = []
    error: CsvError | None = None
    with small(_size(head[5]), _size(head[6])):
        splitter = _splitter(head, data)
        try:
            pieces.extend(splitter.pieces())
        except CsvError as caught:
            error = caught
    assert b"".join(p.data for p in pieces) == data[: sum(len(p.data) for p in pieces)]
    loaded = [server(piece.data, dialect) for piece in pieces]
    if whole.error is None:
        assert error is None, f"refused, and the server takes it: {error}"
        wanted = expected(whole.rows, whole.eol, _size(head[2]), head[3] % 6 or None)
        assert pieces == wanted, f"{pieces} and not {wanted}"
        assert [row for one in loaded for row in one.rows] == whole.rows
        assert not [one.error for one in loaded if one.error]
        assert (splitter.eol, splitter.offset) == (whole.eol, len(data))
        assert splitter.line == 1 + count_lines(data, whole.eol or b"\n")
        _values(data, whole, dialect)
        _resumed(head, data, whole)
    else:
        assert error is not None or any(one.error for one in loaded), f"taken, and the server says {whole.error}"
        if whole.error != "eol":
            assert error is not None
            assert error.offset == whole.at, f"{error} and not at {whole.at}"
    if dialect.quote not in "\\." and whole.error != "marker":
        found = first_break(data, dialect)
        assert found[1] == first_break(data, dialect, likely=13)[1] == whole.eol, f"{found} and not {whole.eol!r}"


def _values(data: bytes, whole: Outcome, dialect: Dialect) -> None:
    eol = whole.eol or b"\n"
    assert [data[a:b] for a, b in row_spans(data, dialect, eol)] == whole.rows
    for row in whole.rows:
        assert fields_of(row, dialect, eol) == values(row, dialect, eol), f"the values of {row!r}"


def _resumed(head: bytes, data: bytes, whole: Outcome) -> None:
    """A gap between any two rows is read alone, and by a limit without its end."""
    if not whole.eol:
        return
    complete = [row for row in whole.rows if row.endswith(whole.eol)]
    first = head[7] % 16 % (len(complete) + 1)
    last = first + head[7] // 16 % (len(complete) - first + 1)
    before, rows = b"".join(whole.rows[:first]), complete[first:last]
    line = 1 + count_lines(before, whole.eol)
    end = len(before) + len(b"".join(rows))
    with small(_size(head[5]), _size(head[6])):
        splitter = _splitter(head, data[len(before) :], offset=len(before), line=line, eol=whole.eol, end=end)
        found = list(splitter.pieces())
        rest = _splitter(head, data[len(before) :], offset=len(before), line=line, limit=len(rows), end=None)
        limited = list(rest.pieces())
    plain = expected(rows, whole.eol, _size(head[2]), head[3] % 6 or None)
    wanted = [Piece(p.offset + len(before), p.line + line - 1, p.rows, p.data) for p in plain]
    assert found == wanted, f"{found} and not {wanted}"
    assert splitter.offset == end
    assert limited == wanted, f"with a limit {limited} and not {wanted}"


def _header(head: bytes, data: bytes) -> None:
    """Lines to skip, a header, and what is left: nothing is lost between them, or it is an error."""
    dialect = _dialect(head)
    skip = head[7] % 4
    with small(max(4, _size(head[5])), _size(head[6])):
        splitter = _splitter(head, data)
        try:
            splitter.skip_lines(skip)
        except CsvError as error:
            assert "UTF-16" in error.message
            return
        start = splitter.offset
        bom = 3 if data.startswith(b"\xef\xbb\xbf") else 0
        skipped = re.findall(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z", data[bom:])[:skip]
        assert start == bom + len(b"".join(skipped)), f"{skip} lines end at byte {start}"
        assert splitter.line == 1 + sum(line.endswith((b"\r", b"\n")) for line in skipped)
        whole = server(data[start:], dialect)
        try:
            names = splitter.header()
        except CsvError as error:
            # Which line end the file has may need more of it than the first row.
            assert whole.error or not whole.rows or not _is_text(whole.rows[0]), f"refused: {error}"
            return
    if whole.error == "eol":
        return
    assert whole.rows, f"{names} where the server reads no row"
    found = [value.decode() for value, _ in values(whole.rows[0], dialect, whole.eol or b"\n")]
    assert names == found, f"{names} and not {found}"
    assert splitter.offset == start + len(whole.rows[0])


def _is_text(row: bytes) -> bool:
    try:
        row.decode()
    except UnicodeDecodeError:
        return False
    return True


# --- what a program has written ---------------------------------------------------------------------------------------


def _written(head: bytes, data: bytes) -> None:
    """Values, written by Python's csv, are those values again, in batches of any size."""
    eol = _LINE_ENDS[head[7] % 3]
    # Latin-1 gives every byte a character; rows and values are cut at two that csv has no use for.
    text = data.replace(b"\0", b"").decode("latin-1")
    minimal = not head[7] & 4
    if minimal:  # csv before Python 3.13 quotes no line end but its own
        text = re.sub("[\r\n]", eol.decode()[-1], text)
    table = [line.split("\x1f") for line in text.split("\x1e") if line]
    stream = io.StringIO(newline="")
    doubled = not head[7] & 8
    escape = None if doubled else "\\"
    writer = csv.writer(
        stream,
        lineterminator=eol.decode(),
        quoting=csv.QUOTE_MINIMAL if minimal else csv.QUOTE_ALL,
        doublequote=doubled,
        escapechar=escape,
    )
    try:
        writer.writerows(table)
    except csv.Error:
        return
    file = stream.getvalue().encode()
    if minimal and not doubled:
        # There csv writes a backslash before a quote also outside quotes, which for the server is data.
        return
    dialect = Dialect(escape=escape)
    pieces: list[Piece] = []
    with small(_size(head[5]), _size(head[6])):
        splitter = Splitter(reader(file), dialect, max_bytes=_size(head[2]), max_rows=head[3] % 6 or None)
        try:
            pieces.extend(splitter.pieces())
        except CsvError as error:
            assert "ends the data" in error.message, str(error)  # csv does not quote it
            return
    rows = [p.data[a:b] for p in pieces for a, b in row_spans(p.data, dialect, eol)]
    found = [[value.decode() for value, _ in fields_of(row, dialect, eol)] for row in rows]
    assert found == table, f"{found} and not {table}"
    assert [p.offset for p in pieces] == [sum(len(p.data) for p in pieces[:i]) for i in range(len(pieces))]


# --- encoding ---------------------------------------------------------------------------------------------------------


def _column(name: str) -> Column:
    of = Type(name, "b", True, -1, has_binary=True)
    return Column(f"of {name}", name, 0, -1, False, False, "", None, False, None, True, True, of)


TYPES = ("text", "int4", "timestamptz")


@cache
def _encoder(eol: bytes) -> Encoder:
    return Encoder([_column(name) for name in TYPES], Dialect(), eol)


def _encoded(head: bytes, data: bytes) -> None:
    """A batch becomes the same values in binary, or is left to the server; never anything else."""
    whole = server(data, Dialect())
    eol = whole.eol or b"\n"
    if whole.error or not whole.rows or b"\0" in data:  # a NUL is refused by the server in either form
        return
    binary = _encoder(eol).encode(data, len(whole.rows))
    if binary is None:
        return
    read = [values(row, Dialect(), eol) for row in whole.rows]
    found = _binary(bytes(binary))
    assert len(found) == len(read), f"{len(found)} rows and not {len(read)}"
    for row, fields in zip(found, read, strict=True):
        assert len(fields) == len(TYPES), f"{fields} taken for {len(TYPES)} columns"
        for name, value, (text, quoted) in zip(TYPES, row, fields, strict=True):
            wanted = None if text == b"" and not quoted else _MEANING[name](text.decode())
            assert value == wanted, f"{name} {text!r} is {wanted!r}, and was encoded as {value!r}"


def _binary(data: bytes) -> list[list[bytes | None]]:
    """The fields of COPY BINARY."""
    at, rows = 19, []
    while (count := struct.unpack_from(">h", data, at)[0]) >= 0:
        at += 2
        row: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            row.append(None if length < 0 else data[at : at + length])
            at += max(length, 0)
        rows.append(row)
    assert at + 2 == len(data)
    return rows


def _text(text: str) -> bytes:
    return text.encode()


def _int4(text: str) -> bytes:
    assert re.fullmatch(r"\s*[+-]?[0-9]+\s*", text, re.ASCII), "no number"
    return struct.pack(">i", int(text))


def _instant(text: str) -> bytes:
    """Without a zone it is UTC, as in the session."""
    match = moments.TYPED.fullmatch(text)
    assert match is not None, "no time"
    offset = moments.offset(match["zone"].strip()) if match["zone"] else 0
    assert offset is not None, "a named zone"
    return struct.pack(">q", moments.microseconds(match) - offset - 946_684_800_000_000)


_MEANING: dict[str, Callable[[str], bytes]] = {"text": _text, "int4": _int4, "timestamptz": _instant}

CHECKS: tuple[Callable[[bytes, bytes], None], ...] = (_pieces, _header, _written, _encoded)
