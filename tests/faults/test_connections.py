"""Connections that break at a chosen message of the protocol: the run goes on, and rows are there exactly once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from tests.faults.between import INTO, SOURCE, TARGET, Moment, Side, Site, new_site, nothing_left, said
from tests.faults.proxy import Proxy, Rule
from tests.fixtures import scenes
from tests.fixtures.loading import Loading, rows
from tests.fixtures.scenes import Background, until
from tests.fixtures.servers import Servers

# -- ports that stay closed ---------------------------------------------------------------------------------------

Gone = dict[str, tuple[Site, Background, float]]


@pytest.fixture(scope="module")
def gone(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gone]:
    """Commands that lost a server for good: where, which, and when."""
    with ExitStack() as stack:
        sites = [stack.enter_context(new_site(servers, tmp_path_factory)) for _ in range(3)]
        runs = [
            one.start("--max-rate", rate, "--retry-for", "20s")
            for one, rate in zip(sites, ("500kB", "500kB", "1GB"), strict=True)
        ]
        for one in sites[:2]:
            until(one.under_way, 30, "windows")
        sites[0].proxies["source"].shut()
        sites[1].proxies["target"].shut()
        # A comparison reads, and loses the source in the middle of it.
        compared = sites[2]
        compared.finished(runs[2])
        met = compared.proxies["source"].when("client", "Query", "rst", sql="hash_record", who="^hyperfill/")
        runs[2] = compared.start("--retry-for", "20s", command="verify")
        assert met.hit.wait(30), runs[2].stderr
        compared.proxies["source"].shut()
        now = time.monotonic()
        names = ("source", "target", "verify")
        yield {name: (one, run, now) for name, one, run in zip(names, sites, runs, strict=True)}


def test_a_closed_port_is_tried_again(gone: Gone) -> None:
    """The first test: it makes what needs half a minute begin now."""
    for name in ("source", "target"):
        _, run, _ = gone[name]
        until(partial(said, run, "trying again"), 20, "a retry")
        assert run.process.poll() is None


# -- one moment after the other: first a reset, then, when it comes there again, an orderly end ------------------

# Several in one run; each is met twice, and a worker that lost a window comes back to it.
TOGETHER: list[tuple[Side, list[str]]] = [
    ("target", ["claim asked", "chunk committed", "deleted", "last byte"]),
    ("target", ["claimed", "copy begun", "middle", "commit asked"]),
    ("target", ["delete asked", "first bytes", "copied", "figures"]),
    ("source", ["named", "copy begun", "middle", "rows told"]),
    ("source", ["copy asked", "first bytes", "last byte", "checked"]),
]


@pytest.mark.parametrize(
    ("side", "moments"), TOGETHER, ids=["-".join([s, m[0].replace(" ", "_")]) for s, m in TOGETHER]
)
def test_a_cut(site: Site, side: Side, moments: list[str]) -> None:
    rules: dict[str, Rule] = {}
    for moment in moments:
        origin, kind, where = (TARGET if side == "target" else SOURCE)[moment]
        rules[moment] = site.proxies[side].when(origin, kind, "rst", "fin", **where)
    run = site.finished(site.start())
    assert {moment: len(rule.hits) for moment, rule in rules.items()} == dict.fromkeys(moments, 2), site.traces()
    assert "trying again" in run.stderr
    # No retry was spent on a connection that was gone.
    again = scenes.scalar(site.target, "SELECT sum(attempts - 1) FROM hyperfill.windows WHERE attempts > 1")
    assert (again or 0) <= 2 * len(moments), site.traces()
    site.check()


def test_every_moment_is_tried() -> None:
    for side, moments in (("target", TARGET), ("source", SOURCE)):
        assert sorted(m for s, names in TOGETHER if s == side for m in names) == sorted(moments)


def test_the_runs_own_connection(site: Site) -> None:
    run = site.start("--max-rate", "1MB")
    until(site.under_way, 30, "windows")
    assert site.proxies["target"].cut("^hyperfill/control$") == 1
    site.finished(run)
    site.check()


# -- other commands ----------------------------------------------------------------------------------------------


def test_verify(site: Site) -> None:
    site.finished(site.start())
    hashing, anybody = "hash_record_extended", "^hyperfill/"
    rules = [
        site.proxies["source"].when("server", "CommandComplete", "rst", "fin", sql=hashing, who=anybody),
        site.proxies["target"].when("client", "Query", "rst", "fin", sql=hashing, who=anybody),
    ]
    run = site.start(command="verify")
    assert run.wait(60) == 0, (run.stderr, site.traces())
    assert run.report["state"] == "done" and run.report["windows"]["equal"] == run.report["windows"]["total"]
    assert [len(rule.hits) for rule in rules] == [2, 2]
    site.check()


LOADED = 20_000
BATCH = "^INSERT INTO hyperfill.batches"


def test_load(loading: Loading) -> None:
    path = loading.file("a.csv", rows(LOADED))
    loading.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON m DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
        f"WHEN (NEW.id = {LOADED // 3}) EXECUTE FUNCTION slow()",
    )
    with Proxy(loading.conninfo) as proxy:
        moments: list[Moment] = [
            ("client", "Query", {"sql": BATCH}),
            ("server", "CopyInResponse", {"sql": INTO}),
            ("client", "CopyDone", {"sql": INTO}),
            ("server", "CommandComplete", {"sql": INTO}),
            ("client", "Query", {"sql": "^COMMIT", "after": BATCH}),
        ]
        rules = [proxy.when(origin, kind, "rst", "fin", **where) for origin, kind, where in moments]
        lost = proxy.when("client", "Query", "swallow", "abandon", sql="^COMMIT", after=BATCH, times=8)
        loading.conninfo, direct = proxy.conninfo, loading.conninfo
        report = loading.done("--batch-size", "64kB", "--jobs", "2", path)
        assert ([len(rule.hits) for rule in rules], len(lost.hits)) == ([2] * len(rules), 8), [*proxy.trace][-60:]
        assert (report["state"], report["rows_copied"]) == ("done", LOADED)
        assert loading.query("SELECT count(*), count(DISTINCT id) FROM m") == [(LOADED, LOADED)]
        nothing_left(direct)


# -- and at last -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["source", "target", "verify"])
def test_a_closed_port_ends_with_4_and_a_sentence(gone: Gone, name: str) -> None:
    site, run, since = gone[name]
    # Twenty seconds, the last pause, and what a busy machine takes.
    assert run.wait(max(1.0, since + 60 - time.monotonic())) == 4, run.stderr
    said = run.stderr + run.stdout
    lost = "target" if name == "target" else "source"
    assert f"cannot connect to the {lost}" in said and "refused" in said and "Traceback" not in said
    assert run.report["state"] == "incomplete"
    proxy = site.proxies["target" if name == "target" else "source"]
    proxy.open()
    command = "verify" if name == "verify" else "run"
    site.finished(site.start(command=command))
    site.check()
