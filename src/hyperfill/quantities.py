"""Durations and sizes of command-line options. Limits and buffers only; positions on the axis are timeline's."""

import re
from fractions import Fraction

from hyperfill import durations

_SECONDS = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_SIZE = re.compile(r"(?P<number>[0-9]{1,18}(?:\.[0-9]{1,18})?) *(?P<unit>[A-Za-z]*)")
_UNITS = {"": 1, "b": 1, "byte": 1, "bytes": 1}
for _power, _letter in enumerate("kmgt", start=1):
    # '5M' is decimal like '5MB': the power of two has a spelling of its own, and one letter must not mean two sizes.
    _UNITS |= {_letter: 1000**_power, f"{_letter}b": 1000**_power, f"{_letter}ib": 1024**_power}


def parse_duration(text: str) -> float:
    """Seconds in a duration such as '90s', '30m', '2h', '1h30m', '1d' or '90' (plain numbers are seconds).

    Always positive. Raises ValueError with a full sentence; months and years are refused, they have no fixed length.
    """
    body = text.strip()
    try:
        return durations.microseconds(f"{body} seconds" if _SECONDS.fullmatch(body) else body) / durations.SECOND
    except ValueError as refused:
        raise ValueError(f"{text!r} is not a duration: {refused}") from None


def parse_size(text: str) -> int:
    """Bytes in a size such as '10MB' or '10M' (powers of 1000), '64KiB' (powers of 1024) or '4096'.

    Always positive and exact: '1.5KB' is 1500, '1.5' is refused. Units are not case-sensitive.
    Raises ValueError with a full sentence.
    """
    body = text.strip()
    match = _SIZE.fullmatch(body)
    if match is None:
        raise ValueError(f"{text!r} is not a size: write a number and a unit such as '10MB', '64KiB' or '4096'")
    factor = _UNITS.get(match["unit"].lower())
    if factor is None:
        raise ValueError(f"{text!r} is not a size: {match['unit']!r} is not a unit (B, KB, MB, GB, TB, KiB, MiB, ...)")
    size = Fraction(match["number"]) * factor
    if size.denominator != 1:
        raise ValueError(f"{text!r} is not a size: it is not a whole number of bytes")
    if size == 0:
        raise ValueError(f"{text!r} is not a size: it is not positive")
    return int(size)


def human_bytes(count: float) -> str:
    """Bytes in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def counted(number: int, noun: str) -> str:
    """A number of things, e.g. '1 window', '1,200 windows', '2 batches'."""
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('ch') else 's'}"


def duration(seconds: float) -> str:
    """Seconds as people say it."""
    whole = round(seconds)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {left:02} s" if minutes else f"{left} s"
