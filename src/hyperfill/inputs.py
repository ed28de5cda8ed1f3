"""What FILE arguments name: files, globs, the folder of a dump, standard input."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperfill.archives import is_stream
from hyperfill.errors import Refused, UsageError
from hyperfill.manifest import is_dump


@dataclass(frozen=True)
class Inputs:
    """What FILE arguments mean: files in their order, or the folder of a dump, or standard input."""

    files: tuple[Path, ...] = ()
    dump: Path | None = None
    stdin: bool = False
    streams: tuple[Path, ...] = ()  # those of `files` that can be read only once: named pipes, /dev/stdin, <(...)

    @property
    def resumable(self) -> bool:
        """Whether the same bytes can be read again."""
        return not self.stdin and not self.streams


def expand(arguments: Sequence[str]) -> Inputs:
    """The files that FILE arguments name: names, globs, one folder with a dump, or `-`.

    A glob's matches are sorted, everything else keeps its order. Raises `UsageError` for names that stand for
    nothing and files named twice, `Refused` for files that may not be read.
    """
    if not arguments:
        raise UsageError("no FILE is given", hint="name files, globs, the folder of a dump, or - for standard input")
    if "-" in arguments:
        if len(arguments) > 1:
            raise UsageError("- (standard input) stands alone: all FILEs of one command are one load")
        return Inputs(stdin=True)
    files: list[Path] = []
    streams: list[Path] = []
    seen: dict[tuple[int, int], Path] = {}
    for path in [p for argument in arguments for p in _matches(argument)]:
        found = _stat(path)
        if stat.S_ISDIR(found.st_mode):
            if len(arguments) > 1 or str(path) != str(Path(arguments[0])):
                raise UsageError(f"{path} is a folder: the folder of a dump stands alone, and its name is no glob")
            return _dump(path)
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode)):
            raise UsageError(f"{path} is neither a file nor a pipe")
        if not os.access(path, os.R_OK):
            raise Refused(f"{path} cannot be read: this user may not")
        identity = (found.st_dev, found.st_ino)
        if identity in seen:
            twice = f" (as {seen[identity]})" if seen[identity] != path else ""
            raise UsageError(f"{path} is named twice{twice}: its rows would be loaded twice")
        seen[identity] = path
        files.append(path)
        if is_stream(path, found):
            streams.append(path)
    return Inputs(tuple(files), streams=tuple(streams))


def _matches(argument: str) -> list[Path]:
    if not argument:
        raise UsageError("a FILE is empty: leave it out, or say what you mean")
    with contextlib.suppress(OSError):
        if os.path.lexists(argument) or not glob.has_magic(argument):
            return [Path(argument)]
    found = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
    if not found:
        raise UsageError(f"{argument}: no file matches")
    return [Path(name) for name in found]


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        broken = path.is_symlink()
        raise UsageError(f"{path}: {'a link that leads nowhere' if broken else 'there is no such file'}") from None
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None


def _dump(path: Path) -> Inputs:
    try:
        if is_dump(path):
            return Inputs(dump=path)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    raise UsageError(
        f"{path} is a folder without a manifest.json: it was not written by hyperfill dump",
        hint=f"name its files: '{path}/*.csv'",
    )
