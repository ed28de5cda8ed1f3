"""The splitter against a machine that looks at one byte after the other: all dialects, line ends and block sizes."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hyperfill.csvrows import first_break
from hyperfill.dialect import Dialect
from hyperfill.splitter import CsvError, Piece, Splitter, count_lines, fields_of, row_spans
from tests.fixtures.csv_machine import expected, reader, server, small, values
from tests.fixtures.csv_noise import DEFAULT, cases, noise, sizes


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
