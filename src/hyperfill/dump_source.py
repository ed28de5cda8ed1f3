"""The files of a dump as the source of windows' rows: one file for each window."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import psycopg
from psycopg import sql

from hyperfill import encode, ledger, manifest
from hyperfill.archives import ArchiveError, Input, open_input
from hyperfill.endpoint import RelayError
from hyperfill.errors import STALL_SECONDS, WindowError
from hyperfill.manifest import DumpedWindow
from hyperfill.relay import Relayed, Throttle, feed
from hyperfill.sampling import Rows
from hyperfill.session import Connection
from hyperfill.splitter import CsvError, Splitter
from hyperfill.sql import query
from hyperfill.timeline import BoundError, Span
from hyperfill.window import MovedColumn, Order, Sorting, translate

_BLOCK = 1 << 20
_EVERY = 64 * 1024  # bytes of a file between two rows whose times are looked at
_PIECE = 8 << 20
_EOL = b"\n"


class DumpSource:
    """A `RowSource`. Reads the manifest once: one for each worker and order."""

    def __init__(self, order: Order, stall: float | None = STALL_SECONDS) -> None:
        """`stall`: as in `relay`."""
        assert order.dump is not None
        self._stall = stall
        self._order = order
        self._folder = Path(order.dump)
        self._manifest = manifest.read(self._folder)
        time_type = order.target.time_type
        self._uppers = [time_type.ordinal(w.upper) for w in self._manifest.windows]
        self._times: tuple[int, list[int]] = (0, [])  # of the last window that was looked into
        self._encoder: encode.Encoder | None = None
        columns = [order.target.relation.column(c.target) for c in order.columns]
        known = [c for c in columns if c is not None]
        if order.encode != "server" and not (encode.why_not(known, self._manifest.dialect) or encode.available()):
            self._encoder = encode.Encoder(known, self._manifest.dialect, _EOL)

    def name(self, window: str) -> None:
        """No session to name."""

    def check(self) -> None:
        """Nothing that could have been swapped: the file was compared with the manifest when it was sent."""

    def send(
        self,
        target: Connection,
        claim: ledger.Claim,
        span: Span,
        throttle: Throttle | None,
        sorting: Sorting | None = None,  # never: files come as they are
    ) -> Relayed:
        window = self._manifest.windows[claim.id - 1]
        if (window.lower, window.upper) != (claim.lower, claim.upper):
            raise WindowError("the dump's manifest is another one than when the load began", server="source")
        if not window.rows:
            return Relayed()
        total = Relayed(rows_sent=window.rows)
        try:
            self._compare(window)
            with open_input(self._folder / window.file) as opened:
                if self._encoder is None:
                    statement = self._into(binary=False, header=True).as_bytes(target)
                    fed = feed(target.pgconn, statement, _blocks(opened), throttle=throttle, stall=self._stall)
                    total.rows_taken, total.bytes = fed.rows_taken, fed.bytes
                else:
                    self._send_pieces(target, opened, total, throttle)
        except RelayError as error:
            raise translate(error.error, error.server) from error.error
        except (ArchiveError, CsvError) as error:
            raise WindowError(f"{window.file}: {error.message}", server="source", hint=error.hint) from None
        return total

    def _send_pieces(self, target: Connection, opened: Input, total: Relayed, throttle: Throttle | None) -> None:
        """One COPY for each piece, binary where it can be: all of them are the window's transaction."""
        assert self._encoder is not None
        splitter = Splitter(opened.read, self._manifest.dialect, max_bytes=_PIECE)
        splitter.header()
        for piece in splitter.pieces():
            encoded = self._encoder.encode(piece.data, piece.rows)
            statement = self._into(binary=encoded is not None).as_bytes(target)
            fed = feed(target.pgconn, statement, [encoded or piece.data], throttle=throttle, stall=self._stall)
            total.rows_taken += fed.rows_taken
            total.bytes += fed.bytes

    def _into(self, *, binary: bool, header: bool = False) -> sql.Composed:
        options = self._manifest.dialect.copy_options()
        return sql.SQL(query("load/copy_in")).format(
            relation=self._order.target.relation.identifier,
            columns=sql.SQL(", ").join(sql.Identifier(c.target) for c in self._order.columns),
            options=sql.SQL("FORMAT binary")
            if binary
            else sql.SQL(", ").join([options, sql.SQL("HEADER")])
            if header
            else options,
            where=sql.SQL(""),
        )

    def _compare(self, window: DumpedWindow) -> None:
        """Raise `WindowError` if the file is not the one that was dumped."""
        found = sha256()
        try:
            with (self._folder / window.file).open("rb") as file:
                while block := file.read(_BLOCK):
                    found.update(block)
        except OSError as error:
            raise WindowError(f"{window.file} cannot be read: {error.strerror}", server="source") from None
        if found.hexdigest() != window.sha256:
            raise WindowError(
                f"{window.file} changed since it was dumped: its sha256 is another one",
                server="source",
                hint="get the file again, or dump again",
            )

    # -- for chunks ----------------------------------------------------------------------------------------------

    def anything(self, span: Span) -> bool:
        first = 0 if span.lower is None else bisect_right(self._uppers, span.lower)
        for window in self._manifest.windows[first:]:
            lower = None if window.lower is None else self._order.target.time_type.ordinal(window.lower)
            if lower is not None and lower >= span.upper:
                return False
            upper = self._order.target.time_type.ordinal(window.upper)
            if not window.rows:
                continue
            if span.covers(Span(lower, upper)) or any(span.contains(at) for at in self._times_of(window)):
                return True
        return False

    def _times_of(self, window: DumpedWindow) -> list[int]:
        """The times of some rows of a window, all over its file."""
        if self._times[0] != window.id:
            names = [c.target for c in self._order.columns]
            times: list[int] = []
            with open_input(self._folder / window.file) as opened:
                splitter = Splitter(opened.read, self._manifest.dialect, max_bytes=_EVERY)
                splitter.header()
                for piece in splitter.pieces():
                    rows = Rows(piece.data, piece.rows, self._manifest.dialect, _EOL, names)
                    for row in rows.spread(4):
                        values = rows.values(row)
                        text = values[names.index(self._order.target.column)] if values else None
                        if text is not None:
                            times += self._ordinal(text)
            self._times = window.id, times
        return self._times[1]

    def _ordinal(self, text: str) -> Iterator[int]:
        try:
            yield self._order.target.time_type.ordinal(text)
        except BoundError:
            return  # an infinity

    def samples(self, columns: Sequence[MovedColumn], limit: int) -> list[list[str | None]]:
        names = [c.target for c in self._order.columns]
        for window in self._manifest.windows:
            if window.rows:
                try:
                    with open_input(self._folder / window.file) as opened:
                        splitter = Splitter(opened.read, self._manifest.dialect, max_bytes=_EVERY)
                        splitter.header()
                        piece = next(splitter.pieces())
                except (ArchiveError, CsvError, StopIteration, OSError, psycopg.Error):
                    return []
                rows = Rows(piece.data, piece.rows, self._manifest.dialect, _EOL, names)
                return rows.samples(columns, limit)
        return []


def _blocks(opened: Input) -> Iterator[bytes]:
    while block := opened.read(_BLOCK):
        yield block
