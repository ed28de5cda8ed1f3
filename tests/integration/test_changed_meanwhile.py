"""What somebody changes under a running backfill: chunks, columns, names, rights. Nothing is lost, and it is said."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import Background, arguments, assert_equal_below, execute, make_metrics, until

RIGHTS = (
    "GRANT USAGE ON SCHEMA public TO {role}",
    "GRANT SELECT, INSERT, DELETE ON metrics TO {role}",
)


class Site:
    """A backfill of ten windows that is halfway, slowly."""

    def __init__(self, source: str, target: str, folder: Path) -> None:
        self.source, self.target, self.folder = source, target, folder
        self.options = arguments(source, target, "--jobs", "1", "--json")
        self.run: Background

    def start(self, *more: str, windows: int = 2, rate: str = "16kB") -> Background:
        """Until some windows are done; about a quarter of a second for each."""
        self.run = Background.start(self.folder, "run", *self.options, "--max-rate", rate, *more)
        until(lambda: scenes.windows_done(self.target) >= windows or self.run.process.poll() is not None, 60, "windows")
        assert self.run.process.poll() is None, self.run.stderr
        return self.run

    def failed(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = self.run.report["failed_windows"]
        return found

    def count(self, where: str = "true") -> int:
        return int(scenes.scalar(self.target, f"SELECT count(*) FROM metrics WHERE {where}"))


@pytest.fixture
def site(source_db: str, target_db: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(source_db, target_db, tmp_path)
    yield made
    with contextlib.suppress(AttributeError):
        made.run.end()


def make_source_hypertable(source: str) -> None:
    execute(
        source,
        "CREATE EXTENSION timescaledb",
        "SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day', migrate_data => true)",
        "ANALYZE metrics",
    )


def test_chunks_of_the_source_that_are_dropped_meanwhile(site: Site, hyperfill: Hyperfill) -> None:
    """Windows done, windows without and windows with dual-written rows: 2024-01-01 to 03, 04 to 08, 09 and 10."""
    make_metrics(site.source, site.target, overlap=120)
    make_source_hypertable(site.source)
    run = site.start(windows=3)
    execute(site.source, "SELECT drop_chunks('metrics', older_than => '2024-01-10T00:00:00Z'::timestamptz)")
    assert run.wait(60) == 4, run.stderr
    # What was moved before, and what only the dual-writer has, is there. What was never moved is gone: that is said.
    assert site.count("time < '2024-01-04Z'") == 300
    assert site.count("note = 'dual'") == 120 - run.report["rows_deleted"] > 0
    assert "the source has no chunk here any more, and had about 100 rows when this was planned" in run.stderr
    [failed] = site.failed()
    assert "the target has" in str(failed["message"]) and "and the source only 0: nothing was deleted" in str(failed)
    assert "retention" in str(failed["hint"])
    before = site.count()
    # The same command says the same: it is the user who knows which side is right.
    assert hyperfill("run", *site.options).returncode == 4
    assert site.count() == before


def test_chunks_of_the_source_that_are_dropped_after_they_were_moved(site: Site, hyperfill: Hyperfill) -> None:
    make_metrics(site.source, site.target)
    make_source_hypertable(site.source)
    run = site.start(windows=4)
    execute(site.source, "SELECT drop_chunks('metrics', older_than => '2024-01-04T00:00:00Z'::timestamptz)")
    assert run.wait(60) == 5, run.stderr
    assert "any more" not in run.stderr
    assert site.count("time < '2024-01-10T12:00:00Z'") == 950
    assert hyperfill("run", *site.options).returncode == 5
    repaired = hyperfill("repair", *site.options)
    assert repaired.returncode == 3 and "--replace" in repaired.stderr
    ended = hyperfill("run", *site.options, "--verify", "none")
    assert ended.returncode == 0, ended.stderr
    assert site.count("time < '2024-01-10T12:00:00Z'") == 950


COLUMN = "of public.metrics on the target is gone or of another type than when this run began"
TABLE = "public.metrics on the target is another relation now than when this run began"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE metrics DROP note", COLUMN),
        ("ALTER TABLE metrics ALTER value TYPE real", COLUMN),
        # As many bytes: binary COPY takes them for another number, without a word.
        ("ALTER TABLE metrics ALTER value TYPE bigint", COLUMN),
        pytest.param("ALTER TABLE metrics RENAME note TO remark", COLUMN, marks=pytest.mark.long),
        pytest.param("ALTER TABLE metrics RENAME TO other", TABLE, marks=pytest.mark.long),
        ("DROP TABLE metrics", TABLE),
    ],
)
def test_a_target_that_is_altered_while_windows_run(site: Site, change: str, said: str) -> None:
    """No window can be moved any more: the run stops, instead of failing one after another."""
    make_metrics(site.source, site.target, overlap=60)
    run = site.start()
    execute(site.target, change)
    assert run.wait(60) == 4, run.stderr
    assert said in run.stderr and "Traceback" not in run.stderr
    assert "failed_windows" not in run.report or len(site.failed()) == 1
    # The window that met it, and not only the comparison at the end.
    assert scenes.scalar(site.target, "SELECT count(*) FROM hyperfill.windows WHERE state <> 'done'") > 0


@pytest.mark.parametrize(
    "change", ["ALTER TABLE metrics DROP note", pytest.param("DROP TABLE metrics", marks=pytest.mark.long)]
)
def test_a_target_that_is_altered_between_two_runs(site: Site, hyperfill: Hyperfill, change: str) -> None:
    make_metrics(site.source, site.target, overlap=60)
    site.start().end()
    until(lambda: not scenes.sessions(site.target), 20, "its sessions to end")
    execute(site.target, change)
    ended = hyperfill("run", *site.options)
    assert ended.returncode == 3, ended.stderr
    assert "Traceback" not in ended.stderr and "hyperfill: refused" in ended.stderr


@pytest.mark.long
def test_a_column_that_is_added_does_not_matter(site: Site) -> None:
    make_metrics(site.source, site.target, overlap=60)
    run = site.start()
    execute(site.target, "ALTER TABLE metrics ADD extra int DEFAULT 7")
    assert run.wait(60) == 0, run.stderr
    assert_equal_below(site.source, site.target)
    assert site.count("extra <> 7 OR extra IS NULL") == 0


def test_a_target_that_is_dropped_and_made_again(site: Site, hyperfill: Hyperfill) -> None:
    """Another hypertable of the same name: the run stops, and the same command begins anew."""
    make_metrics(site.source, site.target, overlap=60)
    run = site.start()
    execute(
        site.target,
        "BEGIN; CREATE TABLE made (LIKE metrics); "
        "SELECT create_hypertable('made', 'time', chunk_time_interval => interval '1 day'); "
        "DROP TABLE metrics; ALTER TABLE made RENAME TO metrics; COMMIT",
    )
    assert run.wait(60) == 4, run.stderr
    assert "metrics on the target is another relation now than when this run began" in run.stderr
    ended = hyperfill("run", *site.options)
    assert ended.returncode == 0, ended.stderr
    assert_equal_below(site.source, site.target)
    states = scenes.rows(site.target, "SELECT phase FROM hyperfill.backfills ORDER BY id")
    assert states == [("planned",), ("done",)] or states == [("held",), ("done",)]


def test_a_chunk_of_the_target_that_is_dropped_meanwhile(site: Site, hyperfill: Hyperfill) -> None:
    """Of a window that is done: the comparison says so, and repair brings it back. Of one to come: nothing is lost."""
    make_metrics(site.source, site.target, overlap=120)
    run = site.start(windows=3)
    execute(site.target, "SELECT drop_chunks('metrics', older_than => '2024-01-03T00:00:00Z'::timestamptz)")
    chunk = scenes.scalar(
        site.target,
        "SELECT c::text FROM show_chunks('metrics', newer_than => '2024-01-09T00:00:00Z'::timestamptz) c LIMIT 1",
    )
    execute(site.target, f"DROP TABLE {chunk}")
    assert run.wait(60) == 5, run.stderr
    differing = {w["lower"][:10] for w in run.report["verification"]["differences"]}
    assert differing == {"2024-01-01", "2024-01-02"}
    ended = hyperfill("repair", *site.options)
    assert ended.returncode == 0, ended.stderr
    assert_equal_below(site.source, site.target)


# -- rights ----------------------------------------------------------------------------------------------------


@pytest.fixture
def role(site: Site) -> Iterator[str]:
    """A role that may just do it on both sides, and whose connections the site uses."""
    name = f"runner_{random.randrange(10**9)}"
    make_metrics(site.source, site.target, overlap=60)
    database = scenes.scalar(site.target, "SELECT quote_ident(current_database())")
    for side in (site.source, site.target):
        execute(side, f"CREATE ROLE {name} LOGIN PASSWORD 'x'", *(r.format(role=name) for r in RIGHTS))
    execute(site.target, f"GRANT CREATE ON DATABASE {database} TO {name}")
    execute(site.target, f"GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA _timescaledb_internal TO {name}")
    site.options = arguments(
        *(scenes.with_options(side, user=name, password="x") for side in (site.source, site.target)),
        "--jobs",
        "1",
        "--json",
    )
    yield name
    with contextlib.suppress(AttributeError):
        site.run.end()
    for side in (site.source, site.target):
        execute(side, f"REASSIGN OWNED BY {name} TO postgres", f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest.mark.parametrize(
    ("side", "right", "on"),
    [
        ("source", "SELECT", "metrics"),
        pytest.param("target", "INSERT", "metrics", marks=pytest.mark.long),
        ("target", "DELETE", "metrics"),
    ],
)
def test_a_right_that_is_revoked_in_the_middle(
    site: Site, role: str, hyperfill: Hyperfill, side: str, right: str, on: str
) -> None:
    run = site.start()
    conninfo = site.source if side == "source" else site.target
    execute(conninfo, f"REVOKE {right} ON {on} FROM {role}")
    done = scenes.windows_done(site.target)
    assert run.wait(60) == 4, run.stderr
    assert "Traceback" not in run.stderr and "trying again" not in run.stderr
    failed = site.failed()
    assert {(f["server"], f["sqlstate"]) for f in failed} == {(side, "42501")}
    assert {f["hint"] for f in failed} == {"the role lost a right since the run began: grant it again"}
    total = scenes.scalar(site.target, "SELECT count(*) FROM hyperfill.windows")
    if right == "DELETE":  # needed only where there is something to delete
        assert done < scenes.windows_done(site.target) == total - len(failed)
    refused = hyperfill("run", *site.options)
    assert refused.returncode == 3, refused.stderr
    execute(conninfo, f"GRANT {right} ON {on} TO {role}")
    ended = hyperfill("run", *site.options)
    assert ended.returncode == 0, ended.stderr
    assert_equal_below(site.source, site.target)


def test_the_ledger_is_taken_away_in_the_middle(site: Site, role: str, hyperfill: Hyperfill) -> None:
    run = site.start()
    execute(site.target, f"ALTER SCHEMA hyperfill OWNER TO postgres; REVOKE USAGE ON SCHEMA hyperfill FROM {role}")
    assert run.wait(60) == 4, run.stderr
    assert "permission denied for schema hyperfill" in run.stderr and "Traceback" not in run.stderr
    refused = hyperfill("run", *site.options)
    assert refused.returncode == 3
    assert "GRANT USAGE ON SCHEMA hyperfill" in refused.stderr
    execute(site.target, f"GRANT USAGE ON SCHEMA hyperfill TO {role}")
    ended = hyperfill("run", *site.options)
    assert ended.returncode == 0, ended.stderr
    assert_equal_below(site.source, site.target)


# -- connections -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [pytest.param("source", marks=pytest.mark.long), "target"])
def test_no_connection_is_free_when_a_worker_comes_back(site: Site, role: str, side: str) -> None:
    """Its session is ended, and meanwhile others take the place: tried again until one is free."""
    run = site.start(windows=1)
    conninfo = site.source if side == "source" else site.target
    ours = f"application_name ~ '^hyperfill/[0-9]' AND usename = '{role}' AND datname = current_database()"
    execute(
        conninfo,
        f"ALTER ROLE {role} CONNECTION LIMIT 0",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}",
    )
    until(lambda: "too many connections for role" in run.stderr, 30, "the limit to be met")
    assert f"cannot connect to the {side}" in run.stderr and "trying again" in run.stderr
    execute(conninfo, f"ALTER ROLE {role} CONNECTION LIMIT -1")
    assert run.wait(60) == 0, run.stderr
    assert_equal_below(site.source, site.target)


def test_no_connection_is_free_for_too_long(site: Site, role: str, hyperfill: Hyperfill) -> None:
    run = site.start("--retry-for", "2s", windows=1)
    execute(
        site.source,
        f"ALTER ROLE {role} CONNECTION LIMIT 0",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'",
    )
    assert run.wait(60) == 4, run.stderr
    assert "one connection on the source and one on the target for each of --jobs" in run.stderr
    refused = hyperfill("run", *site.options)
    assert refused.returncode == 3
    assert "cannot connect to the source" in refused.stderr and "CONNECTION LIMIT" in refused.stderr
    execute(site.source, f"ALTER ROLE {role} CONNECTION LIMIT -1")
    assert hyperfill("run", *site.options).returncode == 0
    assert_equal_below(site.source, site.target)


# -- timeouts --------------------------------------------------------------------------------------------------


def test_timeouts_of_the_role_are_not_felt(site: Site, role: str) -> None:
    """Not in a window that takes longer: a session sets its own. But it has to get so far."""
    settings = {"statement_timeout": "150ms", "idle_in_transaction_session_timeout": "100ms", "lock_timeout": "1ms"}
    for side in (site.source, site.target):
        execute(side, *(f"ALTER ROLE {role} SET {name} = '{value}'" for name, value in settings.items()))
    run = site.start(rate="9kB")
    with psycopg.connect(site.source) as other:
        other.execute("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE")
        waiting = (
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'hyperfill/%'"
        )
        until(lambda: scenes.rows(site.source, waiting), 20, "a window to wait")
    assert run.wait(60) == 0, run.stderr
    assert "trying again" not in run.stderr
    assert_equal_below(site.source, site.target)


def test_a_full_server_at_the_start(site: Site, hyperfill: Hyperfill) -> None:
    make_metrics(site.source, site.target)
    with contextlib.ExitStack() as stack, scenes.nothing_written(site.target):
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            for _ in range(300):
                stack.enter_context(psycopg.connect(site.source))
        refused = hyperfill("run", *site.options)
        assert refused.returncode == 3, refused.stderr
        assert "cannot connect to the source" in refused.stderr and "too many clients" in refused.stderr
        assert "one connection on the source and one on the target for each of --jobs" in refused.stderr


@pytest.mark.community
def test_a_retention_policy_of_the_source_that_runs_meanwhile(
    policy_db: str, target_db: str, tmp_path: Path, hyperfill: Hyperfill
) -> None:
    site = Site(policy_db, target_db, tmp_path)
    make_metrics(site.source, site.target, overlap=60)
    execute(
        site.source,
        "SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day', migrate_data => true)",
        "SELECT add_retention_policy('metrics', interval '1 day', initial_start => '2099-01-01Z')",
    )
    refused = hyperfill("run", *site.options)
    assert refused.returncode == 3 and "may drop" in refused.stderr
    run = site.start("--accept-retention", windows=3)
    try:
        job = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'"
        execute(site.source, f"CALL run_job({scenes.scalar(site.source, job)})")
        assert run.wait(60) == 4, run.stderr
    finally:
        run.end()
    assert "the source has no chunk here any more" in run.stderr
    assert site.count("note = 'dual'") == 60
