"""The ledger: schema `hyperfill` in the target. Backfills, their windows, how far they are. The only shared state.

Every transaction here that changes control tables begins with the advisory lock of its hypertable.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from hyperfill import trust
from hyperfill.errors import LedgerConflict, Refused, WindowError, first_line, is_transient, retrying
from hyperfill.plan import PlannedWindow
from hyperfill.session import LOCK_TIMEOUT_MS, Connection, fetch_one
from hyperfill.sql import query
from hyperfill.timeline import Span, TimeType
from hyperfill.waiting import naming

LEDGER_VERSION = 1
NOTHING = sql.SQL("")


def jsonb(value: Any) -> Jsonb:
    """JSON for the ledger. Without escapes: a database that is not UTF8 refuses those beyond ASCII."""
    return Jsonb(value, dumps=partial(json.dumps, ensure_ascii=False))


Kind = Literal["run", "dump", "load", "repair"]
Phase = Literal["planned", "held", "moved", "recompressed", "refreshed", "verified", "done"]
# Control transactions may wait for each other a little; window transactions hold none of these locks.
_CONTROL_LOCK_TIMEOUT = "30s"
_CREATE_SECONDS = 30.0


@dataclass(frozen=True)
class Definition:
    """What a backfill moves, as pinned in the ledger. Two commands with equal definitions are the same backfill."""

    hypertable: str
    hypertable_oid: int
    source: str
    source_relation: str
    time_type: str
    time_column: str
    source_time_column: str
    range_start: str | None
    range_end: str | None  # None: files without a range
    columns: list[dict[str, Any]]
    settings: dict[str, Any]
    kind: Kind

    def span(self, time_type: TimeType) -> Span:
        """The range; without one, everything that the time column can hold."""
        lower = None if self.range_start is None else time_type.ordinal(self.range_start)
        return Span(lower, time_type.maximum + 1 if self.range_end is None else time_type.ordinal(self.range_end))

    def differences(self, other: Definition) -> dict[str, tuple[Any, Any]]:
        """Field by field what `other` has differently; settings one by one."""
        found: dict[str, tuple[Any, Any]] = {}
        for name in Definition.__dataclass_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if name == "settings":
                keys = sorted(mine.keys() | theirs.keys())
                found |= {k: (mine.get(k), theirs.get(k)) for k in keys if mine.get(k) != theirs.get(k)}
            elif name == "columns" and mine != theirs:
                found[name] = (_column_text(mine), _column_text(theirs))
            elif mine != theirs and name not in ("hypertable", "hypertable_oid"):  # the oid is compared before
                found[name] = (mine, theirs)
        return found


def _column_text(columns: list[dict[str, Any]]) -> str:
    return ", ".join(f"{c['name']} {c['type']}" for c in columns)


@dataclass(frozen=True)
class Entry(Definition):
    """A backfill in the ledger, with the sum of its windows."""

    id: int
    phase: Phase
    planned_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    runs: int
    findings: list[dict[str, Any]]
    total: int
    done: int
    failed: int
    differing: int  # windows
    rows_copied: int
    rows_deleted: int
    bytes_copied: int
    estimate: int
    estimate_done: int
    # Of a load: stretches of its files, and what became of their rows.
    batches: int
    batches_failed: int
    rows_read: int
    rows_skipped: int
    rows_outside: int
    rows_rejected: int
    bytes_total: int | None

    @property
    def finished(self) -> bool:
        return self.phase == "done"

    @property
    def complete(self) -> bool:
        """Whether every window is done; of a load also every file."""
        return self.done == self.total and (self.kind != "load" or self.phase not in ("planned", "held"))

    @property
    def mismatch(self) -> bool:
        """Whether all of it is moved, and was found to differ."""
        return self.complete and not self.finished and self.differing > 0

    @property
    def untouched(self) -> bool:
        """Whether nothing of it was deleted or brought so far."""
        return self.done == 0 and self.batches == 0

    @property
    def bounds(self) -> str:
        """The range as people read it."""
        return "no range" if self.range_end is None else f"[{self.range_start or '-infinity'}, {self.range_end})"


@dataclass(frozen=True)
class Activity:
    """A session of a worker, on any machine, that is inside a window's transaction."""

    backfill: int
    window: int
    pid: int
    age: float  # seconds
    bytes: int  # of the running COPY
    copying: bool
    blocked: bool
    client: str


@dataclass(frozen=True)
class Claim:
    """A window that this transaction holds."""

    id: int
    lower: str | None
    upper: str
    estimate: int
    attempts: int
    may_lose: int | None = None  # of a repair: how many rows more may be deleted than are copied
    conversion: int | None = None  # the stretch that it fills alone, and writes compressed if it can


def exists(connection: Connection) -> bool:
    """Whether the target has a ledger.

    Raises `Refused` where a newer version of hyperfill made it, and where schema hyperfill is something else.
    """
    version = trust.read_version(connection, LEDGER_VERSION)
    if version is not None and version > LEDGER_VERSION:
        raise Refused(
            f"the ledger in the target was written by a newer hyperfill: its version is {version}, and this one "
            f"knows {LEDGER_VERSION}",
            hint="nothing was changed; use the hyperfill that wrote it, or one that is newer still",
        )
    return version is not None


def create(connection: Connection, hypertables: Sequence[int] = ()) -> None:
    """Make the ledger if it is not there; two commands may try at once.

    `hypertables`: oids of those that are filled, as in `trust.require`, which is asked of a ledger that is there.
    """

    def attempt() -> None:
        with connection.transaction():
            connection.execute("SELECT pg_catalog.pg_advisory_xact_lock(1752196710, 0)")
            if exists(connection):
                trust.require(connection, hypertables)
            else:
                connection.execute(query("ledger/schema"))

    try:
        with naming(connection):
            retrying(attempt, seconds=_CREATE_SECONDS)
    except psycopg.Error as error:
        if is_transient(error):
            raise
        raise Refused(f"the ledger (schema hyperfill) cannot be created in the target: {first_line(error)}") from None


def lock_hypertable(connection: Connection, oid: int) -> None:
    """Serialize control transactions of a hypertable; held until the transaction ends."""
    connection.execute(query("ledger/lock_hypertable"), [oid])


def entries(
    connection: Connection, *, ids: Sequence[int] | None = None, hypertable_oid: int | None = None
) -> list[Entry]:
    """Backfills in the ledger, oldest first."""
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        arguments = {"ids": None if ids is None else list(ids), "hypertable_oid": hypertable_oid}
        return cursor.execute(query("ledger/backfills"), arguments).fetchall()


def is_forgotten(connection: Connection, entry: Entry) -> bool:
    """Whether an entry is an unfinished load that need not be resumed, and that nobody is at now.

    Either nothing has come of it, or it was one of those that are never resumed.
    """
    if entry.finished or entry.kind != "load" or not (entry.untouched or entry.settings.get("forget")):
        return False
    return bool(fetch_one(connection, query("ledger/try_exclusive"), [entry.id])[0])


def insert(
    connection: Connection,
    definition: Definition,
    windows: Iterable[PlannedWindow],
    time_type: TimeType,
    *,
    client: str,
    findings: list[dict[str, Any]],
    versions: dict[str, Any],
) -> int:
    """Store a plan; to be called inside a transaction that holds the hypertable's lock. Returns the backfill's id."""
    values = {name: getattr(definition, name) for name in Definition.__dataclass_fields__}
    values |= {"columns": jsonb(definition.columns), "settings": jsonb(definition.settings)}
    row = connection.execute(
        query("ledger/insert_backfill"),
        {**values, "client": client, "findings": jsonb(findings), "versions": jsonb(versions)},
    ).fetchone()
    assert row is not None
    backfill = int(str(row[0]))
    _insert_windows(connection, backfill, windows, time_type, 1)
    return backfill


def _insert_windows(
    connection: Connection, backfill: int, windows: Iterable[PlannedWindow], time_type: TimeType, first: int
) -> None:
    with connection.cursor() as cursor, cursor.copy(query("ledger/copy_windows")) as copy:
        for number, window in enumerate(windows, start=first):
            lower = None if window.span.lower is None else time_type.text(window.span.lower)
            upper = time_type.text(window.span.upper)
            copy.write_row((backfill, number, lower, upper, window.estimate, window.may_lose))
    # Or every claim would sort all that is pending (0.1 s with 100,000 windows) until autovacuum comes by. A role that
    # may not is told so by a warning that nobody hears.
    connection.execute("ANALYZE hyperfill.windows")


def renew_windows(connection: Connection, backfill: int, windows: Iterable[PlannedWindow], time_type: TimeType) -> None:
    """Give an unfinished repair other windows than those it has not moved; under the hypertable's lock."""
    # Workers of a run that was killed may still hold a window for a second or two.
    connection.execute(query("ledger/lock_for_clean"), [backfill])
    first = int(str(fetch_one(connection, query("ledger/renew_windows"), {"id": backfill})[0]))
    _insert_windows(connection, backfill, windows, time_type, first)


def mark_running(connection: Connection, backfill: int) -> None:
    """Keep `clean` away from a backfill until this session ends."""
    connection.execute(query("ledger/mark_running"), [backfill])


def start_run(connection: Connection, backfill: int, findings: list[dict[str, Any]]) -> None:
    """Count a run and make failed windows pending again. Until the session ends nobody can clean the backfill away."""
    with naming(connection, backfill=backfill):
        retrying(lambda: mark_running(connection, backfill), seconds=_CREATE_SECONDS)

    def attempt() -> None:
        with connection.transaction():
            connection.execute(query("ledger/start_run"), {"id": backfill, "findings": jsonb(findings)})

    retrying(attempt, seconds=30)


def claim(connection: Connection, backfill: int, cursor: int, *, newest: bool) -> Claim | None:
    """Begin a window's transaction and lock the next pending window after `cursor` that nobody holds.

    The transaction is open afterwards also where there is none.
    """
    statement = sql.SQL(query("ledger/claim_newest") if newest else query("ledger/claim_oldest"))
    found = connection.execute(statement.format(backfill=sql.Literal(backfill), cursor=sql.Literal(cursor)))
    found.nextset()
    row: Any = found.fetchone()
    return Claim(*row[:-1]) if row else None


def finish(
    connection: Connection,
    backfill: int,
    window: int,
    figures: tuple[int, int, int],
    question: sql.Composable = NOTHING,
) -> Any:
    """Write the figures of a window (rows deleted, rows copied, bytes) and mark it done; in the window's transaction.

    The row that answers `question`, a query that goes with it in one message.
    """
    deleted, copied, size = map(sql.Literal, figures)
    update = sql.SQL(query("ledger/finish_window")).format(
        deleted=deleted, copied=copied, bytes=size, backfill=sql.Literal(backfill), window=sql.Literal(window)
    )
    done = connection.execute(sql.SQL("{}; {}").format(update, question))
    if done.rowcount != 1:
        raise WindowError("the ledger lost this window while it was moved", hint="was the ledger cleaned meanwhile?")
    return done.fetchone() if done.nextset() and done.description else None


def record_failure(connection: Connection, backfill: int, window: int, error: WindowError, *, final: bool) -> None:
    """Note why a window was rolled back. `final`: it is left as failed for this run."""
    state = "failed" if final else "pending"

    def write(reason: dict[str, Any]) -> None:
        arguments = [state, jsonb(reason), backfill, window]
        retrying(lambda: connection.execute(query("ledger/fail_window"), arguments), seconds=10)

    try:
        write(error.as_json())
    except psycopg.DataError:
        # What the source said has characters that the target's encoding cannot hold.
        write({k: v.encode("ascii", "replace").decode() for k, v in error.as_json().items()})


def resolve_commit(connection: Connection, backfill: int, window: int) -> bool:
    """After a lost answer to COMMIT: whether the window is done, or was rolled back.

    Waits for the row's lock, for as long as the old backend lives.
    """
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = 0")
        row = connection.execute(query("ledger/window_state"), [backfill, window]).fetchone()
    return row is not None and row[0] == "done"


def pending(connection: Connection, backfill: int) -> int:
    """How many windows are neither done nor failed, whether or not somebody holds them."""
    return int(str(fetch_one(connection, query("ledger/pending"), [backfill])[0]))


def failed_windows(connection: Connection, backfill: int) -> list[dict[str, Any]]:
    """Windows that failed, with bounds and reason (at most 100)."""
    rows: list[Any] = connection.execute(query("ledger/failed_windows"), [backfill]).fetchall()
    return [{"window": r[0], "lower": r[1] or "-infinity", "upper": r[2], **(r[3] or {})} for r in rows]


def touched(connection: Connection, backfill: int, time_type: TimeType) -> list[Span]:
    """The spans of windows that deleted or copied rows."""
    rows: list[Any] = connection.execute(query("ledger/touched"), [backfill]).fetchall()
    return [Span(None if r[0] is None else time_type.ordinal(r[0]), time_type.ordinal(r[1])) for r in rows]


def occupied(connection: Connection, backfill: int, time_type: TimeType) -> list[Span]:
    """The spans of windows that have rows, as moved or, where they are not done, as planned."""
    rows: list[Any] = connection.execute(query("ledger/occupied"), [backfill]).fetchall()
    return [Span(None if r[0] is None else time_type.ordinal(r[0]), time_type.ordinal(r[1])) for r in rows]


def set_phase(connection: Connection, entry: Definition, backfill: int, phase: Phase) -> None:
    """Enter a phase, under the hypertable's lock."""

    def attempt() -> None:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [_CONTROL_LOCK_TIMEOUT])
            lock_hypertable(connection, entry.hypertable_oid)
            connection.execute(query("ledger/set_phase"), {"id": backfill, "phase": phase})

    with naming(connection, hypertable=entry.hypertable_oid):
        retrying(attempt, seconds=60)


def activity(connection: Connection) -> list[Activity]:
    """Sessions that are inside a window's transaction now."""
    with connection.cursor(row_factory=class_row(Activity)) as cursor:
        return cursor.execute(query("ledger/activity")).fetchall()


def remove(connection: Connection, entry: Entry) -> None:
    """Delete a backfill from the ledger. Raises `LedgerConflict` while a worker holds one of its windows."""
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_TIMEOUT_MS}ms"])
            lock_hypertable(connection, entry.hypertable_oid)
            if fetch_one(connection, query("ledger/try_exclusive"), [entry.id])[0]:
                # Workers of a run that was killed may still hold a window for a second or two.
                connection.execute(query("ledger/lock_for_clean"), [entry.id])
                connection.execute(query("ledger/delete_backfill"), [entry.id])
                return
    except psycopg.errors.LockNotAvailable:
        pass
    raise LedgerConflict(f"backfill {entry.id} is running", hint="stop that run first")
