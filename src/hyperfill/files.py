"""Files of a load: looked at before the first write, read in batches afterwards."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from xxhash import xxh3_128, xxh3_128_digest

from hyperfill.archives import ArchiveError, Input, open_input, open_stdin
from hyperfill.batch import FileFormat
from hyperfill.errors import LedgerConflict, Refused
from hyperfill.inputs import Inputs
from hyperfill.loads import Batch, InputFile, Loaded
from hyperfill.spec import LoadSpec
from hyperfill.splitter import CsvError, Piece, Splitter, count_lines

STDIN = "-"
_EDGE = 64 * 1024  # bytes at either end of a file that identify it
_SAMPLE = 1 << 20  # bytes of rows that are looked at beforehand
_BLOCK = 1 << 20


@dataclass
class SeenFile:
    """A file after a first look: where its rows begin, what it is identified by, a sample of its rows."""

    id: int
    path: str  # absolute; '-' for standard input
    stream: bool  # can be read only once
    size: int | None  # as stored
    modified: int | None  # nanoseconds
    edges: str  # sha256 of its first and last bytes as stored
    plain: bool  # not compressed
    names: list[str] | None  # of its header
    head: bytes  # what comes before the rows, when it is known
    start: int
    line: int
    eol: bytes
    sample: Piece | None
    source: Path | None  # what to open again
    # Of a stream: what goes on after the sample.
    rest: tuple[Input, Iterator[Piece]] | None = field(default=None, repr=False)

    @property
    def identity(self) -> dict[str, object]:
        """What the ledger keeps, to notice another file under the same name."""
        if self.stream:
            return {"path": self.path}
        return {"path": self.path, "size": self.size, "modified": self.modified, "edges": self.edges}

    @property
    def entry(self) -> InputFile:
        content = self.size if self.plain and self.size is not None else None
        return InputFile(self.id, self.path, self.size, content)

    def format(self, columns: Sequence[str]) -> FileFormat:
        return FileFormat(self.path, tuple(columns), self.eol)

    @property
    def estimate(self) -> int | None:
        """About how many rows it has; None where its size says nothing."""
        if self.sample is None:
            return 0
        if self.plain and self.size is not None:
            share = len(self.sample.data) / max(1, self.size - self.start)
            return self.sample.rows if share >= 1 else round(self.sample.rows / share)
        return None


def readable(path: str | Path) -> str:
    """A path as text that any ledger can hold: bytes that are no text are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def look(inputs: Inputs, spec: LoadSpec) -> list[SeenFile]:
    """A first look at every file. Raises `Refused` where one of them cannot be what was said of it."""
    if inputs.stdin:
        return [_look_at(1, STDIN, open_stdin(), True, spec)]
    seen = []
    for number, path in enumerate(inputs.files, start=1):
        stream = path in inputs.streams
        try:
            opened = open_input(path)
        except ArchiveError as error:
            raise Refused(error.message, hint=error.hint) from None
        seen.append(_look_at(number, readable(path.absolute()), opened, stream, spec, None if stream else path))
    return seen


def _look_at(number: int, name: str, opened: Input, stream: bool, spec: LoadSpec, path: Path | None = None) -> SeenFile:
    size, modified, edges, plain = None, None, "", True
    try:
        if path is not None:
            found = path.stat()
            size, modified, edges = found.st_size, found.st_mtime_ns, _edges(path)
            plain = opened.seekable
        head = bytearray()
        reading_head = True

        def read(count: int) -> bytes:
            data = opened.read(count)
            if reading_head:
                head.extend(data)
            return data

        splitter = _splitter(read, spec, max_bytes=spec.batch_bytes if stream else min(_SAMPLE, spec.batch_bytes))
        splitter.skip_lines(spec.skip_lines + (1 if spec.skip_header and not spec.header else 0))
        names = splitter.header() if spec.header or spec.mapping is not None else None
        reading_head = False
        start, line = splitter.offset, splitter.line
        pieces = splitter.pieces()
        sample = next(pieces, None)
    except (ArchiveError, CsvError) as error:
        opened.close()
        place = "" if isinstance(error, ArchiveError) else f"{name} "
        raise Refused(f"{place}{error.message}", hint=error.hint) from None
    except OSError as error:
        raise Refused(f"{name} cannot be read: {error.strerror}") from None
    if sample is not None:
        start, line = sample.offset, sample.line  # behind a byte order mark
    seen = SeenFile(
        number, name, stream, size, modified, edges, plain, names, bytes(head[:start]), start, line,
        splitter.eol or b"\n", sample, path,
    )  # fmt: skip
    if stream:
        seen.rest = (opened, pieces)
    else:
        opened.close()
    return seen


def _splitter(
    read: Callable[[int], bytes], spec: LoadSpec, *, offset: int = 0, line: int = 1, eol: bytes | None = None,
    max_bytes: int, limit: int | None = None, end: int | None = None,
) -> Splitter:  # fmt: skip
    return Splitter(
        read,
        spec.dialect,
        offset=offset,
        line=line,
        eol=eol,
        max_bytes=max_bytes,
        max_rows=spec.batch_rows,
        limit=limit,
        end=end,
    )


def _edges(path: Path) -> str:
    with path.open("rb") as file:
        found = sha256(file.read(_EDGE))
        file.seek(max(0, file.seek(0, os.SEEK_END) - _EDGE))
        found.update(file.read(_EDGE))
    return found.hexdigest()


class Reader:
    """Reads the batches of all files that are not loaded yet, in order. To be iterated over once, by one thread."""

    def __init__(self, files: Sequence[SeenFile], spec: LoadSpec, done: Mapping[int, Sequence[Loaded]]) -> None:
        """`done`: by file, what the ledger says is loaded already; it is compared with the file in passing."""
        self._files = files
        self._spec = spec
        self._done = done
        self._left = spec.limit
        self._input: Input | None = None
        self._before = 0  # bytes on disk of the files that are over
        self._handed = 0  # bytes of content handed out, or found loaded

    def share(self, loaded: int) -> float | None:
        """How much of the files is in the target, 0 to 1, when that is `loaded` bytes of content; None: unknown."""
        total = sum(file.size or 0 for file in self._files)
        opened = self._input
        position = self._before + (opened.position if opened else 0)
        if not total or not self._handed:
            return None
        return min(1.0, position / total) * min(1.0, loaded / self._handed)

    def __iter__(self) -> Iterator[Batch]:
        for file in self._files:
            if self._left == 0:
                return
            if file.rest is not None:
                self._input, rest = file.rest
                pieces = itertools.chain([file.sample] if file.sample else [], rest)
                yield from self._batches(file, pieces)
            else:
                assert file.source is not None
                with open_input(file.source) as self._input:
                    _check_same(file, self._input)
                    yield from self._read(file, self._input)
                    _check_same(file, self._input)
            self._before += self._input.position
            self._input.close()
            self._input = None

    def _read(self, file: SeenFile, opened: Input) -> Iterator[Batch]:
        _skip(opened, file.start)
        position, line = file.start, file.line
        for loaded in [*self._done.get(file.id, ()), None]:
            end = None if loaded is None else loaded.start
            if end is None or position < end:
                splitter = _splitter(
                    opened.read, self._spec, offset=position, line=line, eol=file.eol,
                    max_bytes=self._spec.batch_bytes, limit=self._left, end=end,
                )  # fmt: skip
                yield from self._batches(file, splitter.pieces())
            if loaded is None or self._left == 0:
                return
            line = loaded.line + self._compare(file, opened, loaded)
            position = loaded.end
            self._handed += loaded.length
            if self._left is not None:
                self._left = max(0, self._left - loaded.rows)

    def _batches(self, file: SeenFile, pieces: Iterator[Piece]) -> Iterator[Batch]:
        try:
            for piece in pieces:
                if self._left is not None:
                    self._left -= piece.rows
                self._handed += len(piece.data)
                digest = xxh3_128_digest(piece.data)
                yield Batch(file.id, piece.offset, piece.line, piece.rows, piece.data, digest)
        except CsvError as error:
            error.message = f"{file.path} {error.message}"
            raise

    def _compare(self, file: SeenFile, opened: Input, loaded: Loaded) -> int:
        """Read over what is loaded already; its lines. Raises `LedgerConflict` if it is not what was loaded."""
        found, left, lines, previous = xxh3_128(), loaded.length, 0, b""
        while left:
            data = opened.read(min(left, _BLOCK))
            if not data:
                break
            found.update(data)
            lines += count_lines(data, file.eol)
            left -= len(data)
            previous = data
        if left or found.digest() != loaded.xxh3:
            raise LedgerConflict(
                f"{file.path} changed since it was loaded: bytes {loaded.start} to {loaded.end} are not what they were",
                hint="nothing more of it is loaded; hyperfill clean --force gives this load up, and the rows it loaded "
                "stay",
            )
        return lines + (0 if previous.endswith(file.eol[-1:]) else 1)


def _check_same(file: SeenFile, opened: Input) -> None:
    """Raise `LedgerConflict` if this is not the file that was looked at: its columns may be others."""
    found = opened.stat()
    if (found.st_size, found.st_mtime_ns) != (file.size, file.modified):
        raise LedgerConflict(
            f"{file.path} changed since it was looked at, when this command began",
            hint="load a file when whoever writes it is done; hyperfill clean --force gives this load up",
        )


def same_content(files: Sequence[SeenFile], loaded: Mapping[int, Sequence[Loaded]]) -> bool:
    """Whether these are the files whose every byte is loaded. Reads them all."""
    for file in files:
        if file.source is None:
            return False
        with open_input(file.source) as opened:
            _skip(opened, file.start)
            for batch in loaded.get(file.id, ()):
                found, left = xxh3_128(), batch.length
                while left and (data := opened.read(min(left, _BLOCK))):
                    found.update(data)
                    left -= len(data)
                if left or found.digest() != batch.xxh3:
                    return False
            if opened.read(1):
                return False
    return True


def _skip(opened: Input, count: int) -> None:
    if opened.seekable:
        opened.seek(count)
        return
    while count:
        data = opened.read(min(count, _BLOCK))
        if not data:
            return
        count -= len(data)
