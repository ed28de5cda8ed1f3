"""A statement that somebody cancels, at chosen moments: that window fails, the others go on, the next run does it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import Background, arguments, assert_equal_below, execute, make_metrics, rows, until

_SLEEP = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3); RETURN NULL; END'"
MOMENTS = {
    # side whose session is cancelled, its statement, what makes it slow
    "DELETE": ("target", "DELETE", "CREATE TRIGGER slow BEFORE DELETE ON metrics EXECUTE FUNCTION slow()"),
    "COPY on the target": ("target", "COPY", ""),
    "COPY on the source": ("source", "COPY", ""),
    "COMMIT": (
        "target",
        "COMMIT",
        # Of the last day but one.
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON metrics DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
        "WHEN (NEW.id = 5000) EXECUTE FUNCTION slow()",
    ),
}
_RUNNING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
    "AND application_name ~ '^hyperfill/[0-9]+/[0-9]+$' AND state = 'active' AND query LIKE %s || '%%'"
)


@pytest.mark.parametrize("moment", [pytest.param(m, marks=pytest.mark.long) if m == "DELETE" else m for m in MOMENTS])
def test_a_cancelled_statement_fails_its_window_only(
    source_db: str, target_db: str, hyperfill: Hyperfill, tmp_path: Path, moment: str
) -> None:
    side, statement, slow = MOMENTS[moment]
    make_metrics(source_db, target_db, days=4, per_day=1500, overlap=20)
    # More than the buffers between both servers hold, or the source would be through before anybody looks.
    execute(source_db, "UPDATE metrics SET note = repeat('x', 9000)")
    options = arguments(source_db, target_db, "--jobs", "1", "--json")
    running = Background.start(tmp_path, "run", *options, "--max-rate", "15MB")
    asked = source_db if side == "source" else target_db
    try:
        until(lambda: scenes.windows_done(target_db) >= 1, 60, "a window")
        if slow:
            execute(target_db, _SLEEP, slow)
        [(pid,)] = until(lambda: rows(asked, _RUNNING, statement), 60, f"a {statement}")
        assert scenes.scalar(asked, "SELECT pg_cancel_backend(%s)", pid)
        assert running.wait(60) == 4, running.stderr
    finally:
        running.end()
    [failed] = running.report["failed_windows"]
    assert (failed["server"], failed["sqlstate"], failed["hint"]) == (side, "57014", "somebody cancelled the statement")
    windows = running.report["windows"]
    assert (windows["done"], windows["failed"]) == (windows["total"] - 1, 1)
    inside = f"time >= '{failed['lower']}' AND time < '{failed['upper']}' AND note IS DISTINCT FROM 'dual'"
    assert scenes.scalar(target_db, f"SELECT count(*) FROM metrics WHERE {inside} AND time < '{scenes.T}'") == 0
    execute(target_db, "DROP FUNCTION IF EXISTS slow CASCADE")
    ended = hyperfill("run", *options)
    assert ended.returncode == 0, ended.stderr
    assert_equal_below(source_db, target_db)


def test_a_lock_that_is_never_free_fails_after_the_budget(
    source_db: str, target_db: str, hyperfill: Hyperfill, tmp_path: Path
) -> None:
    make_metrics(source_db, target_db, overlap=20)
    options = arguments(source_db, target_db, "--jobs", "1", "--json", "--retry-for", "1s")
    running = Background.start(tmp_path, "run", *options, "--max-rate", "16kB")
    try:
        until(lambda: scenes.windows_done(target_db) >= 1, 60, "a window")
        with psycopg.connect(target_db) as other:
            other.execute("SELECT FROM metrics WHERE note = 'dual' FOR UPDATE")
            assert running.wait(60) == 4, running.stderr
    finally:
        running.end()
    [failed] = running.report["failed_windows"]
    assert failed["upper"] == "2024-01-10 12:00:00+00"
    assert (failed["server"], failed["sqlstate"]) == ("target", "55P03")
    blamed = "failed on the target (SQLSTATE 55P03): "
    assert f"window {failed['window']} {blamed}" in running.stderr
    assert blamed in hyperfill("status", "--target", target_db).stdout
    assert "trying again" in running.stderr
    ended = hyperfill("run", *options)
    assert ended.returncode == 0, ended.stderr
    assert_equal_below(source_db, target_db)
