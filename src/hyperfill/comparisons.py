"""What the ledger keeps of comparisons: of each window the last one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hyperfill.comparing import Compared, Piece
from hyperfill.errors import retrying
from hyperfill.fingerprint import Mode
from hyperfill.ledger import jsonb
from hyperfill.session import Connection
from hyperfill.sql import query
from hyperfill.timeline import Span, TimeType


def pieces(connection: Connection, backfill: int, time_type: TimeType) -> list[Piece]:
    """The windows of a backfill, in the order of time."""
    rows: list[Any] = connection.execute(query("comparisons/windows"), [backfill]).fetchall()
    return [
        Piece(r[0], Span(None if r[1] is None else time_type.ordinal(r[1]), time_type.ordinal(r[2])), r[3])
        for r in rows
    ]


def equal(connection: Connection, backfill: int, mode: Mode) -> set[int]:
    """The windows that need not be compared again: nothing of them is moved after their first comparison."""
    rows: list[Any] = connection.execute(query("comparisons/equal"), {"backfill": backfill, "mode": mode}).fetchall()
    return {row[0] for row in rows}


def record(connection: Connection, backfill: int, mode: Mode, results: Sequence[Compared]) -> None:
    """Note what was found."""
    if not results:
        return
    found = [
        {
            "window_id": r.piece.id,
            "source_rows": r.source.rows,
            "target_rows": r.target.rows,
            "source_hash": r.source.hash,
            "target_hash": r.target.hash,
            "equal": r.equal,
        }
        for r in results
    ]
    arguments = {"backfill": backfill, "mode": mode, "results": jsonb(found)}
    retrying(lambda: connection.execute(query("comparisons/record"), arguments), seconds=30)
