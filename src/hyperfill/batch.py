"""The transaction of a batch: claim it in the ledger, copy its rows, account for every one of them, commit.

A batch that was loaded has its row in the ledger, written by the transaction that wrote its rows: whatever dies,
it is loaded or it is not, and loading it again finds out which.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import psycopg
from psycopg import sql

from hyperfill import loads, policies
from hyperfill.dialect import Dialect
from hyperfill.encode import Encoder
from hyperfill.endpoint import RelayError
from hyperfill.errors import STALL_SECONDS, WindowError
from hyperfill.loads import Batch, Figures
from hyperfill.narrowing import BadRow, RowMap, is_of_a_row, narrow
from hyperfill.relay import feed
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query
from hyperfill.timeline import Span
from hyperfill.window import Order, begin, check_identity, commit, on, rollback, translate

# A larger batch is a single row: reading it on the client would hold it several times over.
_LARGEST_ENCODED = 32 << 20
_SHOWN = 20  # lines outside of the range that an error names


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


class BatchLoader:
    """Loads batches, one after another, through whatever connection it is given."""

    def __init__(self, load: LoadOrder, stall: float | None = STALL_SECONDS) -> None:
        """`stall`: as in `relay`."""
        self._load = load
        self._stall = stall
        self._relation = load.order.target.relation
        self._encoders: dict[tuple[tuple[str, ...], bytes], deque[Encoder]] = {}
        self._staging = False  # conflicts were met: rows go through a temporary table from now on

    def encode(self, batch: Batch) -> bytes | memoryview | None:
        """The batch as COPY BINARY, valid until the second next call; None where it must be sent as it is."""
        if not self._load.encode or batch.length > _LARGEST_ENCODED:
            return None
        form = self._load.files[batch.file]
        pair = self._encoders.get((form.columns, form.eol))
        if pair is None:
            columns = [c for c in map(self._relation.column, form.columns) if c is not None]
            utc = self._load.time_zone == "UTC"
            # Two, because one batch is encoded while the one before it is being sent.
            pair = deque(Encoder(columns, self._load.dialect, form.eol, zoneless=utc) for _ in range(2))
            self._encoders[form.columns, form.eol] = pair
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
            names = self._load.files[batch.file].columns
            on("target", lambda: check_identity(target, "target", self._relation, names))
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
        except BadRow as bad:
            error = bad.error
        if self._meets_conflicts(error):
            target.execute("ROLLBACK TO hyperfill")
            try:
                return self._attempt(target, batch, data, batch.rows), encoded
            except BadRow as bad:
                error = bad.error
        if self._load.max_rejects == 0:
            raise self._explain(batch, error, encoded)
        target.execute("ROLLBACK TO hyperfill")
        return self._narrow(target, batch), "server"

    def _attempt(self, target: Connection, batch: Batch, data: bytes | memoryview, rows: int) -> Figures:
        """Copy some rows of a batch. Raises `BadRow` where a row is at fault, `WindowError` for anything else."""
        try:
            if self._staging or (self._load.span is not None and self._load.order.has_triggers):
                return self._through_stage(target, batch, data, rows)
            taken = self._send(target, self._into(batch, self._relation.identifier, data, self._condition()), data)
        except psycopg.Error as error:
            if is_of_a_row(error):
                raise BadRow(error) from error
            raise translate(error, "target") from error
        if self._load.span is None or taken >= rows:
            return Figures(copied=taken)
        if target.execute(query("load/before_triggers"), {"oid": self._relation.oid}).fetchone() is not None:
            raise WindowError(
                "a trigger that may drop rows was added since this run began: such rows could not be told from those "
                "outside",
                server="target",
                hint="run the same command again",
            )
        self._check_outside(target, batch, rows - taken)
        return Figures(copied=taken, outside=rows - taken)

    def _send(self, target: Connection, statement: sql.Composed, data: bytes | memoryview) -> int:
        try:
            return feed(target.pgconn, statement.as_bytes(target), [data], stall=self._stall).rows_taken
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
        lines = self._rows(batch).lines if numbers else []
        listed = ", ".join(str(lines[n - 1]) for n in numbers[:_SHOWN])
        more = f" and {count - _SHOWN:,} more" if count > _SHOWN and numbers else ""
        where = f"line{'s' if count > 1 else ''} {listed}{more}" if numbers else f"from line {batch.line} on"
        raise WindowError(
            f"{self._load.files[batch.file].path}: {count:,} row{'s' if count > 1 else ''} outside of the range, "
            f"{where}",
            hint="--outside skip leaves them out; or choose another --start and --end",
        )

    # -- bad rows ----------------------------------------------------------------------------------------------

    def _rows(self, batch: Batch) -> RowMap:
        return RowMap(batch, self._load.dialect, self._load.files[batch.file].eol)

    def _explain(self, batch: Batch, error: psycopg.Error, encoded: str) -> WindowError:
        """What the server said, with the place in the file."""
        found = translate(error, "target")
        rows, path = self._rows(batch), self._load.files[batch.file].path
        at = rows.at(error, self._relation.name, 0, len(rows), binary=encoded == "client")
        if at is None:
            place = f"{path} lines {batch.line} to {rows.lines[-1]}"
        else:
            offset = rows.offset(at) + (_bad_byte(rows.row(at), self._load.dialect) if error.sqlstate == "22021" else 0)
            place = f"{path} line {rows.lines[at]} (byte {offset})"
        found.message = f"{place}: {found.message}"
        found.hint = error.diag.message_hint or _HINTS.get(error.sqlstate or "") or found.hint
        return found

    def _narrow(self, target: Connection, batch: Batch) -> Figures:
        """Place every row that the target takes, and enter the others as rejected; in the batch's transaction."""
        rows, allowed = self._rows(batch), self._load.max_rejects

        def attempt(first: int, last: int) -> Figures:
            return self._attempt(target, batch, rows.bytes_of(first, last), last - first)

        figures, bad = narrow(target, rows, self._relation.name, attempt, self._meets_conflicts, allowed)
        loads.add_rejects(target, self._load.order.backfill, batch, bad, allowed)
        return figures + Figures(rejected=len(bad))

    def _meets_conflicts(self, error: psycopg.Error) -> bool:
        """Whether rows are to go through a temporary table from now on, because some have keys that are there."""
        if self._load.on_conflict != "skip" or error.sqlstate != "23505" or self._staging:
            return False
        self._staging = True
        return True


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
