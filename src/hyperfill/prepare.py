"""From what a person asked for to a plan: resolve, check, survey, cut. Writes nothing.

All findings are collected before anything is refused, so that one look shows everything that is wrong.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TypeVar

import psycopg

from hyperfill import (
    catalog,
    ledger,
    mapping,
    preflight,
    preflight_chunks,
    preflight_policies,
    preflight_rights,
    preflight_rows,
    session,
)
from hyperfill.catalog import Hypertable, Relation, Server
from hyperfill.errors import Finding, LedgerConflict, Refused, describe, first_line
from hyperfill.plan import DEFAULT_WINDOW_ROWS, Grid, PlannedWindow, make_windows
from hyperfill.session import Connection
from hyperfill.spec import Spec
from hyperfill.survey import Axis, Survey, occupied_cells, survey
from hyperfill.timeline import BoundError, Span, TimeType
from hyperfill.window import Order

T = TypeVar("T")


@dataclass
class Prepared:
    """A backfill ready to run: everything known, nothing written. `entry` is the one in the ledger to go on with."""

    spec: Spec
    table: str
    hypertable: str
    start: str | None = None
    end: str = ""
    findings: list[Finding] = field(default_factory=list)
    definition: ledger.Definition | None = None
    order: Order | None = None
    windows: list[PlannedWindow] = field(default_factory=list)
    entry: ledger.Entry | None = None
    time_type: TimeType | None = None
    missing_chunks: int = 0
    overlap_rows: int = 0
    overlap_exact: bool = True
    empty: bool = False  # start = end: there is nothing to do
    policies: preflight_policies.Policies = field(default_factory=preflight_policies.Policies)
    shape: preflight_chunks.Shape = field(default_factory=preflight_chunks.Shape)

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]


class _Stop(Exception):
    """Without this nothing further can be checked."""


class _Preparation:
    """The steps, in order; each adds findings."""

    def __init__(self, spec: Spec, jobs: int) -> None:
        self.spec = spec
        self.jobs = jobs
        self.address = ""
        self.result = Prepared(spec, spec.table, spec.hypertable or spec.table)

    def note(self, findings: list[Finding]) -> None:
        for finding in findings:
            self.result.findings.append(
                Finding(finding.severity, finding.code, finding.message, finding.hint, self.result.table)
            )

    def attempt(self, code: str, action: Callable[[], T]) -> T | None:
        """Run a step; a refusal becomes a finding, so that the next step can find more."""
        try:
            return action()
        except Refused as error:
            if not any(f.message == error.message for f in self.result.errors):  # two steps may meet the same
                self.note([Finding("error", code, error.message, error.hint)])
        except BoundError as error:
            self.note([Finding("error", code, str(error))])
        except psycopg.errors.InsufficientPrivilege as error:
            # Said already where the right itself was looked at: this is only what follows from it.
            if not any(f.code in ("rights", "row-security", "ledger") for f in self.result.errors):
                self.note([Finding("error", "rights", first_line(error))])
        return None

    def run(self) -> Prepared:
        with ExitStack() as stack:
            try:
                source = self.attempt("connect", lambda: session.connect(self.spec.source, "source"))
                if source:
                    stack.callback(source.close)
                target = self.attempt("connect", lambda: session.connect(self.spec.target, "target"))
                if target:
                    stack.callback(target.close)
                if source and target:
                    self.check(source, target)
            except _Stop:
                pass
            except psycopg.Error as error:
                self.note([Finding("error", "server", f"{first_line(error)} (SQLSTATE {error.sqlstate or 'none'})")])
        return self.result

    def check(self, source: Connection, target: Connection) -> None:
        spec, result = self.spec, self.result
        here, there = catalog.read_server(source), catalog.read_server(target)
        # Where a service keeps the cluster's identity to itself, its address must do.
        self.address = f"{source.info.host}:{source.info.port}"
        self.note(preflight.servers(here, there, self.jobs, (source, target)))
        relation = self.attempt("table", lambda: catalog.resolve(source, spec.table, "source", "--table"))
        if relation:
            result.table = relation.quoted
        hypertable = self.attempt("hypertable", lambda: self.read_target(target, there, relation))
        self.attempt("ledger", lambda: ledger.exists(target))
        if hypertable is None:
            raise _Stop
        result.time_type = hypertable.time_type
        span = self.attempt("bound", lambda: self.read_span(target, hypertable))
        axis = self.attempt("time-column", lambda: self.read_axis(hypertable, relation)) if relation else None
        if relation is None or axis is None:
            self.note(preflight_rights.target_rights(target, hypertable))
            raise _Stop
        target_axis = Axis(hypertable.relation, hypertable.time_column, hypertable.time_type, spec.where)
        self.note(preflight.same_relation(here, there, axis, hypertable, (source, target)))
        self.note(preflight_rights.source_rights(source, axis))
        self.note(preflight_rights.target_rights(target, hypertable))
        found_triggers, triggers = preflight_rights.triggers_and_keys(target, hypertable, spec.replace)
        self.note([f for f in found_triggers if f.code != "triggers" or spec.triggers == "fire"])
        listed = spec.columns
        wanted = self.attempt("columns", lambda: catalog.parse_columns(target, listed)) if listed else None
        columns, problems = mapping.match(relation, hypertable, axis.column, wanted)
        self.note(problems)
        if spec.where:
            bare, bare_target = (Axis(a.relation, a.column, a.time_type) for a in (axis, target_axis))
            self.note(preflight.condition(source, bare, spec.where, "source"))
            self.note(preflight.condition(target, bare_target, spec.where, "target"))
        length = spec.window
        step = self.attempt("window", lambda: hypertable.time_type.step(length)) if length else None
        if span is None:
            raise _Stop
        if span.is_empty:
            result.empty = not result.errors
            return
        # Whatever else is wrong: each of these needs only what it is given, and finds more.
        self.look(lambda: preflight.completion_point((source, target), here, hypertable.time_type, span.upper))
        self.look(lambda: preflight_chunks.check(target, there, hypertable, span, spec, result.shape))
        self.look(lambda: preflight_policies.chunks(target, hypertable, span))
        self.look(lambda: self.policies(target, there, hypertable))
        self.look(lambda: preflight.locks(target, there, hypertable, self.jobs))
        time_attribute = relation.column(axis.column)
        nullable = time_attribute is not None and not time_attribute.not_null
        self.look(lambda: preflight_rows.source_rows(source, axis, span, spec, nullable))
        self.look(lambda: preflight_rows.sequences(columns, hypertable, spec))
        result.order = Order(
            backfill=0,
            source_conninfo=spec.source,
            target_conninfo=spec.target,
            source=axis,
            target=target_axis,
            hypertable=hypertable,
            columns=columns.columns,
            binary=columns.binary,
            newest=spec.order == "newest",
            replace=spec.replace,
            finite=spec.skip_unstorable,
            has_triggers=triggers.any,
            chunks_beforehand=not triggers.unstoppable,
            hypertable_oid=hypertable.relation.oid,
            triggers_off=spec.triggers == "off",
        )
        result.definition = self.define(here, axis, hypertable, result.order, span)
        self.note(preflight.representable(target, result.definition))
        if not result.errors and ledger.exists(target):
            result.entry = self.attempt("ledger", lambda: find_entry(target, result))
        if result.entry is None:
            sound = not any(f.code == "where" for f in result.errors)
            seen = target_axis if sound else Axis(hypertable.relation, hypertable.time_column, hypertable.time_type)
            self.look(lambda: self.overlap(target, seen, hypertable, span, columns))
            self.plan(source, here, axis, hypertable, span, step)
            spans = [w.span for w in result.windows if w.occupied]
            self.look(lambda: result.shape.foresee(target, hypertable, spans if spec.refresh_caggs else []))
        self.look(lambda: self.retention(target, hypertable, span))
        self.look(lambda: self.source_retention(source, here, relation, axis, span))

    def look(self, check: Callable[[], list[Finding]]) -> None:
        """A check of its own: what it finds, or that this role may not look."""
        self.note(self.attempt("rights", check) or [])

    def policies(self, target: Connection, server: Server, hypertable: Hypertable) -> list[Finding]:
        self.result.policies = preflight_policies.read(target, hypertable.relation.oid, refused_ok=True)
        return preflight_policies.check(self.result.policies, self.spec, server.user)

    def retention(self, target: Connection, hypertable: Hypertable, span: Span) -> list[Finding]:
        """Also of a backfill that goes on: the cutoff moves."""
        result, entry = self.result, self.result.entry
        if entry is not None and entry.finished:
            return []
        occupied = [w.span for w in result.windows if w.occupied and w.estimate]
        if entry is not None:
            occupied = ledger.occupied(target, entry.id, hypertable.time_type)
        return preflight_policies.retention(target, result.policies, hypertable, span, occupied, self.spec)

    def source_retention(
        self, source: Connection, server: Server, relation: Relation, axis: Axis, span: Span
    ) -> list[Finding]:
        entry = self.result.entry
        if (entry is not None and entry.complete) or not catalog.is_hypertable(source, server, relation):
            return []
        found = catalog.read_hypertable(source, server, relation)
        if found.time_column != axis.column or found.time_type != axis.time_type:
            return []
        return preflight_policies.source_retention(source, server, found, span, self.spec)

    def overlap(
        self, target: Connection, axis: Axis, hypertable: Hypertable, span: Span, columns: mapping.Mapping
    ) -> list[Finding]:
        result = self.result
        found, result.overlap_rows, result.overlap_exact = preflight_rows.overlap(
            target, axis, hypertable, span, columns, self.spec
        )
        return found

    def read_target(self, target: Connection, server: Server, relation: Relation | None) -> Hypertable:
        name = self.spec.hypertable or (relation.quoted if relation else self.spec.table)
        found = catalog.resolve(target, name, "target", "--hypertable" if self.spec.hypertable else "--table")
        self.result.hypertable = found.quoted
        return catalog.read_hypertable(target, server, found)

    def read_span(self, target: Connection, hypertable: Hypertable) -> Span:
        """The bounds, read by the server in the type of the time column."""
        result, spec = self.result, self.spec
        column = f"{catalog.quote_name(hypertable.time_column)} of {hypertable.relation.quoted}"
        lower = None
        if spec.start is not None and spec.start.strip().lower() != "-infinity":
            lower = preflight.read_bound(target, hypertable.time_type, spec.start, f"--start (column {column})")
        upper = preflight.read_bound(target, hypertable.time_type, spec.end, f"--end (column {column})")
        time_type = hypertable.time_type
        result.start = None if lower is None else time_type.text(lower)
        result.end = time_type.text(upper)
        if lower is not None and lower > upper:
            raise Refused(f"--start {result.start} is after --end {result.end}")
        return Span(lower, upper)

    def read_axis(self, hypertable: Hypertable, relation: Relation) -> Axis:
        """The source seen along its time column."""
        spec = self.spec
        if spec.time_column is not None and spec.time_column != hypertable.time_column:
            raise Refused(
                f"the time column of {hypertable.relation.quoted} is {catalog.quote_name(hypertable.time_column)}, "
                f"not {catalog.quote_name(spec.time_column)}",
                hint="windows follow the hypertable's time dimension; --source-time-column names the source's column",
            )
        name = spec.source_time_column or hypertable.time_column
        column = relation.column(name)
        if column is None:
            known = ", ".join(catalog.quote_name(c.name) for c in relation.columns[:20])
            raise Refused(
                f"the source {relation.quoted} has no column {catalog.quote_name(name)}",
                hint=f"--source-time-column names its time column; it has {known}",
            )
        theirs = hypertable.relation.column(hypertable.time_column)
        assert theirs is not None
        problem = mapping.check_time_column(column, theirs)
        if problem:
            raise Refused(problem.message, hint=problem.hint)
        return Axis(relation, name, hypertable.time_type, spec.where)

    def define(self, server: Server, axis: Axis, hypertable: Hypertable, order: Order, span: Span) -> ledger.Definition:
        spec = self.spec
        types = {c.name: c.type for c in hypertable.relation.columns}
        identifier = server.system_identifier or self.address
        return ledger.Definition(
            hypertable=hypertable.relation.quoted,
            hypertable_oid=hypertable.relation.oid,
            source=f"{identifier}/{server.database}",
            source_relation=axis.relation.quoted,
            time_type=hypertable.time_type.sql_name,
            time_column=hypertable.time_column,
            source_time_column=axis.column,
            range_start=self.result.start,
            range_end=self.result.end,
            columns=[{"name": c.target, "type": types[c.target], "source": c.source} for c in order.columns],
            settings={
                "window": spec.window,
                "max_window_rows": spec.max_window_rows,
                "where": spec.where,
                "skip_unstorable": spec.skip_unstorable,
            },
        )

    def plan(
        self, source: Connection, server: Server, axis: Axis, hypertable: Hypertable, span: Span, step: int | None
    ) -> None:
        result, spec = self.result, self.spec
        grid = Grid(hypertable.time_type, hypertable.interval, [(c.lower, c.upper) for c in hypertable.chunks_in(span)])
        found: Survey | None = self.attempt(
            "source-rows", lambda: survey(source, server, axis, span, hypertable.interval)
        )
        if found is None:
            return
        occupied = occupied_cells(source, found, grid)
        if result.order is not None and not found.indexed:
            lowers = frozenset(cell.lower for cell in occupied if cell.lower is not None)
            result.order = replace(result.order, source_indexed=False, occupied=lowers)
        windows = self.attempt(
            "window",
            lambda: make_windows(
                span,
                grid,
                occupied,
                found.density,
                max_rows=spec.max_window_rows or DEFAULT_WINDOW_ROWS,
                step=step,
                merge=not found.indexed,
            ),
        )
        result.windows = windows or []
        result.missing_chunks = sum(1 for c in occupied if c.lower is not None and not grid.exists(c.lower))
        self.note(preflight_rows.scans(found, len(result.windows), spec))


def find_entry(target: Connection, prepared: Prepared) -> ledger.Entry | None:
    """The backfill in the ledger that this command means; None for a new one.

    Raises `LedgerConflict` where an unfinished backfill overlaps with other settings, or a finished one
    of another source would be wiped.
    """
    definition, spec, time_type = prepared.definition, prepared.spec, prepared.time_type
    assert definition is not None and time_type is not None
    lower = None if definition.range_start is None else time_type.ordinal(definition.range_start)
    span = Span(lower, time_type.ordinal(definition.range_end))
    newest: ledger.Entry | None = None  # of those that are finished and overlap, if it is this one or of another source
    for entry in ledger.entries(target, hypertable_oid=definition.hypertable_oid):
        different = entry.differences(definition)
        if not entry.span(time_type).overlaps(span):
            continue
        if not entry.finished:
            if not different:
                return entry
            raise LedgerConflict(
                f"backfill {entry.id} of {entry.hypertable} is unfinished and overlaps this range, but is not the "
                "same:\n" + describe(different),
                hint=f"run it with its own options to finish it, or give it up: hyperfill clean --backfill {entry.id} "
                "--force",
            )
        if different.keys() <= _SPLIT or different.keys() & _ORIGIN:
            newest = entry if newest is None or _finished_at(entry) > _finished_at(newest) else newest
        elif different.keys() - _SPLIT == {"columns"} and not spec.again:
            raise LedgerConflict(
                f"backfill {entry.id} has moved this range with other columns:\n" + describe(different),
                hint="--again moves it anew with these",
            )
    if newest is None:
        return None
    different = newest.differences(definition)
    if different.keys() <= _SPLIT:
        return None if spec.again else newest
    if spec.replace:
        return None
    raise LedgerConflict(
        f"the range overlaps backfill {newest.id}, which filled "
        f"[{newest.range_start or '-infinity'}, {newest.range_end}) from another source:\n"
        + describe({k: v for k, v in different.items() if k in _ORIGIN}),
        hint="deleting the range would wipe what came from there; --replace does it",
    )


# A finished range is what it is, however it was cut.
_SPLIT = frozenset({"window", "max_window_rows"})
_ORIGIN = frozenset({"source", "source_relation"})


def _finished_at(entry: ledger.Entry) -> dt.datetime:
    assert entry.finished_at is not None
    return entry.finished_at


def prepare(spec: Spec, jobs: int) -> Prepared:
    """Check everything and make the plan of one backfill, without writing anything."""
    return _Preparation(spec, jobs).run()
