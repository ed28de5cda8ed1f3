"""`hyperfill repair`: windows that differ are moved again, no others, and what is lost by it is said before."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest

from tests.fixtures import scenes
from tests.fixtures.compared import BELOW, END, make, moved, refused_for, repair, verify
from tests.fixtures.pair import Pair
from tests.fixtures.scenes import Background, DualWriter, until

COLUMNS = "t, dev, v, note, big, doc"
SECOND = "t >= '2024-01-01 06:00Z' AND t < '2024-01-01 12:00Z'"
PLACE = "t = '2024-01-01 08:00Z' AND dev = 2"


def test_only_the_windows_that_differ_are_touched(pair: Pair) -> None:
    report = moved(pair)
    pair.on_target(
        f"UPDATE m SET v = -1 WHERE {PLACE}",
        f"INSERT INTO m SELECT t + interval '1 second', dev FROM m WHERE {PLACE}",
        f"DELETE FROM m WHERE {PLACE.replace('= 2', '= 1')}",
        "INSERT INTO m VALUES ('2024-01-03Z', 5, 5)",
    )
    others = pair.physical("m", f"NOT ({SECOND})")
    code, found, errors = repair(pair)
    assert (code, found["state"]) == (0, "done"), errors
    assert found["repairs"] == report["backfill"]
    assert found["windows"] == {"total": 1, "done": 1, "failed": 0}
    assert (found["rows_deleted"], found["rows_copied"]) == (108, 108)
    [difference] = found["before"]["differences"]
    assert [difference[f"rows_{w}"] for w in ("missing", "extra", "different")] == [1, 1, 1]
    assert found["after"]["state"] == "equal"
    # Said before it was done.
    assert errors.index("1 row that only the target has will be deleted") < errors.index("backfill 2: ")
    assert pair.physical("m", f"NOT ({SECOND})") == others
    pair.same("m", COLUMNS, BELOW)
    assert verify(pair, *END)[0] == 0


def test_nothing_to_repair_writes_nothing(pair: Pair) -> None:
    moved(pair)
    before = pair.physical("m", "true")
    code, found, _ = repair(pair)
    assert (code, found["state"], found["backfill"]) == (0, "nothing", None)
    assert pair.physical("m", "true") == before
    assert pair.query(pair.target, "SELECT count(*) FROM hyperfill.backfills") == [(1,)]


def test_a_dry_run_only_says(pair: Pair) -> None:
    moved(pair)
    pair.on_target(f"DELETE FROM m WHERE {PLACE}")
    before = pair.physical("m", "true")
    code, found, errors = repair(pair, "--dry-run")
    assert (code, found["state"]) == (5, "mismatch")
    assert "0 rows that only the target has will be deleted, 1 that it lacks brought" in errors
    assert pair.physical("m", "true") == before
    assert pair.query(pair.target, "SELECT count(*) FROM hyperfill.backfills") == [(1,)]


def test_a_window_of_which_the_source_has_nothing_needs_a_word(pair: Pair) -> None:
    moved(pair)
    pair.on_source(f"DELETE FROM m WHERE {SECOND}")
    pair.on_target("UPDATE m SET v = -1 WHERE t = '2024-01-02 08:00Z'")
    before = pair.physical("m", "true")
    assert repair(pair, "--dry-run")[0] == 3
    code, found, _ = repair(pair)
    assert code == 3
    [finding] = [f for f in found["findings"] if f["severity"] == "error"]
    assert finding["code"] == "source-empty"
    assert "108" in finding["message"]
    assert "[2024-01-01 06:00:00+00, 2024-01-01 12:00:00+00)" in finding["message"]
    assert pair.physical("m", "true") == before
    code, found, errors = repair(pair, "--replace")
    assert (code, found["state"]) == (0, "done"), errors
    assert (found["rows_deleted"], found["rows_copied"]) == (216, 108)
    pair.same("m", COLUMNS, BELOW)


def test_rows_that_only_the_target_has_go(pair: Pair) -> None:
    """More rows on the target than on the source is what a run would roll back; a repair has said it."""
    moved(pair)
    pair.on_target(f"INSERT INTO m SELECT t + interval '1 second', dev, 1 FROM m WHERE {SECOND}")
    code, found, errors = repair(pair)
    assert (code, found["state"]) == (0, "done"), errors
    assert "108 rows that only the target has will be deleted" in errors
    assert (found["rows_deleted"], found["rows_copied"]) == (216, 108)
    pair.same("m", COLUMNS, BELOW)


def test_without_a_backfill_in_the_ledger(pair: Pair) -> None:
    """Whatever brought the rows."""
    make(pair)
    with pair.source.cursor().copy(f"COPY (SELECT * FROM m WHERE {BELOW}) TO STDOUT") as out:
        content = b"".join(bytes(block) for block in out)
    with pair.target.cursor().copy("COPY m FROM STDIN") as into:
        into.write(content)
    pair.on_target(f"DELETE FROM m WHERE {PLACE}")
    others = pair.physical("m", f"NOT ({SECOND})")
    code, found, errors = repair(pair)
    assert (code, found["state"], found["repairs"]) == (0, "done", None), errors
    assert found["windows"]["total"] == 1
    assert pair.physical("m", f"NOT ({SECOND})") == others
    pair.same("m", COLUMNS, BELOW)


def test_an_unfinished_backfill_is_finished_first(pair: Pair) -> None:
    make(pair)
    pair.on_target(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'",
        "CREATE TRIGGER no BEFORE INSERT ON m FOR EACH ROW WHEN (NEW.t >= '2024-01-02 12:00Z') EXECUTE FUNCTION no()",
    )
    assert pair.command("run", "m", *END)[0] == 4
    code, found, _ = repair(pair)
    assert code == 3
    assert "is unfinished" in " ".join(f["message"] for f in found["findings"])


def test_columns_that_only_the_target_has_are_not_lost_without_a_word(pair: Pair) -> None:
    moved(pair)
    pair.on_target("ALTER TABLE m ADD own text", f"UPDATE m SET own = 'precious', v = -1 WHERE {PLACE}")
    refused_for(pair, "own")
    # In windows that are not touched it does not matter.
    pair.on_target(f"UPDATE m SET own = NULL WHERE {PLACE}", "UPDATE m SET own = 'x' WHERE t = '2024-01-02 08:00Z'")
    assert repair(pair)[0] == 0
    assert pair.query(pair.target, "SELECT count(*) FROM m WHERE own = 'x'") == [(3,)]


def test_what_the_target_computes_itself_is_not_renewed_without_a_word(pair: Pair) -> None:
    """Rows beside the one that differs would get other numbers."""
    moved(pair)
    pair.on_target("ALTER TABLE m ADD sid uuid DEFAULT gen_random_uuid()", f"UPDATE m SET v = -1 WHERE {PLACE}")
    refused_for(pair, "sid")
    code, _, errors = repair(pair, "--replace")
    assert code == 0, errors
    assert "sid" in errors


def test_a_repair_after_a_run_of_another_source_needs_a_word(pair: Pair) -> None:
    moved(pair)
    pair.on_source("CREATE TABLE other AS SELECT * FROM m WHERE dev = 1", "CREATE INDEX ON other (t)")
    code, found, _ = pair.command("repair", "other", "--hypertable", "m", *END)
    assert code == 3
    assert "from another source" in " ".join(f["message"] for f in found["findings"])


def test_a_repair_that_was_killed_goes_on(pair: Pair, source_db: str, target_db: str, tmp_path: Path) -> None:
    make(pair, interval="1 hour")
    report = pair.run("m", *END)
    pair.on_target("UPDATE m SET v = v + 1 WHERE t < '2024-01-02Z'")
    untouched = pair.physical("m", "t >= '2024-01-02Z'")
    # Windows in the middle wait for a row that somebody holds.
    with psycopg.connect(target_db) as holder:
        holder.execute("SELECT 1 FROM m WHERE t = '2024-01-01 12:00Z' FOR UPDATE")
        running = Background.start(
            tmp_path, "repair", *scenes.arguments(source_db, target_db, "--jobs", "1", end=END[1], table="m")
        )
        try:
            until(
                lambda: scenes.scalar(
                    target_db,
                    "SELECT count(*) FROM hyperfill.windows WHERE state = 'done' AND backfill_id > %s",
                    report["backfill"],
                ) >= 5,
                60, "some windows to be repaired",
            )  # fmt: skip
            running.signal_group(signal.SIGKILL)
            running.wait()
        finally:
            running.end()
    until(lambda: not scenes.sessions(target_db), 20, "the sessions to end")
    # A run must not step in between.
    code, found, _ = pair.command("run", "m", *END, "--again")
    assert code == 3, found
    code, found, errors = repair(pair)
    assert (code, found["state"]) == (0, "done"), errors
    assert found["backfill"] == report["backfill"] + 1
    pair.same("m", COLUMNS, BELOW)
    assert pair.physical("m", "t >= '2024-01-02Z'") == untouched
    assert {row[0] for row in pair.query(pair.target, "SELECT phase FROM hyperfill.backfills")} == {"done"}


def test_a_repair_while_the_application_writes(pair: Pair, source_db: str, target_db: str) -> None:
    scenes.make_metrics(source_db, target_db)
    options = ("--end", scenes.T)
    pair.run("metrics", *options)
    pair.on_target("UPDATE metrics SET value = -1 WHERE id % 7 = 0 AND time < '2024-01-10 12:00Z'")
    with DualWriter(source_db, target_db) as writer:
        until(lambda: len(writer.written) > 20, 20, "the application to write")
        code, found, errors = pair.command("repair", "metrics", *options)
        assert (code, found["state"]) == (0, "done"), errors
        at = len(writer.written)
        until(lambda: len(writer.written) > at + 20, 20, "the application to write on")
    scenes.assert_equal_below(source_db, target_db, "2030-01-01")


@pytest.mark.parametrize("rows", [45_000])
def test_how_many_rows_go_is_exact_in_a_large_window(pair: Pair, rows: int) -> None:
    """More rows than are fetched at once, at one and the same moment too."""
    pair.both("CREATE TABLE m (t timestamptz NOT NULL, v int)")
    pair.on_source(
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i / 3 * interval '1 s', i "
        f"FROM generate_series(1, {rows}) i",
        f"INSERT INTO m SELECT '2024-01-02Z', i FROM generate_series(1, {rows}) i",
        "CREATE INDEX ON m (t)",
        "ANALYZE m",
    )
    pair.on_target("SELECT create_hypertable('m', 't')")
    pair.run("m", *END)
    pair.on_target(
        "UPDATE m SET v = -v WHERE v % 5 = 0",
        "INSERT INTO m SELECT '2024-01-02Z', -1 FROM generate_series(1, 1234)",
    )
    _, found, errors = repair(pair, "--dry-run")
    [difference] = found["before"]["differences"]
    assert difference["exact"] is True
    alone = difference["rows_extra"] + difference["rows_different"]
    assert alone == 2 * rows // 5 + 1234
    assert difference["rows_missing"] + difference["rows_different"] == 2 * rows // 5
    assert f"{difference['rows_extra']:,} rows that only the target has will be deleted" in errors
    assert repair(pair)[0] == 0


def test_a_source_that_loses_rows_meanwhile_takes_none_from_the_target(
    pair: Pair, source_db: str, target_db: str, tmp_path: Path
) -> None:
    """What is deleted is what was said, whatever happens between comparing and moving."""
    moved(pair)
    pair.on_target(f"UPDATE m SET v = -1 WHERE {PLACE}", "INSERT INTO m VALUES ('2024-01-01 08:00:01Z', 9, 9)")
    with psycopg.connect(target_db) as holder:
        holder.execute("LOCK TABLE m IN SHARE MODE")
        running = Background.start(
            tmp_path, "repair", *scenes.arguments(source_db, target_db, "--json", end=END[1], table="m")
        )
        try:
            until(lambda: "1 row that only the target has will be deleted" in running.stderr, 60, "the announcement")
            until(lambda: scenes.scalar(target_db, "SELECT count(*) FROM hyperfill.backfills") == 2, 60, "the repair")
            pair.on_source(f"DELETE FROM m WHERE {SECOND} AND dev = 3")
            holder.rollback()
            assert running.wait(90) == 4, running.stderr
        finally:
            running.end()
    [failed] = running.report["failed_windows"]
    assert "fewer than when they were compared" in failed["message"]
    assert pair.query(pair.target, f"SELECT count(*) FROM m WHERE {SECOND}") == [(109,)]
    # Asked again, it says how many these are.
    code, found, errors = repair(pair)
    assert (code, found["state"]) == (0, "done"), errors
    assert "37 rows that only the target has will be deleted" in errors
    pair.same("m", COLUMNS, BELOW)
