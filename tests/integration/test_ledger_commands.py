"""`status` and `clean`: what the ledger shows, and how it is emptied."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import Background, T, arguments, execute, make_metrics, until


def status(hyperfill: Hyperfill, target: str) -> dict[str, Any]:
    ended = hyperfill("status", "--target", target, "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def running(source_db: str, target_db: str, tmp_path: Path) -> Iterator[Background]:
    """A run that is inside its windows and will not end by itself for minutes."""
    make_metrics(source_db, target_db, overlap=20)
    run = Background.start(
        tmp_path, "run", *arguments(source_db, target_db, "--jobs", "2", "--max-rate", "100B", "--json")
    )
    try:
        until(lambda: len(status_rows(target_db)) == 2, 30, "two workers")
        yield run
    finally:
        run.end()


def status_rows(target: str) -> list[tuple[Any, ...]]:
    """Sessions inside a window: one that makes a chunk names no window."""
    return [s for s in scenes.sessions(target) if s[1].count("/") == 2 and s[1].rsplit("/", 1)[1].isdigit()]


def test_an_empty_target(hyperfill: Hyperfill, target_db: str) -> None:
    assert status(hyperfill, target_db) == {"state": "nothing", "backfills": []}
    ended = hyperfill("status", "--target", target_db)
    assert (ended.returncode, "no backfill has been started" in ended.stdout + ended.stderr) == (0, True)
    ended = hyperfill("clean", "--target", target_db)
    assert (ended.returncode, "nothing to remove" in ended.stderr) == (0, True)
    assert hyperfill("clean", "--target", target_db, "--backfill", "1").returncode == 3
    assert hyperfill("status", "--target", target_db, "--watch", "--json").returncode == 2
    assert hyperfill("status").returncode == hyperfill("clean").returncode == 2
    assert not scenes.has_ledger(target_db)


def test_done_and_cleaned(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, overlap=20)
    assert hyperfill("run", *arguments(source_db, target_db)).returncode == 0
    found = status(hyperfill, target_db)
    assert found["state"] == "done"
    [one] = found["backfills"]
    assert (one["backfill"], one["state"], one["phase"], one["runs"]) == (1, "done", "done", 1)
    assert (one["table"], one["hypertable"], one["start"]) == ("public.metrics", "public.metrics", "-infinity")
    assert (one["rows_copied"], one["rows_deleted"], one["workers"]) == (950, 20, [])
    assert one["planned_at"] <= one["started_at"] <= one["finished_at"]
    human = hyperfill("status", env={"HYPERFILL_TARGET": target_db})
    assert human.returncode == 0
    for text in ("public.metrics", "950 rows", "100.0%", "done", "20 dual-written rows"):
        assert text in human.stdout
    assert hyperfill("status", "--target", target_db, "--watch").returncode == 0
    rows = scenes.physical(target_db)
    ended = hyperfill("clean", "--target", target_db)
    assert (ended.returncode, "removed backfill 1" in ended.stderr) == (0, True)
    assert scenes.physical(target_db) == rows
    assert status(hyperfill, target_db)["state"] == "nothing"
    assert scenes.scalar(target_db, "SELECT count(*) FROM hyperfill.windows") == 0
    # Forgotten: the same command is a new backfill.
    ended = hyperfill("run", *arguments(source_db, target_db, "--json"))
    report = json.loads(ended.stdout)
    assert (ended.returncode, report["backfill"], report["rows_deleted"]) == (0, 2, 950)


def test_unfinished_ones(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    middle = "2024-01-03T00:00:00Z"
    assert hyperfill("run", *arguments(source_db, target_db, end=middle)).returncode == 0
    execute(target_db, "ALTER TABLE metrics ADD CONSTRAINT not_333 CHECK (id <> 333)")
    assert hyperfill("run", *arguments(source_db, target_db, "--start", middle)).returncode == 4
    found = status(hyperfill, target_db)
    assert (found["state"], [b["state"] for b in found["backfills"]]) == ("incomplete", ["done", "incomplete"])
    assert found["backfills"][1]["windows"]["failed"] == 1
    human = hyperfill("status", "--target", target_db)
    assert human.returncode == 0
    assert re.search(r"\b1 (windows? )?failed", human.stdout) and "not_333" in human.stdout
    ended = hyperfill("clean", "--target", target_db, "--backfill", "2")
    assert ended.returncode == 3
    assert "backfill 2 is unfinished" in ended.stderr and "--force" in ended.stderr
    ended = hyperfill("clean", "--target", target_db)
    assert (ended.returncode, "removed backfill 1" in ended.stderr) == (0, True)
    assert [b["backfill"] for b in status(hyperfill, target_db)["backfills"]] == [2]
    ended = hyperfill("clean", "--target", target_db)
    assert (ended.returncode, "1 unfinished" in ended.stderr) == (0, True)
    rows = scenes.physical(target_db)
    assert hyperfill("clean", "--target", target_db, "--backfill", "3", "--force").returncode == 3
    assert hyperfill("clean", "--target", target_db, "--backfill", "2", "--force").returncode == 0
    assert scenes.physical(target_db) == rows
    # Given up: other settings are welcome now.
    execute(target_db, "ALTER TABLE metrics DROP CONSTRAINT not_333")
    assert hyperfill("run", *arguments(source_db, target_db, "--window", "12 hours")).returncode == 0
    scenes.assert_equal_below(source_db, target_db)


def test_while_it_runs(hyperfill: Hyperfill, source_db: str, target_db: str, running: Background) -> None:
    def looked() -> dict[str, Any] | None:
        """Both workers in their windows, seen by the command and by ourselves: two looks at a run that goes on."""
        [found] = status(hyperfill, target_db)["backfills"]
        same = {w["pid"] for w in found["workers"]} == {pid for pid, *_ in status_rows(target_db)}
        return found if same and len(found["workers"]) == 2 else None

    one = until(looked, 20, "both workers to be seen")
    assert (one["state"], one["windows"]["done"] < 2, one["finished_at"]) == ("incomplete", True, None)
    assert len({w["window"] for w in one["workers"]}) == 2
    assert all(w["seconds"] >= 0 and w["client"].startswith("127.0.0.1") for w in one["workers"])
    human = hyperfill("status", "--target", target_db)
    assert human.stdout.count("worker pid") == 2
    for options in ([], ["--backfill", "1"]):
        ended = hyperfill("clean", "--target", target_db, "--force", *options)
        assert ended.returncode == 3
        assert "backfill 1 is running" in ended.stderr
    assert len(status(hyperfill, target_db)["backfills"]) == 1
    watching = Background.start(running.folder, "status", "--target", target_db, "--watch")
    try:
        until(lambda: watching.stdout.count("/11, ") >= 2, 20, "two lines of --watch")
        running.signal(2)
        until(lambda: "finished first" in running.stderr, 10, "the first signal")
        running.signal(2)
        assert running.wait(20) == 130
        assert watching.process.poll() is None
        watching.signal(2)
        assert watching.wait(10) == 130
        assert "Traceback" not in watching.stderr
    finally:
        watching.end()
    # A window that needed no more time is done, any other as before.
    moved = scenes.scalar(target_db, "SELECT coalesce(sum(rows_copied - rows_deleted), 0) FROM hyperfill.windows")
    assert scenes.scalar(target_db, "SELECT count(*) FROM metrics WHERE time < %s", T) == 20 + moved
    assert hyperfill("clean", "--target", target_db, "--force").returncode == 0
    assert hyperfill("run", *arguments(source_db, target_db, "--window", "12 hours")).returncode == 0
    scenes.assert_equal_below(source_db, target_db)
