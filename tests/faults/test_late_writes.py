"""Rows that are written below T on both sides while their window is moved: found at the end, or there already; never
doubled without a word.

A window is held at one message of the protocol: before the source's snapshot, after it, before COMMIT. Then an
application writes, and the window goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest

from tests.faults.proxy import Proxy, Rule
from tests.fixtures import scenes
from tests.fixtures.pair import Pair
from tests.fixtures.scenes import Background, until

START = ("--start", "2024-01-01T00:00:00Z")
END = "2024-01-03T00:00:00Z"
ROWS = 2 * 96
COLUMNS = "time, id, value"
# A row that is not there yet, and one that is; both in the second of two windows.
NEW = "('2024-01-02 12:07Z', 1000, 1)"
PLACE = "time = '2024-01-02 12:00Z'"
SECOND = "2024-01-02"

Moment = tuple[Literal["source", "target"], Literal["client", "server"], str, str]
# What the target had was counted, the source is not read yet.
BEFORE: Moment = ("source", "client", "Query", rf"(?s)^COPY .*>= '{SECOND}.* TO STDOUT")
# What the source sends is decided.
AFTER: Moment = ("source", "server", "CopyOutResponse", rf"(?s)^COPY .*>= '{SECOND}.* TO STDOUT")
# All rows are there, for nobody to see.
COPIED: Moment = ("target", "client", "Query", "^COMMIT")


class Late:
    """Table m of two windows on both sides, and a run that is held in the second of them."""

    def __init__(self, pair: Pair, folder: Path, *, key: bool) -> None:
        self.pair, self.folder = pair, folder
        constraint = ", PRIMARY KEY (time, id)" if key else ""
        pair.both(f"CREATE TABLE m (time timestamptz NOT NULL, id int NOT NULL, value float8{constraint})")
        pair.on_source(
            "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '15 minutes', i, i "
            f"FROM generate_series(0, {ROWS - 1}) AS i",
            *([] if key else ["CREATE INDEX ON m (time)"]),
            "ANALYZE m",
        )
        pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")
        self.proxies = {"source": Proxy(pair.source_conninfo), "target": Proxy(pair.target_conninfo)}
        self.run: Background | None = None

    def __enter__(self) -> Late:
        for proxy in self.proxies.values():
            proxy.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self.run is not None:
            self.run.end()
        for proxy in self.proxies.values():
            proxy.__exit__()

    def hold(self, moment: Moment) -> Rule:
        """Start a run; it stands still there."""
        side, origin, kind, statement = moment
        after = r"^UPDATE hyperfill\.windows\s+SET state = 'done'" if moment is COPIED else None
        proxy = self.proxies[side]
        if moment is COPIED:
            # One COMMIT is like the other: the first window's passes.
            first = proxy.when(origin, kind, "throttle", sql=statement, after=after, rate=1e9)
        rule = proxy.when(origin, kind, "hold", sql=statement, after=after)
        ends = (self.proxies[side].conninfo for side in ("source", "target"))
        options = scenes.arguments(*ends, "--jobs", "1", "--order", "oldest", "--json", *START, end=END, table="m")
        self.run = Background.start(self.folder, "run", *options)
        assert rule.hit.wait(30), self.run.stderr
        assert moment is not COPIED or len(first.hits) == 1
        return rule

    def go_on(self) -> tuple[int, dict[str, Any]]:
        """Exit code and report of the run."""
        assert self.run is not None
        for proxy in self.proxies.values():
            proxy.release()
        code = self.run.wait(60)
        assert "Traceback" not in self.run.stderr
        return code, self.run.report

    def equal(self) -> None:
        """Below T both sides have the same rows."""
        self.pair.same("m", COLUMNS, f"time < '{END}'")

    def found_and_repaired(self) -> None:
        """The run ends with 5 and says where; a repair ends with 0, and then they are equal."""
        code, report = self.go_on()
        assert (code, report["state"]) == (5, "mismatch"), self.run and self.run.stderr
        [difference] = report["verification"]["differences"]
        assert difference["lower"].startswith(SECOND)
        code, report, errors = self.pair.command("repair", "m", *START, "--end", END)
        assert (code, report["state"]) == (0, "done"), errors
        assert report["windows"]["total"] == 1
        self.equal()
        assert self.pair.query(self.pair.target, "SELECT phase FROM hyperfill.backfills") == [("done",)] * 2


@pytest.fixture
def late(pair: Pair, tmp_path: Path) -> Iterator[Late]:
    with Late(pair, tmp_path, key=False) as made:
        yield made


@pytest.fixture
def keyed(pair: Pair, tmp_path: Path) -> Iterator[Late]:
    with Late(pair, tmp_path, key=True) as made:
        yield made


@dataclass(frozen=True)
class Case:
    """When, what, and whether it has to be repaired afterwards."""

    moment: Moment
    write: str
    differs: bool


CASES = {
    # The source sends it as well, and no key is in the way: it is there twice.
    "inserted before the source is read": Case(BEFORE, f"INSERT INTO m VALUES {NEW}", True),
    # In neither what was deleted nor what is copied: it is there once.
    "inserted after": Case(AFTER, f"INSERT INTO m VALUES {NEW}", False),
    "inserted before COMMIT": Case(COPIED, f"INSERT INTO m VALUES {NEW}", False),
    # On the target there is nothing yet to update or to delete.
    "updated after": Case(AFTER, f"UPDATE m SET value = -7 WHERE {PLACE}", True),
    "deleted after": Case(AFTER, f"DELETE FROM m WHERE {PLACE}", True),
}


@pytest.mark.parametrize("name", CASES)
def test_without_a_key(late: Late, name: str) -> None:
    case = CASES[name]
    late.hold(case.moment)
    late.pair.both(case.write)
    if case.differs:
        late.found_and_repaired()
    else:
        code, _ = late.go_on()
        assert code == 0, late.run and late.run.stderr
        late.equal()


ATTEMPTS = "SELECT attempts FROM hyperfill.windows WHERE rows_copied > 0 ORDER BY id"


def test_a_key_makes_the_window_try_again(keyed: Late) -> None:
    keyed.hold(BEFORE)
    keyed.pair.both(f"INSERT INTO m VALUES {NEW}")
    code, report = keyed.go_on()
    assert keyed.run is not None and code == 0, keyed.run
    assert "duplicate key value" in keyed.run.stderr and "trying again" in keyed.run.stderr
    assert keyed.pair.query(keyed.pair.target, ATTEMPTS) == [(1,), (2,)]
    # The second attempt has deleted what the application wrote, and brought it from the source.
    assert (report["rows_deleted"], report["rows_copied"]) == (1, ROWS + 1)
    keyed.equal()


def test_an_application_waits_for_a_key_and_no_longer_than_its_window(keyed: Late) -> None:
    """What it writes comes after the window, so the last value stays."""
    keyed.hold(COPIED)
    write = "INSERT INTO m VALUES ('2024-01-02 12:00Z', 144, -7) ON CONFLICT (time, id) DO UPDATE SET value = -7"
    keyed.pair.on_source(write)
    ended = threading.Event()

    def upsert() -> None:
        with psycopg.connect(keyed.pair.target_conninfo, autocommit=True) as application:
            application.execute(write)
        ended.set()

    thread = threading.Thread(target=upsert, daemon=True)
    thread.start()
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO m%ON CONFLICT%' "
        "AND datname = current_database()"
    )
    until(lambda: keyed.pair.query(keyed.pair.target, waiting), 10, "the application to wait")
    assert not ended.is_set()
    code, _ = keyed.go_on()
    assert ended.wait(5)
    thread.join(5)
    assert code == 0, keyed.run and keyed.run.stderr
    assert keyed.pair.query(keyed.pair.target, ATTEMPTS) == [(1,), (1,)]
    keyed.equal()


def test_a_key_that_stays_in_the_way_fails_its_window(pair: Pair) -> None:
    """Five attempts, not two minutes; the other window is done."""
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, id int NOT NULL, value float8)")
    pair.on_source(
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', i, i FROM generate_series(0, 47) i",
        "INSERT INTO m VALUES ('2024-01-02 12:00Z', 36, 0)",
        "CREATE INDEX ON m (time)",
    )
    pair.on_target(
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        "ALTER TABLE m ADD PRIMARY KEY (time, id)",
    )
    code, report, errors = pair.command("run", "m", "--end", END, "--jobs", "1")
    assert (code, report["windows"]["failed"], report["rows_copied"]) == (4, 1, 24), errors
    [failed] = report["failed_windows"]
    assert (failed["sqlstate"], failed["server"]) == ("23505", "target")
    assert "twice" in failed["hint"]
    [(attempts,)] = pair.query(pair.target, "SELECT attempts FROM hyperfill.windows WHERE state = 'failed'")
    assert attempts == 5
    pair.on_source("DELETE FROM m WHERE value = 0 AND id = 36")
    assert pair.run("m", "--end", END)["rows_copied"] == 48
