"""Connections: opened by libpq exactly as psql would, then pinned so that text and row sets mean the same everywhere.

Two servers with different TimeZone, DateStyle or extra_float_digits render the same value differently,
and a database-wide `default_transaction_isolation` or `statement_timeout` breaks a window at night.
None of that may depend on how somebody configured a role.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import conninfo as pq_conninfo
from psycopg import sql

from hyperfill import pooler
from hyperfill.deadline import expiring
from hyperfill.errors import Refused, UsageError, first_line
from hyperfill.sql import query

Role = Literal["source", "target"]
Connection = psycopg.Connection[tuple[object, ...]]

# Below the server's default deadlock_timeout of 1 s: in a conflict the window gives way and not the
# application, which with a longer wait was the deadlock's victim.
LOCK_TIMEOUT_MS = 700

# A server that takes a connection and then answers nothing is given up: a worker would wait for it for ever.
_ANSWER_SECONDS = 60.0

SECRET_KEYS = frozenset({"password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"})

_PINNED: Mapping[str, str] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "xmlbinary": "base64",
    "array_nulls": "on",  # off: NULL in the text of an array is the string 'NULL'
    "timezone_abbreviations": "Default",
    # What --where and the columns of views mean.
    "transform_null_equals": "off",
    "standard_conforming_strings": "on",
    # Names of types are compared with those in the ledger.
    "quote_all_identifiers": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    # Row-level security otherwise filters silently; off turns a filter into an error.
    "row_security": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    # Without it the server notices a dead worker only when its statement ends: 20 s instead of 2.
    "client_connection_check_interval": "2000",
    # And one that says nothing any more, because its machine or the network is gone.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
}

_PINNED_SOURCE: Mapping[str, str] = {
    "default_transaction_read_only": "on",
    "synchronize_seqscans": "on",
    "lock_timeout": "30000",
}

_PINNED_TARGET: Mapping[str, str] = {
    # Keepalives do not help while an answer is unacknowledged: without this a window whose worker vanished in the
    # middle of a DELETE would be held for a quarter of an hour. Not on the source: what its COPY has sent may well
    # lie unread for long, and the system would take that for a dead peer.
    "tcp_user_timeout": "30000",
    "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",
    "timescaledb.enable_direct_compress_copy": "off",
    "timescaledb.enable_direct_compress_copy_client_sorted": "off",
    "timescaledb.skip_cagg_invalidation": "off",
}

_KEEPALIVES: Mapping[str, str] = {
    "keepalives": "1",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    # Where it is set the system asks it, and not the count of keepalives, when to give up.
    "tcp_user_timeout": "30000",
    "connect_timeout": "20",
}


def parse_conninfo(conninfo: str, role: Role) -> dict[str, str]:
    """The parameters of a libpq connection string (URI or key=value), without anything from the environment.

    Raises `UsageError` without echoing the string: libpq's own message may quote a password.
    """
    try:
        return {k: str(v) for k, v in pq_conninfo.conninfo_to_dict(conninfo).items() if v is not None}
    except psycopg.Error:
        raise UsageError(
            f"the {role} conninfo cannot be parsed (it is not shown here: it may hold a password)",
            hint="write a libpq URI (postgresql://user@host:port/dbname) or key=value pairs (host=... dbname=...)",
        ) from None


# Conninfos behind which is no pooler that shares sessions, as far as this process has asked.
_own_sessions: set[str] = set()


def connect(
    conninfo: str,
    role: Role,
    *,
    application_name: str = "hyperfill",
    names_in_full: bool = False,
    asked: bool = False,
    bulk: bool = False,
) -> Connection:
    """Open a connection in autocommit mode and pin its settings.

    `names_in_full`: names of objects that values stand for are printed with their schema, whatever the role's path is.
    `bulk`: many rows are to come through it by COPY.
    `asked`: another process has found out that this is a session of its own.

    Raises `ConnectFailed` naming host and database, never a password.
    """
    parameters = parse_conninfo(conninfo, role)
    defaults = {k: v for k, v in _KEEPALIVES.items() if k not in parameters}

    def open_one() -> Connection:
        return psycopg.connect(
            pq_conninfo.make_conninfo(conninfo, **defaults),
            autocommit=True,
            # A prepared statement's generic plan cannot exclude chunks at plan time: it locks all of them.
            prepare_threshold=None,
            client_encoding="UTF8",
            application_name=application_name,
        )

    try:
        connection = open_one()
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        raise ConnectFailed(role, _redact(text, parameters), _no_room(text)) from None
    try:
        with expiring(connection, _ANSWER_SECONDS):
            if not asked and conninfo not in _own_sessions:
                refused = pooler.in_between(connection, open_one)
                if refused is not None:
                    raise ConnectFailed(role, refused, pooler.HINT)
                _own_sessions.add(conninfo)
            pin(connection, role)
            if names_in_full:
                connection.execute(query("session/names_in_full"))
            if bulk:
                connection.execute(query("session/widen"))
    except psycopg.Error as error:
        connection.close()
        text = first_line(error)
        raise ConnectFailed(role, _redact(text, parameters), _TOO_SHORT if "timeout" in text else None) from None
    except ConnectFailed:
        connection.close()
        raise
    return connection


class ConnectFailed(Refused):
    """A server could not be reached or refused us."""

    def __init__(self, role: Role, reason: str, hint: str | None = None) -> None:
        super().__init__(f"cannot connect to the {role}: {reason}", hint=hint)
        self.role = role


def _no_room(text: str) -> str | None:
    """What to do where all connections are taken. libpq does not hand out the SQLSTATE (53300) of such an error."""
    if not any(words in text for words in _NO_ROOM):
        return None
    return (
        "a run needs one connection on the source and one on the target for each of --jobs, and one more on the "
        "target: use fewer --jobs, or raise max_connections or the role's or database's CONNECTION LIMIT"
    )


# Sessions set timeouts of their own, once they get so far.
_TOO_SHORT = (
    "a timeout that is set for the role or the database is over before a session can set its own: ALTER ROLE ... RESET "
    "(or ALTER DATABASE ... RESET) statement_timeout, transaction_timeout, idle_session_timeout, or whichever it is"
)

_NO_ROOM = (
    "too many clients already",
    "remaining connection slots are reserved",
    "too many connections for role",
    "too many connections for database",
    "no more connections allowed",  # PgBouncer: max_client_conn
)


def _redact(text: str, parameters: Mapping[str, str]) -> str:
    for key in SECRET_KEYS & parameters.keys():
        if parameters[key]:
            text = text.replace(parameters[key], "***")
    return text


def pin(connection: Connection, role: Role) -> None:
    """Set every session setting that values or guarantees depend on, of those that this server has."""
    for attempt in range(5):
        # By itself, and first: under a statement_timeout of a few milliseconds, set for the database or
        # the role, the statement below would not get through.
        try:
            connection.execute("SET statement_timeout = 0")
            break
        except psycopg.errors.QueryCanceled:
            if attempt == 4:
                raise
    connection.execute(query("session/search_path"))
    wanted = {**_PINNED, **(_PINNED_SOURCE if role == "source" else _PINNED_TARGET)}
    connection.execute(query("session/pin"), [list(wanted), list(wanted.values())])
    if role == "target":
        connection.execute(query("session/triggers_on"))
        connection.execute(query("session/lock_timeout"), [LOCK_TIMEOUT_MS])
        # An application that had waited 0.3 s for us already when we began to wait for it looked for deadlocks before
        # our lock_timeout was over, and was the victim. So we look first, after a tenth of its time. Afterwards: the
        # statement above reads the server's value.
        if connection.info.server_version >= 150000:
            connection.execute(query("session/deadlock_timeout"))
        else:
            connection.execute(query("session/deadlock_timeout_superuser"))
        connection.execute(query("session/safe_deletes"))


def qualified(schema: str, name: str) -> sql.Identifier:
    """A schema-qualified identifier, quoted by the driver."""
    return sql.Identifier(schema, name)


def fetch_one(
    connection: Connection,
    statement: LiteralString | sql.Composed,
    arguments: Sequence[object] | Mapping[str, object] | None = None,
) -> tuple[Any, ...]:
    """The single row of a query that always has one."""
    row = connection.execute(statement, arguments).fetchone()
    assert row is not None
    return row
