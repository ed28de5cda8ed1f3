"""What only a person can mend is waited for: a server that takes no writes, a full disk, one that says nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from hyperfill import manifest
from hyperfill.sandbox import Server
from tests.fixtures import scenes
from tests.fixtures.loading import Loading, rows
from tests.fixtures.scenes import Background, arguments, make_metrics, until
from tests.fixtures.servers import Servers


@contextlib.contextmanager
def read_only(server: Server) -> Iterator[None]:
    """As a managed service does when the disk is nearly full: for every session, also those that are open."""
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        admin.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
            admin.execute("SELECT pg_reload_conf()")


def test_a_server_that_becomes_read_only_is_waited_for(
    servers: Servers, source_db: str, target_db: str, tmp_path: Path
) -> None:
    make_metrics(source_db, target_db, overlap=20)
    running = Background.start(tmp_path, "run", *arguments(source_db, target_db, "--jobs", "2", "--max-rate", "15kB"))
    try:
        until(lambda: scenes.windows_done(target_db) >= 2, 60, "some windows")
        with read_only(servers.target):
            until(lambda: "paused, looking again" in running.stderr, 60, "the pause")
            done = scenes.windows_done(target_db)
            assert running.process.poll() is None
            assert scenes.windows_done(target_db) == done
        assert running.wait(90) == 0, running.stderr
    finally:
        running.end()
    assert "takes no writes" in running.stderr
    scenes.assert_equal_below(source_db, target_db)


def test_one_that_becomes_read_only_before_a_window_is_begun(source_db: str, target_db: str, tmp_path: Path) -> None:
    """Nothing has begun that could be paused: the run says what is the matter, and is incomplete."""
    make_metrics(source_db, target_db)
    first = Background.start(tmp_path, "run", *arguments(source_db, target_db))
    assert first.wait() == 0, first.stderr
    name = psycopg.conninfo.conninfo_to_dict(target_db)["dbname"]
    with psycopg.connect(source_db) as connection:
        connection.execute("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE")
        running = Background.start(tmp_path, "run", *arguments(source_db, target_db, "--again", "--json"))
        try:
            until(lambda: scenes.sessions(source_db) and scenes.sessions(target_db), what="the checks")
            scenes.execute(target_db, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
            connection.rollback()
            assert running.wait() == 4, running.stderr
        finally:
            running.end()
            with psycopg.connect(target_db, options="-c default_transaction_read_only=off") as other:
                other.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    assert "takes no writes" in running.report["error"]
    assert "defect" not in running.stderr
    again = Background.start(tmp_path, "run", *arguments(source_db, target_db, "--again"))
    assert again.wait() == 0, again.stderr
    scenes.assert_equal_below(source_db, target_db)


def test_a_load_of_files_waits_for_it_as_well(servers: Servers, loading: Loading) -> None:
    path = loading.file("a.csv", rows(10_000))
    options = ["--target", loading.conninfo, "--hypertable", "m", "--batch-size", "16kB", "--max-rate", "150kB"]
    running = Background.start(loading.folder.parent, "load", *options, path)
    try:
        until(lambda: loading.count() > 0, 60, "a batch")
        with read_only(servers.target):
            until(lambda: "paused, looking again" in running.stderr, 60, "the pause")
            assert running.process.poll() is None
        assert running.wait(60) == 0, running.stderr
    finally:
        running.end()
    assert loading.query("SELECT count(*), count(DISTINCT id) FROM m") == [(10_000, 10_000)]


@pytest.mark.parametrize("sessions", ["^hyperfill/[0-9]", "^hyperfill"], ids=["workers", "all"])
def test_sessions_that_began_read_only_are_replaced(
    source_db: str, target_db: str, tmp_path: Path, sessions: str
) -> None:
    make_metrics(source_db, target_db)
    running = Background.start(tmp_path, "run", *arguments(source_db, target_db, "--jobs", "2", "--max-rate", "15kB"))
    name = scenes.scalar(target_db, "SELECT quote_ident(current_database())")
    workers = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        f"AND application_name ~ '{sessions}'"
    )
    try:
        until(lambda: scenes.windows_done(target_db) >= 2, 60, "some windows")
        scenes.execute(target_db, f"ALTER DATABASE {name} SET default_transaction_read_only = on", workers)
        until(lambda: "paused, looking again" in running.stderr, 60, "the pause")
        with psycopg.connect(target_db, autocommit=True) as admin:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        assert running.wait(90) == 0, running.stderr
    finally:
        running.end()
    scenes.assert_equal_below(source_db, target_db)


def test_a_pause_ends_with_the_first_signal(servers: Servers, source_db: str, target_db: str, tmp_path: Path) -> None:
    make_metrics(source_db, target_db)
    running = Background.start(tmp_path, "run", *arguments(source_db, target_db, "--max-rate", "15kB"))
    try:
        until(lambda: scenes.windows_done(target_db) >= 2, 60, "some windows")
        with read_only(servers.target):
            until(lambda: "paused, looking again" in running.stderr, 60, "the pause")
            running.signal(signal.SIGINT)
            assert running.wait(15) == 130, running.stderr
    finally:
        running.end()
    assert scenes.scalar(target_db, "SELECT count(*) FROM hyperfill.windows WHERE state = 'failed'") == 0


@pytest.fixture
def stopped(servers: Servers) -> Iterator[list[int]]:
    """Processes that a test has stopped; they go on afterwards."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.long
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_server_that_says_nothing_is_given_up(
    source_db: str, target_db: str, tmp_path: Path, stopped: list[int], side: str
) -> None:
    """Its connection is open, and its machine answers: no keepalive notices that."""
    make_metrics(source_db, target_db, days=3, per_day=1500)
    # More than the buffers between both servers hold, or the source would be through before anybody looks.
    scenes.execute(source_db, "UPDATE metrics SET note = repeat('x', 3000) ")
    options = ("--jobs", "1", "--max-rate", "2MB", "--stall-timeout", "2s")
    asked = source_db if side == "source" else target_db
    stall(
        Background.start(tmp_path, "run", *arguments(source_db, target_db, *options)),
        asked,
        stopped,
        lets_go=side == "target",
    )
    scenes.assert_equal_below(source_db, target_db)
    folder = str(tmp_path / "dump")
    dump = ("--source", source_db, "--table", "metrics", "--end", scenes.T, "--out", folder, *options)
    if side == "source":
        stall(Background.start(tmp_path, "dump", *dump), asked, stopped)
        assert sum(window.rows for window in manifest.read(Path(folder)).windows) == 4500
        return
    assert Background.start(tmp_path, "dump", *dump[:-4]).wait(60) == 0
    load = (folder, "--target", target_db, "--hypertable", "metrics", "--replace", *options)
    stall(Background.start(tmp_path, "load", *load), asked, stopped, lets_go=True)
    scenes.assert_equal_below(source_db, target_db)


def stall(running: Background, asked: str, stopped: list[int], *, lets_go: bool = False) -> None:
    """A server that says nothing any more in the middle of a COPY of `running`; which ends well all the same."""
    copying = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY%' "
        "AND application_name LIKE 'hyperfill%' AND state = 'active'"
    )
    try:
        [(pid,)] = until(lambda: scenes.rows(asked, copying), 60, "a COPY")
        stopped.append(pid)
        os.kill(pid, signal.SIGSTOP)
        until(lambda: "nothing has moved" in running.stderr, 60, "the stall to be noticed")
        if lets_go:
            # Its row of the ledger is its lease: until that session ends, nobody may take the window.
            os.kill(pid, signal.SIGCONT)
        assert running.wait(120) == 0, running.stderr
    finally:
        running.end()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    until(lambda: not scenes.rows(asked, copying), 60, "the end of that session")
