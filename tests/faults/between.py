"""Proxies between a run and its servers, the moments at which they break a connection, and what must be true after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.faults.proxy import Proxy
from tests.fixtures import scenes
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

    def under_way(self) -> bool:
        """More than one window is done."""
        return scenes.windows_done(self.target) > 1

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


def _none(conninfo: str, query: str) -> bool:
    return not scenes.rows(conninfo, query)


def nothing_left(conninfo: str, seconds: float = 5) -> None:
    """No session, no lock, no prepared transaction, no temporary table of ours."""
    for what, query in LEFT.items():
        until(partial(_none, conninfo, query), seconds, f"no {what}")


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


def said(run: Background, words: str) -> bool:
    """A command has said this on stderr."""
    return words in run.stderr
