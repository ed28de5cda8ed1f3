"""Refreshing continuous aggregates after the windows: which buckets, and doing it slice by slice.

Level by level, for an aggregate is computed from the one below. Below an aggregate's watermark exactly the buckets
that windows changed are refreshed. If something changed above it, everything from the watermark on is refreshed: the
watermark moves, and a real-time view shows nothing of what lies below it but is not stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import psycopg
from psycopg import sql

from hyperfill import caggs, session
from hyperfill.caggs import Aggregate, Bucket, Held, Refresh
from hyperfill.catalog import Chunk, Relation
from hyperfill.errors import Finding, backoff, first_line, is_transient
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query
from hyperfill.timeline import Kind, Span, TimeType
from hyperfill.window import Order, translate

REFRESH_SECONDS = 300.0  # for a slice that others are in the way of
_LOCK_TIMEOUT = "5s"
_SAY = 5.0
_DROPPED = "rows of it are no longer below it, and what is stored may be all that is left of them"


def plan(
    connection: Connection,
    time_type: TimeType,
    aggregates: Sequence[Aggregate],
    changed: Sequence[Span],
    held: dict[int, Held],
    below: dict[int, tuple[Chunk, ...]],
    *,
    beforehand: bool = False,
) -> list[Refresh]:
    """What to refresh of each aggregate, levels in order, after windows changed `changed` of the hypertable.

    `held`: where the level below had chunks before the first write; `below`: its chunks now. `beforehand`: the
    chunks of `changed` are still to come. Reads only.
    """
    # (axis of the level, what was changed there)
    done: dict[int, tuple[TimeType, list[Span]]] = {}
    found = []
    for one in aggregates:
        now = caggs.held_by(below[one.id])
        if one.parent_id in done:
            axis, spans = done[one.parent_id]
        else:
            # A window without a chunk has no rows any more: it was dropped meanwhile.
            there = caggs.merge([*now.spans, *_bounded(changed)]) if beforehand else now.spans
            axis, spans = time_type, caggs.common(caggs.merge(changed), there)
        here = _bounded(caggs.convert(spans, axis, one.time_type))
        known = caggs.still(held[one.id], now)
        before = Held(
            tuple(caggs.convert(known.spans, axis, one.time_type)), _convert_edge(known.newest, axis, one.time_type)
        )
        oldest = next((c.lower for c in below[one.id] if c.lower is not None), None)
        # The level below may be about to get older chunks than it has.
        begins = [_convert_edge(oldest, axis, one.time_type), *(span.lower for span in here[:1])]
        refresh = _plan_one(connection, one, here, before, min((b for b in begins if b is not None), default=None))
        done[one.id] = (one.time_type, refresh.spans)
        found.append(refresh)
    return found


def _convert_edge(edge: int | None, below: TimeType, here: TimeType) -> int | None:
    return None if edge is None else caggs.convert([Span(edge, edge)], below, here)[0].lower


def _bounded(spans: Sequence[Span]) -> list[Span]:
    """Spans without one that is open below: what it will hold is not known."""
    return [span for span in spans if span.lower is not None]


def _plan_one(
    connection: Connection, one: Aggregate, changed: Sequence[Span], held: Held, oldest: int | None
) -> Refresh:
    refresh = Refresh(one)
    if not changed:
        return refresh
    edges = {edge for span in changed for edge in (span.lower, span.upper) if edge is not None}
    buckets = floors(connection, one, sorted(edges | ({oldest} if oldest is not None else set())))
    wide, cut = [], set()
    for span in changed:
        first = buckets[cast(int, span.lower)]
        last = buckets[span.upper]
        upper = span.upper if last.lower == span.upper else last.upper
        wide.append(Span(first.lower, upper))
        # Only the bucket at either end can reach beyond what was changed.
        cut |= {(cast(int, b.lower), b.upper) for b in (first, last) if not span.covers(b) and b.lower != span.upper}
    unknown = [Span(*bucket) for bucket in sorted(cut) if not held.covers(Span(*bucket), changed)]
    stored = _stored(connection, one, unknown)
    refresh.left_out = [bucket for bucket in unknown if bucket.lower in stored]
    spans = [piece for span in caggs.merge(wide) for piece in caggs.without(span, refresh.left_out)]
    spans = _before_now(connection, one, spans)
    if not spans:
        return refresh
    upper = spans[-1].upper
    if one.watermark is None:
        # Never refreshed: from the beginning, for a real-time view would lose all that is older.
        begin = spans[0].lower if oldest is None else min(cast(int, spans[0].lower), cast(int, buckets[oldest].lower))
        spans = [Span(begin, upper)]
    elif upper > one.watermark:
        spans = caggs.merge([*spans, Span(one.watermark, upper)])
    refresh.spans = spans
    return refresh


def _before_now(connection: Connection, one: Aggregate, spans: list[Span]) -> list[Span]:
    """Without the bucket that has not ended yet, unless it is stored already: it stays live."""
    if not spans or one.time_type.kind is Kind.INTEGER:
        return spans
    moment = session.fetch_one(connection, query("caggs/now"))[0]
    now = _now(one.time_type, str(moment))
    last = spans[-1]
    if last.upper <= now or (one.watermark is not None and last.upper <= one.watermark):
        return spans
    floor = cast(int, floors(connection, one, [max(now, cast(int, last.lower))])[max(now, cast(int, last.lower))].lower)
    if one.watermark is not None:
        floor = max(floor, one.watermark)
    return [*spans[:-1], *([Span(last.lower, min(last.upper, floor))] if floor > cast(int, last.lower) else [])]


def _now(time_type: TimeType, text: str) -> int:
    from hyperfill.timeline import TIME_TYPES

    micros = TIME_TYPES["timestamp with time zone"].ordinal(text)
    return micros // caggs.MICROSECONDS_PER_DAY if time_type.kind is Kind.DATE else micros


def floors(connection: Connection, one: Aggregate, ordinals: Sequence[int]) -> dict[int, Span]:
    """The bucket that each position lies in, as the server cuts time."""
    kind = one.time_type
    schema = str(fetch_one(connection, query("compressed/extension_schema"))[0])
    statement = sql.SQL(query("caggs/floors")).format(
        type=sql.SQL(cast(Any, kind.sql_name)), floor=_floor(one.bucket, kind, schema), next=_next(one.bucket, kind)
    )
    rows: list[Any] = connection.execute(statement, [[kind.text(o) for o in ordinals]]).fetchall()
    return {kind.ordinal(row[0]): Span(kind.ordinal(row[1]), kind.ordinal(row[2])) for row in rows}


def _typed(value: str, type_name: str) -> sql.Composed:
    return sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(cast(Any, type_name)))


def _floor(bucket: Bucket, time_type: TimeType, schema: str) -> sql.Composed:
    """The extension's time_bucket() of p.moment, with named arguments: its variants order them differently."""
    name = time_type.sql_name
    step = name if time_type.kind is Kind.INTEGER else "interval"
    arguments = [
        sql.SQL("bucket_width => {}").format(_typed(bucket.width, step)),
        sql.SQL("ts => p.moment"),
    ]
    if bucket.zone is not None:
        arguments.append(sql.SQL("timezone => {}").format(_typed(bucket.zone, "text")))
    if bucket.origin is not None:
        arguments.append(sql.SQL("origin => {}").format(_typed(bucket.origin, name)))
    if bucket.offset is not None:
        arguments.append(sql.SQL('"offset" => {}').format(_typed(bucket.offset, step)))
    return sql.SQL("{}({})").format(sql.Identifier(schema, "time_bucket"), sql.SQL(", ").join(arguments))


def _next(bucket: Bucket, time_type: TimeType) -> sql.Composed:
    """Where the bucket after f.floor begins: one step of the calendar, in the aggregate's time zone."""
    name = time_type.sql_name
    if time_type.kind is Kind.INTEGER:
        return sql.SQL("(f.floor + {})").format(_typed(bucket.width, name))
    width = _typed(bucket.width, "interval")
    if time_type.kind is Kind.INSTANT:
        zone = sql.Literal(bucket.zone or "UTC")
        return sql.SQL("(((f.floor AT TIME ZONE {zone}) + {width}) AT TIME ZONE {zone})").format(zone=zone, width=width)
    return sql.SQL("(f.floor + {})::{}").format(width, sql.SQL(cast(Any, name)))


def _stored(connection: Connection, one: Aggregate, buckets: Sequence[Span]) -> set[int]:
    """The beginnings of those buckets of which the aggregate has stored something."""
    if not buckets:
        return set()
    kind = one.time_type
    statement = sql.SQL(query("caggs/present")).format(
        materialization=one.materialization.identifier,
        column=sql.Identifier(one.column),
        type=sql.SQL(cast(Any, kind.sql_name)),
    )
    rows: list[Any] = connection.execute(statement, [[kind.text(cast(int, b.lower)) for b in buckets]]).fetchall()
    return {kind.ordinal(row[0]) for row in rows}


def slices(connection: Connection, one: Aggregate, span: Span, length: int, covered: Sequence[Span]) -> list[Span]:
    """A span of whole buckets in pieces of whole buckets, about `length` long and at least a bucket.

    Cut only where the level below has something (`covered`): one old row and decades of nothing are a few pieces.
    """
    lower = cast(int, span.lower)
    edges: set[int] = set()
    for region in caggs.common([span], covered):
        begin = lower if region.lower is None else region.lower
        edges.update(range(begin, region.upper, length), [region.upper])
    inside = sorted(edge for edge in edges if lower < edge < span.upper)
    found = floors(connection, one, inside) if inside else {}
    cuts = sorted({cast(int, b.lower) for b in found.values()} | {lower, span.upper})
    return [Span(a, b) for a, b in pairwise(cuts) if lower <= a]


@dataclass(frozen=True)
class _Slice:
    id: int
    aggregate: int
    view: str
    level: int
    lower: str
    upper: str
    left_out: str | None
    done: bool


def _stored_plan(control: Connection, backfill: int) -> list[_Slice]:
    rows: list[Any] = control.execute(query("caggs/refreshes"), [backfill]).fetchall()
    return [_Slice(*row) for row in rows]


def _store_plan(
    control: Connection, order: Order, hypertable: Relation, aggregates: Sequence[Aggregate], changed: Sequence[Span]
) -> None:
    """Decide once what is refreshed: a run that goes on must not take refreshed slices for a new state."""
    time_type = order.target.time_type
    held = caggs.recorded(control, order.backfill, time_type, aggregates)
    below = caggs.levels_below(control, hypertable, time_type, aggregates)
    interval = cast(int, _convert_edge(order.hypertable.interval, time_type, aggregates[0].time_type)) or 1
    lengths: dict[int, int] = {}
    regions: dict[int, list[Span]] = {}  # where the level below has, or is about to get, chunks
    number = 0
    with control.transaction():
        for refresh in plan(control, time_type, aggregates, changed, held, below):
            one = refresh.aggregate
            axis = next((a.time_type for a in aggregates if a.id == one.parent_id), time_type)
            known = [c.upper - c.lower for c in below[one.id] if c.upper is not None and c.lower is not None]
            if known:
                lengths[one.id] = max(1, cast(int, _convert_edge(max(known), axis, one.time_type)))
            else:
                lengths[one.id] = lengths.get(one.parent_id, interval)  # the level below has no chunk yet
            length = lengths[one.id]
            there = _bounded(caggs.convert(caggs.held_by(below[one.id]).spans, axis, one.time_type))
            parent = caggs.convert(regions.get(one.parent_id, []), axis, one.time_type)
            covered = regions[one.id] = caggs.merge([*there, *parent])
            pieces = [(s, None) for span in refresh.spans for s in slices(control, one, span, length, covered)]
            for span, reason in [*pieces, *((s, _DROPPED) for s in refresh.left_out)]:
                number += 1
                arguments = {
                    "backfill": order.backfill,
                    "id": number,
                    "aggregate": one.id,
                    "view": one.view,
                    "level": one.level,
                    "lower": one.time_type.text(cast(int, span.lower)),
                    "upper": one.time_type.text(span.upper),
                    "left_out": reason,
                }
                control.execute(query("caggs/insert_refresh"), arguments)


def refresh(control: Connection, order: Order, changed: Sequence[Span], log: Callable[[str], None]) -> list[Finding]:
    """Refresh what the windows changed, levels in order; what was left out. Can be interrupted and called again.

    Raises `WindowError` where the server refuses, or others are in the way for `REFRESH_SECONDS`.
    """
    hypertable = order.target.relation
    aggregates = {one.id: one for one in caggs.read(control, hypertable)}
    if not aggregates:
        return []
    todo = _stored_plan(control, order.backfill)
    if not todo:
        _store_plan(control, order, hypertable, list(aggregates.values()), changed)
        todo = _stored_plan(control, order.backfill)
    wanted = [s for s in todo if s.left_out is None]
    name = f"hyperfill/{order.backfill}/refresh"
    with session.connect(order.target_conninfo, "target", application_name=name) as connection:
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [_LOCK_TIMEOUT])
        schema = str(fetch_one(connection, query("compressed/extension_schema"))[0])
        procedure = sql.Identifier(schema, "refresh_continuous_aggregate")
        said, view = 0.0, ""
        for number, piece in enumerate(wanted, start=1):
            one = aggregates.get(piece.aggregate)
            if one is None or piece.done:
                continue  # an aggregate that was dropped needs nothing
            if piece.view != view or time.monotonic() - said > _SAY:
                said, view = time.monotonic(), piece.view
                log(f"refreshing {view} from {piece.lower} ({number} of {len(wanted)} slices)")
            _call(connection, procedure, one, piece)
            connection.execute(query("caggs/done"), [order.backfill, piece.id])
        return [_left_out(procedure, s) for s in todo if s.left_out is not None]


def _left_out(procedure: sql.Identifier, piece: _Slice) -> Finding:
    return Finding(
        "warning",
        "caggs",
        f"{piece.view} was not refreshed for [{piece.lower}, {piece.upper}): {piece.left_out}",
        hint=f"to compute it from what is there now: CALL {procedure.as_string()}('{piece.view}', '{piece.lower}', "
        f"'{piece.upper}');",
    )


def _call(connection: Connection, procedure: sql.Identifier, one: Aggregate, piece: _Slice) -> None:
    kind = one.time_type.sql_name
    statement = sql.SQL(query("caggs/refresh")).format(
        procedure=procedure,
        view=_typed(one.view, "regclass"),
        lower=_typed(piece.lower, kind),
        upper=_typed(piece.upper, kind),
    )
    deadline = time.monotonic() + REFRESH_SECONDS
    attempt = 0
    while True:
        try:
            connection.execute(statement)
            return
        except psycopg.Error as error:
            again = is_transient(error) or error.sqlstate == "XX000"
            if connection.closed or not again or time.monotonic() > deadline:
                failed = translate(error, "target")
                failed.message = (
                    f"{one.view} [{piece.lower}, {piece.upper}) could not be refreshed: {first_line(error)}"
                )
                raise failed from error
        time.sleep(backoff(attempt, cap=3.0))
        attempt += 1
