"""The relay on two real servers, both ways: content, big rows, errors on either side, early end, interruption."""

from __future__ import annotations

import threading
import time

import pytest

from hyperfill.endpoint import RelayError
from hyperfill.relay import BLOCK, Throttle
from hyperfill.splice import HEADER, SIZE
from tests.fixtures.pair import Pair
from tests.fixtures.relaying import Ends, Relay

OUT = b"COPY (SELECT i, repeat('x', i %% 100) FROM generate_series(1, %d) AS i) TO STDOUT (FORMAT binary)"
INTO = b"COPY t FROM STDIN (FORMAT binary)"


# What a row of an integer and a text has besides the text, as a message.
FRAME = HEADER + 2 + 4 + 4 + 4


def count(pair: Pair) -> int:
    row = pair.target.execute("SELECT count(*) FROM t").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("rows", [0, 1, 7, 100_000])
def test_every_row_arrives(pair: Pair, relay: Relay, ends: Ends, rows: int) -> None:
    source, target = ends
    seen: list[int] = []
    relayed = relay(source.pgconn, target.pgconn, OUT % rows, INTO, progress=seen.append)
    assert (relayed.rows_sent, relayed.rows_taken, count(pair)) == (rows, rows, rows)
    assert relayed.bytes == seen[-1]
    assert source.execute("SELECT 1").fetchone() == target.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    "size", [BLOCK - 1, BLOCK, SIZE - FRAME - 1, SIZE - FRAME, SIZE - FRAME + 1, 300_000, 30_000_000]
)
def test_rows_around_and_above_the_block_size(pair: Pair, relay: Relay, ends: Ends, size: int) -> None:
    source, target = ends
    out = b"COPY (SELECT i, repeat(chr(64 + i), %d) FROM generate_series(1, 3) AS i) TO STDOUT (FORMAT binary)" % size
    relay(source.pgconn, target.pgconn, out, INTO)
    found = pair.target.execute("SELECT x = repeat(chr(64 + i), %s) FROM t ORDER BY i", [size]).fetchall()
    assert found == [(True,)] * 3


def test_an_error_of_the_source_in_the_middle(pair: Pair, relay: Relay, ends: Ends) -> None:
    source, target = ends
    out = b"COPY (SELECT i, (1 / (50000 - i))::text FROM generate_series(1, 100000) AS i) TO STDOUT (FORMAT binary)"
    target.execute("BEGIN")
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, out, INTO)
    assert caught.value.server == "source"
    assert caught.value.error.sqlstate == "22012"
    target.execute("ROLLBACK")  # the target's connection is still of use
    assert count(pair) == 0


def test_an_error_of_the_target_ends_the_transfer_early(pair: Pair, relay: Relay, ends: Ends) -> None:
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


def test_notices_are_no_errors(pair: Pair, relay: Relay, ends: Ends) -> None:
    source, target = ends
    pair.on_target(
        "CREATE FUNCTION speak() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE NOTICE 'row % of a talkative trigger', new.i; RETURN new; END $$",
        "CREATE TRIGGER speak BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION speak()",
    )
    target.execute("SET client_min_messages = notice")
    relay(source.pgconn, target.pgconn, OUT % 50_000, INTO)
    assert count(pair) == 50_000


def test_a_statement_that_is_no_copy(pair: Pair, relay: Relay, ends: Ends) -> None:
    source, target = ends
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, OUT % 1, b"COPY nowhere FROM STDIN (FORMAT binary)")
    assert caught.value.server == "target"
    assert caught.value.error.sqlstate == "42P01"


def test_cancel_from_another_thread(pair: Pair, relay: Relay, ends: Ends) -> None:
    source, target = ends
    out = b"COPY (SELECT i, pg_sleep(0.01)::text FROM generate_series(1, 100000) AS i) TO STDOUT (FORMAT binary)"
    threading.Timer(0.5, source.cancel_safe).start()
    started = time.monotonic()
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, out, INTO)
    assert caught.value.error.sqlstate == "57014"
    assert time.monotonic() - started < 60  # and not the 1 000 s that the COPY would take
    assert count(pair) == 0


def test_a_server_that_goes_away(pair: Pair, relay: Relay, ends: Ends) -> None:
    source, target = ends
    pid = target.info.backend_pid
    threading.Timer(0.5, lambda: pair.target.execute("SELECT pg_terminate_backend(%s)", [pid])).start()
    rows = b"SELECT i, pg_sleep(0.01)::text || repeat('x', 2000) FROM generate_series(1, 100000) AS i"
    out = b"COPY (%s) TO STDOUT (FORMAT binary)" % rows
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, out, INTO)
    assert caught.value.server == "target"
    assert count(pair) == 0
