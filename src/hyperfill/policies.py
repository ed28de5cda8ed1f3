"""Policies of a hypertable: which there are, which of them a backfill must hold, and turning one off and on again.

A policy that compresses, drops, reorders or aggregates chunks while they are being filled does harm:
half-full chunks are compressed, history is dropped as soon as it lands, aggregates miss rows. What is
written in the ledger about it, and when, is in `holds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from psycopg import sql
from psycopg.rows import class_row

from hyperfill.catalog import Relation, quote_name
from hyperfill.errors import PoliciesOn
from hyperfill.kinds import Kind
from hyperfill.session import Connection
from hyperfill.sql import query


@dataclass(frozen=True)
class Extension:
    """Where TimescaleDB keeps its functions and its jobs in this database."""

    schema: str
    community: bool  # the Apache edition has no policies, and its alter_job() raises
    job_schema: str  # of table bgw_job: it moved in 2.25

    def compose(self, statement: str) -> sql.Composed:
        """A statement with the places of the extension and its job table filled in."""
        return sql.SQL(cast(Any, statement)).format(
            extension=sql.Identifier(self.schema), job_table=sql.Identifier(self.job_schema, "bgw_job")
        )


@dataclass(frozen=True)
class Job:
    """A policy: a background job of the hypertable, or of a continuous aggregate above it."""

    id: int
    kind: Kind
    proc_name: str
    schema: str  # of the relation that the policy works on
    name: str
    owner: str  # as the server quotes it
    alterable: bool  # by this role
    scheduled: bool
    timezone: str | None
    next_start: str | None  # as the server writes it, in UTC; None: -infinity, or it has never been scheduled
    config: dict[str, Any] | None
    job: dict[str, Any]  # the whole row

    @property
    def relation(self) -> str:
        """Whose policy it is, quoted and qualified."""
        return f"{quote_name(self.schema)}.{quote_name(self.name)}"

    def __str__(self) -> str:
        return f"{self.kind} policy of {self.relation} (job {self.id})"


@dataclass(frozen=True)
class Watch:
    """What every window looks at before it moves rows. `known`: ids of the jobs that were there when it was made.

    `off`: of those the ledger said then that they are off because of us.
    """

    extension: Extension
    hypertable_oid: int
    kinds: tuple[Kind, ...]
    known: frozenset[int]
    off: frozenset[int] = frozenset()


def read_extension(connection: Connection) -> Extension | None:
    """TimescaleDB in this database; None where it is not installed."""
    row: Any = connection.execute(query("policies/extension")).fetchone()
    return Extension(row[0], bool(row[1]), row[2]) if row else None


def read_jobs(connection: Connection, extension: Extension | None, oid: int) -> list[Job]:
    """All policies of the hypertable with this oid and the refresh policies above it, by job id."""
    if extension is None or not extension.community:
        return []
    with connection.cursor(row_factory=class_row(Job)) as cursor:
        return cursor.execute(extension.compose(query("policies/jobs")), {"oid": oid}).fetchall()


def turn(connection: Connection, extension: Extension, job_id: int, *, on: bool) -> bool:
    """Turn a job on or off, and leave everything else of it as it is.

    False: it is gone, or was in that state. To be called in a short transaction: with a time zone the job
    statistics of all jobs are locked until it ends. Raises what the server says, XX000 where somebody
    altered the job at the same moment.
    """
    statement = extension.compose(query("policies/alter"))
    return connection.execute(statement, {"id": job_id, "on": on}).fetchone() is not None


def alter_text(extension: Extension, job: Job, *, on: bool) -> str:
    """The same as `turn`, as a person would type it."""
    arguments = [sql.SQL("{}").format(sql.Literal(job.id)), sql.SQL("scheduled => {}").format(sql.Literal(on))]
    if job.timezone is not None:
        arguments.append(sql.SQL("timezone => {}").format(sql.Literal(job.timezone)))
        if job.next_start is not None:
            arguments.append(sql.SQL("next_start => {}").format(sql.Literal(job.next_start)))
    call = sql.SQL("SELECT {}.alter_job({})").format(sql.Identifier(extension.schema), sql.SQL(", ").join(arguments))
    return call.as_string()


def read_cutoff(
    connection: Connection, extension: Extension, job: Job, relation: Relation, verb: Literal["drop", "compress"]
) -> tuple[str, str] | None:
    """What a policy of the hypertable `relation` works on now: ("time", cutoff) for chunks that end at or before the
    cutoff, ("creation", cutoff) for those made before it. None where it cannot be known."""
    arguments = {"schema": relation.schema, "name": relation.name, "id": job.id}
    arguments |= {"after": f"{verb}_after", "before": f"{verb}_created_before"}
    row: Any = connection.execute(extension.compose(query("policies/cutoff")), arguments).fetchone()
    return None if row is None or row[1] is None else (str(row[0]), str(row[1]))


def job_exists(connection: Connection, extension: Extension, job_id: int) -> bool:
    """Whether the job is still there, on or off."""
    statement = extension.compose(query("policies/exists"))
    return connection.execute(statement, {"id": job_id}).fetchone() is not None


def check_off(connection: Connection, watch: Watch) -> None:
    """Raise `PoliciesOn` if a policy of the watched kinds is on: turned on again, or added since."""
    jobs = read_jobs(connection, watch.extension, watch.hypertable_oid)
    on = [job for job in jobs if job.scheduled and job.kind in watch.kinds]
    if on:
        said = ", ".join(f"the {job} was {'turned on' if job.id in watch.known else 'added'}" for job in on)
        raise PoliciesOn(
            f"{said} while windows were moved: no further window is begun",
            hint="the same command run again holds it; --hold says which kinds are held",
        )
