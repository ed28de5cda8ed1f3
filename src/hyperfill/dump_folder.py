"""The folder of a dump while it is made: what is dumped, what is done already, and that only one command writes.

`dump.json` pins what is dumped, from the start; `dump.journal` gets a line for each window that is done. A
file counts only with its line: one that was renamed and not noted is made anew. `manifest.json` comes last.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import reduction
from pathlib import Path
from types import TracebackType
from typing import Any

from hyperfill import manifest
from hyperfill.errors import Incomplete, Refused
from hyperfill.manifest import Definition, DumpedWindow, Manifest, Reader

JOURNAL = "dump.journal"
_SETTINGS = manifest.UNFINISHED
# Workers whose parent was killed notice it at once, but may be in the middle of a write.
_LOCK_PATIENCE = 5.0
_LEFTOVER = re.compile(r"(?:[0-9]{6,}\.csv(?:\.[a-z]+)?|dump\.json|manifest\.json)\.part")


@dataclass(frozen=True)
class Piece:
    """A window to dump, and the name that its file will have."""

    id: int
    lower: str | None
    upper: str
    file: str
    estimate: int  # rows


@dataclass(frozen=True)
class Settings:
    """What dump.json says: what is dumped, and how it was cut."""

    id: str
    hyperfill: str
    relation_oid: int
    definition: Definition
    pieces: tuple[Piece, ...]

    def as_json(self) -> dict[str, Any]:
        head = {"format": manifest.FORMAT, "id": self.id, "hyperfill": self.hyperfill}
        pieces = [dict(p.__dict__) for p in self.pieces]
        return {**head, "relation_oid": self.relation_oid, **self.definition.as_json(), "windows": pieces}

    def differences(self, other: Settings) -> dict[str, tuple[Any, Any]]:
        """What `other` would dump differently."""
        found = self.definition.differences(other.definition)
        if not found and self.relation_oid != other.relation_oid:
            found["oid of the relation"] = (self.relation_oid, other.relation_oid)
        return found


@dataclass(frozen=True)
class Found:
    """What a folder holds: nothing, the beginning of a dump, or a dump."""

    settings: Settings | None = None
    manifest: Manifest | None = None

    @property
    def id(self) -> str | None:
        known = self.manifest or self.settings
        return known.id if known else None


def look(folder: Path) -> Found:
    """What is there. Raises `Refused` for anything that no dump can be written into, or that is damaged."""
    try:
        names = {entry.name for entry in os.scandir(folder)}
    except FileNotFoundError:
        if not folder.parent.is_dir():
            raise Refused(f"--out {folder}: there is no folder {folder.parent}") from None
        return Found()
    except OSError as error:
        raise Refused(f"--out {folder}: {error.strerror}") from None
    if manifest.NAME in names:
        return Found(manifest=manifest.read(folder))
    if _SETTINGS in names:
        return Found(settings=_read_settings(folder / _SETTINGS))
    # What a filesystem has in its top folder, and an attempt that ended before anything was begun.
    other = {n for n in names if not n.startswith(".") and n != "lost+found" and not _LEFTOVER.fullmatch(n)}
    journal = folder / JOURNAL
    if other == {JOURNAL} and journal.stat().st_size == 0:
        return Found()
    if other:
        raise Refused(
            f"--out {folder} holds something else: {', '.join(sorted(other)[:3])}{', ...' if len(other) > 3 else ''}",
            hint="name an empty folder, or one that is not there yet",
        )
    return Found()


def _read_settings(path: Path) -> Settings:
    reader = Reader(path, manifest.read_json(path))
    manifest.check_format(reader)
    pieces = []
    for index, value in enumerate(reader.get("windows", list)):
        of = Reader(path, value, f"windows[{index}]")
        pieces.append(
            Piece(
                of.get("id", int),
                of.optional("lower", str),
                of.get("upper", str),
                of.get("file", str),
                of.get("estimate", int),
            )
        )
    return Settings(
        id=reader.get("id", str),
        hyperfill=reader.get("hyperfill", str),
        relation_oid=reader.get("relation_oid", int),
        definition=Definition(**reader.definition()),
        pieces=tuple(pieces),
    )


class Lock:
    """The lock on a folder, as workers inherit it: it is free only when the last of them is gone.

    Otherwise a worker whose parent was killed could still rename a file while the next command writes it.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherited, (reduction.DupFd(self.descriptor),)


def _inherited(handle: Any) -> Lock:
    return Lock(handle.detach())


class Folder:
    """A folder that this command alone writes. Raises `Refused` if another one does, OSError if it cannot be made."""

    def __init__(self, path: Path, expected: Found) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        self._journal = self._take_lock()
        try:
            if look(path).id != expected.id:
                raise Refused(f"another command has written into {path} meanwhile", hint="run again")
            self._sweep()
        except BaseException:
            self.close()
            raise

    @property
    def lock(self) -> Lock:
        return Lock(self._journal)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _take_lock(self) -> int:
        """The journal, locked. It is removed at the end: a lock on a file that is no longer there is none."""
        path = self.path / JOURNAL
        deadline = time.monotonic() + _LOCK_PATIENCE
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_ino == os.fstat(descriptor).st_ino:
                        return descriptor
                os.close(descriptor)
            except BlockingIOError:
                os.close(descriptor)
                if time.monotonic() > deadline:
                    raise Refused(f"another command is writing a dump into {self.path}") from None
                time.sleep(0.1)
            except BaseException:
                os.close(descriptor)
                raise

    def _sweep(self) -> None:
        for entry in os.scandir(self.path):
            if _LEFTOVER.fullmatch(entry.name):
                with contextlib.suppress(FileNotFoundError):
                    (self.path / entry.name).unlink()

    def begin(self, settings: Settings) -> None:
        """Pin what is dumped. Raises OSError."""
        manifest.write_json(self.path / _SETTINGS, settings.as_json())
        manifest.sync_folder(self.path.absolute().parent)

    def done(self, settings: Settings) -> dict[int, DumpedWindow]:
        """Windows that were finished before, with their files there; what is left of a torn line is cut off."""
        pieces = {p.id: p for p in settings.pieces}
        found: dict[int, DumpedWindow] = {}
        path = self.path / JOURNAL
        data = path.read_bytes()
        good = 0
        while (end := data.find(b"\n", good)) >= 0:
            try:
                window = Reader(path, json.loads(data[good:end])).window()
            except (ValueError, Refused):
                break
            good = end + 1
            piece = pieces.get(window.id)
            if piece is not None and (piece.lower, piece.upper) == (window.lower, window.upper):
                found[window.id] = window
        if good < len(data):
            os.ftruncate(self._journal, good)
            os.fsync(self._journal)
        return {i: w for i, w in found.items() if manifest.file_problem(self.path, w) is None}

    def note(self, windows: Iterable[DumpedWindow]) -> None:
        """Windows that are done, their files under their final names. Raises `Incomplete`."""
        lines = "".join(json.dumps(w.as_json(), ensure_ascii=False) + "\n" for w in windows)
        before = os.fstat(self._journal).st_size
        try:
            rest = memoryview(lines.encode())
            while rest:
                rest = rest[os.write(self._journal, rest) :]
            os.fsync(self._journal)
        except OSError as error:
            with contextlib.suppress(OSError):  # half a line would spoil those behind it
                os.ftruncate(self._journal, before)
            raise cannot_write(self.path / JOURNAL, error) from error

    def finish(self, settings: Settings, windows: Sequence[DumpedWindow]) -> Manifest:
        """The dump is complete: write its manifest. Raises `Incomplete`, or `Refused` where a file is gone."""
        manifest.check_files(self.path, windows)
        found = Manifest(
            **{name: getattr(settings.definition, name) for name in Definition.__dataclass_fields__},
            id=settings.id,
            hyperfill=settings.hyperfill,
            windows=tuple(windows),
            complete=True,
            rows=sum(w.rows for w in windows),
        )
        try:
            manifest.write(self.path, found)
        except OSError as error:
            raise cannot_write(self.path / manifest.NAME, error) from error
        self.tidy()
        return found

    def tidy(self) -> None:
        """With a manifest there, what helped to make it goes: the journal last, for it is the lock."""
        for name in (_SETTINGS, JOURNAL):
            with contextlib.suppress(OSError):
                (self.path / name).unlink()

    def close(self) -> None:
        """Free the lock. A journal of a dump that was never begun is no trace worth leaving."""
        with contextlib.suppress(OSError):
            if not (self.path / _SETTINGS).exists() and os.fstat(self._journal).st_size == 0:
                (self.path / JOURNAL).unlink()
        with contextlib.suppress(OSError):
            self._sweep()
        os.close(self._journal)


def cannot_write(path: Path, error: OSError) -> Incomplete:
    """A full disk and its like, as an error that says what to do."""
    return Incomplete(
        f"{path} cannot be written: {error.strerror}",
        hint="make room for it, and run the same command again: it goes on where it was",
    )
