"""The target crashes: windows do not wait for the disk, so the last of them are undone, rows and ledger together."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from hyperfill.sandbox import Server, create_server
from tests.fixtures.scenes import Background, T, assert_equal_below, execute, make_metrics, rows, until
from tests.fixtures.servers import SETTINGS, fresh_database, make_template

CONFIG = f"""
jobs = 2
window = "1h"
verify = "none"
max-rate = "80kB"

[[backfill]]
table = "public.metrics"
end = "{T}"

[[backfill]]
table = "public.others"
hypertable = "public.others"
end = "{T}"
"""

# Nothing else is to write the log out before its time.
_LATE = {"fsync": "on", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "bgwriter_lru_maxpages": "0"}


@pytest.fixture
def crashing(tmp_path: Path) -> Iterator[Server]:
    """A target that may be killed, and loses as much by it as can be: its log is written out every ten seconds."""
    server = create_server(tmp_path / "target", settings={**SETTINGS, **_LATE})
    try:
        server.start()
        make_template(server, timescaledb=True)
        yield server
    finally:
        server.remove()


def done(target: str) -> dict[int, int]:
    statement = "SELECT backfill_id, count(*) FROM hyperfill.windows WHERE state = 'done' GROUP BY 1"
    try:
        return {int(backfill): int(count) for backfill, count in rows(target, statement)}
    except psycopg.Error:
        return {}


def crash(server: Server) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.is_running(), what="the postmaster to be gone")
    until(lambda: _starts(server), what="the crashed server to start")


def _starts(server: Server) -> bool:
    """Backends that are still leaving keep a new postmaster away."""
    try:
        server.start()
    except Exception:
        return False
    return True


def crashed_between_tables(source: str, crashing: Server, target: str, folder: Path) -> Background | None:
    """A run that is at the second table while windows of the first are undone. None: the server's log was written out
    just before, as it is every ten seconds, and nothing was undone."""
    make_metrics(source, target, days=3, per_day=1000, overlap=20)
    execute(source, "CREATE TABLE others AS TABLE metrics", "CREATE INDEX ON others (time)", "ANALYZE others")
    execute(target, "CREATE TABLE others (LIKE metrics)", "SELECT create_hypertable('others', 'time')", "CHECKPOINT")
    config = folder / "migration.toml"
    config.write_text(CONFIG)
    run = Background.start(folder, "run", "--config", str(config), "--source", source, "--target", target, "--json")
    try:
        until(lambda: done(target).get(2, 0) >= 8, 60, "windows of the second table")
        before = done(target)
        crash(crashing)
        if done(target).get(1, 0) < before[1]:
            return run
    except BaseException:
        run.end()
        raise
    run.end()
    execute(source, "DROP TABLE metrics, others")
    return None


def test_windows_of_a_backfill_that_was_done_with_are_moved_again(
    source_db: str, crashing: Server, tmp_path: Path
) -> None:
    """The workers are at the second table when the windows of the first are undone: the run goes back to it."""
    for _ in range(4):
        with contextlib.contextmanager(fresh_database)(crashing, "target") as target:
            run = crashed_between_tables(source_db, crashing, target, tmp_path)
            if run is None:
                continue
            try:
                assert run.wait(120) == 0, run.stderr
            finally:
                run.end()
            assert "they are moved again" in run.stderr
            assert run.report["state"] == "done"
            assert_equal_below(source_db, target)
            there = "SELECT count(*), count(DISTINCT id), sum(id) FROM others"
            assert rows(target, there) == rows(source_db, f"{there} WHERE time < '{T}'")
            return
    pytest.fail("nothing was undone in four crashes: the test shows nothing")
