"""From what a person asked for to a repair: all that a run checks; windows are compared before one is moved."""

from __future__ import annotations

from dataclasses import replace

from hyperfill import comparisons, ledger, mapping, tiling
from hyperfill.catalog import Hypertable
from hyperfill.comparing import Piece
from hyperfill.errors import Finding, LedgerConflict, describe
from hyperfill.existing import ORIGIN, SPLIT
from hyperfill.prepare import ServerPreparation
from hyperfill.preparing import Prepared
from hyperfill.session import Connection
from hyperfill.spec import Spec
from hyperfill.survey import Axis, Survey
from hyperfill.timeline import Span

# What a repair and the backfill that it repairs have differently.
_OWN = frozenset({"kind", "repairs"})


class RepairPreparation(ServerPreparation):
    """The steps of a run, without looking at what it would replace: only windows that differ are replaced."""

    kind: ledger.Kind = "repair"

    def __init__(self, spec: Spec, jobs: int) -> None:
        super().__init__(spec, jobs)
        self.parent: ledger.Entry | None = None  # the newest backfill of this range, if it is in the ledger
        self.unfinished: ledger.Entry | None = None  # a repair of it that was interrupted
        self.pieces: list[Piece] = []

    def check(self, source: Connection, target: Connection) -> None:
        super().check(source, target)
        result = self.result
        if result.errors or result.definition is None or result.order is None or result.time_type is None:
            return
        result.definition = replace(
            result.definition,
            settings={**result.definition.settings, "repairs": self.parent.id if self.parent else None},
        )
        if self.parent is not None:
            tiling.check_windows(target, self.parent, result.time_type)
            self.pieces = comparisons.pieces(target, self.parent.id, result.time_type)
        else:
            self.pieces = [Piece(n, w.span, w.estimate) for n, w in enumerate(result.windows, start=1)]

    def find(self, target: Connection, prepared: Prepared) -> ledger.Entry | None:
        """Nothing to go on with: windows are chosen anew each time."""
        self.parent, self.unfinished = find_repaired(target, prepared)
        return None

    def overlap(
        self, target: Connection, axis: Axis, hypertable: Hypertable, span: Span, columns: mapping.Mapping
    ) -> list[Finding]:
        """Looked at later, in the windows that differ."""
        self.columns = columns
        return []

    def scans(self, found: Survey) -> list[Finding]:
        """Every job reads it once to compare; what is moved is not known yet."""
        return [f for f in super().scans(found) if f.severity != "error"]


def find_repaired(target: Connection, prepared: Prepared) -> tuple[ledger.Entry | None, ledger.Entry | None]:
    """The backfill that moved this range, and an unfinished repair of it.

    Raises `LedgerConflict` where something else is at work in the range, or filled it from elsewhere.
    """
    definition, time_type = prepared.definition, prepared.time_type
    assert definition is not None and time_type is not None
    span = definition.span(time_type)
    parent = unfinished = other = None
    for entry in ledger.entries(target, hypertable_oid=definition.hypertable_oid):
        if not entry.span(time_type).overlaps(span) or ledger.is_forgotten(target, entry):
            continue
        different = entry.differences(definition)
        same = different.keys() <= SPLIT | _OWN
        if entry.kind == "run" and same and entry.complete:
            parent, other = entry, None
        elif entry.kind == "repair" and same:
            unfinished = unfinished if entry.finished else entry
        elif not entry.finished:
            raise LedgerConflict(
                f"backfill {entry.id} of {entry.hypertable} is unfinished and overlaps this range"
                + (":\n" + describe(different) if not same else f": {entry.done} of {entry.total} windows are done"),
                hint=f"finish it with its own command, or give it up: hyperfill clean --backfill {entry.id} --force",
            )
        elif different.keys() & ORIGIN and entry.kind != "repair":
            other, parent = entry, None
        elif different.keys() - SPLIT - _OWN == {"columns"} and not prepared.spec.replace:
            raise LedgerConflict(
                f"backfill {entry.id} has moved this range with other columns:\n" + describe(different),
                hint="rows that are moved again would lose what is in the others: use the same --columns, or --replace",
            )
    if other is not None and not prepared.spec.replace:
        raise LedgerConflict(
            f"the range overlaps backfill {other.id}, which filled {other.bounds} from another source",
            hint="deleting what differs would wipe what came from there; --replace does it",
        )
    return parent, unfinished
