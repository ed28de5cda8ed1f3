"""What the client encodes is what the server's COPY of the same CSV brings, byte for byte, or it is not encoded.

Each comparison runs on a real server: COPY csv of the bytes into one table, COPY binary of the encoded bytes into
another, and both read back in binary and as CSV in which NULL and the empty string differ.
"""

from __future__ import annotations

import datetime
import functools
import struct
from collections.abc import Iterator, Sequence
from decimal import Decimal

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from hyperfill.catalog import Relation, resolve
from hyperfill.dialect import Dialect
from hyperfill.encode import Encoder
from hyperfill.session import Connection, connect
from tests.fixtures.servers import Servers, fresh_database

COMMA = Dialect()
many = functools.partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def count_rows(data: bytes, quote: bytes = b'"') -> int:
    """What the splitter counts: newlines outside quotes, and a last line without one."""
    parts = data.split(quote)
    outside = b"".join(parts[0::2])
    ends = data.endswith(b"\n") and len(parts) % 2 == 1
    return outside.count(b"\n") + (bool(data) and not ends)


class Arena:
    """Tables of some columns on a server, and what COPY makes of bytes in them."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._made: dict[tuple[str, ...], Relation] = {}

    def table(self, types: Sequence[str]) -> Relation:
        key = tuple(types)
        if key not in self._made:
            name = f"t{len(self._made)}"
            columns = ", ".join(f"c{i} {kind}" for i, kind in enumerate(types))
            self.connection.execute(f"CREATE TABLE public.{name} ({columns}, n bigserial)")
            self._made[key] = resolve(self.connection, f"public.{name}", "target", "--hypertable")
        return self._made[key]

    def encoder(
        self, types: Sequence[str], dialect: Dialect = COMMA, eol: bytes = b"\n", zoneless: bool = True
    ) -> Encoder:
        return Encoder(self.table(types).columns[:-1], dialect, eol, zoneless=zoneless)

    def copied(self, types: Sequence[str], options: sql.Composable, data: bytes) -> tuple[bytes, bytes] | str:
        """What the table holds after a COPY into it, as binary and as CSV; or the SQLSTATE of the error."""
        name = self.table(types).identifier
        columns = sql.SQL(", ").join(sql.Identifier(f"c{i}") for i in range(len(types)))
        out = []
        try:
            with self.connection.transaction(force_rollback=True), self.connection.cursor() as cursor:
                statement = sql.SQL("COPY {} ({}) FROM STDIN ({})").format(name, columns, options)
                with cursor.copy(statement) as copy:
                    copy.write(data)
                for form in (sql.SQL("binary"), sql.SQL("csv, FORCE_QUOTE *")):
                    ordered = sql.SQL("SELECT {} FROM {} ORDER BY n").format(columns, name)
                    with cursor.copy(sql.SQL("COPY ({}) TO STDOUT (FORMAT {})").format(ordered, form)) as copy:
                        out.append(b"".join(bytes(block) for block in copy))
        except psycopg.Error as error:
            return error.sqlstate or "?"
        return out[0], out[1]

    def same(
        self,
        types: Sequence[str],
        data: bytes,
        *,
        dialect: Dialect = COMMA,
        eol: bytes = b"\n",
        zoneless: bool = True,
        encoder: Encoder | None = None,
    ) -> tuple[bytes, bytes] | str | None:
        """Assert that encoding changes nothing; what the table holds, or the error; None if it is not encoded."""
        encoder = encoder or self.encoder(types, dialect, eol, zoneless)
        encoded = encoder.encode(data, count_rows(data, dialect.quote.encode()))
        if encoded is None:
            assert encoder.reason
            return None
        assert encoder.reason == ""
        expected = self.copied(types, dialect.copy_options(), data)
        found = self.copied(types, sql.SQL("FORMAT binary"), bytes(encoded))
        assert found == expected, (data, found, expected)
        return expected

    def encoded(self, types: Sequence[str], data: bytes, **options: object) -> bytes:
        """The same, of data that must be encoded and that the server takes; as CSV."""
        outcome = self.same(types, data, **options)  # type: ignore[arg-type]
        assert isinstance(outcome, tuple), (options, data[:2000], outcome)
        return outcome[1]


@pytest.fixture(scope="module")
def arena(servers: Servers) -> Iterator[Arena]:
    """One for all tests: a comparison leaves nothing behind but empty tables."""
    for conninfo in fresh_database(servers.target, "target"):
        with connect(conninfo, "target") as connection:
            for statement in DOMAINS:
                connection.execute(statement)
            yield Arena(connection)


# --- values, by hand --------------------------------------------------------------------------------------------------

# Type, what must be encoded, and what must not: the traps. What is in neither list may go either way.
VALUES: list[tuple[str, list[str], list[str]]] = [
    (
        "int2",
        ["0", "-0", "007", "32767", "-32768", " 5", "5  ", ""],
        ["32768", "-32769", "0x1F", "0xFFFF", "-0x1", "1_000", "0b1", "0o7", "+5", "5.0", "1e2", " ", "--1", "-", "x"],
    ),
    ("int4", ["2147483647", "-2147483648"], ["2147483648", "0xFFFFFFFF", "\N{ARABIC-INDIC DIGIT THREE}"]),
    ("int8", ["9223372036854775807", "-9223372036854775808"], ["9223372036854775808", "0x7FFFFFFFFFFFFFFF"]),
    (
        "float8",
        [
            *("0", "-0", "-0.0", "0.000", ".5", "5.", "1e5", "1E+05", "-1.5e-7", "0e0", "0.000e+00", "0e-999", " 1.5 "),
            *("NaN", "nan", "Infinity", "-Infinity", "inf", "-inf", "iNf", "INFINITY", "", "5e-324", "4.9e-324"),
            *("3e-324", "2.2250738585072011e-308", "1.7976931348623157e308", "1.7976931348623158e308"),
            *("0.1", "123456789012345678901234567890", "9007199254740993", "1" + "0" * 308, "0." + "0" * 323 + "5"),
        ],
        [
            *("1e400", "-1e400", "1e-400", "-1e-400", "1.7976931348623159e308", "2e-324", "1" + "0" * 309),
            *("0." + "0" * 400 + "1", "0x10", "0x1p3", "nan(1)", "infinit", "1e", "e5", ".", "-", "1,5", "1_0", "1d5"),
            *("1e99999999999999999999", "1e-99999999999999999999"),
        ],
    ),
    (
        "float4",
        [
            *("0", "-0", "0.1", "16777217", "3.4028235e38", "1e-45", "1.4e-45", "8e-46", "1.17549435e-38", "NaN"),
            # Rounded by way of a double these would end one step away from where the server puts them.
            *("1.00000017881393432617187499", "1.00000017881393421514957253748434595763683319091796875001"),
            *("7.038531e-26", "8589973000", "-Infinity", "0.000e+00"),
        ],
        ["3.4028236e38", "1e39", "1e-46", "-1e-46", "0x1", "0." + "0" * 60 + "1"],
    ),
    (
        "bool",
        ["t", "f", "true", "FALSE", "True", "yes", "No", "on", "OFF", "1", "0", "y", "N", ""],
        ["o", "2", "-1", "truee", "null", " ", "01", "TrUx"],
    ),
    ("text", ["a", " a ", "", "NULL", "é漢😀", "\\N", "a\\.", "0x1", "a'b", "\u2028\x85", "\x01\x7f", "x" * 5000], []),
    ("varchar(3)", ["abc", "äöü", "abc  "], []),
    ("char(3)", ["a", "abc", "abc   ", "ä"], []),
    (
        "timestamptz",
        [
            *(
                "2024-01-01 00:00:00Z",
                "2024-01-01T00:00:00+00",
                "2024-01-01 00:00:00.5-0330",
                "2024-02-29 23:59:59+05:45",
            ),
            *("1969-12-31 23:59:59.999999Z", "0001-01-02 00:00:00Z", "9999-12-31 23:59:59.999999-15:59", ""),
            *(
                "2024-01-01 00:00:00",
                "2024-01-01T12:34:56.000001",
                "2000-01-01 00:00:00+15",
                "1900-01-01 00:00:00-00:00",
            ),
        ],
        [
            *("0000-01-01 00:00:00Z", "0000-12-31 23:59:59-01", "0000-06-01 00:00:00", "2024-01-01 00:00:00+16"),
            *("2024-01-01 00:00:00+16:00", "2024-01-01 00:00:00-2300", "2024-01-01 00:00:00.1234567Z"),
            *("2024-01-01 24:00:00Z", "2024-01-01 23:59:60Z", "infinity", "-infinity", "now", "today", "epoch"),
            *("2024-01-01 00:00:00 BC", "10000-01-01 00:00:00Z", "2024-01-01", "2024-01-01 12", "2024-01-01 12Z"),
            *("2024-01-01 12:30", "2024-01-01 12+05:30", "2024-01-01 12:30+05:30", "2024-01-01 12:30:00 UTC"),
            *("2024-01-01 00:00:00 +00", "2024-01-01 00:00:00z", "2024-01-01t00:00:00Z", "2024-01-01 00:00:00+5"),
            *("2024-01-01 00:00:00+05:30:30", "01/02/2024 00:00:00", "2024-13-01 00:00:00Z", "2023-02-29 00:00:00Z"),
            *("2024-01-01 00:00:00.", "2024-01-01  00:00:00", "20240101T000000Z", "2024-01-01 00:00:00 Europe/Berlin"),
            *("1704067200", "2024-01-01 00:00:00+0060", "2024-01-01 00:00:00+00:60", "2024-001 00:00:00", "-1", " "),
        ],
    ),
    (
        "timestamp",
        ["2024-01-01 00:00:00", "2024-01-01T12:34:56.123456", "0001-01-02 00:00:00", "9999-12-31 23:59:59.9", ""],
        [
            *(
                "2024-01-01 00:00:00Z",
                "2024-01-01 00:00:00+05",
                "2024-01-01 00:00:00-0330",
                "2024-01-01 00:00:00+05:45",
            ),
            *("0000-01-01 00:00:00", "2024-01-01 24:00:00", "infinity", "2024-01-01 00:00:00.0000001", "2024-01-01"),
        ],
    ),
    (
        "date",
        ["2024-01-01", "2024-02-29", "0001-01-01", "9999-12-31", "1969-12-31", "1999-12-31", "2000-01-01", ""],
        [
            *(
                "0000-01-01",
                "0000-12-31",
                "2023-02-29",
                "2024-1-1",
                "20240101",
                "infinity",
                "10000-01-01",
                "01/02/2024",
            ),
            *("2024-01-01 BC", "2024-01-01 00:00:00", "January 1, 2024", "2024-01-32", "today"),
        ],
    ),
    (
        "uuid",
        ["00000000-0000-0000-0000-000000000000", "FFFFFFFF-ffff-4FFF-bfff-0123456789aB", ""],
        [
            *("{00000000-0000-0000-0000-000000000000}", "00000000000000000000000000000000", "0000-" * 7 + "0000"),
            *("0000000-00000-0000-0000-000000000000", "g0000000-0000-0000-0000-000000000000", "x" * 36),
            *(" 0000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-00000000000", "-" * 36),
            *("00000000-0000-0000-0000-0000-0000000",),
        ],
    ),
    (
        "numeric(12,4)",
        [
            *(
                "0",
                "-0",
                "-0.00",
                "0.0000",
                "1",
                "-1",
                "12345678.1234",
                "-99999999.9999",
                "0.0001",
                "10000",
                "10000000",
            ),
            *("9999", "10000.0001", ".5", "5.", "+5", " 1.5 ", "1.50000", "00000000000000000001.5", "12340000", ""),
        ],
        ["1.00001", "100000000", "1e2", "1E-2", "NaN", "Infinity", "1_000", "0x1", ".", "-", "1.2.3", "9" * 60],
    ),
    (
        "numeric(38,10)",
        ["1234567890123456789012345678.0123456789", "-" + "9" * 28 + "." + "9" * 10, "0.0000000001", "1" + "0" * 27],
        [
            *(
                "1" * 38,
                "340282366920938463463374607431768211456",
                str(2**256),
                "34028236692093846346337460743.1768211456",
            ),
            "0.00000000001",
        ],
    ),
    ("numeric(38,0)", ["9" * 38, "-" + "9" * 38, "1", "10000", "1" + "0" * 37], ["1" + "0" * 38, str(2**128), "0.5"]),
    ("numeric(5,5)", ["0.00001", "-.99999", "0", "0.12345"], ["1", "1.00000", "0.123456"]),
    ("numeric(8,8)", ["0.00001234", "0.12340000", "-0.00000001"], []),
    ("numeric(9,0)", ["123456789", "100000000", "10000", "0"], ["1234567890", "0.1"]),
    ("numeric(18,17)", ["1.00000000000000001", "-9.99999999999999999"], ["10.0"]),
]


@pytest.mark.parametrize("quoted", [False, True], ids=["plain", "quoted"])
@pytest.mark.parametrize(("kind", "good", "traps"), VALUES, ids=[kind for kind, _, _ in VALUES])
def test_values(arena: Arena, kind: str, good: list[str], traps: list[str], quoted: bool) -> None:
    """Alone in a batch, and all of them together; a quoted empty text is no NULL."""
    types = (kind, "int4")

    def row(value: str) -> bytes:
        return (f'"{value}",7\n' if quoted or "," in value else f"{value},7\n").encode()

    if quoted and kind not in ("text", "varchar(3)", "char(3)"):
        good, traps = [g for g in good if g], [*traps, ""]
    for value in good:
        arena.encoded(types, row(value))
    for value in traps:
        assert arena.same(types, row(value)) is None, value
        assert arena.same(types, row(good[0]) + row(value) + row(good[0])) is None, value
    together = good
    if kind == "timestamptz":  # a batch with and without zones is not encoded
        together = [g for g in good if g[19:20] not in ("", ".") or not g]
        assert arena.same(types, b"".join(map(row, good))) is None
    data = b"".join(map(row, together))
    assert arena.encoded(types, data).count(b',"7"\n') == len(together)
    encoder = arena.encoder(types)  # and again, when it has seen them once
    assert [arena.encoded(types, data, encoder=encoder) for _ in range(3)]


def test_a_timestamptz_without_zone(arena: Arena) -> None:
    types, data = ("timestamptz", "timestamp"), b"2024-01-01 00:00:00,2024-01-01 00:00:00\n,2024-01-01 00:00:00\n"
    assert arena.encoded(types, data).startswith(b'"2024-01-01 00:00:00+00","2024-01-01 00:00:00"\n')
    assert arena.same(types, data, zoneless=False) is None
    assert arena.encoded(types, data.replace(b"00,2", b"00Z,2"), zoneless=False)
    assert arena.encoded(types, b",\n,\n", zoneless=False) == b",\n,\n"


DOMAINS = [
    "CREATE DOMAIN public.even AS int4 CHECK (VALUE % 2 = 0)",
    "CREATE DOMAIN public.label AS varchar(8) CHECK (VALUE <> 'bad')",
    "CREATE DOMAIN public.named AS public.label NOT NULL",
    "CREATE DOMAIN public.worth AS numeric(6,2) CHECK (VALUE > 0)",
]
LIMITS = [
    ("varchar(3)", ["abcd", "äöüß", "abc x"], "22001"),
    ("char(3)", ["abcd", "äöüß", "abc x"], "22001"),
    ("public.even", ["3"], "23514"),
    ("public.named", ["bad"], "23514"),
    ("public.named", [""], "23502"),
    ("public.named", ["much too long"], "22001"),
    ("public.worth", ["-1.00"], "23514"),
]


@pytest.mark.parametrize(("kind", "values", "state"), LIMITS, ids=[f"{k}-{s}" for k, _, s in LIMITS])
def test_what_the_server_refuses_it_refuses_in_binary_as_well(
    arena: Arena, kind: str, values: list[str], state: str
) -> None:
    fine = {"public.even": "2", "public.worth": "1234.50"}.get(kind, "abc")
    assert arena.encoded((kind, "int4"), f"{fine},1\n{fine},2\n".encode())
    for value in values:
        assert arena.same((kind, "int4"), f"{fine},1\n{value},2\n".encode()) == state


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("timestamptz(3)", ["2024-01-01 00:00:00.1234Z", "2024-01-01 00:00:00.1235Z", "1969-12-31 23:59:59.9995Z"]),
        ("timestamptz(0)", ["2024-12-31 23:59:59.5Z", "2024-01-01 00:00:00.499999+01"]),
        ("timestamp(2)", ["2024-01-01 00:00:00.125", "1950-01-01 00:00:00.995"]),
        ("int4", ["1", "2"]),
    ],
)
def test_the_precision_of_a_type_is_applied(arena: Arena, kind: str, values: list[str]) -> None:
    assert arena.encoded((kind,), "".join(v + "\n" for v in values).encode())


# --- structure, by hand -----------------------------------------------------------------------------------------------

TWO = ("text", "text")
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


def test_many_rows_of_everything(arena: Arena) -> None:
    """Larger than any block that Arrow would choose, NULLs in between, and every type beside every other."""
    types = [kind for kind, _, _ in VALUES]
    good = [[g for g in values if g[19:20] not in ("", ".") or not g] if kind == "timestamptz" else values
            for kind, values, _ in VALUES]  # fmt: skip
    lines = (
        ",".join(f'"{v}"' if (n + i) % 7 == 0 and v else v for i, v in enumerate(vs[n % len(vs)] for vs in good))
        for n in range(10_000)
    )
    data = "".join(line + "\n" for line in lines).encode()
    assert len(data) > 3_000_000
    assert arena.encoded(types, data).count(b"\n") == 10_000


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


# --- values and structure, by hypothesis ------------------------------------------------------------------------------

DIGITS = "0123456789"


def digits(least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(DIGITS, min_size=least, max_size=most)


def joined(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    return st.tuples(*(st.just(p) if isinstance(p, str) else p for p in parts)).map("".join)


def one_of(*texts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(texts)


def damaged(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Mostly as they are; some with a character changed, dropped or added."""

    def damage(value: str, place: float, by: str, width: int) -> str:
        at = int(place * len(value))
        return value[:at] + by + value[at + width :]

    return values | st.builds(
        damage, values, st.floats(0, 1), st.text(" +-.:eExZ09T_\t", max_size=2), st.integers(0, 1)
    )


sign, blank = one_of("", "", "", "-", "+"), one_of("", "", "", "", "", " ", "\t")
INTEGERS = damaged(
    st.integers(-(2**15) - 2, 2**15 + 2).map(str)
    | st.integers(-(2**63) - 2, 2**63 + 2).map(str)
    | joined("0x", digits(1, 5))
)
EXACT = st.floats().map(repr) | st.floats(width=32).map(repr) | st.floats(width=32).map(lambda f: f"{f:.9g}")
FLOATS = damaged(
    EXACT
    | joined(sign, digits(0, 20), one_of("", "."), digits(0, 60), one_of("", "e", "E", "e-", "e+"), digits(0, 4))
    | joined(
        sign,
        one_of("0", "0.", ".0", "0.0", ".000", "1", "4.9", "2.4703282292062327208"),
        "e-",
        st.integers(0, 400).map(str),
    )
    | joined(sign, one_of("nan", "NaN", "inf", "Infinity", "INF", "infinit", "nan(1)", "nan()"))
)


def halves() -> st.SearchStrategy[str]:
    """Numbers next to the middle between two reals: rounded by way of a double, they end on the wrong side."""

    def near(bits: int, up: int) -> str:
        low = struct.unpack(">f", struct.pack(">I", bits))[0]
        high = struct.unpack(">f", struct.pack(">I", bits + 1))[0]
        middle = (Decimal(low) + Decimal(high)) / 2
        return str(middle + Decimal(up) * Decimal(10) ** (middle.adjusted() - 26))

    return st.builds(near, st.integers(1, 0x7F7FFFFE), st.integers(-2, 2))


YEARS = st.integers(0, 10001).map(lambda y: f"{y:04d}") | one_of("0000", "0001", "1999", "2000", "2024", "9999")
DATES = joined(YEARS, "-", st.integers(0, 13).map("{:02d}".format), "-", st.integers(0, 32).map("{:02d}".format))
TIMES = joined(
    st.integers(0, 25).map("{:02d}".format), ":", st.integers(0, 60).map("{:02d}".format), ":",
    st.integers(0, 61).map("{:02d}".format), st.just("") | joined(".", digits(0, 7)),
)  # fmt: skip
VALID = st.datetimes(datetime.datetime(1, 1, 1)).map(str)
OFFSETS = joined(
    one_of("+", "-"), st.integers(0, 24).map("{:02d}".format), st.just("") | joined(one_of("", ":"), digits(2, 2))
)
MOMENTS = damaged(joined(VALID | joined(DATES, one_of(" ", "T"), TIMES), st.just("") | st.just("Z") | OFFSETS))
UUIDS = damaged(st.uuids().map(str) | st.uuids().map(lambda u: str(u).upper()))
DECIMALS = damaged(
    joined(sign, digits(0, 40), one_of("", "."), digits(0, 40), one_of("", "", "", "e1", "E-2"))
    | joined(sign, digits(1, 6), ".", digits(0, 5))
    | joined(sign, one_of("", "0", "00"), ".", digits(0, 8))
    | st.integers(0, 2**130).map(str)
)
BOOLS = st.builds(
    lambda word, cut, f: str(f(word[:cut])), one_of("true", "false", "yes", "no", "on", "off", "1", "0"),
    st.integers(1, 5), st.sampled_from([str.lower, str.upper, str.title, str.swapcase, lambda w: w + "x"]),
)  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=',"\r\n\0'), max_size=8)
BY_TYPE: dict[str, st.SearchStrategy[str]] = {
    "int2": INTEGERS,
    "int4": INTEGERS,
    "int8": INTEGERS,
    "float8": FLOATS,
    "float4": FLOATS | halves(),
    "bool": BOOLS,
    "timestamptz": MOMENTS,
    "timestamptz(3)": MOMENTS,
    "timestamp": MOMENTS | damaged(VALID),
    "date": damaged(DATES | VALID.map(lambda v: v[:10])),
    "uuid": UUIDS,
    "numeric(18,4)": DECIMALS,
    "numeric(38,5)": DECIMALS,
    "numeric(38,30)": DECIMALS,
    "numeric(7,7)": DECIMALS,
    "text": TEXTS,
}


@pytest.mark.parametrize("kind", list(BY_TYPE))
def test_values_of(arena: Arena, kind: str) -> None:
    """What is encoded by itself the server takes, and takes for the same, also beside others."""
    types = (kind, "int4")
    taken_of_all = [0, 0]

    @many(max_examples=25)
    @given(st.lists(TEXTS if kind == "text" else joined(blank, BY_TYPE[kind], blank), min_size=10, max_size=25))
    def check(values: list[str]) -> None:
        rows = [f"{value},7\n".encode() for value in values]
        taken = [row for row in rows if arena.encoder(types).encode(row, 1)]
        taken_of_all[0] += len(taken)
        taken_of_all[1] += len(rows)
        outcome = arena.same(types, b"".join(taken)) if taken else (b"", b"")
        if outcome is None and kind.startswith("timestamptz"):  # some with a zone, some without
            for row in taken:
                assert isinstance(arena.same(types, row), tuple), row
        else:
            assert isinstance(outcome, tuple), (taken, outcome)

    check()
    assert taken_of_all[0] > taken_of_all[1] / 50, taken_of_all


PIECES = st.lists(
    st.sampled_from(['"', '"', ",", ",", "\n", "\n", "\r", "\r\n", '""', '"a"', "a", "1", " ", "é"]), max_size=14
)


@many(max_examples=250)
@given(pieces=PIECES, eol=st.sampled_from([b"\n", b"\r\n"]), ended=st.booleans())
def test_any_bytes(arena: Arena, pieces: list[str], eol: bytes, ended: bool) -> None:
    """Quotes, delimiters, ends of lines in any order: rows, fields and NULLs are the server's, or nothing is sent."""
    data = "".join(pieces).encode() + (eol if ended else b"")
    for types in (("text",), TWO, ("int4", "text")):
        arena.same(types, data, eol=eol)


FIELDS = st.lists(
    st.lists(st.text('a1 ",\n\ré', max_size=4) | st.none(), min_size=2, max_size=2), min_size=1, max_size=6
)


@many(max_examples=100)
@given(table=FIELDS, eol=st.sampled_from([b"\n", b"\r\n"]), all_quoted=st.booleans())
def test_what_a_careful_program_writes_is_encoded(
    arena: Arena, table: list[list[str | None]], eol: bytes, all_quoted: bool
) -> None:
    def written(value: str | None) -> str:
        if value is None:
            return ""
        return '"' + value.replace('"', '""') + '"' if all_quoted or not value or set(value) & set('",\r\n') else value

    data = b"".join(",".join(map(written, row)).encode() + eol for row in table)
    assert arena.encoded(TWO, data, eol=eol)
