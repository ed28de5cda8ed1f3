"""The judgement at the top of a report: done and verified, done, different, or incomplete. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hyperfill.quantities import counted
from hyperfill.report import Report


@dataclass(frozen=True)
class Verdict:
    """What a reader needs first. `code`: verified, counted, unverified, differs or incomplete."""

    code: str
    state: str  # as `run --json` says it: done, incomplete or mismatch
    headline: str
    sentence: str
    notes: list[str]


def judge(report: Report) -> Verdict:
    """The verdict of a backfill, from the ledger alone.

    A difference outweighs everything else; a window that differed counts as equal once a repair has moved it again
    and found it equal by hash.
    """
    entry, compared = report.entry, report.compared
    differ = compared.differ - report.repaired
    notes = _notes(report)
    if differ:
        said = f"{counted(differ, 'window')} of {entry.total:,} differ{'s' if differ == 1 else ''}"
        if not entry.finished:
            notes.insert(0, f"The backfill has not come to its end (phase: {entry.phase}). {_progress(report)}")
        return Verdict(
            "differs",
            "mismatch",
            "Source and target differ",
            f"{said}: what the source held and what the target held when they were compared was not the same.",
            notes,
        )
    if not entry.finished:
        left = "What is not done may be missing in the target." if not entry.complete else "What follows is not done."
        return Verdict("incomplete", "incomplete", "Incomplete", f"{_progress(report)} {left}", notes)
    if entry.total and compared.windows == entry.total:
        if compared.by_count == 0:
            return Verdict(
                "verified",
                "done",
                "Done and verified by hash",
                f"{_all(entry.total)} compared after the move: the same number of rows and the same hash of all "
                "moved columns in source and target.",
                notes,
            )
        return Verdict(
            "counted",
            "done",
            "Done, verified by count only",
            f"{_all(entry.total)} compared after the move and had the same number of rows on both sides; the values "
            f"of {counted(compared.by_count, 'window')} were not compared.",
            notes,
        )
    return Verdict("unverified", "done", "Done, not verified", _unverified(report), notes)


def _all(total: int) -> str:
    return "The only window was" if total == 1 else f"All {total:,} windows were"


def _unverified(report: Report) -> str:
    entry, compared = report.entry, report.compared
    if entry.kind == "load":
        return "Files were loaded to their end. There is no source that their rows could be compared with afterwards."
    if compared.windows:
        return (
            f"{counted(compared.windows, 'window')} of {entry.total:,} were compared with the source after the move, "
            "the others were not."
        )
    return "Every window was moved. None was compared with the source afterwards."


def _progress(report: Report) -> str:
    entry = report.entry
    parts = []
    if entry.total or entry.kind != "load":
        parts.append(f"{entry.done:,} of {entry.total:,} windows done")
        if entry.failed:
            parts.append(f"{entry.failed:,} failed")
        if pending := entry.total - entry.done - entry.failed:
            parts.append(f"{pending:,} pending")
    if entry.kind == "load":
        parts.append(f"{counted(entry.batches, 'batch')} of the files loaded")
        if entry.batches_failed:
            parts.append(f"{counted(entry.batches_failed, 'batch')} failed")
    return f"{', '.join(parts)}; the phase reached is \u201c{entry.phase}\u201d."


def _notes(report: Report) -> list[str]:
    """What else a person who signs must know."""
    entry, notes = report.entry, []
    if entry.kind == "repair":
        parent = entry.settings.get("repairs")
        of = f" of backfill {parent}" if isinstance(parent, int) else ""
        notes.append(f"This is a repair{of}: only windows that differed were moved again.")
    if report.repaired:
        ids = ", ".join(f"#{other.id}" for other, _ in report.repairs if other.finished)
        notes.append(
            f"{counted(report.repaired, 'window')} differed, then {'was' if report.repaired == 1 else 'were'} moved "
            f"again and found equal by hash (repair {ids})."
        )
    if entry.rows_rejected:
        notes.append(f"{counted(entry.rows_rejected, 'row')} of the files {_was(entry.rows_rejected)} rejected.")
    held = [h for h in report.holds if h.released_at is None]
    if held:
        verb = "is" if len(held) == 1 else "are"
        notes.append(f"{len(held)} polic{'y' if len(held) == 1 else 'ies'} of the hypertable {verb} still held.")
    if report.chunks_in_order < report.chunks:
        left = report.chunks - report.chunks_in_order
        notes.append(f"{counted(left, 'chunk')} that {_was(left)} compressed before {_is(left)} not compressed again.")
    if report.landed is not None and report.landed.left and entry.complete:
        left = report.landed.left
        notes.append(f"{counted(left, 'chunk')} that {_was(left)} to end compressed {_is(left)} not compressed.")
    open_slices = sum(a["planned"] - a["done"] for a in report.aggregates)
    left_out = sum(a["left_out"] for a in report.aggregates)
    if open_slices:
        notes.append(f"{counted(open_slices, 'slice')} of continuous aggregates {_is(open_slices)} not yet refreshed.")
    if left_out:
        notes.append(f"{counted(left_out, 'slice')} of continuous aggregates {_was(left_out)} left out of the refresh.")
    if report.hypertable_now is None:
        notes.append("The hypertable does not exist any more.")
    elif report.hypertable_now != entry.hypertable:
        notes.append(f"The hypertable is called {report.hypertable_now} now.")
    return notes


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
