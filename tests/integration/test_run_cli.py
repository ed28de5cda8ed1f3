"""The contract of `run` and `plan`: JSON, states, exit codes, environment variables, secrets."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo as pq_conninfo

from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import START, T, arguments, assert_equal_below, execute, make_metrics, nothing_written

CONTRACT = {
    "backfill", "table", "hypertable", "start", "end", "state", "windows", "rows_copied", "rows_deleted",
    "bytes_copied", "seconds", "findings",
}  # fmt: skip


def the_object(stdout: str) -> dict[str, Any]:
    """stdout as the one JSON object that it must be; anything before or after it is an error."""
    found = json.loads(stdout)
    assert isinstance(found, dict)
    return found


def test_json_of_a_run(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, overlap=50)
    after = scenes.physical(target_db, f"time >= '{T}'")
    ended = hyperfill("run", *arguments(source_db, target_db, "--jobs", "2", "--json"))
    assert ended.returncode == 0, ended.stderr
    report = the_object(ended.stdout)
    assert report.keys() == CONTRACT | {"verification"}
    assert (report["table"], report["hypertable"]) == ("public.metrics", "public.metrics")
    assert (report["start"], report["end"], report["state"]) == ("-infinity", "2024-01-10 12:00:00+00", "done")
    assert report["backfill"] == 1
    windows = report["windows"]
    assert windows.keys() == {"total", "done", "failed"}
    assert windows["done"] == windows["total"] >= 10 and windows["failed"] == 0
    assert (report["rows_copied"], report["rows_deleted"]) == (950, 50)
    assert report["bytes_copied"] > 950 * 8
    assert report["seconds"] > 0
    assert all({"severity", "code", "message"} <= finding.keys() for finding in report["findings"])
    assert "overlap" in {finding["code"] for finding in report["findings"]}
    assert "backfill 1" in ended.stderr
    assert_equal_below(source_db, target_db)
    assert scenes.physical(target_db, f"time >= '{T}'") == after


def test_without_json_everything_is_on_stderr(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    ended = hyperfill("run", *arguments(source_db, target_db))
    assert (ended.returncode, ended.stdout) == (0, "")
    assert re.search(r"(?s)public\.metrics[^\n]*: done\n.*\b950 rows copied", ended.stderr)


def test_start_is_inclusive_and_end_exclusive(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, per_day=24)
    start, end = "2024-01-03T00:00:00Z", "2024-01-04T00:00:00+00"
    for around in (start, end):
        execute(source_db, *(f"INSERT INTO metrics VALUES ('{around}'::timestamptz + interval '{m} us', 7, 7, 'edge')" for m in (-1, 0, 1)))  # fmt: skip  # noqa: E501
    ended = hyperfill("run", *arguments(source_db, target_db, "--start", start, "--json", end=end))
    assert ended.returncode == 0, ended.stderr
    inside = f"time >= '{start}' AND time < '{end}'"
    assert scenes.fingerprint(source_db, inside) == scenes.fingerprint(target_db, inside)
    assert the_object(ended.stdout)["rows_copied"] == 24 + 3
    assert scenes.scalar(target_db, f"SELECT count(*) FROM metrics WHERE NOT ({inside}) AND time < '{T}'") == 0


def test_a_finished_one_again_changes_nothing(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, overlap=10)
    options = arguments(source_db, target_db, "--json")
    assert hyperfill("run", *options).returncode == 0
    rows = scenes.physical(target_db)
    ledger = scenes.physical(target_db, table="hyperfill.windows")
    again = hyperfill("run", *options)
    report = the_object(again.stdout)
    assert (again.returncode, report["state"], report["backfill"]) == (0, "nothing", 1)
    assert any("already moved" in f["message"] and "--again" in f["message"] for f in report["findings"])
    assert scenes.physical(target_db) == rows
    assert scenes.physical(target_db, table="hyperfill.windows") == ledger
    assert "already moved" in hyperfill("run", *arguments(source_db, target_db)).stderr


def test_again_does_it_anew(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    assert hyperfill("run", *arguments(source_db, target_db)).returncode == 0
    execute(source_db, "UPDATE metrics SET value = -value WHERE id % 3 = 0")
    ended = hyperfill("run", *arguments(source_db, target_db, "--again", "--json"))
    report = the_object(ended.stdout)
    assert (ended.returncode, report["state"], report["backfill"]) == (0, "done", 2)
    assert (report["rows_copied"], report["rows_deleted"]) == (950, 950)
    assert_equal_below(source_db, target_db)


def test_an_empty_range_is_said_to_be_empty(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, overlap=10)
    before = scenes.physical(target_db)
    ended = hyperfill("run", *arguments(source_db, target_db, "--start", T, "--json"))
    report = the_object(ended.stdout)
    assert (ended.returncode, report["state"], report["backfill"]) == (0, "nothing", None)
    assert report.keys() == CONTRACT
    assert any("empty" in f["message"] for f in report["findings"])
    assert scenes.physical(target_db) == before


def test_a_window_that_cannot_be_moved(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    execute(target_db, "ALTER TABLE metrics ADD CONSTRAINT not_333 CHECK (id <> 333)")
    options = arguments(source_db, target_db, "--json", "--jobs", "2")
    ended = hyperfill("run", *options)
    report = the_object(ended.stdout)
    assert (ended.returncode, report["state"]) == (4, "incomplete")
    assert report["windows"]["failed"] == 1
    assert report["windows"]["done"] == report["windows"]["total"] - 1
    [failed] = report["failed_windows"]
    assert (failed["server"], failed["sqlstate"]) == ("target", "23514")
    assert "not_333" in failed["message"]
    assert (failed["lower"], failed["upper"]) == ("2024-01-04 00:00:00+00", "2024-01-05 00:00:00+00")
    assert scenes.scalar(target_db, "SELECT count(*) FROM metrics WHERE time < %s", T) == 850
    human = hyperfill("run", *arguments(source_db, target_db))
    assert human.returncode == 4
    assert "not_333" in human.stderr and "run the same command again" in human.stderr
    execute(target_db, "ALTER TABLE metrics DROP CONSTRAINT not_333")
    ended = hyperfill("run", *options)
    report = the_object(ended.stdout)
    assert (ended.returncode, report["state"], report["windows"]["failed"]) == (0, "done", 0)
    assert "failed_windows" not in report
    assert_equal_below(source_db, target_db)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--end is required"),
        (["--end", T], "--table is required"),
        (["--end", T, "--table", "metrics"], "--source is required"),
        (["--end", T, "--table", "metrics", "--source", ""], "--target is required"),
        (["--no-such-option"], "no-such-option"),
        (["--end", T, "--table", "metrics", "--jobs", "many"], "jobs"),
        (["--order", "upwards"], "order"),
        (["positional"], "positional"),
    ],
)
def test_usage_errors(hyperfill: Hyperfill, options: list[str], said: str) -> None:
    ended = hyperfill("run", *options)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_values_that_no_option_takes(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, days=1)
    with nothing_written(target_db):
        for option, value in (
            ("--jobs", "0"), ("--jobs", "-3"), ("--jobs", "257"), ("--max-window-rows", "0"), ("--max-rate", "fast"),
            ("--max-rate", "0"), ("--max-duration", "1 month"), ("--max-duration", "-1h"), ("--table", 'a"b'),
            ("--table", "a.b.c"), ("--columns", '"id'), ("--columns", "time,,id"),
            ("--end", ""), ("--where", ""),
        ):  # fmt: skip
            ended = hyperfill("run", *arguments(source_db, target_db), f"{option}={value}")
            assert ended.returncode == 2, (option, value, ended.stderr)
            assert option in ended.stderr or value in ended.stderr, (option, value, ended.stderr)
            assert "Traceback" not in ended.stderr


def test_every_option_has_an_environment_variable(
    hyperfill: Hyperfill, source_db: str, target_db: str, tmp_path: Path
) -> None:
    make_metrics(source_db, target_db, overlap=500)
    execute(target_db, "ALTER TABLE metrics RENAME TO renamed", "ALTER TABLE renamed RENAME time TO at")
    values = {
        "source": source_db, "target": target_db, "table": "public.metrics", "hypertable": "public.renamed",
        "start": "2024-01-02T00:00:00Z", "end": "2024-01-09T00:00:00Z", "time_column": "at",
        "source_time_column": "time", "columns": "at,id,value", "jobs": "2", "window": "6 hours",
        "max_window_rows": "1000", "order": "newest", "max_rate": "10MB", "where": "id % 2 = 0", "replace": "true",
        "allow_seqscan": "true", "skip_unstorable": "true", "sync_sequences": "true", "max_duration": "1h",
        "json": "true", "again": "true",
    }  # fmt: skip
    text = hyperfill("run", "--help").stdout
    for name in [*values, "config", "dry_run"]:
        assert f"--{name.replace('_', '-')}" in text
        assert f"HYPERFILL_{name.upper()}" in text
    environment = {f"HYPERFILL_{name.upper()}": value for name, value in values.items()}
    planned = hyperfill("run", env={**environment, "HYPERFILL_DRY_RUN": "true"})
    assert planned.returncode == 0, planned.stderr
    assert not scenes.has_ledger(target_db)
    plan = the_object(planned.stdout)
    assert (plan["jobs"], plan["columns"], plan["windows"]["total"]) == (2, ["at", "id", "value"], 28)
    ended = hyperfill("run", env=environment)
    assert ended.returncode == 0, ended.stderr
    report = the_object(ended.stdout)
    assert (report["hypertable"], report["windows"]["total"]) == ("public.renamed", 28)
    inside = "{0} >= '2024-01-02T00:00:00Z' AND {0} < '2024-01-09T00:00:00Z' AND id % 2 = 0"
    assert scenes.fingerprint(source_db, inside.format("time"), columns="time, id, value") == scenes.fingerprint(
        target_db, inside.format("at"), table="renamed", columns="at, id, value"
    )
    other = hyperfill("run", "--start", "2024-01-08T00:00:00Z", "--dry-run", env={**environment, "HYPERFILL_JOBS": "1"})
    assert other.returncode == 0, other.stderr
    assert the_object(other.stdout)["start"] == "2024-01-08 00:00:00+00"


def test_a_dry_run_is_a_plan_and_writes_nothing(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, overlap=20)
    options = arguments(source_db, target_db, "--start", START)
    with nothing_written(target_db):
        plan = the_object(hyperfill("plan", *options, "--json").stdout)
        dry = the_object(hyperfill("run", *options, "--json", "--dry-run").stdout)
        text = hyperfill("plan", *options)
    assert dry == plan
    assert (plan["state"], plan["backfill"], plan["rows_overlap"]) == ("planned", None, 20)
    assert (text.returncode, "nothing was written" in text.stdout) == (0, True)
    listed = plan["window_list"]
    assert len(listed) == plan["windows"]["total"] == 10
    assert (listed[0]["lower"], listed[-1]["upper"]) == (plan["start"], plan["end"])
    assert all(a["upper"] == b["lower"] for a, b in pairwise(listed))
    statements = " ".join(plan["sql"].values())
    for word in ("DELETE FROM", "COPY"):
        assert word in statements
    assert not re.search(r"BETWEEN|<= ", statements, re.IGNORECASE)
    assert hyperfill("run", *options).returncode == 0
    after = the_object(hyperfill("plan", *options, "--json").stdout)
    assert (after["state"], after["backfill"]) == ("nothing", 1)


SECRET = "Ge_heim%1"


def broken_conninfos(conninfo: str) -> dict[str, str]:
    parts = pq_conninfo.conninfo_to_dict(conninfo) | {"password": SECRET, "connect_timeout": "3"}
    host, port, name = parts["host"], parts["port"], parts["dbname"]
    quoted = SECRET.replace("%", "%25")
    return {
        "wrong password": pq_conninfo.make_conninfo("", **parts),
        "wrong password in a URI": f"postgresql://postgres:{quoted}@{host}:{port}/{name}",
        "unreachable": pq_conninfo.make_conninfo("", **{**parts, "port": 1}),
        "unknown host": pq_conninfo.make_conninfo("", **{**parts, "host": "no-such-host.invalid"}),
        "no such database": pq_conninfo.make_conninfo("", **{**parts, "dbname": "no such"}),
        "unparsable": f"host={host} password={SECRET} dbname",
        "unparsable value": f"host={host} password='{SECRET}",
        "unparsable URI": f"postgresql://postgres:{SECRET}@{host}:{port}:9/{name}",
        "bad percent": f"postgresql://postgres:{SECRET}%zz@{host}:{port}/{name}",
        "unknown option": f"host={host} password={SECRET} nonsense=1",
        "unknown sslmode": f"host={host} port={port} password={SECRET} sslmode=maybe",
        "not a port": f"host={host} port={SECRET} password={SECRET}",
    }


def test_a_password_is_never_shown(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, days=1)
    with nothing_written(target_db):
        for number, (case, broken) in enumerate(broken_conninfos(target_db).items()):
            role = ("source", "target")[number % 2]
            both = (broken, target_db) if role == "source" else (source_db, broken)
            commands = [["run", *arguments(*both, "--json")]]
            commands += [["status", "--target", broken]] if number % 4 == 1 else []
            for command in commands:
                ended = hyperfill(*command)
                assert ended.returncode in (2, 3), (case, ended.stderr)
                shown = ended.stdout + ended.stderr
                assert SECRET not in shown and SECRET.replace("%", "%25") not in shown, case
                assert (role if command[0] == "run" else "target") in ended.stderr, case
                assert "unexpected" not in ended.stderr, case
                assert command[0] != "run" or the_object(ended.stdout)["state"] == "refused"


def test_a_password_is_never_written(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    execute(target_db, "ALTER TABLE metrics ADD CONSTRAINT not_333 CHECK (id <> 333)")
    ended = hyperfill("run", *arguments(source_db, target_db, "--json"))
    assert ended.returncode == 4
    texts = ended.stdout + ended.stderr + hyperfill("status", "--target", target_db, "--json").stdout
    for table in ("ledger", "backfills", "windows"):
        texts += str(scenes.rows(target_db, f"SELECT t::text FROM hyperfill.{table} AS t"))
    assert "not_333" in texts
    for conninfo in (source_db, target_db):
        password = pq_conninfo.conninfo_to_dict(conninfo)["password"]
        assert password
        assert str(password) not in texts
        for (name,) in scenes.rows(conninfo, "SELECT application_name FROM pg_stat_activity"):
            assert str(password) not in name


def test_conninfos_from_the_environment_of_libpq(
    hyperfill: Hyperfill, source_db: str, target_db: str, tmp_path: Path
) -> None:
    make_metrics(source_db, target_db)
    parts = pq_conninfo.conninfo_to_dict(source_db)
    environment = {
        "PGHOST": "host",
        "PGPORT": "port",
        "PGUSER": "user",
        "PGPASSWORD": "password",
        "PGDATABASE": "dbname",
    }
    service = tmp_path / "services"
    there = pq_conninfo.conninfo_to_dict(target_db)
    service.write_text("[target]\n" + "".join(f"{k}={v}\n" for k, v in there.items()))
    ended = hyperfill(
        "run",
        *arguments("", "service=target", "--json"),
        env={"PGSERVICEFILE": str(service), **{k: str(parts[v]) for k, v in environment.items()}},
    )
    assert ended.returncode == 0, ended.stderr
    assert_equal_below(source_db, target_db)


def test_the_order_of_windows(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    for order, option in (("id", "oldest"), ("id DESC", "newest")):
        options = arguments(source_db, target_db, "--jobs", "1", "--order", option, "--again")
        assert hyperfill("run", *options).returncode == 0
        with psycopg.connect(target_db) as connection:
            newest = "WHERE backfill_id = (SELECT max(id) FROM hyperfill.backfills)"
            sql = f"SELECT id FROM hyperfill.windows {newest} ORDER BY "
            assert connection.execute(sql + "finished_at").fetchall() == connection.execute(sql + order).fetchall()
