"""What a backfill did, read from the ledger for a report: figures bounded in number, however many windows there are.

Everything that is read between `BEGIN` and `COMMIT` of `snapshot` is one state of the ledger. What is long (windows,
batches, rejects) is not in a `Report`: `stream` hands it out row by row.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg.rows import class_row, dict_row

from hyperfill import ledger
from hyperfill.catalog import Server, quote_name, read_server
from hyperfill.conversions import Counts, entered
from hyperfill.errors import Refused, first_line
from hyperfill.policies import Job, read_extension, read_jobs
from hyperfill.report_compared import Compared, Repair, compared, read_repairs
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query

LISTED = 300  # windows that a page shows in full
BARS = 200
_WRONG = 100  # windows that differ, and that failed, told one by one
_LISTED_OTHERS = 50  # files, rejects, failed batches, chunks
_PERIODS = 20
_PAUSES = (60.0, 3600.0, 86400.0, 30 * 86400.0)  # seconds
_BATCH = 5000  # rows that a server-side cursor fetches at once
_LOCK_TIMEOUT = "30s"
# What changes of a job while it does what it always does.
_MOVING = frozenset({"next_start", "scheduled"})


@dataclass(frozen=True)
class Window:
    """A window with its comparison, where it has one."""

    id: int
    lower: str | None
    upper: str
    state: str
    attempts: int
    rows_deleted: int | None
    rows_copied: int | None
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    error: dict[str, Any] | None
    mode: str | None
    equal: bool | None
    source_rows: int | None
    target_rows: int | None
    source_hash: str | None
    target_hash: str | None
    compared_at: dt.datetime | None

    @property
    def wrong(self) -> bool:
        """Whether somebody must look at it."""
        return self.state == "failed" or self.equal is False


@dataclass(frozen=True)
class Bar:
    """Neighbouring windows, `first` to `last`, of which one bar of a chart shows the mean."""

    first: int
    last: int
    lower: str | None
    done: int
    failed: int
    compared: int
    differ: int
    copied: int
    deleted: int
    source_rows: int
    target_rows: int

    @property
    def windows(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class BatchBar:
    """The same of the batches of a load; rows that were not copied were skipped, outside of the range or rejected."""

    first: int
    last: int
    file: int
    copied: int
    left_out: int
    failed: int


@dataclass(frozen=True)
class Period:
    """A stretch of time in which windows, or batches, were moved. `offset`: seconds of the periods before it."""

    started_at: dt.datetime
    finished_at: dt.datetime
    pieces: int
    rows: int
    bytes: int
    offset: float = 0.0

    @property
    def seconds(self) -> float:
        return (self.finished_at - self.started_at).total_seconds()


@dataclass(frozen=True)
class Held:
    """A policy that was off while the backfill was unfinished: its row before, and its row now (None: it is gone)."""

    id: int
    relation: str
    job_id: int
    kind: str
    before: dict[str, Any]
    held_at: dt.datetime
    held_by: str
    released_at: dt.datetime | None
    outcome: str | None
    now: dict[str, Any] | None

    @property
    def changed(self) -> dict[str, tuple[Any, Any]]:
        """Fields of the job that are others now, before and now; its next start moves by itself."""
        if self.now is None:
            return {}
        keys = sorted((self.before.keys() | self.now.keys()) - _MOVING)
        return {k: (self.before.get(k), self.now.get(k)) for k in keys if self.before.get(k) != self.now.get(k)}


@dataclass
class Report:
    """A backfill, as a page or the head of a JSON object tells it."""

    entry: ledger.Entry
    made_at: dt.datetime
    server: Server
    planned_by: str = ""
    client: str = ""
    versions: dict[str, Any] = field(default_factory=dict)
    hypertable_now: str | None = None
    compared: Compared = field(default_factory=lambda: Compared(0, 0, 0, None, None, None, None, None, None))
    repaired: int = 0  # windows that differed, and were moved again and verified by a repair
    repairs: list[Repair] = field(default_factory=list)
    holds: list[Held] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    policies_note: str | None = None  # why nothing is known of policies
    differ: list[Window] = field(default_factory=list)
    failed: list[Window] = field(default_factory=list)
    listed: list[Window] = field(default_factory=list)  # of a page: at most LISTED, chosen by need, in order
    bars: list[Bar] = field(default_factory=list)
    batch_bars: list[BatchBar] = field(default_factory=list)
    periods: list[Period] = field(default_factory=list)
    slices: list[float] = field(default_factory=list)  # rows per second, of equal parts of the periods' time
    landed: Counts | None = None  # chunks that were to end compressed
    chunks: int = 0
    chunks_in_order: int = 0
    chunks_open: list[str] = field(default_factory=list)
    aggregates: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    batches_failed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def active_seconds(self) -> float:
        return sum(p.seconds for p in self.periods)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise Refused(
            f"this role may not read the ledger: {first_line(error)}",
            hint="GRANT USAGE ON SCHEMA hyperfill TO the_role; GRANT SELECT ON ALL TABLES IN SCHEMA hyperfill TO "
            "the_role;",
        ) from None


@contextlib.contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """One state of the ledger for all that is read inside. Raises `Refused` where this role may not read it."""
    with _readable(), connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
        yield


def read(connection: Connection, backfill: int, present: Present) -> Report:
    """Everything about a backfill that is bounded; inside `snapshot`. Raises `Refused` if there is none of this id."""
    entries = ledger.entries(connection, ids=[backfill]) if 0 < backfill < 2**63 else []
    if not entries:
        raise Refused(f"the ledger has no backfill {backfill}")
    [entry] = entries
    report = Report(entry, dt.datetime.now(dt.UTC), present.server)
    more = fetch_one(connection, query("report/backfill"), [backfill])
    report.planned_by, report.client, report.versions = more[0], more[1], more[2] or {}
    report.hypertable_now = None if more[4] is None else ".".join(map(quote_name, more[3:5]))
    report.compared = compared(connection, backfill)
    report.repairs, report.repaired = read_repairs(connection, entry, report.compared.differ)
    _read_policies(connection, report, present)
    report.differ = _windows(connection, backfill, "differ", _WRONG)
    report.failed = _windows(connection, backfill, "failed", _WRONG)
    report.listed = sorted(_windows(connection, backfill, None, LISTED), key=lambda w: w.id)
    _read_charts(connection, report)
    report.landed = entered(connection, backfill)
    total, done, names = fetch_one(connection, query("report/chunk_counts"), {"backfill": backfill})
    report.chunks, report.chunks_in_order, report.chunks_open = total, done, names or []
    bounded = {"backfill": backfill, "limit": _LISTED_OTHERS}
    with connection.cursor(row_factory=dict_row) as rows:
        report.aggregates = rows.execute(query("report/aggregates"), {"backfill": backfill}).fetchall()
        report.files = rows.execute(query("report/files"), bounded).fetchall()
        report.rejects = rows.execute(query("report/rejects"), bounded).fetchall()
        report.batches_failed = rows.execute(query("report/batches"), {**bounded, "failed": True}).fetchall()
    return report


def _windows(connection: Connection, backfill: int, only: str | None, limit: int) -> list[Window]:
    with connection.cursor(row_factory=class_row(Window)) as cursor:
        arguments = {"backfill": backfill, "only": only, "limit": limit}
        return cursor.execute(query("report/listed"), arguments).fetchall()


@dataclass(frozen=True)
class Present:
    """The target as it is now: what the ledger does not keep."""

    server: Server
    community: bool
    jobs: dict[int, list[Job]]  # by the oid of the hypertable
    note: str | None


def present(connection: Connection, backfill: int) -> Present:
    """Ask the target for its versions and the policies of a backfill's hypertable; outside of a transaction.

    Raises `Refused` where this role may not read the ledger.
    """
    server = read_server(connection)
    with _readable():
        entries = ledger.entries(connection, ids=[backfill]) if 0 < backfill < 2**63 else []
    jobs: dict[int, list[Job]] = {}
    community, note = False, None
    try:
        extension = read_extension(connection)
        community = extension is not None and extension.community
        if extension is None:
            note = "TimescaleDB is not installed in this database now: there are no policies."
        elif not community:
            note = "The target has the Apache edition of TimescaleDB: there are no policies."
        jobs = {e.hypertable_oid: read_jobs(connection, extension, e.hypertable_oid) for e in entries}
    except psycopg.Error as error:
        if connection.closed:
            raise
        note = f"The present state of the policies cannot be read: {first_line(error)}."
    return Present(server, community, jobs, note)


def _read_policies(connection: Connection, report: Report, now: Present) -> None:
    report.jobs = now.jobs.get(report.entry.hypertable_oid, [])
    report.policies_note = now.note
    by_id = {job.id: job.job for job in report.jobs}
    for row in connection.execute(query("report/holds"), [report.entry.id]):
        number, relation, job_id, kind, job, held_at, held_by, released_at, outcome = row
        report.holds.append(
            Held(
                int(str(number)), str(relation), int(str(job_id)), str(kind), _object(job), _moment(held_at),
                str(held_by), None if released_at is None else _moment(released_at),
                None if outcome is None else str(outcome), by_id.get(int(str(job_id))),
            )
        )  # fmt: skip


def _object(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _moment(value: object) -> dt.datetime:
    assert isinstance(value, dt.datetime)
    return value


def _read_charts(connection: Connection, report: Report) -> None:
    """Figures for charts, of at most about BARS bars each."""
    backfill, entry = report.entry.id, report.entry
    with connection.cursor(row_factory=class_row(Bar)) as cursor:
        # The same number of windows for every bar: 300 windows in 200 bars would make combs of ones and twos.
        arguments: dict[str, object] = {"backfill": backfill, "size": max(1, -(-entry.total // BARS))}
        report.bars = cursor.execute(query("report/bars"), arguments).fetchall()
    batches = entry.batches + entry.batches_failed
    rows: list[Any] = connection.execute(
        query("report/batch_bars"), {"backfill": backfill, "size": max(1, -(-batches // BARS))}
    ).fetchall()
    report.batch_bars = [BatchBar(*row) for row in rows]
    report.periods = _read_periods(connection, backfill)
    seconds = report.active_seconds
    if not report.periods or seconds <= 0:
        return
    slices = min(BARS, max(1, sum(p.pieces for p in report.periods)))
    arguments = {
        "backfill": backfill,
        "starts": [p.started_at for p in report.periods],
        "offsets": [p.offset for p in report.periods],
        "width": seconds / slices,
        "slices": slices,
    }
    moved = {row[0]: row[1] for row in connection.execute(query("report/throughput"), arguments)}
    report.slices = [float(str(moved.get(i) or 0)) / (seconds / slices) for i in range(slices)]


def _read_periods(connection: Connection, backfill: int) -> list[Period]:
    """Stretches of work. Where there are many, shorter pauses count as work, so that few are left."""
    found: list[Period] = []
    for pause in _PAUSES:
        arguments = {"backfill": backfill, "pause": pause}
        rows: list[Any] = connection.execute(query("report/periods"), arguments).fetchall()
        found, offset = [], 0.0
        for row in rows:
            found.append(Period(row[0], row[1], row[2], row[3], row[4], offset))
            offset += found[-1].seconds
        if len(found) <= _PERIODS:
            break
    return found


def stream(
    connection: Connection, statement: LiteralString, arguments: Mapping[str, object] | Sequence[object]
) -> Iterator[dict[str, Any]]:
    """Rows by a server-side cursor, inside `snapshot`: memory does not grow with their number."""
    with connection.cursor(name="hyperfill_report", row_factory=dict_row) as cursor:
        cursor.itersize = _BATCH
        cursor.execute(statement, arguments)
        yield from cursor
