"""The relay on two real servers: content, big rows, errors on either side, early end, interruption."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from hyperfill.endpoint import RelayError
from hyperfill.relay import BLOCK, Throttle, relay
from hyperfill.session import connect
from tests.fixtures.pair import Pair

OUT = b"COPY (SELECT i, repeat('x', i %% 100) FROM generate_series(1, %d) AS i) TO STDOUT (FORMAT binary)"
INTO = b"COPY t FROM STDIN (FORMAT binary)"


@pytest.fixture
def ends(pair: Pair) -> Iterator[tuple[psycopg.Connection, psycopg.Connection]]:
    pair.on_target("CREATE TABLE t (i int PRIMARY KEY, x text)")
    source, target = connect(pair.source_conninfo, "source"), connect(pair.target_conninfo, "target")
    yield source, target
    source.close()  # not `with`: after an error one of them may still be in its COPY
    target.close()


def count(pair: Pair) -> int:
    row = pair.target.execute("SELECT count(*) FROM t").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("rows", [0, 1, 7, 100_000])
def test_every_row_arrives(pair: Pair, ends: tuple[psycopg.Connection, psycopg.Connection], rows: int) -> None:
    source, target = ends
    seen: list[int] = []
    relayed = relay(source.pgconn, target.pgconn, OUT % rows, INTO, progress=seen.append)
    assert (relayed.rows_sent, relayed.rows_taken, count(pair)) == (rows, rows, rows)
    assert relayed.bytes == seen[-1]
    assert source.execute("SELECT 1").fetchone() == target.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("size", [BLOCK - 30, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 30_000_000])
def test_rows_around_and_above_the_block_size(
    pair: Pair, ends: tuple[psycopg.Connection, psycopg.Connection], size: int
) -> None:
    source, target = ends
    out = b"COPY (SELECT i, repeat(chr(64 + i), %d) FROM generate_series(1, 3) AS i) TO STDOUT (FORMAT binary)" % size
    relay(source.pgconn, target.pgconn, out, INTO)
    found = pair.target.execute("SELECT x = repeat(chr(64 + i), %s) FROM t ORDER BY i", [size]).fetchall()
    assert found == [(True,)] * 3


def test_an_error_of_the_source_in_the_middle(pair: Pair, ends: tuple[psycopg.Connection, psycopg.Connection]) -> None:
    source, target = ends
    out = b"COPY (SELECT i, (1 / (50000 - i))::text FROM generate_series(1, 100000) AS i) TO STDOUT (FORMAT binary)"
    target.execute("BEGIN")
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, out, INTO)
    assert caught.value.server == "source"
    assert caught.value.error.sqlstate == "22012"
    target.execute("ROLLBACK")  # the target's connection is still of use
    assert count(pair) == 0


def test_an_error_of_the_target_ends_the_transfer_early(
    pair: Pair, ends: tuple[psycopg.Connection, psycopg.Connection]
) -> None:
    source, target = ends
    pair.on_target("INSERT INTO t VALUES (1, 'there already')")
    seen: list[int] = []
    throttle = Throttle(20_000_000, threading.Event())  # slow enough that the error is there long before the end
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, OUT % 3_000_000, INTO, progress=seen.append, throttle=throttle)
    assert caught.value.server == "target"
    assert caught.value.error.sqlstate == "23505"
    assert seen[-1] < 100_000_000  # of about 190 MB
    assert count(pair) == 1


def test_notices_are_no_errors(pair: Pair, ends: tuple[psycopg.Connection, psycopg.Connection]) -> None:
    source, target = ends
    pair.on_target(
        "CREATE FUNCTION speak() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE NOTICE 'row % of a talkative trigger', new.i; RETURN new; END $$",
        "CREATE TRIGGER speak BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION speak()",
    )
    target.execute("SET client_min_messages = notice")
    relay(source.pgconn, target.pgconn, OUT % 50_000, INTO)
    assert count(pair) == 50_000


def test_a_statement_that_is_no_copy(pair: Pair, ends: tuple[psycopg.Connection, psycopg.Connection]) -> None:
    source, target = ends
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, OUT % 1, b"COPY nowhere FROM STDIN (FORMAT binary)")
    assert caught.value.server == "target"
    assert caught.value.error.sqlstate == "42P01"


def test_cancel_from_another_thread(pair: Pair, ends: tuple[psycopg.Connection, psycopg.Connection]) -> None:
    source, target = ends
    out = b"COPY (SELECT i, pg_sleep(0.01)::text FROM generate_series(1, 100000) AS i) TO STDOUT (FORMAT binary)"
    threading.Timer(0.5, source.cancel_safe).start()
    started = time.monotonic()
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, out, INTO)
    assert caught.value.error.sqlstate == "57014"
    assert time.monotonic() - started < 60  # and not the 1 000 s that the COPY would take
    assert count(pair) == 0


def test_a_server_that_goes_away(pair: Pair, ends: tuple[psycopg.Connection, psycopg.Connection]) -> None:
    source, target = ends
    pid = target.info.backend_pid
    threading.Timer(0.5, lambda: pair.target.execute("SELECT pg_terminate_backend(%s)", [pid])).start()
    rows = b"SELECT i, pg_sleep(0.01)::text || repeat('x', 2000) FROM generate_series(1, 100000) AS i"
    out = b"COPY (%s) TO STDOUT (FORMAT binary)" % rows
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, out, INTO)
    assert caught.value.server == "target"
    assert count(pair) == 0
