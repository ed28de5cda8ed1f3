"""What goes through the relay is the same by both of its ways: rows of every form, errors, and what is left after."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any

import psycopg
import pytest
from psycopg import pq

from hyperfill import splice
from hyperfill.deadline import Stalled, hang_up
from hyperfill.endpoint import RelayError
from hyperfill.errors import is_transient
from hyperfill.relay import relay as relay_by_either
from hyperfill.splice import possible
from tests.fixtures.pair import Pair
from tests.fixtures.relaying import Ends, Relay

# The columns of a table, and its rows as a query. A header is x'64' and the length: here in the data, where one might
# be looked for.
TABLES = {
    "equal": ("i int, v float8", "SELECT i, i::float8 / 7 FROM generate_series(1, 60000) AS i"),
    "varying": ("i int, x text", "SELECT i, repeat('ab', i * 7919 % 61) FROM generate_series(1, 40000) AS i"),
    "nulls": ("i int, v float8", "SELECT i, nullif(i % 100, 0)::float8 FROM generate_series(1, 40000) AS i"),
    "all null": ("i int, x text", "SELECT NULL::int, NULL::text FROM generate_series(1, 40000) AS i"),
    "mostly equal": (
        "i int, x text",
        "SELECT i, repeat('y', 20 + (i % 1013 = 0)::int) FROM generate_series(1, 60000) AS i",
    ),
    "none": ("i int, x text", "SELECT 1, '' WHERE false"),
    "no columns": ("", "SELECT FROM generate_series(1, 50000)"),
    "like headers": (
        "i int, b bytea",
        "SELECT i, decode(repeat('6400000014', i % 5) || repeat('64', i % 7) || repeat('5a0000000549', i % 3), 'hex')"
        " FROM generate_series(1, 40000) AS i",
    ),
    "large between small": (
        "i int, x text",
        "SELECT i, repeat('z', CASE WHEN i % 1000 = 0 THEN 250000 + i * 7 ELSE i % 3 END)"
        " FROM generate_series(1, 9000) AS i",
    ),
}


@pytest.mark.parametrize("wire", ["binary", "text"])
@pytest.mark.parametrize("name", TABLES)
def test_rows_of_every_form(pair: Pair, ends: Ends, name: str, wire: str) -> None:
    columns, rows = TABLES[name]
    pair.on_target(f"CREATE TABLE sockets ({columns})", f"CREATE TABLE libpq ({columns})")
    source, target = ends
    out = f"COPY ({rows}) TO STDOUT (FORMAT {wire})".encode()
    assert possible(source.pgconn, target.pgconn)
    relayed = [
        relay_by_either(
            source.pgconn,
            target.pgconn,
            out,
            b"COPY public.%s FROM STDIN (FORMAT %s)" % (way, wire.encode()),
            splice=new,
        )
        for way, new in ((b"sockets", True), (b"libpq", False))
    ]
    assert relayed[0] == relayed[1]  # the bytes as well: they stand in the ledger
    assert pair.source.execute(f"SELECT count(*) FROM ({rows}) AS r").fetchone() == (relayed[0].rows_taken,)
    digest = "SELECT md5(string_agg(r::text, ',' ORDER BY r::text)) FROM"
    expected = pair.source.execute(f"{digest} ({rows}) AS r").fetchone()
    for way in ("sockets", "libpq"):
        assert pair.target.execute(f"{digest} {way} AS r").fetchone() == expected


@pytest.mark.parametrize("size", [16, 37, 1000])
def test_messages_are_cut_anywhere(pair: Pair, ends: Ends, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(splice, "SIZE", size)
    monkeypatch.setattr(splice, "GATHER", size // 4)
    source, target = ends
    rows = "SELECT i, repeat('d', CASE i % 7 WHEN 1 THEN i * 3 ELSE i / 100 END) FROM generate_series(1, 999) AS i"
    out, into = (b"COPY (%s) TO STDOUT (FORMAT binary)", b"COPY public.t FROM STDIN (FORMAT binary)")
    relayed = relay_by_either(source.pgconn, target.pgconn, out % rows.encode(), into)
    assert relayed.rows_sent == relayed.rows_taken == 999
    digest = "SELECT md5(string_agg(r::text, ',' ORDER BY r::text)) FROM"
    assert (
        pair.target.execute(f"{digest} t AS r").fetchone() == pair.source.execute(f"{digest} ({rows}) AS r").fetchone()
    )
    with pytest.raises(RelayError) as caught:
        relay_by_either(
            source.pgconn, target.pgconn, out % b"SELECT i, 1 / (i - 99) FROM generate_series(1, 200) AS i", into
        )
    assert caught.value.error.sqlstate == "22012"
    assert source.execute("SELECT 1").fetchone() == (1,)


def told(error: psycopg.Error) -> tuple[Any, ...]:
    """All that an error says."""
    names = [n for n in dir(error.diag) if not n.startswith("_")]
    return type(error), error.sqlstate, str(error), {n: getattr(error.diag, n) for n in names}


def test_an_error_of_the_source_is_the_same_by_both_ways(pair: Pair, ends: Ends) -> None:
    pair.on_source(
        "CREATE FUNCTION choke(i int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN "
        "IF i = 30000 THEN RAISE EXCEPTION 'too much: %', repeat('ä', 300000) "
        "USING DETAIL = 'so it is', HINT = 'take less', ERRCODE = 'HF123', TABLE = 'x'; END IF; RETURN i; END $$"
    )
    source, target = ends
    for statement, state in (("public.choke(i)", "HF123"), ("(1 / (30000 - i))::text", "22012"), ("nothing", "42703")):
        out = f"COPY (SELECT i, {statement} FROM generate_series(1, 60000) AS i) TO STDOUT (FORMAT binary)".encode()
        said = []
        for new in (True, False):
            target.execute("BEGIN")
            with pytest.raises(RelayError) as caught:
                relay_by_either(
                    source.pgconn, target.pgconn, out, b"COPY public.t FROM STDIN (FORMAT binary)", splice=new
                )
            assert caught.value.server == "source"
            target.execute("ROLLBACK")
            assert source.execute("SELECT 1").fetchone() == (1,)  # read to the end: of use for the next window
            said.append(told(caught.value.error))
        assert said[0][1] == state
        if state == "42703":  # libpq draws the place in the statement, which nobody has written
            assert said[0][2] == said[1][2].splitlines()[0]
            said = [(*one[:2], one[3]) for one in said]
        assert said[0] == said[1]


SLOW = b"COPY (SELECT i, pg_sleep(0.01)::text || repeat('x', 2000) FROM generate_series(1, 9000) AS i) TO STDOUT"
INTO = b"COPY public.t FROM STDIN"


def after_rows(seconds: float, action: Any) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def test_a_source_that_is_killed(pair: Pair, ends: Ends, relay: Relay) -> None:
    source, target = ends
    pid = source.info.backend_pid
    after_rows(0.4, lambda: pair.source.execute("SELECT pg_terminate_backend(%s)", [pid]))
    target.execute("BEGIN")
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, SLOW, INTO)
    # libpq may find the connection gone before it looks at what the server said last.
    assert caught.value.server == "source" and caught.value.error.sqlstate in ("57P01", None)
    assert is_transient(caught.value.error)
    assert source.pgconn.transaction_status != pq.TransactionStatus.IDLE  # a worker opens another
    target.execute("ROLLBACK")


def test_a_source_that_is_hung_up_on(ends: Ends, relay: Relay) -> None:
    source, target = ends
    after_rows(0.4, lambda: hang_up(source))
    target.execute("BEGIN")
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, SLOW, INTO)
    assert (caught.value.server, caught.value.error.sqlstate) == ("source", None)
    assert is_transient(caught.value.error)
    assert source.pgconn.transaction_status != pq.TransactionStatus.IDLE
    target.execute("ROLLBACK")


def test_a_target_that_is_hung_up_on(ends: Ends, relay: Relay) -> None:
    source, target = ends
    after_rows(0.4, lambda: hang_up(target))
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, SLOW, INTO)
    assert caught.value.server == "target"
    assert is_transient(caught.value.error)
    # The source still has rows to give.
    assert source.pgconn.transaction_status != pq.TransactionStatus.IDLE


def test_what_the_source_says_besides(pair: Pair, ends: Ends, relay: Relay) -> None:
    pair.on_source(
        "CREATE FUNCTION speak(i int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN "
        "IF i % 3 = 0 THEN RAISE NOTICE 'row %', i; ELSIF i % 3 = 1 THEN RAISE WARNING 'row %', i; END IF; "
        "PERFORM set_config('application_name', 'row ' || i, false); RETURN i; END $$"
    )
    source, target = ends
    source.execute("SET client_min_messages = notice")
    out = b"COPY (SELECT i, public.speak(i) FROM generate_series(1, 20000) AS i) TO STDOUT"
    assert relay(source.pgconn, target.pgconn, out, INTO).rows_taken == 20000
    assert source.execute("SHOW application_name").fetchone() == ("row 20000",)


def test_a_statement_of_the_source_that_is_no_copy(ends: Ends, relay: Relay) -> None:
    source, target = ends
    for statement in (b"SELECT 1", b"SET work_mem = '8MB'", b""):
        if source.closed:
            break
        target.execute("BEGIN")
        with pytest.raises(RelayError) as caught:
            relay(source.pgconn, target.pgconn, statement, INTO)
        assert caught.value.server == "source"
        target.execute("ROLLBACK")


def test_a_source_of_which_nothing_moves(ends: Ends, relay: Relay) -> None:
    source, target = ends
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, b"COPY (SELECT 1, pg_sleep(20)) TO STDOUT", INTO, stall=1)
    assert caught.value.server == "source" and isinstance(caught.value.error, Stalled)
    assert target.execute("SELECT 1").fetchone() == (1,)
    assert source.pgconn.transaction_status != pq.TransactionStatus.IDLE


def test_a_target_of_which_nothing_moves_ends_in_the_middle_of_a_message(pair: Pair, ends: Ends, relay: Relay) -> None:
    pair.on_target(
        "CREATE FUNCTION doze() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(6); RETURN new; END $$",
        "CREATE TRIGGER doze BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION doze()",
    )
    source, target = ends
    out = b"COPY (SELECT i, repeat('x', 5000) FROM generate_series(1, 20000) AS i) TO STDOUT"
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, out, INTO, stall=1)
    assert caught.value.server == "target" and isinstance(caught.value.error, Stalled)
    assert target.pgconn.transaction_status != pq.TransactionStatus.IDLE


def test_whoever_watches_may_end_it_between_two_blocks(pair: Pair, ends: Ends, relay: Relay) -> None:
    def enough(passed: int) -> None:
        if passed > 3_000_000:
            raise KeyboardInterrupt

    source, target = ends
    out = b"COPY (SELECT i, repeat('x', 500) FROM generate_series(1, 40000) AS i) TO STDOUT"
    target.execute("BEGIN")
    with pytest.raises(KeyboardInterrupt):
        relay(source.pgconn, target.pgconn, out, INTO, progress=enough)
    target.execute("ROLLBACK")
    assert source.pgconn.transaction_status != pq.TransactionStatus.IDLE
    assert pair.target.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_target_that_fails_while_it_is_waited_for(pair: Pair, ends: Ends, relay: Relay) -> None:
    pair.on_target(
        "CREATE FUNCTION choke() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(0.5); RAISE EXCEPTION 'too much' USING ERRCODE = 'HF123'; END $$",
        "CREATE TRIGGER choke BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION choke()",
    )
    source, target = ends
    seen: list[int] = []
    out = b"COPY (SELECT i, repeat('x', 500) FROM generate_series(1, 1000000) AS i) TO STDOUT"
    with pytest.raises(RelayError) as caught:
        relay(source.pgconn, target.pgconn, out, INTO, progress=seen.append)
    assert (caught.value.server, caught.value.error.sqlstate) == ("target", "HF123")
    assert seen[-1] < 250_000_000  # of 500 MB: what goes through in a moment, and not all of it


def test_memory_does_not_grow_with_rows(ends: Ends) -> None:
    source, target = ends
    row = b"COPY (SELECT 1, repeat('x', 50000000)) TO STDOUT"
    rows = b"COPY (SELECT i, repeat('x', i % 300) FROM generate_series(2, 200000) AS i) TO STDOUT"
    for out in (row, rows):
        tracemalloc.start()
        relay_by_either(source.pgconn, target.pgconn, out, INTO)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000, out


def test_only_an_idle_source_is_read_without_libpq(pair: Pair, ends: Ends) -> None:
    source, target = ends
    source.execute("BEGIN")
    assert not possible(source.pgconn, target.pgconn)
    out = b"COPY (SELECT i, 'x' FROM generate_series(1, 10) AS i) TO STDOUT"
    assert relay_by_either(source.pgconn, target.pgconn, out, INTO).rows_taken == 10
    source.execute("ROLLBACK")
    source.pgconn.send_query(b"SELECT 1")
    assert not possible(source.pgconn, target.pgconn)
