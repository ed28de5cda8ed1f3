"""XX000, "tuple concurrently updated": two sessions changed the same row of a catalog at the same moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.fixtures import scenes
from tests.fixtures.community import HELD, job_table, jobs_on, make_policies
from tests.fixtures.holding import RANGE, Start, assert_moved, done, ids, make_source, phase
from tests.fixtures.pair import Pair
from tests.fixtures.scenes import Background, arguments, assert_equal_below, execute, make_metrics, until

CLASH = "tuple concurrently updated"
# Who waits for a row that this session has changed.
WAITS = (
    "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'hyperfill/%%'"
    " AND pg_blocking_pids(pid) = ARRAY[%s::int]"
)


@contextmanager
def clashing(conninfo: str, statement: str) -> Iterator[None]:
    """Change something, and commit when a session of hyperfill waits for it: that one gets XX000."""
    with psycopg.connect(conninfo) as session:
        session.execute(statement)
        yield
        pid = session.info.backend_pid
        until(lambda: scenes.rows(conninfo, WAITS, pid), 30, "a session that changes the same row")


CHANGE = "GRANT SELECT ON other TO pg_monitor"  # waits for nobody's lock on the table; changes its row of pg_class


def make_trigger(target: str, body: str) -> None:
    """What the target does when row 550 arrives."""
    execute(
        target,
        "CREATE TABLE other ()",
        "CREATE SEQUENCE calls",
        f"CREATE FUNCTION clash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$",
        "CREATE TRIGGER clash BEFORE INSERT ON metrics FOR EACH ROW WHEN (NEW.id = 550) EXECUTE FUNCTION clash()",
    )


def test_a_window_that_clashes_is_tried_again(source_db: str, target_db: str, tmp_path: Path) -> None:
    make_metrics(source_db, target_db, overlap=20)
    make_trigger(target_db, CHANGE)
    run: Background | None = None
    try:
        # A machine that is busy lets the window's lock_timeout come first, now and then.
        while f"window 7: target: {CLASH}; trying again" not in (run.stderr if run else ""):
            assert run is None or run.process.poll() is None, run.stderr
            with clashing(target_db, CHANGE):
                run = run or Background.start(tmp_path, "run", *arguments(source_db, target_db, "--json"))
        assert run is not None and run.wait(30) == 0, run and run.stderr
    finally:
        if run is not None:
            run.end()
    assert run.report["state"] == "done"
    assert_equal_below(source_db, target_db)


def test_but_only_a_few_times(source_db: str, target_db: str, tmp_path: Path) -> None:
    """XX000 may be anything: a window that a worker meets it in five times has failed, and the others go on."""
    make_metrics(source_db, target_db)
    make_trigger(target_db, f"PERFORM nextval('calls'); RAISE SQLSTATE 'XX000' USING MESSAGE = '{CLASH}'")
    run = Background.start(tmp_path, "run", *arguments(source_db, target_db, "--json", "--jobs", "1"))
    try:
        assert run.wait(30) == 4, run.stderr
    finally:
        run.end()
    assert scenes.scalar(target_db, "SELECT last_value FROM calls") == 5
    [failed] = run.report["failed_windows"]
    assert (failed["window"], failed["sqlstate"], failed["server"]) == (7, "XX000", "target")
    assert scenes.rows(target_db, "SELECT id FROM hyperfill.windows WHERE state <> 'done'") == [(7,)]


@pytest.mark.community
def test_policies_that_are_altered_at_the_same_moment(policy_pair: Pair, start: Start) -> None:
    """Once when they are turned off, once when they are turned on. What somebody else changed stays."""
    pair = policy_pair
    make_source(pair, 2000)
    jobs = make_policies(pair.target)
    on = jobs_on(pair.target)
    one = jobs["compression"]

    def alter(retries: int) -> str:
        return (
            f"SELECT alter_job(id, max_retries => {retries}, timezone => timezone)"
            f" FROM {job_table(pair.target)} WHERE id = {one}"
        )

    with clashing(pair.target_conninfo, alter(3)):
        run = start(pair, *RANGE, "--max-rate", "20kB", "--jobs", "1")
    until(lambda: done(pair) >= 1, what="a window")
    assert jobs_on(pair.target) == on - ids(jobs, *HELD)
    with clashing(pair.target_conninfo, alter(4)):
        pass
    assert run.wait(30) == 0, run.stderr
    assert phase(pair) == "done"
    assert jobs_on(pair.target) == on
    assert pair.query(pair.target, f"SELECT max_retries FROM {job_table(pair.target)} WHERE id = {one}") == [(4,)]
    assert_moved(pair)
