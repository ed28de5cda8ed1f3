"""`hyperfill dump`, interrupted: killed, signalled, cut off, out of disk; the same command finishes it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from typing import Any

import pytest

from hyperfill import manifest
from hyperfill.archives import open_input
from hyperfill.errors import Refused
from tests.fixtures.dumping import FAST, SLOW, Site, check_all, files, journal, make, stop_in_the_middle
from tests.fixtures.scenes import more, signalled, until


def test_kill_9_of_everything_at_random_moments(site: Site) -> None:
    make(site, per_day=4000)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    noted: dict[int, dict[str, Any]] = {}
    for _ in range(5):
        run = site.start("metrics", *SLOW)
        if moments.random() < 0.7:
            until(lambda: len(files(site)) > len(noted), 30, "a file")  # noqa: B023
        with pytest.raises(subprocess.TimeoutExpired):
            run.process.wait(moments.uniform(0, 0.8))
        run.signal_group(signal.SIGKILL)
        assert run.wait(10) == -signal.SIGKILL
        until(site.quiet, 20, "the server to notice")
        assert not (site.out / "manifest.json").exists()
        for path in files(site):  # under its name a file is whole
            with open_input(path) as file:
                assert b"".join(iter(lambda: file.read(1 << 20), b"")).endswith(b"\n")
        now = {entry["id"]: entry for entry in journal(site)}
        assert noted.items() <= now.items()  # what was done stays, and is not done again
        noted = now
    assert noted
    with pytest.raises(Refused, match="not complete"):
        manifest.read(site.out)
    before = {p.name: p.stat().st_ino for p in files(site)}
    report = site.dump("metrics", *FAST)
    assert (report["state"], report["rows"]) == ("done", 40_000)
    windows = {w.id: w for w in site.finished().windows}
    for number, entry in noted.items():
        assert windows[number].as_json() == entry
        assert not entry["file"] or (site.out / entry["file"]).stat().st_ino == before[entry["file"]]
    check_all(site, 40_000)


def test_kill_9_of_a_worker(site: Site) -> None:
    make(site, per_day=4000)
    run = site.start("metrics", *SLOW[:-1], "500kB")
    killed: set[int] = set()
    for count in (1, 2, 3):
        until(more(lambda: len(files(site)), 3 * count), 30, "files")
        victim = run.workers()[0]
        os.kill(victim, signal.SIGKILL)
        killed.add(victim)
        until(lambda: len(set(run.workers()) - killed) == 2, 20, "a replacement")
    assert run.wait() == 0, run.stderr
    assert run.stderr.count("died") == 3
    check_all(site, 40_000)
    until(site.quiet, 10, "everything to end")


def test_kill_9_of_the_parent_alone(site: Site) -> None:
    make(site, per_day=4000)
    run = site.start("metrics", *SLOW)
    until(lambda: len(files(site)) > 2, 30, "files")
    run.signal(signal.SIGKILL)
    assert run.wait(10) == -signal.SIGKILL
    # At once: the workers of the first may not be gone yet, and hold the folder until they are.
    assert site.dump("metrics", *FAST)["rows"] == 40_000
    until(site.quiet, 15, "the workers to leave")
    check_all(site, 40_000)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_lets_windows_finish(site: Site, signum: int, code: int) -> None:
    make(site, per_day=4000)
    run = site.start("metrics", *SLOW)
    until(lambda: len(files(site)) > 2, 30, "files")
    busy = until(lambda: [p.name.removesuffix(".part") for p in site.out.glob("*.part")], 10, "a running window")
    run.signal_group(signum) if signum == signal.SIGINT else run.signal(signum)
    assert run.wait(30) == code, run.stderr
    report = run.report
    assert (report["state"], report["windows"]["failed"]) == ("incomplete", 0)
    assert 0 < report["windows"]["done"] < report["windows"]["total"]
    assert "finished first" in run.stderr and "Traceback" not in run.stderr
    until(site.quiet, 5, "the server to notice")
    names = {p.name for p in site.out.iterdir()}
    assert names == {*(e["file"] for e in journal(site) if e["file"]), "dump.json", "dump.journal"}
    assert set(busy) <= names
    assert site.dump("metrics", *FAST)["state"] == "done"
    check_all(site, 40_000)


def test_two_signals_cancel_windows(site: Site) -> None:
    make(site, per_day=4000)
    run = site.start("metrics", "--jobs", "2", "--max-window-rows", "400", "--max-rate", "3kB")  # minutes a window
    until(lambda: len(list(site.out.glob("*.part"))) == 2 if site.out.exists() else None, 30, "windows")
    run.signal_group(signal.SIGINT)
    until(lambda: "finished first" in run.stderr, 10, "the first signal to be heard")
    with pytest.raises(subprocess.TimeoutExpired):
        run.process.wait(1)
    run.signal_group(signal.SIGINT)
    assert run.wait(20) == 130, run.stderr
    assert run.report["state"] == "incomplete" and run.report["windows"]["failed"] == 0
    assert "Traceback" not in run.stderr
    until(site.quiet, 5, "everything to end")
    assert not list(site.out.glob("*.part"))
    assert site.dump("metrics", *FAST)["state"] == "done"
    check_all(site, 40_000)


def test_a_signal_at_any_moment_leaves_nothing(site: Site) -> None:
    make(site, per_day=4000)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for _ in range(5):
        run = site.start("metrics", *SLOW)
        signalled(run, moments, 0.3, 1.5)
        until(site.quiet, 10, "everything to end")
        assert not list(site.folder.glob("out/*.part"))
    assert site.dump("metrics", *FAST)["state"] == "done"
    check_all(site, 40_000)


def test_a_session_that_is_ended(site: Site) -> None:
    make(site, per_day=4000)
    run = site.start("metrics", *SLOW[:-1], "500kB")
    for count in (1, 2, 3):
        until(more(lambda: len(files(site)), 3 * count), 30, "files")
        site.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name ~ '^hyperfill/dump/[0-9]+$'"
        )
    assert run.wait() == 0, run.stderr
    assert "trying again" in run.stderr
    check_all(site, 40_000)


def test_a_window_counts_when_it_is_noted(site: Site) -> None:
    """A journal that was cut at any byte, files that went, and others that were never noted."""
    make(site, per_day=4000)
    stop_in_the_middle(site)
    path = site.out / "dump.journal"
    with_files = [e for e in journal(site) if e["file"]]
    gone, shorter = with_files[0], with_files[1]
    (site.out / gone["file"]).unlink()
    os.truncate(site.out / shorter["file"], shorter["bytes"] - 1)
    data = path.read_bytes()
    path.write_bytes(data[: random.randrange(len(data) - 20, len(data))])
    (site.out / "000099.csv.zst.part").write_bytes(b"half")
    last = max(int(p.name[:6]) for p in files(site))
    (site.out / f"{last + 1:06}.csv.zst").write_bytes(b"renamed, and not noted")
    assert site.dump("metrics", *FAST)["rows"] == 40_000
    check_all(site, 40_000)


LIMITED = "ulimit -f {blocks}; exec {python} -m hyperfill dump {options}"


def test_a_full_disk(site: Site) -> None:
    """A limit on the size of files fails a write in the middle, as a full disk does."""
    make(site, days=10, per_day=4000)
    # The last day is larger than all others.
    site.execute(
        "INSERT INTO metrics SELECT timestamptz '2024-02-01Z' + i * interval '1 ms', 40000 + i, random(), md5(i::text)"
        " FROM generate_series(0, 19999) AS i"
    )
    quoted = " ".join(f"'{o}'" for o in site.options("metrics", "--jobs", "2"))
    command = LIMITED.format(blocks=600, python=sys.executable, options=quoted)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4, done.stderr
    report = json.loads(done.stdout)
    [error] = [f for f in report["findings"] if f["severity"] == "error"]
    assert "cannot be written: File too large" in error["message"] and "same command again" in error["hint"]
    assert 0 < report["windows"]["done"] < report["windows"]["total"]
    assert not list(site.out.glob("*.part"))
    assert site.dump("metrics", "--jobs", "2")["rows"] == 60_000
    check_all(site, 60_000)


def test_a_window_that_fails_is_told_and_tried_again(site: Site) -> None:
    make(site)
    site.execute("CREATE VIEW v AS SELECT time, id, 1 / (id - 555) AS x FROM metrics")
    report = site.dump("v", "--window", "1 day", code=4)
    assert (report["state"], report["windows"]["failed"]) == ("incomplete", 1)
    [failed] = report["failed_windows"]
    assert (failed["sqlstate"], failed["message"]) == ("22012", "division by zero")
    assert failed["lower"] == "2024-01-06 00:00:00+00"
    assert report["windows"]["done"] == report["windows"]["total"] - 1
    site.execute("CREATE OR REPLACE VIEW v AS SELECT time, id, 1 / (id + 555) AS x FROM metrics")
    assert site.dump("v", "--window", "1 day")["rows"] == 1000
    ids = sorted(int(r[1]) for w in site.finished().windows for r in site.rows(w))
    assert ids == list(range(1000))
