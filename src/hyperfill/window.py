"""The window transaction: claim, delete what was dual-written, copy, compare, note it in the ledger, commit.

Whatever dies at whatever moment, a window is as before or done. Nothing is retried inside the
transaction: a second attempt begins with a new claim.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, cast

import psycopg
from psycopg import pq, sql

from hyperfill import ledger
from hyperfill.catalog import Hypertable, Relation, quote_name
from hyperfill.columnstore import Sides
from hyperfill.errors import LedgerChanged, RelationChanged, WindowError, first_line, is_transient
from hyperfill.policies import Watch
from hyperfill.relay import Relayed, Throttle
from hyperfill.session import Connection
from hyperfill.sql import query
from hyperfill.survey import Axis
from hyperfill.timeline import Span

T = TypeVar("T")


@dataclass(frozen=True)
class MovedColumn:
    """A column as it is moved: its name on either side, and the cast that the source applies, if any."""

    source: str
    target: str
    cast: str | None = None


@dataclass(frozen=True)
class Order:
    """All that a worker needs to know of a backfill. Picklable; holds conninfos, so it is never logged."""

    backfill: int
    target_conninfo: str
    target: Axis
    hypertable: Hypertable
    columns: tuple[MovedColumn, ...]
    binary: bool
    newest: bool
    replace: bool  # go on where the source has fewer rows than the target
    finite: bool  # leave out rows at -infinity, which no hypertable can hold
    has_triggers: bool
    chunks_beforehand: bool  # False: triggers that nothing switches off would see the row that makes a chunk
    hypertable_oid: int
    span: Span | None = None  # the range, from when it is in the ledger: no window reaches beyond it
    source_conninfo: str | None = None  # None: the rows come from files, or there are none
    source: Axis | None = None
    dump: str | None = None  # the folder of a dump instead
    encode: Literal["auto", "client", "server"] = "auto"  # who reads the values of a dump's files
    # The target's indexes on time have the newest row first (True), or the oldest; None: there are none, or both kinds.
    descending: bool | None = None
    source_indexed: bool = True  # False: every look at the source reads all of it
    # Without an index: where the cells begin in which the source has rows, as far as this run has looked.
    occupied: frozenset[int] = frozenset()
    triggers_off: bool = False  # the target's sessions run with session_replication_role = replica
    watch: Watch | None = None  # policies that must be off while windows are moved
    jobs: int = 1  # how many workers are at it
    converts: bool = False  # some chunks are to end compressed, as the ledger says
    row_bytes: int = 0  # about what a row takes where it is sorted
    sides: Sides | None = None  # to tell whether the source can sort rows for them

    @property
    def names_objects(self) -> bool:
        """Whether a value that is moved is printed as the name of an object."""
        columns = (self.target.relation.column(c.target) for c in self.columns)
        return any(column.of.names_objects for column in columns if column is not None)


@dataclass(frozen=True)
class Sorting:
    """An order in which a window's rows are to come, whatever it costs. `slices`: it may be one slice of time after
    another, each in that order."""

    order_by: sql.Composed
    slices: bool


class Landing(Protocol):
    """Writes a window compressed, where that is what is wanted and possible now."""

    def begin(self, target: Connection, claim: ledger.Claim) -> Sorting | None:
        """In the window's transaction, emptied: the order to be kept. None: the window is written plain."""

    def end(self, target: Connection, claim: ledger.Claim) -> None:
        """After the COPY: note whether the window's chunks are as they are to be."""


class RowSource(Protocol):
    """Where the rows of windows come from. For a half-open range it gives the same rows whenever it is asked."""

    def name(self, window: str) -> None:
        """Show the window in the name of the session, if there is one."""

    def send(
        self,
        target: Connection,
        claim: ledger.Claim,
        span: Span,
        throttle: Throttle | None,
        sorting: Sorting | None = None,
    ) -> Relayed:
        """Feed the window's rows to COPYs on the target. Raises `WindowError` with all COPYs over."""

    def check(self) -> None:
        """Raise `RelationChanged` if the rows may have come from another relation than was asked for."""

    def anything(self, span: Span) -> bool:
        """Whether there is a row in `span`, cheaply."""

    def samples(self, columns: Sequence[MovedColumn], limit: int) -> list[list[str | None]]:
        """Some rows as text, the smallest first: patterns for the rows that make the server create a chunk."""


class CommitUnknown(Exception):
    """The connection was lost after COMMIT was sent: only the ledger knows whether the window is done."""

    def __init__(self, window: int) -> None:
        super().__init__(window)
        self.window = window


def by_time(order: Order) -> sql.Composed:
    """The order in which the target's indexes on time grow."""
    assert order.source is not None
    direction = sql.SQL("DESC" if order.descending else "ASC")
    return sql.SQL("ORDER BY {} {}").format(sql.Identifier("r", order.source.column), direction)


def rows_of(order: Order, span: Span, order_by: sql.Composable = ledger.NOTHING) -> sql.Composed:
    """The SELECT of a window's rows on the source."""
    assert order.source is not None
    selected = []
    for column in order.columns:
        name = sql.Identifier("r", column.source)
        selected.append(sql.SQL("{}::{}").format(name, sql.SQL(cast(Any, column.cast))) if column.cast else name)
    return sql.SQL(query("window/read")).format(
        columns=sql.SQL(", ").join(selected),
        relation=order.source.relation.identifier,
        window=order.source.condition(span, finite=order.finite),
        order=order_by,
    )


def copy_statements(
    order: Order, span: Span, order_by: sql.Composable = ledger.NOTHING
) -> tuple[sql.Composed, sql.Composed]:
    """COPY TO STDOUT for the source and COPY FROM STDIN for the target."""
    wire = sql.SQL("binary" if order.binary else "text")
    out = sql.SQL(query("window/copy_out")).format(rows=rows_of(order, span, order_by), format=wire)
    into = sql.SQL(query("window/copy_in")).format(
        relation=order.target.relation.identifier,
        columns=sql.SQL(", ").join(sql.Identifier(c.target) for c in order.columns),
        format=wire,
    )
    return out, into


def span_of(order: Order, claim: ledger.Claim) -> Span:
    """The claimed window as ordinals. Raises `LedgerChanged` where it is no part of the order's range.

    Asked before anything is done for the window: rows outside of the range are never touched, whatever the ledger says.
    """
    time_type = order.target.time_type
    try:
        span = Span(None if claim.lower is None else time_type.ordinal(claim.lower), time_type.ordinal(claim.upper))
    except ValueError:  # no bounds, or the wrong way round
        span = None
    if span is None or not (order.span or span).covers(span):
        raise LedgerChanged(
            f"window {claim.id} [{claim.lower or '-infinity'}, {claim.upper}) is no part of the range of backfill "
            f"{order.backfill}: somebody has changed hyperfill.windows, and nothing more is moved",
            hint=f"give it up with hyperfill clean --backfill {order.backfill} --force (the rows it moved stay), and "
            "run the same command again",
        )
    return span


def move(
    source: RowSource | None,
    target: Connection,
    order: Order,
    claim: ledger.Claim,
    *,
    throttle: Throttle | None = None,
    landing: Landing | None = None,
) -> Relayed:
    """Move a window that the target's open transaction has claimed, and commit; what went through.

    Without a source it is only cleared. Raises `WindowError` after a rollback, `CommitUnknown` where the answer to
    COMMIT was lost.
    """
    span = span_of(order, claim)
    name = f"hyperfill/{order.backfill}/{claim.id}"
    relayed = Relayed()
    try:
        if source is not None:
            source.name(name)
        deleted = on("target", lambda: _clear(target, order, span))
        if source is not None:
            sorting = on("target", lambda: landing.begin(target, claim)) if landing is not None else None
            relayed = source.send(target, claim, span, throttle, sorting)
            source.check()
            _compare(relayed.rows_sent, relayed.rows_taken, deleted, order, claim)
            if landing is not None and sorting is not None:
                on("target", lambda: landing.end(target, claim))
        figures = deleted, relayed.rows_taken, relayed.bytes
        asked = ledger.NOTHING if source is None else _identity(order.target.relation)
        found = on("target", lambda: ledger.finish(target, order.backfill, claim.id, figures, asked))
        if source is not None:
            _recognise(found, "target", order.target.relation, [c.target for c in order.columns])
    except WindowError as error:
        rollback(target)
        if error.sqlstate is not None and not error.transient:
            _look_again(source if error.server == "source" else None, target, order, error)
        raise
    except BaseException:
        rollback(target)
        raise
    commit(target, claim.id)
    return relayed


def _look_again(source: RowSource | None, target: Connection, order: Order, error: WindowError) -> None:
    """Raise `RelationChanged` if that is what is behind an error: every other window would fail of it as well."""
    try:
        check_identity(target, "target", order.target.relation, [c.target for c in order.columns])
        if source is not None:
            source.check()
    except RelationChanged as changed:
        raise changed from error
    except (psycopg.Error, WindowError):
        pass  # what is known is enough


def begin(target: Connection) -> None:
    """Open a batch's transaction; a window's claim opens its own, for the same reasons (ledger/claim_oldest.sql)."""
    target.execute("BEGIN ISOLATION LEVEL READ COMMITTED")


def rollback(target: Connection) -> None:
    """Leave the transaction, if the connection still lives."""
    with contextlib.suppress(psycopg.Error):
        if target.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            target.execute("ROLLBACK")


def commit(target: Connection, window: int) -> None:
    """COMMIT; an error that the server reports is a failed window, silence is an unknown one."""
    try:
        target.execute("COMMIT")
    except psycopg.Error as error:
        # 57P01-57P03 end the session too, and may arrive after the commit record was written.
        if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
            raise CommitUnknown(window) from error
        rollback(target)
        raise translate(error, "target") from error


def _clear(target: Connection, order: Order, span: Span) -> int:
    """Delete the window's rows from the target, if there are any; how many there were.

    Counted before and after: the command tag of a DELETE in compressed chunks is wrong before 2.20, and
    some versions left rows behind.
    """
    relation = order.target.relation
    parts = {"relation": relation.identifier, "window": order.target.condition(span)}
    counting = sql.SQL(query("window/count")).format(**parts, name=sql.Literal(relation.identifier.as_string()))

    def count() -> int:
        row: Any = target.execute(counting).fetchone()
        if row[1] != relation.oid:
            raise _another("target", relation)
        return int(row[0])

    overlap = count()
    if overlap == 0:
        return 0
    target.execute(sql.SQL(query("window/delete")).format(**parts))
    left = count()
    if left:
        raise WindowError(
            f"{left} of {overlap} rows of the target were still there after the DELETE",
            server="target",
            hint="is a dual-writer still writing below the completion point, or does a trigger keep rows?",
            transient=left < overlap,  # all of them: a trigger keeps rows, and will again
        )
    return overlap


def check_identity(connection: Connection, server: str, relation: Relation, names: Iterable[str] = ()) -> None:
    """Raise `RelationChanged` if another relation has taken the name since it was resolved: by RENAME, or anew.

    Also if one of the columns in `names` has another type now: binary rows mean something else then, without an error.
    To be called after the COPY, whose lock keeps both as they are.
    """
    _recognise(connection.execute(_identity(relation)).fetchone(), server, relation, names)


def _identity(relation: Relation) -> sql.Composed:
    return sql.SQL(query("window/identity")).format(name=sql.Literal(relation.identifier.as_string()))


def _recognise(row: Any, server: str, relation: Relation, names: Iterable[str]) -> None:
    if row[0] != relation.oid:
        raise _another(server, relation)
    for name in names:
        column = relation.column(name)
        if column is not None and row[1].get(name) != [column.type_oid, column.typmod]:
            raise RelationChanged(
                f"column {quote_name(name)} of {relation.quoted} on the {server} is gone or of another type than when "
                "this run began",
                server=server,
                hint="the same command run again looks at what is there now",
            )


def _another(server: str, relation: Relation) -> RelationChanged:
    return RelationChanged(
        f"{relation.quoted} on the {server} is another relation now than when this run began",
        server=server,
        hint="was it dropped, renamed or replaced? The same command run again looks at what is there now",
    )


def _compare(sent: int, taken: int, deleted: int, order: Order, claim: ledger.Claim) -> None:
    if sent != taken:
        raise WindowError(
            f"the source sent {sent} rows and the target took {taken}",
            server="target",
            hint="a BEFORE INSERT trigger on the target drops rows",
        )
    if deleted - taken <= (claim.may_lose or 0) or order.replace:
        return
    if claim.may_lose is not None:
        raise WindowError(
            f"the target has {deleted} rows in this window and the source only {taken}: fewer than when they were "
            "compared, and nothing was deleted",
            server="source",
            hint="somebody changes these rows; the same repair run again compares them anew",
        )
    raise WindowError(
        f"the target has {deleted} rows in this window and the source only {taken}: nothing was deleted",
        server="source",
        hint="if the source is right (and no retention, other shard or missing right took rows away from it), "
        "run again with --replace",
    )


def on(server: str, action: Callable[[], T]) -> T:
    """Do something on a server; what it says against it becomes a `WindowError`."""
    try:
        return action()
    except psycopg.Error as error:
        raise translate(error, server) from error


def translate(error: psycopg.Error, server: str) -> WindowError:
    """A driver's error as one of ours: what the server said, where, and whether trying again may help."""
    diag = error.diag
    detail = f" ({diag.message_detail})" if diag.message_detail else ""
    return WindowError(
        first_line(error) + detail,
        hint=diag.message_hint or _HINTS.get(error.sqlstate or ""),
        server=server,
        sqlstate=error.sqlstate,
        context=diag.context,
        transient=is_transient(error),
    )


_HINTS = {
    "22021": "the source holds bytes that are no valid text in its own encoding",
    "22008": "no hypertable can hold this time; --skip-unstorable leaves rows at -infinity out",
    "23503": "the referenced row is missing on the target: load the referenced table first",
    "23505": "the source has this key twice, a row outside the window has it, or it was dual-written just now",
    "42501": "the role lost a right since the run began: grant it again",
    "53200": "out of shared memory usually means locks: use fewer --jobs, or raise max_locks_per_transaction",
    "57014": "somebody cancelled the statement",
}
