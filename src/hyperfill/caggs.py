"""Continuous aggregates that depend on the hypertable: what they are, and which of their buckets to refresh.

A refresh computes a bucket from what the level below holds now. Where retention has dropped a part of that, the
stored bucket is all that is left of it, and a refresh would wipe it. So a bucket is refreshed only if windows changed
something in it, and the rest of it is either held by the level below since before the first write, or was filled by
the windows themselves, or nothing is stored of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from hyperfill.catalog import Chunk, Relation, quote_name, read_chunks
from hyperfill.errors import Finding
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query
from hyperfill.timeline import TIME_TYPES, Kind, Span, TimeType, milliseconds_of_uuid, uuid_of_milliseconds

MICROSECONDS_PER_DAY = 86_400_000_000


@dataclass(frozen=True)
class Bucket:
    """How an aggregate cuts time, in the server's words."""

    function: str
    width: str
    origin: str | None
    offset: str | None
    zone: str | None


@dataclass(frozen=True)
class Aggregate:
    """A continuous aggregate. `parent_id` is what it is computed from; the hypertable itself has level 0."""

    id: int
    parent_id: int
    level: int
    schema: str
    name: str
    mat_schema: str
    mat_name: str
    column: str
    time_type: TimeType
    owner: str
    owned: bool
    watermark: int | None  # ordinal up to which buckets are stored; None: never refreshed
    bucket: Bucket

    @property
    def view(self) -> str:
        return f"{quote_name(self.schema)}.{quote_name(self.name)}"

    @property
    def materialization(self) -> Relation:
        return Relation(0, self.mat_schema, self.mat_name, "r")


@dataclass(frozen=True)
class Held:
    """Where a level has chunks, as merged spans in time order; everything from `newest` on counts as held too:
    what lies after the newest chunk was never there, and so was never dropped."""

    spans: tuple[Span, ...] = ()
    newest: int | None = None

    def covers(self, bucket: Span, changed: Sequence[Span]) -> bool:
        """Whether no part of the bucket is unknown, given that `changed` was filled."""
        at, upper = cast(int, bucket.lower), bucket.upper
        if self.newest is not None:
            upper = min(upper, self.newest)
        for span in merge([*self.spans, *changed]):
            if at >= upper or (span.lower is not None and span.lower > at):
                break
            at = max(at, span.upper)
        return at >= upper


def still(before: Held, now: Held) -> Held:
    """What was held before and is held now: a chunk that is gone was dropped meanwhile."""
    return Held(tuple(common(before.spans, now.spans)), before.newest)


@dataclass
class Refresh:
    """What is to be refreshed of one aggregate: whole buckets, and those left out."""

    aggregate: Aggregate
    spans: list[Span] = field(default_factory=list)
    left_out: list[Span] = field(default_factory=list)


def merge(spans: Sequence[Span]) -> list[Span]:
    """The same positions as disjoint spans in order; neighbours become one."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.lower is not None, s.lower or 0)):
        if found and (span.lower is None or span.lower <= found[-1].upper):
            found[-1] = Span(found[-1].lower, max(found[-1].upper, span.upper))
        else:
            found.append(span)
    return found


def common(ours: Sequence[Span], theirs: Sequence[Span]) -> list[Span]:
    """Positions that lie in both lists of disjoint spans in order."""
    found = []
    first = second = 0
    while first < len(ours) and second < len(theirs):
        both = ours[first].intersect(theirs[second])
        if both is not None and not both.is_empty:
            found.append(both)
        if ours[first].upper < theirs[second].upper:
            first += 1
        else:
            second += 1
    return found


def without(span: Span, holes: Sequence[Span]) -> list[Span]:
    """A span less some disjoint spans in order."""
    found, at = [], span.lower
    for hole in holes:
        if not hole.overlaps(span):
            continue
        if at is not None and hole.lower is not None and hole.lower > at:
            found.append(Span(at, hole.lower))
        at = hole.upper
    if at is None or at < span.upper:
        found.append(Span(at, span.upper))
    return found


def read(connection: Connection, relation: Relation) -> list[Aggregate]:
    """The aggregates that depend on a hypertable, levels in order; none in the Apache edition."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query("caggs/read"), {"schema": relation.schema, "name": relation.name}).fetchall()
    if not rows:
        return []
    modern = fetch_one(connection, query("caggs/bucket_function"))[0]
    described: list[Any] = connection.execute(
        query("caggs/buckets") if modern else query("caggs/buckets_in_catalog"), {"ids": [row["id"] for row in rows]}
    ).fetchall()
    buckets = {row[0]: Bucket(*row[1:]) for row in described}
    found = []
    for row in rows:
        time_type = TIME_TYPES[row.pop("type")]
        watermark = _watermark(time_type, row.pop("watermark"))
        found.append(Aggregate(**row, time_type=time_type, watermark=watermark, bucket=buckets[row["id"]]))
    return found


def _watermark(time_type: TimeType, internal: int | None) -> int | None:
    """TimescaleDB counts microseconds for all but integers, and has its smallest value for "never"."""
    if internal is None:
        return None
    ordinal = internal // MICROSECONDS_PER_DAY if time_type.kind is Kind.DATE else internal
    return None if ordinal <= time_type.minimum else ordinal


def held_by(chunks: Sequence[Chunk]) -> Held:
    """What the chunks of a level cover."""
    spans = merge([Span(c.lower, c.upper) for c in chunks if c.upper is not None])
    newest = None if any(c.upper is None for c in chunks) else max((s.upper for s in spans), default=None)
    if any(c.upper is None for c in chunks):
        newest = min((c.lower for c in chunks if c.upper is None and c.lower is not None), default=None)
    return Held(tuple(spans), newest)


def levels_below(
    connection: Connection, hypertable: Relation, time_type: TimeType, aggregates: Sequence[Aggregate]
) -> dict[int, tuple[Chunk, ...]]:
    """By aggregate: the chunks of the level below as they are now, in that level's ordinals."""
    mine = {one.id: one for one in aggregates}
    read_before: dict[int, tuple[Chunk, ...]] = {}
    for one in aggregates:
        if one.parent_id not in read_before:
            parent = mine.get(one.parent_id)
            read_before[one.parent_id] = (
                read_chunks(connection, parent.materialization, parent.time_type)
                if parent
                else read_chunks(connection, hypertable, time_type)
            )
    return {one.id: read_before[one.parent_id] for one in aggregates}


def record(connection: Connection, backfill: int, hypertable: Relation, time_type: TimeType) -> None:
    """Note every aggregate and where the level below it has chunks; in a transaction, before the first write."""
    aggregates = read(connection, hypertable)
    types = {one.id: one.time_type for one in aggregates}
    chunks = levels_below(connection, hypertable, time_type, aggregates)
    for one in aggregates:
        held = held_by(chunks[one.id])
        text = types.get(one.parent_id, time_type).text
        spans = [[None if s.lower is None else text(s.lower), text(s.upper)] for s in held.spans]
        if held.newest is not None and (not held.spans or held.newest != held.spans[-1].upper):
            spans.append([text(held.newest), None])
        arguments = {
            "backfill": backfill,
            "id": one.id,
            "view": one.view,
            "level": one.level,
            "held": Jsonb(spans),
            "watermark": None if one.watermark is None else one.time_type.text(one.watermark),
        }
        connection.execute(query("caggs/insert_aggregate"), arguments)


def recorded(
    connection: Connection, backfill: int, time_type: TimeType, aggregates: Sequence[Aggregate]
) -> dict[int, Held]:
    """By aggregate: where the level below had chunks before the first write. One that is newer has none."""
    types = {one.id: one.time_type for one in aggregates}
    parents = {one.id: types.get(one.parent_id, time_type) for one in aggregates}
    rows: list[Any] = connection.execute(query("caggs/held"), [backfill]).fetchall()
    found = {}
    for number, stored in rows:
        if number not in parents:
            continue
        ordinal = parents[number].ordinal
        spans = tuple(Span(None if s[0] is None else ordinal(s[0]), ordinal(s[1])) for s in stored if s[1] is not None)
        newest = next((ordinal(s[0]) for s in stored if s[1] is None), spans[-1].upper if spans else None)
        found[number] = Held(spans, newest)
    return {one.id: found.get(one.id, Held()) for one in aggregates}


def preflight(aggregates: Sequence[Aggregate], user: str, *, refresh: bool) -> list[Finding]:
    """Whether this role may refresh the aggregates, and whether their buckets can be computed."""
    findings = []
    if not refresh:
        if aggregates:
            names = ", ".join(one.view for one in aggregates)
            findings.append(Finding("note", "caggs", f"not refreshed, as asked for: {names}"))
        return findings
    for owner in sorted({one.owner for one in aggregates if not one.owned}):
        names = ", ".join(one.view for one in aggregates if one.owner == owner and not one.owned)
        findings.append(
            Finding(
                "error",
                "caggs",
                f"only {quote_name(owner)} may refresh {names}, which must be done after the rows have changed",
                hint=f"GRANT {quote_name(owner)} TO {quote_name(user)}; or --no-refresh-caggs leaves it to you",
            )
        )
    strange = [one for one in aggregates if not one.bucket.function.rpartition(".")[2].startswith("time_bucket(")]
    for one in strange:
        findings.append(
            Finding(
                "error",
                "caggs",
                f"{one.view} cuts time with {one.bucket.function}, which hyperfill cannot follow",
                hint="--no-refresh-caggs, and refresh it by hand afterwards",
            )
        )
    return findings


def convert(spans: Sequence[Span], below: TimeType, here: TimeType) -> list[Span]:
    """Spans on the axis of one level as spans on the axis of the next: only a uuid becomes a moment."""
    if below.kind is not Kind.UUID or here.kind is Kind.UUID:
        return list(spans)
    one_millisecond = uuid_of_milliseconds(1)
    return [
        Span(
            None if s.lower is None else milliseconds_of_uuid(s.lower) * 1000,
            milliseconds_of_uuid(s.upper + one_millisecond - 1) * 1000,
        )
        for s in spans
    ]
