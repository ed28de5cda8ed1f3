"""What the client encodes is what the server's COPY of the same CSV brings, byte for byte, or it is not encoded.

Each comparison runs on a real server: COPY csv of the bytes into one table, COPY binary of the encoded bytes into
another, and both read back in binary and as CSV in which NULL and the empty string differ.
"""

from __future__ import annotations

import pytest

from tests.fixtures.arena import Arena

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
