"""The embedded servers, for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from hyperfill.sandbox import (
    SandboxError,
    Server,
    create_server,
    open_server,
    sandbox_start,
    sandbox_status,
    sandbox_stop,
)
from hyperfill.sandbox.packages import chosen_suite
from hyperfill.sandbox.processes import running_in
from tests.fixtures.servers import SETTINGS, Servers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = create_server(tmp_path / "a server", settings=SETTINGS)
    yield made
    if made.data.exists():
        made.remove()


@pytest.fixture
def sandbox_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home = tmp_path / "sandbox"
    monkeypatch.setenv("HYPERFILL_SANDBOX_DIR", str(home))
    yield home
    sandbox_stop()


def scalar(conninfo: str, query: str) -> object:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def wait_until_dead(server: Server) -> None:
    deadline = time.monotonic() + 10
    while server.is_running() or running_in(server.pgdata):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_life_of_a_server(server: Server) -> None:
    server.start()
    pid = server.pid
    assert pid is not None
    server.start()
    again = open_server(server.data)
    assert (again.pid, again.conninfo()) == (pid, server.conninfo())
    assert scalar(server.conninfo(), "SELECT current_setting('fsync')") == "off"
    again.stop()
    assert not server.is_running()
    assert running_in(server.pgdata) == []
    server.stop()
    server.start()
    files = (server.data / "files").resolve()
    server.remove()
    assert not server.data.exists()
    assert not files.exists()


def test_never_root_and_loopback_only(server: Server) -> None:
    server.start()
    status = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    uids = next(line.split()[1:] for line in status if line.startswith("Uid:"))
    assert "0" not in uids
    effective = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    assert int(effective, 16) == 0
    assert scalar(server.conninfo(), "SHOW listen_addresses") == "127.0.0.1"
    assert (server.data / "server.json").stat().st_mode & 0o077 == 0
    assert server.data.stat().st_mode & 0o077 == 0


def test_a_password_is_needed(server: Server) -> None:
    server.start()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=server.port, user="postgres", password="guess", dbname="postgres")
    assert scalar(server.conninfo(), "SELECT current_user") == "postgres"


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_stop_does_not_wait_for_clients(server: Server, mode: str) -> None:
    server.start()
    with psycopg.connect(server.conninfo()):
        server.stop("fast" if mode == "fast" else "immediate")
        assert running_in(server.pgdata) == []


def test_data_survives_a_kill(server: Server) -> None:
    server.start()
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    wait_until_dead(server)
    server.start()
    assert scalar(server.conninfo(), "SELECT answer FROM kept") == 42


def test_the_pid_file_may_name_somebody_else(server: Server) -> None:
    server.start()
    assert server.pid is not None
    pidfile = (server.pgdata / "postmaster.pid").read_text().splitlines()
    os.kill(server.pid, signal.SIGKILL)
    wait_until_dead(server)
    (server.pgdata / "postmaster.pid").write_text("\n".join([str(os.getpid()), *pidfile[1:]]) + "\n")
    assert not server.is_running()
    server.start()
    assert server.pid not in (None, os.getpid())


def test_another_port_when_somebody_took_ours(server: Server) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server.port = taken = other.getsockname()[1]
        server.start()
        assert server.port != taken
        assert open_server(server.data).port == server.port
        assert scalar(server.conninfo(), "SELECT 1") == 1


def test_a_wrong_setting_shows_the_log(tmp_path: Path) -> None:
    broken = create_server(tmp_path / "broken", settings={"shared_buffers": "many"})
    with pytest.raises(SandboxError, match='invalid value for parameter "shared_buffers": "many"'):
        broken.start()
    assert not broken.is_running()
    broken.remove()


def test_settings_are_quoted(tmp_path: Path) -> None:
    name = r"it's a \ name"
    odd = create_server(tmp_path / "odd", settings={**SETTINGS, "cluster_name": name})
    odd.start()
    assert scalar(odd.conninfo(), "SHOW cluster_name") == name
    odd.remove()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(SandboxError, match="not empty"):
        create_server(tmp_path)
    assert (tmp_path / "precious").read_text() == "mine"


def test_no_server_there(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="no embedded server"):
        open_server(tmp_path)


def test_an_installation_without_timescaledb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERFILL_PG_BIN", str(tmp_path / "bin"))
    with pytest.raises(SandboxError, match="no program postgres"):
        create_server(tmp_path / "data")
    (tmp_path / "bin").mkdir()
    for program in ("postgres", "initdb"):
        (tmp_path / "bin" / program).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 17.5'\n")
        (tmp_path / "bin" / program).chmod(0o755)
    with pytest.raises(SandboxError, match="has no TimescaleDB") as caught:
        create_server(tmp_path / "data")
    assert "HYPERFILL_PG_BIN" in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_an_unknown_suite() -> None:
    with pytest.raises(SandboxError, match="'hamm'"):
        chosen_suite("hamm")


def test_extensions_and_time_zones(target_db: str) -> None:
    with psycopg.connect(target_db, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION hstore")
        connection.execute("CREATE EXTENSION citext")
        row = connection.execute("SELECT timestamptz '2024-01-01T00:00:00Z' AT TIME ZONE 'Asia/Kathmandu'").fetchone()
        assert row is not None
        assert row[0].isoformat() == "2024-01-01T05:45:00"
        connection.execute("CREATE TABLE readings (time timestamptz NOT NULL, value float)")
        connection.execute("SELECT create_hypertable('readings', 'time')")


def test_parallel_query(source_db: str) -> None:
    """Needs dynamic shared memory, for which there is no /dev/shm."""
    with psycopg.connect(source_db, autocommit=True) as connection:
        connection.execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0")
        connection.execute("SET min_parallel_table_scan_size = 0")
        connection.execute("CREATE TABLE numbers AS SELECT n FROM generate_series(1, 200000) n; ANALYZE numbers")
        plan = connection.execute("EXPLAIN (ANALYZE, COSTS off) SELECT sum(n) FROM numbers").fetchall()
        launched = [line for (line,) in plan if "Workers Launched" in line]
        assert launched
        assert "Launched: 0" not in launched[0]


def test_databases_are_fresh(servers: Servers, source_db: str, new_database: Callable[[Server], str]) -> None:
    count = "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"
    assert scalar(source_db, count) == 0
    first, second = new_database(servers.target), new_database(servers.target)
    assert first != second
    for database in (first, second):
        assert scalar(database, count) == 1
        assert scalar(database, "SELECT count(*) FROM pg_class WHERE relname = 'mine'") == 0
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("CREATE TABLE mine ()")


def test_sandbox_starts_repairs_and_stops(sandbox_home: Path) -> None:
    assert sandbox_status() is None
    assert sandbox_stop() is False
    said: list[str] = []
    sandbox = sandbox_start(said.append)
    assert any("source" in line for line in said)
    assert scalar(sandbox.source, "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'") == 0
    assert scalar(sandbox.target, "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'") == 1
    ports = [scalar(conninfo, "SHOW port") for conninfo in (sandbox.source, sandbox.target)]
    assert ports[0] != ports[1]
    said.clear()
    assert sandbox_start(said.append) == sandbox
    assert said == []
    assert sandbox_status() == sandbox

    with psycopg.connect(sandbox.target, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    target = open_server(sandbox_home / "target")
    assert target.pid is not None
    os.kill(target.pid, signal.SIGKILL)
    wait_until_dead(target)
    assert sandbox_status() is None
    assert scalar(sandbox_start().target, "SELECT answer FROM kept") == 42

    source = open_server(sandbox_home / "source")
    source.stop()
    (source.pgdata / "PG_VERSION").unlink()
    said.clear()
    repaired = sandbox_start(said.append)
    assert any("beyond repair" in line for line in said)
    assert scalar(repaired.source, "SELECT 1") == 1

    pgdata = [open_server(sandbox_home / name).pgdata for name in ("source", "target")]
    assert sandbox_stop() is True
    assert not sandbox_home.exists()
    assert [running_in(path) for path in pgdata] == [[], []]
    assert sandbox_status() is None


def test_stop_leaves_what_is_not_ours(sandbox_home: Path) -> None:
    sandbox_home.mkdir()
    (sandbox_home / "notes.txt").write_text("mine")
    sandbox_start()
    assert sandbox_stop() is True
    assert [path.name for path in sandbox_home.iterdir()] == ["notes.txt"]
    (sandbox_home / "notes.txt").unlink()


def test_the_servers_outlive_the_command(sandbox_home: Path) -> None:
    """Started by a process whose terminal is then closed: its whole process group gets SIGHUP."""
    script = "import hyperfill.sandbox as s, os, signal; s.sandbox_start(); os.killpg(0, signal.SIGHUP)"
    done = subprocess.run([sys.executable, "-c", script], start_new_session=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGHUP
    sandbox = sandbox_status()
    assert sandbox is not None
    assert scalar(sandbox.target, "SELECT 1") == 1


def test_two_terminals_start_at_once(sandbox_home: Path) -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(sandbox_start())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
