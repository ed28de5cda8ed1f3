"""A source and a target for one demo, gone when it ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from hyperfill import session
from hyperfill.errors import Interrupted
from hyperfill.sandbox import SandboxError, Server, create_server, open_server
from hyperfill.signals import Signals

_PREFIX = "hyperfill-demo-"
_NAMES = ("source", "target")
# What a laptop's disk needs for syncing is not what the demo is about.
_SETTINGS = {"fsync": "off", "full_page_writes": "off"}
_SOURCE = {"shared_preload_libraries": ""}  # plain PostgreSQL


@contextmanager
def two_servers(signals: Signals, report: Callable[[str], None]) -> Iterator[tuple[Path, str, str]]:
    """A folder to work in, and the conninfos of a running source and target; all are removed at the end.

    Raises `SandboxError`. Signals are not listened to while servers are made or removed: half a server
    could not be found again.
    """
    sweep()
    home = Path(tempfile.mkdtemp(prefix=_PREFIX))
    # Held until the process ends, also by kill -9: that is how a later demo knows what was left behind.
    lock = (home / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with signals.deferred(), ThreadPoolExecutor(2) as pool:
            source, target = pool.map(lambda name: _start(home / name, report), _NAMES)
        if signals.signum is not None:
            raise Interrupted(signals.signum)
        with session.connect(target, "target") as connection:
            connection.execute("SET client_min_messages = warning")
            connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        work = home / "work"
        work.mkdir()
        yield work, source, target
    finally:
        with signals.deferred():
            _remove(home)
            lock.close()


def _start(data: Path, report: Callable[[str], None]) -> str:
    settings = {**_SETTINGS, **(_SOURCE if data.name == "source" else {})}
    server = create_server(data, settings=settings, report=report)
    server.start()
    return server.conninfo()


def _remove(home: Path) -> None:
    for name in _NAMES:
        try:
            server: Server = open_server(home / name)
        except SandboxError:
            continue  # not made yet
        server.remove()
    shutil.rmtree(home, ignore_errors=True)


def sweep() -> None:
    """Remove what a demo left behind that was killed before it could do so itself."""
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if home.is_symlink() or home.stat().st_uid != os.geteuid():
                continue
            with (home / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(home)
        except OSError:
            continue  # another demo runs there, or has just gone
