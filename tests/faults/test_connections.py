"""Connections that break at a chosen message of the protocol: the run goes on, and rows are there exactly once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.faults.proxy import Action, Proxy, Rule
from tests.fixtures import scenes
from tests.fixtures.loading import Loading, rows
from tests.fixtures.scenes import Background, T, arguments, assert_equal_below, execute, make_metrics, until
from tests.fixtures.servers import Servers, fresh_database

Side = Literal["source", "target"]
PER_DAY = 4000  # some 200 kB in COPY: two blocks of the relay
ROWS = 9.5 * PER_DAY
DUAL = 500
AFTER = f"time >= '{T}'"
MIDDLE = 140_000  # bytes: in the second block
INTO, OUT_OF = r"^COPY .* FROM STDIN", r"^COPY .* TO STDOUT"
FIGURES = r"^UPDATE hyperfill\.windows\s+SET state = 'done'"


class Site:
    """`metrics` on both sides, and a proxy before each of them."""

    def __init__(self, source: str, target: str, folder: Path) -> None:
        self.source, self.target, self.folder = source, target, folder
        self.proxies: dict[Side, Proxy] = {"source": Proxy(source), "target": Proxy(target)}
        self.runs: list[Background] = []
        make_metrics(source, target, per_day=PER_DAY, after=50)
        # What the application has written twice, with another value on the target.
        execute(
            target,
            "INSERT INTO metrics SELECT time, id, -1, 'dual' FROM (SELECT i AS id, "
            f"'{scenes.START}'::timestamptz + i * interval '1 day' / {PER_DAY} AS time "
            f"FROM generate_series({ROWS - DUAL}::int, {ROWS}::int - 1) AS i) AS t",
        )
        self.after = scenes.physical(target, AFTER)

    def __enter__(self) -> Site:
        for proxy in self.proxies.values():
            proxy.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for run in self.runs:
            run.end()
        for proxy in self.proxies.values():
            proxy.__exit__()

    def options(self, *more: str, jobs: int = 2) -> list[str]:
        source, target = (self.proxies[side].conninfo for side in ("source", "target"))
        return arguments(source, target, "--jobs", str(jobs), "--json", *more)

    def start(self, *more: str, command: str = "run", jobs: int = 2) -> Background:
        run = Background.start(self.folder, command, *self.options(*more, jobs=jobs))
        self.runs.append(run)
        return run

    def finished(self, run: Background, seconds: float = 60) -> Background:
        """The run ends by itself, with everything moved."""
        assert run.wait(seconds) == 0, (run.stderr, self.traces())
        assert run.report["state"] in ("done", "nothing"), run.stdout
        assert "Traceback" not in run.stderr
        return run

    def check(self) -> None:
        """Rows are there exactly once, none was moved twice, nothing is left behind."""
        assert_equal_below(self.source, self.target)
        found = scenes.rows(
            self.target,
            "SELECT sum(rows_copied), sum(rows_deleted), count(*) FILTER (WHERE state <> 'done') "
            "FROM hyperfill.windows",
        )
        assert found == [(ROWS, DUAL, 0)]
        assert scenes.physical(self.target, AFTER) == self.after
        until(lambda: scenes.processes_gone(self.runs), 10, "processes to end")
        for side in (self.source, self.target):
            nothing_left(side)

    def traces(self) -> str:
        return "\n".join(line for proxy in self.proxies.values() for line in [*proxy.trace][-60:])


LEFT = {
    "sessions": "SELECT application_name, state, query FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name LIKE 'hyperfill%'",
    "locks": "SELECT l.locktype, l.mode, a.application_name FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) "
    "WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()",
    "prepared": "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()",
    "temporary": "SELECT relname FROM pg_class WHERE relpersistence = 't'",
}


def nothing_left(conninfo: str, seconds: float = 5) -> None:
    """No session, no lock, no prepared transaction, no temporary table of ours."""
    for what, query in LEFT.items():
        until(lambda query=query: not scenes.rows(conninfo, query), seconds, f"no {what}")  # type: ignore[misc]


@contextmanager
def new_site(servers: Servers, folders: pytest.TempPathFactory) -> Iterator[Site]:
    """One that outlives a test."""
    with ExitStack() as stack:
        conninfos = []
        for server, prefix in ((servers.source, "source"), (servers.target, "target")):
            made = fresh_database(server, prefix)
            conninfos.append(next(made))
            stack.callback(next, made, None)
        yield stack.enter_context(Site(conninfos[0], conninfos[1], folders.mktemp("runs")))


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


# -- ports that stay closed ---------------------------------------------------------------------------------------

Gone = dict[str, tuple[Site, Background, float]]
Silences = dict[str, tuple[Site, "Future[float]"]]


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
            until(lambda one=one: scenes.windows_done(one.target) > 1, 30, "windows")  # type: ignore[misc]
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
        yield {name: (*found, now) for name, *found in zip(names, sites, runs, strict=True)}  # type: ignore[misc]


def test_a_closed_port_is_tried_again(gone: Gone) -> None:
    """The first test: it makes what needs half a minute begin now."""
    for name in ("source", "target"):
        _, run, _ = gone[name]
        until(lambda run=run: "trying again" in run.stderr, 20, "a retry")  # type: ignore[misc]
        assert run.process.poll() is None


# -- one moment after the other: first a reset, then, when it comes there again, an orderly end ------------------

# Where a worker's session is: origin and kind of the message that does not arrive, its statement, what was before it.
Moment = tuple[Literal["client", "server"], str, dict[str, Any]]
TARGET: dict[str, Moment] = {
    "claim asked": ("client", "Query", {"sql": "SKIP LOCKED"}),
    "claimed": ("server", "CommandComplete", {"sql": "SKIP LOCKED"}),
    "chunk committed": ("client", "Query", {"sql": "^COMMIT", "after": "^INSERT INTO"}),
    "delete asked": ("client", "Query", {"sql": "^DELETE FROM", "after": "SKIP LOCKED"}),
    "deleted": ("server", "CommandComplete", {"sql": "^DELETE FROM", "after": "SKIP LOCKED"}),
    "copy begun": ("server", "CopyInResponse", {"sql": INTO}),
    "first bytes": ("client", "CopyData", {"sql": INTO}),
    "middle": ("client", "CopyData", {"sql": INTO, "copied": MIDDLE}),
    "last byte": ("client", "CopyDone", {"sql": INTO}),
    "copied": ("server", "CommandComplete", {"sql": INTO}),
    "figures": ("server", "CommandComplete", {"sql": FIGURES}),
    "commit asked": ("client", "Query", {"sql": "^COMMIT", "after": FIGURES}),
}
SOURCE: dict[str, Moment] = {
    "named": ("client", "Query", {"sql": "application_name"}),
    "copy asked": ("client", "Query", {"sql": OUT_OF}),
    "copy begun": ("server", "CopyOutResponse", {"sql": OUT_OF}),
    "first bytes": ("server", "CopyData", {"sql": OUT_OF}),
    "middle": ("server", "CopyData", {"sql": OUT_OF, "copied": MIDDLE}),
    "last byte": ("server", "CopyDone", {"sql": OUT_OF}),
    "rows told": ("server", "CommandComplete", {"sql": OUT_OF}),
    "checked": ("server", "CommandComplete", {"sql": "to_regclass"}),
}
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
    until(lambda: scenes.windows_done(site.target) > 1, 30, "windows")
    assert site.proxies["target"].cut("^hyperfill/control$") == 1
    site.finished(run)
    site.check()


# -- the answer to COMMIT ----------------------------------------------------------------------------------------


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


# -- a peer that is silent: nothing is acknowledged, no end is ever told ----------------------------------------


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
                until(lambda run=run, word=word: word in run.stderr, 10, word)  # type: ignore[misc]
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
