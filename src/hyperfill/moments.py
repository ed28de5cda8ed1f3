"""Dates, times and zones as text, exactly: what a user may type, and what PostgreSQL prints.

The calendar is the proleptic Gregorian one, from 4714 BC to the year 5874897, in integers. datetime ends at 9999 and
has no BC; strptime and fromisoformat read what the server reads differently, or not at all.
"""

import re

from hyperfill.durations import DAY, HOUR, MINUTE, SECOND


class Reason(Exception):
    """Why a text is refused, on its way to the caller that knows what the text was meant to be."""


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a proleptic Gregorian date; year is astronomical (0 is 1 BC, -1 is 2 BC)."""
    # Years are counted from March, so that the leap day is the last of its year and every month has a fixed offset.
    march_year = year - (month <= 2)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return march_year * 365 + march_year // 4 - march_year // 100 + march_year // 400 + day_of_year - 719468


def civil_from_days(days: int) -> tuple[int, int, int]:
    """The inverse of days_from_civil: astronomical year, month, day."""
    era, day_of_era = divmod(days + 719468, 146097)  # 146097 days = 400 years; floors for BC too
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    from_march = (5 * day_of_year + 2) // 153
    month = from_march + 3 if from_march < 10 else from_march - 9
    return era * 400 + year_of_era + (month <= 2), month, day_of_year - (153 * from_march + 2) // 5 + 1


# With IGNORECASE alone [A-Z] would match the Kelvin sign and the long s too.
_ANY_CASE = re.IGNORECASE | re.ASCII
# [0-9] and not \d, which also matches the digits of other scripts. Years are bounded: no type holds an eighth digit.
_DATE = r"(?P<year>[0-9]{4,7})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_SECONDS = r"(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?"
_TIME = rf"(?P<hour>[0-9]{{2}}):(?P<minute>[0-9]{{2}})(?::{_SECONDS})?"
# A zone is anything that may have been meant as one, so that the refusal can name it. 'BC' alone is the era, and
# 'T12Z' is half a time of day, not a zone.
_ZONE = r"(?P<zone> ?(?!BC\Z|T[0-9])[A-Z+-][A-Z0-9_/:+-]*)"
TYPED = re.compile(rf"{_DATE}(?:[T ]{_TIME})?{_ZONE}?(?P<era> BC)?", _ANY_CASE)

_PRINTED_TIME = rf" (?P<hour>[0-9]{{2}}):(?P<minute>[0-9]{{2}}):{_SECONDS}"
PRINTED_INSTANT = re.compile(rf"{_DATE}{_PRINTED_TIME}\+00(?P<era> BC)?")
PRINTED_LOCAL = re.compile(rf"{_DATE}{_PRINTED_TIME}(?P<era> BC)?")
PRINTED_DATE = re.compile(rf"{_DATE}(?P<era> BC)?")


def days(match: re.Match[str]) -> int:
    """Days since 1970-01-01 of the date in match; Reason if the calendar has no such day."""
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    if year == 0:
        raise Reason("there is no year 0 (1 BC is followed by 1 AD)")
    if match["era"]:
        year = 1 - year
    if not 1 <= month <= 12:
        raise Reason(f"there is no month {match['month']}")
    length = 29 if month == 2 and _is_leap(year) else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]
    if not 1 <= day <= length:
        raise Reason(f"that month has no day {match['day']}")
    return days_from_civil(year, month, day)


def microseconds(match: re.Match[str]) -> int:
    """Microseconds since 1970-01-01 00:00:00 of the date and time in match, its zone ignored; Reason for nonsense."""
    midnight = days(match) * DAY
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    # PostgreSQL reads 24:00 and :60 as the next day and the next minute; a bound must say what it means.
    if hour == 24:
        raise Reason("there is no hour 24 (write 00:00 of the next day)")
    if hour > 23:
        raise Reason(f"there is no hour {match['hour']}")
    if minute > 59:
        raise Reason(f"there is no minute {match['minute']}")
    if second > 59:
        raise Reason(f"there is no second {match['second']}")
    fraction = match["fraction"] or ""
    if fraction[6:].strip("0"):
        raise Reason("it is finer than a microsecond, and the server would round it")
    return midnight + hour * HOUR + minute * MINUTE + second * SECOND + int(fraction[:6].ljust(6, "0"))


def date_text(day_number: int) -> tuple[str, str]:
    """The date of a day since 1970-01-01 and its era suffix ('' or ' BC'), apart because a time goes between them."""
    year, month, day = civil_from_days(day_number)
    return f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}", "" if year > 0 else " BC"


def moment_text(ordinal: int, zone: str) -> str:
    """Microseconds since 1970-01-01 00:00:00 as PostgreSQL prints them in ISO style, zone before the era."""
    day_number, rest = divmod(ordinal, DAY)
    date, era = date_text(day_number)
    seconds, fraction = divmod(rest, SECOND)
    tail = f".{fraction:06d}".rstrip("0") if fraction else ""
    return f"{date} {seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{tail}{zone}{era}"


_OFFSET = re.compile(
    r"(?P<sign>[+-])(?P<hours>[0-9]{2})(?:(?P<compact>[0-9]{2})|:(?P<minutes>[0-9]{2})(?::(?P<seconds>[0-9]{2}))?)?"
)
# Digits and signs only in Etc/GMT+3: the server takes any 'Word+3' that is no zone for a POSIX definition, so that the
# misspelled 'Europe/Berln+3' would be accepted and mean three hours *west* of Greenwich.
_AREA = re.compile(r"[A-Z]+(?:/[A-Z_]+(?:-[A-Z]+)*)+|Etc/GMT(?:0|\+(?:[0-9]|1[0-2])|-(?:[0-9]|1[0-4]))", _ANY_CASE)
_ZONE_FORMS = "write Z, an offset such as +02:00, or a name such as Europe/Berlin"
LARGEST_OFFSET = 16 * HOUR


def offset(zone: str) -> int | None:
    """Microseconds east of UTC, or None if only the server's zone tables know. Reason for what is no zone."""
    if zone.upper() in ("Z", "UTC"):
        return 0
    if match := _OFFSET.fullmatch(zone):
        minutes = int(match["compact"] or match["minutes"] or 0)
        seconds = int(match["seconds"] or 0)
        size = int(match["hours"]) * HOUR + minutes * MINUTE + seconds * SECOND
        if minutes > 59 or seconds > 59 or size >= LARGEST_OFFSET:
            raise Reason(f"the offset {zone} is out of range (-15:59:59 to +15:59:59)")
        return -size if match["sign"] == "-" else size
    if _AREA.fullmatch(zone):
        return None
    if zone.isalpha():
        # IST is Israel, India or Ireland: timezone_abbreviations decides, and the two servers may not share it.
        raise Reason(f"the abbreviation {zone} is ambiguous ({_ZONE_FORMS})")
    raise Reason(f"{zone} is not a time zone ({_ZONE_FORMS})")
