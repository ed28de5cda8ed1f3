"""Fixtures of tests that break connections: here, and no plugin, for `site` is another one elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.between import Site
from tests.fixtures.scenes import execute
from tests.fixtures.servers import Servers, fresh_database


@pytest.fixture(scope="module")
def databases(servers: Servers) -> Iterator[tuple[str, str]]:
    """One pair for most tests: to drop a database the server asks every backend of every database, and one that waits
    for the next bytes of a COPY does not answer. Here some of them wait for a minute."""
    source, target = fresh_database(servers.source, "source"), fresh_database(servers.target, "target")
    yield next(source), next(target)
    next(source, None)
    next(target, None)


@pytest.fixture
def site(databases: tuple[str, str], tmp_path: Path) -> Iterator[Site]:
    source, target = databases
    try:
        with Site(source, target, tmp_path / "runs") as made:
            yield made
    finally:
        execute(source, "DROP TABLE IF EXISTS metrics")
        execute(
            target,
            "DROP SCHEMA IF EXISTS hyperfill CASCADE",
            "DROP TABLE IF EXISTS metrics",
            "DROP FUNCTION IF EXISTS slow CASCADE",
        )
