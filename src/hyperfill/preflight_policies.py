"""Preflight of policies: rights to hold them, what retention would drop, chunks and settings that stand against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from hyperfill import holds
from hyperfill.catalog import Chunk, Hypertable, Server, quote_name
from hyperfill.errors import Finding, Refused, first_line
from hyperfill.holds import Hold
from hyperfill.plan import Grid
from hyperfill.policies import Extension, Job, alter_text, read_cutoff, read_extension, read_jobs
from hyperfill.quantities import counted
from hyperfill.session import Connection, fetch_one
from hyperfill.spec import Landing
from hyperfill.sql import query
from hyperfill.timeline import TIME_TYPES, Kind, Span, TimeType, uuid_of_milliseconds


@dataclass
class Policies:
    """The policies of a hypertable and what is held of them, as a plan shows them."""

    extension: Extension | None = None
    jobs: list[Job] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)

    def hold_of(self, job: Job) -> Hold | None:
        """The hold of a policy that is off because of us."""
        return next((h for h in self.holds if h.job_id == job.id), None)

    def statements(self, kinds: Sequence[str], *, on: bool) -> list[str]:
        """What a person would type to hold the policies that are on now, or to release them."""
        if self.extension is None:
            return []
        chosen = [j for j in self.jobs if j.kind in kinds and (j.scheduled or self.hold_of(j))]
        return [alter_text(self.extension, job, on=on) for job in chosen]

    def as_json(self) -> list[dict[str, Any]]:
        """The contract of `policies show --json` and of `plan --json`."""
        return [self._job_json(job) for job in self.jobs]

    def _job_json(self, job: Job) -> dict[str, Any]:
        held = self.hold_of(job)
        return {
            "job": job.id,
            "kind": job.kind,
            "proc_name": job.proc_name,
            "relation": job.relation,
            "scheduled": job.scheduled,
            "held": held is not None,
            "held_since": held.held_at.isoformat() if held else None,
            "held_for": held.backfills if held else [],
            "held_by_hand": held.by_hand if held else False,
            "next_start": job.next_start,
            "timezone": job.timezone,
            "owner": job.owner,
            "config": job.config,
        }

    def lines(self) -> list[str]:
        """One line for each policy, for people."""
        found = []
        for job in self.jobs:
            held = self.hold_of(job)
            state = "on" if job.scheduled else "off"
            if held:
                state += f", held since {held.held_at:%Y-%m-%d %H:%M:%S} UTC ({held.users})"
            found.append(f"{job}: {state}; next start {job.next_start or '-'}, owner {job.owner}, {job.proc_name}")
        return found


def read(connection: Connection, oid: int, *, refused_ok: bool = False) -> Policies:
    """The policies of the hypertable with this oid, and what is held of them.

    Raises `Refused` where this role may not read the ledger; with `refused_ok` nothing is known as held then.
    """
    extension = read_extension(connection)
    found = Policies(extension, read_jobs(connection, extension, oid))
    try:
        found.holds = holds.read(connection, oid)
    except (Refused, psycopg.errors.InsufficientPrivilege):
        if not refused_ok:
            raise
    return found


def check(policies: Policies, spec: Landing, user: str) -> list[Finding]:
    """Whether the policies can be held, and what is left on."""
    extension = policies.extension
    if extension is not None and not extension.community:
        return [Finding("note", "policies", "the target has the Apache edition of TimescaleDB: there are no policies")]
    if not policies.jobs:
        return [Finding("note", "policies", "the hypertable has no policies: nothing to turn off")]
    # What is off because of us is turned on again at the end, and needs the same right.
    concerned = [j for j in policies.jobs if j.scheduled or policies.hold_of(j)]
    findings = _rights([j for j in concerned if j.kind in spec.hold], user, "; or --hold none, at your own risk")
    for job in concerned:
        if job.kind not in spec.hold and job.scheduled:
            findings.append(
                Finding(
                    "warning",
                    "policies",
                    f"the {job} stays on (--hold): it may work on chunks while they are filled",
                )
            )
    held = [j for j in concerned if j.kind in spec.hold and j.alterable]
    if held:
        names = ", ".join(f"{j.kind} {j.relation} (job {j.id})" for j in held)
        findings.append(Finding("note", "policies", f"turned off while windows are moved: {names}"))
    return findings


def _rights(jobs: Sequence[Job], user: str, otherwise: str) -> list[Finding]:
    return [
        Finding(
            "error",
            "policies",
            f"the {job} belongs to role {job.owner}, and role {quote_name(user)} may not turn it off",
            hint=f"GRANT {job.owner} TO {quote_name(user)}{otherwise}",
        )
        for job in jobs
        if not job.alterable
    ]


def require_rights(policies: Policies, user: str) -> None:
    """Raise `Refused` if this role may not alter a policy that is on: all are held, or none."""
    missing = _rights([j for j in policies.jobs if j.scheduled], user, "")
    if missing:
        raise Refused("\n".join(f.message for f in missing), hint="; ".join(sorted({f.hint or "" for f in missing})))


def chunks(connection: Connection, hypertable: Hypertable, span: Span) -> list[Finding]:
    """Direct compress, tiered and frozen chunks: what a plain landing cannot do with."""
    relation = hypertable.relation
    name = relation.quoted
    findings = []
    row: Any = connection.execute(
        query("policies/direct_compress"), {"schema": relation.schema, "name": relation.name}
    ).fetchone()
    if row and row[0]:
        findings.append(
            Finding(
                "error",
                "direct-compress",
                f"{name} has tsdb.direct_compress, which overrides the session: rows would land compressed and "
                "unordered, and policies would work on them every minute",
                hint=f"ALTER TABLE {name} SET (tsdb.direct_compress = false); (that deletes its two policies; set it "
                "again afterwards)",
            )
        )
    tiered = [
        ".".join(map(quote_name, map(str, r)))
        for r in connection.execute(query("policies/tiered"), {"oid": relation.oid})
    ]
    if tiered:
        findings.append(
            Finding(
                "error",
                "tiered",
                f"{name} has chunks in tiered storage ({', '.join(tiered[:3])}), which cannot be written",
                hint="take them back with untier_chunk() until the backfill is done, and remove the tiering policy",
            )
        )
    inside = {c.oid: c for c in hypertable.chunks_in(span)}
    if inside and fetch_one(connection, query("policies/frozen_known"))[0]:
        rows: list[Any] = connection.execute(query("policies/frozen"), {"chunks": list(inside)}).fetchall()
        frozen = [f"{quote_name(inside[r[0]].schema)}.{quote_name(inside[r[0]].name)}" for r in rows]
        if frozen:
            findings.append(
                Finding(
                    "error",
                    "frozen",
                    f"{len(frozen)} chunks in the range are frozen: {', '.join(frozen[:5])}",
                    hint="; ".join(f"SELECT _timescaledb_functions.unfreeze_chunk('{c}')" for c in frozen[:5])
                    + "; or leave them out with --start and --end",
                )
            )
    return findings


def retention(
    connection: Connection,
    policies: Policies,
    hypertable: Hypertable,
    span: Span,
    occupied: Sequence[Span],
    spec: Landing,
) -> list[Finding]:
    """What a retention policy of the target would drop of the range as soon as it is released.

    `occupied`: windows with rows. A policy that is off and not held by us drops nothing.
    """
    findings = []
    severity = "warning" if spec.accept_retention else "error"
    for job in policies.jobs:
        if job.kind != "retention" or not (job.scheduled or policies.hold_of(job)):
            continue
        lost = _lost(connection, policies.extension, job, hypertable, span, occupied)
        if lost is not None:
            findings.append(
                Finding(
                    severity,
                    "retention",
                    f"the {job} would drop {lost} of the range as soon as it is turned on again",
                    hint=None
                    if spec.accept_retention
                    else "begin with a later --start, change or remove the policy, or go on with --accept-retention",
                )
            )
    return findings


def source_retention(
    connection: Connection, server: Server, source: Hypertable, span: Span, spec: Landing
) -> list[Finding]:
    """Chunks of a source hypertable that its own retention policy may drop while they are copied."""
    if not server.community:
        return []
    extension = read_extension(connection)
    findings = []
    for job in read_jobs(connection, extension, source.relation.oid):
        if job.kind != "retention" or not job.scheduled:
            continue
        lost = _lost(connection, extension, job, source, span, [])
        by_hand = alter_text(extension, job, on=False) if extension else ""
        hint = f"turn it off on the source until the backfill is done ({by_hand};), or go on with --accept-retention"
        if lost is not None:
            findings.append(
                Finding(
                    "warning" if spec.accept_retention else "error",
                    "source-retention",
                    f"the source's {job} may drop {lost} of the range while they are copied",
                    hint=None if spec.accept_retention else hint,
                )
            )
    return findings


def _lost(
    connection: Connection,
    extension: Extension | None,
    job: Job,
    hypertable: Hypertable,
    span: Span,
    occupied: Sequence[Span],
) -> str | None:
    """What of the range lies before the cutoff of a retention policy, in words; None for nothing."""
    assert extension is not None
    relation, time_type = hypertable.relation, hypertable.time_type
    names = {"schema": relation.schema, "name": relation.name}
    try:
        found = read_cutoff(connection, extension, job, relation, "drop")
    except psycopg.errors.InsufficientPrivilege as error:
        return f"an unknown part (its cutoff is unknown: {first_line(error)})"
    if found is None:
        return "an unknown part (its cutoff is unknown)"
    kind, cutoff = found
    inside = hypertable.chunks_in(span)
    if kind == "creation":
        values = {**names, "chunks": [c.name for c in inside], "cutoff": cutoff}
        count = int(str(fetch_one(connection, query("policies/created_before"), values)[0]))
        return f"{counted(count, 'chunk')} that were made before {cutoff}" if count else None
    limit = ordinal_of(time_type, cutoff)
    dropped = [c for c in inside if c.upper is not None and c.upper <= limit]
    windows = _windows_before(hypertable, occupied, limit)
    if not dropped and not windows:
        return None
    parts = [counted(windows, "window")] if windows else []
    parts += [counted(len(dropped), "chunk")] if dropped else []
    return f"{' and '.join(parts)} that end at or before {cutoff}"


def _windows_before(hypertable: Hypertable, occupied: Sequence[Span], limit: int) -> int:
    """Windows whose first chunk, there already or to be made, ends at or before `limit`."""
    everything: Sequence[Chunk] = hypertable.chunks
    grid = Grid(hypertable.time_type, hypertable.interval, [(c.lower, c.upper) for c in everything])
    first = hypertable.time_type.minimum
    return sum(1 for span in occupied if grid.cell(first if span.lower is None else span.lower).upper <= limit)


def ordinal_of(time_type: TimeType, cutoff: str) -> int:
    """A cutoff as an ordinal of the time column."""
    if time_type.kind is Kind.UUID:
        return uuid_of_milliseconds(TIME_TYPES["timestamp with time zone"].ordinal(cutoff) // 1000)
    return time_type.ordinal(cutoff)
