"""The section of a report that tells of policies: as they were before, and as they are now."""

from __future__ import annotations

from typing import Any

from hyperfill.report import Held, Report
from hyperfill.report_parts import Cell, Rows, Section, Table, cell, code, compact, moment


def _job(job: dict[str, Any]) -> str:
    """A job's row in words."""
    parts = ["on" if job.get("scheduled") else "off"]
    if job.get("schedule_interval"):
        parts.append(f"every {job['schedule_interval']}")
    if job.get("timezone"):
        parts.append(f"time zone {job['timezone']}")
    if job.get("owner"):
        parts.append(f"owner {job['owner']}")
    if job.get("config"):
        parts.append(compact({k: v for k, v in job["config"].items() if k not in ("hypertable_id",)}))
    return ", ".join(parts)


def policies(report: Report) -> Section:
    """What was held, how it was before, and how it is now."""
    section = Section("policies", "Policies before and after")
    if report.policies_note:
        section.texts.append(report.policies_note)
    rows: Rows
    if report.holds:
        heads = ("policy", "of", "job", "held (UTC)", "by", "released (UTC)", "before", "now")
        rows = [
            (
                Cell(h.kind),
                code(h.relation),
                Cell(str(h.job_id)),
                cell(h.held_at),
                code(h.held_by, 16),
                _released(h),
                Cell(_job(h.before)),
                _now(h, report),
            )
            for h in report.holds
        ]
        section.tables.append(Table(heads, rows, small=True))
        section.notes = [
            "Held are policies of the hypertable and of the aggregates above it that were turned off while this "
            "backfill was unfinished, by it or by another one."
        ]
    held = {h.job_id for h in report.holds}
    others = [job for job in report.jobs if job.id not in held]
    if others:
        section.texts.append("Not turned off while this backfill was unfinished, as they are now:")
        rows = [(Cell(j.kind), code(j.relation), Cell(str(j.id)), Cell(_job(j.job))) for j in others]
        section.tables.insert(0, Table(("policy", "of", "job", "now"), rows, small=True))
    if not section.texts and not section.tables:
        section.texts = ["The hypertable has no policies, and none was held."]
    return section


def _released(hold: Held) -> Cell:
    if hold.released_at is None:
        return Cell("not released", "bad")
    how = {"was on": "\nsomebody had turned it on", "gone": "\nthe job was gone"}.get(hold.outcome or "", "")
    # The space inside of a time does not break.
    return Cell(moment(hold.released_at).replace(" ", "\u00a0") + how, "lines" if how else "short")


def _now(hold: Held, report: Report) -> Cell:
    if hold.now is None:
        return Cell("unknown" if report.policies_note else "gone", "bad")
    on = bool(hold.now.get("scheduled"))
    if hold.changed:
        said = "; ".join(f"{key} {compact(a)} \u2192 {compact(b)}" for key, (a, b) in hold.changed.items())
        return Cell(f"{'on' if on else 'off'}, changed: {said}", "" if on else "bad")
    return Cell("on, as before" if on else "off, otherwise as before", "good" if on else "bad")
