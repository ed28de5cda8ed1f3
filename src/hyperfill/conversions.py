"""Chunks that are to end compressed: what the ledger says of them, and compressing those whose windows are all done.

One transaction compresses a stretch's chunks and notes it: killed at any moment, a chunk is as before or done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from hyperfill.catalog import Chunk
from hyperfill.compressed import (
    COMPRESSED,
    FROZEN,
    LOCK_TIMEOUT_MS,
    NOT_IN_ORDER,
    RETRIED,
    compress_function,
    compress_statement,
    has_rows,
    in_threads,
    statuses,
)
from hyperfill.errors import Finding, backoff, first_line
from hyperfill.landing import Stretch
from hyperfill.places import Places
from hyperfill.quantities import counted
from hyperfill.session import Connection, fetch_one
from hyperfill.spec import Land
from hyperfill.sql import query
from hyperfill.timeline import Span, TimeType
from hyperfill.window import Order

_SECONDS = 60.0  # for what is left at the end of a run, then it is tried once more and reported
_NAMED = 10  # chunks that are left, one by one
_GLANCE_MS = 100  # how long those who come later may wait for us while we look whether a chunk is free
_ATTEMPTS = 3  # compress_chunk() on an unordered chunk may have to be called twice


@dataclass(frozen=True)
class Ready:
    """A stretch of which all windows are done, and whose chunks are not compressed yet."""

    id: int
    span: Span


@dataclass(frozen=True)
class Counts:
    """How many chunks were to end compressed, and what became of them; not those to which nothing came."""

    total: int
    written: int
    afterwards: int
    left: int

    def as_json(self) -> dict[str, int]:
        return {"written": self.written, "afterwards": self.afterwards, "left": self.left}


def insert(connection: Connection, backfill: int, stretches: Sequence[Stretch], time_type: TimeType) -> None:
    """Enter what is to end compressed; in the transaction that enters the plan."""
    wanted = [one for one in stretches if one.way != "plain"]
    if not wanted:
        return
    with connection.cursor() as cursor, cursor.copy(query("conversions/insert")) as copy:
        for number, one in enumerate(wanted, start=1):
            lower = None if one.span.lower is None else time_type.text(one.span.lower)
            windows = one.first_window, one.last_window
            copy.write_row((backfill, number, lower, time_type.text(one.span.upper), *windows, one.direct))
    connection.execute("ANALYZE hyperfill.conversions")


def counts(connection: Connection, backfill: int) -> Counts:
    """What became of the chunks of a backfill until now."""
    return Counts(*(int(n) for n in fetch_one(connection, query("conversions/counts"), [backfill])))


def join(connection: Connection, order: Order, *, plain: bool) -> Order:
    """The order as the ledger has it now. `plain`: the user wants no chunk compressed, whatever was planned."""
    return replace(order, converts=not plain and counts(connection, order.backfill).left > 0)


def ready(connection: Connection, order: Order, window: int) -> list[Ready]:
    """Stretches that this window, which is done, was the last one to fill."""
    rows: list[Any] = connection.execute(
        query("conversions/ready"), {"backfill": order.backfill, "window": window}
    ).fetchall()
    return [_ready(order, row) for row in rows]


def _ready(order: Order, row: Any) -> Ready:
    ordinal = order.target.time_type.ordinal
    return Ready(row[0], Span(None if row[1] is None else ordinal(row[1]), ordinal(row[2])))


def fits(chunk: Chunk, span: Span) -> bool:
    """Whether a chunk lies wholly in a stretch; not where the length of chunks was altered since the plan was made."""
    below = span.lower is not None and (chunk.lower is None or chunk.lower < span.lower)
    return not below and chunk.upper is not None and chunk.upper <= span.upper


def in_order(bits: int) -> bool:
    """Whether a chunk with this status is wholly compressed and in order."""
    return bits & (COMPRESSED | NOT_IN_ORDER) == COMPRESSED


def convert(connection: Connection, order: Order, one: Ready, places: Places) -> str | None:
    """Compress a stretch's chunks, in a transaction; what is in the way, None if nothing is.

    Raises psycopg's error where a lock was not free, among others, and `Never` where it is no matter of time.
    """
    function = compress_function(connection)
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_TIMEOUT_MS}ms"])
            name = f"hyperfill/{order.backfill}/compress"
            connection.execute("SELECT set_config('application_name', %s, true)", [name])
            if connection.execute(query("conversions/lock"), [order.backfill, one.id]).fetchone() is None:
                return None
            chunks = places.chunks_in(connection, one.span)
            for chunk in chunks:
                if not fits(chunk, one.span):
                    raise Never(f"{chunk.name} reaches beyond it, as chunks have another length now")
            # None where nothing came: a dump does not say where in a long window its rows are.
            compressed = [_compress(connection, function, chunk) for chunk in chunks]
            written = False if any(compressed) else None
            connection.execute(
                query("conversions/done"), {"backfill": order.backfill, "id": one.id, "written": written}
            )
    except _NotNow as problem:
        return str(problem)
    return None


class Never(Exception):
    """A stretch's chunks are not to be compressed, now or later; why, in words."""


class _NotNow(Exception):
    """A chunk cannot be compressed at the moment, and the transaction must not say that it was."""


def _compress(connection: Connection, function: sql.Identifier, chunk: Chunk) -> bool:
    """Compress a chunk, or what is plain in it; whether it has rows."""
    for _ in range(_ATTEMPTS):
        bits = statuses(connection, [chunk.oid]).get(chunk.oid, COMPRESSED)  # or it was dropped
        if in_order(bits):
            return True
        if bits & FROZEN:
            raise Never("the chunk is frozen")
        if not bits & COMPRESSED:
            if not has_rows(connection, chunk):
                return False  # rows that come later are for its policy
            _nobody_there(connection, chunk)
        connection.execute(compress_statement(function, chunk.oid))
    # With an insert of the application that is still open the call succeeds, and does nothing.
    if not in_order(statuses(connection, [chunk.oid]).get(chunk.oid, COMPRESSED)):
        raise _NotNow("other transactions are writing into it")
    return True


def _nobody_there(connection: Connection, chunk: Chunk) -> None:
    """Raise psycopg's error (55P03) where somebody works on a plain chunk.

    `timescaledb.compress_truncate_behaviour` knows another way, which does not wait for readers. Not for us: those with
    an older snapshot, a dump above all, would see no row of the chunk any more.
    """
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{_GLANCE_MS}ms"])
        name = sql.Identifier(chunk.schema, chunk.name)
        connection.execute(sql.SQL(query("conversions/nobody_there")).format(chunk=name))


def finish_all(control: Connection, order: Order, jobs: int, log: Callable[[str], None]) -> list[Finding]:
    """Compress what workers have left: after a crash, or where a lock was not free. What is still left is a finding."""
    if not order.converts:
        return []
    rows: list[Any] = control.execute(query("conversions/pending"), {"backfill": order.backfill}).fetchall()
    todo = [_ready(order, row) for row in rows]
    if not todo:
        return []
    log(f"compressing {counted(len(todo), 'chunk')} that windows have filled")
    # One for all: whoever holds a lock for longer often holds many.
    deadline = time.monotonic() + _SECONDS
    findings = in_threads(order, todo, jobs, partial(_finish, deadline, Places(order.hypertable)))
    if len(findings) > _NAMED:
        more = f"and {counted(len(findings) - _NAMED, 'chunk')} more that stay plain, or partly so"
        return [*findings[:_NAMED], Finding("warning", "land", more)]
    return findings


def _finish(
    deadline: float, places: Places, connection: Connection, order: Order, one: Ready, stop: threading.Event
) -> list[Finding]:
    attempt, problem = 0, None
    while not stop.is_set():
        try:
            problem = convert(connection, order, one, places)
            if problem is None:
                return []
        except Never as reason:
            problem = str(reason)
            break
        except psycopg.Error as error:
            if connection.closed:
                raise
            problem = first_line(error)
            if error.sqlstate not in RETRIED:
                break
        if time.monotonic() > deadline:
            break
        stop.wait(backoff(attempt, cap=3.0))
        attempt += 1
    if stop.is_set():
        return []
    where = order.target.time_type.range_text(one.span)
    text = f"the chunk of {where} was filled and stays plain, or partly so: {problem}"
    return [Finding("warning", "land", text, hint="compress_chunk() does it, and its policy if it has one")]


def entered(connection: Connection, backfill: int) -> Counts | None:
    """The counts of a backfill; None where nothing was to end compressed."""
    found = counts(connection, backfill)
    return found if found.total else None


def planned(connection: Connection, backfill: int, land: Land) -> list[Finding]:
    """What a command that goes on with a backfill should know: how chunks end was decided when that was planned."""
    found = counts(connection, backfill)
    if not found.total:
        text = f"as backfill {backfill} was planned, its chunks land plain: --land {land} comes too late"
        return [Finding("warning", "land", text)] if land == "compressed" else []
    text = f"of {counted(found.total, 'chunk')} that were to end compressed, {found.left} are left"
    return [Finding("note", "land", text + (": they land plain now (--land plain)" if land == "plain" else ""))]
