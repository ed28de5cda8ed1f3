"""`hyperfill verify`: parse, call, print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from hyperfill.cli.options import MoveOptions, option
from hyperfill.cli.output import observer, print_json, say
from hyperfill.errors import UsageError
from hyperfill.signals import Signals

if TYPE_CHECKING:
    from hyperfill.differences import Difference, Sample
    from hyperfill.timeline import TimeType
    from hyperfill.verify import Verification, Verified

_DIFFERENCES_SHOWN = 20


@Parameter(name="*")
@dataclass(kw_only=True)
class VerifyOptions:
    """Options that verify has besides those of run: how to compare."""

    mode: Annotated[
        Literal["hash", "count"],
        option("mode", "hash finds every value that differs; count is cheap and finds only rows too many or too few."),
    ] = "hash"
    sample: Annotated[
        float | None, option("sample", "Compare only a random share of the windows, in percent, e.g. 5.")
    ] = None
    throttle: Annotated[
        float | None, option("throttle", "Read at most this many rows per second on each side, over all jobs.")
    ] = None


def verify(options: MoveOptions, how: VerifyOptions) -> int:
    """Compare both sides; the exit code."""
    from hyperfill.comparing import Pace
    from hyperfill.preparing import worst
    from hyperfill.verify import verify_tables

    if how.sample is not None and not 0 < how.sample <= 100:
        raise UsageError(f"--sample is a percentage: more than 0 and at most 100, not {how.sample:g}")
    if how.throttle is not None and not how.throttle >= 1:
        raise UsageError(f"--throttle must be at least 1 row per second, not {how.throttle:g}")
    watcher = observer()
    with Signals():
        specs, limits = options.specs()
        try:
            reports = verify_tables(
                specs, how.mode, Pace(limits.jobs, how.throttle, limits.retry), how.sample, watcher, limits.seconds
            )
        finally:
            watcher.stop()
    state = worst(report.state for report in reports)
    if options.json:
        found = [report.as_json() for report in reports]
        print_json({"state": state, "backfills": found} if options.config is not None else found[0])
    else:
        for report in reports:
            _print(report)
    return {"mismatch": 5, "incomplete": 4}.get(state, 0)


def _print(report: Verified) -> None:
    prepared = report.comparison.prepared
    head = f"{prepared.table} → {prepared.hypertable} {prepared.range}"
    if report.found is None:
        print(f"{head}: the range is empty")
        return
    assert prepared.time_type is not None
    verdict = {"equal": "equal", "different": "DIFFERENT", "incomplete": "not everything could be compared"}
    print(f"{head}: {verdict[report.found.state]}")
    for line in lines(report.found, prepared.time_type):
        print(line)
    if report.found.state == "different":
        print("  hyperfill repair with the same options moves these windows again")


def lines(found: Verification, time_type: TimeType) -> list[str]:
    """A comparison as people read it: what was compared, what was not, what differs."""
    from hyperfill.quantities import counted, duration

    speed = f", {found.rows_source / found.seconds:,.0f} rows/s" if found.seconds > 0 and found.rows_source else ""
    said = [
        f"  compared by {found.mode}: {counted(found.compared, 'window')}, "
        f"{counted(found.rows_source, 'row')} of the source, {found.rows_target:,} of the target, "
        f"{duration(found.seconds)}{speed}"
    ]
    if found.known:
        said.append(f"  {counted(found.known, 'window')} compared before, and equal")
    if found.left_out:
        said.append(f"  NOT compared: {found.left_out:,} of {found.total:,} windows (--sample {found.sample:g})")
    if found.overdue:
        said.append(f"  NOT compared: {found.overdue:,} of {found.total:,} windows (--max-duration)")
    if found.mode == "count":
        said.append("  NOT compared: values, where both sides have as many rows (--mode hash compares them)")
    if found.not_compared:
        said.append(f"  NOT compared: columns that are not moved: {', '.join(found.not_compared)}")
    if found.momentary:
        moment = counted(found.momentary, "window")
        said.append(f"  {moment} differed for a moment: somebody was writing into them")
    for failed in found.as_json(time_type).get("failed_windows", [])[:_DIFFERENCES_SHOWN]:
        place = f"{failed['window']} [{failed['lower']}, {failed['upper']})"
        said.append(f"  window {place} could not be compared: {failed.get('server', 'server')}: {failed['message']}")
    for difference in found.differing[:_DIFFERENCES_SHOWN]:
        said += _difference_lines(difference, time_type)
    if len(found.differing) > _DIFFERENCES_SHOWN:
        said.append(f"  ... and {len(found.differing) - _DIFFERENCES_SHOWN} more windows that differ (--json has all)")
    return said


def _difference_lines(difference: Difference, time_type: TimeType) -> list[str]:
    from hyperfill.quantities import counted

    found = difference.as_json(time_type)
    said = [
        f"  window {found['window']} [{found['lower']}, {found['upper']}) differs: "
        f"{counted(found['rows_source'], 'row')} on the source, {found['rows_target']:,} on the target"
    ]
    if not difference.examined:
        return said
    least = "" if difference.exact else "at least "
    said.append(
        f"    {least}{counted(difference.missing, 'row')} missing on the target, {difference.extra:,} only there, "
        f"{difference.changed:,} with other values"
    )
    for bucket in found["buckets"][:5]:
        said.append(
            f"    between {bucket['lower']} and {bucket['upper']}: "
            f"{counted(bucket['rows_source'], 'row')} on the source, {bucket['rows_target']:,} on the target"
        )
    more = len(found["buckets"]) - 5 + difference.more_buckets
    if more > 0:
        said.append(f"    and in {more:,} more stretches")
    said += [f"    {_sample_line(sample)}" for sample in difference.samples]
    return said


def _sample_line(sample: Sample) -> str:
    key = ", ".join(f"{name}={value}" for name, value in sample.key.items())
    if sample.what == "different" and sample.source is not None and sample.target is not None:
        values = ", ".join(f"{n}: {_value(sample.source[n])} → {_value(sample.target[n])}" for n in sample.columns[:5])
        more = f" and {len(sample.columns) - 5} more columns" if len(sample.columns) > 5 else ""
        return f"different ({key}): {values}{more}"
    row = sample.source if sample.what == "missing" else sample.target
    assert row is not None
    rest = ", ".join(f"{n}={_value(v)}" for n, v in list(row.items())[:8] if n not in sample.key)
    return f"{'missing on' if sample.what == 'missing' else 'only on'} the target ({key}): {rest}"


def _value(value: str | None) -> str:
    if value is None:
        return "NULL"
    return repr(value if len(value) <= 40 else value[:37] + "...")


def say_verification(found: Verification, time_type: TimeType) -> None:
    """The same for a command whose result is not only this."""
    for line in lines(found, time_type):
        say(line)
