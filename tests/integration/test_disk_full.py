"""A disk that is full in the middle of a COPY: the run pauses, and goes on when there is room again."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures import scenes
from tests.fixtures.loading import Loading
from tests.fixtures.scenes import Background, arguments, make_metrics, until
from tests.fixtures.small_disk import SmallDisk


def test_a_full_tablespace_is_waited_for(source_db: str, target_db: str, small_disk: SmallDisk, tmp_path: Path) -> None:
    make_metrics(source_db, target_db, overlap=20, per_day=600)
    scenes.execute(source_db, "UPDATE metrics SET note = repeat('x', 1500)")
    scenes.execute(target_db, "SELECT attach_tablespace('small', 'metrics')")
    running = Background.start(tmp_path, "run", *arguments(source_db, target_db, "--jobs", "2"))
    try:
        until(lambda: "the disk is full: paused" in running.stderr, 60, "the pause")
        assert running.process.poll() is None
        assert scenes.scalar(target_db, "SELECT count(*) FROM hyperfill.windows WHERE state = 'failed'") == 0
        small_disk.make_room(64)
        assert running.wait(60) == 0, running.stderr
    finally:
        running.end()
    assert "No space left on device" in running.stderr
    scenes.assert_equal_below(source_db, target_db)


def test_a_load_waits_for_a_full_tablespace_as_well(loading: Loading, small_disk: SmallDisk) -> None:
    count = 6000
    lines = (f"2024-01-{1 + n // 600:02d} 00:00:{n % 60:02d}+00,{n},{'x' * 1500}\n" for n in range(count))
    path = loading.file("a.csv", "".join(lines))
    loading.sql("SELECT attach_tablespace('small', 'm')")
    options = ["--target", loading.conninfo, "--hypertable", "m", "--batch-size", "256kB", "--jobs", "2"]
    running = Background.start(loading.folder.parent, "load", *options, path)
    try:
        until(lambda: "the disk is full: paused" in running.stderr, 60, "the pause")
        assert running.process.poll() is None
        small_disk.make_room(64)
        assert running.wait(60) == 0, running.stderr
    finally:
        running.end()
    assert loading.query("SELECT count(*), count(DISTINCT id) FROM m") == [(count, count)]
