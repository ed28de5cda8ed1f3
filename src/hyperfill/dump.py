"""The story of a dump: check, pin, write a file for each window, and then say in a manifest what is there.

Each step can be entered again after a crash: the same command goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from hyperfill.dump_crew import Crew
from hyperfill.dump_folder import Folder, Piece, Settings, cannot_write
from hyperfill.dump_prepare import DumpSpec, Prepared, prepare
from hyperfill.dump_worker import DumpEvent, Task
from hyperfill.errors import EXIT_OK, Finding, HyperfillError, Incomplete, Refused, blamed
from hyperfill.manifest import DumpedWindow
from hyperfill.process import Event
from hyperfill.progress import Level
from hyperfill.reserve import Reserve
from hyperfill.signals import Signals
from hyperfill.spec import Limits

State = Literal["done", "incomplete", "nothing"]
_LOOK = 0.5  # seconds between two looks at the figures for the display
_FIGURES_KEPT = 20  # failed windows that a report names


@dataclass
class Figures:
    """How far a dump is. Duck-typed like `progress.Snapshot`, so that the same Rate serves both."""

    total: int = 0
    done: int = 0
    failed: int = 0
    estimate: float = 0.0  # rows of all windows, as the plan thinks
    estimate_done: float = 0.0
    rows: int = 0
    bytes_done: int = 0  # of files
    csv_done: int = 0
    running: dict[int, tuple[int, int, int, float]] = field(default_factory=dict)  # worker: window, csv, bytes, since
    taken: float = 0.0  # time.monotonic()

    def add(self, window: DumpedWindow, estimate: int) -> None:
        self.done += 1
        self.rows += window.rows
        self.bytes_done += window.bytes
        self.csv_done += window.csv_bytes
        self.estimate_done += estimate

    @property
    def bytes(self) -> int:
        """CSV, before it was compressed, with that of running windows."""
        return self.csv_done + sum(csv for _, csv, _, _ in self.running.values())

    @property
    def stored(self) -> int:
        return self.bytes_done + sum(stored for _, _, stored, _ in self.running.values())

    @property
    def rows_running(self) -> float:
        """Rows of running windows, guessed from their bytes."""
        running = sum(csv for _, csv, _, _ in self.running.values())
        return running * (self.rows / self.csv_done) if self.csv_done else 0.0

    @property
    def share(self) -> float:
        """How much is done, 0 to 1: by estimated rows where there are any, else by windows."""
        if self.done == self.total:
            return 1.0
        if self.estimate:
            running = min(self.rows_running, max(0.0, self.estimate - self.estimate_done))
            return min(0.999, (self.estimate_done + running) / self.estimate)
        return self.done / self.total


class Observer(Protocol):
    """Who is told about a dump."""

    def log(self, text: str, level: Level = "info") -> None:
        """Something happened."""

    def findings(self, findings: Sequence[Finding]) -> None:
        """What preflight found."""

    def show(self, figures: Figures) -> None:
        """How far it is."""

    def stop(self) -> None:
        """The dump is over: leave the screen as it should stay."""


@dataclass
class Outcome:
    """What became of a dump."""

    prepared: Prepared
    state: State
    findings: list[Finding]
    total: int = 0
    windows: list[DumpedWindow] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    error: HyperfillError | None = None  # what ended it, if that was not a signal
    signum: int | None = None
    seconds: float = 0.0
    made: int = 0  # rows of this command, without those that were there already

    @property
    def rows(self) -> int:
        return sum(w.rows for w in self.windows)

    @property
    def bytes(self) -> int:
        return sum(w.bytes for w in self.windows)

    @property
    def csv_bytes(self) -> int:
        return sum(w.csv_bytes for w in self.windows)

    @property
    def exit_code(self) -> int:
        if self.state != "incomplete":
            return EXIT_OK
        return 128 + self.signum if self.signum is not None else Incomplete.exit_code

    def as_json(self) -> dict[str, Any]:
        """The contract of `dump --json`."""
        found: dict[str, Any] = {
            "state": self.state,
            "table": self.prepared.table,
            "out": str(self.prepared.asked.out),
            "start": self.prepared.start or "-infinity",
            "end": self.prepared.end,
            "windows": {"total": self.total, "done": len(self.windows), "failed": len(self.failed)},
            "rows": self.rows,
            "bytes": self.bytes,
            "csv_bytes": self.csv_bytes,
            "seconds": round(self.seconds, 3),
            "findings": [f.as_json() for f in self.findings],
        }
        if self.failed:
            found["failed_windows"] = self.failed[:_FIGURES_KEPT]
        return found


def dump(
    asked: DumpSpec, limits: Limits, observer: Observer, signals: Signals, reserve: Reserve | None = None
) -> Outcome:
    """Dump a range of a relation into a folder. Raises `Refused` with all findings before anything is written."""
    started = time.monotonic()
    observer.log(f"checking {asked.spec.table}")
    prepared = prepare(asked, limits.jobs)
    observer.findings(prepared.findings)
    if prepared.errors:
        count = len(prepared.errors)
        raise Refused(
            f"refused: {count} reason{'s' if count > 1 else ''} not to start; nothing was written",
            findings=tuple(prepared.findings),
        )
    if prepared.empty:
        return _nothing(prepared, "start and end are the same: the range is empty")
    if prepared.found.manifest is not None:
        return _finished(prepared)
    assert prepared.settings is not None
    try:
        opened = Folder(asked.out, prepared.found)
    except OSError as error:
        raise Refused(f"--out {asked.out} cannot be written: {error.strerror}") from error
    with opened as folder:
        if prepared.found.settings is None:
            try:
                folder.begin(prepared.settings)
            except OSError as error:
                raise cannot_write(asked.out, error) from error
        outcome = _make(folder, prepared, prepared.settings, limits, observer, signals, reserve)
    outcome.seconds = time.monotonic() - started
    return outcome


def _finished(prepared: Prepared) -> Outcome:
    """Nothing is left to do but to remove what a kill at the very end may have left behind."""
    known, out = prepared.found.manifest, prepared.asked.out
    assert known is not None
    outcome = _nothing(prepared, f"{out} holds this dump already, complete; another folder takes it anew")
    outcome.windows, outcome.total = list(known.windows), len(known.windows)
    try:
        if any(path.suffix in (".journal", ".part") for path in out.iterdir()) or (out / "dump.json").exists():
            with Folder(out, prepared.found) as folder:
                folder.tidy()
    except (OSError, Refused) as error:
        outcome.findings.append(Finding("note", "leftovers", str(error), table=prepared.table))
    return outcome


def _nothing(prepared: Prepared, text: str) -> Outcome:
    note = Finding("note", "nothing", text, table=prepared.table)
    return Outcome(prepared, "nothing", [*prepared.findings, note])


def _make(
    folder: Folder,
    prepared: Prepared,
    settings: Settings,
    limits: Limits,
    observer: Observer,
    signals: Signals,
    reserve: Reserve | None,
) -> Outcome:
    """The files of all windows that are not there yet; the manifest, if then all are."""
    run = _Run(folder, settings, observer)
    span = f"[{prepared.start or '-infinity'}, {prepared.end})"
    begun = f", {len(run.windows)} of them done already" if run.windows else ""
    observer.log(
        f"{settings.definition.relation} {span} into {prepared.asked.out}, {len(settings.pieces)} windows{begun}"
    )
    before = sum(w.rows for w in run.windows.values())
    # From here a signal must not tear the crew apart half-started.
    with signals.deferred():
        if run.todo:
            run.work(_task(folder, prepared, settings, limits), limits.jobs, signals, reserve)
        outcome = Outcome(
            prepared,
            "incomplete",
            list(prepared.findings),
            total=len(settings.pieces),
            windows=[run.windows[i] for i in sorted(run.windows)],
            failed=run.failures,
            error=run.error,
        )
        if len(outcome.windows) == outcome.total:
            folder.finish(settings, outcome.windows)
            outcome.state, outcome.error = "done", None
    outcome.signum = signals.signum if run.draining_by_signal else None
    outcome.made = outcome.rows - before
    if outcome.error is not None:
        outcome.findings.append(
            Finding("error", "stopped", outcome.error.message, outcome.error.hint, table=prepared.table)
        )
    return outcome


def _task(folder: Folder, prepared: Prepared, settings: Settings, limits: Limits) -> Task:
    assert prepared.axis is not None
    return Task(
        number=0,
        conninfo=prepared.asked.spec.source,
        axis=prepared.axis,
        columns=tuple(c["name"] for c in settings.definition.columns),
        finite=prepared.asked.spec.skip_unstorable,
        folder=folder.path,
        compress=settings.definition.compress,
        lock=folder.lock,
        retry=limits.retry,
        stall=limits.stall,
        bytes_per_second=limits.bytes_per_second,
    )


class _Run:
    """The windows of one command: those that are done, and those that its workers make."""

    def __init__(self, folder: Folder, settings: Settings, observer: Observer) -> None:
        self._folder = folder
        self._observer = observer
        self._pieces: dict[int, Piece] = {p.id: p for p in settings.pieces}
        self.windows = folder.done(settings)
        self.todo = [p for p in settings.pieces if p.id not in self.windows]
        self.failures: list[dict[str, Any]] = []
        self.error: HyperfillError | None = None
        self.draining_by_signal = False
        self.figures = Figures(total=len(settings.pieces), estimate=sum(p.estimate for p in settings.pieces))
        for window in self.windows.values():
            self.figures.add(window, self._pieces[window.id].estimate)

    def work(self, task: Task, jobs: int, signals: Signals, reserve: Reserve | None) -> None:
        """Until the workers have ended. Figures of what they finished are noted, whatever happens."""
        crew = Crew(task, self.todo, max(1, min(jobs, len(self.todo))), reserve)
        if crew.shortage:
            self._observer.log(f"fewer workers than asked for: {crew.shortage}", level="warning")
        try:
            self._watch(crew, signals)
        finally:
            crew.close()
            self.figures.running.clear()
            self._show()
            self._observer.stop()

    def _watch(self, crew: Crew, signals: Signals) -> None:
        heard, looked = 0, time.monotonic()
        while crew.running:
            finished: list[DumpedWindow] = []
            for event in crew.events(_LOOK, signals.wake):
                if isinstance(event, DumpEvent) and event.dumped is not None:
                    finished.append(event.dumped)
                self._hear(event)
            if finished:
                try:
                    self._folder.note(finished)
                except Incomplete as error:
                    self._stop(error)
                else:
                    for window in finished:
                        self.windows[window.id] = window
                        self.figures.add(window, self._pieces[window.id].estimate)
            if self.error is not None and not crew.draining:
                crew.drain()
            signals.clear_wake()
            if signals.count > heard:
                heard = signals.count
                self.draining_by_signal = True
                if heard == 1:
                    text = "stopping: running windows are finished first; again to cancel them"
                    self._observer.log(text, level="warning")
                    crew.drain()
                else:
                    self._observer.log("cancelling the running windows", level="warning")
                    crew.cancel()
            if time.monotonic() - looked > _LOOK:
                looked = time.monotonic()
                self._show()

    def _show(self) -> None:
        self.figures.taken = time.monotonic()
        self._observer.show(self.figures)

    def _hear(self, event: Event) -> None:
        running = self.figures.running
        if isinstance(event, DumpEvent) and event.kind == "progress":
            known = running.get(event.worker)
            since = known[3] if known is not None and known[0] == event.window else time.monotonic()
            running[event.worker] = (event.window, event.csv_bytes, event.stored, since)
            return
        running.pop(event.worker, None)
        if event.kind == "failed" and event.error is not None:
            self.figures.failed += 1
            piece = self._pieces[event.window]
            detail = getattr(event.error, "as_json", lambda: {"message": str(event.error)})()
            self.failures.append({"window": piece.id, "lower": piece.lower, "upper": piece.upper, **detail})
            self._observer.log(f"window {event.window} failed{blamed(detail)}: {event.error}", level="error")
        elif event.kind == "retry":
            self._observer.log(event.text, level="warning")
        elif event.kind == "ended" and event.error is not None:
            self._stop(event.error)

    def _stop(self, error: HyperfillError) -> None:
        """Something that every window would meet: a full disk, another table under the name."""
        self._observer.log(str(error), level="error")
        self.error = self.error or error
