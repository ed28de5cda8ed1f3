"""The splitter at borders, marks, quotes that do not end, and encodings: errors with their places."""

from __future__ import annotations

import pickle

import pytest

from hyperfill.csvrows import Scanner
from hyperfill.dialect import Dialect
from hyperfill.errors import UsageError
from hyperfill.splitter import CsvError, Piece, Splitter
from tests.fixtures.csv_machine import expected, reader
from tests.fixtures.csv_noise import DEFAULT, split


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
