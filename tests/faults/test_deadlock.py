"""A deadlock between a window and an application: the window gives way, whoever of the two began to wait first."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.fixtures import scenes
from tests.fixtures.scenes import Background, until, with_options

_TABLE = "CREATE TABLE m (time timestamptz NOT NULL, n bigint NOT NULL, v text, PRIMARY KEY (time, n))"
_ROWS = (
    "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 second', i, 'x' FROM generate_series({}) AS i"
)
_WAITS = (
    "SELECT pid FROM pg_stat_activity WHERE application_name ~ '^hyperfill/[0-9]+/' AND wait_event_type = 'Lock' "
    "AND datname = current_database()"
)


@pytest.mark.parametrize("granted", [False, True], ids=["superuser", "granted"])
def test_the_window_is_the_victim(source_db: str, target_db: str, tmp_path: Path, granted: bool) -> None:
    scenes.execute(source_db, _TABLE, _ROWS.format("0, 999"), "ANALYZE m")
    scenes.execute(
        target_db,
        _TABLE,
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        _ROWS.format("0, 0"),
    )
    target = target_db
    if granted:
        if scenes.scalar(target_db, "SHOW server_version_num") < "150000":
            pytest.skip("only a superuser may set it")
        role = sql.Identifier(f"owner_{tmp_path.name}").as_string()
        scenes.execute(
            target_db,
            f"CREATE ROLE {role} LOGIN PASSWORD 'secret'",
            f"GRANT SET ON PARAMETER deadlock_timeout TO {role}",
            f"GRANT CREATE ON DATABASE {scenes.scalar(target_db, 'SELECT current_database()')} TO {role}",
            f"ALTER TABLE m OWNER TO {role}",
        )
        target = with_options(target_db, user=f"owner_{tmp_path.name}", password="secret")
    options = ["--source", source_db, "--target", target, "--table", "public.m", "--end", "2024-01-02T00:00:00Z"]
    # Late rows of the application below T: the window's COPY meets the first of them, and then the second.
    first = "INSERT INTO m VALUES ('2024-01-01 00:10:00Z', 600, 'late')"
    second = "INSERT INTO m VALUES ('2024-01-01 00:15:00Z', 900, 'late')"
    with psycopg.connect(target_db) as holder, psycopg.connect(target_db) as application:
        holder.execute(first)
        application.execute(second)
        # What the window will have deleted when its COPY gets there.
        wanted = "UPDATE m SET v = 'y' WHERE n = 0"
        run = Background.start(tmp_path, "run", *options, "--jobs", "1", "--json")
        try:
            until(lambda: scenes.rows(target_db, _WAITS), 20, "the window to wait for the first row")
            release = threading.Timer(0.45, holder.rollback)
            release.start()
            began = time.monotonic()
            # It waits for the window from here on, and 0.45 s later the window for it. After 1 s it looks for one.
            application.execute(wanted)
            waited = time.monotonic() - began
            release.join()
            application.rollback()
            assert run.wait() == 0, run.stderr
        finally:
            run.end()
    assert 0.4 < waited < 1
    assert "deadlock detected" in run.stderr
    assert scenes.scalar(target_db, "SELECT count(*) FROM m WHERE v = 'x'") == 1000
