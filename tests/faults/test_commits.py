"""The answer to COMMIT is lost: what was committed is not done again, and what was not is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.between import FIGURES, PER_DAY, Site
from tests.faults.proxy import Action
from tests.fixtures import scenes
from tests.fixtures.scenes import Background, execute, until


def attempts(site: Site) -> list[tuple[Any, ...]]:
    """Windows that were not done at the first attempt."""
    return scenes.rows(site.target, "SELECT id, attempts, error FROM hyperfill.windows WHERE attempts <> 1")


def test_a_commit_of_which_the_answer_is_lost(site: Site) -> None:
    proxy = site.proxies["target"]
    # One window with dual-written rows: moved twice, it would have deleted them and its own.
    dual = proxy.when("client", "Query", "swallow", sql="^COMMIT", after="(?s)^DELETE FROM(?!.*xmin)")
    others = proxy.when("client", "Query", "swallow", times=3, sql="^COMMIT", after=FIGURES)
    run = site.finished(site.start())
    assert (len(dual.hits), len(others.hits)) == (1, 3), site.traces()
    # They are done, and nobody has tried them again.
    assert attempts(site) == []
    assert "trying again" not in run.stderr
    site.check()


SLOW = 3  # seconds


def make_commits_slow(site: Site, window: int) -> None:
    """The COMMIT of this window takes its time: a constraint trigger that is deferred runs inside of it."""
    row = (window - 2) * PER_DAY + PER_DAY // 2  # before the windows of a day there is that of all days before
    execute(
        site.target,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql "
        f"AS 'BEGIN PERFORM pg_sleep({SLOW}); RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON metrics DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
        f"WHEN (NEW.id = {row}) EXECUTE FUNCTION slow()",
    )


COMMITTING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query = 'COMMIT' "
    "AND wait_event = 'PgSleep'"
)
RESOLVING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
    "AND query LIKE '%%FOR NO KEY UPDATE' AND pg_blocking_pids(pid) = ARRAY[%s::int]"
)


def begin_slow_commit(site: Site) -> tuple[Background, int]:
    """A run whose worker was cut off from a backend that is still committing; that backend."""
    make_commits_slow(site, 4)
    abandoned = site.proxies["target"].when("client", "Query", "abandon", sql="^COMMIT", after=FIGURES, times=20)
    run = site.start(jobs=1)
    [(backend,)] = until(lambda: scenes.rows(site.target, COMMITTING), 30, "a slow COMMIT")
    assert abandoned.hits
    return run, int(backend)


def test_the_backend_is_still_committing(site: Site) -> None:
    """A plain look at the ledger would find the window pending, and move it again."""
    run, backend = begin_slow_commit(site)
    until(lambda: scenes.rows(site.target, RESOLVING, backend), SLOW, "the window's lock to be waited for")
    assert scenes.scalar(site.target, "SELECT state FROM hyperfill.windows WHERE id = 4") == "pending"
    site.finished(run)
    assert attempts(site) == []
    site.check()


def test_the_backend_dies_while_it_commits(site: Site) -> None:
    """Now it was not done: the server notices within two seconds that nobody is there, and rolls back."""
    run, backend = begin_slow_commit(site)
    site.proxies["target"].cut(r"^hyperfill/\d+$")  # and with it the connection that asks
    until(lambda: not scenes.rows(site.target, "SELECT 1 FROM pg_stat_activity WHERE pid = %s", backend), 5, "its end")
    site.finished(run)
    assert [row[:2] for row in attempts(site)] == [(4, 2)]
    site.check()


@pytest.mark.parametrize(("action", "times"), [("swallow", 1), ("rst", 2)])
def test_the_last_commit(site: Site, action: Action, times: int) -> None:
    """The transaction that makes the backfill done is the run's own: it tries once more, and then leaves it at that."""
    proxy = site.proxies["target"]
    # Of a transaction that arrives the second attempt would find nothing to do.
    before = {"rst": "SET phase", "swallow": "SELECT"}[action]
    rule = proxy.when("client", "Query", action, sql="^COMMIT", after=before, who="control", times=0)
    run = site.start()
    until(lambda: "analyzing" in run.stderr, 30, "the end")
    rule.times = times
    if times == 1:
        site.finished(run)
    else:
        assert run.wait(30) == 4, (run.stderr, site.traces())
        assert "Traceback" not in run.stderr and run.report["state"] == "incomplete"
        site.finished(site.start())
    assert len(rule.hits) == times
    site.check()
