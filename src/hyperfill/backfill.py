"""The story of a run: prepare, register, hold, move, finish, release, report.

Each step can be entered again after a crash.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import psycopg

from hyperfill import __version__, conversions, finish, holds, ledger, settle, tiling
from hyperfill.control import Control
from hyperfill.engine import Crew
from hyperfill.errors import (
    EXIT_OK,
    Finding,
    HyperfillError,
    Incomplete,
    LedgerConflict,
    PoliciesOn,
    Refused,
    UsageError,
    WindowError,
    first_line,
)
from hyperfill.existing import find_entry
from hyperfill.prepare import prepare
from hyperfill.preparing import Prepared, State, refuse, worst
from hyperfill.progress import Observer
from hyperfill.reserve import Reserve
from hyperfill.session import Connection
from hyperfill.signals import Signals
from hyperfill.spec import Limits, Spec
from hyperfill.timeline import Span
from hyperfill.verify import Verification, verify_moved
from hyperfill.waiting import naming
from hyperfill.watching import look, watch
from hyperfill.window import Order, check_identity

_CREWS = 5  # one after another, where the target crashes again and again
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '60s'"


@dataclass
class Report:
    """What became of one backfill."""

    prepared: Prepared
    state: State
    entry: ledger.Entry | None
    findings: list[Finding]
    failed: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    verification: Verification | None = None  # None: not asked for, or done by a run before
    landed: conversions.Counts | None = None  # chunks that were to end compressed; None: there are none

    def as_json(self) -> dict[str, Any]:
        """The contract of `run --json`."""
        entry, prepared = self.entry, self.prepared
        found: dict[str, Any] = {
            "backfill": entry.id if entry else None,
            "table": prepared.table,
            "hypertable": prepared.hypertable,
            "start": prepared.start or "-infinity",
            "end": prepared.end,
            "state": self.state,
            "windows": {
                "total": entry.total if entry else 0,
                "done": entry.done if entry else 0,
                "failed": entry.failed if entry else 0,
            },
            "rows_copied": entry.rows_copied if entry else 0,
            "rows_deleted": entry.rows_deleted if entry else 0,
            "bytes_copied": entry.bytes_copied if entry else 0,
            "seconds": round(self.seconds, 3),
            "findings": [f.as_json() for f in self.findings],
        }
        if self.landed is not None:
            found["landed"] = self.landed.as_json()
        if self.failed:
            found["failed_windows"] = self.failed
        if self.verification is not None and prepared.time_type is not None:
            found["verification"] = self.verification.as_json(prepared.time_type)
        return found


@dataclass
class Outcome:
    """What became of a run of one or more backfills."""

    reports: list[Report]
    signum: int | None = None
    error: HyperfillError | None = None

    @property
    def state(self) -> State:
        return worst(r.state for r in self.reports)

    @property
    def exit_code(self) -> int:
        if self.state != "incomplete":
            return 5 if self.state == "mismatch" else EXIT_OK
        return 128 + self.signum if self.signum is not None else Incomplete.exit_code


def prepare_all(specs: Sequence[Spec], limits: Limits, observer: Observer) -> list[Prepared]:
    """One preflight for all tables. Reports every finding; raises nothing for findings."""
    if not specs:
        raise UsageError("nothing to do: no backfill is asked for")
    prepared = []
    for spec in specs:
        observer.log(f"checking {spec.table}")
        prepared.append(prepare(spec, limits.jobs))
    _refuse_overlaps(prepared)
    return prepared


def _refuse_overlaps(prepared: Sequence[Prepared]) -> None:
    """Two backfills of one command must not fill the same rows."""
    seen: list[tuple[Prepared, Span]] = []
    for this in prepared:
        if this.definition is None or this.time_type is None:
            continue
        definition = this.definition
        span = definition.span(this.time_type)
        for other, their_span in seen:
            assert other.definition is not None
            if other.definition.hypertable_oid == definition.hypertable_oid and their_span.overlaps(span):
                this.findings.append(
                    Finding(
                        "error",
                        "overlap",
                        f"two backfills of this command fill the same range of {this.hypertable}",
                        table=this.table,
                    )
                )
        seen.append((this, span))


def run(
    specs: Sequence[Spec],
    limits: Limits,
    observer: Observer,
    signals: Signals,
    reserve: Reserve | None = None,
) -> Outcome:
    """Carry out one or more backfills into one target. Raises `Refused` with all findings before the first write."""
    started = time.monotonic()
    return carry_out(prepare_all(specs, limits, observer), limits, observer, signals, started, reserve=reserve)


def carry_out(
    prepared: Sequence[Prepared],
    limits: Limits,
    observer: Observer,
    signals: Signals,
    started: float,
    enter: Callable[[Connection, Prepared], None] | None = None,
    reserve: Reserve | None = None,
) -> Outcome:
    """Carry out what was prepared, all into one target. Raises `Refused` as `run` does.

    `enter` enters a plan into the ledger, or joins what is there; without it as `register` does. `reserve`: as `Crew`
    takes it.
    """
    refuse(prepared, observer)
    reports: list[Report] = []
    with Control(prepared[0].spec.target) as control:
        ledger.create(control.connection, [p.definition.hypertable_oid for p in prepared if p.definition])
        active: list[Prepared] = []
        for one in prepared:
            if not one.empty:
                (enter or register)(control.connection, one)
            if one.empty or (one.entry is not None and one.entry.finished):
                reports.append(_nothing(one))
            else:
                active.append(one)
        outcome = Outcome(reports)
        if active:
            try:
                for one in active:
                    hold(control.connection, one, observer)
                    settle.record(control.connection, one)
                outcome.error = move(control, active, limits, observer, signals, reserve)
            except BaseException:
                remind(control, active, observer)
                raise
            outcome.signum = signals.signum
            for one in active:
                try:
                    last = partial(complete, control, one, limits, observer, outcome.error)
                    reports.append(control.insist(last))
                except (psycopg.Error, Refused, WindowError) as error:
                    # Windows were moved: this is no refusal. What the ledger says of it is read by the next run.
                    server = (isinstance(error, WindowError) and error.server) or "target"
                    lost = Finding("error", server, first_line(error), table=one.table)
                    observer.findings([lost])
                    reports.append(Report(one, "incomplete", one.entry, [*one.findings, lost]))
    for report in reports:
        report.seconds = time.monotonic() - started
    order = {id(p): i for i, p in enumerate(prepared)}
    reports.sort(key=lambda r: order[id(r.prepared)])
    return outcome


def _nothing(prepared: Prepared) -> Report:
    entry = prepared.entry
    if entry is not None:
        text = (
            f"backfill {entry.id} already moved this range (finished {entry.finished_at:%Y-%m-%d %H:%M:%S} UTC); "
            "--again moves it anew"
        )
    else:
        text = "start and end are the same: the range is empty"
    return Report(
        prepared, "nothing", entry, [*prepared.findings, Finding("note", "nothing", text, table=prepared.table)]
    )


def register(
    control: Connection,
    prepared: Prepared,
    find: Callable[[Connection, Prepared], ledger.Entry | None] = find_entry,
    more: Callable[[Connection, int], None] | None = None,
) -> None:
    """Enter the plan into the ledger, or join the unfinished backfill that is the same.

    `find` looks for it; `more` enters what else belongs to a new one.
    """
    assert prepared.definition is not None and prepared.order is not None and prepared.time_type is not None
    findings = [f.as_json() for f in prepared.findings]
    with naming(control, hypertable=prepared.order.hypertable_oid), control.transaction():
        control.execute(_LOCK_TIMEOUT)
        ledger.lock_hypertable(control, prepared.order.hypertable_oid)
        # Once more under the lock: another command may have registered since the plan was made.
        known = prepared.entry
        entry = find(control, prepared)
        if entry is None:
            if known is not None:
                raise LedgerConflict(f"backfill {known.id} was removed from the ledger meanwhile", hint="run again")
            backfill = ledger.insert(
                control,
                prepared.definition,
                prepared.windows,
                prepared.time_type,
                client=__version__,
                findings=findings,
                versions=prepared.versions,
            )
            conversions.insert(control, backfill, prepared.landings.stretches, prepared.time_type)
            if more is not None:
                more(control, backfill)
        else:
            backfill = entry.id
    if entry is None or not entry.finished:
        ledger.start_run(control, backfill, findings)
    prepared.entry = ledger.entries(control, ids=[backfill])[0]
    span = prepared.definition.span(prepared.time_type)
    prepared.order = replace(prepared.order, backfill=backfill, span=span)
    prepared.order = conversions.join(control, prepared.order, plain=prepared.spec.land == "plain")


def hold(target: Connection, prepared: Prepared, observer: Observer) -> None:
    """Turn off the policies that would work on the chunks meanwhile. From here on windows check that they are off."""
    assert prepared.order is not None and prepared.entry is not None
    order = prepared.order
    result, watch = holds.hold(
        target, order.target.relation, prepared.spec.hold, backfill=order.backfill, say=observer.log
    )
    prepared.order = replace(order, watch=watch)
    for job in result.changed:
        observer.log(f"turned off: {job}")
    for note in result.notes:
        observer.log(note, level="warning")


def remind(control: Control, active: Sequence[Prepared], observer: Observer) -> None:
    """A run ends before its end: say what stays held. What cannot be asked now is in the ledger."""
    for one in active:
        try:
            assert one.order is not None
            control.keep([], must=True)
            reminder = holds.reminder(control.connection, one.order.target.relation)
        except (psycopg.Error, HyperfillError):
            return
        if reminder is not None:
            observer.findings([replace(reminder, table=one.table)])


def move(
    control: Control,
    prepared: Sequence[Prepared],
    limits: Limits,
    observer: Observer,
    signals: Signals,
    reserve: Reserve | None = None,
) -> HyperfillError | None:
    """Run the windows of all backfills in one pool of workers. Returns the error that ended a worker, if any."""
    orders = [p.order for p in prepared if p.order is not None and p.entry is not None and not p.entry.complete]
    if not orders:
        return None
    for one in prepared:
        if one.entry is not None:
            observer.log(_describe(one.entry))
    pending = sum(p.entry.total - p.entry.done for p in prepared if p.entry is not None)
    jobs = max(1, min(limits.jobs, pending))
    deadline = time.monotonic() + limits.seconds if limits.seconds is not None else None
    failure: HyperfillError | None = None
    known: dict[int, ledger.Entry] = {}
    # From here a signal must not tear the crew apart half-started.
    with signals.deferred():
        for _ in range(_CREWS):
            crew = Crew(orders, jobs, limits.bytes_per_second, limits.stall, limits.retry, reserve)
            if crew.shortage:
                observer.log(f"fewer workers than asked for: {crew.shortage}", level="warning")
            try:
                failure = watch(control, crew, orders, deadline, observer, signals, known)
            finally:
                crew.close()
                last = look(control.connection, orders) if observer.wants_snapshots else None
                if last:
                    known.update((entry.id, entry) for entry in last.entries)
                    observer.show(replace(last, activity=()))
                observer.stop()
            left = 0 if failure is not None or crew.draining else _pending(control, orders)
            if not left:
                break
            # Windows do not wait for the disk, and a worker leaves a backfill when it is done.
            text = f"the target has undone {left} windows, as after a crash: they are moved again"
            observer.log(text, level="warning")
    for one in prepared:
        if one.entry is not None:
            one.entry = known.get(one.entry.id, one.entry)
    return failure


def _pending(control: Control, orders: Sequence[Order]) -> int:
    """How many windows of these are to be moved now; 0 where that cannot be known."""
    try:
        control.keep(orders, must=True)
        return sum(ledger.pending(control.connection, order.backfill) for order in orders)
    except (psycopg.Error, HyperfillError):
        return 0


def _describe(entry: ledger.Entry) -> str:
    begun = f", {entry.done} of them done already" if entry.done else ""
    what = f"backfill {entry.id}: {entry.source_relation} to {entry.hypertable}"
    return f"{what} {entry.bounds}, {entry.total} windows{begun}"


def complete(
    control: Control, prepared: Prepared, limits: Limits, observer: Observer, error: HyperfillError | None = None
) -> Report:
    """Finish a backfill whose windows are all done; otherwise say what is missing. `error` ended its workers."""
    assert prepared.order is not None
    report = _complete(control, prepared, limits, observer, error)
    lost = holds.forgotten(control.connection, prepared.order.target.relation, prepared.order.watch)
    report.findings += [replace(lost, table=prepared.table)] if lost else []
    report.landed = conversions.entered(control.connection, prepared.order.backfill)
    return report


def _complete(
    control: Control, prepared: Prepared, limits: Limits, observer: Observer, error: HyperfillError | None
) -> Report:
    assert prepared.order is not None and prepared.entry is not None and prepared.time_type is not None
    order, backfill = prepared.order, prepared.order.backfill
    control.keep([order], must=True)
    target = control.connection
    found = ledger.entries(target, ids=[backfill])
    if not found:
        raise HyperfillError(f"backfill {backfill} was removed from the ledger while it ran")
    entry = found[0]
    findings = list(prepared.findings)
    changed = None
    if entry.complete and not entry.finished:
        changed = tiling.changed_windows(target, entry, prepared.time_type)
    if not entry.complete or changed is not None:
        if changed is not None:
            findings.append(Finding("error", "ledger", changed.message, changed.hint, prepared.table))
        if isinstance(error, PoliciesOn):
            findings.append(Finding("error", "policies-on", error.message, error.hint, prepared.table))
        reminder = holds.reminder(target, order.target.relation)
        findings += [replace(reminder, table=prepared.table)] if reminder else []
        return Report(prepared, "incomplete", entry, findings, ledger.failed_windows(target, backfill))
    if not entry.finished:
        check_identity(target, "target", order.target.relation)
        if entry.phase in ("planned", "held"):
            ledger.set_phase(target, entry, backfill, "moved")
        if prepared.spec.sync_sequences:
            findings += finish.sync_sequences(target, order)
        touched = ledger.touched(target, backfill, prepared.time_type)
        findings += settle.settle(target, prepared, entry, touched, limits.jobs, observer)
        observer.log("analyzing the chunks that were filled")
        findings += finish.analyze(target, order, touched, limits.jobs)
        verification = _verify(target, prepared, entry, limits, observer)
        if verification is not None and verification.state != "equal":
            reminder = holds.reminder(target, order.target.relation, differs=bool(verification.differing))
            findings += [replace(reminder, table=prepared.table)] if reminder else []
            state: State = "mismatch" if verification.differing else "incomplete"
            return Report(
                prepared, state, ledger.entries(target, ids=[backfill])[0], findings, verification=verification
            )
        findings += release(target, entry, order, observer)
        return Report(prepared, "done", ledger.entries(target, ids=[backfill])[0], findings, verification=verification)
    return Report(prepared, "done", ledger.entries(target, ids=[backfill])[0], findings)


def _verify(
    target: Connection, prepared: Prepared, entry: ledger.Entry, limits: Limits, observer: Observer
) -> Verification | None:
    """Compare what was moved, if that was not done; a phase that is reached when all of it is equal."""
    spec, order = prepared.spec, prepared.order
    assert order is not None
    if not isinstance(spec, Spec) or spec.verify == "none" or entry.phase == "verified":
        return None
    try:
        found = verify_moved(target, order, entry, spec.verify, limits, observer)
    finally:
        observer.stop()
    if found.state == "equal":
        ledger.set_phase(target, entry, entry.id, "verified")
    return found


def release(target: Connection, entry: ledger.Entry, order: Order, observer: Observer) -> list[Finding]:
    """The last step: policies that nobody else needs off are on again, and the backfill is done, in one transaction."""
    result = holds.finish(target, entry, order.target.relation)
    for job in result.changed:
        observer.log(f"turned on again: {job}")
    return [Finding("note", "policies", note, table=entry.source_relation) for note in result.notes]
