"""Where the completion point may lie: what counts and hashes of both sides, bucket by bucket, say about dual-writing.

Writers begin one after another (the range of missing writes), then both sides are equal (the consistency range), then
comes the zone of late-arriving data. T belongs into the consistency range: rows below it are copied from the source,
rows from it on come from dual-writing alone, and one of those that the target lacks is lost. In doubt there is no T.
Pure: ordinals in, ordinals out. `suggest_words` puts it into sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

from hyperfill import durations
from hyperfill.timeline import Kind, Span, TimeType, cut, grid_floor, milliseconds_of_uuid, uuid_of_milliseconds

MOST_BUCKETS = 2000
_USUAL_BUCKETS = 120  # a round length gives from a third of it upwards
_SILENT = 3  # buckets in which only the source has rows, up to the last: dual-writing has stopped
_LONGEST_ZONE = 4  # an inferred zone of late data is at most a fourth of what was looked at
_STEADY = 4  # differing buckets from which on it can be told whether the difference fades with age

Zone = Literal["before", "missing", "consistent", "empty", "late", "undecided"]
Trouble = Literal["late", "differs", "stopped", "long", "few"]
Doubt = Literal["silent", "steady", "recurring"]
_NO_ZONE = ("stopped", "long")  # what looked like late data is none: rows are missing there


@dataclass(frozen=True)
class Bucket:
    """A stretch of the axis and how many rows each side has in it.

    `same_values`: whether their hashes are equal too; None as long as nobody has looked.
    """

    lower: int
    upper: int
    source: int
    target: int
    same_values: bool | None = None

    @property
    def span(self) -> Span:
        return Span(self.lower, self.upper)

    @property
    def equal(self) -> bool:
        """As far as is known. Two sides without a row are equal, and no evidence of anything."""
        return self.source == self.target and self.same_values is not False

    @property
    def occupied(self) -> bool:
        return self.source > 0 or self.target > 0

    @property
    def difference(self) -> int:
        """Rows that the target has more than the source, negative where it lacks some."""
        return self.target - self.source

    @property
    def share(self) -> float:
        """How much of it differs, 0 to 1; all of it where only values do: nobody knows how many."""
        if self.equal:
            return 0.0
        return abs(self.difference) / max(self.source, self.target) if self.difference else 1.0


@dataclass(frozen=True)
class Verdict:
    """What follows from buckets. Numbers of buckets are indices; ranges of them are half-open."""

    buckets: tuple[Bucket, ...]
    run: range  # the last unbroken run of equal buckets before the zone, trimmed to those with rows
    late: int  # the first bucket of the zone of late data
    certain: int  # from here on buckets are in the zone whatever they hold; between both it was inferred
    lateness: int | None
    end: int | None  # T, an ordinal
    trouble: Trouble | None  # why there is none
    at: int | None = None  # the bucket that the trouble is about, or from which on
    doubts: tuple[Doubt, ...] = ()  # what does not look like late data, or like the end of what was missing

    @property
    def consistent(self) -> Span | None:
        """The consistency range, where there is one."""
        if self.trouble is not None:
            return None
        return Span(self.buckets[self.run.start].lower, self.buckets[self.run.stop - 1].upper)

    @property
    def begun(self) -> int:
        """The first bucket in which the target has a row: before it nobody wrote there."""
        return _begun(self.buckets)

    @property
    def zone_known(self) -> bool:
        """Whether there is a zone of late data from `late` on; otherwise rows are missing there."""
        return self.trouble not in _NO_ZONE

    @property
    def missing(self) -> list[int]:
        """Buckets that differ, from the target's first row up to the run."""
        return [i for i in range(self.begun, self.run.start) if not self.buckets[i].equal]

    @property
    def unread(self) -> list[Bucket]:
        """Buckets that the verdict relies on and whose values have not been compared: neighbours, in order."""
        return [self.buckets[i] for i in self.run if self.buckets[i].same_values is None]

    def zone(self, number: int) -> Zone:
        """What a bucket is part of."""
        bucket = self.buckets[number]
        if number >= self.late and self.zone_known:
            return "late"
        if number < self.begun or self.run.stop <= number < self.late:
            return "before" if bucket.occupied else "empty"
        if self.trouble is not None:
            return "undecided" if bucket.equal else "missing"
        return "consistent" if number in self.run else "missing"


def judge(buckets: Sequence[Bucket], reference: int, lateness: int | None) -> Verdict:
    """Find the consistency range and T.

    `reference` is the present on the axis: its bucket was still being written while it was read, and is never part
    of the range. `lateness`: the longest that a row may come late, in ordinals; None: the zone of late data is guessed
    from where the sides differ.
    """
    every = tuple(buckets)
    limit = reference - (lateness or 0)
    certain = next((i for i, b in enumerate(every) if b.upper > limit), len(every))
    late = certain if lateness is not None else _inferred(every, certain)
    run = _last_run(every, late)
    trouble, at = _trouble(every, run, late, certain, lateness)
    end = None
    if trouble is None:
        inside = [every[i].lower for i in run][1:]
        # Known lateness: as late as can be, for a writer that was missed until now is copied from the source below T.
        # Unknown: as far from late data as from the writers' starts.
        end = inside[-1] if lateness is not None else inside[len(inside) // 2]
    doubts = tuple(_doubts(every, run, late, certain, lateness)) if trouble is None else ()
    return Verdict(every, run, late, certain, lateness, end, trouble, at, doubts)


def _begun(buckets: Sequence[Bucket]) -> int:
    return next((i for i, b in enumerate(buckets) if b.target), len(buckets))


def _inferred(buckets: Sequence[Bucket], certain: int) -> int:
    """Where trailing buckets begin to differ; empty ones between them say nothing."""
    late = certain
    for i in range(certain - 1, -1, -1):
        if buckets[i].equal and buckets[i].occupied:
            break
        if not buckets[i].equal:
            late = i
    return late


def _last_run(buckets: Sequence[Bucket], late: int) -> range:
    """The last equal buckets before `late`; empty ones neither break it nor are they at its ends."""
    last = late
    while last > 0 and not buckets[last - 1].occupied:
        last -= 1
    first = last
    for i in range(last - 1, -1, -1):
        if not buckets[i].equal:
            break
        if buckets[i].occupied:
            first = i
    return range(first, last)


def _silent(buckets: Sequence[Bucket], late: int) -> int | None:
    """From where on, in the zone, only the source has rows: None where that is too short to mean anything."""
    first, found = None, 0
    for i in range(len(buckets) - 1, late - 1, -1):
        if buckets[i].target:
            break
        if buckets[i].source:
            first, found = i, found + 1
    return first if found >= _SILENT else None


def _trouble(
    buckets: Sequence[Bucket], run: range, late: int, certain: int, lateness: int | None
) -> tuple[Trouble | None, int | None]:
    """The first reason why there is no consistency range, and the bucket that it is about."""
    occupied = [i for i, b in enumerate(buckets) if b.occupied]
    if lateness is not None:
        before = [i for i in occupied if i < late]
        if not before:
            return "late", late
        if not buckets[before[-1]].equal:
            return "differs", before[-1]
    elif not any(i < certain for i in occupied):
        return "late", certain
    if lateness is None:
        silent = _silent(buckets, late)
        if silent is not None:
            # A row that comes late comes late to both sides: nothing but an end of dual-writing looks like that.
            return "stopped", silent
        zone = sum(buckets[i].occupied for i in range(late, certain))
        if zone * _LONGEST_ZONE > sum(i >= _begun(buckets) for i in occupied):
            return "long", late
    if sum(buckets[i].occupied for i in run) < 2:
        return "few", run.start
    return None, None


def _doubts(buckets: Sequence[Bucket], run: range, late: int, certain: int, lateness: int | None) -> Iterator[Doubt]:
    """What looks otherwise than writers that began and data that is late, though it may be that."""
    if longest_before(buckets, run) >= len(run):
        yield "recurring"
    if lateness is not None:
        if _silent(buckets, late) is not None:
            yield "silent"
        return
    zone = [i for i in range(late, certain) if buckets[i].occupied]
    if len(zone) < _STEADY:
        return
    # Late data fades with age. A difference that began at once and stays may be a writer that writes no more.
    half = len(zone) // 2
    older, newer = _mean(buckets[i].share for i in zone[:half]), _mean(buckets[i].share for i in zone[half:])
    if older * 2 >= newer:
        yield "steady"


def longest_before(buckets: Sequence[Bucket], run: range) -> int:
    """How many buckets the sides were equal for at most, with rows in them, before they differed again."""
    longest = length = 0
    for bucket in buckets[_begun(buckets) : run.start]:
        if not bucket.equal:
            longest, length = max(longest, length), 0
        elif bucket.occupied or length:
            length += 1
    return longest


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return sum(every) / len(every)


def make_buckets(time_type: TimeType, since: int, reference: int, step: int) -> list[Span]:
    """Pieces from `since` up to and with the one that holds `reference`, cut at multiples of `step`.

    ValueError with the number of them if there are more than MOST_BUCKETS.
    """
    first, last = grid_floor(since, step), grid_floor(reference, step)
    number = (last - first) // step + 1
    if number > MOST_BUCKETS:
        raise ValueError(number)
    # The last value of a type has no end that could be written.
    whole = Span(since, max(since, min(last + step, time_type.maximum)))
    return cut(whole, range(first + step, last + step, step))


def usual_step(time_type: TimeType, since: int, reference: int, most: int = _USUAL_BUCKETS) -> int:
    """A round length, in ordinals, of which at most about `most` lead from `since` to `reference`."""
    length = reference - since + 1
    return next(step for step in _round(time_type.kind) if step * most >= length)


def _round(kind: Kind) -> Iterator[int]:
    """Lengths that people read easily, ascending without an end."""
    if kind is Kind.INTEGER:
        yield from _decimal()
    elif kind is Kind.DATE:
        yield from _days()
    elif kind is Kind.UUID:
        for microseconds in _moments():
            if microseconds >= durations.MILLISECOND:
                yield uuid_of_milliseconds(microseconds // durations.MILLISECOND)
    else:
        yield from _moments()


def _decimal() -> Iterator[int]:
    for power in count():
        yield from (digit * 10**power for digit in (1, 2, 5))


def _days() -> Iterator[int]:
    yield from (1, 2)
    for power in count():
        yield 7 * 2**power


def _moments() -> Iterator[int]:
    for step in _decimal():
        if step >= durations.SECOND:
            break
        yield step
    for unit in (durations.SECOND, durations.MINUTE):
        yield from (unit * number for number in (1, 2, 5, 10, 15, 30))
    yield from (durations.HOUR * number for number in (1, 2, 3, 6, 12))
    yield from (durations.DAY * number for number in _days())


_UNITS = (
    ("day", durations.DAY),
    ("hour", durations.HOUR),
    ("minute", durations.MINUTE),
    ("second", durations.SECOND),
    ("ms", durations.MILLISECOND),
    ("us", durations.MICROSECOND),
)


def step_text(time_type: TimeType, step: int) -> str:
    """A length as people write it, and as --bucket takes it."""
    if time_type.kind is Kind.INTEGER:
        return str(step)
    rest = microseconds(time_type, step)
    parts = []
    for name, size in _UNITS:
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number} {name}{'s' if number > 1 and len(name) > 2 else ''}")
    return " ".join(parts)


def microseconds(time_type: TimeType, ordinal: int) -> int:
    """An ordinal, or a length, of a type that has a clock, in microseconds."""
    match time_type.kind:
        case Kind.DATE:
            return ordinal * durations.DAY
        case Kind.UUID:
            return milliseconds_of_uuid(ordinal) * durations.MILLISECOND
        case _:
            return ordinal


def from_microseconds(time_type: TimeType, moment: int) -> int | None:
    """Where a moment, in microseconds since 1970, lies on the axis; None on one of integers, which has no clock."""
    match time_type.kind:
        case Kind.INTEGER:
            return None
        case Kind.DATE:
            return moment // durations.DAY
        case Kind.UUID:
            return uuid_of_milliseconds(moment // durations.MILLISECOND)
        case _:
            return moment
