"""`hyperfill dump`: what the files hold is what the table held, exactly once, whatever happened on the way."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from hyperfill import dump_prepare, manifest
from hyperfill.archives import open_input
from hyperfill.errors import Refused
from hyperfill.manifest import DumpedWindow, Manifest
from hyperfill.timeline import TIME_TYPES, TimeType
from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.pair import Connection, Pair, connect
from tests.fixtures.scenes import Background, T, execute, until
from tests.fixtures.values import BUILTIN

END = "2024-06-01T00:00:00Z"


def last_wins(options: list[str]) -> list[str]:
    """Options of which each is there once, with its last value."""
    found: dict[str, list[str]] = {}
    for option in options:
        if option.startswith("--"):
            found.pop(option, None)
            name = option
            found[name] = [option]
        else:
            found[name].append(option)
    return [part for parts in found.values() for part in parts]


class Site:
    """A database to dump from, a folder to dump into, and the command."""

    def __init__(self, conninfo: str, connection: Connection, hyperfill: Hyperfill, folder: Path) -> None:
        self.conninfo = conninfo
        self.connection = connection
        self.hyperfill = hyperfill
        self.out = folder / "out"
        self.folder = folder
        self.started: list[Background] = []

    def options(self, table: str, *more: str, end: str = END) -> list[str]:
        common = ["--source", self.conninfo, "--table", table, "--end", end, "--out", str(self.out)]
        return last_wins([*common, "--jobs", "1", *more, "--json"])

    def dump(self, table: str, *more: str, end: str = END, code: int = 0) -> dict[str, Any]:
        done = self.hyperfill("dump", *self.options(table, *more, end=end))
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def refused(self, table: str, *more: str, end: str = END) -> set[str]:
        """Codes of the errors of a dump that must not begin; no folder is made."""
        report = self.dump(table, *more, end=end, code=3)
        assert report["state"] == "refused"
        assert not self.out.exists()
        return {f["code"] for f in report["findings"] if f["severity"] == "error"}

    def start(self, table: str, *more: str) -> Background:
        run = Background.start(self.folder / "runs", "dump", *self.options(table, *more))
        self.started.append(run)
        return run

    def finished(self) -> Manifest:
        found = manifest.read(self.out)
        manifest.verify(self.out, found, 2)
        named = {w.file for w in found.windows if w.file} | {"manifest.json"}
        assert {p.name for p in self.out.iterdir()} == named  # and nothing else is left behind
        return found

    def contents(self, window: DumpedWindow) -> bytes:
        if not window.file:
            return b""
        with open_input(self.out / window.file) as file:
            return b"".join(iter(lambda: file.read(1 << 20), b""))

    def rows(self, window: DumpedWindow) -> list[list[str]]:
        """Rows of a window's file, without the header."""
        text = self.contents(window).decode()
        return list(csv.reader(io.StringIO(text, newline="")))[1:]

    def load(self, table: str) -> None:
        """COPY every file by the server; the header must name the columns."""
        found = self.finished()
        names = sql.SQL(", ").join(sql.Identifier(c["name"]) for c in found.columns)
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, HEADER match)").format(sql.SQL(table), names)
        for window in (w for w in found.windows if w.file):
            data = self.contents(window)
            assert len(data) == window.csv_bytes
            with self.connection.cursor() as cursor:
                with cursor.copy(statement) as copy:
                    copy.write(data)
                assert cursor.rowcount == window.rows

    def texts(self, table: str, where: str = "true") -> list[str]:
        return sorted(str(r[0]) for r in self.connection.execute(f"SELECT t::text FROM {table} AS t WHERE {where}"))

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self.connection.execute(statement)

    def quiet(self) -> bool:
        return scenes.processes_gone(self.started) and not scenes.sessions(self.conninfo)


@pytest.fixture
def site(source_db: str, hyperfill: Hyperfill, tmp_path: Path) -> Iterator[Site]:
    """A plain database."""
    with connect(source_db) as connection:
        made = Site(source_db, connection, hyperfill, tmp_path)
        yield made
    for run in made.started:
        run.end()


@pytest.fixture
def timescale(target_db: str, hyperfill: Hyperfill, tmp_path: Path) -> Iterator[Site]:
    """A database with TimescaleDB as the source."""
    with connect(target_db) as connection:
        yield Site(target_db, connection, hyperfill, tmp_path)


# Values

ODD = 'a "b""c'
TIMES = ["4713-01-01 00:00Z BC", "0001-12-31 23:59:59.999999Z BC", "1970-01-01Z", "29999-12-31 23:59:59.999999Z"]


@pytest.mark.parametrize("compress", ["zstd", "gzip", "none"])
def test_awkward_values_arrive_as_they_were(site: Site, compress: str) -> None:
    names = {name: f"c{number}" for number, name in enumerate(BUILTIN)}
    names["text"] = '"' + ODD.replace('"', '""') + '"'
    columns = ", ".join(f"{column} {name}" for name, column in names.items())
    site.execute(
        f'CREATE TABLE "Odd {{}} %s Table" (n int, "The Time" timestamptz NOT NULL, {columns},'
        " twice int GENERATED ALWAYS AS (n * 2) STORED)"
    )
    number = 0
    for name, values in BUILTIN.items():
        for value in [*values, "NULL"]:
            moment = TIMES[number] if number < len(TIMES) else f"2024-01-{number % 28 + 1:02}Z"
            site.execute(
                f'INSERT INTO "Odd {{}} %s Table" (n, "The Time", {names[name]})'
                f" SELECT {number}, '{moment}', CAST({value} AS {name})"
            )
            number += 1
    # Settings of a database must not show in its dump.
    execute(
        site.conninfo,
        f"ALTER DATABASE {site.connection.info.dbname} SET TimeZone = 'Asia/Kathmandu'",
        f"ALTER DATABASE {site.connection.info.dbname} SET DateStyle = 'SQL, DMY'",
        f"ALTER DATABASE {site.connection.info.dbname} SET extra_float_digits = -5",
        f"ALTER DATABASE {site.connection.info.dbname} SET bytea_output = 'escape'",
    )
    report = site.dump('"Odd {} %s Table"', "--compress", compress, end="30000-01-01Z")
    assert report["rows"] == number
    assert [f["code"] for f in report["findings"] if f["severity"] != "warning"] == ["generated"]
    found = site.finished()
    assert ODD in [c["name"] for c in found.columns] and "twice" not in [c["name"] for c in found.columns]
    assert (found.relation, found.time_column, found.compress) == ('public."Odd {} %s Table"', "The Time", compress)
    site.execute('CREATE TABLE back (LIKE "Odd {} %s Table" INCLUDING GENERATED)')
    site.load("back")
    assert site.texts("back") == site.texts('"Odd {} %s Table"')


def test_null_is_empty_and_an_empty_string_is_quoted(site: Site) -> None:
    site.execute(
        "CREATE TABLE t (time timestamptz NOT NULL, a text, b text, f float8, y bytea)",
        "INSERT INTO t VALUES ('2024-01-01 12:00:00.000001+05:30', NULL, '', 0.1::float8 + 0.2::float8, '\\x00ff')",
    )
    site.dump("t", "--compress", "none")
    [window] = [w for w in site.finished().windows if w.rows]
    assert site.contents(window) == (b'time,a,b,f,y\n2024-01-01 06:30:00.000001+00,,"",0.30000000000000004,\\x00ff\n')


def test_chosen_columns_in_the_order_named(site: Site) -> None:
    site.execute(
        "CREATE TABLE t (time timestamptz NOT NULL, a int, g int GENERATED ALWAYS AS (a * 2) STORED, b text)",
        "INSERT INTO t VALUES ('2024-01-01Z', 1, DEFAULT, 'x')",
    )
    site.dump("t", "--columns", "B,g,time")
    [window] = [w for w in site.finished().windows if w.rows]
    assert site.contents(window) == b"b,g,time\nx,2,2024-01-01 00:00:00+00\n"


# Windows

SEAMS: dict[str, tuple[str, str, int, list[str]]] = {
    # type: start, end, and a length of windows
    "timestamptz": ("2024-01-01T00:00:00Z", "2024-01-01T10:00:00Z", 3_600_000_000, ["--window", "1 hour"]),
    "timestamp": ("2024-01-01T00:00:00", "2024-01-01T10:00:00", 3_600_000_000, ["--window", "1 hour"]),
    "date": ("2023-12-20", "2024-03-01", 7, []),
    "smallint": ("-100", "100", 10, ["--window", "10"]),
    "bigint": ("-5000", "5000", 1000, ["--window", "1000"]),
}


@pytest.mark.parametrize("name", SEAMS)
def test_rows_at_seams_are_in_exactly_one_file(site: Site, name: str) -> None:
    start, end, step, options = SEAMS[name]
    time_type = next(t for t in TIME_TYPES.values() if t.sql_name == name)
    canonical = site.connection.execute(f"SELECT '{start}'::{name}::text, '{end}'::{name}::text").fetchall()[0]
    lower, upper = (time_type.ordinal(text) for text in canonical)
    seams = {lower, upper, *range(lower - lower % step, upper, step)}
    ordinals = sorted({seam + offset for seam in seams for offset in (-1, 0, 1)})
    site.execute(f"CREATE TABLE t (at {name} NOT NULL, n bigint)", "CREATE INDEX ON t (at)")
    with site.connection.cursor().copy("COPY t FROM STDIN") as copy:
        for ordinal in ordinals:
            copy.write_row([time_type.text(ordinal), ordinal])
    site.dump("t", "--start", start, "--time-column", "at", *options, end=end)
    found = site.finished()
    assert (found.start, found.end) == (time_type.text(lower), time_type.text(upper))
    seen: list[int] = []
    for window in found.windows:
        assert window.lower is not None
        inside = range(time_type.ordinal(window.lower), time_type.ordinal(window.upper))
        numbers = [int(row[1]) for row in site.rows(window)]
        assert len(numbers) == window.rows and all(n in inside for n in numbers)
        seen += numbers
    assert sorted(seen) == [n for n in ordinals if lower <= n < upper]
    assert len([w for w in found.windows if w.rows]) > 5


def test_an_uuid_as_time(site: Site) -> None:
    site.execute("CREATE TABLE t (id uuid NOT NULL, n int)", "CREATE INDEX ON t (id)")
    uuid: TimeType = TIME_TYPES["uuid"]
    moments = [(1_700_000_000_000 + i * 86_400_000) << 74 | i for i in range(30)]
    with site.connection.cursor().copy("COPY t FROM STDIN") as copy:
        for number, ordinal in enumerate(moments):
            copy.write_row([uuid.text(ordinal), number])
    assert site.dump("t", "--time-column", "id", end="2024-06-01T00:00:00Z")["rows"] == 30
    windows = site.finished().windows
    assert [len(site.rows(w)) for w in windows] == [w.rows for w in windows] and len(windows) > 4


def test_windows_are_those_of_a_run(pair: Pair, tmp_path: Path) -> None:
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, n int)")
    pair.on_source(
        "INSERT INTO m SELECT timestamptz '2024-01-03Z' + i * interval '7 min', i FROM generate_series(1, 9000) AS i",
        "CREATE INDEX ON m (time)",
        "ANALYZE m",
    )
    pair.on_target("SELECT create_hypertable('m', 'time')")
    for number, options in enumerate([(), ("--max-window-rows", "600"), ("--window", "30 hours")]):
        run = pair.run("m", "--end", END, "--again", *options)
        windows = [(lower, upper) for _, lower, upper, *_ in pair.windows(run["backfill"])]
        site = Site(pair.source_conninfo, pair.source, pair.hyperfill, tmp_path / str(number))
        site.folder.mkdir()
        site.dump("m", *options)
        assert [(w.lower, w.upper) for w in site.finished().windows] == windows
        assert len(windows) > 5
    # And of a hypertable its own chunks.
    pair.on_target("CREATE TABLE h (LIKE m)")
    pair.on_target("SELECT create_hypertable('h', 'time', chunk_time_interval => interval '3 days')")
    pair.on_target("INSERT INTO h SELECT * FROM m")
    site = Site(pair.target_conninfo, pair.target, pair.hyperfill, tmp_path / "hypertable")
    site.folder.mkdir()
    site.dump("h")
    seams = {w.upper for w in site.finished().windows[:-1]}
    chunks = pair.query(
        pair.target,
        "SELECT range_start::text, range_end::text FROM timescaledb_information.chunks WHERE hypertable_name = 'h'",
    )
    assert seams == {edge for chunk in chunks for edge in chunk}


def test_a_hypertable_as_the_source(timescale: Site) -> None:
    timescale.execute(
        "CREATE TABLE h (t timestamptz NOT NULL, other timestamptz NOT NULL, n int, note text)",
        "SELECT create_hypertable('h', 't', chunk_time_interval => interval '1 day')",
        "INSERT INTO h SELECT timestamptz '2024-01-01Z' + i * interval '1 hour', '2020-01-01Z', i, 'x'"
        " FROM generate_series(0, 239) AS i",
        "ALTER TABLE h DROP COLUMN note",
        "ALTER TABLE h ADD COLUMN later text DEFAULT 'y'",
    )
    report = timescale.dump("h", "--start", "2024-01-02Z", "--jobs", "2")
    assert (report["rows"], report["windows"]["total"]) == (216, 10)
    assert timescale.finished().time_column == "t"
    timescale.execute("CREATE TABLE back (LIKE h)")
    timescale.load("back")
    assert timescale.texts("back") == timescale.texts("h", "t >= '2024-01-02Z'")
    # Cut by another column its chunks mean nothing.
    timescale.out = timescale.folder / "other"
    assert timescale.dump("h", "--time-column", "other")["rows"] == 240


def test_where(site: Site) -> None:
    make(site, days=3)
    report = site.dump("metrics", "--where", "id % 7 = 0 AND note <> '%s {}' -- a comment")
    rows = [row for w in site.finished().windows for row in site.rows(w)]
    assert sorted(int(r[1]) for r in rows) == list(range(0, 300, 7))
    assert report["rows"] == len(rows)
    assert site.finished().settings["where"].endswith("comment")


def test_a_view_and_a_table_without_an_index(site: Site) -> None:
    site.execute(
        "CREATE TABLE t (at timestamp, n int)",
        "INSERT INTO t SELECT timestamp '2024-01-01' + i * interval '1 day', i FROM generate_series(1, 50) AS i",
        "CREATE VIEW v AS SELECT n, at FROM t",
    )
    report = site.dump("v", end="2024-02-01")
    assert (report["rows"], {f["code"] for f in report["findings"]}) == (30, {"no-index"})
    assert site.finished().time_column == "at"


@pytest.mark.parametrize("indexed", [True, False])
def test_the_grid_of_an_integer_column_follows_its_rows(site: Site, indexed: bool) -> None:
    site.execute(
        "CREATE TABLE t (n bigint NOT NULL, x int)",
        "INSERT INTO t SELECT 7 * i, i FROM generate_series(1000, 20999) AS i",
        *(["CREATE INDEX ON t (n)"] if indexed else []),
        "ANALYZE t",
    )
    assert site.dump("t", "--time-column", "n", "--max-window-rows", "1000", end="1000000")["rows"] == 20_000
    windows = [w for w in site.finished().windows if w.rows]
    # 20 000 rows over 140 000 numbers: 7 000 numbers have 1 000 rows; rounded down that is 5 000.
    assert all(int(w.upper) % 5000 == 0 for w in windows)
    assert max(w.rows for w in windows) <= 1500 and len(windows) in range(14, 31)


@pytest.mark.parametrize(("length", "rounded"), [(0.3, 1), (1, 1), (3, 2), (7000, 5000), (9.9e18, 5 * 10**18)])
def test_cells_of_an_integer_axis_have_round_lengths(length: float, rounded: int) -> None:
    assert dump_prepare.rounded(length) == rounded


def test_empty_ranges(site: Site) -> None:
    site.execute("CREATE TABLE t (time timestamptz NOT NULL)", "CREATE INDEX ON t (time)")
    report = site.dump("t", "--start", END)
    assert (report["state"], site.out.exists()) == ("nothing", False)
    report = site.dump("t", "--start", "2020-01-01Z")
    assert (report["state"], report["rows"]) == ("done", 0)
    assert [w.file for w in site.finished().windows] == [""]
    assert site.dump("t", "--start", "2020-01-01Z")["state"] == "nothing"


# Going on


def make(site: Site, *, days: int = 10, per_day: int = 100) -> None:
    """Table metrics: days * per_day rows, ids from 0, indexed by time."""
    at = f"'{scenes.START}'::timestamptz + i * interval '1 day' / {per_day}"
    site.execute(
        "CREATE TABLE metrics (time timestamptz NOT NULL, id bigint NOT NULL, value float8, note text)",
        f"INSERT INTO metrics SELECT {at}, i, i / 7.0, 'note ' || i FROM generate_series(0, {days * per_day} - 1) AS i",
        "CREATE INDEX ON metrics (time)",
        "ANALYZE metrics",
    )


def check_all(site: Site, rows: int) -> None:
    """Every row is there once."""
    ids = [int(row[1]) for window in site.finished().windows for row in site.rows(window)]
    assert sorted(ids) == list(range(rows))
    site.execute("CREATE TABLE back (LIKE metrics)")
    site.load("back")
    assert site.texts("back") == site.texts("metrics")


NAMED = re.compile(r"[0-9]{6}\.csv\.zst")
SLOW = ("--jobs", "2", "--max-window-rows", "400", "--max-rate", "250kB")
FAST = ("--jobs", "2", "--max-window-rows", "400")


def files(site: Site) -> list[Path]:
    return [p for p in site.out.iterdir() if NAMED.fullmatch(p.name)] if site.out.exists() else []


def journal(site: Site) -> list[dict[str, Any]]:
    path = site.out / "dump.journal"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_kill_9_of_everything_at_random_moments(site: Site) -> None:
    make(site, per_day=4000)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    noted: dict[int, dict[str, Any]] = {}
    for _ in range(5):
        run = site.start("metrics", *SLOW)
        if moments.random() < 0.7:
            until(lambda: len(files(site)) > len(noted), 30, "a file")  # noqa: B023
        with pytest.raises(subprocess.TimeoutExpired):
            run.process.wait(moments.uniform(0, 0.8))
        run.signal_group(signal.SIGKILL)
        assert run.wait(10) == -signal.SIGKILL
        until(site.quiet, 20, "the server to notice")
        assert not (site.out / "manifest.json").exists()
        for path in files(site):  # under its name a file is whole
            with open_input(path) as file:
                assert b"".join(iter(lambda: file.read(1 << 20), b"")).endswith(b"\n")
        now = {entry["id"]: entry for entry in journal(site)}
        assert noted.items() <= now.items()  # what was done stays, and is not done again
        noted = now
    assert noted
    with pytest.raises(Refused, match="not complete"):
        manifest.read(site.out)
    before = {p.name: p.stat().st_ino for p in files(site)}
    report = site.dump("metrics", *FAST)
    assert (report["state"], report["rows"]) == ("done", 40_000)
    windows = {w.id: w for w in site.finished().windows}
    for number, entry in noted.items():
        assert windows[number].as_json() == entry
        assert not entry["file"] or (site.out / entry["file"]).stat().st_ino == before[entry["file"]]
    check_all(site, 40_000)


def test_kill_9_of_a_worker(site: Site) -> None:
    make(site, per_day=4000)
    run = site.start("metrics", *SLOW[:-1], "500kB")
    killed: set[int] = set()
    for count in (1, 2, 3):
        until(lambda c=count: len(files(site)) > 3 * c, 30, "files")  # type: ignore[misc]
        victim = run.workers()[0]
        os.kill(victim, signal.SIGKILL)
        killed.add(victim)
        until(lambda: len(set(run.workers()) - killed) == 2, 20, "a replacement")
    assert run.wait() == 0, run.stderr
    assert run.stderr.count("died") == 3
    check_all(site, 40_000)
    until(site.quiet, 10, "everything to end")


def test_kill_9_of_the_parent_alone(site: Site) -> None:
    make(site, per_day=4000)
    run = site.start("metrics", *SLOW)
    until(lambda: len(files(site)) > 2, 30, "files")
    run.signal(signal.SIGKILL)
    assert run.wait(10) == -signal.SIGKILL
    # At once: the workers of the first may not be gone yet, and hold the folder until they are.
    assert site.dump("metrics", *FAST)["rows"] == 40_000
    until(site.quiet, 15, "the workers to leave")
    check_all(site, 40_000)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_lets_windows_finish(site: Site, signum: int, code: int) -> None:
    make(site, per_day=4000)
    run = site.start("metrics", *SLOW)
    until(lambda: len(files(site)) > 2, 30, "files")
    busy = until(lambda: [p.name.removesuffix(".part") for p in site.out.glob("*.part")], 10, "a running window")
    run.signal_group(signum) if signum == signal.SIGINT else run.signal(signum)
    assert run.wait(30) == code, run.stderr
    report = run.report
    assert (report["state"], report["windows"]["failed"]) == ("incomplete", 0)
    assert 0 < report["windows"]["done"] < report["windows"]["total"]
    assert "finished first" in run.stderr and "Traceback" not in run.stderr
    until(site.quiet, 5, "the server to notice")
    names = {p.name for p in site.out.iterdir()}
    assert names == {*(e["file"] for e in journal(site) if e["file"]), "dump.json", "dump.journal"}
    assert set(busy) <= names
    assert site.dump("metrics", *FAST)["state"] == "done"
    check_all(site, 40_000)


def test_two_signals_cancel_windows(site: Site) -> None:
    make(site, per_day=4000)
    run = site.start("metrics", "--jobs", "2", "--max-window-rows", "400", "--max-rate", "3kB")  # minutes a window
    until(lambda: len(list(site.out.glob("*.part"))) == 2 if site.out.exists() else None, 30, "windows")
    run.signal_group(signal.SIGINT)
    until(lambda: "finished first" in run.stderr, 10, "the first signal to be heard")
    with pytest.raises(subprocess.TimeoutExpired):
        run.process.wait(1)
    run.signal_group(signal.SIGINT)
    assert run.wait(20) == 130, run.stderr
    assert run.report["state"] == "incomplete" and run.report["windows"]["failed"] == 0
    assert "Traceback" not in run.stderr
    until(site.quiet, 5, "everything to end")
    assert not list(site.out.glob("*.part"))
    assert site.dump("metrics", *FAST)["state"] == "done"
    check_all(site, 40_000)


def test_a_signal_at_any_moment_leaves_nothing(site: Site) -> None:
    make(site, per_day=4000)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for _ in range(5):
        run = site.start("metrics", *SLOW)
        with pytest.raises(subprocess.TimeoutExpired):
            run.process.wait(moments.uniform(0.3, 1.5))
        signum = moments.choice((signal.SIGINT, signal.SIGTERM))
        run.signal_group(signum)
        code = run.wait(30)
        if "checking" in run.stderr:
            assert code == 128 + signum, run.stderr
            assert run.report["state"] == "incomplete"
            assert "Traceback" not in run.stderr
        else:
            # While Python itself starts nobody listens yet: the signal's default, and nothing was begun.
            assert code in (-signum, 128 + signum)
        until(site.quiet, 10, "everything to end")
        assert not list(site.folder.glob("out/*.part"))
    assert site.dump("metrics", *FAST)["state"] == "done"
    check_all(site, 40_000)


def test_a_session_that_is_ended(site: Site) -> None:
    make(site, per_day=4000)
    run = site.start("metrics", *SLOW[:-1], "500kB")
    for count in (1, 2, 3):
        until(lambda c=count: len(files(site)) > 3 * c, 30, "files")  # type: ignore[misc]
        site.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name ~ '^hyperfill/dump/[0-9]+$'"
        )
    assert run.wait() == 0, run.stderr
    assert "trying again" in run.stderr
    check_all(site, 40_000)


def stop_in_the_middle(site: Site, *options: str) -> None:
    """A dump that is begun and not finished."""
    run = site.start("metrics", *SLOW, *options)
    until(lambda: len(journal(site)) > 2, 30, "windows")
    run.signal_group(signal.SIGKILL)
    run.wait(10)
    until(site.quiet, 20, "the server to notice")


def test_a_window_counts_when_it_is_noted(site: Site) -> None:
    """A journal that was cut at any byte, files that went, and others that were never noted."""
    make(site, per_day=4000)
    stop_in_the_middle(site)
    path = site.out / "dump.journal"
    with_files = [e for e in journal(site) if e["file"]]
    gone, shorter = with_files[0], with_files[1]
    (site.out / gone["file"]).unlink()
    os.truncate(site.out / shorter["file"], shorter["bytes"] - 1)
    data = path.read_bytes()
    path.write_bytes(data[: random.randrange(len(data) - 20, len(data))])
    (site.out / "000099.csv.zst.part").write_bytes(b"half")
    last = max(int(p.name[:6]) for p in files(site))
    (site.out / f"{last + 1:06}.csv.zst").write_bytes(b"renamed, and not noted")
    assert site.dump("metrics", *FAST)["rows"] == 40_000
    check_all(site, 40_000)


DIFFERENT: list[tuple[list[str], str, list[str]]] = [
    (["--start", "2024-01-02T00:00:00Z"], END, ["start", "None", "2024-01-02 00:00:00+00"]),
    ([], "2024-01-09T00:00:00Z", ["end", "2024-06-01 00:00:00+00", "2024-01-09 00:00:00+00"]),
    (["--columns", "time,id,value"], END, ["columns", "note text", "time timestamp with time zone, id bigint"]),
    (["--window", "6 hours"], END, ["window", "None", "6 hours"]),
    (["--max-window-rows", "50"], END, ["max_window_rows", "400", "50"]),
    (["--where", "id > 5"], END, ["where", "None", "id > 5"]),
    (["--skip-unstorable"], END, ["skip_unstorable", "False", "True"]),
    (["--compress", "gzip"], END, ["compress", "zstd", "gzip"]),
]


@pytest.mark.parametrize("finished", [False, True])
def test_other_options_are_refused(site: Site, finished: bool) -> None:
    make(site, per_day=4000)
    stop_in_the_middle(site)
    if finished:
        site.dump("metrics", *FAST)

    def state() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in site.out.iterdir()}

    before = state()
    for options, end, differences in DIFFERENT:
        report = site.dump("metrics", *FAST, *options, end=end, code=3)
        [refusal] = [f for f in report["findings"] if f["severity"] == "error"]
        assert refusal["code"] == "other-dump"
        for text in differences:
            assert text in refusal["message"]
        assert state() == before
    site.execute("CREATE TABLE other AS SELECT * FROM metrics")
    assert "relation" in site.dump("other", *FAST, "--time-column", "time", code=3)["findings"][0]["message"]
    assert state() == before
    # Written in another way it is the same.
    report = site.dump('public."metrics"', *FAST, "--start", "-infinity", "--columns", "time,ID,value,note")
    assert report["state"] == ("nothing" if finished else "done")
    check_all(site, 40_000)


def test_a_table_that_was_made_anew_is_another(site: Site) -> None:
    make(site, per_day=4000)
    stop_in_the_middle(site)
    site.execute("CREATE TABLE new (LIKE metrics INCLUDING ALL)", "INSERT INTO new SELECT * FROM metrics")
    site.execute("ALTER TABLE metrics RENAME TO old", "ALTER TABLE new RENAME TO metrics")
    assert "oid of the relation" in str(site.dump("metrics", *FAST, code=3)["findings"])


def test_a_table_that_is_replaced_meanwhile_stops_the_dump(site: Site) -> None:
    make(site, per_day=4000)
    run = site.start("metrics", *SLOW)
    until(lambda: len(files(site)) > 2, 30, "files")
    with psycopg.connect(site.conninfo) as connection:
        connection.execute("ALTER TABLE metrics RENAME TO old")
        connection.execute("CREATE TABLE metrics (LIKE old INCLUDING ALL)")
    assert run.wait(30) == 4, run.stderr
    assert "another relation now" in str(run.report["findings"])


def test_a_finished_dump_is_nothing_to_do(site: Site) -> None:
    make(site)
    site.dump("metrics")
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in site.out.iterdir()}
    site.execute("INSERT INTO metrics VALUES ('2024-01-01Z', -1, 0, 'late')")
    report = site.dump("metrics")
    assert (report["state"], report["rows"]) == ("nothing", 1000)
    # Killed between its manifest and its end: what is left over goes.
    (site.out / "dump.journal").write_bytes(b"{}\n")
    (site.out / "dump.json").write_bytes(b"{}")
    (site.out / "000001.csv.zst.part").write_bytes(b"x")
    assert site.dump("metrics")["state"] == "nothing"
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in site.out.iterdir()} == before


def test_two_dumps_into_one_folder(site: Site) -> None:
    make(site, per_day=4000)
    first = site.start("metrics", *SLOW)
    until(lambda: len(journal(site)) > 1, 30, "the first to begin")
    started = time.monotonic()
    second = site.hyperfill("dump", *site.options("metrics", *FAST))
    assert second.returncode == 3 and "another command is writing" in second.stderr, second.stderr
    assert time.monotonic() - started < 15
    assert first.wait() == 0, first.stderr
    check_all(site, 40_000)


def test_the_folder_is_free_when_the_last_worker_is_gone(site: Site) -> None:
    """A worker that outlives its parent could still rename a file while the next command writes it."""
    make(site, per_day=4000)
    run = site.start("metrics", *SLOW)
    until(lambda: len(journal(site)) > 1, 30, "windows")
    worker = run.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    run.signal(signal.SIGKILL)
    run.wait(10)
    assert "another command is writing" in site.dump("metrics", *FAST, code=3)["error"]
    os.kill(worker, signal.SIGCONT)
    assert site.dump("metrics", *FAST)["state"] == "done"
    check_all(site, 40_000)


def test_folders_that_hold_something_else(site: Site) -> None:
    make(site, days=1)
    site.out.mkdir()
    (site.out / "important.txt").write_text("mine")
    report = site.dump("metrics", code=3)
    assert "holds something else: important.txt" in report["error"]
    assert [p.name for p in site.out.iterdir()] == ["important.txt"]
    (site.out / "important.txt").rename(site.out / "000001.csv.zst")  # whose is it?
    assert site.dump("metrics", code=3)["state"] == "refused"
    site.out = site.out / "000001.csv.zst"
    assert "Not a directory" in site.dump("metrics", code=3)["error"]
    site.out = site.folder / "not" / "there"
    assert "there is no folder" in site.dump("metrics", code=3)["error"]
    site.out = site.folder / "empty"
    (site.out / "lost+found").mkdir(parents=True)
    assert site.dump("metrics")["rows"] == 100


LIMITED = "ulimit -f {blocks}; exec {python} -m hyperfill dump {options}"


def test_a_full_disk(site: Site) -> None:
    """A limit on the size of files fails a write in the middle, as a full disk does."""
    make(site, days=10, per_day=4000)
    # The last day is larger than all others.
    site.execute(
        "INSERT INTO metrics SELECT timestamptz '2024-02-01Z' + i * interval '1 ms', 40000 + i, random(), md5(i::text)"
        " FROM generate_series(0, 19999) AS i"
    )
    quoted = " ".join(f"'{o}'" for o in site.options("metrics", "--jobs", "2"))
    command = LIMITED.format(blocks=600, python=sys.executable, options=quoted)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4, done.stderr
    report = json.loads(done.stdout)
    [error] = [f for f in report["findings"] if f["severity"] == "error"]
    assert "cannot be written: File too large" in error["message"] and "same command again" in error["hint"]
    assert 0 < report["windows"]["done"] < report["windows"]["total"]
    assert not list(site.out.glob("*.part"))
    assert site.dump("metrics", "--jobs", "2")["rows"] == 60_000
    check_all(site, 60_000)


def test_a_window_that_fails_is_told_and_tried_again(site: Site) -> None:
    make(site)
    site.execute("CREATE VIEW v AS SELECT time, id, 1 / (id - 555) AS x FROM metrics")
    report = site.dump("v", "--window", "1 day", code=4)
    assert (report["state"], report["windows"]["failed"]) == ("incomplete", 1)
    [failed] = report["failed_windows"]
    assert (failed["sqlstate"], failed["message"]) == ("22012", "division by zero")
    assert failed["lower"] == "2024-01-06 00:00:00+00"
    assert report["windows"]["done"] == report["windows"]["total"] - 1
    site.execute("CREATE OR REPLACE VIEW v AS SELECT time, id, 1 / (id + 555) AS x FROM metrics")
    assert site.dump("v", "--window", "1 day")["rows"] == 1000
    ids = sorted(int(r[1]) for w in site.finished().windows for r in site.rows(w))
    assert ids == list(range(1000))


# Reasons not to start


def test_which_column_is_the_time(site: Site) -> None:
    site.execute(
        "CREATE TABLE one (a timestamptz, b timestamp NOT NULL, c bigint NOT NULL)",
        "CREATE TABLE two (a timestamptz NOT NULL, b date NOT NULL, c bigint NOT NULL, d text)",
        "CREATE TABLE none (d text)",
    )
    assert site.dump("one", end="2024-01-01", code=0)["windows"]["total"] == 1
    assert site.finished().time_column == "b"
    site.out = site.folder / "next"
    assert site.refused("two") == site.refused("none") == {"time-column"}
    hint = site.dump("two", code=3)["findings"][0]["hint"]
    assert all(text in hint for text in ("a (timestamp with time zone NOT NULL)", "b (date NOT NULL)", "c (bigint"))
    assert site.refused("two", "--time-column", "d") == site.refused("two", "--time-column", "x") == {"time-column"}
    assert site.dump("two", "--source-time-column", "b", end="2024-01-01")["state"] == "done"


def test_bounds_are_read_in_the_type_of_the_column(site: Site) -> None:
    site.execute("CREATE TABLE t (time timestamptz NOT NULL)", "CREATE TABLE i (n int NOT NULL)")
    for end in ("2024-01-01T00:00:00", "infinity", "now", "", "tomorrow", "2024-13-01Z"):
        assert site.refused("t", end=end) == {"bound"}
    assert site.refused("t", "--start", "2031-01-01Z") == {"bound"}
    assert site.refused("i", "--time-column", "n", end="2147483648") == {"bound"}


def test_what_is_asked_for_wrongly(site: Site, hyperfill: Hyperfill) -> None:
    site.execute("CREATE TABLE t (time timestamptz NOT NULL, a int)", "CREATE INDEX ON t (time)")
    for options in (
        ["--jobs", "0"],
        ["--max-window-rows", "0"],
        ["--max-rate", "fast"],
        ["--columns", ""],
        ["--columns", "time,time"],
        ["--compress", "lzma"],
        ["--time-column", "time", "--source-time-column", "a"],
    ):
        assert site.dump("t", *options, code=2)["state"] == "refused"
    complete = site.options("t")
    for name in ("--source", "--table", "--out", "--end"):
        at = complete.index(name)
        done = hyperfill("dump", *complete[:at], *complete[at + 2 :])
        assert done.returncode == 2 and f"{name} is required" in done.stderr
    assert site.refused("t", "--columns", "a") == {"no-time-column"}
    assert site.refused("t", "--columns", "time,nope") == {"no-such-column"}
    assert site.refused("t", "--window", "1 month") == {"window"}
    assert site.refused("missing") == {"table"}
    for where in ("a >", "a > 1) OR (true", "random() < 0.5", "ctid IS NULL"):
        assert site.refused("t", "--where", where) == {"where"}


def test_rows_that_no_hypertable_can_hold(site: Site) -> None:
    site.execute(
        "CREATE TABLE t (time timestamptz, n int)",
        "CREATE INDEX ON t (time)",
        "INSERT INTO t VALUES ('-infinity', 1), ('2024-01-01Z', 2), (NULL, 3), ('infinity', 4)",
    )
    assert site.refused("t", "--time-column", "time") == {"unstorable"}
    report = site.dump("t", "--time-column", "time", "--skip-unstorable")
    assert (report["rows"], {f["code"] for f in report["findings"]}) == (1, {"unstorable", "null-time"})


def test_rights(site: Site, new_role: Callable[[str], str]) -> None:
    site.execute(
        "CREATE TABLE t (time timestamptz NOT NULL, a int, secret int)",
        "CREATE INDEX ON t (time)",
        "INSERT INTO t VALUES ('2024-01-01Z', 1, 2)",
        "CREATE TABLE hidden (time timestamptz NOT NULL)",
        "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
    )
    role = new_role("reader")
    site.execute(f"GRANT SELECT (time, a) ON t TO {role}", f"GRANT SELECT ON hidden TO {role}")
    site.conninfo = scenes.with_options(site.conninfo, user=role, password=role)
    assert site.refused("t") == {"rights"}
    assert site.refused("hidden") == {"row-security"}
    assert site.dump("t", "--columns", "time,a")["rows"] == 1


@pytest.fixture
def new_role(site: Site) -> Iterator[Callable[[str], str]]:
    """Make a role that may log in; dropped afterwards."""
    made: list[str] = []

    def make_role(name: str) -> str:
        made.append(f"{name}_{os.getpid()}")
        site.execute(f"CREATE ROLE {made[-1]} LOGIN PASSWORD '{made[-1]}'")
        return made[-1]

    yield make_role
    for name in made:
        site.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_no_password_is_kept(site: Site) -> None:
    make(site, per_day=4000)
    password = conninfo_to_dict(site.conninfo)["password"]
    assert isinstance(password, str) and len(password) > 8
    stop_in_the_middle(site)
    for path in [p for p in site.out.iterdir() if not NAMED.fullmatch(p.name)]:
        assert password.encode() not in path.read_bytes()
    assert site.dump("metrics", *FAST)["state"] == "done"
    assert password.encode() not in (site.out / "manifest.json").read_bytes()


def test_what_a_person_sees(site: Site) -> None:
    make(site)
    options = [o for o in site.options("metrics") if o != "--json"]
    done = site.hyperfill("dump", *options)
    assert (done.returncode, done.stdout) == (0, "")
    assert "1,000 rows" in done.stderr and "INFO checking metrics" in done.stderr
    again = site.hyperfill("dump", *options)
    assert "nothing to do" in again.stderr


def test_rows_at_the_completion_point_stay_out(site: Site) -> None:
    make(site)
    assert site.dump("metrics", end=T)["rows"] == 950
    assert max(int(r[1]) for w in site.finished().windows for r in site.rows(w)) == 949
