"""The story of a repair: compare, say what will be deleted, move again the windows that differ, compare those."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from hyperfill import __version__, ledger, preflight_rows, session
from hyperfill.backfill import Outcome, Report, carry_out, complete
from hyperfill.comparing import Compared, Pace, ending
from hyperfill.control import Control
from hyperfill.differences import Difference
from hyperfill.errors import Finding, Refused, UsageError, WindowError, first_line
from hyperfill.plan import PlannedWindow
from hyperfill.prepare_repair import RepairPreparation, find_repaired
from hyperfill.preparing import Prepared, State, refuse, worst
from hyperfill.progress import Observer
from hyperfill.quantities import counted
from hyperfill.session import Connection
from hyperfill.signals import Signals
from hyperfill.spec import Limits, Spec
from hyperfill.verify import Verification, verify
from hyperfill.waiting import naming


@dataclass
class Repair:
    """What became of one table. `before` is None where the range is empty, `report` where nothing was moved."""

    preparation: RepairPreparation
    before: Verification | None = None
    report: Report | None = None
    state: State = "nothing"

    @property
    def prepared(self) -> Prepared:
        return self.preparation.result

    @property
    def differing(self) -> list[Difference]:
        return self.before.differing if self.before else []

    def as_json(self) -> dict[str, Any]:
        """The contract of `repair --json`."""
        prepared = self.prepared
        moved = self.report.as_json() if self.report else {}
        after = moved.pop("verification", None)
        before = None
        if self.before is not None and prepared.time_type is not None:
            before = self.before.as_json(prepared.time_type)
        return {
            "backfill": None,
            "table": prepared.table,
            "hypertable": prepared.hypertable,
            "start": prepared.start or "-infinity",
            "end": prepared.end,
            "windows": {"total": 0, "done": 0, "failed": 0},
            "rows_copied": 0,
            "rows_deleted": 0,
            "findings": [f.as_json() for f in prepared.findings],
            **moved,
            "state": self.state,
            "repairs": self.preparation.parent.id if self.preparation.parent else None,
            "before": before,
            "after": after,
        }


@dataclass
class Repaired:
    """What became of all tables."""

    repairs: list[Repair]
    outcome: Outcome | None = None
    dry_run: bool = False

    @property
    def state(self) -> State:
        return worst(r.state for r in self.repairs)

    @property
    def exit_code(self) -> int:
        if self.state == "incomplete" and self.outcome is not None:
            return self.outcome.exit_code or 4
        return {"mismatch": 5, "incomplete": 4}.get(self.state, 0)


def repair(specs: Sequence[Spec], limits: Limits, observer: Observer, signals: Signals, *, dry_run: bool) -> Repaired:
    """Make the target equal to the source. With `dry_run` only what would be done is found out.

    Raises `Refused` before the first write, also where the source has nothing at all in a window that it should fill.
    """
    if not specs:
        raise UsageError("nothing to do: no table is named")
    started = time.monotonic()
    found = Repaired([], dry_run=dry_run)
    for spec in specs:
        observer.log(f"checking {spec.table}")
        preparation = RepairPreparation(replace(spec, verify="hash"), limits.jobs)
        preparation.run()
        found.repairs.append(Repair(preparation))
    refuse([r.prepared for r in found.repairs], observer)
    for one in found.repairs:
        if one.prepared.order is not None:
            _compare(one, limits, observer)
    _refuse_losses(found.repairs, observer)
    if dry_run:
        return found
    active = [r for r in found.repairs if r.differing or r.preparation.unfinished]
    if active:
        by_id = {id(r.prepared): r for r in active}
        for one in active:
            one.prepared.findings = []  # shown already
        found.outcome = carry_out(
            [r.prepared for r in active],
            limits,
            observer,
            signals,
            started,
            lambda control, prepared: _enter(control, by_id[id(prepared)]),
        )
        for report in found.outcome.reports:
            by_id[id(report.prepared)].report = report
            by_id[id(report.prepared)].state = report.state
    for one in found.repairs:
        if one.state in ("done", "nothing"):
            _finish_parent(one, limits, observer)
    return found


def _compare(one: Repair, limits: Limits, observer: Observer) -> None:
    """Compare everything; look into all that differs: how much will be deleted is said before it is."""
    preparation, order = one.preparation, one.prepared.order
    assert order is not None and one.prepared.time_type is not None
    rows = sum(p.estimate for p in preparation.pieces)
    observer.log(f"{one.prepared.table}: comparing {len(preparation.pieces):,} windows of about {rows:,} rows by hash")
    try:
        with ending():
            one.before = verify(
                order, preparation.pieces, "hash", Pace(limits.jobs, retry=limits.retry), observer, exact=True
            )
    finally:
        observer.stop()
    assert one.before is not None
    if one.before.failed:
        failed = one.before.failed[0]
        raise Refused(
            f"{one.prepared.table}: {len(one.before.failed)} windows cannot be compared: {failed.error.message}",
            hint="nothing was written; mend that, and run the same command again",
        )
    for difference in one.differing:
        least = "" if difference.exact else "at least "
        observer.log(
            f"window {one.prepared.time_type.range_text(difference.window.piece.span)}: {least}"
            f"{counted(difference.extra, 'row')} that only the target has will be deleted, "
            f"{difference.missing:,} that it lacks brought, "
            f"{difference.changed:,} corrected",
            level="warning",
        )
    if one.differing:
        extra = sum(d.extra for d in one.differing)
        observer.log(
            f"{one.prepared.table}: {len(one.differing)} of {len(preparation.pieces):,} windows differ; "
            f"{counted(extra, 'row')} that only the target has will be deleted"
        )
        one.state = "mismatch"


def _refuse_losses(repairs: Sequence[Repair], observer: Observer) -> None:
    """Where the source has nothing at all, or the target columns of its own, deleting needs the user's word."""
    findings: list[Finding] = []
    for one in repairs:
        prepared = one.prepared
        if not one.differing or prepared.order is None or prepared.time_type is None:
            continue
        empty = [d for d in one.differing if not d.window.source.rows]
        if empty and not prepared.spec.replace:
            listed = ", ".join(prepared.time_type.range_text(d.window.piece.span) for d in empty[:5])
            rows = sum(d.window.target.rows for d in empty)
            findings.append(
                Finding(
                    "error",
                    "source-empty",
                    f"{prepared.table}: the source has no row at all in {counted(len(empty), 'window')} in which the "
                    f"target has {rows:,}: {listed}" + (" ..." if len(empty) > 5 else ""),
                    hint="if these rows are to be deleted (and no retention, other shard or missing right took them "
                    "away from the source): --replace",
                    table=prepared.table,
                )
            )
        findings += _own_columns(one)
    observer.findings([f for f in findings if f.severity != "error"])
    if any(f.severity == "error" for f in findings):
        raise Refused(
            "refused: " + "; ".join(f.message for f in findings if f.severity == "error"),
            hint=next(f.hint for f in findings if f.severity == "error"),
            findings=tuple(findings),
        )


def _own_columns(one: Repair) -> list[Finding]:
    """What rows that are moved again would lose: values in columns that nothing is moved into."""
    preparation, order = one.preparation, one.prepared.order
    assert order is not None
    if not preparation.columns.target_only:
        return []
    found: dict[str, Finding] = {}
    with session.connect(order.target_conninfo, "target", application_name="hyperfill/repair") as connection:
        for difference in one.differing:
            findings, _, _ = preflight_rows.overlap(
                connection,
                order.target,
                order.hypertable,
                difference.window.piece.span,
                preparation.columns,
                preparation.spec,
            )
            found |= {f.code: replace(f, table=one.prepared.table) for f in findings if f.code != "overlap"}
    renewed = found.get("renewed")
    if renewed is not None and not preparation.spec.replace:
        # Of rows that were equal as well: whatever refers to these values would lead nowhere.
        hint = "--replace goes on"
        found["renewed"] = replace(renewed, severity="error", hint=hint)
    return list(found.values())


def _window(compared: Compared) -> PlannedWindow:
    """A window to move again. What it may lose is what the user was told, and no row more."""
    source, target = compared.source.rows, compared.target.rows
    return PlannedWindow(compared.piece.span, max(1, source), True, max(0, target - source))


def _enter(control: Connection, one: Repair) -> None:
    """Enter the windows that differ into the ledger: a new backfill, or an interrupted one with these instead."""
    prepared = one.prepared
    assert prepared.definition is not None and prepared.order is not None and prepared.time_type is not None
    windows = [_window(d.window) for d in one.differing]
    findings = [f.as_json() for f in prepared.findings]
    with naming(control, hypertable=prepared.order.hypertable_oid), control.transaction():
        control.execute("SET LOCAL lock_timeout = '60s'")
        ledger.lock_hypertable(control, prepared.order.hypertable_oid)
        _, unfinished = find_repaired(control, prepared)  # once more, under the lock
        if unfinished is None:
            backfill = ledger.insert(
                control,
                prepared.definition,
                windows,
                prepared.time_type,
                client=__version__,
                findings=findings,
                versions=prepared.versions,
            )
        else:
            backfill = unfinished.id
            ledger.renew_windows(control, backfill, windows, prepared.time_type)
    ledger.start_run(control, backfill, findings)
    prepared.entry = ledger.entries(control, ids=[backfill])[0]
    span = prepared.definition.span(prepared.time_type)
    prepared.order = replace(prepared.order, backfill=backfill, span=span)


def _finish_parent(one: Repair, limits: Limits, observer: Observer) -> None:
    """A backfill that ended with a mismatch is compared once more where it differed, and done."""
    parent, prepared = one.preparation.parent, one.prepared
    if parent is None or parent.finished or prepared.order is None:
        return
    order = replace(prepared.order, backfill=parent.id)
    with Control(prepared.spec.target) as control:
        found = ledger.entries(control.connection, ids=[parent.id])
        if not found or found[0].finished:
            return
        try:
            report = complete(control, replace(prepared, order=order, entry=found[0], findings=[]), limits, observer)
        except (psycopg.Error, Refused, WindowError) as error:
            # What was repaired is noted. This is what the next run, or repair, goes on with.
            observer.log(f"backfill {parent.id} could not be finished: {first_line(error)}", level="error")
            one.state = "incomplete"
            return
    observer.log(f"backfill {parent.id}, which had ended with a difference: {report.state}")
    one.state = report.state
    if one.report is None:
        one.report = report
    else:
        # What the repair said of policies that this backfill still held is over.
        told = (
            [f for f in one.report.findings if f.code != "policies"] if report.state == "done" else one.report.findings
        )
        one.report.findings = told + report.findings
