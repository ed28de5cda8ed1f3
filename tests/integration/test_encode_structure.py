"""Rows, fields, quotes and line ends: the client cuts CSV as the server does, or does not encode it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hyperfill.dialect import Dialect
from tests.fixtures.arena import TWO, Arena

STRUCTURES: list[tuple[str, Sequence[str], bytes, bool | None]] = [
    ("quotes around, doubled, alone", TWO, b'"a""b",""""\n"",""\n""""""," "\n', True),
    ("null and empty", TWO, b',""\n"",\n"a",\n', True),
    ("null after a quoted field without newline", TWO, b'"a",', True),
    ("last line without newline", TWO, b"a,b\nc,d", True),
    ("last line quoted without newline", TWO, b'a,b\n"c","d"', True),
    ("newlines, delimiters, CR in quotes", TWO, b'"a\nb","c,d"\n"\r\n","\n"\n"\r","\n\n"\n', True),
    ("a quote in the middle", TWO, b'a"b"c,d\n', False),
    ("a pair in the middle", TWO, b'a""b,c\n', False),
    ("text after the closing quote", TWO, b'"a"b,c\n', False),
    ("a blank before a quote", TWO, b' "a",b\n', False),
    ("a blank after a quote", TWO, b'"a" ,b\n', False),
    ("a delimiter in quotes in the middle", TWO, b'a"b,c"d\n', False),
    ("an open quote", TWO, b'"a,b\nc,d\n', False),
    ("too few columns", TWO, b"a,b\nc\n", False),
    ("too many columns", TWO, b"a,b\nc,d,e\n", False),
    ("an empty line first", TWO, b"\na,b\n", False),
    ("an empty line last", TWO, b"a,b\n\n", False),
    ("an empty line in the middle", TWO, b"a,b\n\nc,d\n", False),
    ("CR", TWO, b"a,b\rc,d\r", False),
    ("CR LF called LF", TWO, b"a,b\r\nc,d\r\n", False),
    ("a CR in a field", TWO, b"a\rb,c\nd,e\n", False),
    ("NUL", TWO, b"a,b\nc\0,d\n", False),
    ("NUL in quotes", TWO, b'a,b\n"c\0\0\0\0\0\0\0,\n",d\n', False),
    ("not UTF-8", TWO, b"a,b\n\xe9t\xe9,d\n", False),
    ("half a character", TWO, b"a,b\nc\xc3,\xa9d\n", False),
    ("a surrogate", TWO, b"\xed\xa0\x80,b\n", False),
    ("beyond Unicode", TWO, b"\xf4\x90\x80\x80,b\n", False),
    ("overlong", TWO, b"\xc0\xaf,b\n", False),
    ("a BOM", TWO, b"\xef\xbb\xbfa,b\n", False),
    ("a BOM later", TWO, b"a,b\n\xef\xbb\xbfa,b\n", True),
    ("the end of data", TWO, b"a,b\n\\.\nc,d\n", False),
    ("the end of data in quotes", TWO, b'"a\n\\.\n",b\nc,d\n', False),
    ("the end of data first", TWO, b"\\.\na,b\n", False),
    ("nothing", TWO, b"", False),
    ("one column", ("text",), b'a\n\n""\n', True),
    ("one column, empty lines only", ("text",), b"\n\n\n", True),
    ("one column, empty last line", ("int4",), b"1\n\n", True),
    ("one column, no newline", ("int4",), b"1\n2", True),
    ("a quoted empty number", ("int4", "text"), b'"",a\n', False),
    ("a quoted empty float", ("float8", "text"), b'"",a\n', False),
    (
        "columns of NULL",
        ("int2", "float4", "uuid", "timestamptz", "numeric(5,2)", "date", "bool"),
        b",,,,,,\n" * 3,
        True,
    ),
    ("an integer not ASCII", ("int4", "text"), "\N{FULLWIDTH DIGIT ONE},a\n".encode(), False),
]


@pytest.mark.parametrize(("types", "data", "taken"), [s[1:] for s in STRUCTURES], ids=[s[0] for s in STRUCTURES])
def test_structures(arena: Arena, types: Sequence[str], data: bytes, taken: bool) -> None:
    outcome = arena.same(types, data)
    assert isinstance(outcome, tuple) if taken else outcome is None


@pytest.mark.parametrize(
    ("data", "taken"),
    [
        (b"a,b\r\nc,d\r\n", True),
        (b"a,b\r\nc,d", True),
        (b'"a",\r\n"c"\r\n'.replace(b'"c"', b'"c",""'), True),
        (b'"a\nb","c\rd"\r\n"e\r\nf",g\r\n', True),
        (b"a,b\nc,d\r\n", False),
        (b"a,b\r\nc,d\n", False),
        (b"a,b\r\nc\r,d\r\n", False),
        (b"a,b\r\r\n", False),
        (b"a,b\r\nc,d\r", False),
        (b'"a\n",b\r\nc,d\r', False),
        (b"a,b\r\n\r\n", False),
    ],
)
def test_lines_that_end_with_cr_lf(arena: Arena, data: bytes, taken: bool) -> None:
    outcome = arena.same(TWO, data, eol=b"\r\n")
    assert isinstance(outcome, tuple) if taken else outcome is None


def test_other_dialects(arena: Arena) -> None:
    types = ("int4", "text", "float8")
    for dialect, data in (
        (Dialect(delimiter="\t", quote="'", null="NULL"), b"NULL\tNULL\tNULL\n1\t\t2\n3\t'NULL'\t4\n5\t'it''s'\t6\n"),
        (Dialect(delimiter=";", null="\\N"), b'\\N;\\N;\\N\n1;"\\N";2\n3;;4\n'),
        (Dialect(delimiter="|", null="f"), b"f|f|f\n1|ff|2\n"),
        (Dialect(delimiter="0", quote="1"), b"201a0b104\n5006\n"),
        (Dialect(null="žádný"), "žádný,žádný,žádný\n1,žádnýx,2\n".encode()),
        (Dialect(escape='"', encoding="utf-8"), b'1,"a""b",2\n'),
    ):
        assert arena.encoded(types, data, dialect=dialect)
    # An empty field is a value where something else stands for NULL; a quoted NULL text is a value as well.
    assert arena.same(types, b",a,1\n", dialect=Dialect(null="NULL")) is None
    assert arena.same(types, b'"NULL",a,1\n', dialect=Dialect(null="NULL")) is None
    assert arena.same(("bool", "int4"), b'"f",1\n', dialect=Dialect(null="f"))
    assert arena.same(("bool", "int4"), b"f,1\n", dialect=Dialect(null="f"))


def test_large_fields(arena: Arena) -> None:
    big = b"0123456789abcde\xc3\xa9" * 100_000
    data = b'1,"' + big + b'"\n2,' + big + b'\n3,"' + b'a""\n' * 300_000 + b'"\n'
    assert len(arena.encoded(("int4", "text"), data)) > 4_500_000


def test_batches_of_fixed_width_one_after_another(arena: Arena) -> None:
    """Their rows are laid out in one buffer that is used again, larger and smaller; NULLs go another way."""
    types = ["int2", "int4", "int8", "float4", "float8", "bool", "date", "timestamp", "timestamptz", "uuid"]
    encoder = arena.encoder(types)

    def line(n: int, null: bool = False) -> str:
        moment = f"{1950 + n % 100:04d}-{1 + n % 12:02d}-{1 + n % 28:02d}"
        values = [
            str(n % 65536 - 32768), str(n * 7919 % 2**32 - 2**31), str(n * 10**12 - 2**62), str(n / 3 + 0.5),
            str(-n - 0.1), "tf"[n % 2], moment, f"{moment} 23:59:59.{n % 10**6:06d}", f"{moment} 00:00:00+02",
            f"{n * 2654435761 % 2**32:08x}-0000-4000-8000-{n:012x}",
        ]  # fmt: skip
        return ",".join(["" if null and i == n % len(values) else v for i, v in enumerate(values)]) + "\n"

    for count, nulls in ((3, 0), (5000, 0), (1, 0), (10, 1), (4999, 0), (5000, 0), (5700, 0)):
        data = "".join(line(n * 37, bool(nulls)) for n in range(count)).encode()
        assert arena.encoded(types, data, encoder=encoder).count(b"\n") == count


def test_the_rows_must_be_as_many_as_the_splitter_counted(arena: Arena) -> None:
    encoder = arena.encoder(TWO)
    assert encoder.encode(b"a,b\nc,d\n", 2)
    for rows in (0, 1, 3):
        assert encoder.encode(b"a,b\nc,d\n", rows) is None
    assert "2 rows, not 3" in encoder.reason
