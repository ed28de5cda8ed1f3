"""Where a run of whole CopyData messages ends: the fast walk finds what a slow one finds, wherever a chunk is cut."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hyperfill.splice import HEADER, Walker
from tests.fixtures.fuzzing import fuzz

# Payloads hold headers of messages themselves, also such as would be at the place where the next one is looked for.
INSIDE = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"d\0\0\0\x04", b"d\0\0\0\x09d\0\0\0\x04", b"Z\0\0\0\x05I", b"c\0\0\0\x04", b"\xff" * 9]),
)
EQUAL = st.tuples(INSIDE, st.integers(1, 300)).map(lambda drawn: [drawn[0]] * drawn[1])
ROWS = st.lists(st.one_of(EQUAL, st.lists(INSIDE, max_size=30)), max_size=6).map(
    lambda runs: [row for run in runs for row in run]
)
OTHER = st.sampled_from([b"", b"c\0\0\0\x04", b"E\0\0\0\x10whatever", b"N\0\0", b"d", b"d\0\0\0", b"d\0\0\0\x20part"])


def naive(buffer: bytes, at: int, end: int) -> tuple[int, int]:
    """Message by message, as one would write it down."""
    rows = 0
    while at + HEADER <= end and buffer[at : at + 1] == b"d":
        after = at + 1 + int.from_bytes(buffer[at + 1 : at + HEADER], "big")
        if after > end:
            break
        at, rows = after, rows + 1
    return at, rows


@fuzz(300)
@given(ROWS, OTHER, st.data())
def test_the_walk_finds_what_a_slow_one_finds(rows: list[bytes], other: bytes, data: st.DataObject) -> None:
    stream = b"".join(struct.pack(">cI", b"d", 4 + len(row)) + row for row in rows) + other
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    buffer, walker, at, found = bytearray(stream + bytes(HEADER)), Walker(), 0, 0
    for _, end in pairwise([0, *cuts, len(stream)]):
        # What has not arrived yet is something else, as in a buffer that was used before.
        buffer[end:] = (b"d\0\0\0\x04" * (len(stream) // HEADER + 2))[: len(stream) + HEADER - end]
        after, more_rows = walker.run(buffer, at, end)
        assert (after, more_rows) == naive(stream, at, end)
        assert buffer[:end] == stream[:end]
        buffer[end : len(stream)] = stream[end:]
        at, found = after, found + more_rows
    assert found == len(rows)
