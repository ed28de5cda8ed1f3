"""The live display: a bar, figures, a line for each worker; log lines scroll above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hyperfill.errors import Finding
from hyperfill.ledger import Entry
from hyperfill.progress import Level, Rate, Reading, Snapshot
from hyperfill.quantities import duration, human_bytes

_STYLE = {"info": "", "warning": "yellow", "error": "bold red", "note": "dim"}


class Terminal:
    """Shows a run on stderr."""

    wants_snapshots = True

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._rate = Rate()
        self._live: Live | None = None

    def log(self, text: str, level: Level = "info") -> None:
        self.console.print(Text(text, style=_STYLE[level]))

    def findings(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            where = f"{finding.table}: " if finding.table else ""
            self.console.print(
                Text(f"{finding.severity}: ", style=_STYLE[finding.severity]) + Text(where + finding.message)
            )
            if finding.hint:
                self.console.print(Text(f"  {finding.hint}", style="dim"))

    def show(self, snapshot: Snapshot) -> None:
        self._rate.add(snapshot)
        self._draw(render(snapshot, self._rate))

    def _draw(self, content: RenderableType) -> None:
        if self._live is None:
            self._live = Live(console=self.console, refresh_per_second=4, transient=False)
            self._live.start()
        self._live.update(content)

    def reading(self, reading: Reading) -> None:
        self._draw(Group(ProgressBar(total=1.0, completed=reading.share, width=20), Text(f"  {reading}")))

    def stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def _state(snapshot: Snapshot) -> str:
    """Where a backfill is; nobody works on it when no session of the target says so."""
    [entry] = snapshot.entries
    if entry.finished:
        return "done"
    if entry.mismatch:
        return f"{entry.differing} window{'s differ' if entry.differing > 1 else ' differs'}"
    if entry.complete:
        return "finishing"
    return "moving" if snapshot.activity else "not done"


def _units(entry: Entry) -> str:
    """How many windows, or batches of files, are done."""
    if entry.kind != "load":
        return f"windows {entry.done}/{entry.total}"
    cleared = f"cleared {entry.done}/{entry.total}, " if entry.done < entry.total else ""
    return f"{cleared}{entry.batches:,} batches"


def render(snapshot: Snapshot, rate: Rate | None = None) -> RenderableType:
    """Backfills with their bars, and the windows that are being moved."""
    parts: list[RenderableType] = []
    for entry in snapshot.entries:
        mine = replace(
            snapshot, entries=(entry,), activity=tuple(a for a in snapshot.activity if a.backfill == entry.id)
        )
        title = Text(f"#{entry.id} {entry.source_relation} → {entry.hypertable}", style="bold")
        what = "  repair" if entry.kind == "repair" else ""
        parts.append(title + Text(f"  {entry.bounds}{what}", style="dim not bold"))
        state = "loading" if rate is not None and entry.kind == "load" and not entry.complete else _state(mine)
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            Text(""),
            ProgressBar(total=1.0, completed=mine.share, width=20),
            Text(f"{mine.share:.1%}"),
            Text(_units(entry)),
            Text(f"{entry.rows_copied + mine.rows_running:,.0f} rows"),
            Text(human_bytes(mine.bytes)),
            Text(state, style="green" if entry.finished else ""),
        )
        parts.append(grid)
        if entry.failed:
            parts.append(Text(f"  {entry.failed} window{'s' if entry.failed > 1 else ''} failed", style="red"))
        lost = {"rejected": entry.rows_rejected, "outside": entry.rows_outside, "skipped": entry.rows_skipped}
        if any(lost.values()):
            parts.append(Text("  " + ", ".join(f"{n:,} rows {what}" for what, n in lost.items() if n), style="yellow"))
        if entry.batches_failed:
            parts.append(Text(f"  {entry.batches_failed} batches failed", style="red"))
        if entry.rows_deleted:
            parts.append(Text(f"  {entry.rows_deleted:,} dual-written rows replaced", style="dim"))
    if rate is not None:
        left = rate.seconds_left
        eta = duration(left) if left is not None and snapshot.share < 1 else "-"
        parts.append(Text(f"  {rate.rows:,.0f} rows/s   {human_bytes(rate.bytes)}/s   ETA {eta}"))
    for activity in snapshot.activity:
        doing = (
            "waiting for a lock"
            if activity.blocked
            else f"{human_bytes(activity.bytes)} copied"
            if activity.copying
            else "starting"
        )
        client = "" if activity.client == "local" else f" from {activity.client}"
        parts.append(
            Text(
                f"  worker pid {activity.pid}{client}: #{activity.backfill} window {activity.window}, {doing}, "
                f"{activity.age:.0f} s",
                style="dim",
            )
        )
    return Group(*parts)
