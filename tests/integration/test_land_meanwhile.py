"""What was in the range before, and what happens while chunks land: writers, locks, kills. All rows once."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence

import psycopg
import pytest

from hyperfill import backfill, conversions, ledger, session, timeline
from hyperfill import source as source_module
from hyperfill.prepare import prepare
from hyperfill.spec import Spec
from hyperfill.stopping import Stop
from hyperfill.timeline import Span
from hyperfill.window import Order
from hyperfill.worker import Task, Worker
from tests.fixtures.holding import Start, start
from tests.fixtures.landing import END, ORDERED, PLAIN, assert_landed, columnstore, make, policy, status_of, statuses
from tests.fixtures.pair import Pair
from tests.fixtures.scenes import Background, processes_gone, sessions, until
from tests.fixtures.writers import Writers

__all__ = ["start"]

pytestmark = pytest.mark.community

BELOW = f"time < '{END}'"
RANGE = ("--end", END)
DONE = "SELECT count(*) FROM hyperfill.windows WHERE state = 'done'"
LEFT = "SELECT count(*) FROM hyperfill.conversions WHERE state = 'pending'"
UNIQUE = ("CREATE UNIQUE INDEX ON m (time, device, note) NULLS NOT DISTINCT",)


def quiet(pair: Pair, run: Background) -> Callable[[], bool]:
    return lambda: processes_gone([run]) and not sessions(pair.source_conninfo) + sessions(pair.target_conninfo)


@pytest.mark.parametrize("key", [False, True])
def test_chunks_with_rows_before(policy_pair: Pair, key: bool) -> None:
    """Plain, compressed, partial, compressed and empty, unordered, and one that is not there yet."""
    pair = policy_pair
    make(pair, on_target=UNIQUE if key else ())
    for day in range(1, 6):
        pair.on_target(f"INSERT INTO m SELECT '2024-01-0{day} 07:00:30Z'::timestamptz + i * interval '1 s', i, -1, 'x'"
                       " FROM generate_series(0, 40) AS i")  # fmt: skip
    pair.on_target(
        "SELECT compress_chunk(c) FROM show_chunks('m', newer_than => '2024-01-02Z'::timestamptz) AS c",
        "INSERT INTO m VALUES ('2024-01-03 08:00:30Z', 1, -1, 'late')",
        "DELETE FROM m WHERE time >= '2024-01-04Z' AND time < '2024-01-05Z'",
    )
    before = statuses(pair)
    assert before[:3] == [0, 1, 9], before
    report = pair.run("m", *RANGE, jobs=2)
    assert report["rows_deleted"] == 4 * 41 + 1
    assert report["landed"]["left"] == 0
    assert statuses(pair) == [ORDERED] * 6, report
    assert_landed(pair, where=BELOW)


def insert(day: int) -> Callable[[int], Sequence[str]]:
    at = f"'2024-01-0{day} 03:00:30Z'::timestamptz + interval '1 s' * "
    return lambda n: [f"INSERT INTO m VALUES ({at}{n % 20000}, -1, 0, 'late {n}')"]


@pytest.mark.parametrize("key", [False, True])
def test_late_rows_while_chunks_land(policy_pair: Pair, start: Start, key: bool) -> None:
    """The application writes into chunks before, while and after they land: nobody waits, no row is lost."""
    pair = policy_pair
    make(pair, on_target=UNIQUE if key else ())
    with Writers(pair.target_conninfo, {f"day {day}": insert(day) for day in (1, 3, 5)}, pause=0.01) as writers:
        until(lambda: all(waits.done > 5 for waits in writers.waits.values()), 20, "rows")
        writers.anew()
        run = start(pair, *RANGE, "--max-rate", "300kB", "--jobs", "2", "--verify", "none", "--replace")
        assert run.wait() == 0, run.stderr
        at_the_end = pair.query(pair.target, "SELECT count(*) FROM m WHERE device = -1")[0][0]
        enough = {name: waits.done + 5 for name, waits in writers.waits.items()}
        until(lambda: all(w.done > enough[name] for name, w in writers.waits.items()), 20, "more rows")
    print(writers)
    for waits in writers.waits.values():
        assert not waits.errors
        assert waits.worst < 1.2, waits
    after = pair.query(pair.target, "SELECT count(*) FROM m WHERE device = -1")[0][0]
    assert after >= at_the_end + 15
    landed = run.report["landed"]
    assert landed["written"] + landed["afterwards"] + landed["left"] == 6
    assert pair.query(pair.target, LEFT) == [(landed["left"],)]
    told = [f for f in run.report["findings"] if f["code"] == "land"]
    assert len(told) == landed["left"]
    assert [status_of(pair, f"2024-01-0{day}") for day in (2, 4, 6)] == [[ORDERED]] * 3
    # Where late rows have come since, and nothing else is wrong with it.
    assert set(statuses(pair)) <= {ORDERED, ORDERED | 8, PLAIN}
    assert_landed_but_late(pair)
    pair.on_target("SELECT compress_chunk(c, true) FROM show_chunks('m') AS c")
    assert_landed_but_late(pair)


def assert_landed_but_late(pair: Pair) -> None:
    assert_landed(pair, where=f"{BELOW} AND device IS DISTINCT FROM -1")


def test_a_lock_on_a_chunk_that_is_to_be_compressed(policy_pair: Pair, start: Start) -> None:
    """An open insert of the application into a plain chunk: its window is moved, and it is compressed when it ends."""
    pair = policy_pair
    make(pair)
    pair.on_target("INSERT INTO m VALUES ('2024-01-02 12:00:30Z', 1, 1, 'before')")
    chunk = pair.query(pair.target, "SELECT show_chunks('m')::text")[0][0]
    with psycopg.connect(pair.target_conninfo) as application:
        application.execute(f"LOCK TABLE {chunk} IN ROW EXCLUSIVE MODE")
        run = start(pair, *RANGE, "--jobs", "2")
        until(lambda: "compressing 1 chunk " in run.stderr, 60, "the end of the run")
        assert sorted(statuses(pair)) == [PLAIN] + [ORDERED] * 5
        assert run.process.poll() is None
        application.rollback()
    assert run.wait() == 0, run.stderr
    assert run.report["landed"] == {"written": 5, "afterwards": 1, "left": 0}
    assert not [f for f in run.report["findings"] if f["code"] == "land"]
    assert statuses(pair) == [ORDERED] * 6
    assert_landed(pair, where=BELOW)


def begun(run: Background) -> Callable[[], bool]:
    """Whether a run has said what it is about to do."""
    return lambda: "7 windows" in run.stderr


def entered(pair: Pair) -> Order:
    """A backfill of m in the ledger, of which no window is moved yet."""
    spec = Spec(source=pair.source_conninfo, target=pair.target_conninfo, table="m", end=END, hold=())
    prepared = prepare(spec, 1)
    assert not prepared.errors, prepared.errors
    with session.connect(pair.target_conninfo, "target", application_name="test") as control:
        ledger.create(control)
        backfill.register(control, prepared)
    assert prepared.order is not None
    return prepared.order


def work(order: Order) -> list[object]:
    """Move all of it in this process; what the worker says."""
    said: list[object] = []
    worker = Worker(Task(1, (order,), retry=2), Stop(), said.append)
    try:
        worker.run()
    finally:
        worker.close()
    return said


def test_a_reader_that_stays(policy_pair: Pair, start: Start) -> None:
    """A dump of the target, say: what it has seen it sees to its end, and who comes later does not wait for long."""
    pair = policy_pair
    make(pair, on_target=UNIQUE)
    days = "'2024-01-01 00:00:30Z'::timestamptz + i * interval '1 day'"
    pair.on_target(f"INSERT INTO m SELECT {days}, 1 FROM generate_series(0, 5) AS i")
    with psycopg.connect(pair.target_conninfo) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert reader.execute("SELECT count(*) FROM m").fetchone() == (6,)
        run = start(pair, *RANGE, "--jobs", "2")
        until(lambda: "7 windows" in run.stderr, 30, "windows")
        slowest = 0.0
        while pair.query(pair.target, DONE) != [(7,)] and run.process.poll() is None:
            began = time.monotonic()
            pair.query(pair.target, "SELECT count(*) FROM m")
            slowest = max(slowest, time.monotonic() - began)
        assert reader.execute("SELECT count(*) FROM m").fetchone() == (6,)
    assert run.wait(60) == 0, run.stderr
    assert run.report["landed"] == {"written": 0, "afterwards": 6, "left": 0}
    assert slowest < 0.7
    assert statuses(pair) == [ORDERED] * 6
    assert_landed(pair, where=BELOW)


def test_what_stays_locked_is_told(policy_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = policy_pair
    make(pair)
    pair.on_target("INSERT INTO m VALUES ('2024-01-02 12:00:30Z', 1, 1, 'before')")
    chunk = pair.query(pair.target, "SELECT show_chunks('m')::text")[0][0]
    order = entered(pair)
    monkeypatch.setattr(conversions, "_SECONDS", 1.0)
    with psycopg.connect(pair.target_conninfo) as application:
        application.execute(f"LOCK TABLE {chunk} IN ROW EXCLUSIVE MODE")
        work(order)
        with session.connect(pair.target_conninfo, "target", application_name="test") as control:
            [finding] = conversions.finish_all(control, order, 2, print)
        assert (finding.severity, finding.code) == ("warning", "land")
        assert "2024-01-02" in finding.message and "lock" in finding.message
    assert status_of(pair, "2024-01-02") == [PLAIN]
    assert_landed(pair, where=BELOW)
    # What a run leaves, the next one does.
    assert pair.run("m", *RANGE, "--hold", "none")["landed"] == {"written": 5, "afterwards": 1, "left": 0}
    assert statuses(pair) == [ORDERED] * 6


@pytest.mark.parametrize("orderby", ["time DESC", "time, value", "device DESC, time"])
def test_slices_of_time(policy_pair: Pair, monkeypatch: pytest.MonkeyPatch, orderby: str) -> None:
    """A chunk that does not fit into what a session may sort is read in slices, where that leaves it in order."""
    pair = policy_pair
    make(pair, f"timescaledb.compress_segmentby = 'note', timescaledb.compress_orderby = '{orderby}'")
    monkeypatch.setattr(source_module, "sort_memory", lambda jobs: 16)
    pieces: list[int] = []
    cut = timeline.split_even

    def count(span: Span, slices: int) -> list[Span]:
        found = cut(span, slices)
        pieces.append(len(found))
        return found

    monkeypatch.setattr(source_module, "split_even", count)
    work(entered(pair))
    expected = 6 if orderby.startswith("time") else 0
    assert len(pieces) == expected and all(n > 3 for n in pieces), pieces
    assert pair.query(pair.target, "SELECT count(*) FROM hyperfill.conversions WHERE written") == [(6,)]
    assert statuses(pair) == [ORDERED] * 6
    assert_landed(pair, where=BELOW)


def test_kill_9_at_any_moment(policy_pair: Pair, start: Start) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    pair = policy_pair
    make(pair, on_target=UNIQUE if moments.random() < 0.5 else ())
    pair.on_target("INSERT INTO m VALUES ('2024-01-02 12:00:30Z', 1, 1, 'before')")
    for _ in range(4):
        run = start(pair, *RANGE, "--max-rate", "200kB", "--jobs", "2")
        until(begun(run), 30, "its beginning")
        time.sleep(moments.uniform(0, 0.6))
        run.signal_group(signal.SIGKILL)
        run.wait(10)
        until(quiet(pair, run), 20, "the servers to notice")
        noted = pair.query(pair.target, "SELECT lower FROM hyperfill.conversions WHERE state = 'done'")
        assert all(status_of(pair, str(lower)[:10]) == [ORDERED] for (lower,) in noted)
    report = pair.run("m", *RANGE, jobs=2)
    assert report["landed"]["left"] == 0
    assert statuses(pair) == [ORDERED] * 6
    assert_landed(pair, where=BELOW)


def test_kill_9_between_compressing_and_noting_it(policy_pair: Pair, start: Start) -> None:
    """Both or neither: the chunk is plain again, and compressed by the next run."""
    pair = policy_pair
    make(pair, on_target=UNIQUE)
    pair.on_target("CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); END'")
    run = start(pair, *RANGE, "--jobs", "1", "--max-rate", "50kB")
    until(lambda: "7 windows" in run.stderr, 30, "its beginning")
    # Not before: a run does not begin with a trigger on its ledger.
    pair.on_target(
        "CREATE TRIGGER wait BEFORE UPDATE ON hyperfill.conversions FOR EACH ROW EXECUTE FUNCTION wait()",
    )
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    until(lambda: pair.query(pair.target, waiting) == [(1,)], 30, "the note")
    run.signal_group(signal.SIGKILL)
    run.wait(10)
    until(quiet(pair, run), 20, "the server to notice")
    pair.on_target("DROP TRIGGER wait ON hyperfill.conversions")
    noted = int(6 - pair.query(pair.target, LEFT)[0][0])
    done = "SELECT count(*) FROM hyperfill.windows WHERE state = 'done' AND rows_copied > 0"
    assert pair.query(pair.target, done) == [(noted + 1,)]
    assert statuses(pair)[: noted + 1] == [ORDERED] * noted + [PLAIN]
    assert pair.run("m", *RANGE)["landed"] == {"written": 0, "afterwards": 6, "left": 0}
    assert statuses(pair) == [ORDERED] * 6
    assert_landed(pair, where=BELOW)


def test_signals(policy_pair: Pair, start: Start) -> None:
    """Stopped after some windows, their chunks are compressed, the next run goes on; --land plain leaves the rest."""
    pair = policy_pair
    make(pair)
    run = start(pair, *RANGE, "--max-rate", "100kB", "--jobs", "1")
    done = "SELECT count(*) FROM hyperfill.windows WHERE state = 'done'"
    until(lambda: "7 windows" in run.stderr and pair.query(pair.target, done) >= [(3,)], 30, "windows")
    run.signal(signal.SIGTERM)
    assert run.wait(30) == 143, run.stderr
    written = run.report["landed"]["written"]
    # The chunk of a window that was not begun any more may have been made, and compressed while empty.
    ordered = statuses(pair).count(ORDERED)
    assert 2 <= written <= ordered <= written + 1
    report = pair.run("m", *RANGE, "--land", "plain")
    assert report["landed"] == {"written": written, "afterwards": 0, "left": 6 - written}
    assert statuses(pair) == [ORDERED] * ordered + [PLAIN] * (6 - ordered)
    assert_landed(pair, where=BELOW)


def test_two_runs_at_once(policy_pair: Pair, start: Start) -> None:
    pair = policy_pair
    make(pair, on_target=UNIQUE)
    runs = [start(pair, *RANGE, "--max-rate", "300kB", "--jobs", "2") for _ in range(2)]
    assert {run.wait() for run in runs} == {0}, [run.stderr for run in runs]
    assert pair.query(pair.target, LEFT) == [(0,)]
    assert statuses(pair) == [ORDERED] * 6
    assert_landed(pair, where=BELOW)


def test_chunks_of_another_table_with_the_policy_on(policy_pair: Pair) -> None:
    """Another hypertable of the same name in another schema: its chunks are not looked at."""
    pair = policy_pair
    make(pair)
    pair.on_target(
        "CREATE SCHEMA other",
        "CREATE TABLE other.m (LIKE public.m)",
        "SELECT create_hypertable('other.m', 'time', chunk_time_interval => interval '1 day')",
        "INSERT INTO other.m VALUES ('2024-01-02 12:00Z', 1, 1, 'x')",
    )
    columnstore(pair, relation="other.m")
    policy(pair, relation="other.m")
    pair.run("m", *RANGE)
    assert sorted(statuses(pair)) == [PLAIN] + [ORDERED] * 6
    assert_landed(pair, "public.m", where=BELOW)
