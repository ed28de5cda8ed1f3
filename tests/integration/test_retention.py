"""What a retention policy of the target would drop of the range: rows, and not stretches without any."""

from __future__ import annotations

import pytest

from tests.fixtures.community import make_policies
from tests.fixtures.pair import Pair

pytestmark = pytest.mark.community


def test_an_open_start_without_an_index_is_no_row_of_long_ago(policy_pair: Pair) -> None:
    """Windows are put together there, so the first one with rows reaches down to -infinity."""
    pair = policy_pair
    pair.on_source(
        "CREATE TABLE m (time timestamptz NOT NULL, device int NOT NULL, value float8)",
        "INSERT INTO m SELECT '2024-02-01Z'::timestamptz + i * interval '1 hour', 1, i FROM generate_series(0, 99) i",
    )
    make_policies(pair.target)  # one of them drops what is older than 500 years
    end = ("--end", "2024-02-03T00:00:00Z")
    plan = pair.plan("m", *end)
    assert "retention" not in {f["code"] for f in plan["findings"]}
    # Nor where it goes on: a window fails, and the same command is run again.
    pair.on_target(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'",
        "CREATE TRIGGER no BEFORE INSERT ON m FOR EACH ROW WHEN (NEW.value = 30) EXECUTE FUNCTION no()",
    )
    assert pair.command("run", "m", *end)[0] == 4
    pair.on_target("DROP TRIGGER no ON m")
    pair.run("m", *end)
    pair.same("m", "time, device, value", "time < '2024-02-03Z'")


def test_a_row_of_long_ago_is_said(policy_pair: Pair) -> None:
    pair = policy_pair
    pair.on_source(
        "CREATE TABLE m (time timestamptz NOT NULL, device int NOT NULL, value float8)",
        "INSERT INTO m VALUES ('1400-01-01Z', 1, 1), ('2024-02-01Z', 1, 1)",
    )
    make_policies(pair.target)
    code, plan, _ = pair.command("plan", "m", "--end", "2024-02-03T00:00:00Z")
    assert code == 3
    assert "retention" in {f["code"] for f in plan["findings"] if f["severity"] == "error"}
