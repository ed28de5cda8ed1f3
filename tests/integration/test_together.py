"""Several commands at one backfill or load at the same time: nothing is moved twice, and nothing is left out."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import scenes
from tests.fixtures.loading import Loading, rows
from tests.fixtures.scenes import Background, T, arguments, assert_equal_below, make_metrics, until

PER_DAY = 3000
ROWS = 9.5 * PER_DAY
DUAL = 1000


@pytest.fixture
def started() -> Iterator[list[Background]]:
    """Commands that end with the test."""
    found: list[Background] = []
    yield found
    for run in found:
        run.end()


def check(source: str, target: str) -> None:
    assert_equal_below(source, target)
    assert scenes.rows(
        target, "SELECT sum(rows_copied), sum(rows_deleted), array_agg(DISTINCT state) FROM hyperfill.windows"
    ) == [(ROWS, DUAL, ["done"])]


def test_three_runs_that_start_at_the_same_instant(
    source_db: str, target_db: str, tmp_path: Path, started: list[Background]
) -> None:
    """Nobody has made the ledger yet. They have different numbers of workers; one is killed on the way."""
    make_metrics(source_db, target_db, per_day=PER_DAY, overlap=DUAL)
    common = ("--max-window-rows", "400", "--json")
    for jobs, rate in (("1", "150kB"), ("2", "200kB"), ("3", "150kB")):
        options = arguments(source_db, target_db, "--jobs", jobs, "--max-rate", rate, *common)
        started.append(Background.start(tmp_path, "run", *options))
    who = "SELECT count(DISTINCT backfill_id) FROM hyperfill.windows"
    until(lambda: scenes.windows_done(target_db) > 5, 60, "windows")
    assert scenes.scalar(target_db, who) == 1
    until(lambda: scenes.scalar(target_db, "SELECT runs FROM hyperfill.backfills") == 3, 30, "all of them to begin")
    started[1].signal_group(signal.SIGKILL)
    assert [run.wait() for run in started] == [0, -9, 0], [run.stderr for run in started]
    for run in (started[0], started[2]):
        assert (run.report["backfill"], run.report["state"]) == (1, "done")
        assert "Traceback" not in run.stderr
    # What was killed had not counted as an attempt; everything else was done at the first.
    assert scenes.rows(target_db, "SELECT DISTINCT attempts FROM hyperfill.windows") == [(1,)]
    check(source_db, target_db)


def test_a_repair_and_a_run_at_once(source_db: str, target_db: str, tmp_path: Path, started: list[Background]) -> None:
    """And two repairs. Whoever comes too late says so; what is there in the end is right."""
    make_metrics(source_db, target_db, per_day=PER_DAY, overlap=DUAL)
    scenes.execute(
        target_db,
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.value := -1; RETURN NEW; END'",
        "CREATE TRIGGER spoil BEFORE INSERT ON metrics FOR EACH ROW WHEN (NEW.id % 100 = 0) EXECUTE FUNCTION spoil()",
    )
    options = arguments(source_db, target_db, "--jobs", "2", "--max-window-rows", "1000", "--json")
    started.append(Background.start(tmp_path, "run", *options))
    assert started[0].wait() == 5, started[0].stderr
    scenes.execute(target_db, "DROP TRIGGER spoil ON metrics")
    repairing = [o for o in options if o not in ("--max-window-rows", "1000")]
    for command, chosen in (("repair", repairing), ("run", options), ("repair", repairing)):
        started.append(Background.start(tmp_path, command, *chosen))
    codes = [run.wait() for run in started[1:]]
    print(codes)
    assert all("Traceback" not in run.stderr for run in started)
    # The run finds what is not repaired yet (5); a repair may meet windows that the other one has moved (3, 4, 5).
    assert set(codes) <= {0, 3, 4, 5}, [(run.stdout, run.stderr) for run in started[1:]]
    last = Background.start(tmp_path, "repair", *repairing)
    started.append(last)
    assert last.wait() == 0, last.stderr
    assert_equal_below(source_db, target_db)
    assert scenes.scalar(target_db, "SELECT count(*) FROM metrics WHERE time < %s", T) == ROWS
    assert scenes.rows(target_db, "SELECT DISTINCT phase FROM hyperfill.backfills") == [("done",)]


LOADED = 20_000


def load(loading: Loading, path: str) -> Background:
    options = ["--target", loading.conninfo, "--hypertable", "m", "--batch-size", "16kB", "--jobs", "2"]
    return Background.start(loading.folder.parent, "load", *options, "--max-rate", "300kB", "--json", path)


def loaded(loading: Loading) -> None:
    assert loading.query("SELECT count(*), count(DISTINCT id) FROM m") == [(LOADED, LOADED)]
    assert loading.query("SELECT sum(rows_copied) FROM hyperfill.batches") == [(LOADED,)]


def test_two_loads_of_a_file_at_once(loading: Loading, started: list[Background]) -> None:
    path = loading.file("a.csv", rows(LOADED))
    started += [load(loading, path), load(loading, path)]
    codes = sorted(run.wait() for run in started)
    assert codes == [0, 3], [run.stderr for run in started]
    [late] = [run for run in started if run.process.returncode == 3]
    assert "is running" in late.stderr + late.stdout
    loaded(loading)


def test_a_second_load_beside_one_that_lost_its_own_connection(loading: Loading, started: list[Background]) -> None:
    """With its session went the lock that kept others out. Batches have keys: each is loaded once all the same."""
    path = loading.file("a.csv", rows(LOADED))
    started.append(load(loading, path))
    done = "SELECT count(*) FROM hyperfill.batches"
    until(lambda: scenes.has_ledger(loading.conninfo) and loading.query(done)[0][0] > 3, 30, "batches")
    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hyperfill/control' "
        "AND datname = current_database()"
    )
    assert loading.query(ended) == [(True,)]
    started.append(load(loading, path))
    codes = [run.wait() for run in started]
    print(codes, time.monotonic())
    assert all("Traceback" not in run.stderr for run in started)
    assert 0 in codes and set(codes) <= {0, 3, 4}, [run.stderr for run in started]
    loaded(loading)
    assert loading.query("SELECT phase, count(*) FROM hyperfill.backfills GROUP BY 1") == [("done", 1)]
