"""Loads that are killed, stopped, cut off and begun again: no row is lost or doubled, and nothing is mixed."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.fixtures.loading import Loading, rows
from tests.fixtures.scenes import Background, more, until

ROWS = 40_000
RANGE = ("--start", "2024-01-01T00:00:00Z", "--end", "2024-02-01T00:00:00Z")


def start(loading: Loading, path: str, *options: str, rate: str = "400kB") -> Background:
    """A slow load in the background: some four seconds."""
    arguments = ["--target", loading.conninfo, "--hypertable", "m", "--batch-size", "16kB", "--jobs", "2"]
    return Background.start(loading.folder.parent, "load", *arguments, "--max-rate", rate, "--json", *options, path)


def batches(loading: Loading) -> int:
    if not loading.query("SELECT 1 FROM pg_class WHERE relname = 'batches'"):
        return 0
    return int(loading.query("SELECT count(*) FROM hyperfill.batches WHERE state = 'done'")[0][0])


def sessions(loading: Loading) -> int:
    ours = "application_name LIKE 'hyperfill/%' AND datname = current_database()"
    return int(loading.query(f"SELECT count(*) FROM pg_stat_activity WHERE {ours}")[0][0])


def finish(loading: Loading, path: str, *options: str) -> None:
    """The same command again, without the brake, ends the load; every row is there once."""
    report = loading.done("--batch-size", "16kB", "--jobs", "2", *options, path)
    assert report["rows_read"] == ROWS
    assert loading.query("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM m") == [(ROWS, ROWS, 0, ROWS - 1)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kill_of_everything_at_a_random_moment(loading: Loading, seed: int) -> None:
    path = loading.file("a.csv", rows(ROWS))
    chance = random.Random(seed)
    ranged = list(RANGE) if seed % 2 else []
    if ranged:
        loading.sql(
            "INSERT INTO m SELECT timestamptz '2024-01-01Z' + n * interval '7 min', -1"
            " FROM generate_series(0, 999) AS n"
        )
    for _ in range(2):
        running = start(loading, path, *ranged)
        enough = batches(loading) + chance.randint(1, 25)
        until(more(lambda: batches(loading), enough - 1))
        running.end()
        until(lambda: sessions(loading) == 0)
    assert 0 < batches(loading) < ROWS * 46 // 16000 + 10
    finish(loading, path, *ranged)
    assert loading.count("id < 0") == 0


def test_backends_that_are_ended(loading: Loading) -> None:
    path = loading.file("a.csv", rows(ROWS))
    running = start(loading, path)
    until(lambda: batches(loading) > 3)
    for _ in range(3):
        now = batches(loading)
        ended = loading.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'hyperfill/%'"
            " AND application_name <> 'hyperfill/control' AND datname = current_database()"
        )
        assert ended
        until(more(lambda: batches(loading), now + 3))
    assert running.process.wait(120) == 0, running.stderr
    assert loading.query("SELECT count(*), count(DISTINCT id) FROM m") == [(ROWS, ROWS)]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_running_batches_finish(loading: Loading, signum: int, code: int) -> None:
    path = loading.file("a.csv", rows(ROWS))
    running = start(loading, path)
    until(lambda: batches(loading) > 3)
    os.killpg(running.process.pid, signum)
    assert running.process.wait(30) == code, running.stderr
    until(lambda: sessions(loading) == 0)
    assert batches(loading) > 3
    assert loading.count() == sum(
        r[0] for r in loading.query("SELECT rows_copied FROM hyperfill.batches WHERE state = 'done'")
    )
    finish(loading, path)


def test_a_file_that_changed_is_refused(loading: Loading) -> None:
    content = rows(ROWS)
    path = loading.file("a.csv", content)
    before = Path(path).stat()
    running = start(loading, path)
    until(lambda: batches(loading) > 5)
    running.end()
    until(lambda: sessions(loading) == 0)
    loaded, count = batches(loading), loading.count()
    first = loading.query("SELECT start FROM hyperfill.batches WHERE state = 'done' ORDER BY start LIMIT 1")[0][0]
    # In what is loaded, with nothing to be seen from outside; elsewhere, with another time; longer.
    at = content.index("value", first)
    middle = len(content) // 2
    for changed, times in (
        (content[:at] + "VALUE" + content[at + 5 :], True),
        (content[:middle] + content[middle:].replace("value", "VALUE", 1), False),
        (content + rows(1, first=ROWS), True),
    ):
        Path(path).write_text(changed)
        if times:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        code, report, errors = loading.load("--batch-size", "16kB", path)
        assert code in (3, 4), errors
        assert "changed since" in errors + str(report)
        assert (batches(loading), loading.count()) == (loaded, count) or code == 4
        if code == 4:  # noticed in passing: nothing behind it was loaded
            assert batches(loading) <= loaded + 3
            loaded, count = batches(loading), loading.count()
    Path(path).write_text(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    finish(loading, path)


def test_other_options_are_refused_while_it_is_unfinished(loading: Loading) -> None:
    path = loading.file("a.csv", rows(ROWS))
    # It must still run when another process has started, on a machine that is busy too: half a minute.
    running = start(loading, path, rate="60kB")
    until(lambda: batches(loading) > 2)
    code, report, errors = loading.load("--batch-size", "16kB", path)
    assert running.process.poll() is None
    assert (code, "is running" in report["error"]) == (3, True), errors
    running.end()
    until(lambda: sessions(loading) == 0)
    for options in (
        ["--batch-size", "32kB"],
        ["--batch-size", "16kB", "--delimiter", ";"],
        ["--batch-size", "16kB", *RANGE],
    ):
        assert loading.refused(*options, path) == {"ledger"}
    second = loading.file("b.csv", rows(10))
    assert loading.refused("--batch-size", "16kB", path, second) == {"ledger"}
    finish(loading, path)


def test_standard_input_cannot_be_resumed(loading: Loading) -> None:
    path = loading.file("a.csv", rows(ROWS))
    for options in ([], list(RANGE)):
        with Path(path).open("rb") as stdin:
            arguments = [
                "--target",
                loading.conninfo,
                "--hypertable",
                "m",
                "--batch-size",
                "16kB",
                "--max-rate",
                "400kB",
            ]
            running = Background.start(loading.folder.parent, "load", *arguments, *options, "-", stdin=stdin.fileno())
            before = batches(loading)
            until(more(lambda: batches(loading), before + 3))
            running.end()
        until(lambda: sessions(loading) == 0)
        if not options:
            code, report, _ = loading.load("--batch-size", "16kB", "-", stdin=rows(ROWS))
            assert code == 3
            assert "cannot be resumed" in str(report)
            assert loading.hyperfill("clean", "--target", loading.conninfo, "--force").returncode == 0
            loading.sql("TRUNCATE m")
    report = loading.done("--batch-size", "16kB", *RANGE, "-", stdin=rows(ROWS))
    assert report["rows_copied"] == ROWS
    assert loading.query("SELECT count(*), count(DISTINCT id) FROM m") == [(ROWS, ROWS)]


def test_a_batch_that_failed_is_loaded_when_the_cause_is_mended(loading: Loading) -> None:
    path = loading.file("a.csv", rows(2000))
    loading.sql("ALTER TABLE m ADD CONSTRAINT c CHECK (id <> 1000)")
    code, report, _ = loading.load("--batch-size", "5kB", path)
    assert (code, report["batches"]["failed"]) == (4, 1)
    loading.sql("ALTER TABLE m DROP CONSTRAINT c")
    report = loading.done("--batch-size", "5kB", path)
    assert report["rows_copied"] == 2000
    assert loading.query("SELECT count(*), count(DISTINCT id) FROM m") == [(2000, 2000)]


def test_a_file_that_is_replaced_before_its_turn_is_not_loaded(loading: Loading) -> None:
    first = loading.file("a.csv", "time,id,value\n" + rows(ROWS))
    second = loading.file("b.csv", "time,id,value\n" + rows(10, first=ROWS))
    running = start(loading, second, "--header", first)
    until(lambda: batches(loading) > 2)
    loading.file("b.csv.new", "time,value,id\n" + rows(10, first=ROWS))
    (loading.folder / "b.csv.new").rename(second)
    assert running.process.wait(90) == 4
    assert "changed since it was looked at" in running.stderr
    assert loading.count(f"id >= {ROWS}") == 0


def test_a_file_that_was_only_moved_is_the_same(loading: Loading) -> None:
    path = loading.file("a.csv", rows(ROWS))
    running = start(loading, path)
    until(lambda: batches(loading) > 2)
    running.end()
    until(lambda: sessions(loading) == 0)
    moved = loading.folder / "moved.csv"
    Path(path).rename(moved)
    finish(loading, str(moved))


@pytest.mark.parametrize("encode", ["client", "server"])
def test_a_column_that_changes_its_type_stops_the_load(loading: Loading, encode: str) -> None:
    path = loading.file("a.csv", rows(ROWS))
    running = start(loading, path, "--encode", encode)
    until(lambda: batches(loading) > 3)
    loading.sql("ALTER TABLE m ALTER id TYPE float8")
    assert running.process.wait(60) == 4
    assert "of another type" in running.stderr
    assert loading.count("id <> floor(id) OR id < 0") == 0


def test_the_application_does_not_wait_for_a_slow_load(loading: Loading) -> None:
    """Values with line breaks, batches that reach over chunks, a rate at which a batch takes seconds."""
    content = "".join(f'2024-01-{1 + n // 2000:02d} {n % 24:02d}:00:00+00,{n},"a\nb"\n' for n in range(20_000))
    running = start(loading, loading.file("a.csv", content), rate="40kB")
    until(lambda: batches(loading) > 0)
    worst = 0.0
    for day in range(1, 25):
        begun = time.monotonic()
        loading.sql(f"INSERT INTO m VALUES ('2030-01-{day:02d}Z', 0, 'new')")
        worst = max(worst, time.monotonic() - begun)
        time.sleep(0.1)
    assert running.process.poll() is None
    running.end()
    assert worst < 1.0
