"""A migration of many tables from one file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import Background, T, assert_equal_below, execute, make_metrics, until

ODD = '"Odd ""name"""'
TABLES = f"""
[[backfill]]
table = "public.metrics"
end = "2024-01-10T12:00:00Z"
columns = ["time", "id", "value", "note"]

[[backfill]]
table = 'public.{ODD}'
end = 900
start = -100
window = 250
"""


def make_two(source: str, target: str) -> None:
    """`metrics`, and a table with an integer time and an odd name."""
    make_metrics(source, target, overlap=20)
    table = f'CREATE TABLE {ODD} ("Tick" bigint NOT NULL, v int)'
    execute(
        source,
        table,
        f"INSERT INTO {ODD} SELECT i, i FROM generate_series(-200, 1000) i",
        f'CREATE INDEX ON {ODD} ("Tick")',
    )
    execute(target, table, f"SELECT create_hypertable('{ODD}', 'Tick', chunk_time_interval => 500)")
    execute(target, f"INSERT INTO {ODD} SELECT i, -i FROM generate_series(850, 1000) i")


def assert_odd_is_equal(source: str, target: str) -> None:
    inside, columns = '"Tick" >= -100 AND "Tick" < 900', '"Tick", v'
    here = scenes.fingerprint(source, inside, table=ODD, columns=columns)
    assert here == scenes.fingerprint(target, inside, table=ODD, columns=columns)
    assert scenes.rows(target, f'SELECT count(*), sum(v) FROM {ODD} WHERE "Tick" >= 900') == [(101, -95950)]
    assert scenes.scalar(target, f'SELECT min("Tick") FROM {ODD}') == -100


def test_two_tables_of_different_time_types(
    hyperfill: Hyperfill, source_db: str, target_db: str, tmp_path: Path
) -> None:
    make_two(source_db, target_db)
    config = tmp_path / "migration.toml"
    config.write_text('jobs = 2\norder = "newest"\nsync-sequences = true\n' + TABLES)
    options = ["--config", str(config), "--source", source_db, "--json"]
    environment = {"HYPERFILL_TARGET": target_db}
    planned = hyperfill("plan", *options, env=environment)
    plan = json.loads(planned.stdout)
    assert (planned.returncode, plan["state"], len(plan["backfills"])) == (0, "planned", 2)
    assert [p["jobs"] for p in plan["backfills"]] == [2, 2]
    assert not scenes.has_ledger(target_db)
    ended = hyperfill("run", *options, env=environment)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report.keys() == {"state", "backfills"}
    assert report["state"] == "done"
    one, two = report["backfills"]
    odd = f"public.{ODD}"
    assert (one["table"], one["state"], one["rows_copied"], one["rows_deleted"]) == ("public.metrics", "done", 950, 20)
    assert (two["table"], two["start"], two["end"], two["rows_copied"]) == (odd, "-100", "900", 1000)
    assert [one["backfill"], two["backfill"]] == [1, 2]
    assert_equal_below(source_db, target_db)
    assert_odd_is_equal(source_db, target_db)
    again = hyperfill("run", *options, env=environment)
    assert (again.returncode, json.loads(again.stdout)["state"]) == (0, "nothing")
    status = hyperfill("status", *options[:2], "--json", env=environment)
    assert status.returncode == 0, status.stderr
    assert [b["state"] for b in json.loads(status.stdout)["backfills"]] == ["done", "done"]


def test_one_wrong_table_stops_all(hyperfill: Hyperfill, source_db: str, target_db: str, tmp_path: Path) -> None:
    make_two(source_db, target_db)
    config = tmp_path / "migration.toml"
    config.write_text(TABLES.replace("900", '"9000000000000000000000"') + '[[backfill]]\ntable = "nowhere"\nend = 1')
    with scenes.nothing_written(target_db):
        ended = hyperfill("run", "--config", str(config), "--source", source_db, "--target", target_db, "--json")
    assert ended.returncode == 3
    errors = [f for f in json.loads(ended.stdout)["findings"] if f["severity"] == "error"]
    assert {(f["table"], f["code"]) for f in errors} == {
        (f"public.{ODD}", "bound"), ("nowhere", "table"), ("nowhere", "hypertable"),
    }  # fmt: skip


def test_one_failing_table_leaves_the_others(
    hyperfill: Hyperfill, source_db: str, target_db: str, tmp_path: Path
) -> None:
    make_two(source_db, target_db)
    config = tmp_path / "migration.toml"
    config.write_text(TABLES)
    options = ["--config", str(config), "--source", source_db, "--target", target_db, "--json"]
    execute(target_db, "ALTER TABLE metrics ADD CONSTRAINT not_333 CHECK (id <> 333)")
    ended = hyperfill("run", *options)
    report = json.loads(ended.stdout)
    assert (ended.returncode, report["state"]) == (4, "incomplete")
    assert [b["state"] for b in report["backfills"]] == ["incomplete", "done"]
    assert_odd_is_equal(source_db, target_db)
    execute(target_db, "ALTER TABLE metrics DROP CONSTRAINT not_333")
    ended = hyperfill("run", *options)
    assert (ended.returncode, json.loads(ended.stdout)["state"]) == (0, "done")
    assert_equal_below(source_db, target_db)


def test_one_table_twice(hyperfill: Hyperfill, source_db: str, target_db: str, tmp_path: Path) -> None:
    make_two(source_db, target_db)
    middle = "2024-01-05T00:00:00Z"
    one = f'[[backfill]]\ntable = "metrics"\nend = "{middle}"\n'
    config = tmp_path / "migration.toml"
    options = ["--config", str(config), "--source", source_db, "--target", target_db]
    config.write_text(one + f'[[backfill]]\ntable = "metrics"\nstart = "2024-01-04T23:59:59.999999Z"\nend = "{T}"\n')
    with scenes.nothing_written(target_db):
        ended = hyperfill("run", *options)
    assert (ended.returncode, "two backfills of this command fill the same range" in ended.stderr) == (3, True)
    config.write_text(one + f'[[backfill]]\ntable = "metrics"\nstart = "{middle}"\nend = "{T}"\n')
    assert hyperfill("run", *options).returncode == 0
    assert_equal_below(source_db, target_db)


def test_interrupted_and_resumed(hyperfill: Hyperfill, source_db: str, target_db: str, tmp_path: Path) -> None:
    make_two(source_db, target_db)
    config = tmp_path / "migration.toml"
    config.write_text('jobs = 1\nmax-rate = "20kB"\n' + TABLES)
    options = ["--config", str(config), "--source", source_db, "--target", target_db, "--json"]
    run = Background.start(tmp_path, "run", *options)
    try:
        until(lambda: scenes.windows_done(target_db) > 1, 30, "windows")
        run.signal(2)
        assert run.wait(20) == 130, run.stderr
    finally:
        run.end()
    assert run.report["state"] == "incomplete"
    assert [b["state"] for b in run.report["backfills"]] == ["incomplete", "incomplete"]
    assert hyperfill("run", *options, "--max-rate", "1GB").returncode == 0
    assert_equal_below(source_db, target_db)
    assert_odd_is_equal(source_db, target_db)


ONE = '[[backfill]]\ntable = "t"\nend = "1"\n'
WRONG = {
    "unknown key": ("speed = 3\n" + ONE, "speed is no option"),
    "unknown key of a table": (ONE + "wndow = 3\n", "[[backfill]] 1 (t): wndow is no option"),
    "password": ("source = 'host=h password=Ge_heim'\n" + ONE, "source holds a password"),
    "password in a URI": ("target = 'postgresql://u:Ge_heim@h/d'\n" + ONE, "target holds a password"),
    "password of a table": (ONE + "source = 'postgresql://u:Ge_heim@h/d'\n", "(t): source holds a password"),
    "password in what cannot be parsed": (ONE + "source = 'host=h password=Ge_heim x'\n", "source conninfo"),
    "end missing": ('[[backfill]]\ntable = "t"\n', "[[backfill]] 1 (t): end is missing"),
    "table missing": ("[[backfill]]\nend = 1\n", "[[backfill]] 1 (no table): table is missing"),
    "end shared": ('end = "1"\n' + ONE, "the shared settings: end does not belong here"),
    "target of a table": (ONE + "target = ''\n", "target does not belong here"),
    "a text for a number": ('jobs = "two"\n' + ONE, "jobs = 'two' is not a whole number"),
    "a number for a text": (ONE + "where = 3\n", "where = 3 is not a text"),
    "a number for yes": (ONE + "replace = 1\n", "replace = 1 is not true or false"),
    "a boolean for a number": ("jobs = true\n" + ONE, "jobs = True is not a whole number"),
    "unknown order": ('order = "up"\n' + ONE, "order = 'up' is not one of 'oldest', 'newest'"),
    "a date": (ONE.replace('"1"', "2024-01-01T00:00:00Z"), "is not a text"),
    "jobs out of range": ("jobs = 0\n" + ONE, "--jobs must be from 1 to 256"),
    "a rate": ('max_rate = "fast"\n' + ONE, "--max-rate"),
    "no table": ("jobs = 1\n", "there is no [[backfill]] section"),
    "an empty file": ("", "there is no [[backfill]] section"),
    "not a list": ("backfill = 3\n", "there is no [[backfill]] section"),
    "no TOML": ("jobs = \n", "line 1"),
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "wrong.toml"


def test_wrong_files(hyperfill: Hyperfill, config: Path) -> None:
    """No server is asked anything: there is none."""
    for case, (text, said) in WRONG.items():
        config.write_text(text)
        ended = hyperfill("run", "--config", str(config), env={"HYPERFILL_SOURCE": "", "HYPERFILL_TARGET": ""})
        assert (ended.returncode, ended.stdout) == (2, ""), (case, ended.stderr)
        assert said in ended.stderr, (case, ended.stderr)
        assert "Ge_heim" not in ended.stderr, case
        assert "Traceback" not in ended.stderr and "unexpected" not in ended.stderr, case


def test_all_problems_of_a_file_at_once(hyperfill: Hyperfill, config: Path) -> None:
    config.write_text('jobs = "two"\nspeed = 1\n[[backfill]]\ntable = "a"\n[[backfill]]\nend = 1\n')
    ended = hyperfill("run", "--config", str(config), "--table", "b", "--end", "2")
    assert ended.returncode == 2
    for said in ("jobs", "speed", "1 (a): end is missing", "2 (no table): table is missing", "--end cannot be used"):
        assert said in ended.stderr
    assert hyperfill("run", "--config", str(config.parent / "none.toml")).returncode == 2
    assert hyperfill("plan", "--config", str(config.parent)).returncode == 2
