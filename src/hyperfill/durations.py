"""Lengths of time that people type, as exact microseconds.

One grammar serves `--window` and `--max-duration`. Only lengths that are the same everywhere are accepted: a month has
28 to 31 days, so a grid of months is no grid, and a window of "1 month" would be a different one after every resume.
A day is always 24 hours here, because windows lie on a UTC axis that has no daylight saving.
"""

import re
from collections.abc import Iterator
from fractions import Fraction

MICROSECOND = 1
MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

_UNITS = {
    **dict.fromkeys(("us", "usec", "usecs", "microsecond", "microseconds"), MICROSECOND),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), MILLISECOND),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), SECOND),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), MINUTE),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), HOUR),
    **dict.fromkeys(("d", "day", "days"), DAY),
    **dict.fromkeys(("w", "week", "weeks"), WEEK),
}
_CALENDAR_UNITS = {
    **dict.fromkeys(("mon", "mons", "month", "months"), "month"),
    **dict.fromkeys(("quarter", "quarters"), "quarter"),
    **dict.fromkeys(("y", "yr", "yrs", "year", "years"), "year"),
    **dict.fromkeys(("decade", "decades"), "decade"),
    **dict.fromkeys(("century", "centuries"), "century"),
}
# ISO 8601 writes both months and minutes as M; only the side of the T tells them apart.
_ISO_DATE_UNITS = {"Y": "year", "M": "month", "W": "week", "D": "day"}
_ISO_TIME_UNITS = {"H": "hour", "M": "minute", "S": "second"}

# Digits are bounded so that a pasted megabyte is refused at once, and [0-9] because \d also means Arabic-Indic digits.
_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,18})?"
_PLAIN = re.compile(_NUMBER)
_ISO = re.compile(
    rf"P(?P<date>(?:{_NUMBER}[YMWD])*)(?:T(?P<time>(?:{_NUMBER}[HMS])+))?",
    re.IGNORECASE | re.ASCII,
)
_WORDS = re.compile(rf"(?:{_NUMBER} *[A-Za-z]+ *)+")
_TOKEN = re.compile(rf"({_NUMBER}) *([A-Za-z]+)")
_CLOCK = re.compile(
    r"(?:(?P<words>[^:]*[A-Za-z]) +)?"
    r"(?P<hours>[0-9]{1,18}):(?P<minutes>[0-5][0-9])(?::(?P<seconds>[0-5][0-9](?:\.[0-9]{1,18})?))?"
)
_EXAMPLES = "write a length such as '1 day', '12 hours', '1h30m', '12:00:00' or 'PT6H'"


def microseconds(text: str) -> int:
    """The length that text names, in microseconds, always positive.

    Reads '1 day', '1d12h', '1.5 hours', '500 ms', '2 weeks', '12:00:00', '1 day 12:00:00' and 'PT6H'.
    Raises ValueError whose message is the reason alone ('it has no unit (...)'), for the caller to put into a sentence.
    """
    body = text.strip()
    if not body:
        raise ValueError("it is empty")
    if body.startswith("-"):
        raise ValueError("it is not positive")
    if _PLAIN.fullmatch(body):
        raise ValueError(f"it has no unit (write for example '{body} hours')")

    total = Fraction(0)
    seen: set[int] = set()
    for number, unit in _terms(body):
        size = _size_of(unit)
        if size in seen:
            raise ValueError(f"it names {unit!r} twice")
        seen.add(size)
        total += Fraction(number) * size
    if total.denominator != 1:
        raise ValueError("it is finer than a microsecond")
    if total == 0:
        raise ValueError("it is not positive")
    return int(total)


def _terms(body: str) -> Iterator[tuple[str, str]]:
    """The numbers and units that body is the sum of; a ValueError if it is not of a known form."""
    if (iso := _ISO.fullmatch(body)) and (iso["date"] or iso["time"]):
        for part, names in ((iso["date"], _ISO_DATE_UNITS), (iso["time"] or "", _ISO_TIME_UNITS)):
            for number, letter in _TOKEN.findall(part):
                yield number, names[letter.upper()]
        return
    words: str | None = body
    if clock := _CLOCK.fullmatch(body):
        yield clock["hours"], "hours"
        yield clock["minutes"], "minutes"
        yield clock["seconds"] or "0", "seconds"
        words = clock["words"]
    if words is None:
        return
    if not _WORDS.fullmatch(words):
        raise ValueError(f"it is not understood ({_EXAMPLES})")
    yield from _TOKEN.findall(words)


def _size_of(unit: str) -> int:
    """Microseconds in one unit. Raises ValueError for units without a fixed length and for unknown ones."""
    if unit == "M":
        # PostgreSQL takes '1M' for a minute, many people for a month: 43 200 times as many windows.
        raise ValueError("'M' may mean minutes or months (write 'min' for minutes; a month has no fixed length)")
    name = unit.lower()
    if name in _CALENDAR_UNITS:
        raise ValueError(f"a {_CALENDAR_UNITS[name]} has no fixed length: use days")
    if name not in _UNITS:
        raise ValueError(f"{unit!r} is not a unit ({_EXAMPLES})")
    return _UNITS[name]
