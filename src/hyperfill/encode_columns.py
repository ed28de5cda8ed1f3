"""How Arrow must be asked so that it reads CSV exactly as the server would, and what it may not be trusted with.

Loads Arrow and numpy: imported by an `Encoder` only. Everything here raises one of `FAILURES` in doubt.

Arrow is the more tolerant reader, without a word: it takes 0xFF for an integer, 1e400 for infinity and
1e-400 for zero, year 0 and offsets of 23 hours, a quote in the middle of a field for a letter, CR for the
end of a line, a BOM for nothing, an empty line for nothing or for NULLs, and decimals modulo 2^128.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pgpq

# Arrow has no stubs: what comes from it is Any, and named with its type where it leaves this module.
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from pyarrow import csv

from hyperfill.dialect import Dialect
from hyperfill.encode import precision_and_scale
from hyperfill.pgtypes import Type

# Offsets into a block are signed integers of 32 bits.
_LARGEST = 1 << 30
_CR, _LF, _COLON, _HYPHEN = b"\r\n:-"
_INTEGERS = {"int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64()}
# What is read by Arrow's CSV reader itself; the rest is read as text, looked at, and cast.
_DIRECT = {"float4": pa.float32(), "float8": pa.float64(), "bool": pa.bool_(), "date": pa.date32()}
# The server takes any case and prefixes as well; these are what people write.
_TRUE, _FALSE = (
    [f(word) for word in words for f in (str.lower, str.upper, str.capitalize)]
    for words in (("t", "true", "y", "yes", "on", "1"), ("f", "false", "n", "no", "off", "0"))
)
_FIRST_DAY = -719_162  # 0001-01-01, in days since 1970
# With an offset year 0 may end in UTC on the day after its last.
_FIRST_INSTANT = (_FIRST_DAY + 1) * 86_400_000_000

Bytes = npt.NDArray[np.uint8]


class Doubt(Exception):
    """The batch, or a value in it, could mean something else to the server."""


FAILURES = (Doubt, pa.ArrowException, ValueError, OverflowError, MemoryError)


class Layout:
    """Columns and dialect of a file, and what its earlier batches have taught."""

    def __init__(self, types: Sequence[Type], dialect: Dialect, eol: bytes, zoneless: bool) -> None:
        self._types = types
        self._names = [str(i) for i in range(len(types))]
        self._dialect = dialect
        self._eol = eol
        self._zoneless = zoneless
        # Columns of which the text is needed; those of floats come to it with their first zero.
        self._as_text = {i for i, of in enumerate(types) if of.name not in _DIRECT}
        known = [of.name for of in types]
        self._fixed = _Fixed(known) if all(name in _WIDTHS for name in known) else None

    def encode(self, data: bytes, rows: int) -> bytes | memoryview:
        """Header, rows and trailer of COPY BINARY. A memoryview is valid until the next call."""
        if not rows or not data or len(data) > _LARGEST:
            raise Doubt("the batch is empty" if not rows or not data else "the batch is too large for one block")
        if not data.endswith(b"\n"):
            # The same to the server; Arrow takes an empty field there for a quoted one after a quoted one.
            data += self._eol
        check_structure(data, self._dialect, self._eol)
        columns = self._read(data, rows)
        unclear = {i for i in range(len(columns)) if i not in self._as_text and _unclear(columns[i])}
        if unclear:
            self._as_text |= unclear
            columns = self._read(data, rows)
        arrays = [self._convert(i, column) for i, column in enumerate(columns)]
        if self._fixed is not None and not any(array.null_count for array in arrays):
            return self._fixed.encode(arrays, rows)
        batch = pa.RecordBatch.from_arrays(arrays, self._names)
        encoder = pgpq.ArrowToPostgresBinaryEncoder(batch.schema)
        return b"".join((encoder.write_header(), encoder.write_batch(batch), encoder.finish()))

    def _read(self, data: bytes, rows: int) -> list[Any]:
        types = {
            name: pa.string() if i in self._as_text else _DIRECT[self._types[i].name]
            for i, name in enumerate(self._names)
        }
        table = csv.read_csv(
            pa.BufferReader(data),
            csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=self._names),
            csv.ParseOptions(
                delimiter=self._dialect.delimiter,
                quote_char=self._dialect.quote,
                double_quote=True,
                escape_char=False,
                newlines_in_values=True,
                # An empty line is an error for the server, but for a single column: skipped by Arrow, it
                # shows in the number of rows; not skipped, it would be a row of NULLs.
                ignore_empty_lines=len(self._names) > 1,
            ),
            csv.ConvertOptions(
                column_types=types,
                null_values=[self._dialect.null],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=_TRUE,
                false_values=_FALSE,
                check_utf8=not data.isascii(),
            ),
        )
        if table.num_rows != rows:
            raise Doubt(f"Arrow finds {table.num_rows} rows, not {rows}")
        return [_one(column) for column in table.columns]

    def _convert(self, i: int, column: Any) -> Any:
        of = self._types[i]
        match of.name:
            case "int2" | "int4" | "int8":
                return integers(column, _INTEGERS[of.name])
            case "float4" | "float8":
                return floats(column, _DIRECT[of.name]) if i in self._as_text else column
            case "timestamptz":
                return instants(column, zoned=True, zoneless=self._zoneless)
            case "timestamp":
                return instants(column, zoned=False, zoneless=True)
            case "date":
                return dates(column)
            case "uuid":
                return uuids(column)
            case "numeric":
                return decimals(column, *precision_and_scale(of.typmod))
            case "bool" | "text" | "varchar" | "bpchar":
                return column  # the receive functions hold the length of varchar(n) and char(n)
        raise AssertionError(of.name)


class _Fixed:
    """Rows without NULL of columns that all have a fixed width, laid out in one array that is used again and again.

    Measured, 10 floats, batches of 8 MiB: ten times faster than pgpq, whose growing buffer is new memory each time.
    """

    _HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
    _BLOCK = 4096  # rows: what is written column by column stays in the cache

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        fields: list[tuple[str, str]] = [("columns", ">i2")]
        for i, name in enumerate(names):
            fields += [(f"length{i}", ">i4"), (f"value{i}", _WIDTHS[name])]
        self._row = np.dtype(fields)
        self._buffer = bytearray()
        self._end = 0  # where the last trailer is
        self._rows: npt.NDArray[Any] = np.empty(0, self._row)

    def encode(self, arrays: Sequence[Any], rows: int) -> memoryview:
        head = len(self._HEADER)
        if rows > len(self._rows):
            self._buffer = bytearray(head + (rows + rows // 8) * self._row.itemsize + 2)
            self._end = 0
            self._buffer[:head] = self._HEADER
            self._rows = np.frombuffer(self._buffer, self._row, rows + rows // 8, head)
            self._rows["columns"] = len(self._names)
            for i in range(len(self._names)):
                self._rows[f"length{i}"] = self._row[f"value{i}"].itemsize
        values = [_numbers(array, name) for array, name in zip(arrays, self._names, strict=True)]
        targets = [self._rows[f"value{i}"] for i in range(len(values))]
        for first in range(0, rows, self._BLOCK):
            last = min(first + self._BLOCK, rows)
            for target, value in zip(targets, values, strict=True):
                target[first:last] = value[first:last]
        # The trailer lies where the number of columns of one more row would be.
        if self._end:
            self._buffer[self._end : self._end + 2] = len(self._names).to_bytes(2, "big")
        self._end = end = head + rows * self._row.itemsize
        self._buffer[end : end + 2] = b"\xff\xff"
        return memoryview(self._buffer)[: end + 2]


_POSTGRES_EPOCH = 946_684_800_000_000  # microseconds from 1970 to 2000
_POSTGRES_DAY = 10_957
_WIDTHS = {
    "int2": ">i2", "int4": ">i4", "int8": ">i8", "float4": ">f4", "float8": ">f8", "bool": "u1", "date": ">i4",
    "timestamp": ">i8", "timestamptz": ">i8", "uuid": "V16",
}  # fmt: skip


def _numbers(array: Any, name: str) -> npt.NDArray[Any]:
    """The values of an array without NULL, as the server counts them."""
    found: npt.NDArray[Any]
    match name:
        case "timestamp" | "timestamptz":
            found = array.cast(pa.int64()).to_numpy() - _POSTGRES_EPOCH
        case "date":
            found = array.cast(pa.int32()).to_numpy() - _POSTGRES_DAY
        case "uuid":
            found = np.frombuffer(array.buffers()[1], "V16")[array.offset : array.offset + len(array)]
        case "bool":
            found = array.to_numpy(zero_copy_only=False).view(np.uint8)
        case _:
            found = array.to_numpy()
    return found


def check_structure(data: bytes, dialect: Dialect, eol: bytes) -> None:
    """Raise unless Arrow cuts `data`, which ends with a newline, into the same rows and fields as the server."""
    if b"\0" in data:
        raise Doubt("there is a NUL byte")
    if data.startswith(b"\xef\xbb\xbf"):
        raise Doubt("the batch begins like a BOM")
    if b"\\" in data and (data.startswith(b"\\.") or b"\n\\." in data):
        raise Doubt("a line begins with \\.")
    if eol not in (b"\n", b"\r\n"):
        raise Doubt("lines end with CR only")
    octets = np.frombuffer(data, np.uint8)
    quotes = np.empty(0, np.intp)
    if dialect.quote.encode() in data:
        quotes = np.flatnonzero(octets == dialect.quote_byte)
        _check_quotes(octets, quotes, dialect)
    if eol == b"\n" and b"\r" not in data:
        return
    cr, lf = (_outside(np.flatnonzero(octets == c), quotes) for c in (_CR, _LF))
    if eol == b"\n":
        if cr.size:
            raise Doubt("there is a CR outside quotes")
    elif cr.size != lf.size or (lf - cr != 1).any():
        raise Doubt("not every line ends with CR LF")


def _check_quotes(octets: Bytes, quotes: npt.NDArray[np.intp], dialect: Dialect) -> None:
    """Raise unless each quote opens a field, closes one, or is half of a doubled one.

    To the server every other quote opens, wherever it stands; to Arrow it does at the start of a field.
    """
    if quotes.size % 2:
        raise Doubt("the number of quotes is odd")
    around = np.zeros(256, np.bool_)
    around[[dialect.delimiter_byte, dialect.quote_byte, _LF]] = True
    # Before the first byte stands the last one: a newline, and what follows the last quote at the latest.
    if not around[octets[quotes[0::2] - 1]].all():
        raise Doubt("a quote opens in the middle of a field")
    around[_CR] = True
    if not around[octets[quotes[1::2] + 1]].all():
        raise Doubt("a quote closes in the middle of a field")


def _outside(places: npt.NDArray[np.intp], quotes: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Those of `places` that are not between an opening and a closing quote."""
    outside: npt.NDArray[np.intp] = places[np.searchsorted(quotes, places) % 2 == 0]
    return outside


# --- columns: from text to what pgpq writes as the server wants it ----------------------------------------------------


def integers(texts: Any, to: Any) -> Any:
    """Arrow's decimal integers are the server's, but it also reads 0xFFFF, as -1 for a smallint."""
    characters = _characters(texts)
    if b"x" in characters or b"X" in characters:
        raise Doubt("an integer is not decimal")
    return _trimmed(texts, characters).cast(to)


def floats(texts: Any, to: Any) -> Any:
    """Rounds from decimal once, also for float4, as the server does; what it refuses for its size is refused here."""
    texts = _trimmed(texts, _characters(texts))
    values = texts.cast(to)
    zeros = texts.filter(pc.equal(values, 0))
    if _characters(zeros).translate(None, b"+-.0"):
        # With an exponent, or with a digit: 0.000e+00, 1e-400.
        wanted = pc.match_substring_regex(zeros, r"^[+-]?[0.]+([eE][+-]?[0-9]+)?$")
        if not pc.all(wanted).as_py():
            raise Doubt("a number is too small for its type")
    # Infinity and NaN by name, not by an exponent and not as nan(1).
    if _characters(texts.filter(pc.invert(pc.is_finite(values)))).translate(None, b"+-infatyINFATY"):
        raise Doubt("a number is too large for its type")
    return values


def _unclear(values: Any) -> bool:
    """Whether a column that Arrow read directly has floats of which the text must be seen."""
    if not pa.types.is_floating(values.type):
        return False
    numbers = values.drop_null().to_numpy()
    return not (numbers.all() and np.isfinite(numbers).all())


def instants(texts: Any, *, zoned: bool, zoneless: bool) -> Any:
    """YYYY-MM-DD[ T]HH:MM:SS[.ffffff], all of them with a zone or all without."""
    present = texts.drop_null()
    if not len(present):
        return pa.nulls(len(texts), pa.timestamp("us"))
    offsets, octets = _parts(present)
    starts, ends = offsets[:-1], offsets[1:]
    # Arrow reads hours and minutes alone as well.
    if (ends - starts).min() < 19 or (octets[starts + 13] != _COLON).any() or (octets[starts + 16] != _COLON).any():
        raise Doubt("a timestamp is not written in full")
    with_zone = octets[ends - 1] == ord("Z")
    for length in (3, 5, 6):  # +hh, +hhmm, +hh:mm
        mark = octets[ends - length]
        found = (mark == ord("+")) | (mark == _HYPHEN)
        if found.any():
            hours = ends[found] - length + 1
            tens, ones = octets[hours], octets[hours + 1]
            if ((tens > ord("1")) | ((tens == ord("1")) & (ones > ord("5")))).any():
                raise Doubt("the offset of a zone is more than the server takes")
            with_zone |= found
    if with_zone.any() and not (zoned and with_zone.all()):
        # The server ignores a zone in a timestamp without time zone.
        raise Doubt("some timestamps have a zone" if zoned else "a timestamp without time zone has a zone")
    if not zoneless and not with_zone.all():
        raise Doubt("a timestamp has no zone")
    values = texts.cast(pa.timestamp("us", "UTC" if with_zone.all() else None))
    if pc.min(values.cast(pa.int64())).as_py() < _FIRST_INSTANT:
        raise Doubt("a timestamp is in year 0")
    return values


def dates(values: Any) -> Any:
    """YYYY-MM-DD, as Arrow read them; there is no year 0 on the server."""
    first = pc.min(values.cast(pa.int32())).as_py()
    if first is not None and first < _FIRST_DAY:
        raise Doubt("a date is in year 0")
    return values


def uuids(texts: Any) -> Any:
    """The form with four hyphens; the server also takes others."""
    present = texts.drop_null()
    characters = _characters(present)
    if len(present) and (np.diff(_parts(present)[0]) != 36).any():
        raise Doubt("a uuid has not 36 characters")
    grid = np.frombuffer(characters, np.uint8).reshape(-1, 36)
    if (grid[:, [8, 13, 18, 23]] != _HYPHEN).any():
        raise Doubt("a uuid has no hyphen where it belongs")
    # Raises ValueError for what is no digit; one hyphen more would leave too few digits.
    found = np.frombuffer(binascii.unhexlify(characters.replace(b"-", b"")), np.uint8)
    valid = texts.is_valid().to_numpy(zero_copy_only=False)
    values = np.zeros((len(texts), 16), np.uint8)
    values[valid] = found.reshape(len(present), 16)
    bits = pa.array(valid).buffers()[1]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(texts), [bits, pa.py_buffer(values)])


def decimals(texts: Any, precision: int, scale: int) -> Any:
    """Digits that fit; the server rounds what has more decimals, Arrow refuses it."""
    characters = _characters(texts)
    if b"e" in characters or b"E" in characters:
        raise Doubt("a numeric has an exponent")
    texts = _trimmed(texts, characters)
    # Arrow computes modulo 2^128 or 2^256, and notices only some of it: no text may hold so many digits.
    longest = int(np.diff(_parts(texts)[0]).max(initial=0)) + scale
    if longest > 76:
        raise Doubt("a numeric has too many digits")
    if longest > 38:
        texts = texts.cast(pa.decimal256(76, scale))
    return texts.cast(pa.decimal128(precision, scale))


# --- the inside of Arrow's arrays of text -----------------------------------------------------------------------------


def _one(column: Any) -> Any:
    """The only array of a column that was read as one block."""
    if column.num_chunks != 1:
        raise Doubt("Arrow read the batch in pieces")
    return column.chunk(0)


def _parts(texts: Any) -> tuple[npt.NDArray[np.int32], Bytes]:
    """Where texts begin and end (one more than there are), and the bytes that those are places of."""
    _, offsets, octets = texts.buffers()
    places = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return places, np.frombuffer(octets, np.uint8) if octets is not None else np.empty(0, np.uint8)


def _characters(texts: Any) -> bytes:
    """All texts as one."""
    if not len(texts):
        return b""
    offsets, octets = _parts(texts)
    return octets[offsets[0] : offsets[-1]].tobytes()


def _trimmed(texts: Any, characters: bytes) -> Any:
    """Without the blanks around numbers, which the server ignores and Arrow's cast does not."""
    return pc.ascii_trim(texts, " \t") if b" " in characters or b"\t" in characters else texts
