"""From what a person asked for to the plan of a dump: resolve, check, survey, cut. Writes nothing.

The windows are those that `run` would make, as far as the source alone can tell: of a hypertable its own chunks, of
another relation TimescaleDB's default grid. An integer axis has no default: there a cell has about as many
ordinals as `--max-window-rows` rows take on average, rounded down to 1, 2 or 5 times a power of ten.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import psycopg

from hyperfill import __version__, catalog, preflight, preflight_policies, preflight_rights, preflight_rows, session
from hyperfill.archives import SUFFIX, Compress
from hyperfill.catalog import Column, Hypertable, Relation, Server, quote_name
from hyperfill.dialect import Dialect
from hyperfill.dump_folder import Found, Piece, Settings, look
from hyperfill.errors import Finding, Refused, UsageError, describe, first_line
from hyperfill.manifest import Definition
from hyperfill.plan import DEFAULT_WINDOW_ROWS, Grid, PlannedWindow, make_windows
from hyperfill.session import Connection
from hyperfill.spec import Spec
from hyperfill.sql import query
from hyperfill.survey import Axis, explain, occupied_cells, survey
from hyperfill.timeline import BoundError, Kind, Span, TimeType, uuid_of_milliseconds

T = TypeVar("T")

_OLDEST_SERVER = 120000
_WEEK_DAYS = 7
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class DumpSpec:
    """A dump as asked for. `spec` is what a run of the same rows would be; it has no target."""

    spec: Spec
    out: Path
    compress: Compress = "zstd"


@dataclass
class Prepared:
    """A dump ready to be made: everything known, nothing written."""

    asked: DumpSpec
    table: str
    found: Found
    start: str | None = None
    end: str = ""
    findings: list[Finding] = field(default_factory=list)
    axis: Axis | None = None
    settings: Settings | None = None
    empty: bool = False  # start = end: there is nothing to do

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]


class _Stop(Exception):
    """Without this nothing further can be checked."""


class _Preparation:
    """The steps, in order; each adds findings."""

    def __init__(self, asked: DumpSpec, jobs: int) -> None:
        self.asked = asked
        self.spec = asked.spec
        self.jobs = jobs
        self.result = Prepared(asked, asked.spec.table, look(asked.out))

    def note(self, findings: Sequence[Finding]) -> None:
        for f in findings:
            self.result.findings.append(Finding(f.severity, f.code, f.message, f.hint, self.result.table))

    def attempt(self, code: str, action: Callable[[], T]) -> T | None:
        """Run a step; a refusal becomes a finding, so that the next step can find more."""
        try:
            return action()
        except Refused as error:
            self.note([Finding("error", code, error.message, error.hint)])
        except BoundError as error:
            self.note([Finding("error", code, str(error))])
        except psycopg.errors.InsufficientPrivilege as error:
            # Said already where the right itself was looked at: this is only what follows from it.
            if not any(f.code in ("rights", "row-security") for f in self.result.errors):
                self.note([Finding("error", "rights", first_line(error))])
        return None

    def run(self) -> Prepared:
        with ExitStack() as stack:
            try:
                source = self.attempt("connect", lambda: session.connect(self.spec.source, "source"))
                if source:
                    stack.callback(source.close)
                    self.check(source)
            except _Stop:
                pass
            except psycopg.Error as error:
                self.note([Finding("error", "server", f"{first_line(error)} (SQLSTATE {error.sqlstate or 'none'})")])
        return self.result

    def check(self, source: Connection) -> None:
        spec, result = self.spec, self.result
        server = catalog.read_server(source)
        self.note(_server(source, server, self.jobs))
        relation = self.attempt("table", lambda: catalog.resolve(source, spec.table, "source", "--table"))
        if relation is None:
            raise _Stop
        result.table = relation.quoted
        hypertable = self.attempt("hypertable", lambda: _hypertable(source, server, relation, spec))
        column = self.attempt("time-column", lambda: self.time_column(relation, hypertable))
        if column is None or column.time_type is None:
            raise _Stop
        if hypertable is not None and hypertable.time_column != column.name:
            hypertable = None  # its chunks say nothing about this column
        time_type = column.time_type
        axis = result.axis = Axis(relation, column.name, time_type, spec.where)
        span = self.attempt("bound", lambda: self.read_span(source, axis))
        self.note(preflight_rights.read_rights(source, axis, "source"))
        columns = self.columns(source, relation, column)
        if spec.where:
            bare = Axis(relation, column.name, time_type)
            hint = "it is one SQL condition whose value depends on the columns of the row alone"
            self.note([replace(f, hint=hint) for f in preflight.condition(source, bare, spec.where, "source")])
        length = spec.window
        step = self.attempt("window", lambda: time_type.step(length)) if length else None
        if span is None:
            raise _Stop
        if span.is_empty:
            result.empty = not result.errors
            return
        self.look(lambda: _completion(source, server, time_type, span.upper))
        self.look(lambda: preflight_rows.source_rows(source, axis, span, spec, not column.not_null))
        if hypertable is not None:
            known = hypertable
            self.look(lambda: preflight_policies.source_retention(source, server, known, span, spec))
        definition = self.define(source, server, axis, columns)
        if result.found.manifest is not None:
            self.same(result.found.manifest.differences(definition))
            return
        settings = Settings(str(uuid.uuid4()), __version__, relation.oid, definition, ())
        if result.found.settings is not None:
            self.same(result.found.settings.differences(settings))
            result.settings = result.found.settings
            return
        windows = self.attempt("source-rows", lambda: self.plan(source, server, axis, hypertable, span, step))
        if windows is not None:
            pieces = self.pieces(windows, time_type)
            result.settings = Settings(settings.id, __version__, relation.oid, definition, pieces)

    def look(self, check: Callable[[], list[Finding]]) -> None:
        """A check of its own: what it finds, or that this role may not look."""
        self.note(self.attempt("rights", check) or [])

    def same(self, different: dict[str, tuple[object, object]]) -> None:
        if different:
            text = f"{self.asked.out} holds a dump that is not the same:\n{describe(different)}"
            hint = "name another folder, or give the dump that is there its own options"
            self.note([Finding("error", "other-dump", text, hint)])

    def time_column(self, relation: Relation, hypertable: Hypertable | None) -> Column:
        """The column that windows are cut by: named, the hypertable's, or the only one that can be meant."""
        name = self.spec.source_time_column or self.spec.time_column
        if name is None and hypertable is not None:
            name = hypertable.time_column
        if name is not None:
            column = relation.column(name)
            if column is None:
                known = ", ".join(quote_name(c.name) for c in relation.columns[:20])
                raise Refused(
                    f"{relation.quoted} has no column {quote_name(name)}",
                    hint=f"--time-column names its time column; it has {known}",
                )
            if column.time_type is None:
                raise Refused(
                    f"--time-column {quote_name(name)} is of type {column.type}",
                    hint="windows are cut by timestamptz, timestamp, date, smallint, integer, bigint or uuid (v7)",
                )
            return column
        moments = [c for c in relation.columns if c.time_type and c.time_type.kind not in (Kind.INTEGER, Kind.UUID)]
        # A view's columns are all nullable, as far as the catalog knows.
        meant = [c for c in moments if c.not_null] or (moments if relation.kind in "vmf" else [])
        if len(meant) == 1:
            return meant[0]
        candidates = [c for c in relation.columns if c.time_type is not None]
        listed = ", ".join(f"{quote_name(c.name)} ({c.type}{' NOT NULL' if c.not_null else ''})" for c in candidates)
        raise Refused(
            f"which column of {relation.quoted} is its time column is not clear",
            hint=f"--time-column names it: {listed}" if listed else "it has none that windows could be cut by",
        )

    def read_span(self, source: Connection, axis: Axis) -> Span:
        """The bounds, read by the server in the type of the time column."""
        result, spec, time_type = self.result, self.spec, axis.time_type
        column = f"{quote_name(axis.column)} of {axis.relation.quoted}"
        lower = None
        if spec.start is not None and spec.start.strip().lower() != "-infinity":
            lower = preflight.read_bound(source, time_type, spec.start, f"--start (column {column})")
        upper = preflight.read_bound(source, time_type, spec.end, f"--end (column {column})")
        result.start = None if lower is None else time_type.text(lower)
        result.end = time_type.text(upper)
        if lower is not None and lower > upper:
            raise Refused(f"--start {result.start} is after --end {result.end}")
        return Span(lower, upper)

    def columns(self, source: Connection, relation: Relation, time: Column) -> tuple[Column, ...]:
        """What is dumped, in the order of the file. What is generated stays out unless it is named."""
        listed = self.spec.columns
        if listed is None:
            chosen = tuple(c for c in relation.columns if not c.generated)
            left = ", ".join(quote_name(c.name) for c in relation.columns if c.generated)
            if left:
                text = f"generated columns stay out: {left} (--columns can name them)"
                self.note([Finding("note", "generated", text)])
        else:
            names = catalog.parse_columns(source, listed)
            if len(set(names)) != len(names):
                raise UsageError(f"--columns {listed!r} names a column twice")
            unknown = [n for n in names if relation.column(n) is None]
            if unknown:
                text = f"--columns: {', '.join(map(quote_name, unknown))} does not exist on the source"
                self.note([Finding("error", "no-such-column", text)])
            chosen = tuple(c for n in names if (c := relation.column(n)) is not None)
        if time not in chosen:
            text = f"--columns must name the time column {quote_name(time.name)}"
            if listed is None:
                text = f"the time column {quote_name(time.name)} is generated: --columns must name it"
            self.note([Finding("error", "no-time-column", text)])
        refused = [quote_name(c.name) for c in chosen if not c.selectable]
        if refused:
            self.note([Finding("error", "rights", f"this role may not SELECT {', '.join(refused)} of the source")])
        return chosen

    def define(self, source: Connection, server: Server, axis: Axis, columns: Sequence[Column]) -> Definition:
        spec = self.spec
        # Where a service keeps the cluster's identity to itself, its address must do.
        identifier = server.system_identifier or f"{source.info.host}:{source.info.port}"
        return Definition(
            relation=axis.relation.quoted,
            source=f"{identifier}/{server.database}",
            columns=tuple({"name": c.name, "type": c.type} for c in columns),
            time_column=axis.column,
            time_type=axis.time_type.sql_name,
            start=self.result.start,
            end=self.result.end,
            compress=self.asked.compress,
            settings={
                "window": spec.window,
                "max_window_rows": spec.max_window_rows,
                "where": spec.where,
                "skip_unstorable": spec.skip_unstorable,
            },
            dialect=Dialect(),
        )

    def plan(
        self,
        source: Connection,
        server: Server,
        axis: Axis,
        hypertable: Hypertable | None,
        span: Span,
        step: int | None,
    ) -> list[PlannedWindow]:
        max_rows = self.spec.max_window_rows or DEFAULT_WINDOW_ROWS
        if hypertable is not None:
            interval = hypertable.interval
            chunks = [(c.lower, c.upper) for c in hypertable.chunks_in(span)]
        else:
            interval, chunks = default_interval(source, axis, span, max_rows), []
            # Of a hypertable that is cut by another column the survey must not ask for chunks either.
            server = replace(server, timescaledb=None)
        grid = Grid(axis.time_type, interval, chunks)
        found = survey(source, server, axis, span, interval)
        occupied = occupied_cells(source, found, grid)
        windows = make_windows(
            span, grid, occupied, found.density, max_rows=max_rows, step=step, merge=not found.indexed
        )
        self.note(preflight_rows.scans(found, len(windows), self.spec))
        return windows

    def pieces(self, windows: Sequence[PlannedWindow], time_type: TimeType) -> tuple[Piece, ...]:
        width = max(6, len(str(len(windows))))
        ending = ".csv" + SUFFIX[self.asked.compress]
        return tuple(
            Piece(
                number,
                None if w.span.lower is None else time_type.text(w.span.lower),
                time_type.text(w.span.upper),
                f"{number:0{width}}{ending}",
                w.estimate,
            )
            for number, w in enumerate(windows, start=1)
        )


def _hypertable(source: Connection, server: Server, relation: Relation, spec: Spec) -> Hypertable | None:
    if not catalog.is_hypertable(source, server, relation):
        return None
    try:
        return catalog.read_hypertable(source, server, relation)
    except Refused:
        if spec.time_column or spec.source_time_column:
            return None  # it is cut by something that is no axis, and the user names one
        raise


def default_interval(source: Connection, axis: Axis, span: Span, max_rows: int) -> int:
    """The length of cells, in ordinals, for a relation that has no chunks: a week, or derived from the rows."""
    match axis.time_type.kind:
        case Kind.DATE:
            return _WEEK_DAYS
        case Kind.UUID:
            return uuid_of_milliseconds(_WEEK_DAYS * _DAY_MS)
        case Kind.INTEGER:
            return _integer_interval(source, axis, span, max_rows)
        case _:
            return _WEEK_DAYS * _DAY_MS * 1000


def _integer_interval(source: Connection, axis: Axis, span: Span, max_rows: int) -> int:
    bare = Axis(axis.relation, axis.column, axis.time_type)
    edges = [
        source.execute(bare.compose(name, range=bare.condition(span))).fetchone()
        for name in ("survey/first", "survey/last")
    ]
    if edges[0] is None or edges[1] is None:
        return 1_000_000  # nothing is there: any grid will do
    first, last = (axis.time_type.ordinal(str(row[0])) for row in edges if row is not None)
    everything = bare.compose("dump/everything")
    rows = float(explain(source, everything)["Plan Rows"])
    return rounded((last + 1 - first) / max(1.0, rows / max_rows))


def rounded(length: float) -> int:
    """The largest 1, 2 or 5 times a power of ten that is not above `length`; at least 1."""
    power = 1
    while power * 10 <= length:
        power *= 10
    return next((power * n for n in (5, 2) if power * n <= length), power)


def _server(source: Connection, server: Server, jobs: int) -> list[Finding]:
    findings = []
    if server.version < _OLDEST_SERVER:
        text = f"the source is PostgreSQL {server.version // 10000}; {_OLDEST_SERVER // 10000} is the oldest known"
        findings.append(Finding("error", "version", f"{text} to work"))
    if server.encoding == "SQL_ASCII":
        text = "the source database has the encoding SQL_ASCII: bytes that are no UTF-8 are dumped as they are"
        findings.append(Finding("warning", "encoding", text))
    free = preflight.row(source, "preflight/connections")[0]
    if free is not None and free < jobs:
        text = f"the source has {free} free connections for this role, and {jobs} workers need one each"
        findings.append(Finding("error", "connections", text, "use fewer --jobs, or raise max_connections"))
    return findings


def _completion(source: Connection, server: Server, time_type: TimeType, end: int) -> list[Finding]:
    """The end against the clock, open transactions, and a standby's replay."""
    moment = preflight.moment_of(time_type, end)
    if moment is None:
        if not server.in_recovery:
            return []
        text = "the time column is an integer: a lagging standby cannot be compared with the end"
        return [Finding("note", "clock", text)]
    findings = []
    if preflight.row(source, "preflight/in_future", moment=moment)[0]:
        text = f"the end {time_type.text(end)} is in the future: rows that are still written below it may be missing"
        hint = "the completion point lies before now, and before the zone of late data"
        findings.append(Finding("warning", "end-in-future", text, hint))
    old = source.execute(query("preflight/old_transactions"), {"moment": moment}).fetchall()
    if old:
        who = ", ".join(f"{name}{f' (pid {pid})' if pid else ''} open for {age:.0f} s" for pid, name, age in old[:5])
        text = f"{len(old)} transactions on the source are older than the end, and may still write below it: {who}"
        findings.append(Finding("warning", "old-transactions", text, "wait until they have ended, or end them"))
    if server.in_recovery:
        replayed, enough, streaming = preflight.row(source, "preflight/replay", moment=moment)
        if not enough:
            text = f"the source is a standby that has replayed up to {replayed or 'an unknown time'}, before the end"
            idle = " (it streams, and all it received is replayed: the primary may simply be idle)" if streaming else ""
            hint = "wait until it has caught up, or read from the primary"
            level = "warning" if streaming else "error"
            findings.append(Finding(level, "standby-lag", f"{text} {time_type.text(end)}{idle}", hint))
    return findings


def prepare(asked: DumpSpec, jobs: int) -> Prepared:
    """Check everything and make the plan, without writing anything. Raises `Refused` for the folder alone."""
    return _Preparation(asked, jobs).run()
