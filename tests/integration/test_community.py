"""What needs the community edition: compressed chunks in the overlap, uuid v7. And both editions make chunks."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from hyperfill.timeline import TIME_TYPES, uuid_of_milliseconds
from tests.fixtures.cli import Hyperfill
from tests.fixtures.pair import Pair, connect, open_pair

CHUNK_WRITERS = """
SELECT count(*) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'm'::regclass AND c.xmin::text IN (SELECT xmin::text FROM m)
"""


@pytest.fixture
def community_pair(source_db: str, hyperfill: Hyperfill) -> Iterator[Pair]:
    """A source on the embedded server, and a target on the server that HYPERFILL_TEST_COMMUNITY names."""
    server = os.environ["HYPERFILL_TEST_COMMUNITY"]
    name = f"hyperfill_test_{os.getpid()}"
    identifier = sql.Identifier(name)
    with connect(server) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
        try:
            target = psycopg.conninfo.make_conninfo(server, dbname=name)
            with connect(target) as connection:
                connection.execute("CREATE EXTENSION timescaledb")
            yield from open_pair(source_db, target, hyperfill)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


def make_readings(pair: Pair, rows: int) -> None:
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, device int NOT NULL, value float8)")
    pair.on_source(
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 second', i % 7, i / 3.0"
        f" FROM generate_series(0, {rows - 1}) AS i",
        "CREATE INDEX ON m (time)",
        "ANALYZE m",
    )
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")


def assert_equal_below(pair: Pair, end: str) -> None:
    digest = f"SELECT count(*), sum(hashtextextended(m::text, 0)) FROM m WHERE time < '{end}'"
    assert pair.query(pair.target, digest) == pair.query(pair.source, digest)


@pytest.mark.community
def test_compressed_chunks_in_the_overlap(community_pair: Pair) -> None:
    """More rows than a DELETE may decompress by default, and a chunk that T cuts in two."""
    pair = community_pair
    make_readings(pair, 300_000)
    pair.on_target(
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 second', -1, -1"
        " FROM generate_series(0, 299999) AS i",
        "ALTER TABLE m SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')",
        "SELECT compress_chunk(c) FROM show_chunks('m') AS c",
    )
    end = "2024-01-04T06:00:00Z"  # the last of four chunks ends at 11:20 that day
    after = f"SELECT count(*), min(time), max(time), min(value), max(value) FROM m WHERE time >= '{end}'"
    before = pair.query(pair.target, after)
    assert before[0][0] == 300_000 - 280_800
    assert pair.refused("m", "--end", end, "--columns", "time,value")
    report = pair.run("m", "--end", end, jobs=2)
    assert (report["rows_copied"], report["rows_deleted"]) == (280_800, 280_800)
    assert_equal_below(pair, end)
    assert pair.query(pair.target, after) == before


@pytest.mark.community
def test_a_uuid_v7_hypertable(community_pair: Pair) -> None:
    """Bounds are moments; the rows of the end's millisecond stay where they are."""
    pair = community_pair
    text = TIME_TYPES["uuid"].text
    pair.both("CREATE TABLE m (id uuid NOT NULL, n int)")
    pair.on_source("CREATE INDEX ON m (id)")
    pair.on_target("SELECT create_hypertable('m', 'id', chunk_time_interval => interval '1 day')")
    start = 1_704_067_200_000  # 2024-01-01 00:00 UTC
    day = 86_400_000
    version, variant = 7 << 76, 2 << 62
    edges = [start, start + day, start + 2 * day, start + 3 * day - 1]
    ids = []
    for edge in edges:
        lowest = uuid_of_milliseconds(edge) + version + variant
        ids += [lowest - (1 << 80), lowest - (1 << 80) + 99, lowest, lowest + 1]
    for number, one in enumerate(sorted(set(ids))):
        pair.source.execute("INSERT INTO m VALUES (%s, %s)", [text(one), number])
        if number % 2:
            pair.target.execute("INSERT INTO m VALUES (%s, -1)", [text(one)])
    bounds = ("--start", "2024-01-01T00:00:00Z", "--end", "2024-01-03T23:59:59.999Z")
    # The server itself understands no other literals than valid ones.
    lower, upper = (text(uuid_of_milliseconds(edge) + version + variant) for edge in (edges[0], edges[-1]))
    inside = f"id >= '{lower}' AND id < '{upper}'"
    before = pair.physical("m", f"NOT ({inside})")
    assert len(before) == 2
    report = pair.run("m", *bounds, jobs=2)
    assert pair.physical("m", f"NOT ({inside})") == before
    assert len(pair.same("m", "id, n", inside)) == 12 == report["rows_copied"]
    assert report["windows"]["total"] == 3


@pytest.mark.community
def test_chunks_are_made_beforehand_by_the_community_edition(community_pair: Pair) -> None:
    make_readings(community_pair, 200_000)
    assert community_pair.run("m", "--end", "2024-01-31T00:00:00Z", jobs=2)["rows_copied"] == 200_000
    assert_equal_below(community_pair, "2024-01-31T00:00:00Z")
    assert community_pair.query(community_pair.target, CHUNK_WRITERS) == [(0,)]
    assert community_pair.query(community_pair.target, "SELECT count(*) FROM show_chunks('m')") == [(3,)]


def test_chunks_are_made_beforehand_by_the_apache_edition(pair: Pair) -> None:
    if pair.query(pair.target, "SHOW timescaledb.license") != [("apache",)]:
        pytest.skip("the embedded server has the community edition")
    make_readings(pair, 200_000)
    assert pair.run("m", "--end", "2024-01-31T00:00:00Z", jobs=2)["rows_copied"] == 200_000
    assert_equal_below(pair, "2024-01-31T00:00:00Z")
    assert pair.query(pair.target, CHUNK_WRITERS) == [(0,)]
    assert pair.query(pair.target, "SELECT count(*) FROM show_chunks('m')") == [(3,)]


def test_a_uuid_hypertable_of_a_server_that_cannot_is_refused(pair: Pair) -> None:
    """Before TimescaleDB 2.24 there is none; with a partitioning function it is no time column that we know."""
    pair.both("CREATE TABLE m (id uuid NOT NULL, n int)")
    pair.on_target(
        "CREATE FUNCTION moment(uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE"
        " AS $$ SELECT to_timestamp(('x' || left($1::text, 8))::bit(32)::bigint) $$",
        "SELECT create_hypertable('m', 'id', time_partitioning_func => 'moment')",
    )
    assert pair.refused("m", "--end", "2024-01-01T00:00:00Z") == {"hypertable"}
