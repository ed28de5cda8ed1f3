"""Rows are read in the order in which the target's indexes on time grow, where the source has that order anyway."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from hyperfill.sandbox import Server
from tests.fixtures.pair import Pair, connect
from tests.fixtures.servers import Servers

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


def moved(pair: Pair, source: Sequence[str], target: str) -> tuple[int, int]:
    """How many rows of the target lie behind an older row, and how many behind a newer one, after a run."""
    pair.on_source(*source, "ANALYZE m")
    pair.on_target(
        "CREATE TABLE m (time timestamptz NOT NULL, n int)",
        "SELECT create_hypertable('m', 'time', create_default_indexes => false)",
        *INDEXES[target].split("; "),
    )
    assert pair.run("m", "--end", "2024-01-02T00:00:00Z")["rows_copied"] == ROWS
    assert len(pair.same("m", "time, n")) == ROWS
    [(up, down)] = pair.query(pair.target, PLACES)
    return up, down


def steps(pair: Pair, source: str, target: str, index: str = "CREATE INDEX ON m (time)") -> tuple[int, int]:
    """The same of a plain table, its rows in the order `source`."""
    made = (
        "CREATE TABLE m (time timestamptz NOT NULL, n int)",
        f"INSERT INTO m SELECT {TIMES}, i FROM generate_series(0, {ROWS - 1}) AS i ORDER BY {source}",
        index,
    )
    return moved(pair, made, target)


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


def test_what_another_server_would_have_to_sort(
    pair: Pair, new_database: Callable[[Server], str], servers: Servers
) -> None:
    """A foreign table's plan does not tell whether it would."""
    with connect(new_database(servers.source)) as remote:
        remote.execute("CREATE TABLE far (time timestamptz NOT NULL, n int)")
        remote.execute(f"INSERT INTO far SELECT {TIMES}, i FROM generate_series(0, {ROWS - 1}) AS i")
        info = remote.info
        far = (
            "CREATE EXTENSION postgres_fdw",
            f"CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{info.host}', port '{info.port}',"
            f" dbname '{info.dbname}')",
            f"CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user '{info.user}', password '{info.password}')",
            "CREATE FOREIGN TABLE m (time timestamptz NOT NULL, n int) SERVER far OPTIONS (table_name 'far')",
        )
        assert moved(pair, far, "newest first") == (ROWS - 1, 0)
