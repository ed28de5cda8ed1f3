"""Rows are read in the order in which the target's indexes on time grow, where the source has that order anyway."""

from __future__ import annotations

import pytest

from tests.fixtures.pair import Pair

ROWS = 30_000
TIMES = f"'2024-01-01Z'::timestamptz + i * interval '1 day' / {ROWS}"
PLACES = """SELECT count(*) FILTER (WHERE time > before), count(*) FILTER (WHERE time < before)
            FROM (SELECT time, lag(time) OVER (ORDER BY tableoid, ctid) AS before FROM m) AS t"""
INDEXES = {
    "newest first": "CREATE INDEX ON m (time DESC)",
    "oldest first": "CREATE UNIQUE INDEX ON m (time, n)",
    "both": "CREATE INDEX ON m (time DESC); CREATE INDEX ON m (time, n)",
    "another": "CREATE INDEX ON m (n, time DESC)",
}


def steps(pair: Pair, source: str, target: str, index: str = "CREATE INDEX ON m (time)") -> tuple[int, int]:
    """How many rows of the target lie behind an older row, and how many behind a newer one."""
    pair.on_source(
        "CREATE TABLE m (time timestamptz NOT NULL, n int)",
        f"INSERT INTO m SELECT {TIMES}, i FROM generate_series(0, {ROWS - 1}) AS i ORDER BY {source}",
        index,
        "ANALYZE m",
    )
    pair.on_target(
        "CREATE TABLE m (time timestamptz NOT NULL, n int)",
        "SELECT create_hypertable('m', 'time', create_default_indexes => false)",
        *INDEXES[target].split("; "),
    )
    assert pair.run("m", "--end", "2024-01-02T00:00:00Z")["rows_copied"] == ROWS
    assert len(pair.same("m", "time, n", "true", "m")) == ROWS
    [(up, down)] = pair.query(pair.target, PLACES)
    return up, down


@pytest.mark.parametrize("source", ["i", "-i"])
def test_the_order_of_the_index(pair: Pair, source: str) -> None:
    """Whichever way the source lies: an index is walked in both directions."""
    assert steps(pair, source, "newest first") == (0, ROWS - 1)


@pytest.mark.parametrize("source", ["i", "-i"])
def test_an_index_with_the_oldest_first(pair: Pair, source: str) -> None:
    assert steps(pair, source, "oldest first") == (ROWS - 1, 0)


@pytest.mark.parametrize("target", ["both", "another"])
def test_no_order_would_help(pair: Pair, target: str) -> None:
    """As the source has them."""
    assert steps(pair, "-i", target) == (0, ROWS - 1)


def test_a_source_that_would_have_to_sort(pair: Pair) -> None:
    assert steps(pair, "i", "newest first", "SELECT 1") == (ROWS - 1, 0)


def test_a_source_whose_rows_lie_about(pair: Pair) -> None:
    """An index is there, but the way along it is a long one."""
    up, down = steps(pair, "md5(i::text)", "newest first")
    assert up > ROWS // 3
    assert down > ROWS // 3
