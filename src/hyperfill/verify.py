"""Verification: all windows are compared, what differs is looked into, and what was not compared is said."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hyperfill import comparisons
from hyperfill.comparing import Compared, Comparing, Ends, Failed, Pace, Piece, ending
from hyperfill.differences import Difference, Examiner
from hyperfill.fingerprint import Mode
from hyperfill.ledger import Entry
from hyperfill.prepare_verify import Comparison, prepare_verify
from hyperfill.preparing import State, refuse
from hyperfill.progress import Observer, Reading
from hyperfill.session import Connection
from hyperfill.spec import Limits, Spec
from hyperfill.stopping import Stop
from hyperfill.timeline import TimeType
from hyperfill.window import Order

_EXAMINED = 20  # windows that are looked into; all that differ are listed
_EXAMINED_ROWS = 200_000  # of each
_NOTED = 200  # comparisons that are noted at once,
_NOTE_SECONDS = 1.0  # or what there is after so long
_STATES: dict[str, State] = {"equal": "done", "different": "mismatch", "incomplete": "incomplete"}


@dataclass
class Verification:
    """What was compared, and what was found."""

    mode: Mode
    order: Order
    total: int = 0  # windows
    compared: int = 0
    left_out: int = 0  # by --sample
    overdue: int = 0  # left out by --max-duration
    known: int = 0  # compared before, by a run that was interrupted
    rows_source: int = 0
    rows_target: int = 0
    momentary: int = 0  # windows that differed, and were equal when they were looked at again
    differing: list[Difference] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    seconds: float = 0.0
    sample: float | None = None  # percent

    @property
    def state(self) -> Literal["equal", "different", "incomplete"]:
        """equal, different, or incomplete where windows could not be read."""
        return "different" if self.differing else "incomplete" if self.failed or self.overdue else "equal"

    def as_json(self, time_type: TimeType) -> dict[str, Any]:
        """What was compared, as JSON."""
        found: dict[str, Any] = {
            "mode": self.mode,
            "state": self.state,
            "windows": {
                "total": self.total,
                "compared": self.compared,
                "equal": self.compared - len(self.differing),
                "different": len(self.differing),
                "failed": len(self.failed),
                "not_compared": self.left_out + self.overdue,
                "compared_before": self.known,
            },
            "rows_source": self.rows_source,
            "rows_target": self.rows_target,
            "columns": [c.target for c in self.order.columns],
            "columns_not_compared": self.not_compared,
            "seconds": round(self.seconds, 3),
            "differences": [d.as_json(time_type) for d in self.differing],
        }
        if self.sample is not None:
            found["sample_percent"] = self.sample
        if self.failed:
            found["failed_windows"] = [
                {
                    "window": f.piece.id,
                    **time_type.bounds(f.piece.span),
                    **f.error.as_json(),
                }
                for f in self.failed
            ]
        return found

    @property
    def not_compared(self) -> list[str]:
        """Columns of the target that are not moved."""
        moved = {c.target for c in self.order.columns}
        return [c.name for c in self.order.target.relation.columns if c.name not in moved]


@dataclass
class Verified:
    """What `verify` has to say of one table. `found` is None where the range is empty."""

    comparison: Comparison
    found: Verification | None

    @property
    def state(self) -> State:
        if self.found is None:
            return "nothing"
        return _STATES[self.found.state]

    def as_json(self) -> dict[str, Any]:
        """The contract of `verify --json`."""
        prepared = self.comparison.prepared
        assert prepared.time_type is not None
        return {
            "table": prepared.table,
            "hypertable": prepared.hypertable,
            "start": prepared.start or "-infinity",
            "end": prepared.end,
            **({} if self.found is None else self.found.as_json(prepared.time_type)),
            "state": self.state,
            "backfill": prepared.entry.id if prepared.entry else None,
            "findings": [f.as_json() for f in prepared.findings],
        }


def verify_tables(
    specs: Sequence[Spec],
    mode: Mode,
    pace: Pace,
    sample: float | None,
    observer: Observer,
    seconds: float | None = None,
) -> list[Verified]:
    """Compare tables, one after another. Raises `Refused` with all findings if one of them cannot be compared."""
    prepared = []
    for spec in specs:
        observer.log(f"checking {spec.table}")
        prepared.append(prepare_verify(spec, pace.jobs))
    refuse([c.prepared for c in prepared], observer, "nothing was compared")
    reports = []
    deadline = None if seconds is None else time.monotonic() + seconds
    for one in prepared:
        order = one.prepared.order
        if order is None:
            reports.append(Verified(one, None))
            continue
        pieces = one.pieces if sample is None else sampled(one.pieces, sample)
        share = sum(p.estimate for p in pieces) / one.rows_source if one.rows_source else 1.0
        rows = round(one.rows_source * share), round(one.rows_target * share)
        _announce(observer, one.prepared.table, mode, rows, (len(pieces), len(one.pieces)), pace)
        with ending():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            found = verify(order, pieces, mode, pace, observer, seconds=left)
        found.left_out, found.total, found.sample = len(one.pieces) - len(pieces), len(one.pieces), sample
        reports.append(Verified(one, found))
    return reports


def _announce(
    observer: Observer, table: str, mode: Mode, rows: tuple[int, int], windows: tuple[int, int], pace: Pace
) -> None:
    limit = f", at most {pace.rows_per_second:,.0f} rows/s on each side" if pace.rows_per_second else ""
    observer.log(
        f"{table}: comparing by {mode} about {rows[0]:,} rows of the source with about {rows[1]:,} of the target, in "
        f"{windows[0]:,} of {windows[1]:,} windows, {pace.jobs} at a time{limit}"
    )


def verify_moved(
    target: Connection, order: Order, entry: Entry, mode: Mode, limits: Limits, observer: Observer
) -> Verification:
    """Compare the windows of a backfill, those that an interrupted run has not compared already; noted in the ledger.

    Raises as `verify` does. A limit of bytes spares the servers here as well.
    """
    time_type = order.target.time_type
    windows = comparisons.pieces(target, entry.id, time_type)
    known = comparisons.equal(target, entry.id, mode)
    pieces = [piece for piece in windows if piece.id not in known]
    rate = None
    if limits.bytes_per_second and entry.bytes_copied:
        rate = max(1.0, limits.bytes_per_second * entry.rows_copied / entry.bytes_copied)
    pace = Pace(limits.jobs, rate, limits.retry)
    rows = sum(piece.estimate for piece in pieces)
    _announce(observer, entry.source_relation, mode, (rows, rows), (len(pieces), len(windows)), pace)
    found = verify(
        order, pieces, mode, pace, observer, note=lambda results: comparisons.record(target, entry.id, mode, results)
    )
    found.total, found.known = len(windows), len(known)
    return found


def sampled(pieces: Sequence[Piece], percent: float) -> list[Piece]:
    """A random share of the windows that seem to have rows, at least one, and all that seem empty: they cost little."""
    occupied = [p for p in pieces if p.estimate]
    count = max(1, round(len(occupied) * percent / 100)) if occupied else 0
    chosen = {p.id for p in random.sample(occupied, count)}
    return [p for p in pieces if not p.estimate or p.id in chosen]


def verify(
    order: Order,
    pieces: Sequence[Piece],
    mode: Mode,
    pace: Pace,
    observer: Observer,
    *,
    exact: bool = False,
    seconds: float | None = None,
    note: Callable[[Sequence[Compared]], None] | None = None,
) -> Verification:
    """Compare windows. `exact`: look into every window that differs, whatever it costs; `seconds`: begin none after so
    long. `note` is told what was found.

    Raises `HyperfillError` where a server is gone or a relation has changed.
    """
    started = time.monotonic()
    found = Verification(mode, order, total=len(pieces))
    suspects = _compare(found, order, pieces, pace, observer, seconds, note)
    if suspects:
        _examine(found, order, suspects, pace, exact, observer, note)
    found.seconds = time.monotonic() - started
    return found


def _compare(
    found: Verification,
    order: Order,
    pieces: Sequence[Piece],
    pace: Pace,
    observer: Observer,
    limit: float | None,
    note: Callable[[Sequence[Compared]], None] | None,
) -> list[Compared]:
    """All windows, once; those that differ."""
    suspects: list[Compared] = []
    noted: list[Compared] = []
    expected = sum(p.estimate for p in pieces)
    started = said = time.monotonic()
    read = 0
    with Comparing(order, pieces, found.mode, pace) as comparing:
        for result in comparing.results():
            if limit is not None and not found.overdue and time.monotonic() - started > limit:
                found.overdue = comparing.halt()
                if found.overdue:
                    observer.log("--max-duration is over: windows that are being read are finished", level="warning")
            if isinstance(result, Failed):
                found.failed.append(result)
                observer.log(f"window {result.piece.id} cannot be compared: {result.error}", level="error")
            elif result is not None:
                found.compared += 1
                found.rows_source += result.source.rows
                found.rows_target += result.target.rows
                if result.equal:
                    noted.append(result)
                else:
                    suspects.append(result)
            if note is not None and noted and (len(noted) >= _NOTED or time.monotonic() - said > _NOTE_SECONDS):
                note(noted)
                noted, said = [], time.monotonic()
            read += comparing.rows_read()
            done = found.compared + len(found.failed)
            seconds = time.monotonic() - started
            observer.reading(Reading(done, len(pieces), read, expected, len(suspects), seconds))
    if note is not None:
        note(noted)
    return sorted(suspects, key=lambda c: c.piece.span.upper)


def _examine(
    found: Verification,
    order: Order,
    suspects: Sequence[Compared],
    pace: Pace,
    exact: bool,
    observer: Observer,
    note: Callable[[Sequence[Compared]], None] | None,
) -> None:
    """Look into windows that differ. The rows of both sides were not read at one instant: some may be equal by now."""
    observer.log(f"{len(suspects)} window{'s differ' if len(suspects) > 1 else ' differs'}: looking into "
                 + ("them" if len(suspects) > 1 else "it"), level="warning")  # fmt: skip
    stop = Stop()
    ends = Ends(order, stop, pace.retry)
    try:
        examiner = Examiner(ends, None if exact else _EXAMINED_ROWS)
        for number, suspect in enumerate(suspects):
            if not exact and number >= _EXAMINED:
                found.differing.append(Difference(suspect))
                continue
            window, difference = examiner.examine(suspect.piece)
            if difference is None:
                found.momentary += 1
                if note is not None:
                    note([window])
            else:
                found.differing.append(difference)
    finally:
        stop.drain.set()
        ends.close()
        stop.over.set()
    if note is not None:
        note([d.window for d in found.differing])
