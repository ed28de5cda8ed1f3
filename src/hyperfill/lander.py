"""A worker's part in landing chunks compressed: before, inside and after the window transaction.

Before: the chunk of a window that is to be written compressed is compressed while it is still empty, in a short
transaction, for a plain one would end up half plain. Inside: whether it can still be done is looked at once the window
is empty; otherwise it is written plain. After: what a window has filled to the last row is compressed, if it was not
written so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from hyperfill import columnstore, conversions, ledger
from hyperfill.catalog import Chunk
from hyperfill.columnstore import Settings
from hyperfill.compressed import (
    COMPRESSED,
    FROZEN,
    LOCK_TIMEOUT_MS,
    RETRIED,
    compress_function,
    compress_statement,
    has_rows,
    statuses,
)
from hyperfill.errors import WindowError, first_line, retrying
from hyperfill.places import Places
from hyperfill.session import Connection
from hyperfill.sql import query
from hyperfill.timeline import Span
from hyperfill.window import Order, Sorting, span_of

_PATIENCE = 2.0  # seconds for a lock, in a worker; what is not free then is tried again at the end of the run


class Lander:
    """One for each worker and order."""

    def __init__(self, order: Order, notice: Callable[[str], None]) -> None:
        """`notice` is told once, in a sentence, why chunks are not written compressed although they were to be."""
        self._order = order
        self._notice = notice
        self._places = Places(order.hypertable)
        self._said = False
        self._busy = False  # somebody was in a chunk for long: he may be in the next one as well
        self._tried: set[int] = set()
        self._sorted = 0  # the window that is written compressed now
        self._refused: set[int] = set()  # windows that could not be
        self._settings: Settings | None = None  # by which the rows of the window were sorted
        self._chunks: tuple[int, list[Chunk]] = 0, []  # of the window that was looked at last

    def _say(self, text: str) -> None:
        if not self._said:
            self._said = True
            self._notice(text)

    def plain_and_empty(self, target: Connection, claim: ledger.Claim, window: Span) -> list[Chunk]:
        """Chunks to be compressed before this window is written, outside of its transaction; usually none."""
        if claim.conversion is None or not self._order.converts or self._order.sides is None:
            self._chunks = 0, []
            return []
        chunks = self._places.chunks_in(target, window)
        if not all(conversions.fits(chunk, window) for chunk in chunks):
            chunks = []  # rows of other windows would come into the same chunk, after these
        self._chunks = claim.id, chunks
        new = [chunk for chunk in chunks if chunk.oid not in self._tried]
        bits = statuses(target, [chunk.oid for chunk in new])
        plain = [chunk for chunk in new if bits.get(chunk.oid, COMPRESSED) & COMPRESSED == 0]
        return [chunk for chunk in plain if not has_rows(target, chunk)]

    def compress_empty(self, target: Connection, chunks: list[Chunk]) -> None:
        """Compress chunks without rows, each in a short transaction. A window whose chunk fails is plain."""
        function = compress_function(target)
        for chunk in chunks:
            self._tried.add(chunk.oid)

            def attempt(oid: int = chunk.oid) -> None:
                with target.transaction():
                    target.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_TIMEOUT_MS}ms"])
                    name = f"hyperfill/{self._order.backfill}/chunk"
                    target.execute("SELECT set_config('application_name', %s, true)", [name])
                    # The window is free meanwhile: another worker may be about to do the same.
                    target.execute(query("window/one_maker"), [self._order.hypertable_oid])
                    if statuses(target, [oid]).get(oid, COMPRESSED) & COMPRESSED == 0:
                        target.execute(compress_statement(function, oid))

            try:
                retrying(attempt, seconds=_PATIENCE, states=RETRIED)
            except psycopg.Error as error:
                if target.closed:
                    raise
                self._say(f"{chunk.name} is not written compressed: {first_line(error)}")

    # -- window.Landing ------------------------------------------------------------------------------------------

    def begin(self, target: Connection, claim: ledger.Claim) -> Sorting | None:
        sides = self._order.sides
        window, chunks = self._chunks
        self._sorted = 0
        if claim.conversion is None or sides is None or window != claim.id or not chunks or window in self._refused:
            return None
        for chunk in chunks:
            name = sql.Identifier(chunk.schema, chunk.name)
            target.execute(sql.SQL(query("conversions/keep_chunk")).format(chunk=name))
        bits = statuses(target, [chunk.oid for chunk in chunks])
        # Into a plain chunk the server would write compressed rows as well, after changing its row in the catalog,
        # which the application's next insert would wait for until this window ends.
        if any(bits.get(chunk.oid, 0) & (COMPRESSED | FROZEN) != COMPRESSED for chunk in chunks):
            return None
        # Each chunk keeps the settings that it was compressed with.
        settings = columnstore.same([columnstore.read_settings(target, chunk.oid) for chunk in chunks])
        if settings is None or settings.segmentby is None or sides.problem(settings) is not None:
            return None
        if self._order.hypertable.partitions:
            # The COPY makes the chunks of partitions that have none, compressed as the hypertable says now.
            new = columnstore.read_settings(target, self._order.hypertable_oid)
            if new is None or new.segmentby != settings.segmentby or new.orderby not in ((), settings.orderby):
                return None
        self._settings = settings
        target.execute(query("conversions/write_compressed"))
        self._sorted = claim.id
        slices = columnstore.time_first(settings, self._order.target.column)
        return Sorting(sides.order_by(settings), slices)

    def end(self, target: Connection, claim: ledger.Claim) -> None:
        _, chunks = self._chunks
        if self._order.hypertable.partitions:
            chunks = self._places.chunks_in(target, span_of(self._order, claim))
        if columnstore.same([columnstore.read_settings(target, chunk.oid) for chunk in chunks]) != self._settings:
            raise WindowError(
                "segmentby or orderby was altered while the window was written", server="target", transient=True
            )
        bits = statuses(target, [chunk.oid for chunk in chunks])
        # Not so where a trigger that nobody knew of has turned it into plain rows, or where rows were there before.
        if all(conversions.in_order(bits.get(chunk.oid, 0)) for chunk in chunks):
            arguments: dict[str, Any] = {"backfill": self._order.backfill, "id": claim.conversion, "written": True}
            target.execute(query("conversions/done"), arguments)

    def refused(self, window: int, error: WindowError) -> bool:
        """Whether this window was written compressed when the target refused it: it is to be tried plain then.

        A thousand values of a megabyte fit into no compressed row, for one (54000). What a plain row meets as well is
        met again.
        """
        cancelled = error.sqlstate in (None, "57014")
        mine = window == self._sorted and error.server == "target" and not cancelled
        if not mine or error.transient or window in self._refused:
            return False
        self._refused.add(window)
        self._say(f"window {window} could not be written compressed ({error.message}): it is written plain")
        return True

    # -- afterwards ----------------------------------------------------------------------------------------------

    def filled(self, target: Connection, window: int) -> None:
        """Compress the chunks that this window, which is done, was the last one to fill.

        What is in the way is left to the end of the run, which tries for longer and says so.
        """
        if not self._order.converts:
            return
        try:
            for one in conversions.ready(target, self._order, window):
                self._convert(target, one)
        except (psycopg.Error, conversions.Never):
            pass  # a connection that is lost is opened again for the next window

    def _convert(self, target: Connection, one: conversions.Ready) -> None:
        try:
            attempt = partial(conversions.convert, target, self._order, one, self._places)
            retrying(attempt, seconds=0 if self._busy else _PATIENCE, states=RETRIED)
            self._busy = False
        except psycopg.Error:
            self._busy = True
            raise
