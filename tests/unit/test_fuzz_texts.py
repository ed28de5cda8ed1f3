"""Texts that people and files hand over, generated: each is read as what it says, or refused by a sentence."""

from __future__ import annotations

import copy
import datetime as dt
import json
import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from hyperfill import copy_flags, durations, manifest
from hyperfill.cli.load import parse_map
from hyperfill.config import destinations, load
from hyperfill.copy_options import parse_copy_options
from hyperfill.errors import HyperfillError, Refused, UsageError
from hyperfill.quantities import parse_duration, parse_size
from hyperfill.timeline import TIME_TYPES, BoundError
from tests.fixtures.fuzzing import arguments, fuzz, texts
from tests.unit.test_manifest import DUMP

# --- lengths, sizes, bounds -------------------------------------------------------------------------------------------

_UNITS = [
    "",
    "us",
    "ms",
    "s",
    "m",
    "M",
    "min",
    "h",
    "H",
    "day",
    "days",
    "d",
    "w",
    "mon",
    "y",
    "B",
    "kb",
    "KiB",
    "TB",
    "PB",
]
_numbers = st.decimals(0, 10**20, allow_nan=False, places=3).map(str) | st.integers(0, 10**25).map(str)
_terms = st.builds("{}{}{}".format, _numbers, st.sampled_from(["", " ", "\t"]), st.sampled_from(_UNITS))
_ISO = st.builds("P{}D{}{}H".format, st.integers(0, 99), st.sampled_from(["T", ""]), st.integers(0, 99))
_CLOCK = st.builds("{}:{}:{}".format, st.integers(0, 99), st.integers(0, 70), st.integers(0, 70))
quantities = texts | arguments | st.lists(_terms, min_size=1, max_size=3).map(" ".join) | _ISO | _CLOCK


@fuzz(200)
@given(quantities)
@example("1e5")
@example("9" * 5000)
@example("\u0661h")
def test_a_length_of_time_or_a_sentence(text: str) -> None:
    try:
        found = durations.microseconds(text)
    except ValueError as refused:
        assert str(refused).startswith(("it ", "a ", "'"))
    else:
        assert type(found) is int and found > 0
        assert found >= 10**18 or durations.microseconds(f"{found} us") == found
        assert parse_duration(text) == found / 1_000_000
    try:
        seconds = parse_duration(text)
    except ValueError as refused:
        assert "is not a duration" in str(refused)
    else:
        assert 0 < seconds < math.inf


@fuzz(200)
@given(quantities)
def test_a_size_or_a_sentence(text: str) -> None:
    try:
        found = parse_size(text)
    except ValueError as refused:
        assert "is not a size" in str(refused)
        return
    assert type(found) is int and found > 0
    number = re.match(r"\s*([0-9.]+)", text)
    assert number is not None
    unit = text.strip()[len(number[1]) :].strip().lower()
    power = {"k": 1, "m": 2, "g": 3, "t": 4}.get(unit[:1], 0)
    assert found == Fraction(number[1]) * (1024 if unit[1:2] == "i" else 1000) ** power


@fuzz(200)
@given(st.sampled_from(list(TIME_TYPES.values())), quantities)
def test_a_window_or_a_sentence(time_type: Any, text: str) -> None:
    try:
        found = time_type.step(text)
    except BoundError as refused:
        assert "is not a window length of type" in str(refused)
    else:
        assert type(found) is int and 0 < found <= time_type.maximum - time_type.minimum


# --- files ------------------------------------------------------------------------------------------------------------

_KEYS = ["source", "target", "table", "hypertable", "start", "end", "time_column", "time-column", "columns", "jobs"]
_KEYS += [
    "window",
    "max_window_rows",
    "order",
    "max_rate",
    "where",
    "replace",
    "hold",
    "triggers",
    "max_duration",
    "verify",
]
_KEYS += ["retry_for", "stall_timeout", "config", "json", "backfill", "refresh_caggs", "source-time-column"]
_moments = st.datetimes() | st.dates() | st.times() | st.datetimes(timezones=st.just(dt.UTC))
_scalars = texts | st.integers(-(10**30), 10**30) | st.integers(0, 9) | st.booleans() | st.floats() | _moments
_scalars |= st.sampled_from(
    ["host=a", "postgresql://h/d?password=x", "public.m", "2024-01-01Z", "1 day", "none", "newest"]
)
_values = st.recursive(
    _scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3), max_leaves=6
)
_tables = st.dictionaries(st.sampled_from(_KEYS) | texts, _scalars | _values, max_size=6)


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            # JSON's escapes are TOML's, but for DEL and what JSON writes as two halves.
            return "".join(c if " " <= c < "\x7f" and c not in '"\\' else f"\\U{ord(c):08x}" for c in value).join('""')
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items()) + "}"
        case _:
            return str(value)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """A configuration: of options and other names, of values of all types; or damaged; or no TOML at all."""
    shared = draw(_tables)
    shared.pop("backfill", None)
    lines = [f"{toml(k)} = {toml(v)}" for k, v in shared.items()]
    for table in draw(st.lists(_tables, max_size=3)):
        needed = {"table": "m", "end": 5} if draw(st.booleans()) else {}
        lines += ["[[backfill]]", *(f"{toml(k)} = {toml(v)}" for k, v in {**needed, **table}.items())]
    data = "\n".join(lines).encode()
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        at = draw(st.integers(0, len(data)))
        junk = st.binary(max_size=3) | st.sampled_from(
            [b'"""', b"[[", b"]]", b"\xff", b"\0", b"\r", b"=", b"{", b"1_", b"'"]
        )
        data = data[:at] + draw(junk) + data[at + draw(st.integers(0, 3)) :]
    return data


_SECTION = b'source = "host=a"\ntarget = "host=b"\n[[backfill]]\ntable = "m"\nend = 5\n'


@fuzz(200)
@given(documents())
@example(b"x = " + b"[" * 100_000)
@example(b"x = " + b"{a = " * 100_000)
@example(b"jobs = " + b"9" * 5000)
@example(b"jobs = 0x" + b"f" * 5000 + b"\n" + _SECTION)
@example(_SECTION + b"start = 0x" + b"f" * 5000)
@example(_SECTION + b"max_window_rows = -0x" + b"f" * 5000)
@example(_SECTION.replace(b'"m"', b"0x" + b"f" * 5000))
@example(_SECTION.replace(b"=b", b"=b\\u0000 password=x"))
@example(_SECTION + b"start = 2024-02-30")
@example(b".".join([b"a"] * 5000) + b" = 1")
@example(b"backfill = 1")
@example(b"[backfill]")
@example(b"\xef\xbb\xbf" + _SECTION)
def test_a_configuration_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(data)
    try:
        specs, limits = load(path, {})
    except UsageError as refused:
        assert str(refused).encode()
    else:
        assert specs and limits.jobs >= 1
        for spec in specs:
            assert all(isinstance(t, str) for t in (spec.source, spec.target, spec.table, spec.end))
    try:
        target, hypertables = destinations(path)
    except UsageError as refused:
        assert str(refused).encode()
    else:
        assert target is None or isinstance(target, str)
        assert all(isinstance(h, str) for h in hypertables)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | texts | st.just("\ud800"),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3),
    max_leaves=5,
)


@st.composite
def manifests(draw: st.DrawFn) -> Any:
    """A manifest of which one to three fields are something else, gone, or more."""
    document = json.loads(json.dumps(DUMP.as_json()))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = document
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if isinstance(inner, dict | list) and draw(st.integers(0, 3)):
                place = inner
                continue
            if draw(st.integers(0, 5)) == 0:
                del place[key]
            else:
                place[key] = draw(_json | st.just(copy.copy(inner)))
            break
    return document


@fuzz(200)
@given(manifests())
def test_a_manifest_is_read_or_refused(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "manifest.json"
    try:
        found = manifest.parse(path, json.loads(json.dumps(document)))
    except Refused as refused:
        assert str(path) in refused.message
        return
    # What is read is what is there, and is written as such.
    assert manifest.parse(path, json.loads(json.dumps(found.as_json()))) == found
    json.dumps(found.as_json(), ensure_ascii=False).encode()


@fuzz(200)
@given(st.data())
@example(None)
def test_the_bytes_of_a_manifest(tmp_path: Path, data: st.DataObject | None) -> None:
    whole = json.dumps(DUMP.as_json()).encode()
    if data is not None:
        at = data.draw(st.integers(0, len(whole)))
        whole = (
            whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + data.draw(st.sampled_from([0, 1, 9, 9999])) :]
        )
    else:
        whole = whole.replace(b'"rows": 2', b'"rows": ' + b"9" * 5000)
    path = tmp_path / "manifest.json"
    path.write_bytes(whole)
    try:
        manifest.parse(path, manifest.read_json(path))
    except Refused as refused:
        assert str(path) in refused.message


# --- another program's words ------------------------------------------------------------------------------------------

_FLAGS = [name.replace("_", "-") for name in copy_flags.CopyFlags.__dataclass_fields__ if name != "given"]
_FLAG_VALUES = (
    arguments | quantities | st.sampled_from(["0x10", "0b1", "010", "1_000", "1h30m", "-5s", "true", "CSV", "\\t", ";"])
)


@st.composite
def flags(draw: st.DrawFn) -> list[str]:
    found: list[str] = []
    for name in draw(st.lists(st.sampled_from(_FLAGS) | arguments, max_size=5)):
        front = draw(st.sampled_from(["-", "--", "-", ""]))
        found += [f"{front}{name}={draw(_FLAG_VALUES)}"] if draw(st.booleans()) else [front + name, draw(_FLAG_VALUES)]
    return found


@fuzz(200)
@given(flags())
@example(["-reporting-period", "9" * 400 + "h"])
@example(["-limit", "9" * 5000])
@example(["-batch-size", "0x" + "f" * 5000])
@example(["-table", "\udcff"])
def test_flags_are_read_or_refused(tokens: list[str]) -> None:
    try:
        found = copy_flags.parse(tokens)
        found.check()
        found.dialect()
    except UsageError as refused:
        assert refused.exit_code == 2


_WORDS = [
    "CSV",
    "DELIMITER",
    "AS",
    "NULL",
    "QUOTE",
    "ESCAPE",
    "ENCODING",
    "FORCE",
    "NOT",
    "FORMAT",
    "WITH",
    "(",
    ")",
    ",",
]
_WORDS += [
    "'",
    "''",
    "','",
    "E'\\t'",
    "E'\\x00'",
    "E'\\U00110000'",
    '"a"',
    '""',
    "a",
    "HEADER",
    "true",
    ";",
    "--",
    "/*",
]


@fuzz(200)
@given(st.lists(st.sampled_from(_WORDS) | arguments, max_size=8).map(" ".join))
def test_copy_options_are_read_or_refused(text: str) -> None:
    try:
        found = parse_copy_options(text)
    except UsageError as refused:
        assert "-copy-options" in str(refused)
    else:
        assert set(found) <= {"delimiter", "null", "quote", "escape", "encoding", "force_null", "force_not_null"}


@fuzz(200)
@given(arguments | texts | _json.map(json.dumps) | st.dictionaries(texts, texts, max_size=3).map(json.dumps))
@example('{"\\ud800": "a"}')
@example('{"a": "\\u0000"}')
@example('{"a":' * 100_000)
def test_a_mapping_is_read_or_refused(text: str) -> None:
    try:
        found = parse_map(text)
    except HyperfillError as refused:
        assert refused.exit_code == 2
    else:
        assert found
        for name in (n for pair in found for n in pair):
            assert isinstance(name, str)
