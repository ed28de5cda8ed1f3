"""Whether the windows of a backfill in the ledger are still what was written there: an exact partition of its range."""

from __future__ import annotations

from hyperfill.errors import LedgerConflict
from hyperfill.ledger import Entry
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query
from hyperfill.timeline import Span, TimeType


def changed_windows(connection: Connection, entry: Entry, time_type: TimeType) -> LedgerConflict | None:
    """What is to be said if the windows of a backfill are no exact partition of its range any more, as they were made.

    Those of a repair are chosen here and there, and a load without a range has none.
    """
    total, wrong, lower, upper = fetch_one(connection, query("ledger/tiling"), [entry.id])
    if entry.kind == "repair" or entry.range_end is None:
        return None
    where = "their beginning or end"
    if wrong is not None:
        where = f"window {wrong}"
    elif total:
        try:
            found = Span(None if lower is None else time_type.ordinal(lower), time_type.ordinal(upper))
            if found == entry.span(time_type):
                return None
        except ValueError:  # no bounds, or the wrong way round
            pass
    return LedgerConflict(
        f"the windows of backfill {entry.id} are no longer the range {entry.bounds} without a gap: "
        f"somebody has changed hyperfill.windows (at {where})",
        hint=f"what it says of rows cannot be relied on: give it up with hyperfill clean --backfill {entry.id} --force "
        "(the rows it moved stay), and run the same command again",
    )


def check_windows(connection: Connection, entry: Entry, time_type: TimeType) -> None:
    """Raise `LedgerConflict` where `changed_windows` has something to say."""
    changed = changed_windows(connection, entry, time_type)
    if changed is not None:
        raise changed
