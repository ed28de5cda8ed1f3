"""Watching a run: a snapshot of the ledger and of the running COPYs, and who is shown it.

The figures come from the target, not from our own workers, so `status` on another machine sees the same.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hyperfill import ledger
from hyperfill.errors import Finding
from hyperfill.quantities import duration, human_bytes
from hyperfill.session import Connection

Level = Literal["info", "warning", "error"]
log = logging.getLogger("hyperfill")


@dataclass(frozen=True)
class Snapshot:
    """The state of some backfills at one moment."""

    entries: tuple[ledger.Entry, ...]
    activity: tuple[ledger.Activity, ...]
    taken: float  # time.monotonic()
    read: float | None = None  # of the files of a load, 0 to 1; only the process that reads them knows

    @property
    def bytes(self) -> int:
        """Bytes copied, including those of windows that run."""
        return sum(e.bytes_copied for e in self.entries) + sum(a.bytes for a in self.activity)

    @property
    def rows(self) -> int:
        return sum(e.rows_copied for e in self.entries)

    @property
    def rows_running(self) -> float:
        """Rows that running windows have copied, guessed from their bytes: the server does not count them."""
        done = sum(e.bytes_copied for e in self.entries)
        return sum(a.bytes for a in self.activity) * (self.rows / done) if done else 0.0

    @property
    def share(self) -> float:
        """How much is done, 0 to 1: by estimated rows where there are any, else by windows."""
        estimate = sum(e.estimate for e in self.entries)
        total = sum(e.total for e in self.entries)
        if total and all(e.complete for e in self.entries):
            return 1.0
        [one] = self.entries if len(self.entries) == 1 else [None]
        if one is not None and one.kind == "load" and one.done == one.total:
            # The share of plain files is known to everybody, of compressed ones to whoever reads them.
            return min(0.999, one.bytes_copied / one.bytes_total if one.bytes_total else self.read or 0.0)
        if estimate:
            done = sum(e.estimate_done for e in self.entries)
            running = min(self.rows_running, max(0.0, estimate - done))
            return min(0.999, (done + running) / estimate)
        return sum(e.done for e in self.entries) / total if total else 0.0


def take(connection: Connection, backfills: Sequence[int] | None = None) -> Snapshot:
    """Look at the ledger and at the sessions that work."""
    entries = tuple(ledger.entries(connection, ids=backfills))
    ids = {e.id for e in entries}
    activity = tuple(a for a in ledger.activity(connection) if a.backfill in ids)
    return Snapshot(entries, activity, time.monotonic())


class Rate:
    """Speed over the last half minute, and the time that is left at that speed."""

    _HORIZON = 30.0

    def __init__(self) -> None:
        self._past: deque[tuple[float, float, int, float]] = deque()

    def add(self, snapshot: Snapshot) -> None:
        rows = snapshot.rows + snapshot.rows_running
        self._past.append((snapshot.taken, rows, snapshot.bytes, snapshot.share))
        while len(self._past) > 2 and snapshot.taken - self._past[0][0] > self._HORIZON:
            self._past.popleft()

    def _per_second(self, index: int) -> float:
        if len(self._past) < 2 or self._past[-1][0] <= self._past[0][0]:
            return 0.0
        first, last = self._past[0], self._past[-1]
        return max(0.0, (last[index] - first[index]) / (last[0] - first[0]))

    @property
    def rows(self) -> float:
        return self._per_second(1)

    @property
    def bytes(self) -> float:
        return self._per_second(2)

    @property
    def seconds_left(self) -> float | None:
        speed = self._per_second(3)
        return (1.0 - self._past[-1][3]) / speed if speed > 0 else None


@dataclass(frozen=True)
class Reading:
    """How far a comparison is."""

    done: int  # windows
    total: int
    rows: int  # of the source
    expected: int  # rows, about
    differing: int
    seconds: float

    @property
    def share(self) -> float:
        """0 to 1."""
        if self.done >= self.total:
            return 1.0
        return min(0.999, self.rows / self.expected if self.expected else self.done / self.total)

    def __str__(self) -> str:
        speed = self.rows / self.seconds if self.seconds > 0 else 0.0
        left = self.seconds * (1 - self.share) / self.share if self.share > 0 else None
        return ", ".join(
            [
                f"{self.share:.1%} compared",
                f"windows {self.done}/{self.total}" + (f" ({self.differing} differ)" if self.differing else ""),
                f"{self.rows:,} rows",
                f"{speed:,.0f} rows/s",
                f"ETA {duration(left)}" if left is not None else "ETA unknown",
            ]
        )


class Observer(Protocol):
    """Who is told about a run. The engine knows nothing of terminals."""

    wants_snapshots: bool

    def log(self, text: str, level: Level = "info") -> None:
        """Something happened."""

    def findings(self, findings: Sequence[Finding]) -> None:
        """What preflight found."""

    def show(self, snapshot: Snapshot) -> None:
        """How far it is."""

    def reading(self, reading: Reading) -> None:
        """How far a comparison is."""

    def stop(self) -> None:
        """The run is over: leave the screen as it should stay."""


class Lines:
    """Log lines on stderr: for pipes, cron and systemd."""

    wants_snapshots = True
    _EVERY = 10.0  # seconds between two lines of progress

    def __init__(self) -> None:
        self._rate = Rate()
        self._said = time.monotonic()

    def log(self, text: str, level: Level = "info") -> None:
        log.log({"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}[level], "%s", text)

    def findings(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            level: Level = (
                "error" if finding.severity == "error" else "warning" if finding.severity == "warning" else "info"
            )
            where = f"{finding.table}: " if finding.table else ""
            self.log(f"{where}{finding.message}", level)
            if finding.hint:
                self.log(f"  {finding.hint}", level)

    def show(self, snapshot: Snapshot) -> None:
        self._rate.add(snapshot)
        if snapshot.taken - self._said >= self._EVERY:
            self._said = snapshot.taken
            self.log(summary(snapshot, self._rate))

    def reading(self, reading: Reading) -> None:
        if time.monotonic() - self._said >= self._EVERY:
            self._said = time.monotonic()
            self.log(str(reading))

    def stop(self) -> None:
        pass


def summary(snapshot: Snapshot, rate: Rate) -> str:
    """One line: windows, rows, bytes, speed, time left."""
    done, total = sum(e.done for e in snapshot.entries), sum(e.total for e in snapshot.entries)
    failed = sum(e.failed for e in snapshot.entries)
    batches = sum(e.batches for e in snapshot.entries)
    left = rate.seconds_left
    parts = [f"{snapshot.share:.1%}" if snapshot.share or not batches else "share unknown"]
    load = any(e.kind == "load" for e in snapshot.entries)
    if total or not load:
        parts.append(f"windows {done}/{total}" + (f" ({failed} failed)" if failed else ""))
    if load:
        parts.append(f"{batches:,} batches")
    parts += [
        f"{snapshot.rows + snapshot.rows_running:,.0f} rows",
        human_bytes(snapshot.bytes),
        f"{rate.rows:,.0f} rows/s",
        f"{human_bytes(rate.bytes)}/s",
        f"ETA {duration(left)}" if left is not None else "ETA unknown",
    ]
    return ", ".join(parts)


def _load_json(entry: ledger.Entry) -> dict[str, Any]:
    """What only a load of files has."""
    if entry.kind != "load":
        return {}
    return {
        "files": [file["path"] for file in entry.settings.get("files", [])],
        "batches": {"done": entry.batches, "failed": entry.batches_failed},
        "rows_read": entry.rows_read,
        "rows_skipped": entry.rows_skipped,
        "rows_outside": entry.rows_outside,
        "rows_rejected": entry.rows_rejected,
        "bytes_total": entry.bytes_total,
    }


def entry_json(entry: ledger.Entry, activity: Sequence[ledger.Activity]) -> dict[str, Any]:
    """A backfill as `status --json` shows it."""

    def moment(value: Any) -> str | None:
        return None if value is None else value.isoformat()

    return {
        "backfill": entry.id,
        "kind": entry.kind,
        "table": entry.source_relation,
        "hypertable": entry.hypertable,
        "start": None if entry.range_end is None else entry.range_start or "-infinity",
        "end": entry.range_end,
        "state": "done" if entry.finished else "mismatch" if entry.mismatch else "incomplete",
        "phase": entry.phase,
        "windows": {"total": entry.total, "done": entry.done, "failed": entry.failed},
        "rows_copied": entry.rows_copied,
        "rows_deleted": entry.rows_deleted,
        "bytes_copied": entry.bytes_copied,
        "rows_estimated": entry.estimate,
        **_load_json(entry),
        "planned_at": moment(entry.planned_at),
        "started_at": moment(entry.started_at),
        "finished_at": moment(entry.finished_at),
        "runs": entry.runs,
        "workers": [
            {
                "window": a.window,
                "pid": a.pid,
                "seconds": round(a.age, 1),
                "bytes": a.bytes,
                "blocked": a.blocked,
                "client": a.client,
            }
            for a in activity
            if a.backfill == entry.id
        ],
        "findings": entry.findings,
    }
