"""Hold and release: policies turned off for as long as somebody needs it, and restored exactly.

A policy is turned off and noted in the ledger in one transaction, and turned on and noted in one
transaction, both under the hypertable's lock: whatever dies at whatever moment, the ledger knows what is
off because of us. The first note stays: a second run never takes "off" for the original state. Two
backfills of one hypertable share a hold, and the last one releases it.
"""

from __future__ import annotations

import datetime as dt
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from hyperfill import ledger, trust
from hyperfill.catalog import Relation
from hyperfill.errors import Finding, Refused, first_line, retrying
from hyperfill.kinds import Kind
from hyperfill.policies import Extension, Job, Watch, alter_text, job_exists, read_extension, read_jobs, turn
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query
from hyperfill.waiting import naming

# Two who alter a job at once: the second hears "tuple concurrently updated".
_CONCURRENT = frozenset({"XX000"})
_RETRY_SECONDS = 60.0
_LOCK_TIMEOUT = "5s"
WAIT_SECONDS = 600.0  # for a job that runs
_POLL = 0.05
_BLIND = 1.0  # how long a role sleeps that may not see whether the scheduler is idle
_SAY_AFTER = 2.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Hold:
    """A policy that is off because of us. `backfills` are unfinished ones."""

    id: int
    hypertable: str
    job_id: int
    kind: Kind
    relation: str
    held_at: dt.datetime
    backfills: list[int]
    by_hand: bool

    def __str__(self) -> str:
        return f"{self.kind} policy of {self.relation} (job {self.job_id})"

    @property
    def users(self) -> str:
        """For whom it is held, in words."""
        who = [f"backfill {b}" for b in self.backfills] + (["by hand"] if self.by_hand else [])
        return ", ".join(who) or "a backfill that was removed from the ledger"


@dataclass
class Result:
    """What a hold or a release did. `held` is what is held afterwards."""

    changed: list[str] = field(default_factory=list)  # policies turned off, or on
    notes: list[str] = field(default_factory=list)
    held: list[Hold] = field(default_factory=list)


class _Busy(Exception):
    """A job has begun since we looked: turning it off now would cancel it."""


def read(connection: Connection, oid: int) -> list[Hold]:
    """What is held of a hypertable; nothing where there is no ledger."""
    if not ledger.exists(connection):
        return []
    with connection.cursor(row_factory=class_row(Hold)) as cursor:
        return cursor.execute(query("policies/holds"), {"oid": oid}).fetchall()


def hold(
    connection: Connection,
    relation: Relation,
    kinds: Sequence[Kind],
    *,
    backfill: int | None,
    say: Say,
    timeout: float = WAIT_SECONDS,
) -> tuple[Result, Watch | None]:
    """Turn the policies of these kinds off that are on, note it, and wait until none of them runs any more.

    `backfill`: for whom, None by hand. A job that runs is waited for before: turning it off would cancel it.
    With the result comes what windows check; None where there is nothing to watch (no kinds, no policies
    in this edition). Raises `Refused` where a job runs longer than `timeout` seconds, or this role may not
    alter one.
    """
    extension = read_extension(connection)
    if extension is None or not extension.community or not kinds:
        return Result(held=read(connection, relation.oid)), None
    deadline = time.monotonic() + timeout
    while True:
        wanted = [j for j in read_jobs(connection, extension, relation.oid) if j.kind in kinds and j.scheduled]
        _wait_for(connection, extension, [j.id for j in wanted], deadline, timeout, say)
        try:
            attempt = partial(_hold, connection, extension, relation, kinds, backfill)
            with naming(connection, hypertable=relation.oid):
                result, watch = retrying(attempt, seconds=_RETRY_SECONDS, states=_CONCURRENT)
            break
        except _Busy:
            continue
        except psycopg.DatabaseError as error:
            if error.sqlstate is None:
                raise  # the connection is gone
            raise Refused(f"policies of {relation.quoted} cannot be turned off: {first_line(error)}") from None
    mine = [h.job_id for h in result.held if h.kind in kinds]
    if mine:
        wait_quiet(connection, extension, mine, timeout=timeout, say=say)
    return result, replace(watch, off=frozenset(mine))


def _hold(
    connection: Connection, extension: Extension, relation: Relation, kinds: Sequence[Kind], backfill: int | None
) -> tuple[Result, Watch]:
    result = Result()
    with connection.transaction():
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
        ledger.lock_hypertable(connection, relation.oid)
        jobs = read_jobs(connection, extension, relation.oid)
        watch = Watch(extension, relation.oid, tuple(kinds), frozenset(j.id for j in jobs))
        if backfill is not None:
            row = connection.execute(query("policies/phase"), [backfill]).fetchone()
            if row is None or row[0] == "done":
                return Result(held=read(connection, relation.oid)), watch  # another run of it was faster
        there = {j.id: j for j in jobs}
        known = {h.job_id: h.id for h in read(connection, relation.oid)}
        for job_id in [i for i in known if i not in there]:
            _note_release(connection, known.pop(job_id), "gone")
            result.notes.append(f"job {job_id} was held and has been deleted meanwhile")
        chosen = [j for j in jobs if j.kind in kinds]
        if _busy(connection, extension, [j.id for j in chosen if j.scheduled]):
            raise _Busy
        for job in chosen:
            if job.scheduled and turn(connection, extension, job.id, on=False):
                result.changed.append(str(job))
                if job.id in known:
                    result.notes.append(f"the {job} was held, turned on by somebody meanwhile, and is held again")
                else:
                    known[job.id] = _note_hold(connection, relation, job)
            if job.id in known:
                connection.execute(query("policies/add_user"), {"hold": known[job.id], "backfill": backfill})
        if backfill is not None and row is not None and row[0] == "planned":
            connection.execute(query("ledger/set_phase"), {"id": backfill, "phase": "held"})
        result.held = read(connection, relation.oid)
    return result, watch


def _note_hold(connection: Connection, relation: Relation, job: Job) -> int:
    values = {
        "oid": relation.oid,
        "hypertable": relation.quoted,
        "relation": job.relation,
        "job_id": job.id,
        "kind": job.kind,
        "job": Jsonb(job.job),
    }
    return int(str(fetch_one(connection, query("policies/insert_hold"), values)[0]))


def _note_release(connection: Connection, hold_id: int, outcome: str) -> None:
    connection.execute(query("policies/release_hold"), {"hold": hold_id, "outcome": outcome})


def _busy(connection: Connection, extension: Extension, ids: Sequence[int]) -> list[tuple[int, str, int | None]]:
    if not ids:
        return []
    rows = connection.execute(extension.compose(query("policies/busy")), {"ids": list(ids)}).fetchall()
    return [(int(str(r[0])), str(r[1]), None if r[2] is None else int(str(r[2]))) for r in rows]


def wait_quiet(connection: Connection, extension: Extension, ids: Sequence[int], *, timeout: float, say: Say) -> None:
    """After a hold: until no held job runs, nor can still be started.

    The scheduler may have decided to start a job before it was turned off, and neither of them looks again:
    so it must have been idle once. Raises `Refused` after `timeout` seconds; what is held stays held.
    """
    deadline = time.monotonic() + timeout
    while True:
        total, idle, unseen = fetch_one(connection, query("policies/scheduler"))
        if total == idle:  # also if there is none
            break
        if unseen:
            time.sleep(_BLIND)
            break
        if time.monotonic() > deadline:
            raise Refused(
                f"TimescaleDB's scheduler has not been idle once in {timeout:.0f} s: a held job may still start",
                hint="policies stay held; run the same command again",
            )
        time.sleep(_POLL / 10)
    _wait_for(connection, extension, ids, deadline, timeout, say)


def _wait_for(
    connection: Connection, extension: Extension, ids: Sequence[int], deadline: float, timeout: float, say: Say
) -> None:
    started = time.monotonic()
    said = False
    while busy := _busy(connection, extension, ids):
        who = ", ".join(f"{name}{f' (pid {pid})' if pid else ''}" for _, name, pid in busy)
        if time.monotonic() > deadline:
            hints = [f"SELECT pg_cancel_backend({pid});" for _, _, pid in busy if pid]
            raise Refused(
                f"a policy has been running for more than {timeout:.0f} s: {who}",
                hint=f"wait until it has ended and run the same command again, or end it: {' '.join(hints)}",
            )
        if not said and time.monotonic() - started > _SAY_AFTER:
            said = True
            say(f"waiting for a policy that runs: {who}")
        time.sleep(_POLL)


def release(connection: Connection, relation: Relation, *, force: bool) -> Result:
    """Release by hand: everything that is held of the hypertable, whoever held it.

    Raises `Refused` while a backfill of it is unfinished, unless `force`.
    """
    if not ledger.exists(connection):
        return Result()
    trust.require(connection, [relation.oid])

    def attempt() -> Result:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
            ledger.lock_hypertable(connection, relation.oid)
            held = read(connection, relation.oid)
            unfinished = [e for e in ledger.entries(connection, hypertable_oid=relation.oid) if not e.finished]
            if held and unfinished and not force:
                said = ", ".join(f"backfill {e.id} ({e.done} of {e.total} windows are done)" for e in unfinished)
                raise Refused(
                    f"nothing is released: {said} is unfinished",
                    hint="run its command again, and it releases them at its end; --force releases them now",
                )
            return _release(connection, held)

    return _retry_release(connection, relation, attempt)


def finish(connection: Connection, entry: ledger.Entry, relation: Relation) -> Result:
    """End a backfill: what it was the last to hold is released, and its phase is done, in one transaction."""

    def attempt() -> Result:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
            ledger.lock_hypertable(connection, entry.hypertable_oid)
            oid = entry.hypertable_oid
            mine = {h.id for h in read(connection, oid) if entry.id in h.backfills or not (h.backfills or h.by_hand)}
            connection.execute(query("policies/remove_user"), {"oid": oid, "backfill": entry.id})
            connection.execute(query("ledger/set_phase"), {"id": entry.id, "phase": "done"})
            left = [h for h in read(connection, oid) if h.id in mine]
            result = _release(connection, [h for h in left if not h.backfills and not h.by_hand])
            result.notes += [f"the {h} stays held for {h.users}" for h in left if h.backfills or h.by_hand]
            return result

    return _retry_release(connection, relation, attempt)


def _retry_release(connection: Connection, relation: Relation, attempt: Callable[[], Result]) -> Result:
    try:
        with naming(connection, hypertable=relation.oid):
            return retrying(attempt, seconds=_RETRY_SECONDS, states=_CONCURRENT)
    except psycopg.errors.InsufficientPrivilege as error:
        raise Refused(
            f"policies of {relation.quoted} cannot be turned on again: {first_line(error)}",
            hint="let their owner, or a role that is a member of it, run: hyperfill policies release",
        ) from None


def _release(connection: Connection, held: Sequence[Hold]) -> Result:
    result = Result()
    extension = read_extension(connection) if held else None
    for one in held:
        if extension is None or not job_exists(connection, extension, one.job_id):
            _note_release(connection, one.id, "gone")
            result.notes.append(f"the {one} has been deleted meanwhile")
        elif turn(connection, extension, one.job_id, on=True):
            _note_release(connection, one.id, "on")
            result.changed.append(str(one))
        else:
            _note_release(connection, one.id, "was on")
            result.notes.append(f"the {one} had been turned on by somebody meanwhile, and stays as it is")
    return result


def release_command(hypertable: str) -> str:
    """What releases by hand; the conninfo is the user's to fill in, since it may hold a password."""
    return f"hyperfill policies release --target CONNINFO --hypertable {shlex.quote(hypertable)}"


def forgotten(connection: Connection, relation: Relation, watch: Watch | None) -> Finding | None:
    """Policies that were held while this run worked, and are off though the ledger says nothing of them any more.

    Nothing would ever turn them on again, and no later run could know that they had been on.
    """
    if watch is None or not watch.off:
        return None
    with connection.transaction():
        # Of one instant: holding and releasing change both at once.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        noted = {h.job_id for h in read(connection, relation.oid)}
        jobs = read_jobs(connection, watch.extension, relation.oid)
    off = [job for job in jobs if job.id in watch.off and job.id not in noted and not job.scheduled]
    if not off:
        return None
    commands = " ".join(f"{alter_text(watch.extension, job, on=True)};" for job in off)
    return Finding(
        "warning",
        "policies-off",
        "held while this ran, still off, and in the ledger (hyperfill.holds) no longer: "
        f"{', '.join(f'the {job}' for job in off)}",
        hint=f"somebody has changed the ledger or the jobs, and nothing turns them on again by itself: {commands}",
    )


def reminder(connection: Connection, relation: Relation, *, differs: bool = False) -> Finding | None:
    """What is still held when a run stops early, or ends with a difference, and what to type."""
    held = read(connection, relation.oid)
    on = {job.id for job in read_jobs(connection, read_extension(connection), relation.oid) if job.scheduled}
    # Somebody turned those on meanwhile: they are noted as held, but there is nothing to remind of.
    held = [h for h in held if h.job_id not in on]
    if not held:
        return None
    return Finding(
        "warning",
        "held",
        f"still held: {', '.join(f'the {h}' for h in held)}",
        hint=("once both sides are equal (hyperfill repair with the same options)" if differs else "at its end").join(
            ("the same command run again releases them ", "; without it: ")
        )
        + f"{release_command(relation.quoted)} --force",
    )
