"""Random values, damaged ones and any bytes: what the client encodes is what the server's own COPY brings."""

from __future__ import annotations

import datetime
import functools
import struct
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.arena import TWO, Arena

many = functools.partial(settings, deadline=None, suppress_health_check=[HealthCheck.too_slow])


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
