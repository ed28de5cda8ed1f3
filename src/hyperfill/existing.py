"""Which backfill of the ledger a command means, and which it must not touch."""

from __future__ import annotations

import datetime as dt

from hyperfill import ledger, tiling
from hyperfill.errors import LedgerConflict, describe
from hyperfill.preparing import Prepared
from hyperfill.session import Connection


def find_entry(target: Connection, prepared: Prepared) -> ledger.Entry | None:
    """The backfill in the ledger that this command means; None for a new one.

    Raises `LedgerConflict` where an unfinished backfill overlaps with other settings, or a finished one
    of another source would be wiped.
    """
    definition, spec, time_type = prepared.definition, prepared.spec, prepared.time_type
    assert definition is not None and time_type is not None
    span = definition.span(time_type)
    newest: ledger.Entry | None = None  # of those that are finished and overlap, if it is this one or of another source
    for entry in ledger.entries(target, hypertable_oid=definition.hypertable_oid):
        different = entry.differences(definition)
        if not entry.span(time_type).overlaps(span) or ledger.is_forgotten(target, entry):
            continue
        if not entry.finished:
            if not different:
                tiling.check_windows(target, entry, time_type)
                return entry
            if entry.kind == "repair":
                raise LedgerConflict(
                    f"backfill {entry.id} of {entry.hypertable} is an unfinished repair that overlaps this range",
                    hint="hyperfill repair with the same options finishes it; to give it up: hyperfill clean "
                    f"--backfill {entry.id} --force",
                )
            raise LedgerConflict(
                f"backfill {entry.id} of {entry.hypertable} is unfinished and overlaps this range, but is not the "
                "same:\n" + describe(different),
                hint=f"run it with its own options to finish it, or give it up: hyperfill clean --backfill {entry.id} "
                "--force",
            )
        if different.keys() <= SPLIT or different.keys() & ORIGIN:
            newest = entry if newest is None or _finished_at(entry) > _finished_at(newest) else newest
        elif different.keys() - SPLIT == {"columns"} and not spec.again:
            raise LedgerConflict(
                f"backfill {entry.id} has moved this range with other columns:\n" + describe(different),
                hint="--again moves it anew with these",
            )
    if newest is None:
        return None
    different = newest.differences(definition)
    if different.keys() <= SPLIT:
        return None if spec.again else newest
    if spec.replace:
        return None
    raise LedgerConflict(
        f"the range overlaps backfill {newest.id}, which filled "
        f"{newest.bounds} from another source:\n" + describe({k: v for k, v in different.items() if k in ORIGIN}),
        hint="deleting the range would wipe what came from there; --replace does it",
    )


# A finished range is what it is, however it was cut.
SPLIT = frozenset({"window", "max_window_rows"})
ORIGIN = frozenset({"source", "source_relation"})


def _finished_at(entry: ledger.Entry) -> dt.datetime:
    assert entry.finished_at is not None
    return entry.finished_at
