"""A terminal that is closed: SIGHUP and a stderr that takes no word any more, at the same time."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tests.faults.runs import Run
from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import T, arguments, assert_equal_below, make_metrics, until

_WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name ~ '^hyperfill/' AND wait_event_type = 'Lock' "
    "AND datname = current_database()"
)


def test_a_closed_terminal_lets_windows_finish(
    source_db: str, target_db: str, tmp_path: Path, hyperfill: Hyperfill
) -> None:
    make_metrics(source_db, target_db, per_day=2000, overlap=500)
    options = arguments(source_db, target_db, "--jobs", "2", "--max-window-rows", "400", "--json")
    command = ["run", *options, "--max-rate", "100kB"]
    run = Run.begin(tmp_path, 1, command, terminal=True)
    try:
        until(lambda: scenes.windows_done(target_db) > 2 and "windows" in run.stderr, 30, "windows, and their display")
        with psycopg.connect(source_db) as connection:
            # No window can finish while the terminal is closed, and the display is drawn several times meanwhile.
            connection.execute("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE")
            until(lambda: len(scenes.rows(source_db, _WAITING)) == 2, 20, "both workers to wait")
            assert run.alive and run.terminal is not None
            run.terminal.close()
            connection.execute("SELECT pg_sleep(1.5)")
            assert run.alive
            connection.rollback()
        assert run.wait(30) == 129
        assert not run.problems()
        assert run.report["state"] == "incomplete"
        # Finished, not cancelled: nothing was begun twice.
        assert scenes.scalar(target_db, "SELECT count(*) FROM hyperfill.windows WHERE attempts > 1") == 0
    finally:
        run.end()
    assert hyperfill("run", *options).returncode == 0
    assert_equal_below(source_db, target_db, T)
