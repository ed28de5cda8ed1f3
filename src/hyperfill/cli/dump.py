"""`hyperfill dump`: parse, call, print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from cyclopts import Parameter

from hyperfill.cli.options import (
    AllowSeqscan,
    Jobs,
    Json,
    MaxRate,
    MaxWindowRows,
    RetryFor,
    SkipUnstorable,
    Source,
    StallTimeout,
    Start,
    Table,
    Window,
    build_limits,
    option,
)
from hyperfill.cli.output import findings_lines, observer, print_json, say
from hyperfill.errors import Finding, UsageError, blamed
from hyperfill.quantities import duration, human_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hyperfill.dump import Figures, Observer, Outcome
    from hyperfill.dump_prepare import DumpSpec
    from hyperfill.progress import Level, Rate
    from hyperfill.spec import Limits


@Parameter(name="*")
@dataclass(kw_only=True)
class DumpOptions:
    """Options of dump."""

    source: Source = None
    table: Table = None
    out: Annotated[
        str | None,
        option("out", "The folder to write: an empty one, or one that is not there; or to go on with.", validator=None),
    ] = None
    start: Start = None
    end: Annotated[
        str | None,
        option(
            "end",
            "The completion point: upper bound, exclusive. Rows at or after it are not dumped.",
            allow_leading_hyphen=True,
        ),
    ] = None
    columns: Annotated[
        str | None, option("columns", "Columns to dump, in this order: A,B. Default: all that are not generated.")
    ] = None
    where: Annotated[str | None, option("where", "Dump only rows for which this SQL condition holds.")] = None
    time_column: Annotated[
        str | None,
        option("time-column", "The time column. Default: the hypertable's, or the only NOT NULL one that can be it."),
    ] = None
    source_time_column: Annotated[
        str | None, option("source-time-column", "The same as --time-column, under its name in run.")
    ] = None
    window: Window = None
    max_window_rows: MaxWindowRows = None
    compress: Annotated[
        Literal["zstd", "gzip", "none"] | None, option("compress", "How files are compressed. Default: zstd.")
    ] = None
    jobs: Jobs = None
    max_rate: MaxRate = None
    retry_for: RetryFor = None
    stall_timeout: StallTimeout = None
    allow_seqscan: AllowSeqscan = False
    skip_unstorable: SkipUnstorable = False
    accept_retention: Annotated[
        bool,
        option(
            "accept-retention", "Go on although the source's retention policy may drop part of the range.", negative=""
        ),
    ] = False
    json: Json = False

    def spec(self) -> DumpSpec:
        """What is asked for. Raises `UsageError`."""
        from pathlib import Path

        from hyperfill.dump_prepare import DumpSpec
        from hyperfill.spec import Spec

        required = {
            "source": "a libpq conninfo, or HYPERFILL_SOURCE",
            "table": "SCHEMA.TABLE on the source",
            "out": "the folder to write",
            "end": "the completion point, up to which rows are dumped",
        }
        for name, what in required.items():
            if getattr(self, name) is None:
                raise UsageError(f"--{name} is required: {what}")
        for name, value in self.__dict__.items():
            # An unset variable of a script must not widen what is dumped. An empty bound is refused as a bound.
            if value == "" and name not in ("source", "start", "end"):
                raise UsageError(f"--{name.replace('_', '-')} is empty: leave it out, or say what you mean")
        if self.max_window_rows is not None and self.max_window_rows < 1:
            raise UsageError(f"--max-window-rows must be at least 1, not {self.max_window_rows}")
        if None not in (self.time_column, self.source_time_column) and self.time_column != self.source_time_column:
            raise UsageError("--time-column and --source-time-column name two columns: a dump has one")
        assert self.source is not None and self.table is not None and self.end is not None and self.out is not None
        spec = Spec(
            source=self.source,
            target="",
            table=self.table,
            start=self.start,
            end=self.end,
            source_time_column=self.source_time_column or self.time_column,
            columns=self.columns,
            window=self.window,
            max_window_rows=self.max_window_rows,
            where=self.where,
            allow_seqscan=bool(self.allow_seqscan),
            skip_unstorable=bool(self.skip_unstorable),
            accept_retention=self.accept_retention,
        )
        return DumpSpec(spec, Path(self.out), self.compress or "zstd")

    def limits(self) -> Limits:
        return build_limits(self.__dict__)


def write(options: DumpOptions) -> int:
    """Write the dump; the exit code."""
    from hyperfill import dump as story
    from hyperfill.reserve import Reserve
    from hyperfill.signals import Signals

    watcher = _observer()
    with Signals() as signals:
        asked = options.spec()
        limits = options.limits()
        try:
            with Reserve(limits.jobs) as reserve:
                outcome = story.dump(asked, limits, watcher, signals, reserve)
        finally:
            watcher.stop()
    if options.json:
        print_json(outcome.as_json())
    else:
        _print(outcome)
    return outcome.exit_code


def _print(outcome: Outcome) -> None:
    prepared = outcome.prepared
    if outcome.state == "nothing":
        say(f"{prepared.table}: nothing to do. {outcome.findings[-1].message}")
        return
    span = f"[{prepared.start or '-infinity'}, {prepared.end})"
    speed = f", {outcome.made / outcome.seconds:,.0f} rows/s" if outcome.seconds and outcome.made else ""
    say(f"{prepared.table} {span} → {prepared.asked.out}: {outcome.state}")
    say(f"  {len(outcome.windows)} of {outcome.total} windows, {duration(outcome.seconds)}{speed}")
    size = f"{human_bytes(outcome.bytes)} in files, {human_bytes(outcome.csv_bytes)} of CSV"
    say(f"  {outcome.rows:,} rows, {size}")
    for line in findings_lines([f for f in outcome.findings if f not in prepared.findings]):
        say(line)
    if outcome.state != "incomplete":
        return
    for failed in outcome.failed[:10]:
        bounds = f"[{failed['lower'] or '-infinity'}, {failed['upper']})"
        say(f"  window {failed['window']} {bounds} failed{blamed(failed)}: {failed['message']}")
        if failed.get("hint"):
            say(f"    {failed['hint']}")
    mend = "mend that, and run the same command again" if outcome.failed else "run the same command again to continue"
    say(f"  {mend}")


def _observer() -> Observer:
    """A live display where there is a terminal, log lines elsewhere."""
    from hyperfill.progress import Lines

    inner = observer()
    return _Lines(inner) if isinstance(inner, Lines) else _Terminal(inner)


class _Shown:
    """What both displays share: findings and messages go to the display of a run."""

    def __init__(self, inner: Any) -> None:
        from hyperfill.progress import Rate

        self._inner = inner
        self._rate = Rate()

    def log(self, text: str, level: Level = "info") -> None:
        self._inner.log(text, level)

    def findings(self, findings: Sequence[Finding]) -> None:
        self._inner.findings(findings)

    def _add(self, figures: Figures) -> None:
        self._rate.add(cast(Any, figures))


class _Lines(_Shown):
    """Log lines on stderr: for pipes, cron and systemd."""

    _EVERY = 10.0  # seconds between two lines of progress

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._said: float | None = None

    def show(self, figures: Figures) -> None:
        self._add(figures)
        self._said = self._said or figures.taken
        if figures.taken - self._said >= self._EVERY:
            self._said = figures.taken
            self.log(summary(figures, self._rate))

    def stop(self) -> None:
        pass


def summary(figures: Figures, rate: Rate) -> str:
    """One line: windows, rows, bytes, speed, time left."""
    left = rate.seconds_left
    failed = f" ({figures.failed} failed)" if figures.failed else ""
    return ", ".join(
        [
            f"{figures.share:.1%}",
            f"windows {figures.done}/{figures.total}{failed}",
            f"{figures.rows + figures.rows_running:,.0f} rows",
            f"{human_bytes(figures.bytes)} of CSV",
            f"{human_bytes(figures.stored)} in files",
            f"{rate.rows:,.0f} rows/s",
            f"{human_bytes(rate.bytes)}/s",
            f"ETA {duration(left)}" if left is not None else "ETA unknown",
        ]
    )


class _Terminal(_Shown):
    """A bar, figures, a line for each window that is being written."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._live: Any = None

    def show(self, figures: Figures) -> None:
        from rich.live import Live

        self._add(figures)
        if self._live is None:
            self._live = Live(console=self._inner.console, refresh_per_second=4, transient=False)
            self._live.start()
        self._live.update(_render(figures, self._rate))

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _render(figures: Figures, rate: Rate) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        Text(""),
        ProgressBar(total=1.0, completed=figures.share, width=20),
        Text(f"{figures.share:.1%}"),
        Text(f"windows {figures.done}/{figures.total}"),
        Text(f"{figures.rows + figures.rows_running:,.0f} rows"),
        Text(human_bytes(figures.bytes)),
    )
    parts: list[RenderableType] = [grid]
    if figures.failed:
        parts.append(Text(f"  {figures.failed} window{'s' if figures.failed > 1 else ''} failed", style="red"))
    left = rate.seconds_left
    eta = duration(left) if left is not None and figures.share < 1 else "-"
    files = f"{human_bytes(figures.stored)} in files"
    parts.append(Text(f"  {rate.rows:,.0f} rows/s   {human_bytes(rate.bytes)}/s   {files}   ETA {eta}"))
    for worker, (window, csv, _, since) in sorted(figures.running.items()):
        doing = f"{human_bytes(csv)}, {figures.taken - since:.0f} s"
        parts.append(Text(f"  worker {worker}: window {window}, {doing}", style="dim"))
    return Group(*parts)
