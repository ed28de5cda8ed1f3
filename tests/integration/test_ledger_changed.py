"""Somebody changes the ledger by hand: nothing is moved that should not be, and nothing is called done that is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperfill import ledger, session, tiling
from hyperfill.timeline import TIME_TYPES
from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import Background, T, arguments, assert_equal_below, execute, make_metrics, until

CHANGED = "somebody has changed hyperfill.windows"


@pytest.fixture
def slow(source_db: str, target_db: str, tmp_path: Path) -> Iterator[Background]:
    """A run with one worker, oldest first, that is in its second window or further, and has some seconds to go."""
    make_metrics(source_db, target_db, per_day=1000)
    options = ("--jobs", "1", "--order", "oldest", "--max-rate", "120kB", "--json")
    run = Background.start(tmp_path, "run", *arguments(source_db, target_db, *options))
    try:
        until(lambda: scenes.windows_done(target_db), 30, "a window")
        yield run
    finally:
        run.end()


def above(target: str) -> list[tuple[object, ...]]:
    return scenes.physical(target, f"time >= '{T}'")


def test_a_window_is_taken_away_while_it_runs(slow: Background, target_db: str, hyperfill: Hyperfill) -> None:
    execute(target_db, "DELETE FROM hyperfill.windows WHERE id = 9 AND state = 'pending'")
    assert slow.wait(60) == 4, slow.stderr
    assert CHANGED in slow.stdout and "at window 9" in slow.stdout
    assert slow.report["state"] == "incomplete"
    assert scenes.scalar(target_db, "SELECT phase FROM hyperfill.backfills") != "done"


def test_a_window_is_made_to_reach_beyond_t(slow: Background, target_db: str) -> None:
    """Rows of the dual-writer are where they were, also in chunks that such a window would have made."""
    late = "INSERT INTO metrics SELECT '2024-01-10 16:00:00Z', i, i, 'dual' FROM generate_series(1, 5) AS i"
    execute(target_db, late)
    before = above(target_db)
    execute(
        target_db,
        "UPDATE hyperfill.windows SET upper = '2024-01-12 00:00:00+00' WHERE state = 'pending' AND id = "
        "(SELECT max(id) FROM hyperfill.windows)",
    )
    assert slow.wait(60) == 4, slow.stderr
    assert CHANGED in slow.stderr and "is no part of the range of backfill 1" in slow.stderr
    assert above(target_db) == before
    assert scenes.scalar(target_db, "SELECT count(*) FROM hyperfill.windows WHERE state = 'pending'") == 1


# What is done between two runs to the windows of an unfinished backfill.
BETWEEN = {
    "taken away": "DELETE FROM hyperfill.windows WHERE id = 4",
    "the first taken away": "DELETE FROM hyperfill.windows WHERE id = 1",
    "the last taken away": "DELETE FROM hyperfill.windows WHERE id = (SELECT max(id) FROM hyperfill.windows)",
    "all taken away": "DELETE FROM hyperfill.windows",
    "shortened": "UPDATE hyperfill.windows SET upper = '2024-01-03 12:00:00+00' WHERE id = 4",
    "made longer at the end": "UPDATE hyperfill.windows SET upper = '2024-01-12 00:00:00+00' WHERE id = "
    "(SELECT max(id) FROM hyperfill.windows)",
    "no bound": "UPDATE hyperfill.windows SET upper = 'tomorrow' WHERE id = (SELECT max(id) FROM hyperfill.windows)",
}


def test_between_two_runs(source_db: str, target_db: str, hyperfill: Hyperfill) -> None:
    """Whoever would go on with them, or compare by them, refuses, and writes nothing."""
    make_metrics(source_db, target_db)
    execute(target_db, "ALTER TABLE metrics ADD CONSTRAINT not_333 CHECK (id <> 333)")
    options = arguments(source_db, target_db, "--json")
    assert hyperfill("run", *options).returncode == 4
    execute(target_db, "ALTER TABLE metrics DROP CONSTRAINT not_333")
    execute(target_db, "CREATE TABLE kept AS SELECT * FROM hyperfill.windows")
    for number, (name, statement) in enumerate(BETWEEN.items()):
        execute(target_db, statement)
        before = scenes.physical(target_db), scenes.physical(target_db, table="hyperfill.windows")
        command = ("run", "plan", "verify")[number % 3]
        ended = hyperfill(command, *options)
        assert (ended.returncode, CHANGED in ended.stdout) == (3, True), (name, command, ended.stderr)
        assert (scenes.physical(target_db), scenes.physical(target_db, table="hyperfill.windows")) == before
        execute(target_db, "DELETE FROM hyperfill.windows", "INSERT INTO hyperfill.windows TABLE kept")
    assert hyperfill("run", *options).returncode == 0
    assert_equal_below(source_db, target_db)
    execute(target_db, BETWEEN["taken away"].replace("4", "9"))
    ended = hyperfill("repair", *options)
    assert (ended.returncode, CHANGED in ended.stderr) == (3, True), ended.stderr
    # The way out that the hint names.
    assert hyperfill("clean", "--target", target_db, "--backfill", "1", "--force").returncode == 0
    assert hyperfill("run", *options).returncode == 0


def test_the_range_of_a_load(target_db: str, source_db: str, hyperfill: Hyperfill, tmp_path: Path) -> None:
    """A range that is not all cleared would have rows twice."""
    make_metrics(source_db, target_db, overlap=500)
    path = tmp_path / "a.csv"
    path.write_text("".join(f"2024-01-0{day} 00:00:01+00,{day},1,x\n" for day in range(1, 10)))
    words = ["load", "--target", target_db, "--hypertable", "metrics", "--start", scenes.START, "--end", T, "--replace"]
    execute(target_db, "ALTER TABLE metrics ADD CONSTRAINT not_7 CHECK (id <> 7 OR note <> 'x')")
    assert hyperfill(*words, str(path)).returncode == 4
    execute(target_db, "UPDATE hyperfill.windows SET upper = '2024-01-12 00:00:00+00' WHERE id = 1")
    ended = hyperfill(*words, str(path))
    assert (ended.returncode, CHANGED in ended.stderr) == (3, True), ended.stderr


def test_many_windows_cost_nothing_to_look_at(target_db: str) -> None:
    with session.connect(target_db, "target") as connection:
        ledger.create(connection)
        connection.execute(
            "INSERT INTO hyperfill.backfills (hypertable, hypertable_oid, source, source_relation, time_type, "
            "time_column, source_time_column, range_start, range_end, columns, settings, client) VALUES "
            "('public.m', 1, 's', 'public.m', 'bigint', 't', 't', '0', '100000', '[]', '{}', 'test')"
        )
        connection.execute(
            "INSERT INTO hyperfill.windows (backfill_id, id, lower, upper, estimate) "
            "SELECT 1, i + 1, i::text, (i + 1)::text, 1 FROM generate_series(0, 99999) AS i"
        )
        [entry] = ledger.entries(connection)
        began = time.monotonic()
        tiling.check_windows(connection, entry, TIME_TYPES["bigint"])
        assert time.monotonic() - began < 1.0  # 0.1 on a machine that does nothing else
        connection.execute("DELETE FROM hyperfill.windows WHERE id = 50000")
        changed = tiling.changed_windows(connection, entry, TIME_TYPES["bigint"])
        assert changed is not None and "at window 50000" in changed.message
