"""The axis of a hypertable: positions, bounds that people type, half-open spans and their exact partitions.

Every position is a Python int, its *ordinal*: microseconds since 1970-01-01 00:00:00 (UTC for timestamptz) in the
proleptic Gregorian calendar, days since 1970-01-01 for a date, the value itself for integers, the unsigned 122-bit
value of a UUIDv7 without its six fixed bits. datetime ends at year 9999 and knows no BC, float loses microseconds
after 2255; tables hold both.
Pure: no I/O, no clock, no time zone database.
"""

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hyperfill import durations, moments
from hyperfill.moments import Reason


class BoundError(ValueError):
    """A text (or ordinal) that is no position of the axis. str() is a full sentence; the parts are attributes."""

    noun = "bound"

    def __init__(self, text: str, type_name: str, reason: str) -> None:
        # All three go into args: workers pickle exceptions, and unpickling calls the class with args.
        super().__init__(text, type_name, reason)
        self.text = text
        self.type_name = type_name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.text!r} is not a {self.noun} of type {self.type_name}: {self.reason}"


class StepError(BoundError):
    """A text that is no window length on the axis."""

    noun = "window length"


class Kind(enum.Enum):
    """How the ordinals of a type are read and written."""

    INSTANT = "timestamptz"
    LOCAL = "timestamp"
    DATE = "date"
    INTEGER = "integer"
    UUID = "uuid"


_PRINTED = {
    Kind.INSTANT: moments.PRINTED_INSTANT,
    Kind.LOCAL: moments.PRINTED_LOCAL,
    Kind.DATE: moments.PRINTED_DATE,
    Kind.INTEGER: re.compile(r"-?[0-9]+"),
    Kind.UUID: re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
}
_MOVING = "it is another moment each time it is read, so a resumed run would move another range (write the value)"
_WORDS = {
    "": "it is empty",
    **dict.fromkeys(
        ("infinity", "+infinity", "inf", "+inf"),
        "a range without an end would take rows that the application is still writing (write the completion point)",
    ),
    **dict.fromkeys(
        ("-infinity", "-inf"), "it is no position but the absence of a lower bound; only a start can be open"
    ),
    **dict.fromkeys(("now", "now()", "today", "tomorrow", "yesterday"), _MOVING),
}
_FORMS = {
    Kind.INSTANT: "it does not read YYYY-MM-DD[THH:MM[:SS[.ffffff]]] with a time zone",
    Kind.LOCAL: "it does not read YYYY-MM-DD[THH:MM[:SS[.ffffff]]]",
    Kind.DATE: "it does not read YYYY-MM-DD",
    Kind.INTEGER: "it is not a whole number in decimal digits",
    Kind.UUID: "it is neither a UUID of 32 hexadecimal digits in groups of 8-4-4-4-12 nor a timestamp with a time zone",
}
_EPOCH = {Kind.LOCAL: "1970-01-01T00:00:00", Kind.DATE: "1970-01-01", Kind.INTEGER: "0"}
# A UUIDv7 is 48 bits of milliseconds, version 7 in four bits, 12 bits, the variant 10 in two, 62 bits. Its ordinal
# leaves version and variant out: TimescaleDB refuses every literal that is no UUIDv7, and so each ordinal is one.
_MILLISECOND_SHIFT = 74
_RANDOM_A, _RANDOM_B = (1 << 12) - 1, (1 << 62) - 1
_LAST_UUID_MILLISECOND = (1 << 48) - 1


@dataclass(frozen=True)
class TimeType:
    """One PostgreSQL type of a time column: its name in a cast, and the ordinals it can hold (both ends inclusive)."""

    sql_name: str
    kind: Kind
    minimum: int
    maximum: int

    @property
    def has_infinity(self) -> bool:
        """Whether a plain table can hold -infinity in this type (no hypertable can)."""
        return self.kind in (Kind.INSTANT, Kind.LOCAL, Kind.DATE)

    def check_bound(self, text: str) -> str:
        """What a user typed as a bound, stripped and safe for the server to cast to sql_name: it means exactly one
        position, whatever the TimeZone and DateStyle of the session. Zeros beyond the microsecond are trimmed.

        For a uuid column a timestamp with a zone becomes the lowest uuid of that millisecond.
        Raises BoundError; open and moving bounds ('-infinity', 'now') are refused too, the caller knows what they mean.
        """
        body = text.strip()
        try:
            return self._checked(body)
        except Reason as refused:
            raise BoundError(body, self.sql_name, str(refused)) from None

    def ordinal(self, text: str) -> int:
        """The position of a value as the server prints it under TimeZone=UTC and DateStyle=ISO.

        Raises BoundError for anything else: an infinity, or the output of a session whose settings are not pinned.
        """
        try:
            match = _PRINTED[self.kind].fullmatch(text)
            if match is None:
                raise Reason("it is not a finite value as the server prints it under TimeZone UTC and DateStyle ISO")
            if self.kind is Kind.INTEGER:
                return self._within_digits(text)
            if self.kind is Kind.UUID:
                return self._uuid7(text)
            return self._within(moments.days(match) if self.kind is Kind.DATE else moments.microseconds(match))
        except Reason as refused:
            raise BoundError(text, self.sql_name, str(refused)) from None

    def text(self, ordinal: int) -> str:
        """The inverse of ordinal(): what the server prints for that position. Raises BoundError out of range."""
        try:
            return self._text(self._within(ordinal))
        except Reason as refused:
            raise BoundError(str(ordinal), self.sql_name, str(refused)) from None

    def bounds(self, span: "Span") -> dict[str, str]:
        """Both ends as JSON has them: `lower`, -infinity where the span is open, and `upper`."""
        return {"lower": "-infinity" if span.lower is None else self.text(span.lower), "upper": self.text(span.upper)}

    def range_text(self, span: "Span") -> str:
        """The same for people, e.g. [-infinity, 2026-01-01)."""
        return "[{lower}, {upper})".format(**self.bounds(span))

    def step(self, text: str) -> int:
        """The length of a window in ordinals, positive: an interval of fixed length for timestamps, dates (whole days)
        and uuids (whole milliseconds), a number for integers. Raises StepError, a BoundError.
        """
        body = text.strip()
        try:
            length = self._length(body)
            if length > self.maximum - self.minimum:
                raise Reason("it is longer than the whole axis")
            return length
        except Reason as refused:
            raise StepError(body, self.sql_name, str(refused)) from None

    def _length(self, body: str) -> int:
        if self.kind is Kind.INTEGER:
            if not re.fullmatch(r"[+-]?[0-9]{1,30}", body):
                raise Reason("it is not a whole number in decimal digits")
            if int(body) <= 0:
                raise Reason("it is not positive")
            return int(body)
        try:
            microseconds = durations.microseconds(body)
        except ValueError as refused:
            raise Reason(str(refused)) from None
        if self.kind is Kind.DATE:
            if microseconds % durations.DAY:
                raise Reason("it is not a whole number of days")
            return microseconds // durations.DAY
        if self.kind is Kind.UUID:
            if microseconds % durations.MILLISECOND:
                raise Reason("a UUIDv7 knows only milliseconds, and it is not a whole number of them")
            return uuid_of_milliseconds(microseconds // durations.MILLISECOND)
        return microseconds

    def _checked(self, body: str) -> str:
        word = body.lower()
        if word in _WORDS:
            raise Reason(_WORDS[word])
        if word == "epoch":
            raise Reason(f"it is a word and not a value (write {_EPOCH.get(self.kind, '1970-01-01T00:00:00Z')})")
        if self.kind is Kind.INTEGER:
            return self._checked_integer(body)
        if self.kind is Kind.UUID and _PRINTED[Kind.UUID].fullmatch(body):
            self._uuid7(body)
            return body.lower()
        match = moments.TYPED.fullmatch(body)
        if match is None:
            raise Reason(_FORMS[self.kind])
        if self.kind is Kind.DATE:
            if match["hour"] or match["zone"]:
                raise Reason(f"it has a {'time of day' if match['hour'] else 'time zone'}, and a date has none")
            self._within(moments.days(match))
            return body
        local = moments.microseconds(match)
        # By position and not by str.replace: in '2023-08-01 00:00-08' the zone's text occurs in the date as well.
        head = body[: match.start("zone") if match["zone"] else match.start("era") if match["era"] else len(body)]
        if match["fraction"]:
            head = head[: match.start("fraction") + 6]
        zone, era = match["zone"] or "", match["era"] or ""
        if self.kind is Kind.LOCAL:
            if zone:
                drop = f"it has a time zone ({zone.strip()}), which the server would silently drop"
                raise Reason(f"{drop} (write {head}{era})")
            self._within(local)
            return head + era
        if not zone:
            date, time = head[: match.end("day")], head[match.end("day") + 1 :] or "00:00:00"
            raise Reason(f"it has no time zone (write {date}T{time}Z{era})")
        if not match["hour"] and zone.startswith("-"):
            raise Reason("the server cannot read a negative offset right after a date (write the time of day too)")
        offset = moments.offset(zone.strip())
        if self.kind is Kind.UUID:
            return self._lowest_uuid(local, offset)
        if offset is not None:
            self._within(local - offset)
        elif not self.minimum - moments.LARGEST_OFFSET < local < self.maximum + moments.LARGEST_OFFSET:
            self._within(local)
        return head + zone + era

    @staticmethod
    def _uuid7(text: str) -> int:
        value = int(text.replace("-", ""), 16)
        if value >> 76 & 15 != 7 or value >> 62 & 3 != 2:
            raise Reason("it is not a version 7 UUID: only those are in the order of time")
        return value >> 80 << _MILLISECOND_SHIFT | (value >> 64 & _RANDOM_A) << 62 | value & _RANDOM_B

    def _lowest_uuid(self, local: int, offset: int | None) -> str:
        if offset is None:
            raise Reason("a bound of a uuid column is computed without the server's zone tables (write Z or an offset)")
        milliseconds, rest = divmod(local - offset, durations.MILLISECOND)
        if rest:
            raise Reason("it is finer than a millisecond, and a UUIDv7 is not")
        if not 0 <= milliseconds <= _LAST_UUID_MILLISECOND:
            raise Reason("it is out of range (a UUIDv7 holds 1970-01-01T00:00:00Z to 10889-08-02T05:31:50.655Z)")
        return self._text(uuid_of_milliseconds(milliseconds))

    def _checked_integer(self, body: str) -> str:
        if re.fullmatch(r"[+-]?[0-9]+", body):
            self._within_digits(body)
            return body
        if re.fullmatch(r"[+-]?[0-9]+(?:[_,' ][0-9]+)+", body):
            raise Reason("it has thousands separators (write the digits alone)")
        if re.fullmatch(r"[+-]?[0-9]*\.[0-9]*", body):
            raise Reason("it has a decimal point or a thousands separator (write the digits alone)")
        raise Reason(_FORMS[Kind.INTEGER])

    def _within_digits(self, text: str) -> int:
        # int() itself fails beyond 4300 digits, with a message about Python; leading zeros are no reason to refuse.
        digits = text.lstrip("+-0") or "0"
        if len(digits) > 19:
            raise self._out_of_range()
        return self._within(-int(digits) if text.startswith("-") else int(digits))

    def _within(self, ordinal: int) -> int:
        if not self.minimum <= ordinal <= self.maximum:
            raise self._out_of_range()
        return ordinal

    def _out_of_range(self) -> Reason:
        return Reason(f"it is out of range ({self._text(self.minimum)} to {self._text(self.maximum)})")

    def _text(self, ordinal: int) -> str:
        if self.kind is Kind.INTEGER:
            return str(ordinal)
        if self.kind is Kind.DATE:
            return "".join(moments.date_text(ordinal))
        if self.kind is Kind.UUID:
            high, random_a = ordinal >> _MILLISECOND_SHIFT, ordinal >> 62 & _RANDOM_A
            digits = f"{high << 80 | 7 << 76 | random_a << 64 | 2 << 62 | ordinal & _RANDOM_B:032x}"
            return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        return moments.moment_text(ordinal, "+00" if self.kind is Kind.INSTANT else "")


# Timestamps begin with Julian day 0, as PostgreSQL counts days; all three end where its integers do not overflow.
_FIRST_DAY = moments.days_from_civil(-4713, 11, 24)
_FIRST_MOMENT = _FIRST_DAY * durations.DAY
_LAST_MOMENT = moments.days_from_civil(294277, 1, 1) * durations.DAY - 1
_LAST_DAY = moments.days_from_civil(5874897, 12, 31)

TIME_TYPES: Mapping[str, TimeType] = MappingProxyType(
    {
        "timestamp with time zone": TimeType("timestamptz", Kind.INSTANT, _FIRST_MOMENT, _LAST_MOMENT),
        "timestamp without time zone": TimeType("timestamp", Kind.LOCAL, _FIRST_MOMENT, _LAST_MOMENT),
        "date": TimeType("date", Kind.DATE, _FIRST_DAY, _LAST_DAY),
        "smallint": TimeType("smallint", Kind.INTEGER, -(2**15), 2**15 - 1),
        "integer": TimeType("integer", Kind.INTEGER, -(2**31), 2**31 - 1),
        "bigint": TimeType("bigint", Kind.INTEGER, -(2**63), 2**63 - 1),
        "uuid": TimeType("uuid", Kind.UUID, 0, 2**122 - 1),
    }
)
"""The types a time column may have, by the name that format_type() gives them."""


def uuid_of_milliseconds(ms: int) -> int:
    """The ordinal of the lowest uuid that begins with ms milliseconds since 1970: no UUIDv7 of that time is below."""
    return ms << _MILLISECOND_SHIFT


def milliseconds_of_uuid(ordinal: int) -> int:
    """The inverse: milliseconds since 1970 at which a uuid's ordinal lies."""
    return ordinal >> _MILLISECOND_SHIFT


@dataclass(frozen=True, order=False)
class Span:
    """The ordinals of [lower, upper). lower None: everything below upper, the type's minimum and -infinity included.

    None and not a smallest number: a number in its place is a value that a row can have, and would be compared.
    lower == upper is the empty span. ValueError if lower > upper.
    """

    lower: int | None
    upper: int

    def __post_init__(self) -> None:
        if self.lower is not None and self.lower > self.upper:
            raise ValueError(f"the span begins at {self.lower}, after its end {self.upper}")

    @property
    def is_empty(self) -> bool:
        """Whether no ordinal lies in the span; one without a lower bound is never empty."""
        return self.lower == self.upper

    def contains(self, ordinal: int) -> bool:
        """Whether the ordinal lies in the span: its lower bound does, its upper does not."""
        return (self.lower is None or self.lower <= ordinal) and ordinal < self.upper

    def intersect(self, other: "Span") -> "Span | None":
        """The ordinals in both, or None if there are none; never an empty span."""
        lowers = [span.lower for span in (self, other) if span.lower is not None]
        lower = max(lowers, default=None)
        upper = min(self.upper, other.upper)
        return Span(lower, upper) if lower is None or lower < upper else None

    def overlaps(self, other: "Span") -> bool:
        """Whether some ordinal lies in both. Neighbours do not overlap, and nothing overlaps an empty span."""
        return self.intersect(other) is not None

    def covers(self, other: "Span") -> bool:
        """Whether every ordinal of other lies in this span; an empty one is covered by any."""
        return other.is_empty or self.intersect(other) == other


def cut(span: Span, edges: Iterable[int]) -> list[Span]:
    """The exact partition of span, in order, at those edges that lie strictly inside; the empty span has no pieces."""
    if span.is_empty:
        return []
    inside = sorted({edge for edge in edges if edge != span.lower and span.contains(edge)})
    # Every edge is the end of one piece and the start of the next, the same object: no gap or overlap can arise.
    return [Span(lower, upper) for lower, upper in zip([span.lower, *inside], [*inside, span.upper], strict=True)]


def split_even(span: Span, pieces: int) -> list[Span]:
    """The exact partition of span, in order, into pieces whose lengths differ by at most one.

    Fewer than pieces if the span has fewer ordinals: none is empty. ValueError if pieces < 1 or lower is None, for half
    of an unbounded past is still unbounded.
    """
    if pieces < 1:
        raise ValueError(f"a span cannot be split into {pieces} pieces")
    if span.lower is None:
        raise ValueError("a span without a lower bound has no even split")
    length = span.upper - span.lower
    pieces = min(pieces, length)
    return cut(span, (span.lower + length * piece // pieces for piece in range(1, pieces)))


def grid_floor(ordinal: int, interval: int, origin: int = 0) -> int:
    """The largest origin + n * interval not above the ordinal, negatives included. ValueError if interval < 1."""
    if interval < 1:
        raise ValueError(f"a grid needs a positive interval, not {interval}")
    return ordinal - (ordinal - origin) % interval
