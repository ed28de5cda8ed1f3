"""A batch that the target does not take, narrowed down to the rows that are at fault. In the batch's transaction."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable

import psycopg

from hyperfill.csvrows import count_lines, first_break, row_spans
from hyperfill.dialect import Dialect
from hyperfill.errors import first_line
from hyperfill.loads import Batch, Figures, Reject
from hyperfill.session import Connection

# Rows that are copied at once while bad ones are looked for: after each of them the rest of a block is sent again.
_BLOCK = 256
_OTHER_END = "the row ends with another kind of line end than the file's others"
# What is nobody's row's fault: connection, transaction, rights, statements, locks, resources, the server itself.
# Anything else may be a row's, also what a trigger raises with a code of its own.
_SYSTEM = frozenset(
    {
        "08",
        "0A",
        "0B",
        "25",
        "26",
        "28",
        "2D",
        "34",
        "3B",
        "3D",
        "3F",
        "40",
        "42",
        "53",
        "55",
        "57",
        "58",
        "72",
        "F0",
        "XX",
    }
)


class BadRow(Exception):
    """A row that the target would not take, as the server said it."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.error = error


def is_of_a_row(error: psycopg.Error) -> bool:
    """Whether a row may be at fault, so that the others could go in."""
    return error.sqlstate is not None and error.sqlstate[:2] not in _SYSTEM


class RowMap:
    """The rows of a batch: where each lies, and in which line of the file it begins."""

    def __init__(self, batch: Batch, dialect: Dialect, eol: bytes) -> None:
        self._batch = batch
        self._dialect = dialect
        self.eol = eol
        self.spans: list[tuple[int, int]] = list(row_spans(batch.data, dialect, eol))
        self.lines: list[int] = []
        line = batch.line
        for start, end in self.spans:
            self.lines.append(line)
            line += max(1, count_lines(batch.data[start:end], eol))

    def __len__(self) -> int:
        return len(self.spans)

    def bytes_of(self, first: int, last: int) -> memoryview:
        """The rows from `first` up to `last`, which is not among them."""
        return memoryview(self._batch.data)[self.spans[first][0] : self.spans[last - 1][1]]

    def row(self, number: int) -> bytes:
        start, end = self.spans[number]
        return self._batch.data[start:end]

    def offset(self, number: int) -> int:
        """Where a row begins in the file's content."""
        return self._batch.start + self.spans[number][0]

    def other_end(self, number: int) -> bool:
        """Whether a row ends otherwise than the file's rows do. A COPY that begins with it would not notice."""
        return first_break(self.row(number), self._dialect)[1] not in (None, self.eol)

    def at(self, error: psycopg.Error, name: str, first: int, last: int, *, binary: bool) -> int | None:
        """The row that a COPY of the rows from `first` to `last` into relation `name` was at; None: it does not say."""
        context = (error.diag.context or "").replace(name, "", 1).replace("hyperfill_stage", "", 1)
        match = re.search(r"^COPY [^\d\"]*(\d+)", context, re.MULTILINE)
        if match is None:
            return None
        number = int(match[1])
        if binary:
            return first + number - 1 if 0 < number <= last - first else None
        # The server counts lines from 1, and has read the row's last one when it complains.
        line = self.lines[first] + number - 1
        if number > 1 and self.eol == b"\n" and last - first > 1:
            # As long as it has seen no line end, it does not know that those in the quotes of the first row are some.
            line += self.lines[first + 1] - self.lines[first] - 1
        return min(max(bisect_right(self.lines, line, first, last) - 1, first), last - 1)


def narrow(
    target: Connection,
    rows: RowMap,
    name: str,
    attempt: Callable[[int, int], Figures],
    otherwise: Callable[[psycopg.Error], bool],
    allowed: int,
) -> tuple[Figures, list[Reject]]:
    """Place every row that the target takes; figures of those, and the others, at most one more than `allowed`.

    `attempt` copies rows from a first up to a last, or raises `BadRow`; `otherwise` says whether the same rows are
    worth another attempt after an error.
    """
    bad: list[Reject] = []
    figures = Figures()
    blocks = [(first, min(first + _BLOCK, len(rows))) for first in range(0, len(rows), _BLOCK)]
    stack = blocks[::-1]

    def reject(number: int, sqlstate: str | None, message: str) -> None:
        bad.append(Reject(rows.offset(number), rows.lines[number], rows.row(number), sqlstate, message))

    while stack and len(bad) <= allowed:
        first, last = stack.pop()
        if first >= last:
            continue
        if rows.other_end(first):
            reject(first, "22P04", _OTHER_END)
            stack.append((first + 1, last))
            continue
        target.execute("SAVEPOINT hyperfill_rows")
        try:
            figures += attempt(first, last)
            target.execute("RELEASE hyperfill_rows")
            continue
        except BadRow as found:
            target.execute("ROLLBACK TO hyperfill_rows")
            target.execute("RELEASE hyperfill_rows")
            error = found.error
        if otherwise(error):
            stack.append((first, last))
        elif last - first == 1:
            reject(first, error.sqlstate, first_line(error))
        else:
            at = rows.at(error, name, first, last, binary=False)
            # In the order of the file: of two rows with one key the first is the good one.
            if at is None or (at == first and error.sqlstate == "23503"):
                middle = (first + last) // 2
                stack += [(middle, last), (first, middle)]
            else:
                stack += [(at + 1, last), (at, at + 1), (first, at)]
    return figures, bad
