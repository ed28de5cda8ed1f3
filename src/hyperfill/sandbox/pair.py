"""The sandbox of the command line: a source and a target, two servers as in real life.

They live in one folder, survive the command and the terminal, and are found again by the next
command. Everything that changes them holds a lock, so two terminals do not get in each other's way.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from hyperfill.sandbox.errors import SandboxError
from hyperfill.sandbox.packages import Report, locked
from hyperfill.sandbox.server import Server, create_server, open_server

# The source is plain PostgreSQL: nothing of TimescaleDB is loaded there.
_SOURCE = {"shared_preload_libraries": "", "wal_level": "replica"}


@dataclass(frozen=True)
class Sandbox:
    """Two running servers. `source` and `target` are connection strings, passwords included."""

    source: str
    target: str


def sandbox_dir() -> Path:
    """HYPERFILL_SANDBOX_DIR, or hyperfill/sandbox in XDG_STATE_HOME, or in ~/.local/state."""
    if given := os.environ.get("HYPERFILL_SANDBOX_DIR"):
        return Path(given).absolute()
    base = os.environ.get("XDG_STATE_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".local/state"
    return root / "hyperfill/sandbox"


def sandbox_start(report: Report | None = None) -> Sandbox:
    """Make and start what is missing of source and target; with both running, only say where they are.

    Servers that were killed, or were cut off by a reboot, are started again with their data; what
    cannot be started any more is made anew. `report` gets a line before whatever takes long. Raises
    SandboxError.
    """
    tell = report or (lambda line: None)
    with _state() as home:
        source = _up(home / "source", tell)
        target = _up(home / "target", tell)
        _database(source, "source", timescaledb=False)
        _database(target, "target", timescaledb=True)
        return Sandbox(source.conninfo("source"), target.conninfo("target"))


def sandbox_status() -> Sandbox | None:
    """Where source and target are; None unless both are running."""
    home = sandbox_dir()
    try:
        source, target = (open_server(home / name) for name in ("source", "target"))
    except SandboxError:
        return None
    if not (source.is_running() and target.is_running()):
        return None
    return Sandbox(source.conninfo("source"), target.conninfo("target"))


def sandbox_stop() -> bool:
    """Stop both servers and delete their data; the download cache stays. False if there was nothing."""
    home = sandbox_dir()
    if not home.exists():
        return False
    with _state() as home:
        stopped = [_down(home / name) for name in ("source", "target")]
        (home / "lock").unlink(missing_ok=True)
    # Only what we made: the folder may be one that the user keeps other things in.
    if not any(home.iterdir()):
        home.rmdir()
    return any(stopped)


@contextmanager
def _state() -> Iterator[Path]:
    home = sandbox_dir()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(home / "lock"):
        yield home


def _up(data: Path, tell: Report) -> Server:
    name = data.name
    try:
        server = open_server(data)
        if server.is_running():
            return server
        tell(f"starting the {name} server again")
        server.start()
        return server
    except SandboxError as error:
        if (data / "server.json").exists():
            tell(f"the {name} server is beyond repair, making a new one ({str(error).splitlines()[0]})")
    _down(data)
    tell(f"making the {name} server")
    server = create_server(data, settings=_SOURCE if name == "source" else None, report=tell)
    server.start()
    return server


def _down(data: Path) -> bool:
    if not data.exists():
        return False
    try:
        open_server(data).remove()
    except SandboxError:
        # Half made, or without the programs it was made with: nothing can be running there.
        shutil.rmtree(data, ignore_errors=True)
    return True


def _database(server: Server, name: str, *, timescaledb: bool) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    if timescaledb:
        with psycopg.connect(server.conninfo(name), autocommit=True) as connection:
            connection.execute("SET client_min_messages = warning")
            connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
