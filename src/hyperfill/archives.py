"""Files as they lie on disk: plain, .gz, .zst or .bz2 by their ending.

Members of an archive are driven by hand. The standard library's file objects take what is wrong behind the
first member for the end of the file: BZ2File passes over garbage there without a word, gzip over zeros.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import os
import select
import stat
import sys
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

from hyperfill.errors import HyperfillError, Refused

Compress = Literal["zstd", "gzip", "none"]
SUFFIX: dict[Compress, str] = {"zstd": ".zst", "gzip": ".gz", "none": ""}
# Measured on rows of floats and on rows of sensor readings: level 3 is two to four times slower than level 1, and
# its files are a tenth to a third larger.
_ZSTD_LEVEL = 1
_GZIP_LEVEL = 1
_CHUNK = 256 * 1024  # of an archive, read at once


class ArchiveError(HyperfillError):
    """A file cannot be read to its true end: it is truncated, damaged, or changed while it was read."""

    exit_code = 4


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


class Input(ABC):
    """A file that is read from its front. `size` is that on disk, in bytes; None for a stream.

    `position`: bytes of the file on disk that were consumed so far, for progress. Only where `seekable` are they
    bytes of the content as well. Use as a context manager, or `close()`.
    """

    seekable = False

    def __init__(self, name: str, raw: io.FileIO) -> None:
        found = os.fstat(raw.fileno())
        self.name = name
        self.size: int | None = found.st_size if stat.S_ISREG(found.st_mode) else None
        self.position = 0
        self._raw = raw

    def stat(self) -> os.stat_result:
        """What the system says of the file that is open, whatever has its name by now."""
        return os.fstat(self._raw.fileno())

    @abstractmethod
    def read(self, n: int) -> bytes:
        """At most `n` bytes and at least one; b"" at the end. Raises `ArchiveError`."""

    def seek(self, offset: int) -> None:
        """Go on reading at this offset. Raises `ArchiveError` where that is not possible."""
        raise ArchiveError(f"{self.name} can only be read from its front")

    def close(self) -> None:
        self._raw.close()

    def __enter__(self) -> Input:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _take(self, n: int) -> bytes:
        """Bytes of the file on disk."""
        try:
            while (data := self._raw.read(n)) is None:  # somebody else made the pipe non-blocking
                select.select([self._raw], [], [])
            if not data and self.size is not None and (now := os.fstat(self._raw.fileno()).st_size) != self.size:
                raise ArchiveError(
                    f"{self.name} changed while it was read: it had {self.size:,} bytes, and now has {now:,}",
                    hint="load a file when whoever writes it is done",
                )
        except OSError as error:
            raise ArchiveError(f"{self.name} cannot be read: {error.strerror}") from error
        self.position += len(data)
        return data


class _Plain(Input):
    """What it holds is what lies on disk."""

    def __init__(self, name: str, raw: io.FileIO, *, stream: bool = False) -> None:
        super().__init__(name, raw)
        self.seekable = self.size is not None and not stream

    def read(self, n: int) -> bytes:
        return self._take(n)

    def seek(self, offset: int) -> None:
        if not self.seekable:
            super().seek(offset)
        self._raw.seek(offset)
        self.position = offset


class _Decoder(Protocol):
    """One member. bz2's and zstd's own classes are like this."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decoder for one gzip member, in the way of the other two; it checks the member's CRC and length."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        # After a full answer zlib may hold more without having left any input over.
        return not self._full and not self._decoder.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        found = self._decoder.decompress(self._decoder.unconsumed_tail or data, max_length)
        self._full = len(found) >= max_length
        return found


@dataclass(frozen=True)
class _Format:
    """A kind of archive: the first bytes of a member, a decoder for one, and what that raises."""

    name: str
    magics: tuple[bytes, ...]
    decoder: Any
    errors: tuple[type[Exception], ...]

    def begins(self, data: bytes) -> bool | None:
        """Whether a member begins like this; None if there is too little of it to say."""
        if any(data.startswith(magic) for magic in self.magics):
            return True
        return None if any(magic.startswith(data) for magic in self.magics) else False


def _format(path: Path) -> _Format | None:
    match path.suffix.lower():
        case ".gz":
            return _Format("gzip", (b"\x1f\x8b",), _Gzip, (zlib.error,))
        case ".bz2":
            return _Format("bzip2", (b"BZh",), bz2.BZ2Decompressor, (OSError, EOFError))
        case ".zst":
            zstd = _zstd()
            # Frames that a reader is to skip count as members: indexes and comments of other programs are such.
            skipped = tuple(bytes((0x50 + i, 0x2A, 0x4D, 0x18)) for i in range(16))
            return _Format("zstd", (b"\x28\xb5\x2f\xfd", *skipped), zstd.ZstdDecompressor, (zstd.ZstdError, EOFError))
        case _:
            return None


class _Archive(Input):
    """What the members of an archive hold, one after another."""

    def __init__(self, name: str, raw: io.FileIO, kind: _Format) -> None:
        super().__init__(name, raw)
        self._kind = kind
        self._decoder: _Decoder | None = None
        self._begun = False
        self._waiting = b""  # read from the file, not given to the decoder yet

    def read(self, n: int) -> bytes:
        while True:
            if (self._decoder is None or self._decoder.eof) and not self._next_member():
                return b""
            assert self._decoder is not None
            data = self._waiting if self._decoder.needs_input else b""
            if data:
                self._waiting = b""
            elif self._decoder.needs_input and not (data := self._take(_CHUNK)):
                raise self._truncated()
            try:
                found = self._decoder.decompress(data, n)
            except self._kind.errors as error:
                raise ArchiveError(
                    f"{self.name} is damaged: its {self._kind.name} data cannot be read ({error})",
                    hint=f"the damage lies before byte {self.position:,} of the file",
                ) from error
            if found:
                return found

    def _next_member(self) -> bool:
        """Begin with the next member; False where the file ends behind the last one."""
        rest = self._decoder.unused_data if self._decoder is not None else b""
        while (begins := self._kind.begins(rest)) is None:
            more = self._take(_CHUNK)
            if not more:
                if rest or not self._begun:
                    raise self._truncated()
                return False
            rest += more
        if not begins and not self._begun:
            raise ArchiveError(
                f"{self.name} is no {self._kind.name} archive, whatever its name says",
                hint="files are read by their ending: .gz, .zst, .bz2, and everything else as it is",
            )
        if not begins:
            raise ArchiveError(
                f"{self.name} has something behind its last {self._kind.name} member that is no {self._kind.name} "
                f"data, at byte {self.position - len(rest):,} of the file",
                hint="was it damaged, or written over an older and longer one?",
            )
        self._decoder, self._waiting, self._begun = self._kind.decoder(), rest, True
        return True

    def _truncated(self) -> ArchiveError:
        if self.position == 0:
            return ArchiveError(f"{self.name} is empty: that is no {self._kind.name} archive, not even of nothing")
        return ArchiveError(
            f"{self.name} is truncated: it ends after {self.position:,} bytes in the middle of its "
            f"{self._kind.name} data",
            hint="what is there of it may be complete rows: copy the whole file again",
        )


def open_input(path: Path) -> Input:
    """Open a file to read what it holds. Raises `Refused` where it cannot be opened."""
    try:
        raw = io.FileIO(path)
    except OSError as error:
        raise Refused(f"{path} cannot be opened: {error.strerror}") from error
    kind = _format(path)
    if kind is not None:
        return _Archive(str(path), raw, kind)
    return _Plain(str(path), raw, stream=is_stream(path, os.fstat(raw.fileno())))


def open_stdin() -> Input:
    """Standard input, as it is; closing it leaves the descriptor open."""
    return _Plain("standard input", io.FileIO(sys.stdin.fileno(), closefd=False), stream=True)


def is_stream(path: Path, found: os.stat_result) -> bool:
    """Whether what is read there cannot be read again."""
    # /dev/stdin may well be a file today, and is another one when the command runs again.
    return not stat.S_ISREG(found.st_mode) or str(path).startswith(("/dev/", "/proc/"))


class Output:
    """A file as it is written: compressed, counted, hashed.

    `bytes` and `sha256` are of the file as stored, `csv_bytes` of what was written into it.
    """

    def __init__(self, file: io.FileIO, compress: Compress) -> None:
        self._file = file
        self._compressor: Any = None
        if compress == "zstd":
            zstd = _zstd()
            options = {
                zstd.CompressionParameter.compression_level: _ZSTD_LEVEL,
                zstd.CompressionParameter.checksum_flag: 1,
            }
            self._compressor = zstd.ZstdCompressor(options=options)
        elif compress == "gzip":
            self._compressor = zlib.compressobj(_GZIP_LEVEL, wbits=31)
        self._hash = hashlib.sha256()
        self.bytes = 0
        self.csv_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append. Raises OSError."""
        self.csv_bytes += len(data)
        self._store(self._compressor.compress(data) if self._compressor else data)

    def finish(self) -> None:
        """Write what is left and bring all of it to the disk; the file stays open. Raises OSError."""
        if self._compressor:
            self._store(self._compressor.flush())
        os.fsync(self._file.fileno())

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def _store(self, data: bytes | bytearray | memoryview) -> None:
        if not data:
            return
        self._hash.update(data)
        self.bytes += len(data)
        view = memoryview(data)
        while view:
            # A disk that is nearly full takes a part of it first.
            view = view[self._file.write(view) or 0 :]
