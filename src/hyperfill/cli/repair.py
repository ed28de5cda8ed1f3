"""`hyperfill repair`: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyperfill.cli.options import MoveOptions
from hyperfill.cli.output import findings_lines, observer, print_json, say
from hyperfill.cli.verify import say_verification
from hyperfill.signals import Signals

if TYPE_CHECKING:
    from hyperfill.repair import Repair


def repair(options: MoveOptions, *, dry_run: bool) -> int:
    """Make the target equal to the source; the exit code."""
    from hyperfill.repair import repair as carry_out

    watcher = observer()
    with Signals() as signals:
        specs, limits = options.specs()
        try:
            found = carry_out(specs, limits, watcher, signals, dry_run=dry_run)
        finally:
            watcher.stop()
    if options.json:
        repairs = [one.as_json() for one in found.repairs]
        print_json({"state": found.state, "backfills": repairs} if options.config is not None else repairs[0])
    else:
        for one in found.repairs:
            _say(one, dry_run=dry_run)
    return found.exit_code


def _say(one: Repair, *, dry_run: bool) -> None:
    prepared = one.prepared
    head = f"{prepared.table} → {prepared.hypertable} {prepared.range}"
    if one.before is None or prepared.time_type is None:
        say(f"{head}: the range is empty")
        return
    if not one.differing:
        say(f"{head}: nothing to repair, all windows are equal")
        return
    if dry_run:
        say(f"{head}: would be repaired")
        say_verification(one.before, prepared.time_type)
        return
    say(f"{head}: {'repaired' if one.state == 'done' else one.state}")
    if one.report is None or one.report.entry is None:
        return
    entry = one.report.entry
    say(
        f"  {entry.done} of {entry.total} windows that differed were moved again: {entry.rows_deleted:,} rows deleted, "
        f"{entry.rows_copied:,} copied"
    )
    if one.report.verification is not None:
        say_verification(one.report.verification, prepared.time_type)
    for line in findings_lines(one.report.findings):
        say(line)
    for failed in one.report.failed[:10]:
        say(f"  window {failed['window']} [{failed['lower']}, {failed['upper']}) failed: {failed.get('message')}")
    if one.state in ("mismatch", "incomplete"):
        say("  run the same command again to continue")
