"""The transaction of a batch: claim it in the ledger, copy its rows, account for every one of them, commit.

A batch that was loaded has its row in the ledger, written by the transaction that wrote its rows: whatever dies,
it is loaded or it is not, and loading it again finds out which.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import psycopg
from psycopg import sql

from hyperfill import loads, policies
from hyperfill.csvrows import count_lines, first_break, row_spans
from hyperfill.dialect import Dialect
from hyperfill.encode import Encoder
from hyperfill.errors import WindowError, first_line
from hyperfill.loads import Batch, Figures, Reject
from hyperfill.relay import RelayError, Throttle, feed
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query
from hyperfill.timeline import Span
from hyperfill.window import Order, begin, check_identity, commit, on, rollback, translate

# A larger batch is a single row: reading it on the client would hold it several times over.
_LARGEST_ENCODED = 32 << 20
_SHOWN = 20  # lines outside of the range that an error names
_OTHER_END = "the row ends with another kind of line end than the file's others"
# Errors that belong to a row: bad data, constraints, a trigger's RAISE, a value that no index can hold.
_ROW_CLASSES = ("22", "23", "54", "P0")


@dataclass(frozen=True)
class FileFormat:
    """How the rows of one file are read: the target's columns in the order of its fields, and its line end."""

    path: str
    columns: tuple[str, ...]
    eol: bytes


@dataclass(frozen=True)
class LoadOrder:
    """All that a worker needs to know of a load. Picklable; holds a conninfo, so it is never logged."""

    order: Order
    dialect: Dialect
    files: dict[int, FileFormat]
    span: Span | None  # None: no range, every row is loaded
    outside: Literal["error", "skip"]
    on_conflict: Literal["error", "skip"]
    max_rejects: int
    encode: bool  # on the client, where a batch can be
    time_zone: str
    date_style: str
    sets_times: bool = field(default=False)  # whether zone and style differ from what every session has


class _Bad(Exception):
    """Rows that the target would not take, as the server said it."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.error = error


class BatchLoader:
    """Loads batches, one after another, through whatever connection it is given."""

    def __init__(self, load: LoadOrder, throttle: Throttle | None = None) -> None:
        self._load = load
        self._throttle = throttle
        self._relation = load.order.target.relation
        self._encoders: dict[int, deque[Encoder]] = {}
        self._staging = False  # conflicts were met: rows go through a temporary table from now on

    def encode(self, batch: Batch) -> bytes | memoryview | None:
        """The batch as COPY BINARY, valid until the second next call; None where it must be sent as it is."""
        if not self._load.encode or batch.length > _LARGEST_ENCODED:
            return None
        pair = self._encoders.get(batch.file)
        if pair is None:
            form = self._load.files[batch.file]
            columns = [c for c in map(self._relation.column, form.columns) if c is not None]
            utc = self._load.time_zone == "UTC"
            # Two, because one batch is encoded while the one before it is being sent.
            pair = deque(Encoder(columns, self._load.dialect, form.eol, zoneless=utc) for _ in range(2))
            self._encoders[batch.file] = pair
        pair.rotate()
        return pair[0].encode(batch.data, batch.rows)

    def load(self, target: Connection, batch: Batch, encoded: bytes | memoryview | None) -> Figures | None:
        """Load a batch, which `encode` has seen; None if it is loaded already.

        Raises `WindowError` after a rollback, `CommitUnknown`.
        """
        order = self._load.order
        key = batch.key(order.backfill)
        begin(target)
        try:
            name = f"hyperfill/{order.backfill}/{batch.start // 1_000_000 % 1_000_000_000}"
            on("target", lambda: target.execute("SELECT set_config('application_name', %s, true)", [name]))
            if not on("target", lambda: loads.claim(target, key)):
                rollback(target)
                return None
            if order.watch is not None:
                policies.check_off(target, order.watch)
            if self._load.sets_times:
                times = [self._load.time_zone, self._load.date_style]
                on("target", lambda: target.execute(query("load/times"), times))
            figures, where = self._copy(target, batch, encoded)
            if figures.total != batch.rows:
                raise WindowError(
                    f"{self._place(batch)}: {batch.rows:,} rows were read, and {figures.total:,} are accounted for",
                    server="target",
                    hint="a BEFORE INSERT trigger on the target drops rows",
                )
            on("target", lambda: check_identity(target, "target", self._relation))
            on("target", lambda: loads.finish(target, key, figures, where, self._relation.oid))
        except BaseException:
            rollback(target)
            raise
        commit(target, 0)
        return figures

    def _place(self, batch: Batch) -> str:
        return f"{self._load.files[batch.file].path} line {batch.line} (byte {batch.start})"

    # -- copying -----------------------------------------------------------------------------------------------

    def _copy(self, target: Connection, batch: Batch, binary: bytes | memoryview | None) -> tuple[Figures, str]:
        """Copy a batch in whatever way it needs; its figures, and where it was encoded."""
        gentle = self._load.max_rejects > 0 or self._load.on_conflict == "skip"
        data, encoded = (batch.data, "server") if binary is None else (binary, "client")
        try:
            # What is checked at the end of the transaction must be checked now: at COMMIT no row could be named.
            target.execute("SET CONSTRAINTS ALL IMMEDIATE")
            if gentle:
                target.execute("SAVEPOINT hyperfill")
            return self._attempt(target, batch, data, batch.rows), encoded
        except _Bad as bad:
            error = bad.error
        if self._load.on_conflict == "skip" and error.sqlstate == "23505" and not self._staging:
            target.execute("ROLLBACK TO hyperfill")
            self._staging = True
            try:
                return self._attempt(target, batch, data, batch.rows), encoded
            except _Bad as bad:
                error = bad.error
        if self._load.max_rejects == 0:
            raise self._explain(batch, error, encoded)
        target.execute("ROLLBACK TO hyperfill")
        return self._narrow(target, batch), "server"

    def _attempt(self, target: Connection, batch: Batch, data: bytes | memoryview, rows: int) -> Figures:
        """Copy some rows of a batch. Raises `_Bad` where a row is at fault, `WindowError` for anything else."""
        try:
            if self._staging or (self._load.span is not None and self._load.order.has_triggers):
                return self._through_stage(target, batch, data, rows)
            taken = self._send(target, self._into(batch, self._relation.identifier, data, self._condition()), data)
        except psycopg.Error as error:
            if error.sqlstate is not None and error.sqlstate[:2] in _ROW_CLASSES:
                raise _Bad(error) from error
            raise translate(error, "target") from error
        if self._load.span is None or taken >= rows:
            return Figures(copied=taken)
        self._check_outside(target, batch, rows - taken)
        return Figures(copied=taken, outside=rows - taken)

    def _send(self, target: Connection, statement: sql.Composed, data: bytes | memoryview) -> int:
        try:
            return feed(target.pgconn, statement.as_bytes(target), [data], throttle=self._throttle).rows_taken
        except RelayError as error:
            raise error.error from error

    def _into(
        self, batch: Batch, relation: sql.Identifier, data: bytes | memoryview, where: sql.Composed | None
    ) -> sql.Composed:
        binary = data[:11] == b"PGCOPY\n\xff\r\n\0"
        names = self._load.files[batch.file].columns
        return sql.SQL(query("load/copy_in")).format(
            relation=relation,
            columns=sql.SQL(", ").join(map(sql.Identifier, names)),
            options=sql.SQL("FORMAT binary") if binary else self._load.dialect.copy_options(),
            where=sql.SQL("") if where is None else sql.SQL("WHERE ({}) IS NOT FALSE").format(where),
        )

    def _condition(self) -> sql.Composed | None:
        """The range, for COPY's WHERE. A row without a time is not outside but wrong: the server is to say so."""
        span, axis = self._load.span, self._load.order.target
        if span is None:
            return None
        column = sql.Identifier(axis.column)
        terms = [sql.SQL("{} < {}").format(column, axis.literal(span.upper))]
        if span.lower is not None:
            terms.insert(0, sql.SQL("{} >= {}").format(column, axis.literal(span.lower)))
        return sql.SQL(" AND ").join(terms)

    # -- the way through a temporary table ---------------------------------------------------------------------

    def _stage(self, target: Connection, batch: Batch, data: bytes | memoryview, rows: int) -> tuple[sql.Composed, Any]:
        """Copy rows into a temporary table, numbered; the list of columns, and the names of the table."""
        names = self._load.files[batch.file].columns
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        number = "hyperfill_row"
        while number in names:
            number += "_"
        parts = {"relation": self._relation.identifier, "columns": columns, "number": sql.Identifier(number)}
        target.execute(sql.SQL(query("load/stage_drop")))
        for statement in query("load/stage").split(";\n"):
            target.execute(sql.SQL(cast(Any, statement)).format(**parts))
        taken = self._send(target, self._into(batch, sql.Identifier("pg_temp", "hyperfill_stage"), data, None), data)
        if taken != rows:
            raise WindowError(f"{self._place(batch)}: {rows:,} rows were read and the server read {taken:,}")
        return columns, parts

    def _through_stage(self, target: Connection, batch: Batch, data: bytes | memoryview, rows: int) -> Figures:
        _, parts = self._stage(target, batch, data, rows)
        where = self._condition()
        outside = 0
        if where is not None:
            found = fetch_one(target, sql.SQL(query("load/stage_outside")).format(where=where, **parts))
            outside = int(found[0])
            if outside:
                self._refuse_outside(batch, outside, found[1])
        conflict = sql.SQL("ON CONFLICT DO NOTHING" if self._load.on_conflict == "skip" else "")
        copied = target.execute(
            sql.SQL(query("load/stage_insert")).format(
                where=sql.SQL("true") if where is None else sql.SQL("({}) IS NOT FALSE").format(where),
                conflict=conflict,
                **parts,
            )
        ).rowcount
        skipped = rows - outside - copied if self._load.on_conflict == "skip" else 0
        return Figures(copied=copied, skipped=skipped, outside=outside)

    def _check_outside(self, target: Connection, batch: Batch, count: int) -> None:
        """COPY said that rows are outside; where that is an error, find them."""
        if self._load.outside == "skip":
            return
        numbers: list[int] = []
        try:
            target.execute("SAVEPOINT hyperfill_outside")
            _, parts = self._stage(target, batch, batch.data, batch.rows)
            where = self._condition()
            assert where is not None
            numbers = list(fetch_one(target, sql.SQL(query("load/stage_outside")).format(where=where, **parts))[1])
        except (psycopg.Error, WindowError):
            pass  # no right to make a temporary table: the error names the batch only
        self._refuse_outside(batch, count, numbers)

    def _refuse_outside(self, batch: Batch, count: int, numbers: list[int]) -> None:
        if self._load.outside == "skip":
            return
        lines = self._lines(batch)
        listed = ", ".join(str(lines[n - 1][2]) for n in numbers[:_SHOWN])
        more = f" and {count - _SHOWN:,} more" if count > _SHOWN and numbers else ""
        where = f"line{'s' if count > 1 else ''} {listed}{more}" if numbers else f"from line {batch.line} on"
        raise WindowError(
            f"{self._load.files[batch.file].path}: {count:,} row{'s' if count > 1 else ''} outside of the range, "
            f"{where}",
            hint="--outside skip leaves them out; or choose another --start and --end",
        )

    # -- bad rows ----------------------------------------------------------------------------------------------

    def _lines(self, batch: Batch) -> list[tuple[int, int, int]]:
        """Of each row: where it begins and ends in the batch, and its line in the file."""
        eol = self._load.files[batch.file].eol
        found, line = [], batch.line
        for start, end in row_spans(batch.data, self._load.dialect, eol):
            found.append((start, end, line))
            line += max(1, count_lines(batch.data[start:end], eol))
        return found

    def _at(self, error: psycopg.Error, lines: list[tuple[int, int, int]], eol: bytes, *, binary: bool) -> int | None:
        """The row that the server's COPY was at, counted from 0; None if it does not say."""
        context = (error.diag.context or "").replace(self._relation.name, "", 1).replace("hyperfill_stage", "", 1)
        match = re.search(r"^COPY [^\d\"]*(\d+)", context, re.MULTILINE)
        if match is None:
            return None
        number = int(match[1])
        if binary:
            return number - 1 if 0 < number <= len(lines) else None
        # The server counts lines from 1, and has read the row's last one when it complains.
        first = lines[0][2]
        if number > 1 and eol == b"\n":
            # As long as it has seen no line end, it does not know that those in the quotes of the first row are some.
            number += (lines[1][2] if len(lines) > 1 else first + 1) - first - 1
        ends = [*(begin - first for _, _, begin in lines[1:]), 1 << 62]
        return min(bisect_left(ends, number), len(lines) - 1)

    def _explain(self, batch: Batch, error: psycopg.Error, encoded: str) -> WindowError:
        """What the server said, with the place in the file."""
        found = translate(error, "target")
        lines = self._lines(batch)
        at = (
            self._at(error, lines, self._load.files[batch.file].eol, binary=encoded == "client")
            if not self._staging or error.sqlstate != "23505"
            else None
        )
        if at is None:
            place = f"{self._load.files[batch.file].path} lines {batch.line} to {lines[-1][2]}"
        else:
            start, end, line = lines[at]
            offset = batch.start + start
            if error.sqlstate == "22021":
                offset += _bad_byte(batch.data[start:end], self._load.dialect)
            place = f"{self._load.files[batch.file].path} line {line} (byte {offset})"
        found.message = f"{place}: {found.message}"
        found.hint = error.diag.message_hint or _HINTS.get(error.sqlstate or "") or found.hint
        return found

    def _narrow(self, target: Connection, batch: Batch) -> Figures:
        """Place every row that the target takes, and enter the others as rejected; in the batch's transaction."""
        lines = self._lines(batch)
        bad: list[Reject] = []
        figures = Figures()

        def attempt(first: int, last: int) -> Figures:
            data = memoryview(batch.data)[lines[first][0] : lines[last - 1][1]]
            return self._attempt(target, batch, data, last - first)

        eol = self._load.files[batch.file].eol
        stack = [(0, len(lines))]
        while stack:
            first, last = stack.pop()
            if first >= last:
                continue
            start, end, line = lines[first]
            kind = first_break(batch.data[start:end], self._load.dialect)[1]
            if kind not in (None, eol):
                # In the file an error, but a COPY that begins with this row would take its line end for the file's.
                bad.append(Reject(batch.start + start, line, batch.data[start:end], "22P04", _OTHER_END))
                stack.append((first + 1, last))
                continue
            target.execute("SAVEPOINT hyperfill_rows")
            try:
                figures += attempt(first, last)
                target.execute("RELEASE hyperfill_rows")
                continue
            except _Bad as found:
                target.execute("ROLLBACK TO hyperfill_rows")
                target.execute("RELEASE hyperfill_rows")
                error = found.error
            if self._load.on_conflict == "skip" and error.sqlstate == "23505" and not self._staging:
                self._staging = True
                stack.append((first, last))
                continue
            if last - first == 1:
                start, end, line = lines[first]
                message = first_line(error)
                bad.append(Reject(batch.start + start, line, batch.data[start:end], error.sqlstate, message))
                if len(bad) > self._load.max_rejects:
                    break
                continue
            part = [(s - lines[first][0], e, line) for s, e, line in lines[first:last]]
            at = self._at(error, part, eol, binary=False)
            # In the order of the file: of two rows with one key the first is the good one.
            if at is None or (at == 0 and error.sqlstate == "23503"):
                middle = (first + last) // 2
                stack += [(middle, last), (first, middle)]
            else:
                stack += [(first + at + 1, last), (first + at, first + at + 1), (first, first + at)]
        loads.add_rejects(target, self._load.order.backfill, batch, bad, self._load.max_rejects)
        return figures + Figures(rejected=len(bad))


def _bad_byte(row: bytes, dialect: Dialect) -> int:
    """Where the first byte is that UTF-8 does not have; 0 for other encodings."""
    if dialect.encoding.upper().replace("-", "") != "UTF8":
        return 0
    try:
        row.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return 0


_HINTS = {
    "22021": "--encoding names the file's encoding if it is not UTF-8; nothing is guessed",
    "22P04": "are --delimiter, --quote, --escape and --header as the file is written?",
    "22007": "--date-style and --time-zone say how times are written, where they are not ISO",
    "22008": "--date-style says in which order day, month and year are written",
    "23505": "--on-conflict skip leaves out rows whose key is there already",
}
