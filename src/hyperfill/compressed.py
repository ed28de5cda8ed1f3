"""Compressed chunks of the range: recorded, made partial before a window needs it, compressed again at the end.

The first delete or insert in a compressed chunk marks it partial by updating its catalog row, and holds that row
until it commits: the application's inserts into the chunk wait for a whole window. A chunk that is partial already
makes nobody wait, so a short transaction makes it partial before. And all windows of one compressed chunk are moved
by one worker at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

import psycopg
from psycopg import sql

from hyperfill import session
from hyperfill.catalog import Chunk, Hypertable, Server, quote_name, read_chunks
from hyperfill.errors import Finding, backoff, first_line, retrying
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query
from hyperfill.survey import Axis
from hyperfill.timeline import Span
from hyperfill.window import Order

T = TypeVar("T")

COMPRESSED, UNORDERED, FROZEN, PARTIAL = 1, 2, 4, 8  # the bits of a chunk's status
NOT_IN_ORDER = UNORDERED | PARTIAL
LOCK_TIMEOUT_MS = 500
# XX000: "tuple concurrently updated", which an insert of the application at the wrong moment causes.
RETRIED = frozenset({"55P03", "40001", "40P01", "XX000"})
_PATIENCE = 20.0  # seconds to make a chunk partial before its window goes on without
RECOMPRESS_SECONDS = 60.0  # for one chunk, then it is reported


def statuses(connection: Connection, oids: Sequence[int]) -> dict[int, int]:
    """The status bits of chunks by oid, without those that are gone. Community edition only."""
    if not oids:
        return {}
    rows: list[Any] = connection.execute(query("compressed/states"), {"oids": list(oids)}).fetchall()
    return {row[0]: row[3] for row in rows}


def has_rows(connection: Connection, chunk: Chunk) -> bool:
    """Whether a chunk has a row, compressed or plain."""
    relation = sql.Identifier(chunk.schema, chunk.name)
    statement = sql.SQL(query("window/anything")).format(relation=relation, window=sql.SQL("true"))
    return bool(fetch_one(connection, statement)[0])


def record(connection: Connection, order: Order, backfill: int, span: Span) -> None:
    """Note which chunks of the range are compressed or partial; in a transaction, before the first delete."""
    time_type = order.target.time_type
    seen = Hypertable(
        order.hypertable.relation,
        order.hypertable.time_column,
        time_type,
        order.hypertable.interval,
        chunks=read_chunks(connection, order.target.relation, time_type),
    )
    chunks = [chunk for chunk in seen.chunks_in(span) if chunk.compressed]
    status = statuses(connection, [chunk.oid for chunk in chunks])
    for chunk in chunks:
        if not status.get(chunk.oid, 0) & COMPRESSED:
            continue
        arguments = {
            "backfill": backfill,
            "oid": chunk.oid,
            "chunk": f"{quote_name(chunk.schema)}.{quote_name(chunk.name)}",
            "lower": None if chunk.lower is None else time_type.text(chunk.lower),
            "upper": None if chunk.upper is None else time_type.text(chunk.upper),
            "status": status[chunk.oid],
        }
        connection.execute(query("compressed/insert_state"), arguments)


def not_in_order(connection: Connection, backfill: int) -> list[str]:
    """Chunks of a backfill that were compressed before it, and are partly so or unordered now: their names."""
    rows: list[Any] = connection.execute(query("compressed/todo"), [backfill]).fetchall()
    status = statuses(connection, [row[0] for row in rows]) if rows else {}
    return [row[1] for row in rows if status.get(row[0], 0) & NOT_IN_ORDER]


def counts(connection: Connection, hypertable: Hypertable, span: Span) -> dict[str, int]:
    """How many chunks of the range are compressed, partial (or unordered) and plain, for the plan."""
    chunks = hypertable.chunks_in(span)
    status = statuses(connection, [chunk.oid for chunk in chunks if chunk.compressed])
    found = {"compressed": 0, "partial": 0, "plain": 0}
    for chunk in chunks:
        bits = status.get(chunk.oid, 0)
        found["plain" if not bits & COMPRESSED else "partial" if bits & NOT_IN_ORDER else "compressed"] += 1
    return found


def preflight(connection: Connection, hypertable: Hypertable, span: Span, *, recompress: bool) -> list[Finding]:
    """Whether this role may compress again what the windows make partial."""
    if not recompress or not any(chunk.compressed for chunk in hypertable.chunks_in(span)):
        return []
    owner, owned, role = fetch_one(connection, query("compressed/owner"), {"oid": hypertable.relation.oid})
    if owned:
        return []
    return [
        Finding(
            "error",
            "recompress",
            f"chunks in the range are compressed, and only {quote_name(owner)}, the owner of "
            f"{hypertable.relation.quoted}, may compress them again",
            hint=f"GRANT {quote_name(owner)} TO {quote_name(role)}; or --no-recompress leaves them partial",
        )
    ]


class Guard:
    """Keeps a worker's windows from making the application wait in compressed chunks. One for each worker and order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._chunks = [chunk for chunk in order.hypertable.chunks if chunk.compressed]
        self._tried: set[int] = set()
        self._columns: list[str] | None = None

    def enter(self, target: Connection, window: Span) -> list[Chunk] | None:
        """To be called in the window's transaction, after the claim.

        None: another worker is in one of its compressed chunks. Otherwise this transaction is the only one there, and
        the result are chunks to be made partial first, outside of it; usually none.
        """
        known = {
            chunk.oid: chunk
            for chunk in self._chunks
            if (chunk.lower is None or chunk.lower < window.upper)
            and (chunk.upper is None or window.lower is None or chunk.upper > window.lower)
        }
        if not known:
            return []
        status = {oid: bits for oid, bits in statuses(target, list(known)).items() if bits & COMPRESSED}
        for oid in sorted(status):
            if not fetch_one(target, query("compressed/try_lock"), [oid])[0]:
                return None
        return [known[oid] for oid, bits in status.items() if not bits & (PARTIAL | FROZEN) and oid not in self._tried]

    def soften(self, target: Connection, chunks: Sequence[Chunk], window: Span) -> None:
        """Make chunks partial, each in a short transaction of its own. What fails is left to the window."""
        for chunk in chunks:
            self._tried.add(chunk.oid)
            try:
                retrying(partial(self._soften, target, chunk, window), seconds=_PATIENCE, states=RETRIED)
            except psycopg.Error:
                if target.closed:
                    raise

    def soften_at(self, target: Connection, ordinals: Sequence[int]) -> None:
        """Make the compressed chunks partial in which these places are, before rows of a batch go there."""
        for chunk in self._chunks:
            if chunk.oid in self._tried or chunk.lower is None or chunk.upper is None:
                continue
            span = Span(chunk.lower, chunk.upper)
            if any(span.contains(at) for at in ordinals):
                bits = statuses(target, [chunk.oid]).get(chunk.oid, 0)
                self._tried.add(chunk.oid)
                if bits & COMPRESSED and not bits & (PARTIAL | FROZEN):
                    self.soften(target, [chunk], span)

    def _soften(self, target: Connection, chunk: Chunk, window: Span) -> None:
        order = self._order
        relation = order.target.relation
        if self._columns is None:
            found = target.execute(
                query("compressed/segmentby"), {"schema": relation.schema, "name": relation.name}
            ).fetchall()
            names = [order.target.column, *(str(row[0]) for row in found), *(n for n, _ in order.hypertable.partitions)]
            self._columns = list(dict.fromkeys(names))
        bare = Axis(relation, order.target.column, order.target.time_type)
        inside = window if chunk.lower is None else (Span(chunk.lower, window.upper).intersect(window) or window)
        with target.transaction():
            target.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_TIMEOUT_MS}ms"])
            target.execute("SELECT set_config('application_name', %s, true)", [f"hyperfill/{order.backfill}/chunk"])
            for place in (bare.condition(inside), sql.SQL("true")):
                row: Any = target.execute(
                    sql.SQL(query("compressed/sample")).format(
                        columns=sql.SQL(", ").join(
                            sql.SQL("{}::text").format(sql.Identifier("r", name)) for name in self._columns
                        ),
                        chunk=sql.Identifier(chunk.schema, chunk.name),
                        window=place,
                    )
                ).fetchone()
                if row is not None:
                    break
            else:
                return  # an empty chunk has no batch that could be in anybody's way
            terms = [self._equal(name, value) for name, value in zip(self._columns, row, strict=True)]
            target.execute(
                sql.SQL(query("compressed/make_partial")).format(
                    relation=relation.identifier, row=sql.SQL(" AND ").join(terms)
                )
            )

    def _equal(self, name: str, value: str | None) -> sql.Composed:
        column = self._order.target.relation.column(name)
        assert column is not None
        if value is None:
            return sql.SQL("{} IS NULL").format(sql.Identifier("r", name))
        return sql.SQL("{} = {}::{}").format(
            sql.Identifier("r", name), sql.Literal(value), sql.SQL(cast(Any, column.type))
        )


@dataclass(frozen=True)
class _Todo:
    oid: int
    chunk: str
    lower: str | None
    upper: str | None
    status: int


def recompress(control: Connection, order: Order, end: int, jobs: int, log: Callable[[str], None]) -> list[Finding]:
    """Compress again the chunks that were compressed before and are partial or unordered now, `jobs` at a time.

    Never the chunk that contains `end`, into which the application writes. Can be interrupted and called again.
    Returns what was left as it is.
    """
    rows: list[Any] = control.execute(query("compressed/todo"), [order.backfill]).fetchall()
    todo = [_Todo(*row) for row in rows]
    if not todo:
        return []
    status = statuses(control, [one.oid for one in todo])
    wanted, findings = [], []
    for one in todo:
        if status.get(one.oid, 0) & COMPRESSED == 0 or status[one.oid] & NOT_IN_ORDER == 0:
            # Gone, decompressed by somebody, or as it was.
            control.execute(query("compressed/done"), [order.backfill, one.oid])
        elif one.status & NOT_IN_ORDER:
            findings.append(Finding("note", "recompress", f"{one.chunk} was partly compressed before, and still is"))
        elif one.upper is None or order.target.time_type.ordinal(one.upper) > end:
            findings.append(
                Finding(
                    "note",
                    "recompress",
                    f"{one.chunk} contains the end of the range, where the application writes: it is left partly "
                    "compressed",
                    hint="its policy compresses it again; or, when it is quiet: " + _by_hand(control, one),
                )
            )
        else:
            wanted.append(one)
    if not wanted:
        return findings
    log(f"compressing {len(wanted)} chunks again")
    return findings + in_threads(order, wanted, jobs, _compress_again)


def in_threads(
    order: Order, todo: Sequence[T], jobs: int, work: Callable[[Connection, Order, T, threading.Event], list[Finding]]
) -> list[Finding]:
    """Do work on the target, `jobs` at a time, each with a connection of its own whose lock_timeout is short.

    Work ends early when the event is set.
    """
    stop = threading.Event()

    def share(mine: Sequence[T]) -> list[Finding]:
        findings: list[Finding] = []
        name = f"hyperfill/{order.backfill}/compress"
        with session.connect(order.target_conninfo, "target", application_name=name) as connection:
            connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{LOCK_TIMEOUT_MS}ms"])
            for one in mine:
                if not stop.is_set():
                    findings += work(connection, order, one, stop)
        return findings

    shares = [todo[i::jobs] for i in range(min(jobs, len(todo)))]
    with ThreadPoolExecutor(max_workers=len(shares)) as pool:
        try:
            return [finding for found in pool.map(share, shares) for finding in found]
        finally:
            stop.set()  # after Ctrl-C the pool waits for its threads


def compress_function(connection: Connection) -> sql.Identifier:
    """compress_chunk(), in the schema of the extension."""
    return sql.Identifier(str(fetch_one(connection, query("compressed/extension_schema"))[0]), "compress_chunk")


def _by_hand(connection: Connection, one: _Todo) -> str:
    call = sql.SQL("SELECT {}({}, true);").format(compress_function(connection), sql.Literal(one.chunk))
    return call.as_string()


def _compress_again(connection: Connection, order: Order, one: _Todo, stop: threading.Event) -> list[Finding]:
    problem = _compress(connection, compress_function(connection), one, stop)
    if problem is None:
        connection.execute(query("compressed/done"), [order.backfill, one.oid])
    elif not stop.is_set():
        text = f"{one.chunk} was compressed before and is only partly so now: {problem}"
        return [Finding("warning", "recompress", text, hint=_by_hand(connection, one))]
    return []


def compress_statement(function: sql.Identifier, oid: int) -> sql.Composed:
    """The call that compresses a chunk, in place, or compresses what is plain in it."""
    return sql.SQL(query("compressed/compress")).format(function=function, oid=sql.Literal(oid))


def _compress(connection: Connection, function: sql.Identifier, one: _Todo, stop: threading.Event) -> str | None:
    """Compress a chunk until its status is right: with an open insert the call succeeds and does nothing.

    Returns what is in the way after `RECOMPRESS_SECONDS`, None when it is done.
    """
    deadline = time.monotonic() + RECOMPRESS_SECONDS
    statement = compress_statement(function, one.oid)
    attempt, problem = 0, ""
    while not stop.is_set():
        try:
            connection.execute(statement)
            problem = "other transactions are writing into it"
        except psycopg.Error as error:
            if connection.closed:
                raise
            problem = first_line(error)
            if error.sqlstate not in RETRIED:
                return problem if statuses(connection, [one.oid]) else None
        bits = statuses(connection, [one.oid]).get(one.oid, 0)
        if bits & NOT_IN_ORDER == 0 or bits & COMPRESSED == 0:
            return None
        if time.monotonic() > deadline:
            return problem
        stop.wait(backoff(attempt, cap=3.0))
        attempt += 1
    return "stopped"


def known(server: Server) -> bool:
    """Whether the server can have compressed chunks at all."""
    return server.timescaledb is not None and server.community
