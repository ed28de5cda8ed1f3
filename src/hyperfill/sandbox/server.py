"""One embedded server: create, start, stop, remove.

A server is a folder::

    <data>/server.json       port, password, programs; readable by its owner only
    <data>/server.log        what PostgreSQL says
    <data>/files/pgdata/     PostgreSQL's data directory

It listens on 127.0.0.1 only, on a port that was free when it started, and wants a password, because
every user of the machine can reach that address. It has no Unix socket: the path of one is limited
to 107 bytes, which temporary folders exceed.
"""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import psycopg.conninfo

from hyperfill.sandbox.errors import SandboxError
from hyperfill.sandbox.packages import Report
from hyperfill.sandbox.processes import belongs, clear, is_child, reap, spawn
from hyperfill.sandbox.programs import Programs, find_programs, installed_programs

StopMode = Literal["fast", "immediate", "smart"]

_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# Recovery after a crash takes as long as it takes; while the process lives, this is the limit.
_START_SECONDS = 120.0
_STOP_SECONDS = 60.0

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    # Every database with the extension has a scheduler, and they share these: with the default of 8
    # and a handful of databases no job ever runs.
    "max_worker_processes": "32",
    "timescaledb.max_background_workers": "16",
    # /dev/shm does not exist in a chroot, and is tiny in containers.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
}


class Server:
    """An embedded server, running or stopped. Get one from `create_server` or `open_server`.

    `data` is its folder, `port` where it listens (it may change when it is started again and
    somebody else took the port meanwhile). The superuser is `postgres`.
    """

    def __init__(self, data: Path, find: Callable[[], Programs], password: str, port: int) -> None:
        self.data = data
        self.port = port
        self._find = find
        self._password = password

    def __repr__(self) -> str:
        return f"Server({str(self.data)!r}, port={self.port}, {'running' if self.is_running() else 'stopped'})"

    @functools.cached_property
    def programs(self) -> Programs:
        """The programs it runs on. Found when needed: stopping a server needs none, and must not download any."""
        return self._find()

    @property
    def log(self) -> Path:
        """The file with everything the server says."""
        return self.data / "server.log"

    @property
    def pgdata(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.data / "files/pgdata"

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster; None when the server does not run."""
        reap()
        lines = self._pidfile()
        pid = int(lines[0]) if lines and lines[0].isdigit() else 0
        return pid if pid and belongs(pid, self.pgdata) else None

    def is_running(self) -> bool:
        """Whether the postmaster lives, be it started by this process or another."""
        return self.pid is not None

    def conninfo(self, dbname: str = "postgres") -> str:
        """A libpq connection string for a database, as the superuser, password included."""
        return psycopg.conninfo.make_conninfo(
            host="127.0.0.1", port=self.port, user="postgres", password=self._password, dbname=dbname
        )

    def start(self) -> None:
        """Start the server and return when it takes connections. Does nothing if it runs.

        It belongs to no terminal and outlives this process. Raises SandboxError with the end of
        the log if it does not come up.
        """
        if self.is_running():
            return
        deadline = time.monotonic() + _START_SECONDS
        while True:
            self._forget_stale_pidfile()
            said = self._attempt(deadline)
            if said is None:
                return
            # Somebody was faster at taking the port: PostgreSQL says so, and another one will do.
            if re.search(r"could not create any TCP/IP sockets", said):
                self.port = free_port()
                self._save()
            # The server was killed, and its last children have not noticed yet.
            elif not re.search(r"pre-existing shared memory block|lock file .* already exists", said):
                raise SandboxError(f"PostgreSQL in {self.data} did not start; its log ends with:\n{said}")
            if time.monotonic() > deadline:
                raise SandboxError(f"PostgreSQL in {self.data} did not start in time; its log ends with:\n{said}")
            time.sleep(0.2)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and return when none of its processes is left. Does nothing if it is stopped.

        `smart` waits for clients to go, `fast` throws them out, `immediate` behaves like a crash.
        Raises SandboxError if clients keep a smart stop from ending within a minute.
        """
        pid = self.pid
        if pid is not None:
            os.kill(pid, _SIGNALS[mode])
            deadline = time.monotonic() + _STOP_SECONDS
            while self.is_running():
                if time.monotonic() > deadline:
                    if mode == "smart":
                        raise SandboxError(f"clients are still connected to the server in {self.data}")
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)
        clear(self.pgdata, seconds=5.0)
        reap()

    def remove(self) -> None:
        """Stop the server and delete its folder with everything in it."""
        self.stop("immediate")
        files = self.data / "files"
        if files.is_symlink():
            real = files.resolve()
            shutil.rmtree(real, ignore_errors=True)
            real.with_suffix(".origin").unlink(missing_ok=True)
        shutil.rmtree(self.data)

    def _attempt(self, deadline: float) -> str | None:
        """Start once. Returns None when it takes connections, otherwise what it said before it ended."""
        arguments = ["-D", "{home}/pgdata", "-p", str(self.port)]
        launch = self.programs.launch("postgres", self.data / "files", arguments)
        before = self.log.stat().st_size if self.log.exists() else 0
        pid = spawn(launch.command(), self.log)
        while is_child(pid):
            # The postmaster writes its state there: connections are taken from "ready" on.
            lines = self._pidfile()
            if len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready":
                return None
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        with self.log.open("rb") as log:
            log.seek(before)
            return log.read().decode(errors="replace")[-3000:].strip()

    def _pidfile(self) -> list[str]:
        try:
            return (self.pgdata / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _forget_stale_pidfile(self) -> None:
        """After a reboot, the number in the file may be another process, and PostgreSQL would refuse to start.

        A number that nobody has is left to PostgreSQL, which then also looks for orphans.
        """
        lines = self._pidfile()
        if lines and Path("/proc", lines[0]).exists() and not belongs(int(lines[0]), self.pgdata):
            (self.pgdata / "postmaster.pid").unlink(missing_ok=True)

    def _save(self) -> None:
        tree = self.programs.tree
        facts = {
            "port": self.port,
            "password": self._password,
            "suite": tree.suite if tree else None,
            "bindir": str(self.programs.bindir) if self.programs.bindir else None,
        }
        new = self.data / "server.json.new"
        new.touch(mode=0o600)
        new.write_text(json.dumps(facts))
        new.rename(self.data / "server.json")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now; somebody may before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def create_server(
    data: Path,
    *,
    settings: Mapping[str, str] | None = None,
    suite: str | None = None,
    report: Report | None = None,
) -> Server:
    """Make a new server in a folder that is empty or does not exist; it is not started.

    `settings` are server settings that override ours (`fsync` stays on unless they say otherwise).
    `suite` asks for the embedded server of that Debian suite, even where HYPERFILL_PG_BIN is set.
    `report` is told of work that takes long. Raises SandboxError.
    """
    data = data.absolute()
    if data.exists() and any(data.iterdir()):
        raise SandboxError(f"{data} is not empty: no server is made there")
    programs = find_programs(suite, report)
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    data.chmod(0o700)
    server = Server(data, lambda: programs, secrets.token_urlsafe(18), free_port())
    home = data / "files"
    try:
        programs.make_home(home)
        _initdb(server, home)
        _configure(server.pgdata / "postgresql.conf", {**SETTINGS, **(settings or {})})
        server._save()
    except BaseException:
        # Half a server would only be in the way of the next attempt.
        server.remove()
        raise
    return server


def open_server(data: Path) -> Server:
    """The server that `create_server` made in that folder, running or not. Raises SandboxError if there is none."""
    data = data.absolute()
    try:
        facts: dict[str, Any] = json.loads((data / "server.json").read_text())
    except (OSError, ValueError):
        raise SandboxError(f"there is no embedded server in {data}") from None
    bindir, suite = facts["bindir"], facts["suite"]

    def find() -> Programs:
        return installed_programs(Path(bindir)) if bindir else find_programs(suite)

    return Server(data, find, facts["password"], facts["port"])


def _initdb(server: Server, home: Path) -> None:
    # A file and not an argument: anyone may read command lines.
    secret = home / "password"
    secret.touch(mode=0o600)
    secret.write_text(server._password)
    if owner := server.programs.owner:
        os.chown(secret, *owner)
    arguments = ["-D", "{home}/pgdata", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--pwfile={home}/password"]
    arguments += ["--auth=scram-sha-256", "--no-sync", "--no-instructions"]
    if server.programs.major >= 17:
        arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command = server.programs.launch("initdb", home, arguments).command()
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd="/", check=False)
    secret.unlink()
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise SandboxError(f"initdb in {server.data} failed; it said:\n{said}")


def _configure(conf: Path, settings: Mapping[str, str]) -> None:
    with conf.open("a") as file:
        file.write("\n# hyperfill sandbox\n")
        for name, value in settings.items():
            quoted = value.replace("\\", "\\\\").replace("'", "''")
            file.write(f"{name} = '{quoted}'\n")
