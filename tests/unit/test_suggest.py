"""Where the completion point may lie: no T where a row that lies above it may be lost."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from hyperfill.cli.bars import draw, lines
from hyperfill.errors import UsageError
from hyperfill.plot import check
from hyperfill.suggest import (
    MOST_BUCKETS,
    Bucket,
    from_microseconds,
    judge,
    make_buckets,
    microseconds,
    step_text,
    usual_step,
)
from hyperfill.suggest_words import Circumstances, label, reasons, refusal, short_label
from hyperfill.timeline import TIME_TYPES, Kind

INTEGER = TIME_TYPES["bigint"]
TYPES = list(TIME_TYPES.values())

counts = st.sampled_from([0, 0, 1, 5, 9])


@st.composite
def axes(draw_one: st.DrawFn) -> list[Bucket]:
    """Buckets of length 10 from 0 on: mostly equal ones."""
    made = []
    for i in range(draw_one(st.integers(1, 40))):
        source = draw_one(counts)
        target = draw_one(st.one_of(st.just(source), st.just(source), st.just(source), counts))
        values = draw_one(st.sampled_from([True, True, True, False])) if source == target and source else None
        made.append(Bucket(10 * i, 10 * i + 10, source, target, values))
    return made


latenesses = st.one_of(st.none(), st.integers(1, 300))


def of(pairs: list[tuple[int, int]]) -> list[Bucket]:
    return [Bucket(10 * i, 10 * i + 10, *pair) for i, pair in enumerate(pairs)]


def reference(buckets: list[Bucket]) -> int:
    return buckets[-1].upper - 3


@settings(max_examples=500)
@given(axes(), latenesses)
def test_what_holds_for_every_suggestion(buckets: list[Bucket], lateness: int | None) -> None:
    now = reference(buckets)
    verdict = judge(buckets, now, lateness)
    assert (verdict.end is None) == (verdict.trouble is not None) == (verdict.consistent is None)
    if verdict.end is None or verdict.consistent is None or verdict.consistent.lower is None:
        return
    # T is an edge strictly inside.
    assert verdict.consistent.lower < verdict.end < verdict.consistent.upper
    assert verdict.end in {b.lower for b in buckets}
    inside = [b for b in buckets if verdict.consistent.covers(b.span)]
    assert all(b.equal for b in inside)
    assert sum(b.occupied for b in inside) >= 2
    assert inside[0].occupied and inside[-1].occupied
    # The present is never part of it, nor what may come late.
    assert verdict.consistent.upper <= now - (lateness or 0)
    # Above T a difference is only in the zone of late data.
    above = [i for i, b in enumerate(buckets) if b.lower >= verdict.end and not b.equal]
    assert all(i >= verdict.late for i in above)
    if lateness is not None:
        assert all(buckets[i].upper > now - lateness for i in range(verdict.late, len(buckets)))
        assert verdict.end == inside[-1].lower
    else:
        settled = [b for b in buckets if b.upper <= now and b.occupied and b.lower >= verdict.consistent.upper]
        assert sum(not b.equal for b in settled) * 4 <= sum(b.occupied for b in buckets)
    # The target is written to, up to the end.
    trailing = [b for b in buckets if b.lower > max(x.lower for x in buckets if x.target)]
    assert sum(b.source > 0 for b in trailing) < 3
    # The run is the last one: what follows it, up to the zone, is empty.
    assert not any(b.occupied for b in buckets[verdict.run.stop : verdict.late])
    before = buckets[: verdict.run.start]
    assert not before or not verdict.missing or not buckets[max(verdict.missing)].equal


@settings(max_examples=200)
@given(axes(), latenesses, st.data())
def test_a_row_that_is_lost_moves_the_range_or_forbids_it(
    buckets: list[Bucket], lateness: int | None, data: st.DataObject
) -> None:
    """Take a row of the consistency range away from the target: that bucket is no part of it any more."""
    verdict = judge(buckets, reference(buckets), lateness)
    if verdict.end is None:
        return
    number = data.draw(st.sampled_from([i for i in verdict.run if buckets[i].occupied]))
    one = buckets[number]
    for worse in (
        Bucket(one.lower, one.upper, one.source, one.target - 1),
        Bucket(one.lower, one.upper, one.source, one.target, False),
    ):
        changed = [*buckets[:number], worse, *buckets[number + 1 :]]
        again = judge(changed, reference(buckets), lateness)
        if again.end is not None and again.consistent is not None:
            assert not again.consistent.overlaps(worse.span)
            # Either its rows are copied from the source, or it counts as late data, which is said.
            assert again.end >= worse.upper or again.late <= number


@settings(max_examples=200)
@given(axes(), latenesses)
def test_every_verdict_can_be_said_and_drawn(buckets: list[Bucket], lateness: int | None) -> None:
    now = reference(buckets)
    verdict = judge(buckets, now, lateness)
    circumstances = Circumstances(INTEGER, 0, False, 10, now)
    said = reasons(verdict, circumstances)
    assert said and not any(text.endswith(".") or "None" in text for text in said)
    if verdict.trouble is not None:
        assert all(refusal(verdict, circumstances))
    assert any("T = " in text for text in said) == (verdict.end is not None)
    assert ("only --lateness makes sure" in " ".join(said)) == (lateness is None and verdict.zone_known)
    zones = [verdict.zone(i) for i in range(len(buckets))]
    assert zones.count("consistent") == (len(verdict.run) if verdict.end is not None else 0)
    drawn = lines(verdict)
    # All buckets, in order, and none that differs together with one that does not.
    assert [(a.stop, b.first) for a, b in pairwise(drawn) if a.stop != b.first] == []
    assert (drawn[0].first, drawn[-1].stop) == (0, len(buckets))
    for line in drawn:
        assert len({(buckets[i].equal, buckets[i].difference > 0, zones[i]) for i in range(line.first, line.stop)}) == 1
        assert verdict.end is None or all(buckets[i].lower != verdict.end for i in range(line.first + 1, line.stop))
    console = Console(width=100, record=True, quiet=True)
    draw(console, verdict, INTEGER, 10)


def test_many_buckets_are_put_together_but_no_difference_is_hidden() -> None:
    buckets = of([(5, 5)] * 900 + [(5, 4)] + [(5, 5)] * 1098)
    verdict = judge(buckets, reference(buckets), None)
    drawn = lines(verdict)
    assert len(drawn) < 70
    assert [(d.source, d.target) for d in drawn if d.source != d.target] == [(5, 4)]


PATTERNS = {
    # name: pairs of (source, target), lateness, T, trouble
    "three ranges": ([(9, 3)] * 5 + [(9, 9)] * 10 + [(9, 8), (9, 6), (4, 1)], None, 100, None),
    "nothing is late": ([(9, 9)] * 10, None, 50, None),
    "lateness": ([(9, 3)] * 5 + [(9, 9)] * 12, 30, 120, None),
    "the last edge before lateness": ([(9, 9)] * 10, 1, 80, None),
    "differs just before": ([(9, 9)] * 10 + [(9, 8)] + [(9, 9)] * 4, 30, None, "differs"),
    "everything may be late": ([(9, 9)] * 10, 200, None, "late"),
    "only the present": ([(9, 9)], None, None, "late"),
    "stopped": ([(9, 9)] * 20 + [(9, 4)] + [(9, 0)] * 3, None, None, "stopped"),
    "stopped, and lateness": ([(9, 9)] * 20 + [(9, 4)] + [(9, 0)] * 3, 50, 170, None),
    "not stopped for long": ([(9, 9)] * 20 + [(9, 4)] + [(9, 0)] * 2, None, 100, None),
    "stopped, with pauses": ([(9, 9)] * 20 + [(9, 0), (0, 0), (9, 0), (0, 0), (1, 0)], None, None, "stopped"),
    "one writer stopped": ([(9, 9)] * 40 + [(9, 7)] + [(9, 5)] * 6, None, 200, None),
    "late data fades": ([(9, 9)] * 40 + [(9, 8), (9, 8), (9, 6), (9, 3), (9, 2)], None, 200, None),
    "too much is late": ([(9, 9)] * 10 + [(9, 8)] * 4 + [(9, 8)], None, None, "long"),
    "never equal": ([(9, 3)] * 20, None, None, "long"),
    "one equal bucket": ([(9, 3)] * 10 + [(9, 9)] + [(3, 3)], None, None, "few"),
    "two equal buckets": ([(9, 3)] * 10 + [(9, 9)] * 2 + [(3, 3)], None, 110, None),
    "empty ones are no evidence": ([(9, 3)] * 3 + [(0, 0)] * 9 + [(9, 9)] + [(0, 0)] * 9 + [(3, 3)], None, None, "few"),
    "empty ones do not break it": ([(9, 3)] * 3 + [(9, 9), (0, 0), (0, 0), (9, 9), (9, 9), (3, 3)], None, 60, None),
    "an outage": ([(9, 9)] * 20 + [(9, 0)] * 5 + [(9, 9)] * 9, None, 290, None),
    "a writer that writes seldom": (([(9, 9)] * 13 + [(9, 8)]) * 3 + [(9, 9)] * 11 + [(1, 1)], 10, 510, None),
    "target alone": ([(0, 9)] * 20, None, None, "long"),
    "a late bucket before empty ones": ([(9, 9)] * 9 + [(9, 8), (0, 0), (0, 0), (1, 1)], None, 50, None),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(name: str) -> None:
    pairs, lateness, end, trouble = PATTERNS[name]
    buckets = of(pairs)
    verdict = judge(buckets, reference(buckets), lateness)
    assert (verdict.end, verdict.trouble) == (end, trouble)


DOUBTS: dict[str, tuple[str, ...]] = {
    "stopped, and lateness": ("silent",),
    "one writer stopped": ("steady",),
    "late data fades": (),
    "not stopped for long": (),
    "stopped": (),
    "a writer that writes seldom": ("recurring",),
    "an outage": ("recurring",),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_doubts(name: str) -> None:
    pairs, lateness, _, _ = PATTERNS[name]
    buckets = of(pairs)
    assert judge(buckets, reference(buckets), lateness).doubts == DOUBTS[name]


def test_zones_are_named() -> None:
    buckets = of([(9, 0)] * 2 + [(9, 3)] + [(9, 9)] + [(9, 3)] + [(0, 0)] + [(9, 9)] * 9 + [(0, 0), (9, 8), (1, 0)])
    verdict = judge(buckets, reference(buckets), None)
    assert "".join(verdict.zone(i)[0] for i in range(len(buckets))) == "bb" + "mmm" + "m" + "c" * 9 + "e" + "ll"
    assert verdict.missing == [2, 4]


def test_present_and_lateness_end_the_range_exactly() -> None:
    buckets = of([(9, 9)] * 10)
    for now, late in ((89, 8), (90, 9), (99, 9), (81, 8), (80, 8), (79, 7)):
        assert judge(buckets, now, None).late == late, now
        assert judge(buckets, now + 25, 25).late == late, now


ordinals = {t: st.integers(t.minimum, t.maximum) for t in TYPES}


@settings(max_examples=200)
@given(st.data())
def test_buckets_are_an_exact_partition(data: st.DataObject) -> None:
    time_type = data.draw(st.sampled_from(TYPES))
    since, now = sorted(data.draw(st.tuples(ordinals[time_type], ordinals[time_type])))
    step = usual_step(time_type, since, now)
    pieces = make_buckets(time_type, since, now, step)
    if not pieces:
        assert since == time_type.maximum
        return
    assert len(pieces) <= 122
    assert pieces[0].lower == since
    assert all(a.upper == b.lower for a, b in pairwise(pieces))
    assert all(p.lower is not None and p.lower % step == 0 for p in pieces[1:])
    assert pieces[-1].contains(now) or now == time_type.maximum == pieces[-1].upper
    # Every edge is something that --end takes, and means the same there.
    for piece in pieces:
        text = time_type.text(piece.upper)
        assert time_type.ordinal(time_type.text(piece.upper)) == piece.upper
        checked = time_type.check_bound(text)
        assert int(checked) == piece.upper if time_type.kind is Kind.INTEGER else checked == text
        assert label(time_type, piece.upper) and short_label(time_type, piece.upper, step)
    # And its length something that --bucket takes.
    if step <= time_type.maximum - time_type.minimum:
        assert time_type.step(step_text(time_type, step)) == step


@settings(max_examples=200)
@given(st.sampled_from(TYPES), st.integers(0, 10**15))
def test_usual_lengths_give_a_readable_number_of_buckets(time_type: object, length: int) -> None:
    assert time_type in TYPES
    for one in (t for t in TYPES if t is time_type):
        now = min(one.maximum, length << 74 if one.kind is Kind.UUID else length)
        number = len(make_buckets(one, 0, now, usual_step(one, 0, now)))
        smallest = {Kind.DATE: 1, Kind.UUID: 1 << 74}.get(one.kind, 1)
        assert number <= 121
        assert number >= 30 or usual_step(one, 0, now) == smallest


def test_too_many_buckets() -> None:
    assert len(make_buckets(INTEGER, 5, 19995, 10)) == MOST_BUCKETS
    with pytest.raises(ValueError, match="2001"):
        make_buckets(INTEGER, 5, 20000, 10)


@pytest.mark.parametrize(
    ("kind", "step", "text", "at", "short"),
    [
        (
            "timestamp with time zone",
            90 * 60 * 10**6,
            "1 hour 30 minutes",
            "2024-03-01 12:30:00+00",
            "2024-03-01 12:30",
        ),
        ("timestamp with time zone", 86400 * 10**6, "1 day", "2024-03-01 12:30:00+00", "2024-03-01"),
        ("timestamp with time zone", 10**6, "1 second", "2024-03-01 12:30:05.25+00", "2024-03-01 12:30:05"),
        ("timestamp with time zone", 500, "500 us", "2024-03-01 12:30:05.25+00", "2024-03-01 12:30:05.25"),
        ("timestamp with time zone", 60 * 10**6, "1 minute", "0044-03-15 12:30:00+00 BC", "0044-03-15 12:30 BC"),
        ("timestamp with time zone", 7 * 86400 * 10**6, "7 days", "0044-03-15 00:00:00+00 BC", "0044-03-15 BC"),
        ("timestamp without time zone", 200_000, "200 ms", "2024-03-01 12:30:05.2", "2024-03-01 12:30:05.2"),
        ("date", 7, "7 days", "2024-03-01", "2024-03-01"),
        ("date", 1, "1 day", "0044-03-15 BC", "0044-03-15 BC"),
        ("bigint", 5000, "5000", "-17", "-17"),
        ("uuid", 60_000 << 74, "1 minute", "018df74f-8400-7000-8000-000000000000", "2024-03-01 00:00"),
    ],
)
def test_texts(kind: str, step: int, text: str, at: str, short: str) -> None:
    time_type = TIME_TYPES[kind]
    assert step_text(time_type, step) == text
    assert short_label(time_type, time_type.ordinal(at), step) == short


@pytest.mark.parametrize("time_type", TYPES, ids=lambda t: t.sql_name)
def test_moments_lie_where_they_belong(time_type: object) -> None:
    [one] = [t for t in TYPES if t is time_type]
    moment = 1_709_251_200_123_456  # 2024-03-01 00:00:00.123456
    at = from_microseconds(one, moment)
    if one.kind is Kind.INTEGER:
        assert at is None
        return
    assert at is not None
    assert microseconds(one, at) <= moment < microseconds(one, at) + 86_400_000_000
    assert label(one, at).startswith("2024-03-01")


def test_a_picture_needs_an_ending_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name in ("a.pdf", "a", ".png", "no/a.png", "folder.png"):
        with pytest.raises(UsageError):
            check(tmp_path / name)
    check(tmp_path / "a.PNG")
    check(tmp_path / "a.svg")
