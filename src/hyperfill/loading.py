"""The story of a load of files: prepare, register, hold, clear the range, load every batch, settle, release, report.

A dump's files are windows, and their story is that of a backfill. Each step can be entered again after a crash.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql

from hyperfill import encode, finish, holds, ledger, loads, settle, tiling
from hyperfill.archives import ArchiveError
from hyperfill.backfill import hold, register, release, remind
from hyperfill.caggs import merge
from hyperfill.control import Control
from hyperfill.csvrows import CsvError
from hyperfill.engine import Crew
from hyperfill.errors import (
    EXIT_OK,
    EXIT_REJECTED_ROWS,
    Finding,
    HyperfillError,
    Incomplete,
    LedgerConflict,
    PoliciesOn,
    Refused,
    WindowError,
    first_line,
)
from hyperfill.feeding import Feeding
from hyperfill.files import Reader
from hyperfill.inputs import Inputs
from hyperfill.loaded_before import find_load
from hyperfill.prepare_load import PreparedLoad, prepare_load
from hyperfill.preparing import Prepared, State, refuse
from hyperfill.progress import Observer
from hyperfill.session import Connection
from hyperfill.signals import Signals
from hyperfill.spec import Limits, LoadSpec
from hyperfill.sql import query
from hyperfill.timeline import Span
from hyperfill.watching import look, watch
from hyperfill.window import check_identity


@dataclass
class LoadReport:
    """What became of a load."""

    prepared: PreparedLoad
    state: State
    entry: ledger.Entry | None
    findings: list[Finding]
    failed: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    signum: int | None = None
    rows_here: int = 0  # that this run copied

    @property
    def exit_code(self) -> int:
        if self.state == "incomplete":
            return 128 + self.signum if self.signum is not None else Incomplete.exit_code
        rejected = self.state in ("done", "nothing") and self.entry is not None and self.entry.rows_rejected
        return EXIT_REJECTED_ROWS if rejected else EXIT_OK

    def as_json(self) -> dict[str, Any]:
        """The contract of `load --json`."""
        entry, base = self.entry, self.prepared.base
        found: dict[str, Any] = {
            "backfill": entry.id if entry else None,
            "files": [file.path for file in self.prepared.files],
            "hypertable": base.hypertable,
            "start": (base.start or "-infinity") if base.end else None,
            "end": base.end or None,
            "state": self.state,
            "rows_read": entry.rows_read if entry else 0,
            "rows_copied": entry.rows_copied if entry else 0,
            "rows_skipped": entry.rows_skipped if entry else 0,
            "rows_outside": entry.rows_outside if entry else 0,
            "rows_rejected": entry.rows_rejected if entry else 0,
            "rows_deleted": entry.rows_deleted if entry else 0,
            "bytes": entry.bytes_copied if entry else 0,
            "batches": {"done": entry.batches if entry else 0, "failed": entry.batches_failed if entry else 0},
            "windows": {"total": entry.total if entry else 0, "done": entry.done if entry else 0},
            "encode": "server" if self.prepared.encoding else "client",
            "seconds": round(self.seconds, 3),
            "findings": [f.as_json() for f in self.findings],
        }
        if self.failed:
            found["failed_batches"] = self.failed
        return found


def load(spec: LoadSpec, inputs: Inputs, limits: Limits, observer: Observer, signals: Signals) -> LoadReport:
    """Carry out a load of files that are no dump. Raises `Refused` with all findings before the first write."""
    started = time.monotonic()
    if spec.encode != "server":
        encode.preload()
    prepared = prepare_load(spec, inputs, limits.jobs)
    refuse([prepared.base], observer)
    report = _load(prepared, spec, limits, observer, signals)
    report.seconds = time.monotonic() - started
    return report


def _load(prepared: PreparedLoad, spec: LoadSpec, limits: Limits, observer: Observer, signals: Signals) -> LoadReport:
    base = prepared.base
    with Control(spec.target) as control:
        ledger.create(control.connection, [base.definition.hypertable_oid] if base.definition else [])
        if not base.empty:
            register(control.connection, base, find_load, lambda c, number: _enter(c, number, prepared, spec))
        if base.empty or (base.entry is not None and base.entry.finished):
            if base.entry is not None and base.entry.rows_rejected and spec.rejects is not None:
                write_rejects(control.connection, base.entry.id, spec.rejects, prepared)
            return _nothing(prepared)
        assert base.entry is not None and base.order is not None
        if not loads.try_alone(control.connection, base.entry.id):
            raise LedgerConflict(f"load {base.entry.id} is running", hint="wait until that run has ended, or stop it")
        error: HyperfillError | None = None
        before = base.entry.rows_copied
        try:
            if base.entry.runs > 1 and any(f.stream for f in prepared.files) and not base.entry.complete:
                observer.log("standard input is read anew: its range is cleared again", level="warning")
                loads.restart(control.connection, base.entry.id)
                base.entry = ledger.entries(control.connection, ids=[base.entry.id])[0]
            hold(control.connection, base, observer)
            settle.record(control.connection, base)
            complete = base.entry.complete
            if not complete:
                observer.log(f"load {base.entry.id}: {base.table} into {base.hypertable}, {base.entry.bounds}")
                error = _clear(control, prepared, limits, observer, signals)
                complete = error is None and not signals.count
                if complete:
                    error, complete = _feed(control, prepared, spec, limits, observer, signals)
        except BaseException:
            remind(control, [base], observer)
            raise
        try:
            last = partial(_complete, control, prepared, spec, limits, observer, error, complete)
            report = control.insist(last)
            lost_hold = holds.forgotten(control.connection, base.order.target.relation, base.order.watch)
            report.findings += [replace(lost_hold, table=base.table)] if lost_hold else []
        except (psycopg.Error, Refused, WindowError) as late:
            lost = Finding("error", "target", first_line(late), table=base.table)
            observer.findings([lost])
            report = LoadReport(prepared, "incomplete", base.entry, [*base.findings, lost])
        report.signum = signals.signum
        report.rows_here = report.entry.rows_copied - before if report.entry else 0
        return report


def _nothing(prepared: PreparedLoad) -> LoadReport:
    entry = prepared.base.entry
    text = "start and end are the same: the range is empty"
    if entry is not None:
        text = (
            f"load {entry.id} has brought these files (finished {entry.finished_at:%Y-%m-%d %H:%M:%S} UTC); "
            "--again loads them anew"
        )
    found = Finding("note", "nothing", text, table=prepared.base.table)
    return LoadReport(prepared, "nothing", entry, [*prepared.base.findings, found])


def _enter(connection: Connection, number: int, prepared: PreparedLoad, spec: LoadSpec) -> None:
    """What else belongs to a new load, in the transaction that enters it."""
    loads.insert_files(connection, number, [file.entry for file in prepared.files])
    for old in prepared.base.superseded:
        loads.take_over(connection, old, number)
    if spec.truncate:
        assert prepared.base.order is not None
        relation = prepared.base.order.target.relation.identifier
        try:
            connection.execute(sql.SQL(query("load/truncate")).format(relation=relation))
        except psycopg.Error as error:
            name = prepared.base.hypertable
            raise Refused(f"{name} cannot be truncated, and nothing is loaded: {first_line(error)}") from None


def _clear(
    control: Control, prepared: PreparedLoad, limits: Limits, observer: Observer, signals: Signals
) -> HyperfillError | None:
    """Delete what the range holds, window by window, before the first batch. What is done stays done."""
    base = prepared.base
    assert base.entry is not None and base.order is not None
    left = base.entry.total - base.entry.done
    if left == 0:
        return None
    observer.log(f"clearing the range: {left} windows, about {base.overlap_rows:,} rows")
    with signals.deferred():
        crew = Crew([base.order], max(1, min(limits.jobs, left)), None, limits.stall, limits.retry)
        try:
            failure = watch(control, crew, [base.order], None, observer, signals, {})
        finally:
            crew.close()
    control.keep([base.order], must=True)
    base.entry = ledger.entries(control.connection, ids=[base.entry.id])[0]
    if failure is None and base.entry.done < base.entry.total and not signals.count:
        failure = Incomplete("the range is not cleared: nothing is loaded before it is")
    if failure is None and base.entry.done == base.entry.total and base.time_type is not None:
        failure = tiling.changed_windows(control.connection, base.entry, base.time_type)
    return failure


def _feed(
    control: Control, prepared: PreparedLoad, spec: LoadSpec, limits: Limits, observer: Observer, signals: Signals
) -> tuple[HyperfillError | None, bool]:
    """Load all batches; what ended it early, and whether every one of them is loaded."""
    base = prepared.base
    assert base.order is not None and base.entry is not None and prepared.load is not None
    load = base.entry.id
    done = loads.done(control.connection, load)
    reader = Reader(prepared.files, spec, done)
    size = sum(file.size or spec.batch_bytes * limits.jobs for file in prepared.files)
    jobs = max(1, min(limits.jobs, -(-size // spec.batch_bytes)))
    deadline = time.monotonic() + limits.seconds if limits.seconds is not None else None
    known: dict[int, ledger.Entry] = {}
    with signals.deferred():
        order = replace(prepared.load, order=base.order)
        crew = Feeding(order, jobs, reader, limits, go_on=spec.skip_batch_errors)
        if crew.shortage:
            observer.log(f"fewer workers than asked for: {crew.shortage}", level="warning")
        try:
            failure = watch(control, crew, [base.order], deadline, observer, signals, known, reader.share)
            complete = crew.complete
        finally:
            crew.close()
            last = look(control.connection, [base.order]) if observer.wants_snapshots else None
            if last:
                observer.show(replace(last, activity=()))
            observer.stop()
    return failure or crew.error, complete and failure is None


def _complete(
    control: Control,
    prepared: PreparedLoad,
    spec: LoadSpec,
    limits: Limits,
    observer: Observer,
    error: HyperfillError | None,
    complete: bool,
) -> LoadReport:
    """Finish a load of which every batch is loaded; otherwise say what is missing."""
    base = prepared.base
    assert base.order is not None and base.entry is not None
    order = base.order
    control.keep([order], must=True)
    target = control.connection
    found = ledger.entries(target, ids=[order.backfill])
    if not found:
        raise HyperfillError(f"load {order.backfill} was removed from the ledger while it ran")
    entry = found[0]
    findings = list(base.findings)
    if entry.rows_rejected and spec.rejects is not None:
        write_rejects(target, entry.id, spec.rejects, prepared)
        observer.log(f"{entry.rows_rejected:,} rejected rows are in {spec.rejects}", level="warning")
    if not complete:
        if error is not None:
            code = "policies-on" if isinstance(error, PoliciesOn) else "load"
            hint = error.hint
            if isinstance(error, CsvError | ArchiveError):
                hint = f"{hint}; " if hint else ""
                hint += (
                    "what was loaded stays, and a mended file is another file: give this load up with hyperfill clean "
                )
                hint += f"--backfill {entry.id} --force, and load it with --start and --end, or without what is there"
            findings.append(Finding("error", code, error.message, hint, base.table))
            observer.findings(findings[-1:])
        reminder = holds.reminder(target, order.target.relation)
        findings += [replace(reminder, table=base.table)] if reminder else []
        return LoadReport(prepared, "incomplete", entry, findings, loads.failed(target, entry.id))
    if not entry.finished:
        check_identity(target, "target", order.target.relation)
        if entry.phase in ("planned", "held"):
            ledger.set_phase(target, entry, entry.id, "moved")
        if spec.sync_sequences:
            findings += finish.sync_sequences(target, order)
        touched = _touched(target, base)
        findings += settle.settle(target, base, entry, touched, limits.jobs, observer)
        observer.log("analyzing the chunks that were filled")
        findings += finish.analyze(target, order, touched, limits.jobs)
        findings += release(target, entry, order, observer)
    return LoadReport(prepared, "done", ledger.entries(target, ids=[entry.id])[0], findings)


def _touched(target: Connection, base: Prepared) -> list[Span]:
    """Where rows came or went: cleared windows, and the chunks into which batches wrote, inside the range."""
    assert base.order is not None and base.time_type is not None and base.definition is not None
    span = base.definition.span(base.time_type)
    written = [found.intersect(span) for found in loads.touched(target, base.order)]
    cleared = ledger.touched(target, base.order.backfill, base.time_type)
    return merge([*cleared, *(s for s in written if s is not None)])


def write_rejects(target: Connection, load: int, path: Path, prepared: PreparedLoad) -> None:
    """Write every rejected row of a load, whichever run rejected it: once each, because the file is written anew.

    `path` is CSV with the reasons; beside it, with `.rows` appended, are the rows alone as they were, to be mended and
    loaded.
    """
    heads = {file.id: file.head for file in prepared.files}
    path = path.resolve()  # through a link, which stays
    rows_path = path.with_name(path.name + ".rows")
    parts: list[Path] = []
    try:
        with ExitStack() as stack:
            reasons, rows = (stack.enter_context(_beside(place, parts)) for place in (path, rows_path))
            reasons.write(b"file,line,byte_offset,sqlstate,message,row\n")
            last = -1
            for name, number, line, start, sqlstate, message, row in loads.rejects(target, load):
                raw = bytes(row)
                if number != last and (last == -1 or heads.get(number) != heads.get(last)):
                    rows.write(heads.get(number, b""))
                last = number
                rows.write(raw if raw.endswith((b"\n", b"\r")) else raw + b"\n")
                fields = (name, str(line), str(start), sqlstate or "", message)
                reasons.write(b",".join([*(_quoted(f.encode()) for f in fields), _quoted(raw.rstrip(b"\r\n"))]) + b"\n")
        for part, final in zip(list(parts), (path, rows_path), strict=True):
            part.replace(final)
            parts.remove(part)
    except OSError as error:
        raise HyperfillError(
            f"the rejected rows cannot be written to {path}: {error.strerror}",
            hint="they are in the ledger: run the same command again with another --rejects",
        ) from None
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _beside(path: Path, made: list[Path]) -> IO[bytes]:
    """A new file in the same folder, of a name that nobody has, with the rights that a new file would have."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    made.append(Path(name))
    mask = os.umask(0)
    os.umask(mask)
    os.fchmod(descriptor, 0o666 & ~mask)
    return os.fdopen(descriptor, "wb")


def _quoted(field: bytes) -> bytes:
    """A field of the rejects file. Bytes, because a row may be rejected for being no text."""
    if any(c in field for c in b',"\r\n'):
        return b'"' + field.replace(b'"', b'""') + b'"'
    return field
