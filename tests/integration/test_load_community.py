"""Loads into a hypertable with policies, compressed chunks and continuous aggregates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.cli import Hyperfill
from tests.fixtures.community import make_policies, whole_jobs
from tests.fixtures.pair import Connection, connect

pytestmark = pytest.mark.community

DAY = "SELECT count(*), sum(value) FROM m WHERE time >= '2024-01-0{0}Z' AND time < '2024-01-0{1}Z'"
STATUS = "SELECT _timescaledb_functions.chunk_status(c) FROM show_chunks('public.m') AS c ORDER BY c"


def lines(first: int, count: int) -> str:
    return "".join(
        f"2024-01-{1 + n // 1440:02d} {n % 1440 // 60:02d}:{n % 60:02d}:00+00,{n % 5},{n}\n"
        for n in range(first, first + count)
    )


def prepare(target: Connection) -> None:
    """Four days of rows, all chunks compressed, the aggregates up to date."""
    target.execute(
        "INSERT INTO public.m SELECT timestamptz '2024-01-01Z' + n * interval '1 minute', n % 5, -1"
        " FROM generate_series(0, 4 * 1440 - 1) AS n"
    )
    target.execute("SELECT compress_chunk(c) FROM show_chunks('public.m') AS c")
    for name in ("hourly", "daily"):
        target.execute(f"CALL refresh_continuous_aggregate('public.{name}', NULL, NULL)")


def stored(target: Connection, view: str) -> list[tuple[object, ...]]:
    """How many rows the materialization of an aggregate counts, without what is computed on the fly."""
    target.execute(f"ALTER MATERIALIZED VIEW public.{view} SET (timescaledb.materialized_only = true)")
    return target.execute(f"SELECT sum(n) FROM public.{view}").fetchall()


@pytest.mark.parametrize("ranged", [True, False])
def test_everything_is_as_it_was_around_the_rows(
    policy_db: str, hyperfill: Hyperfill, tmp_path: Path, ranged: bool
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(lines(1440, 2880))  # the second and third day
    with connect(policy_db) as target:
        make_policies(target)
        prepare(target)
        jobs, statuses = whole_jobs(target), target.execute(STATUS).fetchall()
        options = ["--start", "2024-01-02Z", "--end", "2024-01-04Z"] if ranged else []
        done = hyperfill(
            "load", "--target", policy_db, "--hypertable", "public.m", "--batch-size", "20kB", "--jobs", "2",
            "--accept-retention", *options, str(path),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "turned off" in done.stderr
        assert "turned on again" in done.stderr
        added = [(2880, sum(range(1440, 4320)))] if ranged else [(5760, sum(range(1440, 4320)) - 2880)]
        assert target.execute(DAY.format(2, 4)).fetchall() == added
        assert target.execute(DAY.format(1, 2)).fetchall() == [(1440, -1440)]
        assert whole_jobs(target) == jobs
        assert target.execute(STATUS).fetchall() == statuses
        total = 4 * 1440 if ranged else 6 * 1440
        assert target.execute("SELECT count(*) FROM public.m").fetchall() == [(total,)]
        assert stored(target, "hourly") == [(total,)]
        assert target.execute("SELECT count(*) FROM hyperfill.batches WHERE state = 'done'").fetchall()[0][0] > 3


def test_a_killed_load_holds_and_the_next_releases(policy_db: str, hyperfill: Hyperfill, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(lines(0, 1440) + "2024-01-02 00:00:00+00,x,1\n")
    with connect(policy_db) as target:
        make_policies(target)
        jobs = whole_jobs(target)
        command = [
            "load",
            "--target",
            policy_db,
            "--hypertable",
            "public.m",
            "--batch-size",
            "10kB",
            "--accept-retention",
        ]
        done = hyperfill(*command, str(path))
        assert done.returncode == 4, done.stderr
        assert "still held" in done.stderr
        assert whole_jobs(target) != jobs
        done = hyperfill(*command, "--max-rejects", "1", str(path))
        assert done.returncode == 6, done.stderr
        assert whole_jobs(target) == jobs
        assert target.execute("SELECT count(*) FROM public.m").fetchall() == [(1440,)]
