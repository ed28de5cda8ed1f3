"""A pooler in between: where sessions are shared it is refused before anything is set on them, else it works."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import arguments, make_metrics, nothing_written

Pool = Callable[..., str]
SETTINGS = "SELECT name, setting FROM pg_settings WHERE name <> 'application_name'"  # PgBouncer sees to that one


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("transaction", {}),
        pytest.param("transaction", {"server_round_robin": 1, "min_pool_size": 3}, marks=pytest.mark.long),
        pytest.param("transaction", {"default_pool_size": 1}, marks=pytest.mark.long),
        ("statement", {}),
    ],
)
def test_a_pool_that_shares_sessions_is_refused(
    source_db: str, target_db: str, hyperfill: Hyperfill, pgbouncer: Pool, mode: str, settings: dict[str, object]
) -> None:
    make_metrics(source_db, target_db, overlap=20)
    through = {"source": pgbouncer(source_db, mode, **settings), "target": pgbouncer(target_db, mode, **settings)}
    # As an application does that lives behind the same pool.
    applications = [psycopg.connect(conninfo, autocommit=True) for conninfo in through.values()]
    before = [application.execute(SETTINGS).fetchall() for application in applications]
    with nothing_written(target_db):
        ended = hyperfill("run", *arguments(through["source"], through["target"]))
        assert ended.returncode == 3, ended.stderr
        for side in through:
            assert f"connect to the {side}: a pooler in between gives each transaction to another" in ended.stderr
        assert "pool_mode = session" in ended.stderr
        assert hyperfill("status", "--target", through["target"]).returncode == 3
    # Nothing of ours was left on the sessions that the application gets.
    for application, settings_before in zip(applications, before, strict=True):
        for _ in range(4):
            assert application.execute(SETTINGS).fetchall() == settings_before
        application.close()


def test_a_pool_of_sessions_works(source_db: str, target_db: str, hyperfill: Hyperfill, pgbouncer: Pool) -> None:
    make_metrics(source_db, target_db, overlap=20)
    source, target = pgbouncer(source_db, "session"), pgbouncer(target_db, "session")
    ended = hyperfill("run", *arguments(source, target, "--jobs", "2"))
    assert ended.returncode == 0, ended.stderr
    scenes.assert_equal_below(source_db, target_db)
    assert hyperfill("status", "--target", target).returncode == 0


@pytest.mark.long
def test_a_pool_without_a_second_session_is_refused(
    source_db: str, target_db: str, hyperfill: Hyperfill, pgbouncer: Pool
) -> None:
    make_metrics(source_db, target_db)
    source = pgbouncer(source_db, "session", default_pool_size=1)
    with nothing_written(target_db):
        ended = hyperfill("run", *arguments(source, target_db))
    assert ended.returncode == 3, ended.stderr
    assert "a pooler in between has no second session of the server free" in ended.stderr
