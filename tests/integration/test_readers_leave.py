"""Whoever reads what a command prints may leave: the command does what it was told, and ends as it would have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import scenes
from tests.fixtures.scenes import arguments, assert_equal_below, make_metrics


def piped(tmp_path: Path, pipe: str, *words: str) -> tuple[int, str]:
    """Exit code of the command in front of `pipe`, and what it said on stderr."""
    script = f'set -o pipefail; "$@" 2>stderr | {pipe}; echo "${{PIPESTATUS[0]}}" >code'
    command = ["bash", "-c", script, "bash", sys.executable, "-m", "hyperfill", *words]
    subprocess.run(command, cwd=tmp_path, timeout=60, check=False, stdout=subprocess.DEVNULL)
    return int((tmp_path / "code").read_text()), (tmp_path / "stderr").read_text()


def test_a_closed_pipe(source_db: str, target_db: str, tmp_path: Path) -> None:
    reader = "head -c 0"
    make_metrics(source_db, target_db, overlap=20)
    options = arguments(source_db, target_db)
    code, errors = piped(tmp_path, reader, "run", *options, "--json")
    assert code == 0 and "Traceback" not in errors and "Exception ignored" not in errors, errors
    assert_equal_below(source_db, target_db)
    for words in (["status"], ["status", "--json"], ["status", "--watch"]):
        code, errors = piped(tmp_path, reader, *words, "--target", target_db)
        assert (code, errors) == (0, ""), words
    # A refusal stays a refusal, and a difference a difference.
    assert piped(tmp_path, reader, "plan", "--json", *options, "--start", "2100-01-01Z")[0] == 3
    scenes.execute(target_db, "DELETE FROM metrics WHERE id = 5")
    assert piped(tmp_path, reader, "verify", *options, "--json")[0] == 5


def test_nobody_reads_stderr(source_db: str, target_db: str, tmp_path: Path) -> None:
    make_metrics(source_db, target_db, overlap=20)
    command = [sys.executable, "-m", "hyperfill", "run", *arguments(source_db, target_db), "--max-rate", "100kB"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=tmp_path)
    assert process.stderr is not None
    process.stderr.readline()
    process.stderr.close()
    assert process.wait(60) == 0
    assert_equal_below(source_db, target_db)


def test_a_full_disk_behind_stdout_is_said(target_db: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hyperfill", "status", "--json", "--target", target_db]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == "hyperfill: [Errno 28] No space left on device\n"


def redirected(tmp_path: Path, how: str, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command with its streams as the shell says."""
    command = ["bash", "-c", f'exec "$@" {how}', "bash", sys.executable, "-m", "hyperfill", *words]
    ended = subprocess.run(command, cwd=tmp_path, timeout=60, check=False, capture_output=True, text=True)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("how", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_streams_that_are_closed_or_full_from_the_start(
    source_db: str, target_db: str, tmp_path: Path, how: str
) -> None:
    """As cron, a daemon or `nohup ... 2> log` on a full disk leave them: words are lost, and nothing else."""
    make_metrics(source_db, target_db, overlap=20)
    options = arguments(source_db, target_db, "--jobs", "2")
    code, output, errors = redirected(tmp_path, how, "run", *options, "--json")
    assert code == 0, (output, errors)
    assert "Traceback" not in errors
    assert ">&-" in how.replace("2>&-", "") or json.loads(output)["state"] == "done"
    assert_equal_below(source_db, target_db)
    assert redirected(tmp_path, how, "status", "--target", target_db)[0] == 0
    # A refusal stays a refusal.
    assert redirected(tmp_path, how, "plan", *options, "--start", "2100-01-01Z")[0] == 3


def test_both_streams_on_a_full_disk(target_db: str, tmp_path: Path) -> None:
    words = ("status", "--json", "--target", target_db)
    assert redirected(tmp_path, ">/dev/full 2>/dev/full", *words) == (1, "", "")
