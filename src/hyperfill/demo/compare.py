"""Looking at both sides: how many rows, the same rows, the same stored rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from hyperfill.demo.data import Table
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query


@dataclass(frozen=True)
class Digest:
    """Rows of a range, and the sum of their hashes as text."""

    rows: int
    hash: str

    @property
    def short(self) -> str:
        """A few digits of the hash, enough to be compared by eye."""
        return f"{int(self.hash) & 0xFFFFFFFFFFFF:012x}"


def _digest(name: LiteralString, connection: Connection, table: Table, start: str, end: str) -> Digest:
    statement = sql.SQL(query(name)).format(
        table=table.identifier,
        column=sql.Identifier(table.column),
        start=sql.Literal(start),
        end=sql.Literal(end),
    )
    row = fetch_one(connection, statement)
    return Digest(int(str(row[0])), str(row[1]))


def contents(connection: Connection, table: Table, start: str, end: str) -> Digest:
    """The rows of `[start, end)` by value: comparable between servers."""
    return _digest("demo/digest", connection, table, start, end)


def stored(connection: Connection, table: Table, start: str, end: str) -> Digest:
    """The rows of `[start, end)` by value, place and writing transaction: comparable on one server only."""
    return _digest("demo/identity", connection, table, start, end)
