"""`hyperfill run` and `hyperfill plan`: parse, call, print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hyperfill.cli.options import MoveOptions
from hyperfill.cli.output import findings_lines, observer, print_json, say
from hyperfill.cli.verify import say_verification
from hyperfill.errors import Refused, blamed
from hyperfill.signals import Signals

if TYPE_CHECKING:
    from hyperfill.backfill import Outcome


def run(options: MoveOptions) -> int:
    """Carry out the backfill; the exit code."""
    from hyperfill import backfill
    from hyperfill.reserve import Reserve

    watcher = observer()
    with Signals() as signals:
        specs, limits = options.specs()
        try:
            with Reserve(limits.jobs) as reserve:
                outcome = backfill.run(specs, limits, watcher, signals, reserve)
        finally:
            watcher.stop()
    print_outcome(outcome, as_json=options.json, many=options.config is not None)
    return outcome.exit_code


def print_outcome(outcome: Outcome, *, as_json: bool, many: bool = False) -> None:
    """What became of backfills; `many`: the object says that of several."""
    if as_json:
        reports = [r.as_json() for r in outcome.reports]
        print_json({"state": outcome.state, "backfills": reports} if many else reports[0])
    else:
        for report in outcome.reports:
            _print_report(report)


def _print_report(report: Any) -> None:
    from hyperfill.quantities import duration, human_bytes

    entry = report.entry
    if report.state == "nothing":
        say(f"{report.prepared.table}: nothing to do. {report.findings[-1].message}")
        return
    speed = f", {entry.rows_copied / report.seconds:,.0f} rows/s" if report.seconds and entry.runs == 1 else ""
    say(f"{report.prepared.table} → {report.prepared.hypertable} {report.prepared.range}: {report.state}")
    say(f"  {entry.done} of {entry.total} windows, {duration(report.seconds)}{speed}")
    say(f"  {entry.rows_copied:,} rows copied, {entry.rows_deleted:,} replaced, {human_bytes(entry.bytes_copied)}")
    if report.landed is not None:
        landed = report.landed
        why = " (--land plain)" if report.prepared.spec.land == "plain" else ""
        left = f", {landed.left} left{why}" if landed.left else ""
        say(f"  chunks: {landed.written} written compressed, {landed.afterwards} compressed when filled{left}")
    for line in findings_lines([f for f in report.findings if f not in report.prepared.findings]):
        say(line)
    if report.verification is not None:
        say_verification(report.verification, report.prepared.time_type)
    if report.state == "mismatch":
        say("  hyperfill repair with the same options moves these windows again")
    if report.state != "incomplete":
        return
    for failed in report.failed[:10]:
        place = f" ({failed['context']})" if failed.get("context") else ""
        bounds = f"[{failed['lower']}, {failed['upper']})"
        say(f"  window {failed['window']} {bounds} failed{blamed(failed)}: {failed.get('message')}{place}")
        if failed.get("hint"):
            say(f"    {failed['hint']}")
    say(
        "  run the same command again to continue"
        if not report.failed
        else "  mend that, and run the same command again"
    )


def plan(options: MoveOptions) -> int:
    """Everything run would do, nothing written; the exit code."""
    from hyperfill.backfill import prepare_all
    from hyperfill.cli.plan_view import plan_json, plan_text

    with Signals():
        specs, limits = options.specs()
        prepared = prepare_all(specs, limits, observer())
    refused = any(p.errors for p in prepared)
    if options.json:
        plans = [plan_json(p, limits) for p in prepared]
        state = "refused" if refused else "planned"
        print_json({"state": state, "backfills": plans} if options.config else plans[0])
    else:
        for one in prepared:
            print(plan_text(one, limits))
    return Refused.exit_code if refused else 0
