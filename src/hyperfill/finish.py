"""After the last window: sequences moved forward, touched chunks analyzed."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from hyperfill import session
from hyperfill.catalog import Chunk, read_chunks
from hyperfill.errors import Finding, first_line, retrying
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query
from hyperfill.timeline import Span
from hyperfill.window import Order


def touched_chunks(chunks: Sequence[Chunk], touched: Sequence[Span]) -> list[Chunk]:
    """Chunks that some of the spans (in time order, disjoint) reach into."""
    uppers = [span.upper for span in touched]
    found = []
    for chunk in chunks:
        index = bisect_right(uppers, chunk.lower) if chunk.lower is not None else 0
        if index < len(touched):
            span = touched[index]
            if chunk.upper is None or span.lower is None or span.lower < chunk.upper:
                found.append(chunk)
    return found


def analyze(control: Connection, order: Order, touched: Sequence[Span], jobs: int) -> list[Finding]:
    """ANALYZE every chunk that windows have changed, `jobs` at a time. What cannot be analyzed is a finding.

    Only the time column (and with it the number of rows), where autovacuum is on and will do the rest within its
    minute: such an ANALYZE does not count as one for it. The whole costs a tenth of loading ten columns of floats.
    """
    only = bool(fetch_one(control, query("finish/autovacuum"), {"oid": order.hypertable_oid})[0])
    chunks = touched_chunks(read_chunks(control, order.target.relation, order.target.time_type), touched)
    if not chunks:
        return []
    # The other threads only wait for their server; psycopg releases the GIL meanwhile.
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=min(jobs, len(chunks))) as pool:
        shares = [chunks[i::jobs] for i in range(min(jobs, len(chunks)))]
        try:
            failures = [
                text
                for share in pool.map(lambda part: _analyze_or_say(order, part, stop, only), shares)
                for text in share
            ]
        finally:
            stop.set()  # after Ctrl-C the pool waits for its threads: let them end with the chunk they are at
    if not failures:
        return []
    return [Finding("note", "analyze", f"{len(failures)} of {len(chunks)} chunks were not analyzed: {failures[0]}")]


def _analyze_or_say(order: Order, chunks: Sequence[Chunk], stop: threading.Event, only: bool) -> list[str]:
    """Statistics are never worth a failed run: autovacuum will make them."""
    try:
        return _analyze(order, chunks, stop, only)
    except (psycopg.Error, session.ConnectFailed) as error:
        return [first_line(error)]


def _analyze(order: Order, chunks: Sequence[Chunk], stop: threading.Event, only: bool) -> list[str]:
    failures = []
    with session.connect(
        order.target_conninfo, "target", application_name=f"hyperfill/{order.backfill}/analyze"
    ) as connection:
        connection.execute("SET synchronous_commit = off")  # a crash of the server may take statistics with it
        if only:
            # A tenth of the usual sample: enough for the ends and the number of rows.
            connection.execute("SET default_statistics_target = 10")
        for chunk in chunks:
            if stop.is_set():
                break
            statement = sql.SQL("ANALYZE {}").format(sql.Identifier(chunk.schema, chunk.name))
            if only:
                statement += sql.SQL(" ({})").format(sql.Identifier(order.target.column))
            try:
                retrying(partial(connection.execute, statement), seconds=10)
            except psycopg.errors.UndefinedTable:
                continue  # dropped meanwhile
            except psycopg.Error as error:
                if connection.closed:
                    raise
                failures.append(first_line(error))
    return failures


def sync_sequences(control: Connection, order: Order) -> list[Finding]:
    """Move the sequences behind moved columns to the furthest value that is stored: forward, never back."""
    findings = []
    moved = {c.target for c in order.columns}
    for column in order.target.relation.columns:
        if column.name not in moved or column.sequence_oid is None:
            continue
        try:
            moved_on = retrying(partial(_sync, control, order, column.name, column.sequence_oid), seconds=30)
        except psycopg.Error as error:
            findings.append(
                Finding("warning", "sequences", f"the sequence behind {column.name} was not moved: {first_line(error)}")
            )
            continue
        if moved_on:
            findings.append(moved_on)
    return findings


def _sync(control: Connection, order: Order, column: str, oid: int) -> Finding | None:
    state: Any = control.execute(query("finish/sequence_state"), {"oid": oid}).fetchone()
    if state is None:
        return None
    value, increment, cache, schema, name, owner = state
    if value is None:
        return Finding(
            "warning", "sequences", f"sequence {schema}.{name} was not moved: this role may not see its value"
        )
    function = sql.SQL("pg_catalog.max" if increment > 0 else "pg_catalog.min")
    furthest: Any = control.execute(
        sql.SQL(query("finish/extreme_value")).format(
            function=function, column=sql.Identifier(column), relation=order.target.relation.identifier
        )
    ).fetchone()
    if furthest[0] is None:
        return None
    with control.transaction():
        if owner:
            control.execute(
                sql.SQL(query("finish/lock_sequence")).format(
                    sequence=sql.Identifier(schema, name), cache=sql.Literal(cache)
                )
            )
        value = fetch_one(control, query("finish/sequence_state"), {"oid": oid})[0]
        if (furthest[0] - value) * increment <= 0:
            return None
        control.execute(query("finish/set_sequence"), {"oid": oid, "value": furthest[0]})
    return Finding("note", "sequences", f"sequence {schema}.{name} moved forward from {value} to {furthest[0]}")
