"""What a report is made of, whether it becomes a page or a Markdown file: sections, tables, cells."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass, field
from typing import Any

from hyperfill.quantities import duration

_LONG = 400  # characters of a setting
# Line ends of every kind, other control characters, and those that turn the direction of text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
DASH = "\u2013"


@dataclass(frozen=True)
class Cell:
    """A text in a table. `kind`: number, code (a name, a bound, a hash; "code short"), message, lines, short,
    good, bad, or empty."""

    text: str
    kind: str = ""

    @property
    def lines(self) -> bool:
        """Whether line feeds in it are meant."""
        return not {"message", "lines", "bad"}.isdisjoint(self.kind.split())


Rows = list[tuple[Cell, ...]]


@dataclass(frozen=True)
class Table:
    """Rows under heads. `bad`: numbers of the rows that somebody must look at."""

    heads: tuple[str, ...]
    rows: Rows
    bad: frozenset[int] = frozenset()
    small: bool = False  # many narrow columns

    @property
    def numbers(self) -> list[bool]:
        """Which columns hold figures, and are set to the right."""
        kinds = [{row[i].kind for row in self.rows if row[i].text != DASH} for i in range(len(self.heads))]
        return [found == {"number"} for found in kinds]


@dataclass
class Section:
    """A part of a report. `charts`: keys of the charts that a page shows in it."""

    key: str
    title: str
    texts: list[str] = field(default_factory=list)
    facts: list[tuple[str, Cell]] = field(default_factory=list)
    charts: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # after the tables


def cell(value: object) -> Cell:
    """A value as it is shown: numbers with thousands separators, times in UTC, a dash for nothing."""
    if value is None:
        return Cell(DASH)
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int):
        return Cell(f"{value:,}", "number")
    if isinstance(value, dt.datetime):
        return Cell(moment(value), "short")
    return Cell(str(value))


def code(value: str | None, room: int = 30) -> Cell:
    """A name, a bound or a hash. One of at most `room` characters is not broken."""
    if value is None:
        return Cell(DASH)
    return Cell(value, "code" if len(value) > room else "code short")


def moment(value: dt.datetime) -> str:
    """A time in UTC, to the second."""
    return f"{value.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"


def elapsed(seconds: float) -> str:
    """Seconds as people say it; tenths where there are few."""
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def compact(value: Any) -> str:
    """JSON on one line, not too long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONG else f"{text[:_LONG]}\u2026"


def left_out(shown: int, total: int, what: str) -> list[str]:
    """What is said below a table that does not show everything."""
    if shown >= total:
        return []
    left = total - shown
    return [f"{shown:,} of {total:,} {what} are listed, {left:,} are left out; a .json report has all of them."]


def server_version(number: int) -> str:
    """server_version_num as PostgreSQL writes it."""
    return f"{number // 10000}.{number % 10000}"


def visible(text: str, *, lines: bool = False) -> str:
    """A text in which control characters are seen and do nothing. `lines`: line feeds and tabs stay."""

    def picture(match: re.Match[str]) -> str:
        character = match.group()
        if lines and character in "\n\t":
            return character
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character, f"\\u{ord(character):04x}")

    return _CONTROL.sub(picture, text)
