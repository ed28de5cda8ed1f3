"""From the folder of a dump to a backfill that is ready to run: its files are the windows. Writes nothing."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import psycopg

from hyperfill import (
    catalog,
    conversions,
    ledger,
    manifest,
    mapping,
    preflight,
    preflight_chunks,
    preflight_policies,
    preflight_rights,
    preflight_rows,
    session,
)
from hyperfill.catalog import Hypertable, Server, quote_name
from hyperfill.errors import Finding, Refused, UsageError, first_line
from hyperfill.existing import find_entry
from hyperfill.files import readable
from hyperfill.landing import Landings, Rules, assign, read_rules
from hyperfill.manifest import Manifest
from hyperfill.plan import Grid, PlannedWindow, cells_between
from hyperfill.preparing import Preparation, Prepared, Stop
from hyperfill.session import Connection
from hyperfill.spec import LoadSpec
from hyperfill.survey import Axis
from hyperfill.timeline import BoundError, Span
from hyperfill.window import MovedColumn, Order

_MOST_CELLS = 64  # of one window; the rest is left to the policy
# Types whose text every type named behind them reads without losing anything, as the server writes type names.
_WIDER = {
    "smallint": {"integer", "bigint", "numeric", "double precision"},
    "integer": {"bigint", "numeric", "double precision"},
    "bigint": {"numeric"},
    "text": {"character varying"},
    "character varying": {"text"},
    "name": {"text", "character varying"},
}


def refuse_options(spec: LoadSpec) -> None:
    """Raise `UsageError` for options that a dump answers itself."""
    default = LoadSpec(target="", files=())
    answered = {
        "start": "--start", "end": "--end", "header": "--header", "columns": "--columns", "mapping": "--map",
        "dialect": "--delimiter, --quote, --escape, --null and --encoding", "skip_lines": "--skip-lines",
        "limit": "--limit", "on_conflict": "--on-conflict", "outside": "--outside", "max_rejects": "--max-rejects",
        "time_zone": "--time-zone", "date_style": "--date-style", "batch_bytes": "--batch-size",
    }  # fmt: skip
    for name, option in answered.items():
        if getattr(spec, name) != getattr(default, name):
            raise UsageError(f"{option} does not go with a dump: its manifest says what it holds")


def prepare_dump(spec: LoadSpec, folder: Path, jobs: int) -> Prepared:
    """Check everything and plan, without writing anything. Reads every file once, to see that it is the one dumped."""
    return _Preparation(spec, folder, jobs).run()


class _Preparation(Preparation[LoadSpec]):
    """The steps, in order; each adds findings."""

    def __init__(self, spec: LoadSpec, folder: Path, jobs: int) -> None:
        super().__init__(spec, jobs, readable(folder.absolute()))
        self.folder = folder.absolute()

    def run(self) -> Prepared:
        with ExitStack() as stack:
            try:
                found = self.attempt("dump", lambda: manifest.read(self.folder))
                target = self.attempt("connect", lambda: session.connect(self.spec.target, "target"))
                if target:
                    stack.callback(target.close)
                if target and found:
                    self.check(target, found)
            except Stop:
                pass
            except psycopg.Error as error:
                self.note([Finding("error", "server", f"{first_line(error)} (SQLSTATE {error.sqlstate or 'none'})")])
        return self.result

    def check(self, target: Connection, found: Manifest) -> None:
        spec, result = self.spec, self.result
        server = catalog.read_server(target)
        self.result.versions = {"target": server.versions}
        self.note(preflight.target_server(server, self.jobs, target))
        name = spec.hypertable or found.relation
        hypertable = self.attempt("hypertable", lambda: self.read_target(target, server, name, "--hypertable"))
        self.attempt("ledger", lambda: ledger.exists(target))
        if hypertable is None:
            raise Stop
        result.time_type = hypertable.time_type
        self.note(preflight_rights.target_rights(target, hypertable))
        found_triggers, triggers = preflight_rights.triggers_and_keys(target, hypertable, spec.replace)
        self.note([f for f in found_triggers if f.code != "triggers" or spec.triggers == "fire"])
        columns = self.match(hypertable, found)
        span = self.attempt("bound", lambda: self.windows(hypertable, found))
        if span is None:
            raise Stop
        if span.is_empty:
            result.empty = not result.errors
            return
        self.look(lambda: preflight_chunks.check(target, server, hypertable, span, spec, result.shape))
        self.look(lambda: preflight_policies.chunks(target, hypertable, span))
        self.look(lambda: self.policies(target, server, hypertable))
        self.look(lambda: preflight.locks(target, server, hypertable, self.jobs))
        self.look(lambda: preflight_rows.sequences(columns, hypertable, spec.sync_sequences))
        axis = Axis(hypertable.relation, hypertable.time_column, hypertable.time_type)
        result.order = Order(
            backfill=0,
            target_conninfo=spec.target,
            target=axis,
            hypertable=hypertable,
            columns=columns,
            binary=False,
            newest=False,
            replace=spec.replace,
            finite=False,
            has_triggers=triggers.any,
            chunks_beforehand=not triggers.unstoppable,
            hypertable_oid=hypertable.relation.oid,
            dump=str(self.folder),
            encode=spec.encode,
            triggers_off=spec.triggers == "off",
        )
        rules = self.attempt("rights", lambda: self.rules(target, server, hypertable, span))
        result.definition = self.define(hypertable, found, columns)
        self.note(preflight.representable(target, result.definition))
        if not result.errors and ledger.exists(target):
            result.entry = self.attempt("ledger", lambda: find_entry(target, result))
            self.forget_policies()
        if result.entry is not None and not result.entry.finished:
            self.note(conversions.planned(target, result.entry.id, spec.land))
        if result.entry is None:
            here = {c.target for c in columns}
            only = tuple(c for c in hypertable.relation.columns if c.name not in here and not c.generated)
            moved = mapping.Mapping(columns, False, only)
            self.look(lambda: self.overlap(target, axis, hypertable, span, moved))
            if rules is not None:
                self.land(hypertable, rules)
        self.look(lambda: self.retention(target, hypertable, span))
        if not result.errors and (result.entry is None or not result.entry.finished):
            # Last, because it reads everything: a file that is another one now must not even begin.
            self.attempt("dump", lambda: manifest.verify(self.folder, found, self.jobs))

    def overlap(
        self, target: Connection, axis: Axis, hypertable: Hypertable, span: Span, moved: mapping.Mapping
    ) -> list[Finding]:
        result = self.result
        fate = "they are replaced by the dump's, window by window"
        found, result.overlap_rows, result.overlap_exact = preflight_rows.overlap(
            target, axis, hypertable, span, moved, self.spec, fate
        )
        return found

    def rules(self, target: Connection, server: Server, hypertable: Hypertable, span: Span) -> Rules:
        """How chunks are to end. Files come in the order they were written in: no chunk is written compressed."""
        rules, findings = read_rules(
            target, server, hypertable, self.result.policies, span, self.spec.land, None, where=False
        )
        self.note(findings)
        return rules

    def land(self, hypertable: Hypertable, rules: Rules) -> None:
        result = self.result
        grid = Grid(hypertable.time_type, hypertable.interval, [(c.lower, c.upper) for c in hypertable.chunks])
        cells = {
            (cell.lower, cell.upper): cell
            for window in result.windows
            if window.occupied
            for cell in cells_between(
                grid,
                window.span.upper - 1 if window.span.lower is None else window.span.lower,
                window.span.upper - 1,
                _MOST_CELLS,
            )
        }
        stretches = assign(rules, hypertable, cells.values(), result.windows)
        result.landings = Landings(self.spec.land, stretches, jobs=self.jobs)

    def match(self, hypertable: Hypertable, found: Manifest) -> tuple[MovedColumn, ...]:
        """The dump's columns, each with the column of the target that it goes into; by name, but for the time."""
        moved, problems = [], []
        for column in found.columns:
            name = hypertable.time_column if column["name"] == found.time_column else column["name"]
            theirs = hypertable.relation.column(name)
            if theirs is None:
                problems.append(f"the target has no column {quote_name(name)}")
                continue
            moved.append(MovedColumn(column["name"], name))
            if theirs.generated:
                problems.append(f"the target computes {quote_name(name)} itself")
            elif not theirs.insertable:
                problems.append(f"this role may not INSERT into column {quote_name(name)}")
            elif theirs.type != column["type"] and theirs.type not in _WIDER.get(column["type"].split("(")[0], ()):
                problems.append(
                    f"column {quote_name(name)} is {column['type']} in the dump and {theirs.type} on the target: "
                    "values could be refused, cut or rounded"
                )
        names = {column.target for column in moved}
        for theirs in hypertable.relation.columns:
            filled = theirs.name in names or theirs.generated or theirs.default_expression or theirs.identity
            if theirs.not_null and not filled:
                problems.append(f"the target's column {quote_name(theirs.name)} is NOT NULL, and nothing fills it")
        hint = "change the target, or dump other --columns, or a view that casts them"
        self.note([Finding("error", "columns", problem, hint) for problem in problems])
        return tuple(moved)

    def windows(self, hypertable: Hypertable, found: Manifest) -> Span:
        """The dump's range; its windows are taken over as they are."""
        result, time_type = self.result, hypertable.time_type
        if found.time_type != time_type.sql_name and time_type.sql_name not in _WIDER.get(found.time_type, ()):
            raise Refused(
                f"the dump's time column {quote_name(found.time_column)} is of type {found.time_type}, the "
                f"hypertable's {quote_name(hypertable.time_column)} of type {time_type.sql_name}"
            )
        try:
            spans = [
                Span(None if w.lower is None else time_type.ordinal(w.lower), time_type.ordinal(w.upper))
                for w in found.windows
            ]
            end = time_type.ordinal(found.end)
        except BoundError as error:
            raise Refused(f"the dump's manifest holds a bound that is none: {error}") from None
        result.windows = [
            PlannedWindow(span, window.rows, window.rows > 0) for span, window in zip(spans, found.windows, strict=True)
        ]
        result.start, result.end = found.start, found.end
        lower = None if found.start is None else time_type.ordinal(found.start)
        grid = Grid(time_type, hypertable.interval, [(c.lower, c.upper) for c in hypertable.chunks])
        result.missing_chunks = sum(
            1 for w in result.windows if w.occupied and w.span.lower is not None and not grid.exists(w.span.lower)
        )
        return Span(lower, end)

    def define(self, hypertable: Hypertable, found: Manifest, columns: tuple[MovedColumn, ...]) -> ledger.Definition:
        types = {c.name: c.type for c in hypertable.relation.columns}
        return ledger.Definition(
            hypertable=hypertable.relation.quoted,
            hypertable_oid=hypertable.relation.oid,
            source=f"dump {found.id}",
            source_relation=found.relation,
            time_type=hypertable.time_type.sql_name,
            time_column=hypertable.time_column,
            source_time_column=found.time_column,
            range_start=self.result.start,
            range_end=self.result.end,
            columns=[{"name": c.target, "type": types[c.target], "source": c.source} for c in columns],
            settings={"manifest": manifest.fingerprint(self.folder)},
            kind="dump",
        )
