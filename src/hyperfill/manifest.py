"""What a dump holds: `manifest.json`, which is there only when all of it is.

A load relies on it: which window a file is, how many rows, and that nobody changed a byte since.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from hyperfill.archives import Compress
from hyperfill.dialect import Dialect
from hyperfill.errors import Refused, UsageError
from hyperfill.timeline import TIME_TYPES, BoundError, TimeType

NAME = "manifest.json"
UNFINISHED = "dump.json"  # there from the beginning of a dump to its end
FORMAT = 1
_BLOCK = 1 << 20
_NAMED = 5  # files that an error names; the others are counted

T = TypeVar("T")
_TYPES = {t.sql_name: t for t in TIME_TYPES.values()}


@dataclass(frozen=True)
class DumpedWindow:
    """A window and its file. Windows without rows have none: `file` is empty then, `bytes` 0."""

    id: int  # from 1, in the order of time
    lower: str | None
    upper: str
    file: str  # name inside the folder
    rows: int
    bytes: int  # of the file as stored
    csv_bytes: int  # before it was compressed, the header included
    sha256: str  # of the file as stored

    def as_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Definition:
    """What is dumped: it stays the same for as long as one dump goes on."""

    relation: str  # qualified, quoted
    source: str  # system identifier/database
    columns: tuple[dict[str, str], ...]  # {name, type} in the order of the file
    time_column: str
    time_type: str  # TimeType.sql_name
    start: str | None
    end: str
    compress: Compress
    settings: dict[str, Any]
    dialect: Dialect

    @property
    def axis(self) -> TimeType:
        return _TYPES[self.time_type]

    def as_json(self) -> dict[str, Any]:
        found = {f.name: getattr(self, f.name) for f in fields(Definition)}
        return {**found, "columns": list(self.columns), "dialect": self.dialect.as_json()}

    def differences(self, other: Definition) -> dict[str, tuple[Any, Any]]:
        """Field by field what `other` has differently; settings one by one."""
        found: dict[str, tuple[Any, Any]] = {}
        for name in (f.name for f in fields(Definition)):
            mine, theirs = getattr(self, name), getattr(other, name)
            if name == "settings":
                keys = sorted(mine.keys() | theirs.keys())
                found |= {k: (mine.get(k), theirs.get(k)) for k in keys if mine.get(k) != theirs.get(k)}
            elif mine != theirs:
                found[name] = (_columns(mine), _columns(theirs)) if name == "columns" else (mine, theirs)
        return found


def _columns(columns: Sequence[dict[str, str]]) -> str:
    return ", ".join(f"{c['name']} {c['type']}" for c in columns)


@dataclass(frozen=True)
class Manifest(Definition):
    """A dump."""

    id: str  # made once, when the dump began
    hyperfill: str  # the version that wrote it
    windows: tuple[DumpedWindow, ...]
    complete: bool
    rows: int

    def as_json(self) -> dict[str, Any]:
        head = {"format": FORMAT, "id": self.id, "hyperfill": self.hyperfill, "complete": self.complete}
        windows = [w.as_json() for w in self.windows]
        return {**head, "rows": self.rows, **super().as_json(), "windows": windows}


def is_dump(folder: Path) -> bool:
    """Whether a folder holds a dump, finished or not. Raises OSError where it may not be looked into."""
    names = {entry.name for entry in os.scandir(folder)}
    return NAME in names or UNFINISHED in names


def write_json(path: Path, value: Any) -> None:
    """The file with its new content or the one before, whatever happens meanwhile. Raises OSError."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder outlast a power failure. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json; it is there as a whole or not at all. Raises OSError."""
    write_json(folder / NAME, manifest.as_json())


class Reader:
    """Fields of a JSON object, with their types. Raises `Refused` naming file and field."""

    def __init__(self, path: Path, value: Any, place: str = "") -> None:
        if not isinstance(value, dict):
            raise Refused(f"{path}: {place or 'it'} is no JSON object")
        self.path = path
        self.value = value
        self.place = f"{place}." if place else ""

    def get(self, name: str, kind: type[T]) -> T:
        """A field that must be there. Numbers are never negative."""
        if name not in self.value:
            raise Refused(f"{self.path}: {self.place}{name} is missing")
        value = self.value[name]
        # A bool is an int for Python only.
        if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
            raise Refused(f"{self.path}: {self.place}{name} is {_kind(value)}, and should be {_KINDS[kind]}")
        if isinstance(value, int) and value < 0:
            raise Refused(f"{self.path}: {self.place}{name} is negative")
        if not _storable(value):
            raise Refused(f"{self.path}: {self.place}{name} holds what no server takes for text")
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """A field that must be there and may be null."""
        return None if name in self.value and self.value[name] is None else self.get(name, kind)

    def window(self) -> DumpedWindow:
        """The whole object as a window."""
        return DumpedWindow(
            id=self.get("id", int),
            lower=self.optional("lower", str),
            upper=self.get("upper", str),
            file=self.get("file", str),
            rows=self.get("rows", int),
            bytes=self.get("bytes", int),
            csv_bytes=self.get("csv_bytes", int),
            sha256=self.get("sha256", str),
        )

    def definition(self) -> dict[str, Any]:
        """The arguments of a `Definition`."""
        columns = []
        for index, column in enumerate(self.get("columns", list)):
            reader = Reader(self.path, column, f"{self.place}columns[{index}]")
            columns.append({"name": reader.get("name", str), "type": reader.get("type", str)})
        found = {
            name: self.get(name, str)
            for name in ("relation", "source", "time_column", "time_type", "end", "compress")  # texts
        }
        if found["time_type"] not in _TYPES:
            raise Refused(f"{self.path}: time_type {found['time_type']!r} is none that hyperfill knows")
        if found["compress"] not in get_args(Compress):
            raise Refused(f"{self.path}: compress {found['compress']!r} is none that hyperfill knows")
        if found["time_column"] not in {c["name"] for c in columns}:
            raise Refused(f"{self.path}: the time column {found['time_column']!r} is none of the columns")
        return {
            **found,
            "columns": tuple(columns),
            "start": self.optional("start", str),
            "settings": self.get("settings", dict),
            "dialect": self._dialect(),
        }

    def _dialect(self) -> Dialect:
        value = self.get("dialect", dict)
        default = Dialect().as_json()
        if value.keys() != default.keys():
            raise Refused(f"{self.path}: dialect has other fields than {', '.join(default)}")
        reader = Reader(self.path, value, "dialect")
        found: dict[str, Any] = {}
        for name, known in default.items():
            kind = list if isinstance(known, list) else str
            given = reader.optional(name, kind) if known is None else reader.get(name, kind)
            if isinstance(given, list) and not all(isinstance(part, str) for part in given):
                raise Refused(f"{self.path}: dialect.{name} is no list of texts")
            found[name] = tuple(given) if isinstance(given, list) else given
        try:
            return Dialect(**found)
        except UsageError as error:
            raise Refused(f"{self.path}: dialect: {error.message}") from None


_KINDS: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    float: "a number",
    type(None): "null",
}


def _storable(value: Any) -> bool:
    """Whether all texts in it can be sent to a server: JSON can spell NUL and halves of characters."""
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left += [*part, *part.values()]
        elif isinstance(part, list):
            left += part
        elif isinstance(part, str) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in part):
            return False
    return True


def _kind(value: Any) -> str:
    return _KINDS[type(value)]


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises `Refused`."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of the encoding as well
        raise Refused(f"{path} is no JSON: {error}") from None


def check_format(reader: Reader) -> None:
    """Raises `Refused` for a file of a version that is not known yet."""
    version = reader.get("format", int)
    if version != FORMAT:
        raise Refused(
            f"{reader.path} is of format {version}, and this hyperfill knows {FORMAT}",
            hint="use the version of hyperfill that made it, or a newer one",
        )


def read(folder: Path) -> Manifest:
    """The manifest of a finished dump, its files there with their sizes. Raises `Refused`."""
    path = folder / NAME
    if not path.exists():
        unfinished = (folder / UNFINISHED).exists()
        raise _incomplete(folder) if unfinished else Refused(f"{folder} holds no dump: there is no {NAME} in it")
    found = parse(path, read_json(path))
    if not found.complete:
        raise _incomplete(folder)
    check_files(folder, found.windows)
    return found


def _incomplete(folder: Path) -> Refused:
    return Refused(f"the dump in {folder} is not complete", hint="run the same dump command again: it goes on")


def parse(path: Path, value: Any) -> Manifest:
    """A manifest from JSON, consistent in itself; its files are not looked at. Raises `Refused`."""
    reader = Reader(path, value)
    check_format(reader)
    windows = tuple(
        Reader(path, window, f"windows[{index}]").window() for index, window in enumerate(reader.get("windows", list))
    )
    found = Manifest(
        **reader.definition(),
        id=reader.get("id", str),
        hyperfill=reader.get("hyperfill", str),
        windows=windows,
        complete=reader.get("complete", bool),
        rows=reader.get("rows", int),
    )
    if found.complete:
        _check_windows(path, found)
    return found


def _check_windows(path: Path, found: Manifest) -> None:
    windows = found.windows
    if [w.id for w in windows] != list(range(1, len(windows) + 1)):
        raise Refused(f"{path}: the windows are not numbered from 1")
    if sum(w.rows for w in windows) != found.rows:
        raise Refused(f"{path}: the windows do not have {found.rows} rows together")
    for window in windows:
        place = f"{path}: window {window.id}"
        if "/" in window.file or "\0" in window.file or window.file in (".", ".."):
            raise Refused(f"{place}: {window.file!r} is no name of a file inside the folder")
        if bool(window.file) is not bool(window.rows):
            raise Refused(f"{place} has {window.rows} rows and {'a' if window.file else 'no'} file")
    names = [w.file for w in windows if w.file]
    if len(set(names)) != len(names):
        raise Refused(f"{path}: two windows have the same file")
    axis = found.axis
    try:
        lowers = [None if w.lower is None else axis.ordinal(w.lower) for w in windows]
        uppers = [axis.ordinal(w.upper) for w in windows]
        start, end = None if found.start is None else axis.ordinal(found.start), axis.ordinal(found.end)
    except BoundError as error:
        raise Refused(f"{path}: {error}") from None
    meet = all(upper == lower for upper, lower in zip(uppers, lowers[1:], strict=False))
    ascend = all(a < b for a, b in pairwise(uppers)) and (not lowers or lowers[0] is None or lowers[0] < uppers[0])
    if not windows or not meet or not ascend or lowers[0] != start or uppers[-1] != end:
        raise Refused(f"{path}: the windows are no partition of [{found.start or '-infinity'}, {found.end})")


def check_files(folder: Path, windows: Collection[DumpedWindow]) -> None:
    """Whether every window's file is there and has its size. Raises `Refused` naming those that do not."""
    wrong = [problem for window in windows if (problem := file_problem(folder, window)) is not None]
    _refuse(folder, wrong, "files of the dump are missing or have changed")


def file_problem(folder: Path, window: DumpedWindow) -> str | None:
    """What is wrong with a window's file as far as a look at the folder tells; None for nothing."""
    if not window.file:
        return None
    try:
        found = (folder / window.file).stat()
    except OSError as error:
        return f"{window.file}: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"{window.file} is no file"
    if found.st_size != window.bytes:
        return f"{window.file} has {found.st_size:,} bytes, and should have {window.bytes:,}"
    return None


def _refuse(folder: Path, wrong: Sequence[str], what: str) -> None:
    if wrong:
        more = f"\n  and {len(wrong) - _NAMED:,} more" if len(wrong) > _NAMED else ""
        listed = "\n  ".join(wrong[:_NAMED])
        raise Refused(
            f"{folder}: {len(wrong):,} {what}:\n  {listed}{more}", hint="copy the folder again, or make the dump anew"
        )


def fingerprint(folder: Path) -> str:
    """What tells two dumps apart, and a dump from itself changed: the sha256 of manifest.json. Raises `Refused`."""
    try:
        return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()
    except OSError as error:
        raise Refused(f"{folder / NAME} cannot be read: {error.strerror}") from None


def verify(folder: Path, manifest: Manifest, jobs: int, ids: Collection[int] | None = None) -> None:
    """Read the files of all windows, or of those with these ids, and compare their hashes.

    Raises `Refused` naming every file that is not as it was written.
    """
    stop = threading.Event()

    def problem(window: DumpedWindow) -> str | None:
        try:
            digest = _hash(folder / window.file, stop)
        except OSError as error:
            return f"{window.file}: {error.strerror}"
        return None if digest == window.sha256 else f"{window.file} is not as it was written (its sha256 differs)"

    chosen = [w for w in manifest.windows if w.file and (ids is None or w.id in ids)]
    with ThreadPoolExecutor(max(1, jobs), thread_name_prefix="verify") as pool:  # hashlib releases the GIL
        try:
            found = list(pool.map(problem, chosen))
        except BaseException:
            # A signal: the files may be hundreds of gigabytes.
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    _refuse(folder, [p for p in found if p is not None], "files of the dump have changed")


def _hash(path: Path, stop: threading.Event) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as file:
        while (count := cast(int, file.readinto(buffer))) and not stop.is_set():
            digest.update(buffer[:count])
    return digest.hexdigest()
