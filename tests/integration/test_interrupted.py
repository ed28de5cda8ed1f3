"""kill -9, SIGINT, SIGTERM at random moments while an application writes: half a window is never left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import Background, DualWriter, T, arguments, assert_equal_below, make_metrics, more, until

ROWS = 9.5 * 4000


class Site:
    """A table of 38 000 rows that takes about eight seconds at the speed used here."""

    def __init__(self, source: str, target: str, folder: Path) -> None:
        self.source, self.target, self.folder = source, target, folder
        self.started: list[Background] = []
        make_metrics(source, target, per_day=4000, overlap=3000, after=50)
        self.after = scenes.physical(target, f"time >= '{T}'")

    def options(self, *more: str) -> list[str]:
        return arguments(self.source, self.target, "--jobs", "2", "--max-window-rows", "400", "--json", *more)

    def start(self, rate: str = "250kB") -> Background:
        started = Background.start(self.folder, "run", *self.options("--max-rate", rate))
        self.started.append(started)
        return started

    def done(self) -> int:
        return scenes.windows_done(self.target)

    def quiet(self) -> bool:
        """No process, no session on either side."""
        return scenes.processes_gone(self.started) and not scenes.sessions(self.source) + scenes.sessions(self.target)

    def check_windows(self) -> None:
        """Each window is as before or done, whatever happened; rows at or after T are where they were."""
        windows = scenes.rows(self.target, "SELECT coalesce(lower, '-infinity'), upper, state FROM hyperfill.windows")
        assert windows
        for lower, upper, state in windows:
            inside = f"time >= '{lower}' AND time < '{upper}'"
            if state == "done":
                assert scenes.fingerprint(self.source, inside) == scenes.fingerprint(self.target, inside)
            else:
                assert (
                    scenes.scalar(self.target, f"SELECT count(*) FROM metrics WHERE {inside} AND note <> 'dual'") == 0
                )
        assert scenes.scalar(self.target, "SELECT count(*) FROM metrics WHERE note = 'dual'") == 3000 - scenes.scalar(
            self.target, "SELECT coalesce(sum(rows_deleted), 0) FROM hyperfill.windows"
        )
        self.check_after()

    def check_after(self, application: DualWriter | None = None) -> None:
        at_or_after = f"time >= '{T}'"
        if application is None:
            assert set(self.after) <= set(scenes.physical(self.target, at_or_after))
            return
        assert len(application.written) > 20
        assert set(self.after) <= set(scenes.physical(self.target, at_or_after))
        assert scenes.fingerprint(self.source, at_or_after) == scenes.fingerprint(self.target, at_or_after)
        assert scenes.scalar(self.target, f"SELECT count(*) FROM metrics WHERE {at_or_after}") == 50 + len(
            application.written
        )

    def check_equal(self) -> None:
        assert_equal_below(self.source, self.target)
        assert scenes.scalar(self.target, "SELECT count(*) FROM metrics WHERE time < %s", T) == ROWS
        copied, deleted = scenes.rows(self.target, "SELECT sum(rows_copied), sum(rows_deleted) FROM hyperfill.windows")[
            0
        ]
        assert (copied, deleted) == (ROWS, 3000)


@pytest.fixture
def site(source_db: str, target_db: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(source_db, target_db, tmp_path / "runs")
    yield made
    for run in made.started:
        run.end()


def test_kill_9_of_everything_at_random_moments(site: Site, hyperfill: Hyperfill) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    with DualWriter(site.source, site.target) as application:
        progress = 0
        for _ in range(4):
            run = site.start()
            if moments.random() < 0.7:
                # Somewhere inside a window: the COPYs are running.
                until(lambda: site.done() > progress, 30, "a window")  # noqa: B023
            with pytest.raises(subprocess.TimeoutExpired):
                run.process.wait(moments.uniform(0, 0.8))
            run.signal_group(signal.SIGKILL)
            assert run.wait(10) == -signal.SIGKILL
            until(site.quiet, 20, "the servers to notice")
            if scenes.has_ledger(site.target):
                site.check_windows()
            progress = site.done()
        assert progress > 0
        ended = hyperfill("run", *site.options())
        assert ended.returncode == 0, ended.stderr
    site.check_equal()
    site.check_after(application)


def test_kill_9_of_a_worker(site: Site) -> None:
    run = site.start("600kB")
    killed: set[int] = set()
    for count in (1, 2, 3):
        until(more(site.done, 3 * count), 30, "windows")
        victim = run.workers()[0]
        os.kill(victim, signal.SIGKILL)
        killed.add(victim)
        until(lambda: len(set(run.workers()) - killed) == 2, 20, "a replacement")
    assert run.wait() == 0, run.stderr
    assert run.stderr.count("died") == 3
    assert run.report["state"] == "done"
    site.check_equal()
    site.check_after()
    until(site.quiet, 10, "everything to end")


def test_kill_9_of_the_parent_alone(site: Site, hyperfill: Hyperfill) -> None:
    run = site.start()
    until(lambda: site.done() > 2, 30, "windows")
    run.signal(signal.SIGKILL)
    assert run.wait(10) == -signal.SIGKILL
    # Nobody tells its workers anything any more: they must find out and go.
    until(site.quiet, 15, "the workers to leave")
    assert 0 < site.done() < scenes.scalar(site.target, "SELECT count(*) FROM hyperfill.windows")
    site.check_windows()
    assert hyperfill("run", *site.options()).returncode == 0
    site.check_equal()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_lets_windows_finish(site: Site, hyperfill: Hyperfill, signum: int, code: int) -> None:
    with DualWriter(site.source, site.target) as application:
        run = site.start()
        until(lambda: site.done() > 2, 30, "windows")
        busy = until(lambda: scenes.rows(site.target, RUNNING), 10, "a running window")
        if signum == signal.SIGINT:
            run.signal_group(signum)  # as a terminal does: the workers hear it as well
        else:
            run.signal(signum)
        assert run.wait(30) == code, run.stderr
        assert (run.report["state"], run.report["windows"]["failed"]) == ("incomplete", 0)
        assert "finished first" in run.stderr and "Traceback" not in run.stderr
        until(site.quiet, 5, "the servers to notice")
        states = dict(scenes.rows(site.target, "SELECT id::text, state FROM hyperfill.windows"))
        assert {states[window] for (window,) in busy} == {"done"}
        assert len([s for s in states.values() if s == "done"]) < len(states)
        assert scenes.scalar(site.target, "SELECT count(*) FROM hyperfill.windows WHERE attempts > 1") == 0
        site.check_windows()
        assert hyperfill("run", *site.options()).returncode == 0
    site.check_equal()
    site.check_after(application)


WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name ~ '^hyperfill/[0-9]+(/[0-9]+)?$' "
    "AND wait_event_type = 'Lock' AND datname = current_database()"
)
RUNNING = (
    "SELECT split_part(application_name, '/', 3) FROM pg_stat_activity JOIN pg_stat_progress_copy USING (pid) "
    "WHERE application_name ~ '^hyperfill/[0-9]+/[0-9]+$' AND pg_stat_activity.datname = current_database()"
)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_two_signals_cancel_windows(site: Site, hyperfill: Hyperfill, signum: int, code: int) -> None:
    run = site.start()
    until(lambda: site.done() > 2, 30, "windows")
    with psycopg.connect(site.source) as connection:
        # Now no window can finish: its COPY waits for this lock. The server grants it between two COPYs.
        connection.execute("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE")
        until(lambda: len(scenes.rows(site.source, WAITING)) == 2, 20, "both workers to wait")
        done = site.done()
        run.signal_group(signum)
        until(lambda: "finished first" in run.stderr, 10, "the first signal to be heard")
        with pytest.raises(subprocess.TimeoutExpired):
            run.process.wait(0.5)
        run.signal_group(signum)
        assert run.wait(20) == code, run.stderr
        assert site.done() == done
        until(lambda: scenes.sessions(site.source) + scenes.sessions(site.target) == [], 5, "the servers to notice")
    assert run.report["state"] == "incomplete"
    assert "cancelling" in run.stderr and "Traceback" not in run.stderr
    until(site.quiet, 5, "the servers to notice")
    assert run.report["windows"]["failed"] == 0
    assert scenes.scalar(site.target, "SELECT count(*) FROM hyperfill.windows WHERE error IS NOT NULL") == 0
    site.check_windows()
    assert hyperfill("run", *site.options()).returncode == 0
    site.check_equal()
    site.check_after()


def test_a_signal_at_any_moment_leaves_nothing(site: Site, hyperfill: Hyperfill) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for _ in range(5):
        run = site.start()
        # Also while it starts, checks and makes its workers.
        scenes.signalled(run, moments, 0.5, 2.0)
        until(site.quiet, 10, "everything to end")
        if scenes.has_ledger(site.target) and scenes.scalar(site.target, "SELECT count(*) FROM hyperfill.windows"):
            site.check_windows()
    assert hyperfill("run", *site.options()).returncode == 0
    site.check_equal()


def test_a_source_session_that_is_ended(site: Site) -> None:
    """An administrator ends our sessions, on either side: the windows are tried again."""
    run = site.start("600kB")
    for count, side in enumerate((site.source, site.target, site.source, site.target), start=1):
        until(more(site.done, 3 * count), 30, "windows")
        ended = scenes.rows(
            side,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name ~ '^hyperfill/[0-9]+/[0-9]+$'",
        )
        assert ended or run.process.poll() is None
    assert run.wait() == 0, run.stderr
    assert "trying again" in run.stderr
    site.check_equal()
    site.check_after()
