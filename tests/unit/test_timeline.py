"""The axis: exact text and ordinals over the whole range of every type, and strict bounds."""

import datetime
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyperfill import moments
from hyperfill.durations import DAY
from hyperfill.timeline import (
    TIME_TYPES,
    BoundError,
    Kind,
    TimeType,
    uuid_of_milliseconds,
)

BY_NAME = {time_type.sql_name: time_type for time_type in TIME_TYPES.values()}
TIMESTAMPTZ, TIMESTAMP, DATE = BY_NAME["timestamptz"], BY_NAME["timestamp"], BY_NAME["date"]
SMALLINT, INTEGER, BIGINT, UUID = BY_NAME["smallint"], BY_NAME["integer"], BY_NAME["bigint"], BY_NAME["uuid"]


def ordinals_of(time_type: TimeType) -> st.SearchStrategy[int]:
    """The whole range, and more often its ends and the surroundings of 1970 and of the BC/AD border."""
    ends = st.sampled_from([time_type.minimum, time_type.minimum + 1, time_type.maximum - 1, time_type.maximum])
    unit = DAY if time_type.kind in (Kind.INSTANT, Kind.LOCAL) else 1
    border = -719162 * unit  # 0001-01-01
    near = st.sampled_from([0, border]).flatmap(lambda at: st.integers(at - 400 * unit, at + 400 * unit))
    inside = near.filter(lambda n: time_type.minimum <= n <= time_type.maximum)
    return ends | inside | st.integers(time_type.minimum, time_type.maximum)


typed_ordinals = st.sampled_from(list(BY_NAME.values())).flatmap(lambda t: st.tuples(st.just(t), ordinals_of(t)))


# --- calendar, text and ordinals --------------------------------------------------------------------------------------

# Compared with extract(epoch from ...) and date - date of PostgreSQL 15; only the last microsecond of all is reckoned,
# extract rounds it to the full second.
ANCHORS = [
    (TIMESTAMPTZ, "1970-01-01 00:00:00+00", 0),
    (TIMESTAMPTZ, "1969-12-31 23:59:59.999999+00", -1),
    (TIMESTAMPTZ, "2023-08-01 00:00:00.5+00", 1_690_848_000_500_000),
    (TIMESTAMPTZ, "2000-01-01 00:00:00+00", 946_684_800_000_000),
    (TIMESTAMPTZ, "0044-03-15 12:00:00+00 BC", -63_517_780_800_000_000),
    (TIMESTAMPTZ, "4714-11-24 00:00:00+00 BC", -210_866_803_200_000_000),
    (TIMESTAMPTZ, "12345-01-01 00:00:00+00", 327_403_382_400_000_000),
    (TIMESTAMPTZ, "294276-12-31 23:59:59.999999+00", 9_224_318_015_999_999_999),
    (TIMESTAMP, "4714-11-24 00:00:00 BC", -210_866_803_200_000_000),
    (TIMESTAMP, "2024-02-29 12:34:56.7", 1_709_210_096_700_000),
    (DATE, "1970-01-01", 0),
    (DATE, "1969-12-31", -1),
    (DATE, "0001-01-01", -719_162),
    (DATE, "0001-12-31 BC", -719_163),
    (DATE, "0001-02-29 BC", -719_469),
    (DATE, "4714-11-24 BC", -2_440_588),
    (DATE, "294276-12-31", 106_762_939),
    (DATE, "5874897-12-31", 2_145_042_905),
    (SMALLINT, "-32768", -32768),
    (BIGINT, "-9223372036854775808", -(2**63)),
    (UUID, "01890000-0000-7000-8000-000000000001", (0x018900000000 << 74) + 1),
]


@pytest.mark.parametrize(("time_type", "text", "ordinal"), ANCHORS)
def test_anchors(time_type: TimeType, text: str, ordinal: int) -> None:
    assert time_type.ordinal(text) == ordinal
    assert time_type.text(ordinal) == text


def test_ranges_are_those_of_the_server() -> None:
    assert (TIMESTAMPTZ.minimum, TIMESTAMPTZ.maximum) == (-210_866_803_200_000_000, 9_224_318_015_999_999_999)
    assert (TIMESTAMP.minimum, TIMESTAMP.maximum) == (TIMESTAMPTZ.minimum, TIMESTAMPTZ.maximum)
    assert (DATE.minimum, DATE.maximum) == (-2_440_588, 2_145_042_905)
    assert (UUID.minimum, UUID.maximum) == (0, 2**122 - 1)
    assert set(TIME_TYPES) == {
        "timestamp with time zone",
        "timestamp without time zone",
        "date",
        "smallint",
        "integer",
        "bigint",
        "uuid",
    }


@given(typed_ordinals)
def test_text_and_ordinal_are_inverse(pair: tuple[TimeType, int]) -> None:
    time_type, ordinal = pair
    assert time_type.ordinal(time_type.text(ordinal)) == ordinal


@given(typed_ordinals)
def test_what_the_server_prints_is_a_bound_that_means_itself(pair: tuple[TimeType, int]) -> None:
    time_type, ordinal = pair
    text = time_type.text(ordinal)
    assert time_type.check_bound(f" {text}\n") == text


@given(st.dates())
@example(datetime.date.min)
@example(datetime.date.max)
def test_dates_agree_with_python_where_python_has_them(date: datetime.date) -> None:
    days = date.toordinal() - datetime.date(1970, 1, 1).toordinal()
    assert DATE.text(days) == date.isoformat()
    assert DATE.ordinal(date.isoformat()) == days


@given(st.datetimes())
def test_moments_agree_with_python_where_python_has_them(moment: datetime.datetime) -> None:
    microseconds = (moment - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
    printed = moment.isoformat(sep=" ")
    assert TIMESTAMP.ordinal(printed) == microseconds
    assert TIMESTAMP.text(microseconds) == (printed.rstrip("0") if moment.microsecond else printed)


def test_every_day_of_eight_centuries_around_year_one_follows_the_one_before() -> None:
    start = moments.days_from_civil(-400, 1, 1)
    year, month, day = -400, 1, 1
    for days in range(start, start + 2 * 146097):
        assert moments.civil_from_days(days) == (year, month, day)
        assert moments.days_from_civil(year, month, day) == days
        leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
        if day < [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]:
            day += 1
        else:
            year, month, day = (year, month + 1, 1) if month < 12 else (year + 1, 1, 1)


@given(ordinals_of(DATE), ordinals_of(DATE))
def test_the_calendar_keeps_the_order(one: int, other: int) -> None:
    assert (moments.civil_from_days(one) < moments.civil_from_days(other)) == (one < other)


@pytest.mark.parametrize("time_type", BY_NAME.values(), ids=str)
def test_text_out_of_range_is_refused(time_type: TimeType) -> None:
    for ordinal in (time_type.minimum - 1, time_type.maximum + 1):
        with pytest.raises(BoundError, match=f"type {time_type.sql_name}: it is out of range"):
            time_type.text(ordinal)


@pytest.mark.parametrize(
    ("time_type", "text"),
    [
        (TIMESTAMPTZ, "infinity"),
        (TIMESTAMPTZ, "-infinity"),
        (TIMESTAMPTZ, "2023-08-01 02:00:00+02"),  # a session that is not in UTC
        (TIMESTAMPTZ, "01/08/2023 00:00:00 UTC"),  # nor in ISO style
        (TIMESTAMPTZ, "2023-08-01 00:00:00"),
        (TIMESTAMPTZ, "294277-01-01 00:00:00+00"),
        (TIMESTAMP, "2023-08-01 00:00:00+00"),
        (TIMESTAMP, "2023-08-01"),
        (DATE, "2023-08-01 00:00:00"),
        (DATE, "2023-02-29"),
        (DATE, "5874898-01-01"),
        (BIGINT, "9223372036854775808"),
        (BIGINT, "1e3"),
        (BIGINT, "٣"),
        (UUID, "0189"),
    ],
)
def test_other_output_is_no_ordinal(time_type: TimeType, text: str) -> None:
    with pytest.raises(BoundError):
        time_type.ordinal(text)


# --- bounds -----------------------------------------------------------------------------------------------------------

ACCEPTED = {
    TIMESTAMPTZ: [
        "2023-08-01T00:00:00Z",
        "2023-08-01t00:00:00z",
        "2023-08-01 00:00Z",
        "2023-08-01 00:00 UTC",
        "2023-08-01T00:00:00.123456+02",
        "2023-08-01 00:00:00+02:30",
        "2023-08-01 00:00:00 -02:30:15",
        "2023-08-01 00:00:00+0230",
        "2023-08-01 00:00:00-00",
        "2023-08-01 00:00-08",
        "2023-08-01 00:00:00+15:59:59",
        "2023-08-01 00:00 Europe/Berlin",
        "2023-08-01T00:00:00 America/Argentina/Buenos_Aires",
        "2023-08-01T00:00 America/Port-au-Prince",
        "2023-08-01T00:00:00 Etc/GMT+3",
        "2023-08-01T00:00:00Etc/GMT-14",
        "2023-08-01Z",
        "2023-08-01 UTC",
        "2023-08-01+02",
        "2023-08-01 -02",
        "2023-08-01 Europe/Berlin",
        "0044-03-15 12:00:00+00 BC",
        "0044-03-15T12:00:00 Europe/Rome BC",
        "0044-03-15Z bc",
        "12345-06-07T00:00Z",
        "294276-12-31T23:59:59.999999Z",
        "294277-01-01 00:00:00+01",  # one hour before the end
        "4714-11-24 00:00Z BC",
        "4714-11-23 23:00:00-01 BC",  # the first hour
        "2024-02-29T00:00Z",
        "0001-02-29 00:00Z BC",
    ],
    TIMESTAMP: [
        "2023-08-01",
        "2023-08-01 00:00",
        "2023-08-01T23:59:59.999999",
        "0044-03-15 12:00:00 BC",
        "0044-03-15 BC",
        "4714-11-24 BC",
        "294276-12-31 23:59:59.999999",
    ],
    DATE: ["2023-08-01", "0044-03-15 BC", "5874897-12-31", "4714-11-24 BC", "2000-02-29"],
    SMALLINT: ["0", "+5", "-32768", "32767", "007"],
    INTEGER: ["-2147483648", "2147483647", "-0"],
    BIGINT: ["-9223372036854775808", "9223372036854775807", "0" * 5000 + "7"],
    UUID: ["01890a5d-ac96-774b-bcce-b302099a8057", "ffffffff-ffff-7fff-bfff-ffffffffffff"],
}


@pytest.mark.parametrize(("time_type", "text"), [(t, text) for t, texts in ACCEPTED.items() for text in texts])
def test_accepted_as_they_are(time_type: TimeType, text: str) -> None:
    assert time_type.check_bound(f"  {text}\t") == text


@pytest.mark.parametrize(
    ("time_type", "text", "sent"),
    [
        (TIMESTAMPTZ, "2023-08-01 00:00:00.1234560000Z", "2023-08-01 00:00:00.123456Z"),
        (TIMESTAMPTZ, "0044-03-15 00:00:00.0000000+01 BC", "0044-03-15 00:00:00.000000+01 BC"),
        (TIMESTAMP, "0044-03-15 00:00:00.5000000 BC", "0044-03-15 00:00:00.500000 BC"),
        (UUID, "01890A5D-AC96-774B-BCCE-B302099A8057", "01890a5d-ac96-774b-bcce-b302099a8057"),
        (UUID, "1970-01-01T00:00:00Z", "00000000-0000-7000-8000-000000000000"),
        (UUID, "2023-08-01T02:00:00.001+02", "0189ae64-f801-7000-8000-000000000000"),
        (UUID, "10889-08-02T05:31:50.655000Z", "ffffffff-ffff-7000-8000-000000000000"),
    ],
)
def test_accepted_in_another_form(time_type: TimeType, text: str, sent: str) -> None:
    assert time_type.check_bound(text) == sent
    assert time_type.check_bound(sent) == sent


REFUSED = [
    (TIMESTAMPTZ, "2023-08-01", "no time zone (write 2023-08-01T00:00:00Z)"),
    (TIMESTAMPTZ, "2023-08-01 10:30", "no time zone (write 2023-08-01T10:30Z)"),
    (TIMESTAMPTZ, "0044-03-15 10:30:00.5 BC", "no time zone (write 0044-03-15T10:30:00.5Z BC)"),
    (TIMESTAMPTZ, "0044-03-15 BC", "no time zone (write 0044-03-15T00:00:00Z BC)"),
    (TIMESTAMPTZ, "2023-08-01-02", "negative offset"),
    (TIMESTAMPTZ, "2023-08-01 00:00 CET", "abbreviation CET is ambiguous"),
    (TIMESTAMPTZ, "2023-08-01 00:00EST", "abbreviation EST is ambiguous"),
    (TIMESTAMPTZ, "2023-08-01 IST", "abbreviation IST is ambiguous"),
    (TIMESTAMPTZ, "2023-08-01 00:00 Europe/Berln+3", "Europe/Berln+3 is not a time zone"),
    (TIMESTAMPTZ, "2023-08-01 00:00 Etc/GMT+13", "is not a time zone"),
    (TIMESTAMPTZ, "2023-08-01 00:00 EST5EDT", "is not a time zone"),
    (TIMESTAMPTZ, "2023-08-01 00:00+2", "is not a time zone"),
    (TIMESTAMPTZ, "2023-08-01 00:00+023015", "is not a time zone"),
    (TIMESTAMPTZ, "2023-08-01 00:00+16", "out of range"),
    (TIMESTAMPTZ, "2023-08-01 00:00+02:60", "out of range"),
    (TIMESTAMPTZ, "2023-08-01 00:00:00.1234567Z", "finer than a microsecond"),
    (TIMESTAMPTZ, "2023-02-30T00:00Z", "no day 30"),
    (TIMESTAMPTZ, "1900-02-29T00:00Z", "no day 29"),
    (TIMESTAMPTZ, "0004-02-29T00:00Z BC", "no day 29"),
    (TIMESTAMPTZ, "2023-13-01T00:00Z", "no month 13"),
    (TIMESTAMPTZ, "2023-00-01T00:00Z", "no month 00"),
    (TIMESTAMPTZ, "2023-01-00T00:00Z", "no day 00"),
    (TIMESTAMPTZ, "0000-01-01T00:00Z", "no year 0"),
    (TIMESTAMPTZ, "2023-08-01T25:00Z", "no hour 25"),
    (TIMESTAMPTZ, "2023-08-01T24:00Z", "next day"),
    (TIMESTAMPTZ, "2023-08-01T00:60Z", "no minute 60"),
    (TIMESTAMPTZ, "2023-08-01T23:59:60Z", "no second 60"),
    (TIMESTAMPTZ, "294277-01-01T00:00Z", "out of range (4714-11-24 00:00:00+00 BC to 294276-12-31 23:59:59.999999+00)"),
    (TIMESTAMPTZ, "294276-12-31T23:59:59-01", "out of range"),
    (TIMESTAMPTZ, "4714-11-24 00:00:00+01 BC", "out of range"),
    (TIMESTAMPTZ, "294278-01-01 00:00 Europe/Berlin", "out of range"),
    (TIMESTAMPTZ, "1690848000", "does not read YYYY-MM-DD"),
    (TIMESTAMPTZ, "01/08/2023 00:00Z", "does not read YYYY-MM-DD"),
    (TIMESTAMPTZ, "2023-8-1T00:00Z", "does not read YYYY-MM-DD"),
    (TIMESTAMPTZ, "2023-08-01T12Z", "does not read YYYY-MM-DD"),
    (TIMESTAMPTZ, "2023-08-01T00:00:00,5Z", "does not read YYYY-MM-DD"),
    (TIMESTAMPTZ, "٢٠٢٣-08-01T00:00Z", "does not read YYYY-MM-DD"),
    (TIMESTAMPTZ, "2023-08-01T00:00Z'; drop table x; --", "does not read YYYY-MM-DD"),
    (TIMESTAMPTZ, "2023-08-01T00:00 \u212a/a", "does not read YYYY-MM-DD"),  # the Kelvin sign is no K
    (TIMESTAMPTZ, "", "it is empty"),
    (TIMESTAMPTZ, "  ", "it is empty"),
    (TIMESTAMPTZ, "Infinity", "completion point"),
    (TIMESTAMPTZ, "-infinity", "only a start can be open"),
    (TIMESTAMPTZ, "now", "another moment each time"),
    (TIMESTAMPTZ, "today", "another moment each time"),
    (TIMESTAMPTZ, "epoch", "write 1970-01-01T00:00:00Z"),
    (
        TIMESTAMP,
        "2023-08-01 00:00-08",
        "time zone (-08), which the server would silently drop (write 2023-08-01 00:00)",
    ),
    (TIMESTAMP, "2023-08-01Z", "time zone (Z), which the server would silently drop (write 2023-08-01)"),
    (TIMESTAMP, "2023-08-01 00:00 Europe/Berlin", "silently drop"),
    (TIMESTAMP, "2023-08-01 00:00:00.0000001", "finer than a microsecond"),
    (TIMESTAMP, "294277-01-01", "out of range"),
    (TIMESTAMP, "epoch", "write 1970-01-01T00:00:00)"),
    (DATE, "2023-08-01T00:00:00", "time of day"),
    (DATE, "2023-08-01Z", "time zone"),
    (DATE, "2023-02-29", "no day 29"),
    (DATE, "5874898-01-01", "out of range"),
    (DATE, "4714-11-23 BC", "out of range"),
    (DATE, "20230801", "does not read YYYY-MM-DD"),
    (SMALLINT, "32768", "out of range (-32768 to 32767)"),
    (SMALLINT, "-infinity", "only a start can be open"),
    (INTEGER, "1,000", "thousands separators"),
    (INTEGER, "1_000", "thousands separators"),
    (INTEGER, "1 000", "thousands separators"),
    (INTEGER, "1.5", "decimal point"),
    (INTEGER, "1.000", "decimal point or a thousands separator"),
    (INTEGER, "1e3", "not a whole number"),
    (INTEGER, "0x10", "not a whole number"),
    (INTEGER, "--1", "not a whole number"),
    (INTEGER, "2023-08-01", "not a whole number"),
    (INTEGER, "", "it is empty"),
    (BIGINT, "9223372036854775808", "out of range"),
    (BIGINT, "9" * 5000, "out of range"),
    (BIGINT, "epoch", "write 0"),
    (UUID, "01890a5dac96774bbcceb302099a8057", "neither a UUID"),
    (UUID, "{01890a5d-ac96-774b-bcce-b302099a8057}", "neither a UUID"),
    (UUID, "7", "neither a UUID"),
    (UUID, "01890a5d-ac96-474b-bcce-b302099a8057", "not a version 7 UUID"),
    (UUID, "01890a5d-ac96-774b-3cce-b302099a8057", "not a version 7 UUID"),
    (UUID, "2023-08-01", "no time zone (write 2023-08-01T00:00:00Z)"),
    (UUID, "2023-08-01T00:00:00.0005Z", "finer than a millisecond"),
    (UUID, "2023-08-01T00:00 Europe/Berlin", "write Z or an offset"),
    (UUID, "1969-12-31T23:59:59.999Z", "out of range"),
    (UUID, "10889-08-02T05:31:50.656Z", "out of range"),
    (UUID, "now", "another moment each time"),
]


@pytest.mark.parametrize(("time_type", "text", "reason"), REFUSED)
def test_refused_with_a_reason(time_type: TimeType, text: str, reason: str) -> None:
    with pytest.raises(BoundError) as caught:
        time_type.check_bound(text)
    assert reason in caught.value.reason
    assert caught.value.text == text.strip()
    assert caught.value.type_name == time_type.sql_name


def test_the_error_is_a_sentence_and_survives_pickling() -> None:
    with pytest.raises(BoundError) as caught:
        TIMESTAMPTZ.check_bound("2023-08-01")
    sentence = "'2023-08-01' is not a bound of type timestamptz: it has no time zone (write 2023-08-01T00:00:00Z)"
    assert str(caught.value) == sentence
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.reason) == (sentence, caught.value.reason)


@given(ordinals_of(TIMESTAMP))
def test_the_suggestion_for_a_missing_zone_is_a_bound(ordinal: int) -> None:
    with pytest.raises(BoundError) as caught:
        TIMESTAMPTZ.check_bound(TIMESTAMP.text(ordinal))
    suggestion = caught.value.reason.partition("(write ")[2].removesuffix(")")
    assert TIMESTAMPTZ.check_bound(suggestion) == suggestion
    assert suggestion.replace("T", " ").replace("Z", "+00") == TIMESTAMPTZ.text(ordinal)


@given(st.text(), st.sampled_from(list(BY_NAME.values())))
def test_no_text_breaks_the_checks(text: str, time_type: TimeType) -> None:
    for function in (time_type.check_bound, time_type.ordinal, time_type.step):
        try:
            function(text)
        except BoundError as error:
            assert error.reason


@given(st.integers(0, 2**48 - 1))
def test_the_lowest_uuid_of_a_millisecond_is_a_bound_between_two_milliseconds(ms: int) -> None:
    assert uuid_of_milliseconds(ms) == UUID.step("1 ms") * ms
    text = UUID.text(uuid_of_milliseconds(ms))
    assert int(text.replace("-", "")[:12], 16) == ms
    assert UUID.check_bound(TIMESTAMPTZ.text(ms * 1000)) == text
