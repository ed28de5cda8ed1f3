"""From FILEs and a hypertable to a load that is ready to run: looked at, checked, matched with the ledger, planned.

Writes nothing. All findings are collected before anything is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import psycopg

from hyperfill import (
    catalog,
    encode,
    ledger,
    loads,
    mapping,
    preflight,
    preflight_chunks,
    preflight_policies,
    preflight_rights,
    preflight_rows,
    session,
)
from hyperfill.archives import ArchiveError
from hyperfill.batch import FileFormat, LoadOrder
from hyperfill.catalog import Hypertable, Server, quote_name
from hyperfill.errors import Finding, Refused, first_line
from hyperfill.files import SeenFile, look, readable, same_content
from hyperfill.inputs import Inputs
from hyperfill.loaded_before import check_options, find_load, is_untouched
from hyperfill.plan import DEFAULT_WINDOW_ROWS, Grid, make_windows
from hyperfill.preparing import Preparation, Prepared, Stop
from hyperfill.session import Connection
from hyperfill.spec import LoadSpec
from hyperfill.sql import query
from hyperfill.survey import Axis, occupied_cells, survey
from hyperfill.timeline import Span
from hyperfill.window import MovedColumn, Order

_PINNED_TIMES = ("UTC", "ISO, YMD")


@dataclass
class PreparedLoad:
    """A load that is ready to run. `base` is what it has in common with every backfill."""

    base: Prepared
    files: list[SeenFile] = field(default_factory=list)
    columns: dict[int, tuple[str, ...]] = field(default_factory=dict)  # of each file, in the order of its fields
    load: LoadOrder | None = None
    encoding: str = ""  # why batches are not encoded on the client; empty if they are

    @property
    def formats(self) -> dict[int, FileFormat]:
        return {file.id: file.format(self.columns[file.id]) for file in self.files}


def prepare_load(spec: LoadSpec, inputs: Inputs, jobs: int) -> PreparedLoad:
    """Check everything and plan, without writing anything."""
    return _Preparation(spec, inputs, jobs).run()


class _Preparation(Preparation[LoadSpec]):
    """The steps, in order; each adds findings."""

    def __init__(self, spec: LoadSpec, inputs: Inputs, jobs: int) -> None:
        name = "standard input" if inputs.stdin else readable(inputs.files[0].absolute())
        if len(inputs.files) > 1:
            name = f"{name} and {len(inputs.files) - 1} more"
        super().__init__(spec, jobs, name)
        self.inputs = inputs
        self.found = PreparedLoad(self.result)

    def run(self) -> PreparedLoad:
        with ExitStack() as stack:
            try:
                target = self.attempt("connect", lambda: session.connect(self.spec.target, "target"))
                files = self.attempt("file", lambda: look(self.inputs, self.spec))
                self.found.files = files or []
                if target:
                    stack.callback(target.close)
                    self.check(target)
            except Stop:
                pass
            except psycopg.Error as error:
                self.note([Finding("error", "server", f"{first_line(error)} (SQLSTATE {error.sqlstate or 'none'})")])
        return self.found

    def check(self, target: Connection) -> None:
        spec, result, files = self.spec, self.result, self.found.files
        server = catalog.read_server(target)
        self.result.versions = {"target": server.versions}
        self.note(preflight.target_server(server, self.jobs, target))
        name = spec.hypertable or ""
        hypertable = self.attempt("hypertable", lambda: self.read_target(target, server, name, "--hypertable"))
        self.attempt("ledger", lambda: ledger.exists(target))
        if hypertable is None:
            raise Stop
        result.time_type = hypertable.time_type
        end = spec.end
        span = self.attempt("bound", lambda: self.read_span(target, hypertable, end)) if end is not None else None
        self.note(preflight_rights.target_rights(target, hypertable))
        found_triggers, triggers = preflight_rights.triggers_and_keys(target, hypertable, spec.replace)
        unwanted = {"triggers"} if spec.triggers == "off" else set()
        unwanted |= {"referenced"} if span is None else set()  # nothing is deleted
        self.note([f for f in found_triggers if f.code not in unwanted])
        self.attempt("columns", lambda: self.match_columns(target, hypertable))
        self.attempt("csv", lambda: self.check_dialect(target))
        if result.errors or not files:
            raise Stop
        if end is not None and span is None:
            raise Stop
        if span is not None and span.is_empty:
            result.empty = True
            return
        everything = Span(None, hypertable.time_type.maximum + 1)
        seen = span or everything
        self.look(lambda: preflight_chunks.check(target, server, hypertable, seen, spec, result.shape))
        self.look(lambda: preflight_policies.chunks(target, hypertable, seen))
        self.look(lambda: self.policies(target, server, hypertable))
        self.look(lambda: self.retention_of(target, hypertable, span))
        if span is not None:
            self.look(lambda: preflight.locks(target, server, hypertable, self.jobs))
        if spec.on_conflict == "skip" or (span is not None and triggers.any):
            self.look(lambda: self.staging(target, server, hypertable))
        if not self.inputs.resumable:
            self.note([Finding("warning", "stream", _STREAM)])
        columns = tuple(MovedColumn(name, name) for name in self.found.columns[files[0].id])
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
            triggers_off=spec.triggers == "off",
        )
        self.look(lambda: preflight_rows.sequences(columns, hypertable, spec.sync_sequences))
        times = self.times(target)
        result.definition = self.define(hypertable, times)
        self.note(preflight.representable(target, result.definition))
        if not result.errors and ledger.exists(target):
            result.entry = self.attempt("ledger", lambda: self.find(target))
            self.forget_policies()
        if span is not None and result.entry is None:
            self.look(lambda: self.overlap(target, server, hypertable, axis, span))
        self.choose(hypertable, span, times)

    def find(self, target: Connection) -> ledger.Entry | None:
        """The load that this command means. One that is finished must have brought these files byte by byte."""
        result, definition = self.result, self.result.definition
        assert definition is not None
        while (entry := find_load(target, result)) is not None and entry.finished:
            if is_untouched(entry, definition) or self.spec.limit is not None:
                check_options(entry, definition)
                break
            done = loads.done(target, entry.id)
            try:
                if same_content(self.found.files, done):
                    check_options(entry, definition)
                    break
            except ArchiveError as error:
                raise Refused(error.message, hint=error.hint) from None
            result.unlike.add(entry.id)
        return entry

    # -- columns -----------------------------------------------------------------------------------------------

    def match_columns(self, target: Connection, hypertable: Hypertable) -> None:
        """Which column of the target each field of each file goes into. Raises `Refused`."""
        relation = hypertable.relation
        insertable = [c for c in relation.columns if not c.generated]
        listed = catalog.parse_columns(target, self.spec.columns) if self.spec.columns else None
        for file in self.found.files:
            if file.names is not None:
                names = self.header_columns(file)
            elif listed is not None:
                names = listed
            else:
                names = [c.name for c in insertable]
            self.found.columns[file.id] = tuple(names)
            problems = self.problems_of(hypertable, file, names)
            if problems:
                raise Refused("; ".join(problems), hint=_hint_of(relation.columns, file))

    def header_columns(self, file: SeenFile) -> list[str]:
        assert file.names is not None
        if self.spec.mapping is None:
            return file.names
        known = dict(self.spec.mapping)
        missing = [name for name in file.names if name not in known]
        if missing:
            raise Refused(
                f"{file.path}: --map says nothing of {', '.join(map(repr, missing))}",
                hint="name a column of the target for every column of the file",
            )
        return [known[name] for name in file.names]

    def problems_of(self, hypertable: Hypertable, file: SeenFile, names: Sequence[str]) -> list[str]:
        relation, problems = hypertable.relation, []
        for name in names:
            column = relation.column(name)
            if column is None:
                problems.append(f"{relation.quoted} has no column {quote_name(name)}")
            elif column.generated:
                problems.append(f"{quote_name(name)} is generated: the target computes it")
            elif not column.insertable:
                problems.append(f"this role may not INSERT into column {quote_name(name)}")
        doubled = sorted({n for n in names if list(names).count(n) > 1})
        problems += [f"{quote_name(name)} would be filled twice" for name in doubled]
        for column in relation.columns:
            unfilled = column.name not in names and not (column.default_expression or column.identity)
            if unfilled and column.not_null and not column.generated:
                problems.append(f"{quote_name(column.name)} is NOT NULL, has no default, and is not in the file")
        if hypertable.time_column not in names and self.spec.end is not None:
            problems.append(f"the time column {quote_name(hypertable.time_column)} is not in the file")
        return [f"{file.path}: {problem}" for problem in problems]

    def check_dialect(self, target: Connection) -> None:
        """Raise `Refused` for an encoding or columns that COPY would not know."""
        dialect = self.spec.dialect
        if not preflight.row(target, "load/knows_encoding", encoding=dialect.encoding)[0]:
            raise Refused(
                f"the server knows no encoding {dialect.encoding!r}",
                hint="it knows UTF8, LATIN1, WIN1252 and others",
            )
        for name in dialect.force_null + dialect.force_not_null:
            if any(name not in columns for columns in self.found.columns.values()):
                raise Refused(f"{quote_name(name)} is no column of the files, and cannot be forced to be NULL or not")

    # -- what else is known beforehand ---------------------------------------------------------------------------

    def retention_of(self, target: Connection, hypertable: Hypertable, span: Span | None) -> list[Finding]:
        entry, policies = self.result.entry, self.result.policies
        if entry is not None and entry.finished:
            return []
        if span is not None:
            first = [] if span.lower is None else [span]
            return preflight_policies.retention(target, policies, hypertable, span, first, self.spec)
        jobs = [j for j in policies.jobs if j.kind == "retention" and (j.scheduled or policies.hold_of(j))]
        text = "drops what is older than its cutoff as soon as it is turned on again, whatever the files bring"
        return [Finding("warning", "retention", f"the {job} {text}") for job in jobs]

    def staging(self, target: Connection, server: Server, hypertable: Hypertable) -> list[Finding]:
        """Whether rows can go through a temporary table, where they have to."""
        dropping = [
            quote_name(str(row[0]))
            for row in target.execute(query("load/before_triggers"), {"oid": hypertable.relation.oid}).fetchall()
        ]
        if dropping and self.spec.on_conflict == "skip" and self.spec.triggers == "fire":
            return [
                Finding(
                    "error",
                    "triggers",
                    f"--on-conflict skip: a row that a trigger drops ({', '.join(dropping)}) could not be told from "
                    "one that is there already",
                    hint="--triggers off, or drop the rows before",
                )
            ]
        if preflight.row(target, "load/may_stage")[0]:
            return []
        role, database = quote_name(server.user), quote_name(server.database)
        return [
            Finding(
                "error",
                "rights",
                f"role {role} may not make temporary tables; --on-conflict skip needs them, and a range on a table "
                "with triggers",
                hint=f"GRANT TEMPORARY ON DATABASE {database} TO {role};",
            )
        ]

    def times(self, target: Connection) -> tuple[str, str]:
        """Zone and date style in which times of the files are read."""
        spec = self.spec
        zone, style = preflight.row(target, "load/times_of_database")
        zone = spec.time_zone if spec.time_zone is not None else str(zone)
        order = str(style).rpartition(",")[2].strip() or "MDY"
        return zone, spec.date_style if spec.date_style is not None else f"ISO, {order}"

    def define(self, hypertable: Hypertable, times: tuple[str, str]) -> ledger.Definition:
        spec, files = self.spec, self.found.files
        types = {c.name: c.type for c in hypertable.relation.columns}
        return ledger.Definition(
            hypertable=hypertable.relation.quoted,
            hypertable_oid=hypertable.relation.oid,
            source="files",
            source_relation=self.result.table,
            time_type=hypertable.time_type.sql_name,
            time_column=hypertable.time_column,
            source_time_column=hypertable.time_column,
            range_start=self.result.start,
            range_end=self.result.end or None,
            columns=[
                {"name": name, "type": types[name], "file": file.id}
                for file in self.differing()
                for name in self.found.columns[file.id]
            ],
            settings={
                "files": [file.identity for file in files],
                "csv": spec.dialect.as_json(),
                "header": spec.header or spec.mapping is not None,
                "skip_lines": spec.skip_lines + spec.skip_header,
                "limit": spec.limit,
                "batch_bytes": spec.batch_bytes,
                "batch_rows": spec.batch_rows,
                "time_zone": times[0],
                "date_style": times[1],
                "import_id": spec.import_id,
                "forget": spec.forget,
            },
            kind="load",
        )

    def differing(self) -> list[SeenFile]:
        """The files whose columns are others than those of the file before; usually the first alone."""
        columns = [self.found.columns[file.id] for file in self.found.files]
        return [f for i, f in enumerate(self.found.files) if i == 0 or columns[i] != columns[i - 1]]

    def overlap(
        self, target: Connection, server: Server, hypertable: Hypertable, axis: Axis, span: Span
    ) -> list[Finding]:
        """What the range holds, which is deleted before the files are loaded; and the windows in which it is."""
        result, spec = self.result, self.spec
        names = {name for columns in self.found.columns.values() for name in columns}
        only = tuple(c for c in hypertable.relation.columns if c.name not in names and not c.generated)
        filled = mapping.Mapping(tuple(MovedColumn(n, n) for n in sorted(names)), False, only)
        found, result.overlap_rows, result.overlap_exact = preflight_rows.overlap(
            target, axis, hypertable, span, filled, spec, "they are deleted before the files are loaded"
        )
        estimates = [file.estimate for file in self.found.files]
        expected = sum(e for e in estimates if e is not None)
        if None not in estimates and result.overlap_rows > max(expected * 1.1, 1) and not spec.replace:
            found.append(
                Finding(
                    "error",
                    "fewer",
                    f"the target has {result.overlap_rows:,} rows in the range, and the files only about {expected:,}: "
                    "deleting them would lose rows",
                    hint="choose --start and --end as the files are, or go on with --replace",
                )
            )
        seen = survey(target, server, axis, span, hypertable.interval)
        grid = Grid(hypertable.time_type, hypertable.interval, [(c.lower, c.upper) for c in hypertable.chunks_in(span)])
        cells = occupied_cells(target, seen, grid)
        result.windows = make_windows(
            span, grid, cells, seen.density, max_rows=DEFAULT_WINDOW_ROWS, step=None, merge=False
        )
        return found

    def choose(self, hypertable: Hypertable, span: Span | None, times: tuple[str, str]) -> None:
        """Where batches are encoded, and everything else that a worker needs to know."""
        spec, result, found = self.spec, self.result, self.found
        assert result.order is not None
        if spec.encode == "server":
            found.encoding = "--encode server"
        else:
            known = {c.name: c for c in hypertable.relation.columns}
            reasons = [
                encode.why_not([known[name] for name in names], spec.dialect) for names in found.columns.values()
            ]
            found.encoding = next((r for r in [*reasons, encode.available()] if r), "")
            if found.encoding and spec.encode == "client":
                self.note([Finding("error", "encode", f"--encode client: {found.encoding}")])
        found.load = LoadOrder(
            order=result.order,
            dialect=spec.dialect,
            files=found.formats,
            span=span,
            outside=spec.outside,
            on_conflict=spec.on_conflict,
            max_rejects=spec.max_rejects,
            encode=not found.encoding,
            time_zone=times[0],
            date_style=times[1],
            sets_times=times != _PINNED_TIMES,
        )


_STREAM = (
    "standard input and pipes cannot be read again: if this load is interrupted it cannot be resumed; with --start and "
    "--end the same command then clears the range and begins anew, without them its rows must be removed by hand"
)


def _hint_of(columns: Sequence[Any], file: SeenFile) -> str:
    names = ", ".join(quote_name(c.name) for c in columns if not c.generated)
    said = f"the file has {', '.join(map(repr, file.names))}; " if file.names is not None else ""
    return f"{said}the table has {names}; --header, --columns or --map say which is which, with the names in their case"
