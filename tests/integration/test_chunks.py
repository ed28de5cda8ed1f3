"""Chunks are created before the window that fills them, leave no row behind and reach no trigger."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from hyperfill import session
from hyperfill.chunks import ChunkMaker
from hyperfill.prepare import prepare
from hyperfill.source import ServerSource
from hyperfill.spec import Spec
from hyperfill.timeline import Span
from hyperfill.window import Order
from tests.fixtures.pair import Pair

TABLE = "CREATE TABLE m (time timestamptz NOT NULL, device int NOT NULL, value float8 CHECK (value > 0), note text)"
ROWS = (
    "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', i % 24, i + 1, 'x' "
    "FROM generate_series(0, 95) AS i"
)


def order_of(pair: Pair) -> Order:
    spec = Spec(source=pair.source_conninfo, target=pair.target_conninfo, table="m", end="2024-02-01Z")
    prepared = prepare(spec, 1)
    assert not prepared.errors
    assert prepared.order is not None
    return prepared.order


def create_all(pair: Pair, order: Order) -> ChunkMaker:
    maker = ChunkMaker(order)
    first = order.target.time_type.ordinal("2024-01-01 00:00:00+00")
    day = 86_400_000_000
    with (
        session.connect(pair.source_conninfo, "source") as source,
        session.connect(order.target_conninfo, "target") as target,
    ):
        for number in range(4):
            window = Span(first + number * day, first + (number + 1) * day)
            cells = maker.missing(window, 24)
            assert len(cells) == 1
            maker.create(ServerSource(source, order), target, cells, window)
            assert maker.missing(window, 24) == []  # not tried twice
    return maker


def chunk_count(pair: Pair) -> int:
    row = pair.target.execute(
        "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'm'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def row_count(pair: Pair, table: str) -> int:
    row = pair.target.execute(
        psycopg.sql.SQL("SELECT count(*) FROM {}").format(psycopg.sql.Identifier(table))
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_one_chunk_for_each_cell_and_no_row(pair: Pair) -> None:
    pair.both(TABLE)
    pair.on_source(ROWS, "CREATE INDEX ON m (time)")
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")
    create_all(pair, order_of(pair))
    assert chunk_count(pair) == 4
    assert row_count(pair, "m") == 0


def test_every_space_partition(pair: Pair) -> None:
    pair.both(TABLE)
    pair.on_source(ROWS, "CREATE INDEX ON m (time)")
    pair.on_target(
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        "SELECT add_dimension('m', 'device', number_partitions => 3)",
    )
    create_all(pair, order_of(pair))
    assert chunk_count(pair) == 12
    assert row_count(pair, "m") == 0


def test_triggers_see_nothing(pair: Pair) -> None:
    pair.both(TABLE)
    pair.on_source(ROWS, "CREATE INDEX ON m (time)")
    pair.on_target(
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        "CREATE TABLE seen (what text)",
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO seen VALUES (tg_op); RETURN coalesce(new, old); END $$",
        "CREATE TRIGGER see BEFORE INSERT OR DELETE ON m FOR EACH ROW EXECUTE FUNCTION see()",
    )
    order = order_of(pair)
    assert order.has_triggers
    create_all(pair, order)
    assert chunk_count(pair) == 4
    assert row_count(pair, "seen") == 0


def test_a_role_that_may_not_switch_triggers_off_leaves_the_chunk_to_its_window(pair: Pair) -> None:
    pair.both(TABLE)
    pair.on_source(ROWS, "CREATE INDEX ON m (time)")
    name = psycopg.conninfo.conninfo_to_dict(pair.target_conninfo)["dbname"]
    role = f"plain_{name}"
    pair.on_target(
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret'",
        f"GRANT SELECT, INSERT, DELETE ON m TO {role}",
    )
    try:
        conninfo = psycopg.conninfo.make_conninfo(pair.target_conninfo, user=role, password="secret")
        order = replace(order_of(pair), target_conninfo=conninfo, has_triggers=True)
        maker = ChunkMaker(order)
        first = order.target.time_type.ordinal("2024-01-01 00:00:00+00")
        window = Span(first, first + 86_400_000_000)
        with (
            session.connect(pair.source_conninfo, "source") as source,
            session.connect(order.target_conninfo, "target") as target,
        ):
            maker.create(ServerSource(source, order), target, maker.missing(window, 24), window)
            assert target.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert chunk_count(pair) == 0
        assert maker.missing(Span(window.upper, window.upper + 1), 24) == []  # it gave up for good
    finally:
        pair.on_target(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_pattern_that_no_row_may_look_like_is_no_error(pair: Pair) -> None:
    pair.both(TABLE)
    pair.on_source(ROWS, "CREATE INDEX ON m (time)")
    pair.on_target(
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        "ALTER TABLE m ADD CHECK (note IS NOT NULL)",
    )
    create_all(pair, order_of(pair))
    assert chunk_count(pair) == 0
    report = pair.run("m", "--end", "2024-02-01Z")
    assert report["rows_copied"] == 96


def test_the_first_row_may_be_huge(pair: Pair) -> None:
    """The pattern is taken without the columns that may be NULL: a first row of 20 MB is not sent as SQL."""
    pair.both(TABLE)
    pair.on_source(
        "INSERT INTO m VALUES ('2024-01-01Z', 1, 1, repeat('x', 20000000))", ROWS, "CREATE INDEX ON m (time)"
    )
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")
    maker = create_all(pair, order_of(pair))
    assert maker._patterns is not None
    assert max(len(value or "") for row in maker._patterns for value in row) < 100
    assert chunk_count(pair) == 4


@pytest.mark.parametrize("estimate", [0, -1])
def test_nothing_is_created_for_a_window_that_looks_empty(pair: Pair, estimate: int) -> None:
    pair.both(TABLE)
    pair.on_source(ROWS, "CREATE INDEX ON m (time)")
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")
    maker = ChunkMaker(order_of(pair))
    assert maker.missing(Span(None, 0), estimate) == []


def test_a_lock_that_stays_held_is_not_left_to_the_window(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would get it in the end, and keep it as long as it lasts."""
    monkeypatch.setattr("hyperfill.chunks._PATIENCE", 0.1)
    pair.both("CREATE TABLE devices (id int PRIMARY KEY)", "INSERT INTO devices SELECT generate_series(0, 23)", TABLE)
    pair.on_source(ROWS, "CREATE INDEX ON m (time)")
    pair.on_target(
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        "ALTER TABLE m ADD FOREIGN KEY (device) REFERENCES devices",
    )
    order = order_of(pair)
    maker = ChunkMaker(order)
    first = order.target.time_type.ordinal("2024-01-01 00:00:00+00")
    window = Span(first, first + 86_400_000_000)
    with (
        session.connect(pair.source_conninfo, "source") as source,
        session.connect(order.target_conninfo, "target") as target,
        psycopg.connect(pair.target_conninfo) as application,
    ):
        application.execute("INSERT INTO devices VALUES (24)")
        cells = maker.missing(window, 24)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            maker.create(ServerSource(source, order), target, cells, window)
        assert maker.missing(window, 24) == cells
        application.commit()
        maker.create(ServerSource(source, order), target, cells, window)
        assert maker.missing(window, 24) == []
    assert chunk_count(pair) == 1


def test_a_chunk_that_cannot_be_made_fails_its_window_alone(pair: Pair) -> None:
    """The others, whose chunks are there, go on; and the reason is said."""
    pair.both("CREATE TABLE devices (id int PRIMARY KEY)", "INSERT INTO devices SELECT generate_series(0, 23)", TABLE)
    pair.on_source(ROWS, "CREATE INDEX ON m (time)")
    pair.on_target(
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 day', i, 1 FROM generate_series(0, 2) AS i",
        "ALTER TABLE m ADD FOREIGN KEY (device) REFERENCES devices",
    )
    with psycopg.connect(pair.target_conninfo) as application:
        application.execute("INSERT INTO devices VALUES (24)")
        code, report, errors = pair.command("run", "m", "--end", "2024-02-01Z", "--jobs", "1", "--retry-for", "1s")
    assert code == 4, errors
    assert (report["windows"]["failed"], report["rows_copied"]) == (1, 72), report
    [failed] = report["failed_windows"]
    assert (failed["sqlstate"], failed["lower"]) == ("55P03", "2024-01-04 00:00:00+00")
    assert "Traceback" not in errors
    assert pair.run("m", "--end", "2024-02-01Z")["rows_copied"] == 96
