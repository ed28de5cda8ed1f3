"""Whether a pooler in between gives each transaction to whichever session of the server is free.

Settings, advisory locks and cancel requests belong to a session. Through such a pooler ours would be somebody else's:
an application would find its session read-only. So this is asked before anything is set.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psycopg

from hyperfill.deadline import expiring
from hyperfill.sql import query

_LOOKS = 5
_PATIENCE = 5.0  # seconds for the second session to answer: a pool that has none free lets it wait for minutes

Connection = psycopg.Connection[tuple[object, ...]]

SHARED = "a pooler in between gives each transaction to another session of the server"
BUSY = "a pooler in between has no second session of the server free, so it cannot be told how it shares them"
HINT = "connect to the server itself, or to a pool in session mode (PgBouncer: pool_mode = session)"


def in_between(connection: Connection, open_another: Callable[[], Connection]) -> str | None:
    """Why `connection`, which was just opened, cannot be used; None if it is a session of its own.

    Only where something else than the server answered on connecting a second connection is opened: while it is inside
    a transaction it must not be the session that the first one had, and the first one must keep it. Raises
    psycopg.Error.
    """
    mine = _backend(connection)
    if mine == connection.info.backend_pid:
        return None
    with contextlib.closing(open_another()) as other, expiring(other, _PATIENCE) as expired:
        for _ in range(_LOOKS):
            try:
                # A pool in statement mode refuses the BEGIN.
                other.execute("BEGIN")
                theirs = _backend(other)
                other.execute("ROLLBACK")
            except psycopg.Error:
                return BUSY if expired.is_set() else SHARED
            if theirs == mine or _backend(connection) != mine:
                return SHARED
    return None


def _backend(connection: Connection) -> int:
    for attempt in range(_LOOKS):
        # A timeout of a few milliseconds that somebody set for the role may be over before the first words are read.
        try:
            cursor = connection.execute(query("session/backend"))
            break
        except psycopg.errors.QueryCanceled:
            if attempt == _LOOKS - 1:
                raise
    cursor.nextset()
    row = cursor.fetchone()
    assert row is not None
    return int(str(row[0]))
