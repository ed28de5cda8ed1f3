"""Compressed chunks in the range: moved exactly once, in nobody's way, and as they were at the end."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psycopg
import pytest

from tests.fixtures.pair import Pair, Row
from tests.fixtures.scenes import Background, until

pytestmark = pytest.mark.community

START = "2024-01-01Z"
END = "2024-01-04T06:00:00Z"  # the last of four chunks ends at 11:20 that day
_SERIES = f"'{START}'::timestamptz + i * interval '1 second'"
_COPYING = (
    "SELECT count(*) FROM pg_stat_progress_copy AS p JOIN pg_stat_activity AS a USING (pid)"
    " WHERE a.datname = current_database()"
)
STATUS = "SELECT c::text, _timescaledb_functions.chunk_status(c) FROM show_chunks('m') AS c ORDER BY 1"


def make(pair: Pair, rows: int = 300_000, *, segmentby: str = "device") -> None:
    """`m` with `rows` rows a second apart on the source, and as many others on the target, compressed."""
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, device int, value float8)")
    pair.on_source(
        f"INSERT INTO m SELECT {_SERIES}, nullif(i % 7, 3), i / 3.0 FROM generate_series(0, {rows - 1}) AS i",
        "CREATE INDEX ON m (time)",
        "ANALYZE m",
    )
    pair.on_target(
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        f"INSERT INTO m SELECT {_SERIES}, nullif(i % 5, 2), -1 FROM generate_series(0, {rows - 1}) AS i",
        f"ALTER TABLE m SET (timescaledb.compress, timescaledb.compress_segmentby = '{segmentby}')",
        "SELECT compress_chunk(c) FROM show_chunks('m') AS c",
    )


def statuses(pair: Pair) -> list[int]:
    """The status of every chunk, in time order."""
    return [int(row[1]) for row in pair.query(pair.target, STATUS)]


def assert_moved(pair: Pair, end: str = END) -> None:
    digest = f"SELECT count(*), sum(hashtextextended(m::text, 0)) FROM m WHERE time < '{end}'"
    assert pair.query(pair.target, digest) == pair.query(pair.source, digest)


def start(pair: Pair, folder: Path, *options: str) -> Background:
    """The same backfill in the background."""
    ends = ("--source", pair.source_conninfo, "--target", pair.target_conninfo, "--table", "m", "--json")
    return Background.start(folder, "run", *ends, *options)


def test_300_000_overlapping_rows_and_a_partial_chunk(policy_pair: Pair) -> None:
    """More rows than a DELETE may decompress by default. A partial chunk stays one; so does the chunk of the end."""
    pair = policy_pair
    make(pair)
    pair.on_target("INSERT INTO m VALUES ('2024-01-02 12:00Z', 1, 1)")
    assert statuses(pair) == [1, 9, 1, 1]
    after = f"SELECT count(*), sum(hashtextextended(m::text, 0)) FROM m WHERE time >= '{END}'"
    before = pair.query(pair.target, after)
    plan = pair.plan("m", "--end", END)
    assert plan["chunks"] == {"compressed": 3, "partial": 1, "plain": 0}
    report = pair.run("m", "--end", END, "--max-window-rows", "20000", "--replace", jobs=4)
    assert (report["rows_copied"], report["rows_deleted"]) == (280_800, 280_801)
    assert_moved(pair)
    assert pair.query(pair.target, after) == before
    assert statuses(pair) == [1, 9, 1, 9]
    notes = [f["message"] for f in report["findings"] if f["code"] == "recompress"]
    assert len(notes) == 2 and any("contains the end" in n for n in notes), notes
    recorded = "SELECT status, recompressed_at IS NOT NULL FROM hyperfill.chunk_states ORDER BY lower"
    assert pair.query(pair.target, recorded) == [(1, True), (9, False), (1, True), (1, False)]


def test_without_recompress(policy_pair: Pair) -> None:
    make(policy_pair, 100_000)
    policy_pair.run("m", "--end", "2024-01-03Z", "--no-recompress", jobs=2)
    assert statuses(policy_pair) == [9, 9]
    assert_moved(policy_pair, "2024-01-03Z")


def test_an_application_that_writes_into_the_chunk_does_not_wait(policy_pair: Pair) -> None:
    """It writes below and above the range, into every chunk that windows work on."""
    pair = policy_pair
    make(pair, segmentby="")
    pair.on_target("TRUNCATE m")
    pair.on_target(
        f"INSERT INTO m SELECT {_SERIES}, 1, -1 FROM generate_series(0, 299999) AS i",
        "SELECT compress_chunk(c) FROM show_chunks('m') AS c",
    )
    stop = threading.Event()
    waits: list[float] = []
    errors: list[BaseException] = []

    def write() -> None:
        try:
            with psycopg.connect(pair.target_conninfo, autocommit=True) as application:
                # Not before: its own first insert would make the chunk partial.
                while not stop.is_set() and application.execute(_COPYING).fetchone() == (0,):
                    stop.wait(0.01)
                while not stop.wait(0.002):
                    begun = time.monotonic()
                    application.execute("INSERT INTO m VALUES ('2024-01-04 06:00Z', 77, 1)")
                    waits.append(time.monotonic() - begun)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        # Few and slow windows: one that made its chunk partial itself would hold the application for seconds.
        options = ("--start", "2024-01-04T00:00:00Z", "--end", END, "--max-rate", "250kB", "--max-window-rows", "30000")
        report = pair.run("m", *options, jobs=2)
    finally:
        stop.set()
        thread.join(30)
    assert not errors
    assert report["rows_copied"] == 6 * 3600
    assert report["seconds"] > 1.5
    print(f"{len(waits)} inserts, the longest wait {max(waits):.3f} s, window run {report['seconds']} s")
    assert len(waits) > 50
    assert max(waits) < 1.2
    written = pair.query(pair.target, "SELECT count(*) FROM m WHERE device = 77")
    assert written == [(len(waits),)]


def test_windows_of_one_compressed_chunk_go_to_one_worker(policy_pair: Pair, tmp_path: Path) -> None:
    pair = policy_pair
    make(pair, 80_000)  # all in one chunk
    run = start(pair, tmp_path, "--end", "2024-01-02Z", "--max-window-rows", "8000", "--jobs", "4", "--max-rate", "1MB")
    together: set[int] = set()
    try:
        while run.process.poll() is None:
            together.add(int(str(pair.query(pair.target, _COPYING)[0][0])))
            time.sleep(0.005)
    finally:
        run.end()
    assert run.wait() == 0, run.stderr
    assert run.report["windows"]["done"] == run.report["windows"]["total"] >= 8
    assert max(together) == 1
    assert_moved(pair, "2024-01-02Z")
    assert statuses(pair) == [1]


def test_kill_9_while_chunks_are_compressed_again(policy_pair: Pair, tmp_path: Path) -> None:
    """An open transaction of the application is in the way, the command is killed, and run again."""
    pair = policy_pair
    make(pair)
    chunks: list[Row] = pair.query(pair.target, STATUS)
    with psycopg.connect(pair.target_conninfo) as application:
        run = start(pair, tmp_path, "--end", END, "--jobs", "1")
        try:
            until(lambda: sum(statuses(pair)) > 9, 60, "partial chunks")
            # From here on the second chunk cannot be compressed, and the first can.
            application.execute(f"LOCK TABLE {chunks[1][0]} IN ROW EXCLUSIVE MODE")
            done = "SELECT count(*) FROM hyperfill.chunk_states WHERE recompressed_at IS NOT NULL"
            until(lambda: pair.query(pair.target, done) == [(1,)], 60, "one chunk")
            phase = "SELECT phase FROM hyperfill.backfills"
            assert pair.query(pair.target, phase) == [("moved",)]
        finally:
            run.end()
        application.rollback()
    digest = pair.query(pair.target, "SELECT count(*), sum(hashtextextended(m::text, 0)) FROM m")
    report = pair.run("m", "--end", END)
    assert statuses(pair) == [1, 1, 1, 9]
    assert pair.query(pair.target, "SELECT count(*), sum(hashtextextended(m::text, 0)) FROM m") == digest
    assert (report["rows_copied"], report["rows_deleted"]) == (280_800, 280_800)
    assert_moved(pair)
    assert pair.query(pair.target, phase) == [("done",)]


def test_what_could_not_be_compressed_is_tried_again(policy_pair: Pair) -> None:
    """A run that left chunks partial went on to the next phase, and ended there: the next one compresses them."""
    pair = policy_pair
    make(pair, 100_000)
    pair.run("m", "--end", "2024-01-03Z", "--no-recompress", jobs=2)
    assert statuses(pair) == [9, 9]
    pair.on_target("UPDATE hyperfill.backfills SET phase = 'recompressed', finished_at = NULL")
    pair.run("m", "--end", "2024-01-03Z", jobs=2)
    assert statuses(pair) == [1, 1]


def test_triggers_off(policy_pair: Pair) -> None:
    pair = policy_pair
    make(pair, 1000)
    pair.on_target(
        "CREATE TABLE seen (n int)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO seen VALUES (1); RETURN NULL; END'",
        "CREATE TRIGGER note AFTER INSERT ON m FOR EACH ROW EXECUTE FUNCTION note()",
    )
    pair.run("m", "--end", "2024-01-02Z", "--triggers", "off")
    assert pair.query(pair.target, "SELECT count(*) FROM seen") == [(0,)]
    pair.run("m", "--end", "2024-01-02Z", "--again")
    assert pair.query(pair.target, "SELECT count(*) FROM seen") == [(1000,)]
    assert_moved(pair, "2024-01-02Z")


def test_a_role_that_may_not_compress_is_refused(policy_pair: Pair) -> None:
    pair = policy_pair
    make(pair, 1000)
    role = f"hyperfill_plain_{pair.target.info.dbname.rsplit('_', 2)[1]}"
    pair.on_target(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT CREATE ON DATABASE {pair.target.info.dbname} TO {role}",
        f"GRANT ALL ON m TO {role}",
    )
    try:
        pair.target_conninfo = psycopg.conninfo.make_conninfo(pair.target_conninfo, user=role)
        code, report, _ = pair.command("run", "m", "--end", "2024-01-02Z")
        assert code == 3
        found = {f["code"]: f for f in report["findings"] if f["severity"] == "error"}
        assert set(found) == {"recompress"}, found
        assert role in found["recompress"]["hint"] and "GRANT" in found["recompress"]["hint"]
        code, report, errors = pair.command("run", "m", "--end", "2024-01-02Z", "--triggers", "off", "--no-recompress")
        assert (code, {f["code"] for f in report["findings"] if f["severity"] == "error"}) == (3, {"triggers"}), errors
        pair.run("m", "--end", "2024-01-02Z", "--no-recompress")
        assert_moved(pair, "2024-01-02Z")
    finally:
        pair.on_target(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_the_chunk_at_the_seam_of_two_backfills_is_compressed_in_the_end(policy_pair: Pair) -> None:
    """The first leaves the chunk of its T partial, and the second must not take that for how it was."""
    pair = policy_pair
    make(pair)
    pair.run("m", "--end", "2024-01-02 12:00Z")
    assert statuses(pair) == [1, 9, 1, 1]
    pair.run("m", "--start", "2024-01-02 12:00Z", "--end", END)
    assert statuses(pair) == [1, 1, 1, 9]
    assert_moved(pair)


def test_what_is_in_order_now_is_what_counts(policy_pair: Pair) -> None:
    """A chunk that was partial for an earlier backfill, and that somebody has compressed since."""
    pair = policy_pair
    make(pair)
    pair.on_target("INSERT INTO m VALUES ('2024-01-02 12:00Z', 1, 1)")
    pair.run("m", "--end", END, "--replace")
    assert statuses(pair) == [1, 9, 1, 9]
    pair.on_target("SELECT compress_chunk(c, true) FROM show_chunks('m') AS c")
    pair.run("m", "--end", END, "--again")
    assert statuses(pair) == [1, 1, 1, 9]
