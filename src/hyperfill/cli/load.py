"""`hyperfill load`: parse, call, print."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from hyperfill.cli.options import (
    AcceptRetention,
    Jobs,
    Json,
    Target,
    Triggers,
    build_limits,
    option,
    quantity,
    require_target,
)
from hyperfill.cli.output import findings_lines, observer, print_json, say
from hyperfill.dialect import Dialect
from hyperfill.errors import Refused, UsageError, blamed
from hyperfill.kinds import KINDS, parse_kinds
from hyperfill.quantities import parse_size
from hyperfill.signals import Signals
from hyperfill.spec import Land, Limits, LoadSpec

if TYPE_CHECKING:
    from hyperfill.inputs import Inputs
    from hyperfill.loading import LoadReport
    from hyperfill.prepare_load import PreparedLoad


@Parameter(name="*")
@dataclass(kw_only=True)
class LoadOptions:
    """Options of load."""

    target: Target = None
    hypertable: Annotated[str | None, option("hypertable", "SCHEMA.TABLE on the target, quoted as in SQL.")] = None
    start: Annotated[
        str | None, option("start", "Lower bound of the range, inclusive. Needs --end.", allow_leading_hyphen=True)
    ] = None
    end: Annotated[
        str | None,
        option(
            "end",
            "Upper bound of the range, exclusive. What the target holds in the range is deleted first. Without a range "
            "nothing is deleted.",
            allow_leading_hyphen=True,
        ),
    ] = None
    header: Annotated[
        bool | None, option("header", "The first row names the target's columns, in their case.", negative="")
    ] = None
    columns: Annotated[
        str | None, option("columns", "The columns of files without a header: A,B, quoted as in SQL. Default: all.")
    ] = None
    map: Annotated[
        str | None, option("map", "Names in the header and the target's columns: csv:db,csv2:db2, or a JSON object.")
    ] = None
    delimiter: Annotated[
        str | None, option("delimiter", "Between fields; tab or \\t for a tabulator.", allow_leading_hyphen=True)
    ] = None
    quote: Annotated[str | None, option("quote", 'Around fields. Default: ".')] = None
    escape: Annotated[str | None, option("escape", "Before a quote inside quotes. Default: the quote.")] = None
    null: Annotated[
        str | None, option("null", "What stands for NULL, unquoted. Default: nothing.", allow_leading_hyphen=True)
    ] = None
    encoding: Annotated[
        str | None, option("encoding", "Encoding of the files, by the server's name. Default: UTF8; never guessed.")
    ] = None
    time_zone: Annotated[str | None, option("time-zone", "Of times that are written without one. Default: UTC.")] = None
    date_style: Annotated[
        Literal["YMD", "DMY", "MDY"] | None,
        option("date-style", "Order of dates that are not ISO. Default: YMD; others are then errors."),
    ] = None
    skip_lines: Annotated[int | None, option("skip-lines", "Lines before anything else that are left out.")] = None
    limit: Annotated[int | None, option("limit", "Load only so many rows, of all files together.")] = None
    outside: Annotated[
        Literal["error", "skip"] | None,
        option("outside", "Rows outside of the range: an error with their lines, or left out. Default: error."),
    ] = None
    on_conflict: Annotated[
        Literal["error", "skip"] | None,
        option("on-conflict", "Rows whose key is there already: an error, or left out. Default: error."),
    ] = None
    max_rejects: Annotated[
        int | None, option("max-rejects", "Go on without rows that the target does not take, up to so many.")
    ] = None
    rejects: Annotated[
        Path | None, option("rejects", "Write rejected rows with place and reason here, and as they were to FILE.rows.")
    ] = None
    encode: Annotated[
        Literal["auto", "client", "server"] | None,
        option(
            "encode", "Who reads the values of CSV: the client where it can (needs hyperfill[arrow]), or the server."
        ),
    ] = None
    jobs: Jobs = None
    batch_size: Annotated[
        str | None, option("batch-size", "Bytes of a file that are one transaction, e.g. 32MB. Default: 8MiB.")
    ] = None
    replace: Annotated[
        bool | None,
        option(
            "replace",
            "Go on where another load or backfill filled the range, or the files have fewer rows.",
            negative="",
        ),
    ] = None
    again: Annotated[bool | None, option("again", "Load anew what a finished load brought.", negative="")] = None
    sync_sequences: Annotated[
        bool | None, option("sync-sequences", "Move sequences behind loaded columns forward at the end.", negative="")
    ] = None
    hold: Annotated[
        str | None, option("hold", "Policies to turn off meanwhile: compression, retention, refresh, reorder, or none.")
    ] = None
    accept_retention: AcceptRetention = None
    land: Annotated[
        Land | None, option("land", "Of a dump: how chunks end, as in run: auto, compressed or plain. Default: auto.")
    ] = None
    recompress: Annotated[
        bool | None, option("recompress", "Compress chunks again that were compressed before. Default: yes.")
    ] = None
    refresh_caggs: Annotated[
        bool | None, option("refresh-caggs", "Refresh the continuous aggregates of what was loaded. Default: yes.")
    ] = None
    triggers: Triggers = None
    max_rate: Annotated[
        str | None, option("max-rate", "Bytes per second over all workers, e.g. 20MB, to spare the target.")
    ] = None
    max_duration: Annotated[
        str | None, option("max-duration", "Start no batch after this time, e.g. 90m; exit code 4 if some are left.")
    ] = None
    retry_for: Annotated[
        str | None,
        option("retry-for", "Try a batch, or a lost connection, again for so long before it fails. Default: 2m."),
    ] = None
    stall_timeout: Annotated[
        str | None,
        option(
            "stall-timeout",
            "Give a server up that takes nothing for so long while rows are sent, and try the batch again; 0: never. "
            "Default: 10m.",
        ),
    ] = None
    json: Json = False

    def spec(self, files: tuple[str, ...]) -> LoadSpec:
        """What is asked for. Raises `UsageError`."""
        given = {k: v for k, v in self.__dict__.items() if v is not None}
        target = require_target(self.target)
        if not files:
            raise UsageError(
                "no FILE is given", hint="name files, globs, the folder of a dump, or - for standard input"
            )
        for name, value in given.items():
            # An unset variable of a script must not change what is loaded. An empty bound is refused as a bound.
            if value == "" and name not in ("target", "start", "end", "null"):
                raise UsageError(f"--{name.replace('_', '-')} is empty: leave it out, or say what you mean")
        if self.start is not None and self.end is None:
            raise UsageError("--start needs --end: the range to be cleared and loaded")
        said = [f"--{n}" for n in ("header", "columns", "map") if given.get(n)]
        if len(said) > 1:
            raise UsageError(f"{' and '.join(said)} exclude each other: each says what the columns are")
        for name in ("skip_lines", "limit", "max_rejects"):
            if (value := given.get(name)) is not None and value < 0:
                raise UsageError(f"--{name.replace('_', '-')} must not be negative, and is {value}")
        if self.rejects is not None and not self.max_rejects:
            raise UsageError("--rejects needs --max-rejects: how many rows may be left out")
        size = quantity("--batch-size", parse_size, self.batch_size) if self.batch_size else 8 << 20
        names = "again replace sync_sequences accept_retention land recompress refresh_caggs triggers"
        plain = "start end columns outside on_conflict encode time_zone skip_lines limit max_rejects rejects"
        return LoadSpec(
            target=target,
            hypertable=self.hypertable,
            files=files,
            dialect=self.dialect(),
            header=bool(self.header),
            mapping=parse_map(self.map) if self.map else None,
            hold=parse_kinds(self.hold) if self.hold is not None else KINDS,
            date_style=f"ISO, {self.date_style or 'YMD'}",
            batch_bytes=max(1, int(size)),
            **{name: given[name] for name in f"{names} {plain}".split() if name in given},
        )

    def dialect(self) -> Dialect:
        delimiter = {"tab": "\t", "\\t": "\t"}.get(self.delimiter or "", self.delimiter)
        chosen: dict[str, Any] = {
            "delimiter": delimiter,
            "quote": self.quote,
            "escape": self.escape,
            "null": self.null,
            "encoding": self.encoding,
        }
        return Dialect(**{k: v for k, v in chosen.items() if v is not None})

    def limits(self) -> Limits:
        return build_limits(self.__dict__)


def parse_map(text: str) -> tuple[tuple[str, str], ...]:
    """Pairs of a name in the file and a column: ``csv:db,csv2:db2`` or a JSON object. Raises `UsageError`."""
    pairs: list[tuple[str, str]] = []
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text, object_pairs_hook=list)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the mapping is no JSON object: {error}") from None
        if not isinstance(found, list) or not all(isinstance(v, str) for _, v in found):
            raise UsageError('the mapping must be a JSON object of texts: {"in the file": "column"}')
        pairs = [(str(k), v) for k, v in found]
    else:
        for part in text.split(","):
            if not part.strip():
                continue
            names = [name.strip() for name in part.split(":")]
            if len(names) != 2 or not all(names):
                raise UsageError(
                    f"the mapping {part.strip()!r} is not csv:db", hint="names with , or : need a JSON object"
                )
            pairs.append((names[0], names[1]))
    for name in {k for k, _ in pairs}:
        if sum(k == name for k, _ in pairs) > 1:
            raise UsageError(f"the mapping names {name!r} twice")
    if not pairs:
        raise UsageError("the mapping is empty")
    return tuple(pairs)


def check_rejects(path: Path | None, files: Sequence[Path]) -> None:
    """Raise `UsageError` where rejected rows could not be written, or would overwrite what is read."""
    if path is None:
        return
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"--rejects {path}: {path.parent} is no folder that can be written to")
    for place in (path, path.resolve().with_name(path.resolve().name + ".rows")):
        if place.exists() and not place.is_file():
            raise UsageError(f"--rejects {place} is no file")
        if place.exists() and any(place.samefile(file) for file in files):
            raise UsageError(f"--rejects {place} is one of the files to load")


def load(options: LoadOptions, files: tuple[str, ...], *, dry_run: bool) -> int:
    """Load files; the exit code."""
    from hyperfill.inputs import expand

    unknown = [name for name in files if name.startswith("-") and name != "-"]
    if unknown:
        raise UsageError(f"unknown option {unknown[0]}", hint="a file of that name is written ./" + unknown[0])
    watcher = observer()
    with Signals() as signals:
        spec, limits = options.spec(files), options.limits()
        inputs = expand(files)
        check_rejects(spec.rejects, inputs.files)
        try:
            if inputs.dump is not None:
                return _load_dump(spec, inputs.dump, limits, options, dry_run, watcher, signals)
            if options.land is not None:
                raise UsageError(
                    "--land is for the folder of a dump: batches of other files do not fill chunks one by one"
                )
            if spec.hypertable is None:
                raise UsageError("--hypertable is required: SCHEMA.TABLE on the target")
            if dry_run:
                return _plan(spec, inputs, limits, options)
            from hyperfill.loading import load as carry_out

            report = carry_out(spec, inputs, limits, watcher, signals)
        finally:
            watcher.stop()
    if options.json:
        print_json(report.as_json())
    else:
        print_report(report, spec)
    return report.exit_code


def print_report(report: LoadReport, spec: LoadSpec) -> None:
    """What became of a load, for people."""
    from hyperfill.quantities import duration, human_bytes

    entry, base = report.entry, report.prepared.base
    if report.state == "nothing" or entry is None:
        say(f"{base.table}: nothing to do. {report.findings[-1].message}")
        return
    speed = f", {report.rows_here / report.seconds:,.0f} rows/s" if report.seconds else ""
    say(f"{base.table} → {base.hypertable}, {entry.bounds}: {report.state}")
    say(f"  {entry.batches:,} batches, {human_bytes(entry.bytes_copied)}, {duration(report.seconds)}{speed}")
    say(
        f"  {entry.rows_read:,} rows read = {entry.rows_copied:,} copied + {entry.rows_skipped:,} skipped as conflict"
        f" + {entry.rows_outside:,} outside the range + {entry.rows_rejected:,} rejected"
    )
    if entry.rows_deleted:
        say(f"  {entry.rows_deleted:,} rows of the range were deleted before")
    if entry.rows_rejected and spec.rejects is None:
        say("  rejected rows are in the ledger; run the same command again with --rejects FILE to have them written")
    for line in findings_lines([f for f in report.findings if f not in base.findings]):
        say(line)
    for failed in report.failed[:10]:
        say(f"  failed{blamed(failed)}: {failed.get('message')}")
        if failed.get("hint"):
            say(f"    {failed['hint']}")
    if report.state == "incomplete" and not any(f.code == "load" for f in report.findings):
        say("  run the same command again to continue" if not report.failed else "  mend that, and run it again")


def _plan(spec: LoadSpec, inputs: Inputs, limits: Limits, options: LoadOptions) -> int:
    from hyperfill.prepare_load import prepare_load

    prepared = prepare_load(spec, inputs, limits.jobs)
    if options.json:
        print_json(plan_json(prepared))
    else:
        for line in plan_lines(prepared):
            print(line)
    return Refused.exit_code if prepared.base.errors else 0


def plan_json(prepared: PreparedLoad) -> dict[str, Any]:
    """What a load would do, as one object."""
    base = prepared.base
    finished = base.empty or (base.entry is not None and base.entry.finished)
    state = "refused" if base.errors else "nothing" if finished else "resume" if base.entry else "planned"
    return {
        "backfill": base.entry.id if base.entry else None,
        "state": state,
        "hypertable": base.hypertable,
        "start": (base.start or "-infinity") if base.end else None,
        "end": base.end or None,
        "files": [
            {
                "path": file.path,
                "size": file.size,
                "rows_estimated": file.estimate,
                "columns": list(prepared.columns.get(file.id, ())),
                "line_end": {b"\n": "LF", b"\r\n": "CRLF", b"\r": "CR"}[file.eol],
            }
            for file in prepared.files
        ],
        "rows_to_delete": base.overlap_rows,
        "rows_to_delete_exact": base.overlap_exact,
        "windows": len(base.windows),
        "encode": "server" if prepared.encoding or prepared.load is None else "client",
        "encode_reason": prepared.encoding or None,
        "policies": base.policies.as_json(),
        **base.shape.as_json(),
        "findings": [f.as_json() for f in base.findings],
    }


def plan_lines(prepared: PreparedLoad) -> list[str]:
    """The same for people."""
    from hyperfill.quantities import human_bytes

    found = plan_json(prepared)
    span = f"[{found['start']}, {found['end']})" if found["end"] else "no range: nothing is deleted"
    lines = [f"{prepared.base.table} → {found['hypertable']}, {span}: {found['state']}"]
    for file in found["files"]:
        size = human_bytes(file["size"]) if file["size"] is not None else "unknown size"
        rows = f"about {file['rows_estimated']:,} rows" if file["rows_estimated"] is not None else "rows unknown"
        lines.append(f"  {file['path']}: {size}, {rows}, {file['line_end']}, columns {', '.join(file['columns'])}")
    if found["end"]:
        about = "" if found["rows_to_delete_exact"] else "about "
        lines.append(f"  deleted before: {about}{found['rows_to_delete']:,} rows, in {found['windows']:,} windows")
    why = f" ({found['encode_reason']})" if found["encode_reason"] else ""
    lines.append(f"  values are read by the {found['encode']}{why}")
    lines += [f"  {line}" for line in prepared.base.policies.lines()]
    return lines + findings_lines(prepared.base.findings)


def _load_dump(
    spec: LoadSpec, folder: Path, limits: Limits, options: LoadOptions, dry_run: bool, watcher: Any, signals: Signals
) -> int:
    from hyperfill import backfill
    from hyperfill.cli.move import print_outcome
    from hyperfill.cli.plan_view import plan_json as json_of
    from hyperfill.cli.plan_view import plan_text
    from hyperfill.prepare_from_dump import prepare_dump, refuse_options

    refuse_options(spec)
    started = time.monotonic()
    prepared = prepare_dump(spec, folder, limits.jobs)
    if dry_run:
        if options.json:
            print_json(json_of(prepared, limits))
        else:
            print(plan_text(prepared, limits))
        return Refused.exit_code if prepared.errors else 0
    outcome = backfill.carry_out([prepared], limits, watcher, signals, started)
    watcher.stop()
    print_outcome(outcome, as_json=options.json)
    return outcome.exit_code
