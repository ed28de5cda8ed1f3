"""From what a person asked for to a comparison: which windows, and how much there is to read. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import psycopg

from hyperfill import catalog, comparisons, ledger, preflight, preflight_rows, tiling
from hyperfill.comparing import Piece
from hyperfill.errors import Finding, Refused
from hyperfill.existing import SPLIT
from hyperfill.prepare import ServerPreparation, Subject
from hyperfill.preparing import Prepared, Stop
from hyperfill.quantities import human_bytes
from hyperfill.session import Connection
from hyperfill.spec import Spec
from hyperfill.survey import Axis, Survey, estimate, scanned
from hyperfill.timeline import Span


@dataclass
class Comparison:
    """A comparison ready to begin."""

    prepared: Prepared
    pieces: list[Piece] = field(default_factory=list)
    rows_source: int = 0  # about
    rows_target: int = 0


class VerifyPreparation(ServerPreparation):
    """Looks at both sides, needs no right to write, and neither a ledger."""

    writes = False

    def __init__(self, spec: Spec, jobs: int) -> None:
        super().__init__(spec, jobs)
        self.found = Comparison(self.result)

    def check(self, source: Connection, target: Connection) -> None:
        result = self.result
        subject = self.identify(source, target)
        here, hypertable, axis = subject.source, subject.hypertable, subject.axis
        span, step = self.cut(hypertable)
        if span.is_empty:
            return
        self.look(lambda: preflight.completion_point((source, target), here, hypertable.time_type, span.upper))
        time = subject.relation.column(axis.column)
        if time is not None and not time.not_null:
            self.look(lambda: preflight_rows.without_time(source, axis, "compared with nothing"))
        result.order = self.order(subject)
        result.definition = self.define(here, axis, hypertable, result.order)
        if result.errors:
            raise Stop
        self.look(lambda: self.known(target, subject))
        if not self.found.pieces:
            self.plan(source, here, axis, hypertable, span, step)
            self.found.pieces = [
                Piece(number, window.span, window.estimate) for number, window in enumerate(result.windows, start=1)
            ]
        else:
            self.note(self.indexed(source, subject, span))
        self.found.rows_source = sum(piece.estimate for piece in self.found.pieces)
        self.found.rows_target = round(estimate(target, subject.target_axis, span))

    def known(self, target: Connection, subject: Subject) -> list[Finding]:
        """The windows of a backfill in the ledger that is the same; none where this role may not see it."""
        try:
            if not ledger.exists(target):
                return []
            entries = ledger.entries(target, hypertable_oid=subject.hypertable.relation.oid)
        except (Refused, psycopg.errors.InsufficientPrivilege):
            return []
        definition = self.result.definition
        assert definition is not None and self.result.time_type is not None
        mine = [e for e in entries if e.kind == "run" and e.differences(definition).keys() <= SPLIT]
        if not mine:
            return []
        entry = self.result.entry = mine[-1]
        tiling.check_windows(target, entry, self.result.time_type)
        self.found.pieces = comparisons.pieces(target, entry.id, self.result.time_type)
        told: list[Finding] = []
        if entry.differences(definition):
            text = f"the windows of backfill {entry.id} are compared: --window and --max-window-rows change nothing"
            told = [Finding("note", "window", text)]
        if entry.complete:
            return told
        text = f"backfill {entry.id} is unfinished: {entry.total - entry.done} of {entry.total} windows are not done"
        return [*told, Finding("warning", "unfinished", text)]

    def indexed(self, source: Connection, subject: Subject, span: Span) -> list[Finding]:
        """Where the windows are known: whether an index leads to their rows."""
        axis = subject.axis.bare
        if catalog.is_hypertable(source, subject.source, subject.relation):
            return []
        size = scanned(source, axis, span)
        if not size:
            return []
        assert self.result.order is not None
        self.result.order = replace(self.result.order, source_indexed=False)
        return _scans(axis, size, self.jobs)

    def scans(self, found: Survey) -> list[Finding]:
        return [] if found.indexed else _scans(found.axis, found.scan_bytes, self.jobs)


def _scans(axis: Axis, size: int, jobs: int) -> list[Finding]:
    name = catalog.quote_name(axis.column)
    text = f"the source has no usable index on {name}: each of {jobs} jobs reads {human_bytes(size)} once"
    return [Finding("warning", "no-index", text)]


def prepare_verify(spec: Spec, jobs: int) -> Comparison:
    """Know what to compare, without writing anything. Findings are in `prepared`."""
    preparation = VerifyPreparation(spec, jobs)
    preparation.run()
    return preparation.found
