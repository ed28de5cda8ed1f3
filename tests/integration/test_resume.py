"""The same command again goes on where the last one stopped; another command is told what differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from hyperfill.sandbox import Server
from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import Background, T, arguments, assert_equal_below, execute, make_metrics, until
from tests.fixtures.servers import Servers


def leave_unfinished(hyperfill: Hyperfill, source: str, target: str, *options: str, **more: Any) -> None:
    """A backfill of which one window fails, for as long as the constraint is there."""
    execute(target, "ALTER TABLE metrics ADD CONSTRAINT not_333 CHECK (id <> 333)")
    ended = hyperfill("run", *arguments(source, target, *options, **more))
    assert ended.returncode == 4, ended.stderr
    execute(target, "ALTER TABLE metrics DROP CONSTRAINT not_333")


DIFFERENT: list[tuple[list[str], str, list[str]]] = [
    (["--start", "2024-01-02T00:00:00Z"], T, ["range_start", "None", "2024-01-02 00:00:00+00"]),
    ([], "2024-01-09T00:00:00Z", ["range_end", "2024-01-10 12:00:00+00", "2024-01-09 00:00:00+00"]),
    (["--columns", "time,id,value"], T, ["columns", "note text", "time timestamp with time zone, id bigint"]),
    (["--window", "6 hours"], T, ["window", "None", "6 hours"]),
    (["--max-window-rows", "50"], T, ["max_window_rows", "None", "50"]),
    (["--where", "id > 5"], T, ["where", "None", "id > 5"]),
    (["--skip-unstorable"], T, ["skip_unstorable", "False", "True"]),
]


def test_other_options_while_unfinished(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    leave_unfinished(hyperfill, source_db, target_db)
    before = (scenes.physical(target_db), scenes.physical(target_db, table="hyperfill.windows"))
    for options, end, differences in DIFFERENT:
        # Neither --replace nor --again is a way around.
        ended = hyperfill("run", *arguments(source_db, target_db, "--json", "--replace", "--again", *options, end=end))
        assert ended.returncode == 3, ended.stderr
        report = json.loads(ended.stdout)
        assert report["state"] == "refused"
        [refusal] = [f for f in report["findings"] if f["severity"] == "error"]
        for text in [*differences, "backfill 1", "unfinished"]:
            assert text in refusal["message"]
            assert text in ended.stderr
        assert (scenes.physical(target_db), scenes.physical(target_db, table="hyperfill.windows")) == before
    # The same columns in another way, and a name without its schema, are no difference.
    ended = hyperfill("run", *arguments(source_db, target_db, "--columns", 'note, "value",ID,time', table="metrics"))
    assert ended.returncode == 0, ended.stderr
    assert_equal_below(source_db, target_db)
    assert scenes.scalar(target_db, "SELECT runs FROM hyperfill.backfills") == 2


def test_another_source_while_unfinished(
    hyperfill: Hyperfill, source_db: str, target_db: str, servers: Servers, new_database: Callable[[Server], str]
) -> None:
    make_metrics(source_db, target_db)
    other = new_database(servers.source)
    execute(other, "CREATE TABLE metrics (time timestamptz NOT NULL, id bigint, value float8, note text)")
    execute(source_db, "CREATE VIEW same AS SELECT * FROM metrics")
    leave_unfinished(hyperfill, source_db, target_db)
    for source, more, said in (
        (other, [], "source: recorded"),
        (source_db, ["--hypertable", "public.metrics"], "source_relation: recorded 'public.metrics'"),
    ):
        options = arguments(source, target_db, "--replace", *more, table="same" if more else "metrics")
        ended = hyperfill("run", *options)
        assert ended.returncode == 3, ended.stderr
        assert said in ended.stderr
    assert scenes.scalar(target_db, "SELECT count(*) FROM metrics WHERE time < %s", T) == 850


def test_a_range_beside_an_unfinished_one(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    middle = "2024-01-05T00:00:00Z"
    leave_unfinished(hyperfill, source_db, target_db, end=middle)
    ended = hyperfill("run", *arguments(source_db, target_db, "--start", middle, "--json"))
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["backfill"] == 2
    assert hyperfill("run", *arguments(source_db, target_db, end=middle)).returncode == 0
    assert_equal_below(source_db, target_db)


def test_two_shards_do_not_wipe_each_other(
    hyperfill: Hyperfill, source_db: str, target_db: str, servers: Servers, new_database: Callable[[Server], str]
) -> None:
    make_metrics(source_db, target_db)
    shard = new_database(servers.source)
    execute(
        shard,
        "CREATE TABLE metrics (time timestamptz NOT NULL, id bigint, value float8, note text)",
        "INSERT INTO metrics SELECT '2024-01-03T00:00:00Z'::timestamptz + i * interval '1 minute', 5000 + i, 0, 'b' "
        "FROM generate_series(1, 300) i",
        "CREATE INDEX ON metrics (time)",
    )
    assert hyperfill("run", *arguments(source_db, target_db)).returncode == 0
    before = scenes.physical(target_db)
    day = ["--start", "2024-01-03T00:00:00Z", "--json"]
    ended = hyperfill("run", *arguments(shard, target_db, *day, end="2024-01-04T00:00:00Z"))
    assert ended.returncode == 3, ended.stderr
    assert "backfill 1" in ended.stderr and "--replace" in ended.stderr and "another source" in ended.stderr
    assert scenes.physical(target_db) == before
    ended = hyperfill("run", *arguments(shard, target_db, *day, "--replace", end="2024-01-04T00:00:00Z"))
    assert ended.returncode == 0, ended.stderr
    inside = "time >= '2024-01-03T00:00:00Z' AND time < '2024-01-04T00:00:00Z'"
    assert scenes.fingerprint(shard, inside) == scenes.fingerprint(target_db, inside)
    outside = f"NOT ({inside}) AND time < '{T}'"
    assert scenes.fingerprint(source_db, outside) == scenes.fingerprint(target_db, outside)
    # Now the first one again: its range overlaps what the other source has filled since.
    assert hyperfill("run", *arguments(source_db, target_db, "--again")).returncode == 3


def test_resume_moves_only_what_is_left(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, overlap=40)
    leave_unfinished(hyperfill, source_db, target_db, "--jobs", "2")
    done = set(scenes.physical(target_db, f"time < '{T}'"))
    plan = json.loads(hyperfill("plan", *arguments(source_db, target_db, "--json")).stdout)
    assert (plan["state"], plan["backfill"], plan["windows"]["total"] - plan["windows"]["done"]) == ("resume", 1, 1)
    # How many workers, which order and which speed are no part of what a backfill is.
    more = ["--jobs", "1", "--order", "newest", "--max-rate", "1GB", "--json"]
    ended = hyperfill("run", *arguments(source_db, target_db, *more))
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert (report["backfill"], report["rows_copied"], report["rows_deleted"]) == (1, 950, 40)
    assert done < set(scenes.physical(target_db, f"time < '{T}'"))
    assert_equal_below(source_db, target_db)
    assert scenes.scalar(target_db, "SELECT runs FROM hyperfill.backfills") == 2


def test_an_again_that_was_interrupted(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    assert hyperfill("run", *arguments(source_db, target_db)).returncode == 0
    leave_unfinished_again = arguments(source_db, target_db, "--again")
    execute(source_db, "UPDATE metrics SET value = 0 WHERE id = 333", "UPDATE metrics SET value = 1 WHERE id = 334")
    execute(target_db, "ALTER TABLE metrics ADD CONSTRAINT later CHECK (id <> 333 OR value <> 0)")
    assert hyperfill("run", *leave_unfinished_again).returncode == 4
    execute(target_db, "ALTER TABLE metrics DROP CONSTRAINT later")
    ended = hyperfill("run", *arguments(source_db, target_db, "--json"))
    report = json.loads(ended.stdout)
    assert (ended.returncode, report["state"], report["backfill"]) == (0, "done", 2)
    assert_equal_below(source_db, target_db)
    assert scenes.scalar(target_db, "SELECT count(*) FROM hyperfill.backfills") == 2


def test_two_commands_share_the_windows(source_db: str, target_db: str, tmp_path: Path) -> None:
    make_metrics(source_db, target_db, per_day=3000, overlap=2000)
    options = ["--jobs", "2", "--max-window-rows", "500", "--max-rate", "700kB", "--json"]
    runs = [Background.start(tmp_path, "run", *arguments(source_db, target_db, *options)) for _ in range(2)]
    try:
        with psycopg.connect(target_db, autocommit=True) as connection:
            seen: set[int] = set()

            def both_work() -> bool:
                found = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name ~ '^hyperfill/[0-9]+/[0-9]+$' "
                    "AND datname = current_database()"
                ).fetchall()
                seen.update(pid for (pid,) in found)
                return len(seen) >= 3

            until(both_work, 30, "workers of both commands")
        assert [run.wait() for run in runs] == [0, 0], [run.stderr for run in runs]
    finally:
        for run in runs:
            run.end()
    assert [run.report["backfill"] for run in runs] == [1, 1]
    assert {run.report["state"] for run in runs} == {"done"}
    assert_equal_below(source_db, target_db)
    # Each window was done once: a second time would count as an attempt, and delete what the first copied.
    assert scenes.rows(target_db, "SELECT DISTINCT state, attempts FROM hyperfill.windows WHERE error IS NULL") == [
        ("done", 1)
    ]
    assert scenes.scalar(target_db, "SELECT sum(rows_copied) FROM hyperfill.windows") == 9.5 * 3000
    assert scenes.scalar(target_db, "SELECT sum(rows_deleted) FROM hyperfill.windows") == 2000


def test_max_duration(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, per_day=2000)
    options = arguments(source_db, target_db, "--jobs", "2", "--max-window-rows", "500", "--json")
    ended = hyperfill("run", *options, "--max-rate", "300kB", "--max-duration", "1500ms")
    report = json.loads(ended.stdout)
    assert (ended.returncode, report["state"]) == (4, "incomplete")
    assert 0 < report["windows"]["done"] < report["windows"]["total"]
    assert report["windows"]["failed"] == 0
    assert "--max-duration" in ended.stderr
    until(lambda: not scenes.sessions(target_db) + scenes.sessions(source_db), 5, "the servers to notice")
    assert scenes.scalar(target_db, "SELECT count(*) FROM metrics WHERE time < %s", T) == report["rows_copied"]
    assert hyperfill("run", *options).returncode == 0
    assert_equal_below(source_db, target_db)


def test_max_rate(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, per_day=2000)
    ended = hyperfill("run", *arguments(source_db, target_db, "--jobs", "2", "--max-rate", "300kB/s", "--json"))
    report = json.loads(ended.stdout)
    assert ended.returncode == 0, ended.stderr
    # Bursts are allowed, but they are a quarter of a second for each worker at most.
    assert report["bytes_copied"] > 600_000
    assert report["seconds"] > report["bytes_copied"] / 300_000 - 1
    assert_equal_below(source_db, target_db)


def test_rows_that_arrived_late_on_the_source(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    leave_unfinished(hyperfill, source_db, target_db)
    execute(source_db, "INSERT INTO metrics VALUES ('2024-01-04T00:00:00Z', 1, 1, 'late')")
    execute(target_db, "INSERT INTO metrics VALUES ('2024-01-04T00:00:00Z', 1, 1, 'late and dual-written')")
    assert hyperfill("run", *arguments(source_db, target_db)).returncode == 0
    assert_equal_below(source_db, target_db)
