"""Batches of CSV as COPY BINARY, encoded by the client: the target's share of the work is halved.

One rule stands above speed: a batch in which a single value could mean something else to the server than
to Arrow is not encoded, and goes to the server as the CSV it is. Types come from the target's catalog and
from nowhere else: COPY BINARY takes a wrong type of the same width without a word.

Importing this module loads neither Arrow nor numpy; making an `Encoder` does (extra `hyperfill[arrow]`).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import re
import threading
from collections.abc import Sequence

from hyperfill.catalog import Column
from hyperfill.dialect import Dialect
from hyperfill.pgtypes import Type

_SUPPORTED = frozenset(
    {
        "int2", "int4", "int8", "float4", "float8", "bool", "text", "varchar", "bpchar",
        "timestamptz", "timestamp", "date", "uuid", "numeric",
    }
)  # fmt: skip
# The oldest that the tests pass with. pgpq before 0.12 writes other numbers for some numerics, without a word.
_OLDEST = {"numpy": (1, 26), "pyarrow": (18, 0), "pgpq": (0, 12)}
# What Arrow's decimals of 128 bits hold.
_DECIMAL_DIGITS = 38


def why_not(columns: Sequence[Column], dialect: Dialect) -> str | None:
    """Why batches of these columns in this dialect are never encoded, as a sentence; None if they can be."""
    if re.sub(r"[^a-z0-9]", "", dialect.encoding.lower()) not in ("utf8", "unicode"):
        return f"the encoding is {dialect.encoding}, not UTF8"
    if not dialect.doubled:
        return "the escape character differs from the quote"
    if dialect.force_null or dialect.force_not_null:
        return "--force-null and --force-not-null are understood by the server only"
    if not columns:
        return "there are no columns"
    for column in columns:
        reason = _type_problem(column.of)
        if reason:
            return f"column {column.name}: {reason}"
    return None


def available() -> str | None:
    """Why this installation cannot encode, as a sentence; None if it can. Loads Arrow."""
    for module, oldest in _OLDEST.items():
        try:
            importlib.import_module(module)
            version = importlib.metadata.version(module)
        except ImportError as error:
            return f"{module} cannot be loaded ({error}); it comes with the extra hyperfill[arrow]"
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < oldest:
            return f"{module} {version} is too old; the extra hyperfill[arrow] brings what is needed"
    return None


def preload() -> None:
    """Begin to load Arrow, in the background: a fifth of a second in which servers can be asked already."""

    def begin() -> None:
        with contextlib.suppress(ImportError):
            importlib.import_module("hyperfill.encode_columns")

    threading.Thread(target=begin, name="arrow", daemon=True).start()


def precision_and_scale(typmod: int) -> tuple[int, int]:
    """Precision and scale of a numeric's type modifier, which is not -1."""
    scale = (typmod - 4) & 0x7FF
    return ((typmod - 4) >> 16) & 0xFFFF, scale - 0x800 if scale >= 0x400 else scale


class Encoder:
    """Turns batches of CSV rows into what COPY ... (FORMAT binary) takes: header, rows, trailer.

    `columns` in the order of the fields, `eol` as the file's lines end. `zoneless`: whether a timestamptz
    without a zone may be read as UTC, which is right if the session's TimeZone is pinned to UTC.
    Raises `ValueError` where `why_not` has an answer, `ImportError` where `available` has one.
    """

    def __init__(self, columns: Sequence[Column], dialect: Dialect, eol: bytes, *, zoneless: bool = True) -> None:
        problem = why_not(columns, dialect)
        if problem:
            raise ValueError(problem)
        missing = available()
        if missing:
            raise ImportError(missing)
        from hyperfill import encode_columns

        self.reason = ""  # why the last batch was not encoded
        self._module = encode_columns
        self._layout = encode_columns.Layout([c.of for c in columns], dialect, eol, zoneless)

    def encode(self, data: bytes, rows: int) -> bytes | memoryview | None:
        """The batch as COPY BINARY, or None: then it must be sent as it is, and `reason` says why.

        What is returned is valid until the next call.

        `data` is whole rows without a header, `rows` the number of lines outside quotes, empty ones
        included: if Arrow finds another number, one of the two has misread the data.
        """
        self.reason = ""
        try:
            return self._layout.encode(data, rows)
        except self._module.FAILURES as error:
            self.reason = str(error).partition("\n")[0][:300] or type(error).__name__
            return None


def _type_problem(of: Type) -> str | None:
    if of.kind != "b" or not of.builtin or of.name not in _SUPPORTED:
        return f"the type {of.name} is read by the server only"
    if of.name == "numeric":
        if of.typmod == -1:
            return "a numeric without precision is read by the server only"
        precision, scale = precision_and_scale(of.typmod)
        if not 0 <= scale <= precision <= _DECIMAL_DIGITS:
            return f"numeric({precision},{scale}) is read by the server only"
    return None
