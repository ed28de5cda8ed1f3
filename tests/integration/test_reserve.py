"""Workers that are there before there is anything to do: they get work, or they leave, whatever becomes of the run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.scenes import Background, arguments, assert_equal_below, make_metrics, sessions, until

JOBS = 3


@contextmanager
def checking(
    source: str, target: str, folder: Path
) -> Iterator[tuple[Background, psycopg.Connection[tuple[object, ...]]]]:
    """A run of three workers whose checks wait for a lock on the source's table, for as long as this is open."""
    make_metrics(source, target)
    with psycopg.connect(source) as connection:
        connection.execute("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE")
        run = Background.start(folder, "run", *arguments(source, target, "--jobs", str(JOBS), "--json"))
        try:
            until(lambda: len(run.workers()) == JOBS and sessions(source), what="workers beside the checks")
            assert all(command(pid) == command(run.process.pid) for pid in run.workers())
            yield run, connection
        finally:
            run.end()


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_they_wait_for_the_checks_and_then_work(source_db: str, target_db: str, tmp_path: Path) -> None:
    with checking(source_db, target_db, tmp_path) as (run, lock):
        lock.rollback()
        assert run.wait() == 0, run.stderr
        assert "replaced" not in run.stderr
    assert_equal_below(source_db, target_db)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("group", [False, True], ids=["parent", "group"])
def test_they_leave_when_the_run_ends_in_its_checks(
    source_db: str, target_db: str, tmp_path: Path, signum: int, code: int, group: bool
) -> None:
    with checking(source_db, target_db, tmp_path) as (run, _):
        (run.signal_group if group else run.signal)(signum)
        assert run.wait(30) == code
        until(lambda: not run.members(), 5, "the workers to leave")
        assert "Traceback" not in run.stderr


def test_one_that_was_killed_while_it_waited_is_done_without(source_db: str, target_db: str, tmp_path: Path) -> None:
    with checking(source_db, target_db, tmp_path) as (run, lock):
        for pid in run.workers()[:2]:
            os.kill(pid, signal.SIGKILL)
        lock.rollback()
        assert run.wait() == 0, run.stderr
    assert_equal_below(source_db, target_db)
    assert not run.members()


@pytest.mark.parametrize("jobs", [1, 20])
def test_more_and_fewer_than_are_made_in_advance(source_db: str, target_db: str, tmp_path: Path, jobs: int) -> None:
    """Twenty for ten windows; sixteen at most are forked."""
    make_metrics(source_db, target_db)
    run = Background.start(tmp_path, "run", *arguments(source_db, target_db, "--jobs", str(jobs), "--json"))
    try:
        assert run.wait() == 0, run.stderr
        assert not run.members()
    finally:
        run.end()
    assert_equal_below(source_db, target_db)
