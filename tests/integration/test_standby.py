"""A physical standby as the source: what the primary cleans up cancels a COPY, and the window is tried again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hyperfill.sandbox import Server
from tests.fixtures import scenes
from tests.fixtures.scenes import Background, arguments, assert_equal_below, execute, make_metrics, rows, until
from tests.fixtures.servers import Servers
from tests.fixtures.standby import catch_up

# A COPY of a window that has row 550 stays there until the gate is open: a statement that lasts.
SLOW = (
    "CREATE TABLE gate ()",
    "CREATE FUNCTION pass(id bigint) RETURNS boolean LANGUAGE plpgsql COST 10000 AS $$ BEGIN"
    " WHILE id = 550 AND current_query() LIKE 'COPY%' AND NOT EXISTS (SELECT FROM gate) LOOP"
    "   PERFORM pg_sleep(0.02);"
    " END LOOP; RETURN true; END $$",
    "CREATE VIEW slow AS SELECT time, id, value, note FROM metrics WHERE pass(id)",
    "CREATE INDEX extra ON metrics (id)",
)
WAITING = (
    "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY%' AND wait_event = 'PgSleep'"
)
# What the primary does, and how the standby says that a query was in its way.
CONFLICTS = {
    "User query might have needed to see row versions that must be removed.": (
        "UPDATE metrics SET value = value WHERE id = 551",
        "VACUUM metrics",
    ),
    "User was holding a relation lock for too long.": ("DROP INDEX extra", "CREATE INDEX extra ON metrics (id)"),
}
# The seventh: of the first one is what was before START.
CANCELLED = "window 7: source: canceling statement due to conflict with recovery ({}); trying again"


def test_a_conflict_with_recovery(
    servers: Servers, standby: Server, source_db: str, target_db: str, tmp_path: Path
) -> None:
    """First by VACUUM, then by an exclusive lock: each in the middle of a window's COPY."""
    make_metrics(source_db, target_db, overlap=20)
    execute(source_db, *SLOW)
    catch_up(servers.source, standby)
    replica = scenes.with_options(source_db, port=str(standby.port))
    options = arguments(
        replica, target_db, "--hypertable", "public.metrics", "--jobs", "2", "--json", table="public.slow"
    )
    run = Background.start(tmp_path, "run", *options)
    try:
        for why, statements in CONFLICTS.items():
            conflict(run, replica, source_db, CANCELLED.format(why), statements)
        assert run.process.poll() is None
        execute(source_db, "INSERT INTO gate DEFAULT VALUES")
        assert run.wait(30) == 0, run.stderr
    finally:
        run.end()
    assert run.report["state"] == "done"
    assert_equal_below(source_db, target_db)
    # The server has counted what it did.
    counted = "SELECT confl_snapshot, confl_lock FROM pg_stat_database_conflicts WHERE datname = current_database()"
    assert min(rows(replica, counted)[0]) >= 1
    assert scenes.scalar(target_db, "SELECT attempts FROM hyperfill.windows WHERE id = 7") >= 3


def conflict(run: Background, replica: str, primary: str, message: str, statements: tuple[str, ...]) -> None:
    """Have the primary do it while a COPY waits on the standby, until the run has said so.

    Not once only: VACUUM leaves a row version or a page alone that somebody on the primary still looks at
    (autovacuum's ANALYZE, the background writer), and then there is nothing to be in the way of.
    """
    for _ in range(5):
        until(lambda: rows(replica, WAITING), 30, "a COPY on the standby")
        execute(primary, *statements)
        with suppress(AssertionError):
            until(lambda: message in run.stderr, 8, message)
            return
    raise AssertionError(f"not seen: {message}\n{run.stderr}")
