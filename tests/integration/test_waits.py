"""The application never pays: it writes all the time while windows run, and its worst wait is below a second."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.fixtures import scenes
from tests.fixtures.community import FUTURE, jobs_on
from tests.fixtures.pair import Pair
from tests.fixtures.scenes import Background, until
from tests.fixtures.writers import Script, Writers

DAYS = 24
PER_DAY = 3000
END = "2024-01-25T00:00:00Z"
MOST = 1.0  # seconds that the application may wait
LONG = 0.3  # seconds: a window that lasts longer than this counts
TABLE = (
    "CREATE TABLE m (time timestamptz NOT NULL, device int NOT NULL, n bigint NOT NULL, value float8, note text, "
    "UNIQUE (device, time, n))"
)

# Workers that wait for a lock of the application.
WAITING = (
    "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE datname = current_database() "
    "AND NOT granted AND locktype <> 'advisory' AND application_name LIKE 'hyperfill/%'"
)


def make(pair: Pair) -> None:
    """A hypertable with all that can make somebody wait: foreign key, unique key, indexes, triggers.

    The target has half of the newest two days already, with other values. Of the days before every second one has a
    chunk, and so has the day after.
    """
    pair.both(
        "CREATE TABLE devices (id int PRIMARY KEY, name text, seen bigint DEFAULT 0)",
        "INSERT INTO devices SELECT i, 'device ' || i FROM generate_series(0, 50) AS i",
        TABLE,
    )
    rows = (
        f"INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 day' / {PER_DAY}, i % 10, i, i / 3.0, "
        "'note ' || i FROM generate_series({}, {}, {}) AS i"
    )
    last = DAYS * PER_DAY - 1
    pair.on_source(rows.format(0, last, 1), "CREATE INDEX ON m (time)", "ANALYZE m")
    pair.on_target(
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        rows.format((DAYS - 2) * PER_DAY, last, 2),
        rows.format(0, (DAYS - 2) * PER_DAY - 1, 2 * PER_DAY),
        f"INSERT INTO m VALUES ('{END}', 0, -1)",
        "UPDATE m SET value = -1",
        "ALTER TABLE m ADD FOREIGN KEY (device) REFERENCES devices",
        "CREATE INDEX ON m (device, time DESC)",
        "CREATE INDEX ON m (note)",
        "CREATE TABLE audit (n bigint)",
        "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.n % 1000 = 0 THEN "
        "INSERT INTO audit VALUES (NEW.n); END IF; RETURN NULL; END'",
        "CREATE TRIGGER audit AFTER INSERT ON m FOR EACH ROW EXECUTE FUNCTION audit()",
    )


def insert(day: float, number: int, who: int) -> str:
    """A row of the application, of a key that nobody else has."""
    return (
        f"INSERT INTO m VALUES ('2024-01-01Z'::timestamptz + {day} * interval '1 day', {number % 10}, "
        f"{who * 10**9 + number}, 1, 'application')"
    )


def scripts(seed: int) -> dict[str, Script]:
    """One for each thing that must not wait. Only one of them makes chunks: two would be deadlocked by each other."""
    dice = random.Random(seed)

    def below() -> float:
        """Somewhere in a chunk that was there before, whether its window is done, runs, or comes later."""
        return dice.randrange(0, DAYS, 2) + dice.random()

    def new(number: int) -> float:
        """A chunk that there is not, below T as long as the run has not made them all."""
        return DAYS + 1 + number if number % 4 else 2 * (number // 4 % (DAYS // 2 - 1)) + 1

    return {
        "below": lambda i: [insert(below(), i, 1)],
        # Exactly T, and up to a day later.
        "after": lambda i: [insert(DAYS + (i % 50) / 50, i, 2)],
        # What is referenced first: the transaction then holds a lock that a new chunk's foreign key is in conflict
        # with, while it waits for whoever makes another one. A row that the others leave alone: without any run they
        # would be deadlocked with each other.
        "new chunks": lambda i: ["UPDATE devices SET seen = seen + 1 WHERE id = 50", insert(new(i), i, 3)],
        "referenced, new": lambda i: [f"INSERT INTO devices VALUES ({100 + i}, 'new')"],
        "referenced, updated": lambda i: [f"UPDATE devices SET name = 'number {i}' WHERE id = {i % 10}"],
        "both": lambda i: [
            insert(below(), i, 4),
            insert(DAYS + (i % 50) / 50, i, 4),
            f"INSERT INTO devices VALUES ({-i}, 'new')",
        ],
    }


def run_beside_writers(pair: Pair, folder: Path, check: Callable[[], None] | None = None) -> None:
    """Move everything while they write; nobody waits, and nobody is a victim. Then let somebody wait on purpose."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    with Writers(pair.target_conninfo, scripts(seed)) as writers:
        until(lambda: all(w.done > 5 for w in writers.waits.values()), 20, "all of them to write")
        writers.anew()
        before = {name: waits.done for name, waits in writers.waits.items()}
        run = Background.start(
            folder,
            "run",
            *scenes.arguments(pair.source_conninfo, pair.target_conninfo, "--json", end=END, table="m"),
            *("--jobs", "4", "--max-rate", "1MB", "--verify", "none"),
        )
        try:
            if check is not None:
                until(lambda: scenes.windows_done(pair.target_conninfo), 30, "a window")
                check()
            assert run.wait(90) == 0, (run.stderr, writers)
        finally:
            run.end()
        for name, waits in writers.waits.items():
            print(f"{name}: {waits.done - before[name]} transactions, worst wait {waits.worst:.3f} s ({waits.of[:60]})")
        lasted = [
            float(row[0])
            for row in pair.query(
                pair.target, "SELECT extract(epoch FROM finished_at - started_at) FROM hyperfill.windows ORDER BY 1"
            )
        ]
        print(f"windows lasted {lasted[0]:.2f} to {lasted[-1]:.2f} s")
        assert len([seconds for seconds in lasted if seconds > LONG]) >= 20
        for name, waits in writers.waits.items():
            assert waits.done - before[name] > 50, name
            assert waits.errors == [], name
            assert waits.worst < MOST, (name, waits.worst, waits.of)
        hold_a_chunk(pair, writers)


def hold_a_chunk(pair: Pair, writers: Writers) -> None:
    """The measure works: who writes into a locked chunk is seen to wait, and nobody else."""
    [(chunk,)] = pair.query(pair.target, f"SELECT show_chunks('m', newer_than => '{END}'::timestamptz) LIMIT 1")
    writers.anew()
    with psycopg.connect(pair.target_conninfo) as holder:
        holder.execute(f"LOCK TABLE {chunk} IN SHARE MODE".encode())
        time.sleep(1.5)
    until(lambda: writers.waits["after"].worst > 1.4, 10, "the wait to be seen")
    assert writers.waits["below"].worst < MOST


def test_nobody_waits(pair: Pair, tmp_path: Path) -> None:
    make(pair)
    run_beside_writers(pair, tmp_path)


@pytest.mark.community
def test_nobody_waits_with_compressed_chunks_aggregates_and_policies(policy_pair: Pair, tmp_path: Path) -> None:
    pair = policy_pair
    make(pair)
    pair.on_target(
        "ALTER TABLE m SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')",
        "SELECT compress_chunk(c) FROM show_chunks('m') AS c",
        "CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS SELECT time_bucket(interval '1 hour', time) "
        "AS t, device, count(*) AS n FROM m GROUP BY 1, 2 WITH NO DATA",
        "CALL refresh_continuous_aggregate('hourly', NULL, NULL)",
        f"SELECT add_compression_policy('m', interval '7 days', initial_start => '{FUTURE}')",
        "SELECT add_continuous_aggregate_policy('hourly', NULL, interval '1 hour', interval '5 seconds', "
        f"initial_start => '{FUTURE}')",
    )
    jobs = jobs_on(pair.target)

    def held() -> None:
        assert jobs_on(pair.target) == set()

    run_beside_writers(pair, tmp_path, held)
    assert jobs_on(pair.target) == jobs


def test_a_transaction_that_holds_what_new_chunks_need(pair: Pair, tmp_path: Path) -> None:
    """It has written into the referenced table and takes its time. While workers wait for it, others wait for them."""
    make(pair)
    both = scripts(1)
    seen = 0
    with (
        Writers(pair.target_conninfo, {name: both[name] for name in both if "referenced" in name}) as writers,
        psycopg.connect(pair.target_conninfo) as slow,
    ):
        slow.execute("UPDATE devices SET seen = 1 WHERE id = 49")
        run = Background.start(
            tmp_path, "run", *scenes.arguments(pair.source_conninfo, pair.target_conninfo, end=END, table="m"),
            *("--jobs", "4", "--verify", "none"),
        )  # fmt: skip
        try:
            until(lambda: pair.query(pair.target, WAITING)[0][0], 30, "somebody to wait for a lock")
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                seen = max(seen, int(pair.query(pair.target, WAITING)[0][0]))
            slow.commit()
            assert run.wait(60) == 0, run.stderr
        finally:
            run.end()
    print(writers)
    # One after the other, or the application would wait for all of them in turn.
    assert seen == 1
    for waits in writers.waits.values():
        assert waits.errors == []
        assert 0.3 < waits.worst < MOST, writers
