"""What became of the windows of a backfill when they were compared, and what later repairs have put right."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.rows import class_row

from hyperfill import ledger
from hyperfill.session import Connection
from hyperfill.sql import query
from hyperfill.timeline import TIME_TYPES, Span, TimeType


@dataclass(frozen=True)
class Compared:
    """The comparisons of a backfill's windows, in sum. Hashes are sums of the windows' hashes, as text."""

    by_hash: int
    by_count: int
    differ: int
    source_rows: int | None
    target_rows: int | None
    source_hash: str | None
    target_hash: str | None
    first: dt.datetime | None
    last: dt.datetime | None

    @property
    def windows(self) -> int:
        return self.by_hash + self.by_count


Repair = tuple[ledger.Entry, Compared]


def compared(connection: Connection, backfill: int) -> Compared:
    """The comparisons of a backfill, in sum."""
    with connection.cursor(row_factory=class_row(Compared)) as cursor:
        [found] = cursor.execute(query("report/compared"), [backfill]).fetchall()
    return found


def read_repairs(connection: Connection, entry: ledger.Entry, differ: int) -> tuple[list[Repair], int]:
    """Later repairs of the same hypertable and range, and how many of the `differ` windows they have put right."""
    time_type = next((t for t in TIME_TYPES.values() if t.sql_name == entry.time_type), None)
    kind: str = entry.kind
    if time_type is None or kind == "repair":
        return [], 0
    span = entry.span(time_type)
    found: list[Repair] = []
    for other in ledger.entries(connection, hypertable_oid=entry.hypertable_oid):
        kind = other.kind
        if other.id > entry.id and kind == "repair" and other.span(time_type).overlaps(span):
            found.append((other, compared(connection, other.id)))
    return found, _count_repaired(connection, entry, found, time_type) if found and differ else 0


def _count_repaired(connection: Connection, entry: ledger.Entry, repairs: Sequence[Repair], time_type: TimeType) -> int:
    """Windows that differed and lie wholly in windows of finished repairs that were equal by hash later."""
    again: list[tuple[Span, dt.datetime]] = []
    for other, _ in repairs:
        if other.finished and _same_rows(other, entry):
            equal: list[Any] = connection.execute(query("report/repaired"), [other.id]).fetchall()
            again += [(_span(time_type, lower, upper), at) for lower, upper, at in equal]
    again.sort(key=lambda one: (one[0].lower is not None, one[0].lower or 0))
    count, first = 0, 0
    differing: list[Any] = connection.execute(query("report/differing"), [entry.id]).fetchall()
    for _, lower, upper, at in differing:
        span = _span(time_type, lower, upper)
        # Both lists run along the axis: what ends before this window is of no use to the ones after it.
        while first < len(again) and span.lower is not None and again[first][0].upper <= span.lower:
            first += 1
        count += covered(span, at, again, first)
    return count


def _same_rows(repair: ledger.Entry, entry: ledger.Entry) -> bool:
    """Whether a repair compared what the backfill moved: another shard's rows may lie in the same range."""
    if repair.settings.get("repairs") == entry.id:
        return True
    ours, theirs = (
        (e.source, e.source_relation, e.columns, e.settings.get("where"), e.settings.get("skip_unstorable"))
        for e in (entry, repair)
    )
    return ours == theirs


def _span(time_type: TimeType, lower: str | None, upper: str) -> Span:
    return Span(None if lower is None else time_type.ordinal(lower), time_type.ordinal(upper))


def covered(span: Span, since: dt.datetime, again: Sequence[tuple[Span, dt.datetime]], first: int = 0) -> bool:
    """Whether the pieces from `first` on, in order, that are newer than `since` leave nothing of the span out."""
    reached, open_below = span.lower, span.lower is None
    for piece, at in (again[number] for number in range(first, len(again))):
        if piece.lower is not None and piece.lower >= span.upper:
            break
        if at <= since:
            continue
        if piece.lower is None or (not open_below and reached is not None and piece.lower <= reached):
            open_below = False
            reached = piece.upper if reached is None else max(reached, piece.upper)
            if reached >= span.upper:
                return True
    return False
