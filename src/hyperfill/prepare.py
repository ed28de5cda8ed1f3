"""From what a person asked for to a plan: resolve, check, survey, cut. Writes nothing.

All findings are collected before anything is refused, so that one look shows everything that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TypeVar

import psycopg

from hyperfill import (
    catalog,
    conversions,
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
from hyperfill.columnstore import Sides, columnstore_on, read_collations
from hyperfill.errors import Finding, Refused, first_line
from hyperfill.existing import find_entry
from hyperfill.landing import Landings, Rules, assign, read_rules, row_bytes
from hyperfill.plan import DEFAULT_WINDOW_ROWS, Grid, make_windows
from hyperfill.preparing import Preparation, Prepared, Stop
from hyperfill.session import Connection
from hyperfill.spec import Spec
from hyperfill.survey import Axis, Survey, explain, first_row, occupied_cells, survey
from hyperfill.timeline import Span
from hyperfill.window import Order, rows_of

T = TypeVar("T")


@dataclass(frozen=True)
class Subject:
    """The two relations of a spec, on their servers, and the columns that they have in common."""

    source: Server
    target: Server
    relation: Relation
    hypertable: Hypertable
    axis: Axis
    target_axis: Axis
    columns: mapping.Mapping


class ServerPreparation(Preparation[Spec]):
    """The steps, in order; each adds findings."""

    writes = True  # False: rows are only compared, and no right to change anything is needed
    kind: ledger.Kind = "run"

    def __init__(self, spec: Spec, jobs: int) -> None:
        super().__init__(spec, jobs, spec.table)
        self.address = ""
        self.span: Span | None = None
        self.rules: Rules | None = None  # of landing chunks compressed; None: nothing is landed

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
            except Stop:
                pass
            except psycopg.Error as error:
                self.note([Finding("error", "server", f"{first_line(error)} (SQLSTATE {error.sqlstate or 'none'})")])
        return self.result

    def identify(self, source: Connection, target: Connection) -> Subject:
        """Both relations, and which columns of them belong together. Raises `Stop` where that cannot be known.

        Findings about reading them, and where this preparation `writes` about filling the target, are noted.
        """
        spec, result = self.spec, self.result
        here, there = catalog.read_server(source), catalog.read_server(target)
        result.versions = {"source": here.versions, "target": there.versions}
        # Where a service keeps the cluster's identity to itself, its address must do.
        self.address = f"{source.info.host}:{source.info.port}"
        self.note(preflight.servers(here, there, self.jobs, (source, target), writes=self.writes))
        relation = self.attempt("table", lambda: catalog.resolve(source, spec.table, "source", "--table"))
        if relation:
            result.table = relation.quoted
        hypertable = self.attempt("hypertable", lambda: self.hypertable(target, there, relation))
        if self.writes:
            self.attempt("ledger", lambda: ledger.exists(target))
        if hypertable is None:
            raise Stop
        result.time_type = hypertable.time_type
        self.bounds(target, hypertable)
        axis = self.attempt("time-column", lambda: self.read_axis(hypertable, relation)) if relation else None
        target_axis = Axis(hypertable.relation, hypertable.time_column, hypertable.time_type, spec.where)
        if relation is None or axis is None:
            self.target_rights(target, hypertable, target_axis)
            raise Stop
        self.note(preflight.same_relation(here, there, axis, hypertable, (source, target), writes=self.writes))
        self.note(preflight_rights.read_rights(source, axis, "source"))
        self.target_rights(target, hypertable, target_axis)
        listed = spec.columns
        wanted = self.attempt("columns", lambda: catalog.parse_columns(target, listed)) if listed else None
        columns, problems = mapping.match(relation, hypertable, axis.column, wanted, writes=self.writes)
        self.note(problems)
        if spec.where:
            self.note(preflight.condition(source, axis.bare, spec.where, "source"))
            self.note(preflight.condition(target, target_axis.bare, spec.where, "target"))
        return Subject(here, there, relation, hypertable, axis, target_axis, columns)

    def bounds(self, target: Connection, hypertable: Hypertable) -> None:
        """Read the bounds as soon as their type is known, whatever else is wrong."""
        self.span = self.attempt("bound", lambda: self.read_span(target, hypertable, self.spec.end))

    def cut(self, hypertable: Hypertable) -> tuple[Span, int | None]:
        """The range, and the longest window that was asked for. Of an empty range nothing else needs a look.

        Raises `Stop` where the bounds are none.
        """
        length, span = self.spec.window, self.span
        step = self.attempt("window", lambda: hypertable.time_type.step(length)) if length else None
        if span is None:
            raise Stop
        self.result.empty = span.is_empty and not self.result.errors
        return span, step

    def target_rights(self, target: Connection, hypertable: Hypertable, axis: Axis) -> None:
        found = preflight_rights.target_rights(target, hypertable) if self.writes else None
        self.note(found if found is not None else preflight_rights.read_rights(target, axis, "target"))

    def order(self, subject: Subject) -> Order:
        """What workers need to know."""
        spec = self.spec
        return Order(
            backfill=0,
            source_conninfo=spec.source,
            target_conninfo=spec.target,
            source=subject.axis,
            target=subject.target_axis,
            hypertable=subject.hypertable,
            columns=subject.columns.columns,
            binary=subject.columns.binary,
            newest=spec.order == "newest",
            replace=spec.replace,
            finite=spec.skip_unstorable,
            has_triggers=False,
            chunks_beforehand=True,
            hypertable_oid=subject.hypertable.relation.oid,
            triggers_off=spec.triggers == "off",
        )

    def check(self, source: Connection, target: Connection) -> None:
        spec, result = self.spec, self.result
        subject = self.identify(source, target)
        here, there, hypertable, axis = subject.source, subject.target, subject.hypertable, subject.axis
        found_triggers, triggers = preflight_rights.triggers_and_keys(target, hypertable, spec.replace)
        self.note([f for f in found_triggers if f.code != "triggers" or spec.triggers == "fire"])
        span, step = self.cut(hypertable)
        if span.is_empty:
            return
        # Whatever else is wrong: each of these needs only what it is given, and finds more.
        self.look(lambda: preflight.completion_point((source, target), here, hypertable.time_type, span.upper))
        self.look(lambda: preflight_chunks.check(target, there, hypertable, span, spec, result.shape))
        self.look(lambda: preflight_policies.chunks(target, hypertable, span))
        self.look(lambda: self.policies(target, there, hypertable))
        self.look(lambda: preflight.locks(target, there, hypertable, self.jobs))
        time_attribute = subject.relation.column(axis.column)
        nullable = time_attribute is not None and not time_attribute.not_null
        self.look(lambda: preflight_rows.source_rows(source, axis, span, spec, nullable))
        self.look(lambda: preflight_rows.sequences(subject.columns.columns, hypertable, spec.sync_sequences))
        order = self.order(subject)
        result.order = replace(
            order,
            has_triggers=triggers.any,
            chunks_beforehand=not triggers.unstoppable,
            descending=catalog.time_order(target, hypertable),
        )
        self.look(lambda: self.landing(source, target, subject))
        result.definition = self.define(here, axis, hypertable, order)
        self.note(preflight.representable(target, result.definition))
        if not result.errors and ledger.exists(target):
            result.entry = self.attempt("ledger", lambda: self.find(target, result))
            self.forget_policies()
        if result.entry is not None and not result.entry.finished:
            self.note(conversions.planned(target, result.entry.id, spec.land))
        if result.entry is None:
            sound = not any(f.code == "where" for f in result.errors)
            seen = subject.target_axis if sound else subject.target_axis.bare
            self.look(lambda: self.overlap(target, seen, hypertable, span, subject.columns))
            self.plan(source, here, axis, hypertable, span, step)
            spans = [w.span for w in result.windows if w.occupied]
            self.look(lambda: result.shape.foresee(target, hypertable, spans if spec.refresh_caggs else []))
        self.look(lambda: self.retention(target, hypertable, span, lambda: first_row(source, axis.bare, span)))
        self.look(lambda: self.source_retention(source, here, subject.relation, axis, span))

    def landing(self, source: Connection, target: Connection, subject: Subject) -> list[Finding]:
        """How chunks are to end: compressed or plain."""
        spec, result, there = self.spec, self.result, subject.target
        if self.span is None or result.order is None:
            return []
        sides = None
        if there.community and spec.land != "plain":
            sides = Sides(
                subject.relation,
                subject.hypertable.relation,
                subject.columns.columns,
                read_collations(source, subject.relation),
                read_collations(target, subject.hypertable.relation),
                utf8=subject.source.encoding == there.encoding == "UTF8",
                compressed=catalog.is_hypertable(source, subject.source, subject.relation)
                and columnstore_on(source, subject.source, subject.relation),
            )
        size = row_bytes(float(explain(source, rows_of(result.order, self.span))["Plan Width"])) if sides else 0
        self.rules, findings = read_rules(
            target,
            there,
            subject.hypertable,
            result.policies,
            self.span,
            spec.land,
            sides,
            where=spec.where is not None,
            row_bytes=size,
        )
        result.order = replace(result.order, sides=sides, jobs=self.jobs, row_bytes=size)
        return findings

    def find(self, target: Connection, prepared: Prepared) -> ledger.Entry | None:
        """The backfill in the ledger that is meant."""
        return find_entry(target, prepared)

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

    def hypertable(self, target: Connection, server: Server, relation: Relation | None) -> Hypertable:
        name = self.spec.hypertable or (relation.quoted if relation else self.spec.table)
        return self.read_target(target, server, name, "--hypertable" if self.spec.hypertable else "--table")

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

    def define(self, server: Server, axis: Axis, hypertable: Hypertable, order: Order) -> ledger.Definition:
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
            kind=self.kind,
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
        occupied = result.cells = occupied_cells(source, found, grid)
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
                whole=self.whole(hypertable),
            ),
        )
        result.windows = windows or []
        self.land(hypertable, occupied)
        result.missing_chunks = sum(1 for c in occupied if c.lower is not None and not grid.exists(c.lower))
        self.note(self.scans(found))

    def whole(self, hypertable: Hypertable) -> Callable[[Span, float], bool]:
        """Which cells are one window, however many rows they have."""
        cut = self.spec.window is not None or self.spec.max_window_rows is not None
        return self.rules.whole(hypertable, cut=cut) if self.rules is not None else lambda cell, rows: False

    def land(self, hypertable: Hypertable, occupied: list[Span]) -> None:
        """How each chunk ends, now that the windows are known."""
        if self.rules is not None:
            stretches = assign(self.rules, hypertable, occupied, self.result.windows)
            self.result.landings = Landings(
                self.spec.land, stretches, self.rules.row_bytes, self.jobs, self.rules.settings
            )

    def scans(self, found: Survey) -> list[Finding]:
        """What reading the source costs where no index leads to its rows."""
        return preflight_rows.scans(found, len(self.result.windows), self.spec)


def prepare(spec: Spec, jobs: int) -> Prepared:
    """Check everything and make the plan of one backfill, without writing anything."""
    return ServerPreparation(spec, jobs).run()
