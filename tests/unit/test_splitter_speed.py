"""The splitter takes linear time and little memory, whatever the bytes are."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from hyperfill.dialect import Dialect
from hyperfill.splitter import fields_of, row_spans
from tests.fixtures.csv_noise import BACKSLASH, DEFAULT, split

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
