"""What stands against holding policies: retention, rights, frozen chunks, jobs that run just now."""

from __future__ import annotations

import contextlib
import time

import psycopg
import pytest

from hyperfill import catalog, holds, kinds, ledger, policies, session
from hyperfill.errors import Refused
from tests.fixtures.community import HELD, job_table, jobs_on, make_policies, whole_jobs
from tests.fixtures.holding import END, RANGE, assert_moved, by_hand, ids, make_source
from tests.fixtures.pair import Connection, Pair, connect
from tests.fixtures.scenes import until

pytestmark = pytest.mark.community


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
            holds.hold(mine, _relation(mine), kinds.KINDS, backfill=None, say=said.append, timeout=2.5)
        assert time.monotonic() - began >= 2.5
        assert len(said) == 1
        assert jobs_on(pair.target) == on
        worker.close()
        result, watch = holds.hold(mine, _relation(mine), kinds.KINDS, backfill=None, say=said.append)
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
            holds.hold(mine, _relation(mine), kinds.KINDS, backfill=None, say=lambda _: None, timeout=1)
        other.execute("ROLLBACK")
        holds.hold(mine, _relation(mine), kinds.KINDS, backfill=None, say=lambda _: None)
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
        _, watch = holds.hold(mine, _relation(mine), kinds.KINDS, backfill=None, say=lambda _: None)
        assert watch is not None
        began = time.monotonic()
        for _ in range(100):
            policies.check_off(mine, watch)
        assert time.monotonic() - began < 2
