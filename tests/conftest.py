"""What every test gets: a clean environment, and the fixtures of `tests.fixtures`."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.fixtures.roles",
    "tests.fixtures.servers",
    "tests.fixtures.cli",
    "tests.fixtures.pair",
    "tests.fixtures.loading",
    "tests.fixtures.community",
    "tests.fixtures.arena",
    "tests.fixtures.copying",
    "tests.fixtures.dumping",
    "tests.fixtures.holding",
    "tests.fixtures.pgbouncer",
    "tests.fixtures.relaying",
    "tests.fixtures.small_disk",
    "tests.fixtures.standby",
]

# Not a test, a fixture or a plugin, but what it asserts should be told as well as there.
pytest.register_assert_rewrite("tests.faults.between")

_KEPT = ("HYPERFILL_PG_BIN", "HYPERFILL_SANDBOX_", "HYPERFILL_TEST_", "HYPERFILL_FAULT_")


# How long an example takes says how busy the machine is, and nothing about what is tested.
settings.register_profile("tests", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure() -> None:
    """A developer's own connection settings must never decide what a test connects to."""
    settings.load_profile("tests")
    for name in list(os.environ):
        if name.startswith(("PG", "HYPERFILL_")) and not name.startswith(_KEPT):
            del os.environ[name]
    # A sandbox that runs on this machine is not ours to stop.
    os.environ.pop("HYPERFILL_SANDBOX_DIR", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs something that is not there: the community edition of TimescaleDB, or much time."""
    for name, variable in (("community", "HYPERFILL_TEST_COMMUNITY"), ("long", "HYPERFILL_TEST_LONG")):
        if os.environ.get(variable):
            continue
        skip = pytest.mark.skip(reason=f"{variable} is not set")
        for item in items:
            if item.get_closest_marker(name):
                item.add_marker(skip)
