"""The files of the CSV benchmark: the same bytes for the same shape, number of rows and seed, on every machine."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 14
_BLOCK = 20_000
_WORDS = ("pump", "valve, left", 'the "old" one', "žluťoučký", "north\nsouth", "x" * 60, "level 3", "it's fine")


@dataclass(frozen=True)
class Shape:
    """A table and what is in its file. `values` makes the columns after the time, of one row, as CSV."""

    columns: tuple[tuple[str, str], ...]  # name and type, the time left out
    values: Callable[[random.Random], str]
    about: str


def _floats(rng: random.Random) -> str:
    # All digits, as a server with its default extra_float_digits writes them.
    return ",".join([repr(rng.random() * 100) for _ in range(10)])


def _quoted(rng: random.Random) -> str:
    texts = [
        '"' + rng.choice(_WORDS).replace('"', '""') + '"',
        f'"device {rng.randrange(1000)}"',
        # NULL and the empty string are not the same, and one of them is quoted.
        rng.choice(("", '""', '"a, b"')),
    ]
    return ",".join([*texts, repr(rng.random())])


def _narrow(rng: random.Random) -> str:
    return f"{rng.randrange(1000)},{rng.random() * 100!r}"


SHAPES = {
    "floats": Shape(tuple((f"f{i}", "float8") for i in range(1, 11)), _floats, "a timestamptz and 10 float8"),
    "quoted": Shape(
        (("word", "text"), ("device", "text"), ("note", "text"), ("value", "float8")),
        _quoted,
        "a timestamptz, 3 quoted texts (delimiters, quotes, line breaks, NULL and empty) and a float8",
    ),
    "narrow": Shape((("device", "integer"), ("value", "float8")), _narrow, "a timestamptz, an integer and a float8"),
}


def make_file(path: Path, shape: str, rows: int, seed: int) -> None:
    """Write a CSV file of the shape: LF, no header, in the order of time, even steps over `DAYS` days.

    A file that is there already is taken as it is: its name must say what it was made of.
    """
    if path.exists():
        return
    starts = range(0, rows, _BLOCK)
    counts = [min(_BLOCK, rows - first) for first in starts]
    step = DAYS * 86_400_000_000 // rows
    part = path.with_name(path.name + ".part")
    # A generator of its own for every block, so that the bytes do not depend on the number of processes.
    with part.open("wb") as out, ProcessPoolExecutor(os.cpu_count()) as pool:
        for block in pool.map(partial(_block, shape, step, seed), starts, counts):
            out.write(block)
    part.rename(path)


def _block(shape: str, step: int, seed: int, first: int, count: int) -> bytes:
    rng = random.Random(seed * 1_000_003 + first)
    values = SHAPES[shape].values
    lines = []
    for number in range(first, first + count):
        time = (START + timedelta(microseconds=number * step)).isoformat(sep=" ")[: -len(":00")]
        # As the server writes it: no zeros at the end of the fraction.
        moment, dot, fraction = time[: -len("+00")].partition(".")
        fraction = fraction.rstrip("0")
        lines.append(f"{moment}{dot if fraction else ''}{fraction}+00,{values(rng)}\n")
    return "".join(lines).encode()
