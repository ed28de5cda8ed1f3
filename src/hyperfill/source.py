"""A server as the source of windows' rows: one connection, a COPY for each window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

from psycopg import sql

from hyperfill import ledger
from hyperfill.catalog import is_hypertable, read_chunks, read_server
from hyperfill.deadline import answered
from hyperfill.endpoint import RelayError
from hyperfill.errors import STALL_SECONDS
from hyperfill.relay import Relayed, Throttle, relay
from hyperfill.session import Connection
from hyperfill.sql import query
from hyperfill.survey import Axis, explain, nodes
from hyperfill.timeline import Span, split_even
from hyperfill.window import (
    MovedColumn,
    Order,
    Sorting,
    by_time,
    check_identity,
    copy_statements,
    on,
    rows_of,
    translate,
)

T = TypeVar("T")
_MANY = 10_000  # rows: the order of fewer gains less than asking the planner costs
# What reading in order may cost by the planner, against reading as rows come. It says 1.7 to 2 of a table that lies in
# order (a tenth more time, measured), 3.4 of one whose rows lie about (three times as long).
_DEARER = 2.5
# What sorting may take of the source's memory: a session at most the first, those of all workers together the second.
_SORT_KILOBYTES, _ALL_SORTS_KILOBYTES = 256 * 1024, 1024 * 1024
_APPENDS = frozenset({"ChunkAppend", "ConstraintAwareAppend"})


def sort_memory(jobs: int) -> int:
    """How much memory, in KiB, a worker's session on the source may take to sort a window (work_mem), with so many."""
    return min(_SORT_KILOBYTES, _ALL_SORTS_KILOBYTES // max(1, jobs))


class ServerSource:
    """A `RowSource`: a relation of a server, through a connection that somebody else opens and closes."""

    def __init__(self, connection: Connection, order: Order, stall: float | None = STALL_SECONDS) -> None:
        """`stall`: as in `relay`, and how long any other statement may take: meanwhile the target's window is open."""
        assert order.source is not None
        self._connection = connection
        self._order = order
        self._axis: Axis = order.source
        self._stall = stall
        self._sort: bool | None = None  # not asked yet
        self._roomy = False  # the session has the memory to sort a window

    @property
    def connection(self) -> Connection:
        return self._connection

    def name(self, window: str) -> None:
        self._ask(lambda: self._connection.execute("SELECT set_config('application_name', %s, false)", [window]))

    def _ask(self, action: Callable[[], T]) -> T:
        """Something outside of the COPY, which must be answered in time; `WindowError` if it is not."""

        def ask() -> T:
            with answered(self._connection, self._stall):
                return action()

        return on("source", ask)

    def send(
        self,
        target: Connection,
        claim: ledger.Claim,
        span: Span,
        throttle: Throttle | None,
        sorting: Sorting | None = None,
    ) -> Relayed:
        relayed = Relayed()
        for piece, order_by in self._pieces(claim, span, sorting):
            one = self._send(target, piece, order_by, throttle)
            relayed.rows_sent += one.rows_sent
            relayed.rows_taken += one.rows_taken
            relayed.bytes += one.bytes
        # Never of an estimate of 1, which is what a stretch without rows is given.
        if relayed.rows_sent == 0 and claim.estimate > 1 and self._ask(lambda: self._was_dropped(span)):
            relayed.note = (
                f"the source has no chunk here any more, and had about {claim.estimate:,} rows when this was planned: "
                "did retention or drop_chunks take them away? What the target has here stays"
            )
        return relayed

    def _pieces(
        self, claim: ledger.Claim, span: Span, sorting: Sorting | None
    ) -> Iterator[tuple[Span, sql.Composable]]:
        """The COPYs of a window: one, unless it must be sorted and has too many rows for that."""
        if sorting is None:
            sort = claim.estimate > _MANY and self._ask(lambda: self._sorted(span))
            yield span, by_time(self._order) if sort else ledger.NOTHING
            return
        if not self._roomy:
            # Also without parallel workers, each of which would take as much.
            memory = {"kilobytes": sort_memory(self._order.jobs)}
            self._ask(lambda: self._connection.execute(query("session/sort_memory"), memory))
            self._roomy = True
        slices = 1
        if sorting.slices and span.lower is not None:
            slices = -(-claim.estimate * self._order.row_bytes // (sort_memory(self._order.jobs) * 1024))
        for piece in split_even(span, slices) if slices > 1 else [span]:
            yield piece, sorting.order_by

    def _send(self, target: Connection, span: Span, order_by: sql.Composable, throttle: Throttle | None) -> Relayed:
        out, into = copy_statements(self._order, span, order_by)
        source = self._connection
        try:
            return relay(
                source.pgconn,
                target.pgconn,
                out.as_bytes(source),
                into.as_bytes(target),
                throttle=throttle,
                stall=self._stall,
            )
        except RelayError as error:
            raise translate(error.error, error.server) from error.error

    def _sorted(self, span: Span) -> bool:
        """Whether to read in the order in which the target's indexes on time grow; asked of the planner once.

        A row that is the last one of an index needs no search for its place, and pages that are filled from one end
        stay full: measured with an index on time DESC, indexes of little more than half the size, a twentieth of the
        target's CPU and a twelfth of the WAL less. But only where the source has such an order anyway: sorting, or
        walking an index of rows that lie about, costs it more.
        """
        if self._sort is None:
            self._sort = self._order.descending is not None and self._in_order_anyway(span)
        return self._sort

    def _in_order_anyway(self, span: Span) -> bool:
        as_it_comes, ordered = (
            explain(self._connection, rows_of(self._order, span, order_by))
            for order_by in (ledger.NOTHING, by_time(self._order))
        )
        # What another server sorts cannot be seen here, and batches of compressed chunks would be merged.
        if any(
            "Sort" in node["Node Type"]
            or node["Node Type"] == "Foreign Scan"
            or node.get("Custom Plan Provider", "ChunkAppend") not in _APPENDS
            for node in nodes(ordered)
        ):
            return False
        return bool(ordered["Total Cost"] <= as_it_comes["Total Cost"] * _DEARER)

    def _was_dropped(self, span: Span) -> bool:
        """Of a hypertable of which there were rows in `span`: whether no chunk of it is left there."""
        relation = self._axis.relation
        if not is_hypertable(self._connection, read_server(self._connection), relation):
            return False
        chunks = read_chunks(self._connection, relation, self._axis.time_type)
        return not any(_reaches(chunk.lower, chunk.upper, span) for chunk in chunks)

    def check(self) -> None:
        names = [c.source for c in self._order.columns]
        self._ask(lambda: check_identity(self._connection, "source", self._axis.relation, names))

    def anything(self, span: Span) -> bool:
        """One probe of the index; without one every look would read everything, and the plan has looked already."""
        if not self._order.source_indexed:
            return True
        axis = self._axis
        probe = axis.compose("survey/first", range=axis.condition(span))
        return self._ask(lambda: self._connection.execute(probe).fetchone()) is not None

    def samples(self, columns: Sequence[MovedColumn], limit: int) -> list[list[str | None]]:
        statement = sql.SQL(query("window/sample")).format(
            columns=sql.SQL(", ").join(_text(c) for c in columns),
            names=sql.SQL(", ").join(sql.Identifier("t", name) for name in {c.source for c in columns}),
            relation=self._axis.relation.identifier,
            column=sql.Identifier(self._axis.column),
            size=sql.SQL(" + ").join(
                sql.SQL("coalesce(pg_catalog.pg_column_size({}), 0)").format(sql.Identifier("r", c.source))
                for c in columns
            ),
            limit=sql.Literal(limit),
        )
        found: list[Any] = self._ask(lambda: self._connection.execute(statement).fetchall())
        return [list(row) for row in found]


def _reaches(lower: int | None, upper: int | None, span: Span) -> bool:
    """Whether [lower, upper), open where None, has a part of `span`."""
    return (lower is None or lower < span.upper) and (upper is None or span.lower is None or upper > span.lower)


def _text(column: MovedColumn) -> sql.Composed:
    name = sql.Identifier("r", column.source)
    if column.cast:
        return sql.SQL("{}::{}::text").format(name, sql.SQL(cast(Any, column.cast)))
    return sql.SQL("{}::text").format(name)
