"""Policies where there are none: the Apache edition, whose alter_job() raises, or a hypertable without any."""

from __future__ import annotations

import json

import pytest

from tests.fixtures.pair import Pair

END = "2024-01-05T00:00:00Z"


def make(pair: Pair) -> None:
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, value int)")
    pair.on_source(
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', i FROM generate_series(0, 95) AS i"
    )
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")


def policies(pair: Pair, name: str, *options: str, table: str = "public.m") -> tuple[int, str, str]:
    done = pair.hyperfill("policies", name, "--target", pair.target_conninfo, "--hypertable", table, *options)
    return done.returncode, done.stdout, done.stderr


def test_a_run_says_in_one_line_that_there_is_nothing_to_hold(pair: Pair) -> None:
    make(pair)
    report = pair.run("m", "--end", END)
    said = [f for f in report["findings"] if f["code"] == "policies"]
    assert [f["severity"] for f in said] == ["note"]
    if pair.query(pair.target, "SHOW timescaledb.license") == [("apache",)]:
        assert "Apache edition" in said[0]["message"]
    assert pair.query(pair.target, "SELECT phase FROM hyperfill.backfills") == [("done",)]
    assert pair.plan("m", "--end", END, "--again")["policies"] == []


def test_the_commands_find_nothing(pair: Pair) -> None:
    make(pair)
    code, out, _ = policies(pair, "show")
    assert code == 0 and "no policies" in out
    code, out, _ = policies(pair, "show", "--json")
    assert (code, json.loads(out)) == (0, {"state": "none", "hypertable": "public.m", "policies": []})
    for name in ("hold", "release"):
        code, out, _ = policies(pair, name, "--json")
        assert (code, json.loads(out)["state"]) == (0, "nothing")


@pytest.mark.parametrize("name", ["show", "hold", "release"])
def test_wrong_names_are_refused(pair: Pair, name: str) -> None:
    make(pair)
    pair.on_target("CREATE TABLE plain (time timestamptz)")
    assert policies(pair, name, table="public.nothing")[0] == 3
    assert policies(pair, name, table="public.plain")[0] == 3
    assert policies(pair, name, table="m'; DROP TABLE m; --")[0] == 2
    assert pair.hyperfill("policies", name, "--target", pair.target_conninfo).returncode == 2
    assert not pair.query(pair.target, "SELECT 1 FROM pg_namespace WHERE nspname = 'hyperfill'")
