"""A few rows of a file, looked at before they are sent: for the chunks that they need, and as patterns to make them."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from hyperfill.dialect import Dialect
from hyperfill.session import Connection
from hyperfill.splitter import CsvError, count_lines, fields_of, row_spans
from hyperfill.sql import query
from hyperfill.timeline import BoundError, Span
from hyperfill.window import MovedColumn, Order

_ROWS = 5
MANY = 100  # where a few have shown that the rows go into several chunks
# The server's names of encodings that Python calls otherwise.
_CODECS = {
    "UTF8": "utf-8", "UNICODE": "utf-8", "SQL_ASCII": "ascii", "EUC_JIS_2004": "euc_jis_2004", "KOI8R": "koi8-r",
    "KOI8U": "koi8-u", "UHC": "cp949", "SJIS": "cp932", "WIN866": "cp866", "WIN874": "cp874",
    **{f"WIN{n}": f"cp{n}" for n in range(1250, 1259)},
    **{f"LATIN{n}": f"iso8859_{p}" for n, p in zip(range(1, 11), (1, 2, 3, 4, 9, 10, 13, 14, 15, 16), strict=True)},
}  # fmt: skip


def decode(value: bytes, dialect: Dialect) -> str | None:
    """A field as text; None where Python cannot read the encoding: what it was wanted for is then left undone."""
    name = dialect.encoding.upper()
    try:
        return value.decode(codecs.lookup(_CODECS.get(name, name)).name)
    except (LookupError, UnicodeDecodeError):
        return None


class Rows:
    """Rows spread over a stretch of whole rows. They are `Patterns` as well."""

    def __init__(self, data: bytes, rows: int, dialect: Dialect, eol: bytes, columns: Sequence[str]) -> None:
        self._data = data
        self._count = rows
        self._dialect = dialect
        self._eol = eol
        self._columns = list(columns)

    def spread(self, number: int = _ROWS) -> Iterator[bytes]:
        """About `number` rows: the first, the last, and others at even distances."""
        data = self._data
        lines = self._count
        if self._dialect.quote.encode() in data:  # otherwise every line end ends a row
            lines = count_lines(data, self._eol) + (not data.endswith(self._eol[-1:]))
        if self._count <= number or lines != self._count:
            spans = list(row_spans(data, self._dialect, self._eol))
            step = max(1, (len(spans) - 1) // max(1, number - 1))
            for start, end in [*spans[:-1:step], *spans[-1:]]:
                yield data[start:end]
            return
        mark = self._eol[-1:]
        starts = {0, data.rfind(mark, 0, len(data) - 1) + 1}
        starts |= {data.find(mark, len(data) * part // number) + 1 for part in range(1, number - 1)}
        for start in sorted(starts - {len(data)}):
            end = data.find(mark, start)
            yield data[start : len(data) if end < 0 else end + 1]

    def values(self, row: bytes) -> list[str | None] | None:
        """The fields of a row as text, NULL as None; None where they are not as many as columns, or not readable."""
        try:
            fields = fields_of(row, self._dialect, self._eol)
        except CsvError:
            return None
        if len(fields) != len(self._columns):
            return None
        null = self._dialect.null.encode()
        found: list[str | None] = []
        for value, quoted in fields:
            text = None if value == null and not quoted else decode(value, self._dialect)
            if text is None and (value != null or quoted):
                return None
            found.append(text)
        return found

    def column(self, name: str, number: int = _ROWS) -> list[str]:
        """The values of one column in the rows that `spread` gives."""
        index = self._columns.index(name)
        rows = [self.values(row) for row in self.spread(number)]
        return [row[index] or "" for row in rows if row is not None and row[index] is not None]

    # -- patterns for the row that makes a chunk ----------------------------------------------------------------

    def samples(self, columns: Sequence[MovedColumn], limit: int) -> list[list[str | None]]:
        places = [self._columns.index(c.target) for c in columns]
        rows = [self.values(row) for row in self.spread(min(limit, 100))]
        found = [[row[place] for place in places] for row in rows if row is not None]
        return sorted(found, key=lambda values: sum(len(v or "") for v in values))

    def anything(self, span: Span) -> bool:
        return True


def ordinals(target: Connection, order: Order, texts: Sequence[str], times: tuple[str, str] | None) -> list[int]:
    """Times as they are written in a file, as the server reads them; nothing where it cannot read one of them.

    `times`: zone and date style of the file, None for those that every session has.
    """
    statement = sql.SQL(query("load/ordinals")).format(
        values=sql.SQL(", ").join(map(sql.Literal, dict.fromkeys(texts))),
        type=sql.SQL(_literal(order.target.time_type.sql_name)),
        text=sql.SQL(
            "timezone('UTC', v)::text || '+00'" if order.target.time_type.kind.name == "INSTANT" else "v::text"
        ),
    )
    if not texts:
        return []
    try:
        with target.transaction():
            if times is not None:
                target.execute(query("load/times"), list(times))
            rows: list[Any] = target.execute(statement).fetchall()
        found = []
        for row in rows:
            try:
                found.append(order.target.time_type.ordinal(row[0]))
            except BoundError:
                continue  # an infinity, or BC: whatever it is, it needs no chunk of ours
        return sorted(set(found))
    except psycopg.DataError:
        return []


def _literal(name: str) -> Any:
    return name
