"""A lease is as long as its session: how soon somebody else has the window of a worker that was killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import scenes
from tests.fixtures.scenes import Background, arguments, execute, make_metrics, until

DAY = ("--start", "2024-01-05T00:00:00Z")
END = "2024-01-06T00:00:00Z"  # one chunk, one window
PER_DAY = 1500
SECONDS = 5.0  # the server looks every two seconds whether its client is there, and the machine may be busy
IN_A_WINDOW = (
    "SELECT pid FROM pg_stat_activity WHERE application_name ~ '^hyperfill/[0-9]+/[0-9]+$' "
    "AND query LIKE %s AND datname = current_database()"
)
WORKERS = (
    "SELECT pid FROM pg_stat_activity WHERE application_name ~ '^hyperfill/[0-9]+' AND datname = current_database()"
)


class Two:
    """A run that is in the only window, for many seconds, and another one that wants it."""

    def __init__(self, source: str, target: str, folder: Path) -> None:
        self.source, self.target, self.folder = source, target, folder
        self.runs: list[Background] = []
        make_metrics(source, target, per_day=PER_DAY)
        # Rows to be deleted, each of which takes its time.
        execute(
            target,
            "INSERT INTO metrics SELECT '2024-01-05 12:00Z'::timestamptz + i * interval '1 second', -i, -1, 'dual' "
            "FROM generate_series(1, 400) AS i",
        )

    def start(self, *more: str) -> Background:
        options = arguments(self.source, self.target, "--jobs", "1", *DAY, *more, end=END)
        self.runs.append(Background.start(self.folder, "run", *options))
        return self.runs[-1]

    def working(self, statement: str) -> list[int]:
        return [pid for (pid,) in scenes.rows(self.target, IN_A_WINDOW, f"{statement}%")]

    def both(self, statement: str) -> tuple[Background, int]:
        """The first run, whose worker is in such a statement, and that worker's backend."""
        first = self.start("--max-rate", "5kB")
        [backend] = until(lambda: self.working(statement), 30, "the window to be worked on")
        self.start("--max-rate", "5kB")
        until(lambda: len(scenes.rows(self.target, WORKERS)) > 1, 30, "the second run's worker")
        return first, backend

    def claimed_after(self, began: float, backend: int) -> float:
        """Seconds until another session is inside the window."""
        until(lambda: set(self.working("")) - {backend}, 30, "somebody else to have the window")
        return time.monotonic() - began


@pytest.fixture
def two(source_db: str, target_db: str, tmp_path: Path) -> Iterator[Two]:
    made = Two(source_db, target_db, tmp_path / "runs")
    yield made
    for run in made.runs:
        run.end()


@pytest.mark.parametrize("whom", ["a worker", "everything"])
@pytest.mark.parametrize("what", ["COPY", "DELETE"])
def test_seconds_until_somebody_else_has_the_window(two: Two, whom: str, what: str) -> None:
    if what == "DELETE":
        execute(
            two.target,
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN OLD; END'",
            "CREATE TRIGGER slow BEFORE DELETE ON metrics FOR EACH ROW EXECUTE FUNCTION slow()",
        )
    run, backend = two.both(what)
    began = time.monotonic()
    if whom == "a worker":
        [worker] = run.workers()
        os.kill(worker, signal.SIGKILL)
    else:
        run.signal_group(signal.SIGKILL)
    seconds = two.claimed_after(began, backend)
    print(f"{whom} in {what}: somebody else had the window after {seconds:.2f} s")
    assert seconds < SECONDS
    assert scenes.windows_done(two.target) == 0
