"""The completion point, found out by comparing both sides since dual-writing began. Reads only.

One pass counts the rows of all buckets on both sides at the same time, a second one compares the values of those that
the answer relies on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hyperfill import preflight
from hyperfill.catalog import Hypertable
from hyperfill.comparing import Ends, Reader, ending
from hyperfill.durations import DAY
from hyperfill.errors import Finding, Refused
from hyperfill.fingerprint import Fingerprint, Mode
from hyperfill.prepare import ServerPreparation, Subject
from hyperfill.preparing import refuse
from hyperfill.progress import Observer
from hyperfill.quantities import human_bytes
from hyperfill.session import Connection, fetch_one
from hyperfill.spec import Spec
from hyperfill.sql import query
from hyperfill.stopping import Stop
from hyperfill.suggest import (
    MOST_BUCKETS,
    Bucket,
    Verdict,
    from_microseconds,
    judge,
    make_buckets,
    step_text,
    usual_step,
)
from hyperfill.suggest_words import Circumstances, label, reasons, refusal
from hyperfill.survey import estimate, first_row, last_row, scanned
from hyperfill.timeline import TIME_TYPES, BoundError, Span, TimeType
from hyperfill.window import Order

# TimescaleDB counts from 1970 in 64 bits: a bound near the end of PostgreSQL's types is out of range on a hypertable.
_FAR = 290_000 * 365 * DAY


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a person asked for. Bounds and lengths are text; the spec's own bounds are not used."""

    spec: Spec
    since: str | None = None
    bucket: str | None = None
    lateness: str | None = None


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """The answer. Without buckets there was nothing to compare; `refused` says why there is no T, and what to do."""

    table: str
    hypertable: str
    time_type: TimeType
    since: int | None
    step: int | None
    verdict: Verdict | None
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    refused: tuple[str, str] | None

    @property
    def end(self) -> int | None:
        return None if self.verdict is None or self.refused else self.verdict.end

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        return self.verdict.buckets if self.verdict else ()

    def as_json(self) -> dict[str, Any]:
        """The object of --json; all bounds are text that --end takes."""
        verdict, buckets = self.verdict, self.buckets

        def text(ordinal: int | None) -> str | None:
            return None if ordinal is None else self.time_type.text(ordinal)

        def lower(number: int | None) -> str | None:
            return None if number is None or number >= len(buckets) else text(buckets[number].lower)

        consistent = verdict.consistent if verdict else None
        why = {"error": self.refused[0], "hint": self.refused[1]} if self.refused else {}
        return {
            "state": "refused" if self.refused else "done",
            "table": self.table,
            "hypertable": self.hypertable,
            "end": text(self.end),
            "consistent_from": text(consistent.lower) if consistent else None,
            "consistent_until": text(consistent.upper) if consistent else None,
            "missing_from": lower(verdict.missing[0]) if verdict and verdict.missing else None,
            "late_from": lower(verdict.late) if verdict and verdict.zone_known else None,
            "bucket": None if self.step is None else step_text(self.time_type, self.step),
            "since": text(self.since),
            "reasons": list(self.reasons),
            **why,
            "buckets": [
                {
                    "lower": text(b.lower),
                    "upper": text(b.upper),
                    "source": b.source,
                    "target": b.target,
                    "difference": b.difference,
                    "equal": b.equal,
                    "zone": verdict.zone(number) if verdict else None,
                }
                for number, b in enumerate(buckets)
            ],
            "findings": [f.as_json() for f in self.findings],
        }


class Comparison(ServerPreparation):
    """Who is compared, and the bounds and lengths of the question, in ordinals."""

    writes = False

    def __init__(self, question: Question) -> None:
        super().__init__(question.spec, 1)
        self.question = question
        self.subject: Subject | None = None
        self.pair: Order | None = None
        self.since: int | None = None
        self.step: int | None = None
        self.lateness: int | None = None

    def bounds(self, target: Connection, hypertable: Hypertable) -> None:
        since, time_type = self.question.since, hypertable.time_type
        if since is not None:
            option = f"--since (column {hypertable.time_column} of {hypertable.relation.quoted})"
            self.since = self.attempt("bound", lambda: preflight.read_bound(target, time_type, since, option))
        self.step = self._length(time_type, "bucket", self.question.bucket)
        self.lateness = self._length(time_type, "lateness", self.question.lateness)

    def _length(self, time_type: TimeType, name: str, text: str | None) -> int | None:
        def read() -> int | None:
            try:
                return None if text is None else time_type.step(text)
            except BoundError as error:
                reason = f"{error.text!r} is no length on a time column of type {error.type_name}: {error.reason}"
                raise Refused(f"--{name}: {reason}") from None

        return self.attempt(name, read)

    def check(self, source: Connection, target: Connection) -> None:
        self.subject = self.identify(source, target)
        if not self.result.errors:
            self.pair = self.order(self.subject)


def suggest(question: Question, observer: Observer) -> Suggestion:
    """Compare both sides and choose T.

    Raises `Refused` with all findings where they cannot be compared. That there is no T is an answer, not an error.
    """
    comparison = Comparison(question)
    prepared = comparison.run()
    refuse([prepared], observer, "nothing was compared")
    assert comparison.subject is not None and comparison.pair is not None
    stop = Stop()
    ends = Ends(comparison.pair, stop, purpose="suggest-end")
    try:
        with ending():
            return _Search(comparison, comparison.subject, ends, observer).run()
    finally:
        stop.drain.set()
        ends.close()
        stop.over.set()


class _Search:
    """The steps of one search, in order."""

    def __init__(self, comparison: Comparison, subject: Subject, ends: Ends, observer: Observer) -> None:
        self.comparison = comparison
        self.subject = subject
        self.ends = ends
        self.observer = observer
        self.time_type = subject.hypertable.time_type
        self.since = comparison.since
        far = from_microseconds(self.time_type, _FAR)
        self.far = self.time_type.maximum if far is None else min(far, self.time_type.maximum)
        self.findings = list(comparison.result.findings)

    def run(self) -> Suggestion:
        time_type, comparison = self.time_type, self.comparison
        clock = fetch_one(self.ends.source.open(), query("suggest/now"))[0]
        now = from_microseconds(time_type, TIME_TYPES["timestamp with time zone"].ordinal(clock))
        if self.since is None:
            self.since = first_row(self.ends.target.open(), self.subject.target_axis, Span(None, self.far))
            if self.since is None:
                why = "the target has no rows: dual-writing has not begun, or it writes elsewhere"
                return self._nothing(why, "dual-write first; T lies after its begin")
        newest, future = self._newest(self.since, now)
        silent = [side for side, last in zip(("source", "target"), newest, strict=True) if last is None]
        if silent:
            which = "neither side has" if len(silent) == 2 else f"the {silent[0]} has no"
            kind = "rows" if future is None else "rows that are not in the future"
            start = label(time_type, self.since)
            what = "any " if len(silent) == 2 else ""
            hint = "is that the table that both are written to? --since says from when on to look"
            return self._nothing(f"{which} {what}{kind} since {start}", hint)
        reference = max(last for last in newest if last is not None)
        step = comparison.step or usual_step(time_type, self.since, reference)
        try:
            pieces = make_buckets(time_type, self.since, reference, step)
        except ValueError as error:
            usual = step_text(time_type, usual_step(time_type, self.since, reference))
            raise Refused(
                f"--bucket {step_text(time_type, step)} would make {error.args[0]:,} buckets from "
                f"{label(time_type, self.since)} to {label(time_type, reference)}; {MOST_BUCKETS:,} are the most",
                hint=f"say a longer one, such as '{usual}', or a later --since",
            ) from None
        if not pieces:
            return self._nothing("the only rows are at the very end of the type", "say an earlier --since")
        verdict = self._compare(pieces, reference)
        of = Circumstances(time_type, self.since, comparison.since is not None, step, reference, future)
        return self._answer(verdict, of)

    def _newest(self, since: int, now: int | None) -> tuple[tuple[int | None, int | None], int | None]:
        """The last row of either side that is not in the future, and the last of all if that is."""

        def last(until: int) -> tuple[int | None, int | None]:
            span = Span(since, max(since, until))
            return self.ends.ask(lambda reader, side: last_row(reader.open(), side.axis, span))

        newest = last(self.far)
        latest = max((n for n in newest if n is not None), default=None)
        if latest is None or now is None or latest <= now:
            return newest, None
        # One sensor with a wrong clock must not move the present: without its row.
        return last(min(now + 1, self.far)), latest

    def _compare(self, pieces: list[Span], reference: int) -> Verdict:
        """Count everything, then compare the values of what the verdict relies on."""
        whole = Span(pieces[0].lower, pieces[-1].upper)
        source, target = self.ends.ask(lambda reader, side: estimate(reader.open(), side.axis, whole))
        self.observer.log(
            f"counting the rows of {len(pieces)} buckets: about {source:,.0f} on the source, {target:,.0f} on the "
            "target (the planner's estimates)"
        )
        passes = scanned(self.ends.source.open(), self.subject.axis, whole)
        if passes:
            self.observer.log(
                f"no index of the source leads to these rows: each pass reads {human_bytes(passes)}", "warning"
            )
        found = self._read(pieces, "count")
        buckets = [
            Bucket(p.lower or 0, p.upper, here.rows, there.rows) for p, here, there in zip(pieces, *found, strict=True)
        ]
        while True:
            verdict = judge(buckets, reference, self.comparison.lateness)
            # What counts alone rule out needs no second look; what they allow may be ruled out by values, and then
            # an earlier run may be the last one.
            unread = [] if verdict.trouble else verdict.unread
            if not unread:
                return verdict
            rows = sum(b.source for b in unread)
            self.observer.log(f"comparing the values of {len(unread)} buckets: {rows:,} rows on each side")
            looked = self._read([b.span for b in unread], "hash")
            for bucket, here, there in zip(unread, *looked, strict=True):
                number = buckets.index(bucket)
                buckets[number] = replace(bucket, source=here.rows, target=there.rows, same_values=here == there)

    def _read(self, pieces: list[Span], mode: Mode) -> tuple[list[Fingerprint], list[Fingerprint]]:
        return self.ends.ask(partial(Reader.fingerprints, pieces=pieces, mode=mode))

    def _answer(self, verdict: Verdict, of: Circumstances) -> Suggestion:
        refused = refusal(verdict, of) if verdict.trouble else None
        # Open transactions and a standby that lags hide rows on both sides; where there is no T the latter may be why.
        place = verdict.end if verdict.end is not None else of.reference if self.subject.source.in_recovery else None
        if place is not None:
            found = preflight.completion_point(
                (self.ends.source.open(), self.ends.target.open()), self.subject.source, self.time_type, place
            )
            if verdict.end is None:
                found = [f for f in found if f.code == "standby-lag"]
            self.findings += [replace(f, table=self.comparison.result.table) for f in found]
            self.observer.findings(found)
            error = next((f for f in found if f.severity == "error"), None)
            refused = (error.message, error.hint or "") if error else refused
        return self._suggestion(verdict, of.step, tuple(reasons(verdict, of)), refused)

    def _nothing(self, why: str, hint: str) -> Suggestion:
        return self._suggestion(None, self.comparison.step, (why,), (why, hint))

    def _suggestion(
        self, verdict: Verdict | None, step: int | None, why: tuple[str, ...], refused: tuple[str, str] | None
    ) -> Suggestion:
        result = self.comparison.result
        return Suggestion(
            table=result.table,
            hypertable=result.hypertable,
            time_type=self.time_type,
            since=self.since,
            step=step,
            verdict=verdict,
            reasons=why if verdict is None or refused is None else (*why, refused[0]),
            findings=tuple(self.findings),
            refused=refused,
        )
