"""Thousands of windows: what is done once for each of them must not look at all of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from psycopg import sql

from hyperfill.sql import query
from tests.fixtures.pair import Pair

WINDOWS = 5_000


def plan_of(pair: Pair, statement: str) -> str:
    [(found,)] = pair.query(pair.target, f"EXPLAIN (FORMAT JSON) {statement}")
    return json.dumps(found)


@pytest.fixture
def planned(pair: Pair) -> Pair:
    """A backfill of many windows, of which hardly any are moved, on a server whose autovacuum never comes by."""
    table = "CREATE TABLE m (time timestamptz NOT NULL, n int)"
    rows = (
        f"SELECT '2024-01-01Z'::timestamptz + i * interval '2 seconds', i FROM generate_series(0, {WINDOWS} - 1) AS i"
    )
    pair.on_source(table, f"INSERT INTO m {rows}", "CREATE INDEX ON m (time)", "ANALYZE m")
    pair.on_target(table, "SELECT create_hypertable('m', 'time')")
    options = ("--end", "2024-02-01T00:00:00Z", "--window", "2 seconds", "--max-duration", "1s", "--jobs", "1")
    code, report, errors = pair.command("run", "m", *options)
    assert code == 4, errors
    assert report["windows"]["total"] >= WINDOWS
    return pair


@pytest.mark.parametrize("name", ["ledger/claim_oldest", "ledger/claim_newest"])
def test_a_claim_does_not_sort_what_is_pending(planned: Pair, name: Any) -> None:
    _, _, select = query(name).partition(";")
    statement = sql.SQL(select).format(backfill=sql.Literal(1), cursor=sql.Literal(3000)).as_string()
    plan = plan_of(planned, statement)
    assert "Index Scan" in plan
    assert "Sort" not in plan
