"""Peers of which nothing is heard, or that live and say nothing: noticed in time, and rows are there exactly once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.faults.between import INTO, LEFT, OUT_OF, SOURCE, TARGET, Moment, Side, Site, new_site, said
from tests.faults.proxy import Action, Proxy
from tests.fixtures import scenes
from tests.fixtures.loading import Loading, rows
from tests.fixtures.scenes import Background, T, until
from tests.fixtures.servers import Servers

# -- a peer that is silent: nothing is acknowledged, no end is ever told ----------------------------------------

Silences = dict[str, tuple[Site, "Future[float]"]]


@dataclass(frozen=True)
class Silence:
    """Who hears nothing any more, when, and the seconds within which that must be noticed."""

    side: Side
    moment: Moment
    action: Action
    seconds: tuple[float, float]
    kill: bool = False


SILENCES = {
    # The client's own keepalives, and tcp_user_timeout where it had something to send.
    "the target for the client": Silence("target", TARGET["copied"], "client deaf", (10, 50)),
    "the source for the client": Silence("source", SOURCE["middle"], "client deaf", (10, 50)),
    # The lease of a worker that the server cannot hear: until then others pass its window over.
    "a worker for the target": Silence("target", TARGET["middle"], "server deaf", (10, 50)),
    "a killed worker for the target": Silence("target", TARGET["middle"], "server deaf", (10, 50), kill=True),
    "a worker that never took an answer": Silence("target", TARGET["delete asked"], "server alone", (10, 50)),
    # A new connection is all that is needed.
    "a worker for the source": Silence("source", SOURCE["middle"], "server deaf", (0, 15)),
}


def endure(site: Site, case: Silence) -> float:
    """Seconds from the silence until every window is done. One worker: it must get the same window again."""
    origin, kind, where = case.moment
    rule = site.proxies[case.side].when(origin, kind, case.action, **where)
    run = site.start(jobs=1)
    assert rule.hit.wait(60), run.stderr
    if case.kill:
        run.signal_group(signal.SIGKILL)
        run.wait(10)
        run = site.start(jobs=1)
    site.finished(run, 100)
    return time.monotonic() - rule.hits[0]


@pytest.fixture(scope="module")
def silences(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Silences]:
    """All of them at once, for they cost nothing but time."""
    with ExitStack() as stack:
        sites = {name: stack.enter_context(new_site(servers, tmp_path_factory)) for name in SILENCES}
        pool = stack.enter_context(ThreadPoolExecutor(len(sites)))
        yield {name: (site, pool.submit(endure, site, SILENCES[name])) for name, site in sites.items()}


@pytest.mark.long
@pytest.mark.parametrize("name", SILENCES)
def test_silence(silences: Silences, name: str) -> None:
    site, waited = silences[name]
    seconds = waited.result()
    print(f"{name}: noticed and done after {seconds:.1f} s")
    least, most = SILENCES[name].seconds
    assert least < seconds < most
    for proxy in site.proxies.values():
        proxy.bury()  # the source cannot know yet that what it has sent will never be read
    site.check()


# -- a peer that lives and says nothing --------------------------------------------------------------------------


STALLS: list[tuple[Side, str]] = [
    ("source", "named"),
    ("source", "copy asked"),
    ("source", "middle"),
    ("source", "rows told"),
    ("source", "checked"),
    ("target", "copy begun"),
    ("target", "middle"),
    ("target", "copied"),
]


@pytest.mark.long
@pytest.mark.parametrize(("side", "moment"), STALLS)
def test_a_stall(site: Site, side: Side, moment: str) -> None:
    origin, kind, where = (TARGET if side == "target" else SOURCE)[moment]
    rule = site.proxies[side].when(origin, kind, "stall", **where)
    run = site.start("--stall-timeout", "3s")
    if side == "target":
        # Its row of the ledger is its lease: until that session ends, nobody may take the window.
        until(lambda: "nothing has moved" in run.stderr, 30, "the stall to be noticed")
        site.proxies[side].bury()
    site.finished(run, 40)
    assert len(rule.hits) == 1, site.traces()
    assert time.monotonic() - rule.hits[0] < 20
    site.proxies[side].bury()
    site.check()
    assert "trying again" in run.stderr


def test_two_signals_end_what_waits_for_a_silent_server(site: Site, loading: Loading, tmp_path: Path) -> None:
    """A run and a dump whose source says nothing, and a load whose target does: all of them at once."""
    source, named = site.proxies["source"], "application_name"
    run_at = source.when("client", "Query", "stall", sql=named, times=2)
    dump_at = source.when("client", "Query", "stall", sql=named, who="^hyperfill/dump")
    table = ["--table", "public.metrics", "--end", T, "--jobs", "1", "--json"]
    with Proxy(loading.conninfo) as proxy:
        load_at = proxy.when("server", "CommandComplete", "stall", sql=INTO)
        target = ["--target", proxy.conninfo, "--hypertable", "public.m", "--json"]
        runs = [
            site.start(),
            Background.start(tmp_path, "load", *target, loading.file("a.csv", rows(2000))),
            Background.start(tmp_path, "dump", "--source", source.conninfo, *table, "--out", str(tmp_path / "out")),
        ]
        site.runs += runs[1:]
        for rule in (run_at, load_at, dump_at):
            assert rule.hit.wait(30), [run.stderr for run in runs]
        for word in ("finished first", "cancelling"):
            for run in runs:
                run.signal_group(signal.SIGINT)
            for run in runs:
                until(partial(said, run, word), 10, word)
        second = time.monotonic()
        assert [run.wait(max(1, second + 15 - time.monotonic())) for run in runs] == [130] * 3
        assert not any("Traceback" in run.stderr for run in runs)
        assert [run.report["state"] for run in runs] == ["incomplete"] * 3
        # The source cannot know yet that nobody is there any more; the target of the run was told.
        assert not scenes.rows(site.target, LEFT["sessions"])
        proxy.bury()
    assert loading.count() == 0


def test_a_slow_line_is_no_stall(site: Site) -> None:
    rule = site.proxies["source"].when("server", "CopyData", "throttle", sql=OUT_OF, rate=100_000)
    run = site.finished(site.start("--stall-timeout", "3s"))
    assert len(rule.hits) == 1
    assert "trying again" not in run.stderr
    site.check()
