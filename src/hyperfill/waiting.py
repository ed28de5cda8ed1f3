"""Waiting for the advisory locks of the ledger: who holds one that is never free is said."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg

from hyperfill.errors import Refused
from hyperfill.session import Connection
from hyperfill.sql import query


@contextlib.contextmanager
def naming(connection: Connection, *, hypertable: int | None = None, backfill: int | None = None) -> Iterator[None]:
    """Around a transaction that begins with a lock of the ledger: a lock_timeout in it becomes a `Refused` that says
    who holds the lock. Anybody may take an advisory lock, also who has no right to anything.

    `hypertable`: the oid whose lock is waited for, `backfill`: the one that is marked as running.
    """
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        holders: list[Any] = []
        with contextlib.suppress(psycopg.Error):
            arguments = {"hypertable": hypertable, "backfill": backfill}
            holders = connection.execute(query("ledger/holders"), arguments).fetchall()
        if not holders:
            raise Refused(
                f"a lock of the ledger in the target was not free in time: {error.diag.message_primary}",
                hint="run the same command again",
            ) from None
        who = ", ".join(f"pid {pid} ({name or 'no application_name'}, role {user})" for pid, name, user in holders)
        raise Refused(
            f"somebody else holds the advisory lock that this command waits for in the target: {who}",
            hint="another command on the same hypertable ends by itself: run the same command again; what is none of "
            f"hyperfill can be ended: SELECT pg_terminate_backend({holders[0][0]});",
        ) from None
