"""`hyperfill dump`: what is refused, and which folder, table and column are meant."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.dumping import END, FAST, SLOW, Site, check_all, files, journal, make, stop_in_the_middle
from tests.fixtures.scenes import until

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
