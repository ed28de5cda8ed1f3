"""Somebody without any right holds an advisory lock of ours: who it is is said, and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from hyperfill import backfill, ledger, session
from hyperfill.errors import Refused
from hyperfill.progress import Lines
from hyperfill.signals import Signals
from hyperfill.spec import Limits, Spec
from tests.fixtures import scenes
from tests.fixtures.scenes import T, make_metrics


@pytest.fixture
def stranger(target_db: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(target_db, autocommit=True, application_name="a stranger") as connection:
        yield connection


def test_before_there_is_a_ledger(
    target_db: str, stranger: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_CREATE_SECONDS", 0.5)
    stranger.execute("SELECT pg_advisory_lock(1752196710, 0)")
    with session.connect(target_db, "target") as connection:
        with pytest.raises(Refused, match=rf"pid {stranger.info.backend_pid} \(a stranger, role postgres\)"):
            ledger.create(connection)
        assert not scenes.has_ledger(target_db)
        stranger.execute("SELECT pg_advisory_unlock_all()")
        ledger.create(connection)


def test_when_a_run_registers(
    source_db: str, target_db: str, stranger: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the hypertable, and of the backfill that is marked as running."""
    make_metrics(source_db, target_db, days=1)
    monkeypatch.setattr(backfill, "_LOCK_TIMEOUT", "SET LOCAL lock_timeout = '300ms'")
    monkeypatch.setattr(ledger, "_CREATE_SECONDS", 0.5)
    before = scenes.physical(target_db)
    spec = Spec(source=source_db, target=target_db, table="metrics", end=T)
    oid = scenes.scalar(target_db, "SELECT 'metrics'::regclass::oid::bigint")
    for key in (f"1752196710, {oid - 2**31}", "1752196711, 1"):
        stranger.execute(f"SELECT pg_advisory_lock({key})")
        with (
            Signals() as signals,
            pytest.raises(Refused, match=f"holds the advisory lock .*pid {stranger.info.backend_pid}"),
        ):
            backfill.run([spec], Limits(jobs=1), Lines(), signals)
        stranger.execute("SELECT pg_advisory_unlock_all()")
    assert scenes.physical(target_db) == before
    with Signals() as signals:
        assert backfill.run([spec], Limits(jobs=1), Lines(), signals).exit_code == 0
