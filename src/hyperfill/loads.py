"""What the ledger keeps of a load beyond its windows: files, batches, rejected rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from hyperfill.catalog import read_chunks
from hyperfill.errors import WindowError, retrying
from hyperfill.ledger import jsonb
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query
from hyperfill.timeline import Span
from hyperfill.window import Order


@dataclass(frozen=True)
class InputFile:
    """A file of a load. `content_bytes` is its size when it is not compressed, else None until it has been read."""

    id: int  # from 1
    path: str  # absolute; '-' for standard input
    size: int | None
    content_bytes: int | None


@dataclass(frozen=True)
class Batch:
    """A stretch of a file in whole rows: `start` is its byte offset in the content, `line` its first line, from 1."""

    file: int
    start: int
    line: int
    rows: int
    data: bytes
    xxh3: bytes

    @property
    def length(self) -> int:
        return len(self.data)

    def key(self, load: int) -> dict[str, Any]:
        """Its row in the ledger."""
        return {
            "backfill": load,
            "file": self.file,
            "start": self.start,
            "length": self.length,
            "line": self.line,
            "xxh3": self.xxh3,
            "rows": self.rows,
        }


@dataclass(frozen=True)
class Loaded:
    """A batch that is in the target."""

    start: int
    length: int
    line: int
    rows: int
    xxh3: bytes

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class Figures:
    """What became of a batch's rows."""

    copied: int = 0
    skipped: int = 0  # in conflict with rows that were there
    outside: int = 0  # of the range
    rejected: int = 0

    @property
    def total(self) -> int:
        return self.copied + self.skipped + self.outside + self.rejected

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.copied + other.copied,
            self.skipped + other.skipped,
            self.outside + other.outside,
            self.rejected + other.rejected,
        )


@dataclass(frozen=True)
class Reject:
    """A row that the target would not take, as it was."""

    start: int  # byte offset in the file's content
    line: int
    row: bytes
    sqlstate: str | None
    message: str


def insert_files(connection: Connection, load: int, files: Sequence[InputFile]) -> None:
    """Enter the files of a new load; in the transaction that enters the load."""
    for file in files:
        connection.execute(query("load/insert_file"), [load, file.id, file.path, file.size, file.content_bytes])


def take_over(connection: Connection, old: int, new: int) -> None:
    """Step into the place of a load of which nothing came: its holds are the new one's, and it is gone."""
    connection.execute(query("load/take_holds"), [new, old])
    connection.execute(query("ledger/delete_backfill"), [old])


def done(connection: Connection, load: int) -> dict[int, list[Loaded]]:
    """The batches that are loaded, by file, in the order of its bytes."""
    found: dict[int, list[Loaded]] = {}
    rows: list[Any] = connection.execute(query("load/done"), [load]).fetchall()
    for row in rows:
        found.setdefault(row[0], []).append(Loaded(row[1], row[2], row[3], row[4], bytes(row[5])))
    return found


def claim(connection: Connection, key: dict[str, Any]) -> bool:
    """Make a batch this transaction's; False if it is loaded already. Waits for whoever is at it."""
    return connection.execute(query("load/claim"), key).fetchone() is not None


def finish(connection: Connection, key: dict[str, Any], figures: Figures, encoded: str, relation: int) -> None:
    """Write the figures of a batch, in the transaction that loaded it."""
    values = {
        **key,
        "copied": figures.copied,
        "skipped": figures.skipped,
        "outside": figures.outside,
        "rejected": figures.rejected,
        "encoded": encoded,
        "relation": relation,
    }
    if connection.execute(query("load/finish"), values).rowcount != 1:
        raise WindowError("the ledger lost this batch while it was loaded", hint="was the ledger cleaned meanwhile?")


def record_failure(connection: Connection, key: dict[str, Any], error: WindowError) -> None:
    """Note why a batch was rolled back."""

    def write(reason: dict[str, Any]) -> None:
        values = {**key, "error": jsonb(reason)}
        retrying(lambda: connection.execute(query("load/fail"), values), seconds=10)

    try:
        write(error.as_json())
    except psycopg.DataError:
        # What the server quoted of the file has characters that the target's encoding cannot hold.
        write({k: str(v).encode("ascii", "replace").decode() for k, v in error.as_json().items()})


def failed(connection: Connection, load: int) -> list[dict[str, Any]]:
    """Batches that failed, with their place and reason (at most 100)."""
    rows: list[Any] = connection.execute(query("load/failed"), [load]).fetchall()
    return [{"file": r[0], "offset": r[1], "length": r[2], "line": r[3], "rows": r[4], **(r[5] or {})} for r in rows]


def add_rejects(connection: Connection, load: int, batch: Batch, rejects: Sequence[Reject], allowed: int) -> None:
    """Enter rejected rows, in the batch's transaction. Raises `WindowError` if the load has more than `allowed` then.

    Until the transaction ends no other batch of the load can do the same.
    """
    connection.execute("SELECT pg_catalog.set_config('lock_timeout', '60s', true)")
    connection.execute(query("load/lock_rejects"), [load])
    before = count_rejects(connection, load)
    if before + len(rejects) > allowed:
        first = rejects[0]
        raise WindowError(
            f"line {first.line} (byte {first.start}): {first.message}; with {before + len(rejects):,} rows rejected "
            f"there are more than --max-rejects {allowed:,}",
            sqlstate=first.sqlstate,
            server="target",
            hint="of this batch nothing was kept; mend the cause, or allow more, and run the same command again",
        )
    for one in rejects:
        message = one.message.replace("\0", "")
        arguments = [load, batch.file, batch.start, one.start, one.line, one.row, one.sqlstate, message]
        connection.execute(query("load/insert_reject"), arguments)


def count_rejects(connection: Connection, load: int) -> int:
    """How many rows of a load were rejected so far."""
    return int(str(fetch_one(connection, query("load/count_rejects"), [load])[0]))


def rejects(connection: Connection, load: int) -> Iterator[tuple[Any, ...]]:
    """All rejected rows: path, file, line, offset, SQLSTATE, message, the row's bytes."""
    with connection.transaction(), connection.cursor(name="hyperfill_rejects") as cursor:
        cursor.execute(query("load/rejects"), [load])
        yield from cursor


def touched(connection: Connection, order: Order) -> list[Span]:
    """The ranges of the chunks into which batches wrote, in time order, disjoint."""
    written = {int(str(r[0])) for r in connection.execute(query("load/chunks"), [order.backfill])}
    time_type = order.target.time_type
    spans: list[Span] = []
    for chunk in read_chunks(connection, order.target.relation, time_type):
        if chunk.oid not in written:
            continue
        upper = time_type.maximum + 1 if chunk.upper is None else chunk.upper
        if spans and (chunk.lower is None or chunk.lower < spans[-1].upper):
            spans[-1] = Span(spans[-1].lower, max(spans[-1].upper, upper))
        else:
            spans.append(Span(chunk.lower, upper))
    return spans


def restart(connection: Connection, load: int) -> None:
    """Forget what a load of standard input has loaded: its range is going to be cleared again."""
    connection.execute(query("load/restart"), {"id": load})


def try_alone(connection: Connection, load: int) -> bool:
    """Whether no other run works on this load; until this session ends nobody else gets the same answer."""
    return bool(fetch_one(connection, query("load/try_alone"), [load])[0])
