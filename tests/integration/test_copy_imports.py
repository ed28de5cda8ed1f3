"""`hyperfill copy`: imports that are loaded once and go on, pipes, signals."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.copying import ALL, BAD, CSV, FIVE, Copy
from tests.fixtures.scenes import Background, execute, rows, scalar, until


def test_an_import_is_loaded_once(copy: Copy, db: str) -> None:
    flags = ["-import-id", "april", "-batch-size", "2"]
    assert copy(CSV, *flags).stdout == "COPY 5\n"
    again = copy(CSV, *flags)
    assert again.stdout == "COPY 0\n"
    assert "import 'april' was finished at" in again.stderr
    assert rows(db, ALL) == FIVE
    assert copy(CSV, "-import-id", "may", "-batch-size", "2").stdout == "COPY 5\n"


@pytest.mark.parametrize(
    ("text", "flags", "code"),
    [
        (CSV.replace("five", "more"), [], 3),
        (CSV, ["-skip-lines", "1"], 3),
        (CSV, ["-limit", "4"], 3),
        (CSV, ["-columns", "time,id,note", "-split", ","], 0),
    ],
)
def test_an_import_is_of_one_file_and_one_way_to_read_it(
    copy: Copy, db: str, text: str, flags: list[str], code: int
) -> None:
    copy(CSV, "-import-id", "april")
    done = copy(text, "-import-id", "april", *flags, code=code)
    assert ("another -import-id is another import" in done.stderr) == (code == 3)
    assert rows(db, ALL) == FIVE


def test_an_import_goes_on_where_it_stopped(copy: Copy, db: str) -> None:
    execute(db, "ALTER TABLE t ADD CONSTRAINT few CHECK (id < 50)")
    flags = ["-import-id", "april", "-batch-size", "1"]
    done = copy(CSV, *flags, code=4)
    assert "the same command continues it" in done.stderr
    before = scalar(db, "SELECT count(*) FROM t")
    assert before <= 4
    execute(db, "ALTER TABLE t DROP CONSTRAINT few")
    assert copy(CSV, *flags, "-log-batches").stdout == f"COPY {5 - before}\n"
    assert rows(db, ALL) == FIVE


def test_an_unfinished_import_is_of_one_file(copy: Copy, db: str) -> None:
    copy(BAD, "-import-id", "april", "-batch-size", "1", code=4)
    before = rows(db, ALL)
    refused = copy(BAD.replace("x", "3"), "-import-id", "april", "-batch-size", "1", code=3)
    assert "is unfinished, and is not the same" in refused.stderr and "changed since" in refused.stderr
    assert rows(db, ALL) == before


def test_an_import_from_a_pipe(copy: Copy, db: str) -> None:
    assert copy(None, "-import-id", "april", stdin=CSV).stdout == "COPY 5\n"
    again = copy(None, "-import-id", "april", stdin=CSV)
    assert again.stdout == "COPY 0\n"
    assert "what comes through standard input was not compared" in again.stderr
    assert "warning: standard input cannot be read again" in again.stderr
    assert rows(db, ALL) == FIVE


def test_failed_batches_of_an_import_are_tried_again(copy: Copy, db: str) -> None:
    execute(db, "ALTER TABLE t ADD CONSTRAINT few CHECK (id <> 30)")
    flags = ["-import-id", "april", "-batch-size", "1", "-skip-batch-errors"]
    assert copy(CSV, *flags, code=4).stdout == "COPY 4\n"
    assert copy(CSV, *flags, code=4).stdout == "COPY 0\n"
    execute(db, "ALTER TABLE t DROP CONSTRAINT few")
    assert copy(CSV, *flags).stdout == "COPY 1\n"
    assert rows(db, ALL) == FIVE


def test_a_call_that_failed_does_not_stand_in_the_way(copy: Copy, db: str) -> None:
    """Whoever has no import id removes what came, and calls again: with the mended file, or with another."""
    copy(BAD, "-batch-size", "2", code=4)
    copy(None, "-batch-size", "2", code=4, stdin=BAD)
    execute(db, "TRUNCATE t")
    assert copy(CSV).stdout == "COPY 5\n"
    assert copy(None, stdin=CSV).stdout == "COPY 5\n"
    assert rows(db, ALL) == sorted(FIVE * 2)


@pytest.fixture
def pipe(db: str, tmp_path: Path) -> Iterator[Callable[..., Background]]:
    """Start the command on `t` with its standard input open."""
    started = []

    def start(*flags: str) -> Background:
        one = Background.start(tmp_path, "copy", "-connection", db, "-table", "t", *flags, stdin=subprocess.PIPE)
        started.append(one)
        return one

    yield start
    for one in started:
        one.end()
        assert one.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            one.process.stdin.close()


def write(process: Background, text: str, *, close: bool = False) -> None:
    assert process.process.stdin is not None
    process.process.stdin.write(text.encode())
    process.process.stdin.flush()
    if close:
        process.process.stdin.close()


def loads(db: str) -> int:
    """How many loads have a batch."""
    there = scalar(db, "SELECT to_regclass('hyperfill.batches') IS NOT NULL")
    return int(scalar(db, "SELECT count(DISTINCT backfill_id) FROM hyperfill.batches")) if there else 0


COUNT = 40_000
LONG = "".join(f"{i},{i},{'x' * 90}\n" for i in range(COUNT))  # about 4 MB: a pipe is read in large blocks


def test_two_pipes_at_once(pipe: Callable[..., Background], db: str) -> None:
    both = [pipe("-batch-byte-size", "500000"), pipe("-batch-byte-size", "500000")]
    for one in both:
        write(one, LONG)
    # Each has loaded something, and none is at its end.
    until(lambda: loads(db) == 2, what="both to load")
    for one in both:
        write(one, f"{COUNT},0,\n", close=True)
    assert [(one.wait(), one.stdout) for one in both] == [(0, f"COPY {COUNT + 1}\n")] * 2, [o.stderr for o in both]
    assert rows(db, "SELECT count(*), count(DISTINCT time) FROM t") == [(2 * COUNT + 2, COUNT + 1)]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_the_next_call_begins_anew(
    pipe: Callable[..., Background], copy: Copy, db: str, signum: int, code: int
) -> None:
    run = pipe("-batch-byte-size", "500000", "-workers", "2")
    write(run, LONG)
    until(lambda: loads(db) == 1, what="a batch")
    run.signal(signum)
    assert run.wait(30) == code, run.stderr
    assert run.stdout == ""
    loaded = f"{scalar(db, 'SELECT count(*) FROM t'):,}"
    assert f"not everything is loaded: this call has brought {loaded} rows; another call" in run.stderr
    execute(db, "TRUNCATE t")
    assert copy(None, stdin=CSV).stdout == "COPY 5\n"
    assert rows(db, ALL) == FIVE
