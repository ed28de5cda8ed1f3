"""What can be encoded at all, what is loaded for it, the bytes of the wire, and reasons. Without a server."""

from __future__ import annotations

import importlib.metadata
import struct
import subprocess
import sys
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfill.catalog import Column
from hyperfill.dialect import Dialect
from hyperfill.encode import Encoder, available, precision_and_scale, why_not
from hyperfill.pgtypes import Type

HEADER, TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"


def column(name: str, typmod: int = -1, *, kind: str = "b", builtin: bool = True) -> Column:
    of = Type(name, kind, builtin, typmod, has_binary=True)
    return Column(f"of {name}", name, 0, typmod, False, False, "", None, False, None, True, True, of)


def numeric(precision: int, scale: int) -> Column:
    return column("numeric", (precision << 16 | scale & 0x7FF) + 4)


def encoder(*columns: Column, dialect: Dialect | None = None, eol: bytes = b"\n") -> Encoder:
    return Encoder(columns, dialect or Dialect(), eol)


def rows_of(found: bytes | memoryview | None) -> list[list[bytes | None]]:
    """The fields of COPY BINARY."""
    assert found is not None
    encoded = bytes(found)
    assert encoded.startswith(HEADER)
    assert encoded.endswith(TRAILER)
    rows, at = [], len(HEADER)
    while at < len(encoded) - len(TRAILER):
        (fields,) = struct.unpack_from(">h", encoded, at)
        at += 2
        row: list[bytes | None] = []
        for _ in range(fields):
            (length,) = struct.unpack_from(">i", encoded, at)
            at += 4
            row.append(None if length < 0 else encoded[at : at + length])
            at += max(length, 0)
        rows.append(row)
    return rows


# --- whether ----------------------------------------------------------------------------------------------------------

TYPES = ["int2", "int4", "int8", "float4", "float8", "bool", "text", "varchar", "bpchar"]
TYPES += ["timestamptz", "timestamp", "date", "uuid"]


def test_types_that_can_be_encoded() -> None:
    columns = [*map(column, TYPES), column("varchar", 7), column("timestamptz", 3)]
    columns += [numeric(1, 0), numeric(12, 4), numeric(38, 0), numeric(38, 38)]
    for encoding in ("UTF8", "utf-8", "Unicode", "UTF_8"):
        assert why_not(columns, Dialect(encoding=encoding)) is None
    assert available() is None
    assert encoder(*columns).encode(b"," * (len(columns) - 1) + b"\n", 1) is not None


@pytest.mark.parametrize(
    "refused",
    [
        column("json"),
        column("interval"),
        column("bytea"),
        column("time"),
        column("name"),
        column("char"),
        column("numeric"),
        numeric(39, 0),
        numeric(3, -2),
        numeric(2, 5),
        column("text", builtin=False),
        column("int4", kind="e"),
        column("text", kind="a"),
    ],
    ids=lambda c: f"{c.of.name}-{c.of.kind}-{c.typmod}",
)
def test_types_that_cannot(refused: Column) -> None:
    reason = why_not([column("int4"), refused], Dialect())
    assert reason is not None
    assert refused.name in reason
    with pytest.raises(ValueError, match="server only"):
        encoder(refused)


@pytest.mark.parametrize(
    ("dialect", "word"),
    [
        (Dialect(encoding="LATIN1"), "LATIN1"),
        (Dialect(encoding="SQL_ASCII"), "SQL_ASCII"),
        (Dialect(encoding="UTF16"), "UTF16"),
        (Dialect(escape="\\"), "escape"),
        (Dialect(force_null=("a",)), "force"),
        (Dialect(force_not_null=("a",)), "force"),
    ],
)
def test_dialects_that_cannot(dialect: Dialect, word: str) -> None:
    assert word in (why_not([column("int4")], dialect) or "")


def test_no_columns() -> None:
    assert why_not([], Dialect())


def test_type_modifiers_of_numeric() -> None:
    for precision, scale in ((1, 0), (12, 4), (38, 38), (1000, 1000), (3, -2), (5, 7)):
        assert precision_and_scale(numeric(precision, scale).of.typmod) == (precision, scale)


def python(statements: str) -> str:
    done = subprocess.run([sys.executable, "-c", statements], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_arrow_is_loaded_by_an_encoder_only() -> None:
    ask = (
        "import sys; from hyperfill import encode, dialect; encode.why_not([], dialect.Dialect());"
        "print([m for m in ('pyarrow', 'numpy', 'pgpq', 'hyperfill.encode_columns') if m in sys.modules])"
    )
    assert python(ask) == "[]"


def test_without_the_extra() -> None:
    ask = "import sys; sys.modules['pgpq'] = None; from hyperfill import encode; print(encode.available())"
    assert "pgpq cannot be loaded" in python(ask)
    assert "hyperfill[arrow]" in python(ask)


@pytest.mark.parametrize(("version", "fine"), [("0.11.1", False), ("0.12.0", True), ("0.12", True), ("1.0rc1", True)])
def test_a_version_that_writes_other_numbers_is_not_used(
    monkeypatch: pytest.MonkeyPatch, version: str, fine: bool
) -> None:
    found = importlib.metadata.version
    monkeypatch.setattr("importlib.metadata.version", lambda name: version if name == "pgpq" else found(name))
    reason = available()
    if fine:
        assert reason is None
    else:
        assert reason == f"pgpq {version} is too old; the extra hyperfill[arrow] brings what is needed"
        with pytest.raises(ImportError, match="too old"):
            encoder(column("int4"))


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_the_wire() -> None:
    columns = [column(name) for name in ("int2", "int8", "float8", "bool", "text", "timestamptz", "date", "uuid")]
    data = b'-2,3,0.5,t,"a,""b",2000-01-01 00:00:01.5+01,2000-01-02,00000000-0000-0000-0000-0000000000ff\n,,,,,,,\n'
    assert encoder(*columns).encode(data, 2) == (
        HEADER
        + b"\0\x08"
        + b"\0\0\0\x02\xff\xfe"
        + b"\0\0\0\x08" + struct.pack(">q", 3)
        + b"\0\0\0\x08" + struct.pack(">d", 0.5)
        + b"\0\0\0\x01\x01"
        + b'\0\0\0\x04a,"b'
        + b"\0\0\0\x08" + struct.pack(">q", -3_598_500_000)
        + b"\0\0\0\x04\0\0\0\x01"
        + b"\0\0\0\x10" + bytes(15) + b"\xff"
        + b"\0\x08" + b"\xff\xff\xff\xff" * 8
        + TRAILER
    )  # fmt: skip


def number(wire: bytes) -> Decimal:
    """What numeric_recv makes of its bytes."""
    digits, weight, sign, scale = struct.unpack_from(">hhHh", wire)
    groups = struct.unpack_from(f">{digits}h", wire, 8)
    assert all(0 <= g < 10_000 for g in groups)
    assert sign in (0, 0x4000)
    with localcontext(prec=200):
        value = sum((Decimal(g).scaleb(4 * (weight - i)) for i, g in enumerate(groups)), Decimal(0))
        return (-value if sign else value).quantize(Decimal(1).scaleb(-scale))


@given(st.integers(1, 28).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, p))), st.data())
def test_numerics(precision_scale: tuple[int, int], data: st.DataObject) -> None:
    precision, scale = precision_scale
    limit = 10**precision - 1
    values = data.draw(st.lists(st.integers(-limit, limit).map(lambda n: Decimal(n).scaleb(-scale)), min_size=1))
    text = "".join(f"{v:f}\n" for v in values).encode()
    encoded = encoder(numeric(precision, scale)).encode(text, len(values))
    assert [number(row[0] or b"") for row in rows_of(encoded)] == values


@pytest.mark.parametrize("scale", [0, 1, 10, 20, 37, 38])
def test_no_numeric_is_taken_modulo_a_power_of_two(scale: int) -> None:
    """Arrow's decimals overflow without a word, and then some of them fit."""
    one = encoder(numeric(38, scale))
    for digits in range(1, 100):
        for value in (10**digits, 2**128 * 10 ** max(0, digits - 38), 2**256 + 5, 2**digits, int("9" * digits)):
            fits = len(str(value)) + scale <= 38
            encoded = one.encode(b"%d\n" % value, 1)
            assert (encoded is None) == (not fits), (value, scale)
            if encoded:
                assert int(number(rows_of(encoded)[0][0] or b"")) == value


# --- batches ----------------------------------------------------------------------------------------------------------


def test_why_a_batch_was_not_encoded() -> None:
    one = encoder(column("int4"), column("text"))
    for data, rows, word in (
        (b"", 0, "empty"),
        (b"1,a\n", 0, "empty"),
        (b"1,a\n", 2, "1 rows, not 2"),
        (b"z,a\n", 1, "'z'"),
        (b'1,"a\n', 1, "odd"),
        (b'1,a"b"\n', 1, "opens"),
        (b'1,"a"b\n', 1, "closes"),
        (b"1,a\r\n", 1, "CR"),
        (b"1,\0\n", 1, "NUL"),
        (b"0x1,a\n", 1, "decimal"),
        (b"\xef\xbb\xbf1,a\n", 1, "BOM"),
        (b"1,a\n\\.\n", 2, "\\."),
    ):
        assert one.encode(data, rows) is None
        assert word in one.reason
        assert "\n" not in one.reason
        assert one.encode(b"1,a\n", 1)  # a bad batch leaves nothing behind
        assert one.reason == ""


def test_lines_that_end_with_cr_only() -> None:
    one = encoder(column("int4"), eol=b"\r")
    for data in (b"1\r2\r", b"1\n", b"1"):
        assert one.encode(data, 1) is None
        assert "CR only" in one.reason


def test_a_batch_too_large_for_offsets_of_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    one = encoder(column("int4"))
    monkeypatch.setattr("hyperfill.encode_columns._LARGEST", 4)
    assert one.encode(b"1\n2\n", 2)
    assert one.encode(b"1\n2\n3\n", 3) is None
    assert "too large" in one.reason


def test_floats_are_read_as_text_from_the_first_zero_on() -> None:
    """So that zeros cost no second reading in every batch, and 1e-400 is none of them, before or after."""
    one = encoder(column("float8"), column("float4"))
    plain = one.encode(b"1.5, 2.5\n,3\n", 2)
    assert one.encode(b"1e-400,1\n", 1) is None
    assert one.encode(b"1,1e39\n", 1) is None
    assert rows_of(one.encode(b"0.0,1\n-0e5,nan\n", 2))[1][0] == struct.pack(">d", -0.0)
    assert one.encode(b"1.5, 2.5\n,3\n", 2) == plain
    assert one.encode(b"1e400,1\n", 1) is None
    assert one.encode(b"1,1e-46\n", 1) is None


def test_uuids_that_only_together_have_the_right_length() -> None:
    one = encoder(column("uuid"))
    half = b"00000000-0000-0000-0000-00000000000"
    assert one.encode(half + b"1\n" + half + b"0\n", 2)
    assert one.encode(half + b"\n1" + half + b"0\n", 2) is None


def server_rows(data: bytes) -> list[list[bytes | None]]:
    """Rows and fields as the server's CopyReadAttributesCSV finds them, LF and a comma; None is NULL."""
    rows: list[list[bytes | None]] = []
    row: list[bytes | None] = []
    field, quoted, inside, at = bytearray(), False, False, 0
    while at < len(data):
        c = data[at : at + 1]
        at += 1
        if inside:
            if c == b'"' and data[at : at + 1] == b'"':
                field += c
                at += 1
            elif c == b'"':
                inside = False
            else:
                field += c
        elif c == b'"':
            quoted = inside = True
        elif c in (b",", b"\n"):
            row.append(bytes(field) if field or quoted else None)
            field, quoted = bytearray(), False
            if c == b"\n":
                rows.append(row)
                row = []
        else:
            field += c
    return rows


@given(st.lists(st.sampled_from(['"', '"', ",", ",", "\n", '""', '"a"', "a", "é"]), max_size=16).map("".join))
def test_fields_are_the_servers(text: str) -> None:
    data = text.encode() + b"\n"
    expected = server_rows(data)
    for width in (1, 2):
        encoded = encoder(*[column("text")] * width).encode(data, len(expected))
        if encoded is not None:
            assert rows_of(encoded) == expected
