"""`hyperfill copy`: the command line of timescaledb-parallel-copy, carried out as a load."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperfill import __version__
from hyperfill.cli.load import parse_map
from hyperfill.cli.output import say
from hyperfill.copy_flags import CONNECTION, CopyFlags, go_duration, parse, usage
from hyperfill.errors import Finding, HyperfillError, Refused, UsageError
from hyperfill.quantities import counted
from hyperfill.signals import Signals
from hyperfill.spec import Limits, LoadSpec

if TYPE_CHECKING:
    from hyperfill.loading import LoadReport
    from hyperfill.progress import Level, Reading, Snapshot

_NOTES = {
    "enable_client_side_sorting": "-enable-client-side-sorting has no effect: rows are loaded as they come",
    "no_retry": "-no-retry has no effect: trying a batch again never loads a row twice",
    "retry_timeout": "-retry-timeout has no effect: what may pass is tried again for two minutes",
}


def copy(tokens: Sequence[str]) -> int:
    """Carry out a command line; the exit code."""
    flags = parse(tokens)
    if flags.help:
        print(usage())
        return 0
    if flags.version:
        say(f"hyperfill {__version__}, with the flags of timescaledb-parallel-copy 0.13")
        return 0
    try:
        flags.check()
        return _copy(flags)
    except HyperfillError as error:
        # What a load says is in the words of `hyperfill load`.
        error.message = worded(error.message)
        error.hint = worded(error.hint) if error.hint else None
        raise


def _copy(flags: CopyFlags) -> int:
    from hyperfill.inputs import expand

    reporter = Reporter(flags)
    with Signals() as signals:
        spec = build_spec(flags)
        inputs = expand(spec.files)
        if inputs.dump is not None:
            raise UsageError(f"{flags.file} is the folder of a dump", hint="hyperfill load loads it")
        for name, text in _NOTES.items():
            if name in flags.given and getattr(flags, name):
                reporter.log(text, "warning")
        if "import_id" in flags.given and not flags.import_id:
            reporter.log("-import-id is empty: this is no import, and another call loads all rows again", "warning")
        from hyperfill.loading import load

        try:
            report = load(spec, inputs, Limits(flags.workers), reporter, signals)
        finally:
            reporter.stop()
    if flags.log_batches:
        _log_batches(spec, report, reporter)
    return _result(report, flags, reporter)


# -- what is asked for -------------------------------------------------------------------------------------------


def build_spec(flags: CopyFlags) -> LoadSpec:
    """The load that the flags mean. Raises `UsageError`, and `Refused` where the target must be asked and cannot."""
    from hyperfill.session import parse_conninfo

    conninfo = connection(flags, os.environ)
    try:
        parameters = parse_conninfo(conninfo, "target")
    except UsageError as error:
        error.hint = f"{error.hint}; parameters are libpq's, settings of the server are options='-c name=value'"
        raise
    encoding = parameters.get("client_encoding", "auto")
    dialect = flags.dialect("UTF8" if encoding == "auto" else encoding)
    mapping = parse_map(flags.column_mapping) if flags.column_mapping else None
    return LoadSpec(
        target=conninfo,
        hypertable=_hypertable(conninfo, flags),
        files=(flags.file or "-",),
        dialect=dialect,
        header=flags.auto_column_mapping,
        columns=flags.columns or None,
        mapping=mapping,
        skip_lines=flags.skip_lines,
        skip_header=flags.skip_header,
        on_conflict="skip" if flags.on_conflict_do_nothing else "error",
        # Times are read as the database says, and policies, aggregates and compression are left alone, as there.
        time_zone=None,
        date_style=None,
        hold=(),
        recompress=False,
        refresh_caggs=False,
        batch_bytes=flags.batch_byte_size,
        # Where a bad row takes its whole batch with it, batches are as small as the other tool's.
        batch_rows=flags.batch_size or (5000 if flags.skip_batch_errors else None),
        limit=flags.limit or None,
        import_id=flags.import_id or None,
        skip_batch_errors=flags.skip_batch_errors,
        truncate=flags.truncate,
        forget=not flags.import_id,
    )


def connection(flags: CopyFlags, environment: Mapping[str, str]) -> str:
    """The conninfo. The default stands behind PG* variables: it says where they say nothing."""
    if "connection" in flags.given or environment.get("PGSERVICE"):
        return flags.connection if "connection" in flags.given else ""
    says = {"host": ("PGHOST", "PGHOSTADDR"), "user": ("PGUSER",)}
    parts = [part.partition("=") for part in CONNECTION.split()]
    return " ".join(f"{k}={v}" for k, _, v in parts if not any(environment.get(name) for name in says[k]))


def _hypertable(conninfo: str, flags: CopyFlags) -> str:
    """The table in SQL's quotes: its exact name if there is such a table, otherwise as SQL reads names."""
    from hyperfill import catalog, session

    exact = f"{catalog.quote_name(flags.schema)}.{catalog.quote_name(flags.table)}"
    if not set('."') & set(flags.table):
        return exact
    with session.connect(conninfo, "target") as target:
        try:
            return catalog.resolve(target, exact, "target", "-table").quoted
        except Refused:
            parts = catalog.parse_name(target, flags.table)
    if len(parts) == 1:
        parts = [flags.schema, *parts]
    elif "schema" in flags.given and parts[-2] != flags.schema:
        raise UsageError(f"-table {flags.table} is in schema {parts[-2]}, and -schema says {flags.schema}")
    return ".".join(map(catalog.quote_name, parts))


# -- what is said ------------------------------------------------------------------------------------------------

_WORDS = {
    "on-conflict skip": "-on-conflict-do-nothing",
    "hypertable": "-table",
    "columns": "-columns",
    "map": "-column-mapping",
    "header": "-auto-column-mapping",
    "delimiter": "-split",
    "quote": "-quote",
    "escape": "-escape",
    "null": "-copy-options NULL",
    "encoding": "-copy-options ENCODING",
    "import-id": "-import-id",
    "jobs": "-workers",
    "target": "-connection",
}


def worded(text: str) -> str:
    """A sentence about options of `hyperfill load` with the flags that stand for them here."""
    if "--date-style" in text:
        return "times are read in the DateStyle and TimeZone of the database and the role"
    return re.sub(rf"--({'|'.join(_WORDS)})(?![a-z-])", lambda m: _WORDS[m[1]], text)


class Reporter:
    """The observer: lines on stderr that begin with the time, as there."""

    def __init__(self, flags: CopyFlags) -> None:
        self._verbose = flags.verbose
        self._import = bool(flags.import_id)
        self._period = float(flags.reporting_period)
        self.wants_snapshots = self._period > 0
        self._started = self._said = time.monotonic()
        self._before: int | None = None  # rows that former runs have loaded
        self._previous = 0
        self._latest: Snapshot | None = None
        if self._period:
            self.say(f"There will be reports every {go_duration(self._period)}")

    def log(self, text: str, level: Level = "info") -> None:
        if level != "info" or self._verbose:
            front = "" if level == "info" else f"{level}: "
            self.say(front + worded(text).replace("\n", "\n  "))

    def findings(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            text, hint = finding.message, finding.hint
            serious = finding.severity == "error" or self._verbose
            if finding.code == "stream":
                # Every call without -import-id begins anew anyway.
                serious = serious or self._import
                text = "standard input cannot be read again: if this load is interrupted it cannot be resumed"
            elif finding.code == "policies":
                text = text.replace(" (--hold)", "")  # as there: nobody asked for anything else
            else:
                serious = serious or finding.severity == "warning"
            if serious:
                self.log(f"{text}\n{hint}" if hint else text, _LEVELS[finding.severity])

    def show(self, snapshot: Snapshot) -> None:
        self._latest = snapshot
        if self._before is None:
            self._before = snapshot.rows if any(e.runs > 1 for e in snapshot.entries) else 0
        if snapshot.taken - self._said >= self._period:
            self._report(snapshot)

    def reading(self, reading: Reading) -> None:
        """A load compares nothing."""

    def stop(self) -> None:
        if self._latest is not None:
            self._report(self._latest)
            self._latest = None

    def _report(self, snapshot: Snapshot) -> None:
        """A line in the words of timescaledb-parallel-copy, of rows that are committed."""
        now = snapshot.taken
        inserted = snapshot.rows - (self._before or 0)
        period, overall = max(now - self._said, 1e-3), max(now - self._started, 1e-3)
        read, skipped = (sum(getattr(e, name) for e in snapshot.entries) for name in ("rows_read", "rows_skipped"))
        self.say(
            f"({_elapsed(overall)}), row rate {(inserted - self._previous) / period:.2f}/sec (period), "
            f"row rate {inserted / overall:.2f}/sec (overall), {inserted:,} inserted rows, "
            f"{skipped + (self._before or 0):,} skipped rows, {read:,} total rows"
        )
        self._said, self._previous = now, inserted

    @staticmethod
    def say(text: str) -> None:
        """Say it whatever the flags are."""
        say(f"{time.strftime('%Y/%m/%d %H:%M:%S')} {text}")


_LEVELS: dict[str, Level] = {"error": "error", "warning": "warning", "note": "info"}


def _elapsed(seconds: float) -> str:
    """Time that has passed, in whole seconds: 1h02m03s."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h{minutes:02}m{left:02}s"
    if hours:
        return f"{hours}h{minutes:02}m{left:02}s"
    return f"{minutes}m{left:02}s" if minutes else f"{left}s"


def _log_batches(spec: LoadSpec, report: LoadReport, reporter: Reporter) -> None:
    from hyperfill import session
    from hyperfill.sql import query

    if report.entry is None or report.state == "nothing":
        return
    with session.connect(spec.target, "target") as target:
        rows: list[Any] = target.execute(query("copy/batches"), [report.entry.id, report.seconds + 1]).fetchall()
    for path, line, count, length, seconds in rows:
        reporter.say(
            f"[BATCH] {path} line {line}, took {go_duration(seconds)}, row count {count}, byte len {length}, "
            f"row rate {count / max(seconds, 1e-6):f}/sec"
        )


def _result(report: LoadReport, flags: CopyFlags, reporter: Reporter) -> int:
    """Print the result; the exit code."""
    entry = report.entry
    if report.state == "nothing" and entry is not None:
        reporter.say(
            f"import {flags.import_id!r} was finished at {entry.finished_at:%Y-%m-%d %H:%M:%S} UTC by load {entry.id}: "
            "nothing is loaded again"
        )
        if any(file.stream for file in report.prepared.files):
            reporter.log("what comes through standard input was not compared with what was loaded", "warning")
    new = [f for f in report.findings if f not in report.prepared.base.findings]
    as_asked = flags.skip_batch_errors and report.signum is None and not any(f.severity == "error" for f in new)
    for failed in report.failed if as_asked else ():
        first, last = failed["offset"], failed["offset"] + failed["length"]
        where = f"{failed['file']} line {failed['line']} on (bytes {first} to {last})"
        reporter.say(f"left out: {failed['rows']:,} rows, {where}: {worded(str(failed.get('message')))}")
    if report.state == "incomplete" and not as_asked:
        again = (
            "the same command continues it"
            if flags.import_id
            else "another call loads all rows again: remove those first, or name imports by -import-id"
        )
        reporter.say(f"not everything is loaded: this call has brought {counted(report.rows_here, 'row')}; {again}")
        return report.exit_code
    line = "COPY " + str(report.rows_here)
    if flags.verbose:
        rate = report.rows_here / report.seconds if report.seconds else 0.0
        line += f", took {go_duration(report.seconds)} with {flags.workers} worker(s) (mean rate {rate:f}/sec)"
    print(line)
    return report.exit_code
