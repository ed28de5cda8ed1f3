"""Every reason not to start, found before the first write, all at once."""

from __future__ import annotations

import random
import re
from typing import Any, cast

import psycopg
from psycopg import sql

from hyperfill.catalog import Hypertable, Server
from hyperfill.errors import Finding, Refused, first_line
from hyperfill.ledger import Definition
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query
from hyperfill.survey import Axis
from hyperfill.timeline import TIME_TYPES, BoundError, Kind, TimeType, milliseconds_of_uuid

_OLDEST_TIMESCALEDB = (2, 11, 0)  # before it compressed chunks could not be changed
_OLDEST_SERVER = {"source": 120000, "target": 140000}


def moment_of(time_type: TimeType, ordinal: int) -> str | None:
    """A bound as a timestamptz text, None for an integer axis: it has no clock."""
    instant = TIME_TYPES["timestamp with time zone"]
    match time_type.kind:
        case Kind.INSTANT | Kind.LOCAL:
            return instant.text(min(ordinal, instant.maximum))
        case Kind.DATE:
            return instant.text(min(ordinal * 86_400_000_000, instant.maximum))
        case Kind.UUID:
            return instant.text(milliseconds_of_uuid(ordinal) * 1000)
        case Kind.INTEGER:
            return None


def row(connection: Connection, name: Any, **arguments: Any) -> tuple[Any, ...]:
    """The single row of a named query."""
    return fetch_one(connection, query(name), arguments)


def read_bound(target: Connection, time_type: TimeType, text: str, option: str) -> int:
    """A bound as an ordinal. Raises `Refused` naming option, column and type."""
    try:
        checked = time_type.check_bound(text)
    except BoundError as error:
        raise Refused(f"{option}: {error}") from None
    if time_type.kind is Kind.INTEGER:
        return time_type.ordinal(checked.removeprefix("+"))  # int() itself reads no 5000 zeros
    statement = sql.SQL(query("preflight/canonical")).format(type=sql.SQL(time_type.sql_name))
    try:
        row: Any = target.execute(statement, [checked]).fetchone()
        return time_type.ordinal(row[0])
    except (psycopg.DataError, BoundError) as error:
        reason = first_line(error) if isinstance(error, psycopg.Error) else str(error)
        raise Refused(f"{option}: {text!r} is not a {time_type.sql_name}: {reason}") from None


def servers(
    source: Server, target: Server, jobs: int, connections: tuple[Connection, Connection], *, writes: bool = True
) -> list[Finding]:
    """Findings about the two servers as such. Without `writes` the target is only read."""
    findings = _server(source, "source") + (_target(target) if writes else _server(target, "target"))
    same_cluster = source.system_identifier is not None and source.system_identifier == target.system_identifier
    for role, connection in zip(("source", "target"), connections, strict=True):
        findings += _room(connection, role, jobs, 2 if same_cluster else 1)
    return findings


def target_server(target: Server, jobs: int, connection: Connection) -> list[Finding]:
    """Findings about the target as such, where the source is no server."""
    return _target(target) + _room(connection, "target", jobs, 1)


def _server(server: Server, role: str) -> list[Finding]:
    findings = []
    if server.version < _OLDEST_SERVER[role]:
        findings.append(
            Finding(
                "error",
                "version",
                f"the {role} is PostgreSQL {server.version // 10000}; "
                f"{_OLDEST_SERVER[role] // 10000} is the oldest known to work",
            )
        )
    if server.encoding == "SQL_ASCII":
        findings.append(
            Finding(
                "warning",
                "encoding",
                f"the {role} database has the encoding SQL_ASCII: text is moved as it is, and bytes that are "
                "no UTF-8 stop a window",
            )
        )
    return findings


def _target(target: Server) -> list[Finding]:
    findings = _server(target, "target")
    if target.in_recovery:
        findings.append(Finding("error", "read-only", "the target is a standby: name the primary"))
    elif target.read_only:
        findings.append(
            Finding(
                "error",
                "read-only",
                "the target is read-only (default_transaction_read_only is on)",
                hint="a managed service does that when the disk is full; otherwise ALTER DATABASE or ROLE ... SET "
                "default_transaction_read_only = off",
            )
        )
    if target.timescaledb and target.timescaledb < _OLDEST_TIMESCALEDB:
        findings.append(
            Finding(
                "error",
                "version",
                f"the target has TimescaleDB {target.timescaledb_text}; 2.11 is the oldest known to work",
            )
        )
    return findings


def _room(connection: Connection, role: str, jobs: int, each: int) -> list[Finding]:
    """Whether there are connections for all workers, `each` for one of them."""
    free = row(connection, "preflight/connections")[0]
    if free is None or free >= each * jobs:
        return []
    return [
        Finding(
            "error",
            "connections",
            f"the {role} has {free} free connections for this role, "
            f"and {jobs} workers need {'two' if each > 1 else 'one'} each",
            hint="use fewer --jobs, or raise max_connections",
        )
    ]


def same_database(source: Server, target: Server, connections: tuple[Connection, Connection]) -> bool:
    """Whether both ends are one database, also where a role may not ask for the cluster's identity.

    A standby of the target counts as the target: its identity is the same.
    """
    if source.system_identifier and target.system_identifier:
        return (source.system_identifier, source.database_oid) == (target.system_identifier, target.database_oid)
    mark = {"first": random.randrange(1, 2**31), "second": random.randrange(1, 2**31)}
    fetch_one(connections[1], query("preflight/mark"), mark)
    try:
        return bool(fetch_one(connections[0], query("preflight/see_mark"), mark)[0])
    finally:
        fetch_one(connections[1], query("preflight/unmark"), mark)


def same_relation(
    source: Server,
    target: Server,
    axis: Axis,
    hypertable: Hypertable,
    connections: tuple[Connection, Connection],
    *,
    writes: bool = True,
) -> list[Finding]:
    """Refuse to copy (or compare) a relation onto itself, also through a standby or one of its chunks."""
    if not same_database(source, target, connections):
        return []
    if not row(connections[1], "preflight/related", first=axis.relation.oid, second=hypertable.relation.oid)[0]:
        return []
    return [
        Finding(
            "error",
            "same-relation",
            f"source and target are the same: {axis.relation.quoted} in database {target.database} of one cluster",
            hint="the window's DELETE would remove what is to be copied" if writes else None,
        )
    ]


def locks(connection: Connection, target: Server, hypertable: Hypertable, jobs: int) -> list[Finding]:
    """Room for the locks of a DELETE, which before TimescaleDB 2.29 locks every chunk of the hypertable."""
    if target.timescaledb is None or target.timescaledb >= (2, 29) or not hypertable.chunks:
        return []
    room, indexes = row(connection, "preflight/locks", oid=hypertable.relation.oid)
    needed = jobs * len(hypertable.chunks) * (1 + indexes)
    if needed < room * 0.8:
        return []
    return [
        Finding(
            "warning",
            "locks",
            f"a DELETE in TimescaleDB {target.timescaledb_text} locks all {len(hypertable.chunks)} chunks: {jobs} "
            "workers "
            f"may need {needed:,} locks, and the server has room for {room:,}",
            hint="use fewer --jobs, or raise max_locks_per_transaction and restart the server",
        )
    ]


def completion_point(
    connections: tuple[Connection, Connection], source: Server, time_type: TimeType, end: int
) -> list[Finding]:
    """T against the clock, open transactions, and a standby's replay."""
    moment = moment_of(time_type, end)
    if moment is None:
        return (
            [
                Finding(
                    "note",
                    "clock",
                    "the time column is an integer: open transactions and a lagging standby cannot be compared "
                    "with the end",
                )
            ]
            if source.in_recovery
            else []
        )
    findings = []
    if row(connections[1], "preflight/in_future", moment=moment)[0]:
        findings.append(
            Finding(
                "warning",
                "end-in-future",
                f"the end {time_type.text(end)} is in the future: rows that are dual-written below it while "
                "windows run are deleted or doubled",
                hint="the completion point lies before now, and before the zone of late data",
            )
        )
    for role, connection in zip(("source", "target"), connections, strict=True):
        old: list[Any] = connection.execute(query("preflight/old_transactions"), {"moment": moment}).fetchall()
        if old:
            who = ", ".join(
                f"{name}{f' (pid {pid})' if pid else ''} open for {age:.0f} s" for pid, name, age in old[:5]
            )
            findings.append(
                Finding(
                    "warning",
                    "old-transactions",
                    f"{len(old)} transactions on the {role} are older than the end, and may still write below it: "
                    f"{who}",
                    hint="wait until they have ended, or end them",
                )
            )
    if source.in_recovery:
        replayed, enough, streaming = row(connections[0], "preflight/replay", moment=moment)
        if not enough:
            findings.append(
                Finding(
                    "warning" if streaming else "error",
                    "standby-lag",
                    f"the source is a standby that has replayed up to {replayed or 'an unknown time'}, before the "
                    f"end {time_type.text(end)}"
                    + (
                        " (it streams, and all it received is replayed: the primary may simply be idle)"
                        if streaming
                        else ""
                    ),
                    hint="wait until it has caught up, or read from the primary",
                )
            )
    return findings


def representable(connection: Connection, definition: Definition) -> list[Finding]:
    """Whether the target's encoding can hold the names that the ledger must keep."""
    try:
        fetch_one(connection, query("preflight/representable"), [repr(definition)])
    except psycopg.DataError as error:
        return [Finding("error", "encoding", f"the target cannot keep these names in its ledger: {first_line(error)}")]
    return []


def condition(connection: Connection, axis: Axis, where: str, role: str) -> list[Finding]:
    """Whether --where is one whole boolean expression of this side's columns."""
    text = sql.SQL(cast(Any, where))
    words = re.sub(r"'(?:[^']|'')*'", "''", where).lower()
    system = sorted(set(re.findall(r"\b(ctid|xmin|xmax|cmin|cmax|tableoid)\b", words)))
    called = sorted(set(re.findall(r"([a-z_][a-z0-9_$]*)\s*\(", words)))
    moving = [str(r[0]) for r in connection.execute(query("preflight/volatile"), {"names": called})]
    if system or moving:
        return [
            Finding(
                "error",
                "where",
                f"--where uses {', '.join(system + moving)}: it would not mean the same rows on both sides each time",
                hint="use columns and functions whose value depends on the row alone",
            )
        ]
    try:
        for name in ("preflight/expression_ok", "preflight/expression_whole"):
            composed = axis.compose(name, condition=text).as_string(connection)
            # A parameter makes the driver use the extended protocol, in which a second statement cannot hide.
            connection.execute(cast(Any, composed.replace("%", "%%") + " OFFSET %s"), [0], prepare=False)
            connection.execute(cast(Any, composed))  # and without: the condition cannot use a parameter of ours
    except psycopg.Error as error:
        return [
            Finding(
                "error",
                "where",
                f"--where cannot be used on the {role}: {first_line(error)}",
                hint="it is applied to the source's rows and to what is deleted on the target, so both must know its "
                "columns",
            )
        ]
    return []
