"""`hyperfill load` of CSV: what arrives, where each row is accounted for, what is refused."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import psycopg
import pytest
from backports import zstd

from tests.fixtures.loading import RANGE, Loading, ids, rows


@pytest.mark.parametrize("encode", ["client", "server"])
def test_values_arrive_as_they_are_written(loading: Loading, encode: str) -> None:
    content = (
        "2024-01-01 00:00:00+00,1,plain\n"
        '2024-01-01 00:00:01+00,2,"two\nlines, and ""quotes"""\n'
        "2024-01-01 00:00:02+00,3,\n"
        '2024-01-01 00:00:03+00,4,""\n'
        "2024-01-01 00:00:04+00,,Grüße 🎈\n"
        '"2024-01-01 00:00:05.123456+02","6","quoted"\n'
    )
    report = loading.done("--encode", encode, loading.file("a.csv", content))
    assert report["rows_copied"] == 6
    assert report["encode"] == encode
    assert loading.query("SELECT time::text, id, value FROM m ORDER BY time") == [
        ("2023-12-31 22:00:05.123456+00", 6, "quoted"),
        ("2024-01-01 00:00:00+00", 1, "plain"),
        ("2024-01-01 00:00:01+00", 2, 'two\nlines, and "quotes"'),
        ("2024-01-01 00:00:02+00", 3, None),
        ("2024-01-01 00:00:03+00", 4, ""),
        ("2024-01-01 00:00:04+00", None, "Grüße 🎈"),
    ]


def test_many_batches_and_several_files_are_one_load(loading: Loading) -> None:
    loading.file("part-2.csv", rows(3000, first=3000))
    loading.file("part-1.csv", rows(3000))
    report = loading.done("--jobs", "3", "--batch-size", "10kB", str(loading.folder / "part-*.csv"))
    assert report["rows_copied"] == 6000
    assert report["batches"]["done"] > 20
    assert [Path(f).name for f in report["files"]] == ["part-1.csv", "part-2.csv"]
    assert ids(loading) == list(range(6000))
    assert loading.query("SELECT count(*) FROM hyperfill.backfills") == [(1,)]


def test_columns_by_header_list_and_map(loading: Loading) -> None:
    header = loading.file("header.csv", "value,time\nx,2024-01-01 00:00:00Z\n")
    loading.done("--header", header)
    listed = loading.file("listed.csv", "2024-01-02 00:00:00Z,y\n")
    loading.done("--columns", "time,value", listed)
    mapped = loading.file("mapped.csv", '"when ""it"" was","a\nname"\n2024-01-03 00:00:00Z,7\n')
    loading.done("--map", '{"when \\"it\\" was": "time", "a\\nname": "id"}', mapped)
    assert loading.query("SELECT time::date::text, id, value FROM m ORDER BY 1") == [
        ("2024-01-01", None, "x"),
        ("2024-01-02", None, "y"),
        ("2024-01-03", 7, None),
    ]


@pytest.mark.parametrize(
    ("options", "content", "word"),
    [
        (["--header"], "time,nonsense\n", "nonsense"),
        (["--header"], "time,id,id\n", "twice"),
        (["--header"], "id\n", '"time" is NOT NULL'),
        (["--map", "a:time"], "a,b\n", "'b'"),
        (["--columns", 'time,"ID"'], "", '"ID"'),
        (["--header"], "", "no header"),
    ],
)
def test_columns_that_do_not_fit_are_refused(loading: Loading, options: list[str], content: str, word: str) -> None:
    code, report, _ = loading.load(*options, loading.file("a.csv", content))
    said = " ".join(f["message"] for f in report["findings"])
    assert code == 3, said
    assert word.replace('"', "") in said.replace('"', "")
    assert not loading.query("SELECT 1 FROM pg_namespace WHERE nspname = 'hyperfill'")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_ends_a_mark_and_a_last_line_without_end(loading: Loading, ending: str) -> None:
    lines = ["time,id,value", *rows(3).splitlines()]
    path = loading.file("a.csv", "\ufeff" + ending.join(lines))
    assert loading.done("--header", "--batch-size", "50B", path)["rows_copied"] == 3
    assert loading.query("SELECT id, value FROM m ORDER BY id") == [(n, f"value {n}") for n in range(3)]


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst"])
def test_archives_and_truncated_ones(loading: Loading, ending: str) -> None:
    content = rows(20000).encode()
    packed = {".gz": gzip.compress(content), ".bz2": bz2.compress(content), ".zst": zstd.compress(content)}[ending]
    assert loading.done(loading.file(f"a.csv{ending}", packed))["rows_copied"] == 20000
    loading.sql("TRUNCATE m")
    code, report, errors = loading.load(
        "--batch-size", "20kB", loading.file(f"b.csv{ending}", packed[: len(packed) // 2])
    )
    assert code in (3, 4)
    assert "truncated" in (errors + str(report)) or "ends" in (errors + str(report))
    assert report["state"] != "done"


def test_standard_input(loading: Loading) -> None:
    report = loading.done("-", stdin=rows(100))
    assert report["rows_copied"] == 100
    assert "stream" in {f["code"] for f in report["findings"]}
    assert ids(loading) == list(range(100))


def test_the_range_is_cleared_and_what_is_outside_stays(loading: Loading) -> None:
    loading.sql(
        "INSERT INTO m SELECT timestamptz '2023-12-31 23:00Z' + n * interval '30 minutes', -1, 'old'"
        " FROM generate_series(0, 200) AS n"
    )
    kept = loading.count("time < '2024-01-01Z' OR time >= '2024-01-03Z'")
    report = loading.done(*RANGE, "--jobs", "2", loading.file("a.csv", rows(2880)))
    assert report["rows_copied"] == 2880
    assert report["rows_deleted"] == 96
    assert loading.count("value = 'old'") == kept
    assert loading.count("time >= '2024-01-01Z' AND time < '2024-01-03Z' AND value = 'old'") == 0
    assert ids(loading)[kept:] == list(range(2880))


def test_what_was_loaded_is_not_loaded_twice(loading: Loading) -> None:
    path = loading.file("a.csv", rows(100))
    loading.done(path)
    code, report, _ = loading.load(path)
    assert (code, report["state"]) == (0, "nothing")
    for other in (["--batch-size", "1kB", path], [loading.file("copy-of-a.csv", rows(100))]):
        code, report, _ = loading.load(*other)
        assert (code, report["state"]) == (0, "nothing")
    code, report, _ = loading.load("--null", "NA", path)
    assert code == 3
    assert "with other options" in str(report["findings"])
    assert loading.count() == 100
    loading.done("--again", path)
    assert loading.count() == 200


def test_a_range_that_something_else_filled_is_refused(loading: Loading) -> None:
    loading.done(*RANGE, loading.file("a.csv", rows(100)))
    other = loading.file("b.csv", rows(200))
    assert loading.refused(*RANGE, other) == {"ledger"}
    assert loading.count() == 100
    loading.done(*RANGE, "--replace", other)
    assert loading.count() == 200


def test_fewer_rows_than_the_range_holds_are_refused(loading: Loading) -> None:
    loading.sql("INSERT INTO m SELECT timestamptz '2024-01-01Z' + n * interval '1 s' FROM generate_series(0, 999) AS n")
    path = loading.file("a.csv", rows(10))
    assert loading.refused(*RANGE, path) == {"fewer"}
    assert loading.count() == 1000
    loading.done(*RANGE, "--replace", path)
    assert loading.count() == 10


def test_times_that_are_not_iso(loading: Loading) -> None:
    path = loading.file("a.csv", "31/01/2024 12:00,1,x\n")
    code, report, _ = loading.load(path)
    assert code == 4
    assert report["failed_batches"][0]["sqlstate"] == "22008"
    loading.done("--date-style", "DMY", "--time-zone", "Europe/Berlin", path)
    assert loading.query("SELECT time::text FROM m") == [("2024-01-31 11:00:00+00",)]


def test_no_range_and_a_dry_run_write_nothing(loading: Loading) -> None:
    loading.sql("INSERT INTO m VALUES ('2024-01-01Z', 0, 'there')")
    path = loading.file("a.csv", rows(10))
    code, report, _ = loading.load("--dry-run", *RANGE, path)
    assert (code, report["state"], report["rows_to_delete"]) == (0, "planned", 1)
    assert not loading.query("SELECT 1 FROM pg_namespace WHERE nspname = 'hyperfill'")
    loading.done(path)
    assert loading.count() == 11


@pytest.mark.parametrize(
    "arguments",
    [
        ["--start", "2024-01-01Z", "a.csv"],
        ["--header", "--columns", "time", "a.csv"],
        ["--delimiter", ",,", "a.csv"],
        ["--delimiter", '"', "a.csv"],
        ["--rejects", "r.csv", "a.csv"],
        ["missing.csv"],
        ["nothing-*.csv"],
        ["a.csv", "a.csv"],
        ["a.csv", "-"],
        ["--heder", "a.csv"],
        [],
    ],
)
def test_wrong_words_are_usage_errors(loading: Loading, arguments: list[str]) -> None:
    loading.file("a.csv", rows(1))
    named = [str(loading.folder / a) if a.endswith(".csv") and a != "r.csv" else a for a in arguments]
    code, report, errors = loading.load(*named)
    assert code == 2, (report, errors)


def test_odd_names_everywhere(loading: Loading) -> None:
    loading.sql(
        'CREATE SCHEMA "My %s Schema"',
        'CREATE TABLE "My %s Schema"."T""1" ("Time %" timestamptz NOT NULL, "a,b" int, "x""y" text)',
        """SELECT create_hypertable('"My %s Schema"."T""1"', 'Time %')""",
    )
    path = loading.file("100% odd 'name.csv", '"Time %","a,b","x""y"\n2024-01-01Z,1,z\n2024-01-01Z,no,z\n')
    name = '"My %s Schema"."T""1"'
    loading.done("--header", "--max-rejects", "1", "--start", "2024-01-01Z", "--end", "2024-01-02Z", path,
                 hypertable=name, code=6)  # fmt: skip
    found = loading.target.execute(
        psycopg.sql.SQL("SELECT * FROM {}").format(psycopg.sql.Identifier("My %s Schema", 'T"1'))
    ).fetchall()
    assert [row[1:] for row in found] == [(1, "z")]


def test_files_that_only_look_the_same_are_loaded(loading: Loading) -> None:
    """Of the same size, with the same beginning and end."""
    content = rows(20_000)
    loading.done(loading.file("a.csv", content))
    other = content.replace("value 10000\n", "VALUE 10000\n")
    assert len(other) == len(content)
    for name in ("b.csv", "a.csv"):
        report = loading.done(loading.file(name, other))
        assert (report["state"], report["rows_copied"]) == ("done" if name == "b.csv" else "nothing", 20_000)
    assert loading.count("value = 'VALUE 10000'") == 1
    assert loading.done(loading.file("c.csv", content))["state"] == "nothing"
