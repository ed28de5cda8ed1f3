"""Policies on a server that has them: held while windows are moved, restored exactly, whatever happens in between."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from hyperfill import catalog, holds, ledger, policies, session
from hyperfill.errors import Refused
from tests.fixtures.community import FUTURE, HELD, job_table, jobs_on, make_policies, whole_jobs
from tests.fixtures.pair import Connection, Pair, connect
from tests.fixtures.scenes import Background, until

pytestmark = pytest.mark.community

START = "2024-01-01T00:00:00Z"
END = "2024-01-21T00:00:00Z"
# What becomes of the aggregates themselves has tests of its own.
RANGE = ("--start", START, "--end", END, "--no-refresh-caggs")
_LOCK = "SELECT pg_advisory_lock(1752196710, pg_catalog.int4('public.m'::regclass::oid::bigint - 2147483648))"


def make_source(pair: Pair, rows: int = 20_000) -> None:
    """Twenty days of rows."""
    pair.on_source(
        "CREATE TABLE m (time timestamptz NOT NULL, device int NOT NULL, value float8)",
        f"INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '20 days' / {rows}, i % 7, i / 3.0"
        f" FROM generate_series(0, {rows - 1}) AS i",
        "CREATE INDEX ON m (time)",
        "ANALYZE m",
    )


def assert_moved(pair: Pair) -> None:
    digest = "SELECT count(*), sum(hashtextextended(m::text, 0)) FROM public.m"
    assert pair.query(pair.target, digest) == pair.query(pair.source, digest)


class Start(Protocol):
    """Start `hyperfill run` of public.m in the background."""

    def __call__(self, pair: Pair, *options: str) -> Background: ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Runs in the background; whatever becomes of the test, none outlives it."""
    runs: list[Background] = []

    def begin(pair: Pair, *options: str) -> Background:
        ends = ("--source", pair.source_conninfo, "--target", pair.target_conninfo)
        runs.append(Background.start(tmp_path, "run", *ends, "--table", "public.m", "--json", *options))
        return runs[-1]

    yield begin
    for one in runs:
        one.end()


def phase(pair: Pair, backfill: int = 1) -> str | None:
    if not pair.query(pair.target, "SELECT to_regclass('hyperfill.hold_users') IS NOT NULL")[0][0]:
        return None
    rows = pair.query(pair.target, f"SELECT phase FROM hyperfill.backfills WHERE id = {backfill}")
    return str(rows[0][0]) if rows else None


def done(pair: Pair, backfill: int = 1) -> int:
    if phase(pair, backfill) is None:
        return 0
    statement = f"SELECT count(*) FROM hyperfill.windows WHERE state = 'done' AND backfill_id = {backfill}"
    return int(pair.query(pair.target, statement)[0][0])


@contextlib.contextmanager
def locking(pair: Pair, statement: str) -> Iterator[None]:
    """Hold a lock in a session of its own."""
    with connect(pair.target_conninfo) as other:
        other.execute("BEGIN")
        other.execute(statement)
        yield
        other.execute("ROLLBACK")


def by_hand(pair: Pair, name: str, *options: str, code: int = 0) -> dict[str, Any]:
    """`hyperfill policies NAME` of public.m."""
    command = ["policies", name, "--target", pair.target_conninfo, "--hypertable", "public.m", "--json", *options]
    ended = pair.hyperfill(*command)
    assert ended.returncode == code, ended.stderr
    found = json.loads(ended.stdout)
    assert isinstance(found, dict)
    return {**found, "stderr": ended.stderr}


def ids(jobs: dict[str, int], *names: str) -> set[int]:
    return {jobs[n] for n in names}


def test_a_run_turns_policies_off_and_restores_them_exactly(policy_pair: Pair, start: Start) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before, on = whole_jobs(pair.target), jobs_on(pair.target)
    plan = pair.plan("public.m", *RANGE)
    assert {p["job"] for p in plan["policies"]} == ids(jobs, *HELD, "refresh2")
    assert "alter_job" in plan["sql"]["hold_policies"]
    assert whole_jobs(pair.target) == before
    run = start(pair, *RANGE, "--max-rate", "100kB", "--jobs", "2")
    until(lambda: done(pair) >= 2, what="two windows")
    assert jobs_on(pair.target) == on - ids(jobs, *HELD)
    assert run.wait() == 0, run.stderr
    assert whole_jobs(pair.target) == before
    assert phase(pair) == "done"
    assert_moved(pair)
    rows = pair.query(pair.target, "SELECT job_id, outcome, (job ->> 'scheduled')::bool FROM hyperfill.holds")
    assert set(rows) == {(jobs[n], "on", True) for n in HELD}
    assert pair.query(pair.target, "SELECT count(*) FROM hyperfill.hold_users") == [(0,)]


def test_both_schemas_of_procedures(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    pair.on_target(
        f"UPDATE {job_table(pair.target)} SET proc_schema = '_timescaledb_internal' WHERE id = {jobs['compression']}"
    )
    held = by_hand(pair, "hold")["held"]
    assert {h["job"] for h in held} == ids(jobs, *HELD)


def test_only_the_kinds_that_are_asked_for(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    pair.run("public.m", *RANGE, "--hold", "compression,retention")
    held = pair.query(pair.target, "SELECT job_id FROM hyperfill.holds")
    assert {r[0] for r in held} == ids(jobs, "compression", "retention")
    code, _, errors = pair.command("run", "public.m", *RANGE, "--hold", "compressoin")
    assert code == 2 and "compressoin" in errors
    plan = pair.plan("public.m", *RANGE, "--again", "--hold", "none")
    warned = [f["message"] for f in plan["findings"] if f["severity"] == "warning" and f["code"] == "policies"]
    assert len(warned) == len(HELD)


def _at_hold(pair: Pair, _: dict[str, int]) -> bool:
    return phase(pair) == "held"


def _some_windows(pair: Pair, _: dict[str, int]) -> bool:
    return done(pair) >= 3


KILL_AT: dict[str, tuple[str | None, Callable[[Pair, dict[str, int]], bool]]] = {
    "inside the hold": ("LOCK TABLE {jobs} IN SHARE MODE", lambda p, _: _waits(p)),
    "held": (None, _at_hold),
    "some windows": (None, _some_windows),
}


def _waits(pair: Pair) -> bool:
    statement = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'hyperfill/control' AND wait_event_type = 'Lock'"
    )
    return bool(pair.query(pair.target, statement)[0][0])


@pytest.mark.parametrize("moment", KILL_AT)
def test_kill_and_the_same_command_again(policy_pair: Pair, start: Start, moment: str) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before, on = whole_jobs(pair.target), jobs_on(pair.target)
    lock, reached = KILL_AT[moment]
    statement = lock.format(jobs=job_table(pair.target)) if lock else "SELECT 1"
    with locking(pair, statement):
        run = start(pair, *RANGE, "--max-rate", "100kB", "--jobs", "2")
        until(lambda: reached(pair, jobs), what=moment)
        run.signal_group(signal.SIGKILL)
        run.wait()
    until(lambda: not _waits(pair))
    held = set() if moment == "inside the hold" else ids(jobs, *HELD)
    until(lambda: jobs_on(pair.target) == on - held, what="the state at the kill")
    report = pair.run("public.m", *RANGE, jobs=2)
    assert report["backfill"] == 1
    assert whole_jobs(pair.target) == before
    assert_moved(pair)


@pytest.mark.parametrize("moment", ["before the phase", "inside the release"])
def test_kill_at_the_end_and_the_same_command_again(policy_pair: Pair, start: Start, moment: str) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before, on = whole_jobs(pair.target), jobs_on(pair.target)
    run = start(pair, *RANGE, "--max-rate", "200kB", "--jobs", "2")
    until(lambda: done(pair) >= 2, what="two windows")
    lock = _LOCK if moment == "before the phase" else f"LOCK TABLE {job_table(pair.target)} IN SHARE MODE"
    with locking(pair, lock):
        until(lambda: done(pair) == 20 and _waits(pair), what=moment)
        assert (phase(pair) == "held") == (moment == "before the phase")
        assert phase(pair) != "done"
        run.signal_group(signal.SIGKILL)
        run.wait()
    until(lambda: not _waits(pair))
    time.sleep(0.3)
    assert jobs_on(pair.target) == on - ids(jobs, *HELD)
    assert phase(pair) != "done"
    pair.run("public.m", *RANGE)
    assert whole_jobs(pair.target) == before
    assert phase(pair) == "done"
    assert_moved(pair)


def test_two_backfills_share_a_hold(policy_pair: Pair, start: Start) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before, on = whole_jobs(pair.target), jobs_on(pair.target)
    middle = "2024-01-11T00:00:00Z"
    slow = start(pair, "--start", START, "--end", middle, "--no-refresh-caggs", "--max-rate", "30kB", "--jobs", "1")
    until(lambda: done(pair) >= 1, what="a window")
    report = pair.run("public.m", "--start", middle, "--end", END, "--no-refresh-caggs")
    assert any("stays held for backfill 1" in f["message"] for f in report["findings"])
    assert phase(pair, report["backfill"]) == "done"
    assert slow.process.poll() is None
    assert jobs_on(pair.target) == on - ids(jobs, *HELD)
    assert slow.wait() == 0, slow.stderr
    assert whole_jobs(pair.target) == before
    assert_moved(pair)


@pytest.mark.parametrize("how", ["turned on", "added"])
def test_a_policy_that_is_on_meanwhile_stops_the_run(policy_pair: Pair, start: Start, how: str) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    if how == "added":
        pair.on_target("SELECT remove_retention_policy('public.m')")
    before = whole_jobs(pair.target)
    run = start(pair, *RANGE, "--max-rate", "50kB", "--jobs", "2")
    until(lambda: done(pair) >= 2, what="two windows")
    if how == "added":
        pair.on_target(f"SELECT add_retention_policy('public.m', interval '400 years', initial_start => '{FUTURE}')")
    else:
        pair.on_target(f"SELECT alter_job({jobs['compression']}, scheduled => true)")
    assert run.wait() == 4, run.stderr
    report = run.report
    assert report["state"] == "incomplete" and report["windows"]["failed"] == 0
    assert next(f["message"] for f in report["findings"] if f["code"] == "policies-on").count(how) == 1
    assert any(f["code"] == "held" for f in report["findings"])
    pair.run("public.m", *RANGE)
    after = whole_jobs(pair.target)
    if how == "added":
        assert {k: v for k, v in after.items() if k in before} == before
        assert all(json.loads(row)["scheduled"] for k, (row, _) in after.items() if k not in before)
    else:
        assert jobs_on(pair.target) == {k for k, (row, _) in before.items() if json.loads(row)["scheduled"]}
        changed = {k for k in before if after[k] != before[k]}
        assert changed <= {jobs["compression"]}  # the operator's alter_job took its time zone
    original = pair.query(pair.target, f"SELECT job FROM hyperfill.holds WHERE job_id = {jobs['compression']}")
    assert [r[0]["timezone"] for r in original] == ["Europe/Berlin"]


def test_what_an_operator_does_meanwhile_stays(policy_pair: Pair) -> None:
    """Turned on, deleted, changed: between an interrupted run and the release."""
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    by_hand(pair, "hold")
    pair.on_target(
        f"SELECT alter_job({jobs['compression']}, scheduled => true)",
        "SELECT remove_reorder_policy('public.m')",
        f"SELECT alter_job({jobs['retention']}, schedule_interval => interval '2 hours', timezone => 'Asia/Tokyo')",
    )
    released = by_hand(pair, "release")
    assert released["state"] == "released"
    assert len(released["changed"]) == 2 and len(released["notes"]) == 2
    on = jobs_on(pair.target)
    assert ids(jobs, "compression", "retention", "refresh1") <= on and jobs["reorder"] not in on
    row = json.loads(whole_jobs(pair.target)[jobs["retention"]][0])
    assert (row["schedule_interval"], row["timezone"]) == ("02:00:00", "Asia/Tokyo")
    assert by_hand(pair, "release")["state"] == "nothing"


def test_release_is_refused_while_a_backfill_is_unfinished(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before, on = whole_jobs(pair.target), jobs_on(pair.target)
    code, report, _ = pair.command("run", "public.m", *RANGE, "--max-duration", "1ms", "--jobs", "1")
    assert code == 4 and report["state"] == "incomplete"
    [held] = [f for f in report["findings"] if f["code"] == "held"]
    assert "policies release" in held["hint"]
    shown = by_hand(pair, "show")
    assert shown["state"] == "held"
    assert {p["job"]: p["held_for"] for p in shown["policies"] if p["held"]} == {jobs[n]: [1] for n in HELD}
    by_hand(pair, "release", code=3)
    assert jobs_on(pair.target) == on - ids(jobs, *HELD)
    cleaned = pair.hyperfill("clean", "--target", pair.target_conninfo, "--force")
    assert cleaned.returncode == 0 and "still held" in cleaned.stderr
    by_hand(pair, "release")
    assert whole_jobs(pair.target) == before
    pair.command("run", "public.m", *RANGE, "--max-duration", "1ms", "--jobs", "1")
    assert by_hand(pair, "release", "--force")["state"] == "released"
    assert whole_jobs(pair.target) == before


def test_a_release_by_force_stops_a_run(policy_pair: Pair, start: Start) -> None:
    pair = policy_pair
    make_source(pair)
    make_policies(pair.target)
    before = whole_jobs(pair.target)
    runs = [start(pair, *RANGE, "--max-rate", "60kB", "--jobs", "1") for _ in range(2)]
    until(lambda: done(pair) >= 3, what="three windows")
    by_hand(pair, "release", code=3)
    assert len(by_hand(pair, "release", "--force")["changed"]) == len(HELD)
    assert whole_jobs(pair.target) == before
    assert [run.wait() for run in runs] == [4, 4]
    assert whole_jobs(pair.target) == before
    again = [start(pair, *RANGE, "--jobs", "1") for _ in range(3)]
    assert [run.wait() for run in again] == [0, 0, 0]
    assert whole_jobs(pair.target) == before
    assert_moved(pair)


def test_a_signal_leaves_the_hold_and_says_so(policy_pair: Pair, start: Start) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    run = start(pair, *RANGE, "--max-rate", "60kB", "--jobs", "1")
    until(lambda: done(pair) >= 1, what="a window")
    run.signal(signal.SIGTERM)
    assert run.wait() == 143
    assert any(f["code"] == "held" and "policies release" in f["hint"] for f in run.report["findings"])
    assert not ids(jobs, *HELD) & jobs_on(pair.target)


def test_held_by_hand_survives_a_run(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    before = whole_jobs(pair.target)
    assert {h["job"] for h in by_hand(pair, "hold")["held"]} == ids(jobs, *HELD)
    assert by_hand(pair, "hold")["changed"] == []
    report = pair.run("public.m", *RANGE)
    assert any("by hand" in f["message"] for f in report["findings"])
    assert not ids(jobs, *HELD) & jobs_on(pair.target)
    by_hand(pair, "release")
    assert whole_jobs(pair.target) == before


def test_retention_that_would_drop_the_range(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    pair.on_target(
        f"UPDATE {job_table(pair.target)} SET config = jsonb_set(config, '{{drop_after}}',"
        f" to_jsonb((now() - '2024-01-11 00:00:01Z'::timestamptz)::text)) WHERE id = {jobs['retention']}"
    )
    before = whole_jobs(pair.target)
    code, report, _ = pair.command("run", "public.m", *RANGE)
    assert code == 3
    [found] = [f for f in report["findings"] if f["severity"] == "error"]
    assert found["code"] == "retention" and "10 windows" in found["message"] and "2024-01-11" in found["message"]
    assert whole_jobs(pair.target) == before
    assert (
        pair.plan("public.m", "--start", "2024-01-11T00:00:00Z", "--end", END, "--no-refresh-caggs")["state"]
        == "planned"
    )
    pair.run("public.m", *RANGE, "--accept-retention")
    assert whole_jobs(pair.target) == before
    assert_moved(pair)


def test_a_role_that_may_not_alter_a_job(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target)
    name = pair.target.info.dbname + "_role"
    pair.on_target(f'CREATE ROLE "{name}" LOGIN')
    try:
        pair.on_target(
            f'GRANT CREATE ON DATABASE "{pair.target.info.dbname}" TO "{name}"',
            f'GRANT SELECT, INSERT, DELETE ON public.m TO "{name}"',
        )
        before = whole_jobs(pair.target)
        role = psycopg.conninfo.make_conninfo(pair.target_conninfo, user=name)
        weak = Pair(pair.source_conninfo, role, pair.source, pair.target, pair.hyperfill)
        code, report, _ = weak.command("run", "public.m", *RANGE, "--jobs", "1")
        errors = [f for f in report["findings"] if f["severity"] == "error" and f["code"] == "policies"]
        assert code == 3 and len(errors) == len(HELD)
        assert "GRANT postgres" in errors[0]["hint"]
        assert by_hand(weak, "hold", code=3)
        assert len(by_hand(weak, "show")["policies"]) == 5
        assert weak.run("public.m", *RANGE, "--hold", "none")["rows_copied"] == 20_000
        assert whole_jobs(pair.target) == before
        owners = ", ".join(str(jobs[n]) for n in HELD)
        pair.on_target(f"""UPDATE {job_table(pair.target)} SET owner = '"{name}"'::regrole WHERE id IN ({owners})""")
        before = whole_jobs(pair.target)
        assert weak.run("public.m", *RANGE, "--again")["rows_copied"] == 20_000
        assert whole_jobs(pair.target) == before
    finally:
        pair.on_target(f"UPDATE {job_table(pair.target)} SET owner = current_user::regrole WHERE id >= 1000")
        pair.on_target(f'DROP OWNED BY "{name}"', f'DROP ROLE "{name}"')


@pytest.mark.parametrize("extension_schema", ["Time Scale"])
def test_an_extension_outside_public(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    jobs = make_policies(pair.target, '"Time Scale"')
    before = whole_jobs(pair.target)
    pair.run("public.m", *RANGE)
    assert whole_jobs(pair.target) == before
    assert {r[0] for r in pair.query(pair.target, "SELECT job_id FROM hyperfill.holds")} == ids(jobs, *HELD)


def test_direct_compress_and_frozen_chunks_are_refused(policy_pair: Pair) -> None:
    pair = policy_pair
    make_source(pair)
    make_policies(pair.target)
    pair.on_target(
        "INSERT INTO public.m VALUES ('2024-01-02Z', 1, 1)",
        "SELECT _timescaledb_functions.freeze_chunk(c) FROM show_chunks('public.m') AS c",
    )
    assert pair.refused("public.m", *RANGE) == {"frozen"}
    assert pair.plan("public.m", "--start", "2024-01-03T00:00:00Z", "--end", END)["state"] == "planned"
    try:
        pair.on_target(
            "SELECT remove_compression_policy('public.m')", "ALTER TABLE public.m SET (tsdb.direct_compress = true)"
        )
    except psycopg.Error as error:
        pytest.skip(f"this version has no tsdb.direct_compress: {error}")
    assert pair.refused("public.m", "--start", "2024-01-03T00:00:00Z", "--end", END) == {"direct-compress"}


def _relation(connection: session.Connection) -> catalog.Relation:
    return catalog.resolve(connection, "public.m", "target", "--hypertable")


def test_a_running_job_is_waited_for(policy_pair: Pair) -> None:
    """A session that looks like the job's worker: turning the job off would cancel it."""
    pair = policy_pair
    jobs = make_policies(pair.target)
    on = jobs_on(pair.target)
    name = pair.query(
        pair.target, f"SELECT application_name FROM {job_table(pair.target)} WHERE id = {jobs['reorder']}"
    )
    said: list[str] = []
    with session.connect(pair.target_conninfo, "target") as mine, connect(pair.target_conninfo) as worker:
        worker.execute("SELECT set_config('application_name', %s, false)", [name[0][0]])
        ledger.create(mine)
        began = time.monotonic()
        with pytest.raises(Refused, match=f"pid {worker.info.backend_pid}"):
            holds.hold(mine, _relation(mine), policies.KINDS, backfill=None, say=said.append, timeout=2.5)
        assert time.monotonic() - began >= 2.5
        assert len(said) == 1
        assert jobs_on(pair.target) == on
        worker.close()
        result, watch = holds.hold(mine, _relation(mine), policies.KINDS, backfill=None, say=said.append)
        assert len(result.changed) == len(HELD)
        assert watch is not None
        policies.check_off(mine, watch)


def test_a_job_that_the_scheduler_has_started(policy_pair: Pair) -> None:
    """The real thing: a compression job that waits for a lock is left to finish, and then held."""
    pair = policy_pair
    jobs = make_policies(pair.target)
    job = jobs["compression"]
    pair.on_target("INSERT INTO public.m VALUES ('2020-01-02Z', 1, 1)")
    busy = f"""SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
               AND backend_type LIKE '%[{job}]'"""
    with contextlib.ExitStack() as stack:
        other: Connection = stack.enter_context(connect(pair.target_conninfo))
        other.execute("BEGIN; LOCK TABLE public.m IN SHARE ROW EXCLUSIVE MODE")
        other.execute("SELECT 1 FROM public.m")
        pair.on_target(f"SELECT alter_job({job}, next_start => now(), timezone => 'Europe/Berlin')")
        try:
            until(lambda: pair.query(pair.target, busy)[0][0], 20, "the job")
        except AssertionError:
            pytest.skip("the server has no background worker left for this database")
        mine = stack.enter_context(session.connect(pair.target_conninfo, "target"))
        ledger.create(mine)
        with pytest.raises(Refused):
            holds.hold(mine, _relation(mine), policies.KINDS, backfill=None, say=lambda _: None, timeout=1)
        other.execute("ROLLBACK")
        holds.hold(mine, _relation(mine), policies.KINDS, backfill=None, say=lambda _: None)
    row = pair.query(
        pair.target,
        f"SELECT last_run_success, total_failures FROM _timescaledb_internal.bgw_job_stat WHERE job_id = {job}",
    )
    assert row == [(True, 0)]
    assert job not in jobs_on(pair.target)


def test_the_check_of_a_window_is_cheap(policy_pair: Pair) -> None:
    pair = policy_pair
    make_policies(pair.target)
    with session.connect(pair.target_conninfo, "target") as mine:
        ledger.create(mine)
        _, watch = holds.hold(mine, _relation(mine), policies.KINDS, backfill=None, say=lambda _: None)
        assert watch is not None
        began = time.monotonic()
        for _ in range(100):
            policies.check_off(mine, watch)
        assert time.monotonic() - began < 2
