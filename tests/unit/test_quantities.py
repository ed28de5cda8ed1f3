"""Window lengths, durations and sizes as people type them."""

import pytest

from hyperfill.durations import DAY, HOUR, MINUTE, SECOND
from hyperfill.quantities import parse_duration, parse_size
from hyperfill.timeline import TIME_TYPES, StepError, TimeType

TIMESTAMPTZ, TIMESTAMP = TIME_TYPES["timestamp with time zone"], TIME_TYPES["timestamp without time zone"]
DATE, UUID = TIME_TYPES["date"], TIME_TYPES["uuid"]
SMALLINT, INTEGER, BIGINT = TIME_TYPES["smallint"], TIME_TYPES["integer"], TIME_TYPES["bigint"]

LENGTHS = [
    ("1 day", DAY),
    ("12 hours", 12 * HOUR),
    ("90 minutes", 90 * MINUTE),
    ("1d12h", 36 * HOUR),
    ("1 day 12 hours", 36 * HOUR),
    ("1h30m", 90 * MINUTE),
    ("1H30min", 90 * MINUTE),
    ("1.5 hours", 90 * MINUTE),
    ("PT6H", 6 * HOUR),
    ("P1DT12H30M", 36 * HOUR + 30 * MINUTE),
    ("P2W", 14 * DAY),
    ("pt0.5s", SECOND // 2),
    ("2 weeks", 14 * DAY),
    ("12:00:00", 12 * HOUR),
    ("00:30", 30 * MINUTE),
    ("36:00:00.000001", 36 * HOUR + 1),
    ("1 day 12:00:00", 36 * HOUR),
    ("500 ms", SECOND // 2),
    ("0.001 ms", 1),
    ("1us", 1),
]


@pytest.mark.parametrize(("text", "microseconds"), LENGTHS)
def test_lengths_of_time(text: str, microseconds: int) -> None:
    assert TIMESTAMPTZ.step(f" {text} ") == TIMESTAMP.step(text) == microseconds


@pytest.mark.parametrize(
    ("time_type", "text", "step"),
    [
        (DATE, "1 day", 1),
        (DATE, "48 hours", 2),
        (DATE, "P1W", 7),
        (UUID, "1 ms", 1 << 74),
        (UUID, "1 hour", 3_600_000 << 74),
        (INTEGER, "1000", 1000),
        (BIGINT, "+86400000000", 86_400_000_000),
        (SMALLINT, "65535", 65535),
    ],
)
def test_steps_in_ordinals(time_type: TimeType, text: str, step: int) -> None:
    assert time_type.step(text) == step


@pytest.mark.parametrize(
    ("time_type", "text", "reason"),
    [
        (TIMESTAMPTZ, "1 month", "a month has no fixed length: use days"),
        (TIMESTAMPTZ, "P1M", "a month has no fixed length: use days"),
        (TIMESTAMPTZ, "1 year 2 days", "a year has no fixed length: use days"),
        (TIMESTAMPTZ, "P1Y", "a year has no fixed length: use days"),
        (TIMESTAMPTZ, "1M", "may mean minutes or months"),
        (TIMESTAMPTZ, "7", "no unit (write for example '7 hours')"),
        (TIMESTAMPTZ, "", "it is empty"),
        (TIMESTAMPTZ, "0 hours", "not positive"),
        (TIMESTAMPTZ, "00:00:00", "not positive"),
        (TIMESTAMPTZ, "-1 day", "not positive"),
        (TIMESTAMPTZ, "1 day -2 hours", "not understood"),
        (TIMESTAMPTZ, "1 day 2 days", "twice"),
        (TIMESTAMPTZ, "1 hour 12:00:00", "twice"),
        (TIMESTAMPTZ, "1 fortnight", "is not a unit"),
        (TIMESTAMPTZ, "0.5 us", "finer than a microsecond"),
        (TIMESTAMPTZ, "12:60", "not understood"),
        (TIMESTAMPTZ, "P", "not understood"),
        (TIMESTAMPTZ, "PT", "not understood"),
        (TIMESTAMPTZ, "P1DT", "not understood"),
        (TIMESTAMPTZ, "999999999999 weeks", "longer than the whole axis"),
        (DATE, "36 hours", "whole number of days"),
        (DATE, "7", "no unit"),
        (UUID, "1500 us", "whole number of them"),
        (UUID, "1 month", "a month has no fixed length"),
        (INTEGER, "0", "not positive"),
        (INTEGER, "-5", "not positive"),
        (INTEGER, "1 day", "not a whole number"),
        (INTEGER, "1_000", "not a whole number"),
        (SMALLINT, "65536", "longer than the whole axis"),
    ],
)
def test_steps_refused_with_a_reason(time_type: TimeType, text: str, reason: str) -> None:
    with pytest.raises(StepError) as caught:
        time_type.step(text)
    assert reason in caught.value.reason
    assert str(caught.value).startswith(f"{text!r} is not a window length of type {time_type.sql_name}: ")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1d", 86400),
        ("90", 90),
        ("0.5", 0.5),
        (" 1.5h ", 5400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "1 month", "1M", "1e3", "soon", "nan", "inf"])
def test_durations_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' is not a duration: ."):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10MB", 10_000_000),
        ("64KiB", 65536),
        ("5M", 5_000_000),
        ("4096", 4096),
        ("1.5 KB", 1500),
        ("2gib", 2 << 30),
        ("1TB", 10**12),
        ("7 bytes", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-5MB", "1e6", "1.5", "10 parsecs", "MB", "1,000", "٣MB", "1 Ki"])
def test_sizes_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' is not a size: ."):
        parse_size(text)
