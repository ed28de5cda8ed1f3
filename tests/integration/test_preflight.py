"""Every reason not to start is found before the first write: servers, names, rights, columns."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from hyperfill.sandbox import Server
from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import T, arguments, assert_equal_below, execute, make_metrics, nothing_written, with_options
from tests.fixtures.servers import Servers

Findings = list[dict[str, Any]]
_numbers = itertools.count(1)


def refused(hyperfill: Hyperfill, *options: str) -> Findings:
    """The errors of a `run` that must be refused."""
    ended = hyperfill("run", *options, "--json")
    assert ended.returncode == 3, (ended.stdout, ended.stderr)
    report = json.loads(ended.stdout)
    assert report["state"] == "refused"
    errors = [f for f in report["findings"] if f["severity"] == "error"]
    for error in errors:
        assert error["message"] in ended.stderr
    return errors


def done(hyperfill: Hyperfill, *options: str) -> Findings:
    """The findings of a `run` that must do everything."""
    ended = hyperfill("run", *options, "--json")
    assert ended.returncode == 0, ended.stderr
    findings: Findings = json.loads(ended.stdout)["findings"]
    return findings


def only(findings: Findings, code: str) -> str:
    """Message and hint of the single finding, which must have this code."""
    assert [f["code"] for f in findings] == [code], findings
    return str(findings[0]["message"]) + "\n" + str(findings[0].get("hint", ""))


def find(findings: Findings, code: str, severity: str) -> str:
    """Message and hint of the finding with this code and severity."""
    [found] = [f for f in findings if (f["code"], f["severity"]) == (code, severity)]
    return str(found["message"]) + "\n" + str(found.get("hint", ""))


@pytest.fixture
def role(source_db: str, target_db: str) -> Iterator[str]:
    """A role without any right, on both servers; its password is its name."""
    name = f"nobody_{os.getpid()}_{next(_numbers)}"
    for side in (source_db, target_db):
        execute(side, f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
    yield name
    for side in (source_db, target_db):
        execute(side, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


def as_role(conninfo: str, role: str) -> str:
    return with_options(conninfo, user=role, password=role)


def grant_least(source: str, target: str, role: str) -> None:
    """What the manual asks for, and nothing more."""
    execute(source, f"GRANT SELECT ON metrics TO {role}")
    execute(target, f"GRANT SELECT, INSERT, DELETE ON metrics TO {role}")
    database = scenes.scalar(target, "SELECT quote_ident(current_database())")
    execute(target, f"GRANT CREATE ON DATABASE {database} TO {role}")


def test_source_and_target_are_the_same(hyperfill: Hyperfill, source_db: str, target_db: str, role: str) -> None:
    make_metrics(source_db, target_db, overlap=10)
    chunk = scenes.scalar(target_db, "SELECT show_chunks('metrics')::text ORDER BY 1 LIMIT 1")
    grant_least(source_db, target_db, role)
    execute(target_db, f"GRANT SELECT ON ALL TABLES IN SCHEMA _timescaledb_internal TO {role}")
    elsewhere = with_options(target_db, host="localhost")
    nobody = as_role(target_db, role)
    with nothing_written(target_db):
        for source, table in ((target_db, "metrics"), (elsewhere, "metrics"), (nobody, "metrics"), (elsewhere, chunk)):
            options = arguments(source, target_db, "--hypertable", "metrics", "--replace", table=table)
            text = only(refused(hyperfill, *options), "same-relation")
            assert "source and target are the same" in text


def test_source_and_target_are_the_same_where_the_cluster_has_no_name(
    hyperfill: Hyperfill, source_db: str, target_db: str, role: str
) -> None:
    """Some services do not let a role call pg_control_system()."""
    make_metrics(source_db, target_db, overlap=10)
    grant_least(source_db, target_db, role)
    execute(target_db, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    nobody = as_role(target_db, role)
    with nothing_written(target_db):
        only(refused(hyperfill, *arguments(nobody, nobody)), "same-relation")


def test_a_table_beside_the_hypertable_is_a_source(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    execute(
        target_db,
        "CREATE TABLE old AS SELECT '2024-01-02T00:00:00Z'::timestamptz + i * interval '1 hour' AS time, "
        "i::bigint AS id, i::float8 AS value, 'old' AS note FROM generate_series(1, 100) i",
        "CREATE INDEX ON old (time)",
    )
    done(hyperfill, *arguments(target_db, target_db, "--hypertable", "metrics", table="old"))
    assert scenes.fingerprint(target_db, table="old") == scenes.fingerprint(target_db, f"time < '{T}'")


def test_what_is_no_hypertable(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, overlap=10)
    chunk = scenes.scalar(target_db, "SELECT show_chunks('metrics')::text ORDER BY 1 LIMIT 1")
    execute(
        target_db,
        "CREATE VIEW looks AS SELECT * FROM metrics",
        "CREATE MATERIALIZED VIEW stale AS SELECT * FROM metrics",
        "CREATE TABLE plain (LIKE metrics)",
        "CREATE TABLE parts (LIKE metrics) PARTITION BY RANGE (time)",
        "CREATE SCHEMA a CREATE TABLE twice (LIKE public.metrics)",
        "CREATE SCHEMA b CREATE TABLE twice (LIKE public.metrics)",
    )
    with nothing_written(target_db):
        for name, said in (
            ("public.looks", "public.looks is a view, not a hypertable"),
            ("public.stale", "public.stale is a materialized view, not a hypertable"),
            ("public.plain", "public.plain is a plain table, not a hypertable"),
            ("public.parts", "public.parts is a plain table, not a hypertable"),
            (chunk, "is a chunk of the hypertable public.metrics: name the hypertable"),
            ("public.missing", "the target has no table or view public.missing"),
            ("missing", "the target has no table or view missing in any schema"),
            ("twice", "twice could be any of a.twice, b.twice"),
            ('"Metrics"', 'the target has no table or view "Metrics"'),
            ("public.metrics" + "s" * 60, "the target has no table or view"),
            ('"\'; drop table metrics; --"', "the target has no table or view"),
        ):
            assert said in only(
                refused(hyperfill, *arguments(source_db, target_db, "--hypertable", name)), "hypertable"
            )
        text = only(
            refused(hyperfill, *arguments(source_db, target_db, "--hypertable", "metrics", table="nowhere.metrics")),
            "table",
        )
        assert "--table: the source has no table or view nowhere.metrics" in text
    text = only(refused(hyperfill, *arguments(target_db, source_db)), "hypertable")
    assert "has no TimescaleDB" in text


@pytest.mark.community
def test_a_continuous_aggregate_is_no_hypertable(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db)
    server = os.environ["HYPERFILL_TEST_COMMUNITY"]
    name = f"cli_{os.getpid()}_{next(_numbers)}"
    execute(server, f"CREATE DATABASE {name}")
    community = with_options(server, dbname=name)
    try:
        execute(
            community,
            "CREATE EXTENSION IF NOT EXISTS timescaledb",
            "CREATE TABLE metrics (time timestamptz NOT NULL, id bigint NOT NULL, value float8, note text)",
            "SELECT create_hypertable('metrics', 'time', chunk_time_interval => interval '1 day')",
            "CREATE MATERIALIZED VIEW daily WITH (timescaledb.continuous) AS "
            "SELECT time_bucket('1 day', time) AS time, "
            "count(*) AS id FROM metrics GROUP BY 1 WITH NO DATA",
        )
        below = scenes.scalar(
            community,
            "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) "
            "FROM timescaledb_information.continuous_aggregates",
        )
        with nothing_written(community):
            for hypertable, said in (
                ("public.daily", "public.daily is a continuous aggregate: fill the hypertable below it"),
                (below, "is the materialization of the continuous aggregate public.daily"),
            ):
                options = arguments(source_db, community, "--hypertable", hypertable)
                assert said in only(refused(hyperfill, *options), "hypertable")
        done(hyperfill, *arguments(source_db, community))
        assert_equal_below(source_db, community)
    finally:
        execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def test_rights_on_the_source(hyperfill: Hyperfill, source_db: str, target_db: str, role: str) -> None:
    make_metrics(source_db, target_db)
    execute(source_db, "CREATE SCHEMA private", "CREATE TABLE private.metrics (LIKE metrics)")
    execute(source_db, f"GRANT SELECT ON private.metrics TO {role}")
    source = as_role(source_db, role)
    with nothing_written(target_db):
        errors = refused(hyperfill, *arguments(source, target_db))
        assert {f["code"] for f in errors} == {"rights"}
        assert any("may not SELECT column time of the source" in f["message"] for f in errors)
        execute(source_db, f"GRANT SELECT (time, id, value) ON metrics TO {role}")
        text = only(refused(hyperfill, *arguments(source, target_db)), "rights")
        assert "may not SELECT column note of the source" in text
        options = arguments(source, target_db, "--hypertable", "metrics", table="private.metrics")
        assert any("may not use schema private of the source" in f["message"] for f in refused(hyperfill, *options))
    done(hyperfill, *arguments(source, target_db, "--columns", "time,id,value"))


def test_rights_on_the_target(hyperfill: Hyperfill, source_db: str, target_db: str, role: str) -> None:
    make_metrics(source_db, target_db, overlap=10)
    target = as_role(target_db, role)
    options = arguments(source_db, target)
    database = scenes.scalar(target_db, "SELECT quote_ident(current_database())")
    with nothing_written(target_db):
        errors = refused(hyperfill, *options)
        assert {f["code"] for f in errors} == {"rights", "ledger"}
        texts = "\n".join(f["message"] for f in errors)
        for said in (
            f"role {role} lacks SELECT, DELETE on public.metrics",
            "may not INSERT into column id of the target",
            f"role {role} may not create the ledger",
        ):
            assert said in texts
        execute(target_db, f"GRANT SELECT, INSERT (time, id, value) ON metrics TO {role}")
        texts = "\n".join(f["message"] for f in refused(hyperfill, *options))
        assert "lacks DELETE on" in texts
        assert "may not INSERT into column note" in texts and "may not INSERT into column id" not in texts
        execute(target_db, f"GRANT SELECT, INSERT, DELETE ON metrics TO {role}")
        only(refused(hyperfill, *options), "ledger")
    execute(target_db, f"GRANT CREATE ON DATABASE {database} TO {role}")
    execute(source_db, f"GRANT SELECT ON metrics TO {role}")
    findings = done(hyperfill, *arguments(as_role(source_db, role), target, "--jobs", "2"))
    assert f"role {role} does not own public.metrics" in find(findings, "analyze", "note")
    assert_equal_below(source_db, target_db)


def test_a_ledger_of_another_role(hyperfill: Hyperfill, source_db: str, target_db: str, role: str) -> None:
    make_metrics(source_db, target_db)
    middle = "2024-01-05T00:00:00Z"
    done(hyperfill, *arguments(source_db, target_db, end=middle))
    grant_least(source_db, target_db, role)
    before = scenes.physical(target_db)
    options = arguments(as_role(source_db, role), as_role(target_db, role), "--start", middle)
    ended = hyperfill("status", "--target", as_role(target_db, role))
    assert (ended.returncode, "may not read the ledger" in ended.stderr) == (3, True), ended.stderr
    errors = refused(hyperfill, *options)
    assert {f["code"] for f in errors} == {"ledger"}
    assert scenes.physical(target_db) == before
    # The hints say what to do; what they say is enough.
    execute(
        target_db,
        f"GRANT USAGE ON SCHEMA hyperfill TO {role}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA hyperfill TO {role}",
    )
    done(hyperfill, *options)
    assert_equal_below(source_db, target_db)


def test_row_level_security(hyperfill: Hyperfill, source_db: str, target_db: str, role: str) -> None:
    make_metrics(source_db, target_db, overlap=10)
    grant_least(source_db, target_db, role)
    source, target = as_role(source_db, role), as_role(target_db, role)
    secure = [
        "ALTER TABLE metrics ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY thirds ON metrics TO {role} USING (id % 3 = 0)",
    ]
    with nothing_written(target_db):
        execute(source_db, *secure)
        assert "on the source hides rows of public.metrics" in only(
            refused(hyperfill, *arguments(source, target)), "row-security"
        )
        execute(target_db, *secure)
        errors = refused(hyperfill, *arguments(source, target))
        assert [f["code"] for f in errors] == ["row-security"] * 2
        assert "on the target hides rows of public.metrics" in errors[1]["message"]
    for side in (source_db, target_db):
        execute(side, f"ALTER ROLE {role} BYPASSRLS")
    done(hyperfill, *arguments(source, target))
    assert_equal_below(source_db, target_db)


def test_connections(hyperfill: Hyperfill, source_db: str, target_db: str, role: str) -> None:
    make_metrics(source_db, target_db, overlap=10)
    grant_least(source_db, target_db, role)
    options = arguments(as_role(source_db, role), as_role(target_db, role))
    with nothing_written(target_db):
        for side in (source_db, target_db):
            execute(side, f"ALTER ROLE {role} CONNECTION LIMIT 3")
        errors = refused(hyperfill, *options, "--jobs", "4")
        assert [f["code"] for f in errors] == ["connections"] * 2
        assert "the source has 2 free connections for this role, and 4 workers need" in errors[0]["message"]
        assert "the target has 2 free" in errors[1]["message"]
    # Just enough: one for the command itself, one for each worker.
    done(hyperfill, *options, "--jobs", "2", "--max-window-rows", "50")
    assert_equal_below(source_db, target_db)


def test_connections_of_one_server_for_both_sides(
    hyperfill: Hyperfill,
    source_db: str,
    target_db: str,
    role: str,
    servers: Servers,
    new_database: Callable[[Server], str],
) -> None:
    """Source and target in one cluster: every worker needs two of the same connections."""
    beside = new_database(servers.target)
    make_metrics(beside, target_db)
    execute(source_db, "CREATE TABLE metrics ()")
    grant_least(source_db, target_db, role)
    execute(beside, f"GRANT SELECT ON metrics TO {role}")
    try:
        execute(target_db, f"ALTER ROLE {role} CONNECTION LIMIT 6")
        options = arguments(as_role(beside, role), as_role(target_db, role))
        with nothing_written(target_db):
            errors = refused(hyperfill, *options, "--jobs", "4")
        assert "connections" in {f["code"] for f in errors}
        done(hyperfill, *options, "--jobs", "2")
    finally:
        execute(beside, f"DROP OWNED BY {role}")


def test_a_target_that_is_read_only(hyperfill: Hyperfill, source_db: str, target_db: str) -> None:
    make_metrics(source_db, target_db, overlap=10)
    database = scenes.scalar(target_db, "SELECT quote_ident(current_database())")
    with nothing_written(target_db):
        execute(target_db, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        assert "the target is read-only" in only(refused(hyperfill, *arguments(source_db, target_db)), "read-only")
        # For a source it is nothing special.
        database = scenes.scalar(source_db, "SELECT quote_ident(current_database())")
        execute(source_db, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        only(refused(hyperfill, *arguments(source_db, target_db)), "read-only")
    with psycopg.connect(target_db, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        name = connection.execute("SELECT quote_ident(current_database())").fetchone()
        assert name
        connection.execute(f"ALTER DATABASE {name[0]} RESET default_transaction_read_only".encode())
    done(hyperfill, *arguments(source_db, target_db))
    assert_equal_below(source_db, target_db)
