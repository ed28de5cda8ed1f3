"""Why the completion point may lie where it is suggested, or why nowhere: a verdict in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from hyperfill.durations import DAY, MINUTE, SECOND
from hyperfill.moments import moment_text
from hyperfill.quantities import counted
from hyperfill.suggest import Bucket, Verdict, longest_before, microseconds, step_text
from hyperfill.timeline import Kind, TimeType

_SHOWN = 5


@dataclass(frozen=True)
class Circumstances:
    """What was compared: all in ordinals."""

    time_type: TimeType
    since: int
    since_given: bool  # False: it is the target's first row
    step: int
    reference: int  # the newest row that is not in the future
    future: int | None = None  # the newest row, where that is


def label(time_type: TimeType, ordinal: int) -> str:
    """A position for people: a uuid says nothing, the moment in it does."""
    if time_type.kind is Kind.UUID:
        return moment_text(microseconds(time_type, ordinal), "+00")
    return time_type.text(ordinal)


def short_label(time_type: TimeType, ordinal: int, step: int) -> str:
    """The same, only as fine as multiples of `step` need it; without a zone."""
    text = label(time_type, ordinal)
    if not time_type.has_infinity and time_type.kind is not Kind.UUID:
        return text
    date, _, rest = text.partition(" ")
    clock, _, era = rest.replace("+00", "").partition(" ")
    length = microseconds(time_type, step)
    if length % DAY == 0 or time_type.kind is Kind.DATE:
        clock, era = "", rest[-2:] if text.endswith("BC") else ""
    elif length % MINUTE == 0:
        clock = clock[:5]
    elif length % SECOND == 0:
        clock = clock[:8]
    return " ".join(part for part in (date, clock, era) if part)


def reasons(verdict: Verdict, of: Circumstances) -> list[str]:
    """What was looked at, what was found, and why T lies where it does; a sentence each."""
    words = _Words(verdict, of)
    return [*words.looked(), *words.found(), *words.zone(), *words.choice()]


def refusal(verdict: Verdict, of: Circumstances) -> tuple[str, str]:
    """Why there is no consistency range, and what to do."""
    return _Words(verdict, of).refusal()


_rows, _buckets = partial(counted, noun="row"), partial(counted, noun="bucket")


class _Words:
    def __init__(self, verdict: Verdict, of: Circumstances) -> None:
        self.verdict = verdict
        self.of = of
        self.buckets = verdict.buckets

    def at(self, ordinal: int) -> str:
        return label(self.of.time_type, ordinal)

    def length(self, ordinals: int) -> str:
        return step_text(self.of.time_type, ordinals)

    def between(self, first: int, last: int) -> str:
        return f"from {self.at(self.buckets[first].lower)} to {self.at(self.buckets[last].upper)}"

    def both(self, bucket: Bucket) -> str:
        return f"[{self.at(bucket.lower)}, {self.at(bucket.upper)}): source {bucket.source:,}, target {bucket.target:,}"

    def looked(self) -> Iterable[str]:
        of = self.of
        source, target = sum(b.source for b in self.buckets), sum(b.target for b in self.buckets)
        whence = "" if of.since_given else ", the target's first row (--since narrows that)"
        yield (
            f"compared from {self.at(of.since)}{whence}, in {_buckets(len(self.buckets))} of {self.length(of.step)}: "
            f"{_rows(source)} on the source, {_rows(target)} on the target"
        )
        if of.future is not None:
            yield (
                f"rows after the source's clock are left aside, the last of them is at {self.at(of.future)}"
                + (": times without a zone are taken for UTC" if of.time_type.kind is Kind.LOCAL else "")
            )

    def found(self) -> Iterable[str]:
        verdict, buckets = self.verdict, self.buckets
        before = [b for b in buckets[: verdict.begun] if b.source]
        if before and verdict.begun < len(buckets):
            yield (
                f"before {self.at(buckets[verdict.begun].lower)} only the source has rows "
                f"({sum(b.source for b in before):,}): nobody wrote to the target yet"
            )
        missing = [buckets[i] for i in verdict.missing]
        if missing:
            lacking = sum(max(0, -b.difference) for b in missing)
            until = f" until {self.at(buckets[verdict.run.start].lower)}" if verdict.run else ""
            lacks = f": the target lacks {_rows(lacking)} there (writers that began later, or writes that failed)"
            yield (
                f"the sides differ in {_buckets(len(missing))} from {self.at(missing[0].lower)}{until}"
                + (lacks if lacking else "")
            )
        more = [b for b in buckets if b.difference > 0]
        if more:
            yield (
                f"the target has {_rows(sum(b.difference for b in more))} more than the source in "
                f"{_buckets(len(more))}, the first one {self.both(more[0])}: rows that were deleted from the source, "
                "written twice, or written to the target alone"
            )
        changed = [b for b in buckets if b.same_values is False and not b.difference]
        if changed:
            places = ", ".join(self.at(b.lower) for b in changed[:_SHOWN]) + (
                f" and {len(changed) - _SHOWN:,} more" if len(changed) > _SHOWN else ""
            )
            yield f"in {_buckets(len(changed))} both sides have as many rows, with other values: {places}"
        if "recurring" in verdict.doubts:
            yield (
                f"warning: both sides were equal for {_buckets(longest_before(buckets, verdict.run))} once before, and "
                f"differed again; now it is {_buckets(len(verdict.run))}. A writer that writes seldom may be missing "
                "still: wait until the range is longer than that"
            )
        span = verdict.consistent
        if span is not None and span.lower is not None:
            filled = sum(buckets[i].occupied for i in verdict.run)
            yield (
                f"from {self.at(span.lower)} to {self.at(span.upper)} both sides are equal, counts and values of all "
                f"compared columns: {_buckets(filled)} with {_rows(sum(buckets[i].source for i in verdict.run))}"
            )

    def zone(self) -> Iterable[str]:
        verdict, buckets = self.verdict, self.buckets
        if not buckets or verdict.late >= len(buckets):
            return
        start = self.at(buckets[verdict.late].lower)
        inside = [buckets[i] for i in range(verdict.late, len(buckets) - 1)]
        if verdict.lateness is not None:
            yield (
                f"from {start} on rows may still come late: the newest row is at {self.at(self.of.reference)}, and "
                f"--lateness is {self.length(verdict.lateness)}"
            )
            lacking = sum(max(0, -b.difference) for b in inside)
            if lacking:
                yield (
                    f"warning: the target lacks {_rows(lacking)} in that zone now. If they are not on their way, "
                    "dual-writing is incomplete and they will be lost: look again when the zone has passed them"
                )
            if "silent" in verdict.doubts:
                yield (
                    "warning: the target has no row at all among the newest ones: nobody seems to write to it any "
                    "more. Late data comes late to both sides; use this T only if you know that it is only behind"
                )
            return
        if not verdict.zone_known:
            return
        newest = f"the newest row is at {self.at(self.of.reference)}: its bucket is still being written"
        if verdict.late < verdict.certain:
            differing = [b for b in inside if not b.equal]
            yield (
                f"the last {_buckets(len(differing))} before the newest differ, and are taken for the zone of "
                f"late-arriving data, from {start} on; {newest}"
            )
            lacking = sum(max(0, -b.difference) for b in differing)
            if lacking:
                yield (
                    f"warning: the target lacks {_rows(lacking)} in that zone now. If they are not on their way they "
                    "will be lost: look again later whether both sides have become equal there"
                )
            if "steady" in verdict.doubts:
                yield (
                    f"warning: since {start} the sides differ at the same rate all the time, and late data fades with "
                    "age: that looks like one of several writers that writes no more. Make sure before you use this T"
                )
        else:
            yield newest
        yield "warning: how late rows may come is not known here; only --lateness makes sure"

    def choice(self) -> Iterable[str]:
        verdict = self.verdict
        if verdict.end is None:
            return
        if verdict.lateness is not None:
            yield (
                f"T = {self.at(verdict.end)}: the last edge of a bucket inside the consistency range. Everything below "
                "it is copied from the source, also what a writer wrote that writes seldom and was missed so far"
            )
        else:
            yield (
                f"T = {self.at(verdict.end)}: the middle of the consistency range, far from the last writer's start "
                "and from data that is late"
            )

    def refusal(self) -> tuple[str, str]:
        verdict, buckets = self.verdict, self.buckets
        number = verdict.at or 0
        bucket = buckets[number] if number < len(buckets) else buckets[-1]
        since = self.at(bucket.lower)
        match verdict.trouble:
            case "late" if verdict.lateness is not None:
                why = f"every row since {self.at(self.of.since)} is younger than --lateness allows"
                return why, "wait, or say a shorter --lateness or an earlier --since"
            case "late":
                why = f"every row since {self.at(self.of.since)} is in the newest bucket, which is still being written"
                return why, "wait until more was written, or say a shorter --bucket or an earlier --since"
            case "differs":
                what = _difference(bucket)
                why = f"just before the zone of late data the sides differ, in {self.both(bucket)}{what}"
                return why, "mend the writers, and look again when equal rows lie before that zone"
            case "stopped":
                why = f"since {since} the source has rows and the target has none: nobody writes to the target any more"
                return why, (
                    "mend dual-writing, and look again later: T must lie after these rows. Where the target is only "
                    "behind (a queue), say a longer --bucket"
                )
            case "long":
                differing = [buckets[i] for i in range(verdict.late, verdict.certain) if not buckets[i].equal]
                if all(b.source == b.target for b in differing):
                    why = (
                        f"since {since} both sides have as many rows in each bucket, with other values in "
                        f"{_buckets(len(differing))}"
                    )
                    return why, "leave out columns that differ on purpose (--columns); hyperfill verify shows rows"
                why = (
                    f"since {since} the sides differ in too many buckets: that is not late data, dual-writing is "
                    "incomplete"
                )
                return why, "mend the writers; if rows really come that late, say --lateness"
            case _:
                filled = sum(buckets[i].occupied for i in verdict.run)
                why = (
                    f"before the zone of late data only {_buckets(filled)} with rows {'is' if filled == 1 else 'are'} "
                    f"equal, the last one from {since} on: that is no evidence of dual-writing"
                )
                return why, "say --lateness, another --bucket or another --since, or wait until more was written"


def _difference(bucket: Bucket) -> str:
    if bucket.difference < 0:
        return ": rows that were written since then may be missing on the target for good"
    return ": the target has rows that the source lacks" if bucket.difference else ": their values differ"
