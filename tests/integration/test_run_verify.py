"""`hyperfill run` compares what it has moved before it is done, and ends with 5 where that differs."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import scenes
from tests.fixtures.compared import END, bounds, make, moved, repair
from tests.fixtures.pair import Pair
from tests.fixtures.scenes import Background, until

SPOILED = ("2024-01-01 06:00:00+00", "2024-01-01 12:00:00+00")
# A trigger that alters a row on its way in: every count is right, and the value is not.
SPOIL = (
    "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := -1; RETURN NEW; END'",
    "CREATE TRIGGER spoil BEFORE INSERT ON m FOR EACH ROW WHEN (NEW.t = '2024-01-01 08:00Z' AND NEW.dev = 2) "
    "EXECUTE FUNCTION spoil()",
)


def comparisons(pair: Pair, backfill: int) -> list[tuple[Any, ...]]:
    return pair.query(
        pair.target,
        "SELECT window_id, mode, source_rows, target_rows, equal, source_hash IS NULL FROM hyperfill.comparisons "
        f"WHERE backfill_id = {backfill} ORDER BY window_id",
    )


def phase(pair: Pair, backfill: int) -> str:
    [(found,)] = pair.query(pair.target, f"SELECT phase FROM hyperfill.backfills WHERE id = {backfill}")
    return str(found)


def test_a_run_compares_by_hash(pair: Pair) -> None:
    report = moved(pair)
    verification = report["verification"]
    assert (verification["mode"], verification["state"]) == ("hash", "equal")
    assert verification["rows_source"] == verification["rows_target"] == report["rows_copied"]
    found = comparisons(pair, report["backfill"])
    assert len(found) == report["windows"]["total"]
    assert all(row[1] == "hash" and row[4] and not row[5] for row in found)
    assert sum(row[2] for row in found) == report["rows_copied"]
    versions = pair.query(pair.target, "SELECT versions FROM hyperfill.backfills")[0][0]
    assert versions["target"]["timescaledb"]
    assert versions["source"] == {"postgresql": versions["target"]["postgresql"], "timescaledb": None}


@pytest.mark.parametrize("mode", ["count", "none"])
def test_a_run_compares_less_if_told_so(pair: Pair, mode: str) -> None:
    make(pair)
    pair.on_target(*SPOIL)
    report = pair.run("m", *END, "--verify", mode)
    assert phase(pair, report["backfill"]) == "done"
    found = comparisons(pair, report["backfill"])
    if mode == "none":
        assert "verification" not in report
        assert found == []
    else:
        assert report["verification"]["mode"] == "count"
        assert len(found) == report["windows"]["total"]
        assert all(row[1] == "count" and row[4] and row[5] for row in found)


def test_a_difference_ends_the_run_with_5_and_repair_goes_on(pair: Pair) -> None:
    make(pair)
    pair.on_target(*SPOIL)
    code, report, errors = pair.command("run", "m", *END)
    assert (code, report["state"]) == (5, "mismatch"), errors
    assert bounds(report["verification"]) == [SPOILED]
    assert report["verification"]["differences"][0]["rows_different"] == 1
    backfill = report["backfill"]
    assert phase(pair, backfill) == "refreshed"
    state = pair.hyperfill("status", "--target", pair.target_conninfo)
    assert "1 window differs" in state.stdout
    state = pair.hyperfill("status", "--target", pair.target_conninfo, "--json")
    assert json.loads(state.stdout)["backfills"][0]["state"] == "mismatch"
    before = pair.physical("m", "t < '2024-01-01 06:00Z' OR t >= '2024-01-01 12:00Z'")
    # The same run again compares only what differed, and finds it again.
    code, report, _ = pair.command("run", "m", *END)
    assert (code, report["state"], report["backfill"]) == (5, "mismatch", backfill)
    windows = report["verification"]["windows"]
    assert (windows["compared"], windows["compared_before"]) == (1, windows["total"] - 1)
    # While rows are spoiled on their way in, a repair ends like the run.
    code, report, _ = repair(pair)
    assert (code, report["state"]) == (5, "mismatch")
    assert phase(pair, backfill) == "refreshed"
    pair.on_target("DROP TRIGGER spoil ON m")
    code, report, errors = repair(pair)
    assert (code, report["state"]) == (0, "done"), errors
    assert report["repairs"] == backfill
    assert bounds(report["before"]) == [SPOILED]
    assert report["after"]["state"] == "equal"
    assert phase(pair, backfill) == phase(pair, report["backfill"]) == "done"
    assert all(row[4] for row in comparisons(pair, backfill))
    pair.same("m", "t, dev, v, note, big, doc", "t < '2024-01-03Z'")
    assert pair.physical("m", "t < '2024-01-01 06:00Z' OR t >= '2024-01-01 12:00Z'") == before
    # And the run has nothing to do any more.
    code, report, _ = pair.command("run", "m", *END)
    assert (code, report["state"]) == (0, "nothing")


def test_a_difference_that_was_mended_by_hand_is_compared_again(pair: Pair) -> None:
    make(pair)
    pair.on_target(*SPOIL)
    assert pair.command("run", "m", *END)[0] == 5
    pair.on_target("UPDATE m SET v = 48.2 WHERE t = '2024-01-01 08:00Z' AND dev = 2")
    code, report, _ = pair.command("run", "m", *END)
    assert (code, report["state"]) == (0, "done")
    assert phase(pair, report["backfill"]) == "done"


def test_repair_of_nothing_ends_a_backfill_that_differed(pair: Pair) -> None:
    make(pair)
    pair.on_target(*SPOIL)
    code, report, _ = pair.command("run", "m", *END)
    assert code == 5
    pair.on_target("UPDATE m SET v = 48.2 WHERE t = '2024-01-01 08:00Z' AND dev = 2")
    code, found, errors = repair(pair)
    assert (code, found["state"]) == (0, "done"), errors
    assert phase(pair, report["backfill"]) == "done"


def test_a_configuration_says_how_to_compare(pair: Pair, tmp_path: Path) -> None:
    make(pair)
    path = tmp_path / "m.toml"
    path.write_text(f'verify = "count"\n[[backfill]]\ntable = "m"\nend = "{END[1]}"\n')
    done = pair.hyperfill(
        "run", "--source", pair.source_conninfo, "--target", pair.target_conninfo, "--config", str(path)
    )
    assert done.returncode == 0, done.stderr
    assert {row[1] for row in comparisons(pair, 1)} == {"count"}


def test_a_run_that_is_killed_while_it_compares(source_db: str, target_db: str, pair: Pair, tmp_path: Path) -> None:
    """What it had compared stays; the next run compares the rest. The limit of bytes holds for comparing as well."""
    make(pair, interval="10 minutes")
    running = Background.start(
        tmp_path,
        "run",
        *scenes.arguments(source_db, target_db, "--jobs", "1", "--max-rate", "15kB", end=END[1], table="m"),
    )
    try:
        until(
            lambda: (
                scenes.has_ledger(target_db) and scenes.scalar(target_db, "SELECT count(*) FROM hyperfill.comparisons")
            ),
            90,
            "some windows to be compared",
        )
        running.signal_group(signal.SIGKILL)
        running.wait()
    finally:
        running.end()
    compared = scenes.scalar(target_db, "SELECT count(*) FROM hyperfill.comparisons")
    total = scenes.scalar(target_db, "SELECT count(*) FROM hyperfill.windows")
    assert 0 < compared < total
    until(lambda: not scenes.sessions(target_db), 20, "the sessions to end")
    report = pair.run("m", *END)
    windows = report["verification"]["windows"]
    assert (windows["compared"], windows["compared_before"]) == (total - compared, compared)
    assert len(comparisons(pair, report["backfill"])) == total


def test_an_interrupted_comparison_leaves_no_session(
    source_db: str, target_db: str, pair: Pair, tmp_path: Path
) -> None:
    """One Ctrl-C ends it, whatever the servers are at."""
    make(pair)
    pair.run("m", *END)
    pair.on_source("CREATE VIEW slow AS SELECT t, dev, v, note, big + (pg_sleep(5) IS NULL)::int AS big, doc FROM m")
    running = Background.start(
        tmp_path,
        "verify",
        *scenes.arguments(source_db, target_db, "--jobs", "2", "--hypertable", "m", end=END[1], table="slow"),
    )
    try:
        until(lambda: any(s[2] == "active" for s in scenes.sessions(source_db)), 60, "the comparison to begin")
        running.signal_group(signal.SIGINT)
        assert running.wait(10) == 130
    finally:
        running.end()
    until(lambda: not scenes.sessions(source_db) and not scenes.sessions(target_db), 10, "the sessions to end")
    assert "interrupted" in running.stderr
    assert "Traceback" not in running.stderr


def test_a_lost_session_is_opened_again(source_db: str, target_db: str, pair: Pair, tmp_path: Path) -> None:
    """A comparison reads only: what was lost on the way is read once more."""
    make(pair)
    pair.run("m", *END)
    # Two seconds for the row in the middle.
    pair.on_source(
        "CREATE VIEW slow AS SELECT t, dev, v, note, doc, CASE WHEN t = '2024-01-01 08:00Z' AND dev = 2 "
        "THEN big + (pg_sleep(2) IS NULL)::int ELSE big END AS big FROM m"
    )
    running = Background.start(
        tmp_path, "verify", *scenes.arguments(source_db, target_db, "--hypertable", "m", end=END[1], table="slow")
    )
    ended = (
        "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%hash%' AND "
        "datname = current_database() AND state = 'active' AND wait_event = 'PgSleep') AS x"
    )
    try:
        until(lambda: scenes.scalar(source_db, ended), 60, "a session to end")
        assert running.wait(60) == 0, running.stderr
    finally:
        running.end()
    assert "equal" in running.stdout
