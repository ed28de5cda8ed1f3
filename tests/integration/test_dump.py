"""`hyperfill dump`: what the files hold is what the table held, exactly once, whatever happened on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from hyperfill import dump_prepare
from hyperfill.timeline import TIME_TYPES, TimeType
from tests.fixtures.dumping import END, FAST, NAMED, Site, make, stop_in_the_middle
from tests.fixtures.pair import Pair
from tests.fixtures.scenes import T, execute
from tests.fixtures.values import BUILTIN

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
