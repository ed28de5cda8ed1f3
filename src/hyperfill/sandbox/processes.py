"""Which processes belong to a data directory.

A process id in a file proves nothing: after a crash it may belong to anybody. Every process of a
PostgreSQL server has its data directory as its working directory, and the kernel shows that
also through mount namespaces and chroots, where paths cannot be compared but inodes can.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

# Servers that this process started. They outlive it, so they are not `subprocess.Popen` objects, which
# complain when they are forgotten; but while it lives, somebody has to collect their exit status.
_children: set[int] = set()


def spawn(command: list[str], log: Path) -> int:
    """Start a program that belongs to no terminal, its output appended to a file. Returns its process id."""
    with log.open("ab") as output, Path("/dev/null").open("rb") as nothing:
        actions = [(os.POSIX_SPAWN_DUP2, nothing.fileno(), 0)]
        actions += [(os.POSIX_SPAWN_DUP2, output.fileno(), stream) for stream in (1, 2)]
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True)
    _children.add(pid)
    return pid


def reap() -> None:
    """Collect the exit status of servers that we started and that have ended."""
    for pid in list(_children):
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            done = pid
        if done:
            _children.discard(pid)


def is_child(pid: int) -> bool:
    """Whether we started that process and it has not ended."""
    reap()
    return pid in _children


def belongs(pid: int, pgdata: Path) -> bool:
    """Whether the process is alive (and no zombie) and works in that data directory."""
    try:
        there, wanted = Path(f"/proc/{pid}/cwd").stat(), pgdata.stat()
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino)


def running_in(pgdata: Path) -> list[int]:
    """All processes of the server with that data directory, orphans of a killed one included."""
    if not pgdata.exists():
        return []
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if belongs(pid, pgdata)]


def clear(pgdata: Path, *, seconds: float) -> None:
    """Return when nothing runs in the data directory any more; kill what still does after `seconds`.

    Orphans of a killed server notice by themselves, but not before their current statement ends.
    """
    deadline = time.monotonic() + seconds
    while pids := running_in(pgdata):
        if time.monotonic() > deadline:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        time.sleep(0.02)
