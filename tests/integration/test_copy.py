"""`hyperfill copy`: what scripts written for timescaledb-parallel-copy rely on, on a real server."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from psycopg import conninfo as pq_conninfo

from tests.fixtures.cli import Hyperfill
from tests.fixtures.copying import ALL, BAD, CSV, FIVE, Copy
from tests.fixtures.scenes import execute, rows, scalar


def test_rows_arrive_as_they_are_and_only_the_result_is_printed(copy: Copy, db: str) -> None:
    text = '1,1,plain\n2,2,"with ""quotes"", commas\nand lines"\n3,,\n4,4,""\n5,5,  spaces \n6,6,NULL'
    done = copy(text)
    assert done.stdout == "COPY 6\n"
    assert done.stderr == ""
    assert rows(db, ALL) == [
        (1, 1, "plain"),
        (2, 2, 'with "quotes", commas\nand lines'),
        (3, None, None),
        (4, 4, ""),
        (5, 5, "  spaces "),
        (6, 6, "NULL"),
    ]


def test_every_call_loads_again(copy: Copy, db: str) -> None:
    assert copy(CSV).stdout == copy(CSV).stdout == "COPY 5\n"
    assert rows(db, ALL) == sorted(FIVE * 2)


def test_standard_input(copy: Copy, db: str) -> None:
    assert copy(None, stdin=CSV).stdout == "COPY 5\n"
    assert copy(None, "-file", "-", stdin=CSV).stdout == "COPY 5\n"
    assert rows(db, ALL) == sorted(FIVE * 2)


def test_an_empty_file_is_no_row(copy: Copy) -> None:
    assert copy("").stdout == "COPY 0\n"
    assert copy("time,id\n", "-skip-header").stdout == "COPY 0\n"


def test_header_and_lines_are_left_out(copy: Copy, db: str) -> None:
    copy("time,id,note\n" + CSV, "-skip-header")
    copy("note,x,time\na,7,6\n", "-skip-header", "-columns", "note, ID ,time")
    copy("# one\n# two\ntime,id,note\n7,7,b\n", "--skip-lines=2", "--skip-header=true")
    copy("# one\n8,8,c\n", "-skip-lines", "1")
    assert rows(db, ALL) == [*FIVE, (6, 7, "a"), (7, 7, "b"), (8, 8, "c")]


def test_the_header_names_columns(copy: Copy, db: str) -> None:
    copy('# skipped\nnote,"time"\na,1\n', "-auto-column-mapping", "-skip-lines", "1")
    copy("what,when\nb,2\n", "-column-mapping", " what : note , when:time,unused:id,")
    copy('"wh,at",when,i:d\nc,3,3\n', "-column-mapping", '{"wh,at": "note", "when": "time", "i:d": "id"}')
    assert rows(db, ALL) == [(1, None, "a"), (2, None, "b"), (3, 3, "c")]


@pytest.mark.parametrize(
    ("text", "flags", "words"),
    [
        ("time,other\n1,2\n", ["-column-mapping", "time:time"], "-column-mapping says nothing of 'other'"),
        ("time,Id\n1,2\n", ["-column-mapping", "time:time,id:id"], "-column-mapping says nothing of 'Id'"),
        ("time,a,b\n1,2,3\n", ["-column-mapping", "time:time,a:id,b:id"], "id would be filled twice"),
        ("time,ID\n1,2\n", ["-auto-column-mapping"], 'public.t has no column "ID"'),
        ("time,id,id\n1,2,3\n", ["-auto-column-mapping"], "id would be filled twice"),
        ("1,2\n", ["-columns", "time,nothing"], "public.t has no column nothing"),
        ("1,2\n", ["-columns", "id,note"], "time is NOT NULL"),
    ],
)
def test_columns_that_do_not_fit_are_refused(copy: Copy, db: str, text: str, flags: list[str], words: str) -> None:
    done = copy(text, *flags, code=3)
    assert words in done.stderr
    assert rows(db, ALL) == []


def test_a_mapping_must_name_each_column_of_the_file_once(copy: Copy) -> None:
    assert "twice" in copy(CSV, "-column-mapping", "a:time,a:id", code=2).stderr


def test_limit_and_small_batches(copy: Copy, db: str) -> None:
    assert copy(CSV, "-limit", "3", "-batch-size", "2").stdout == "COPY 3\n"
    assert rows(db, ALL) == FIVE[:3]
    assert copy("a,b,c\n" + CSV, "-limit", "4", "-skip-header", "-batch-size", "3").stdout == "COPY 4\n"


@pytest.mark.parametrize("flags", [["-batch-size", "1"], ["-batch-size", "2"], ["-batch-byte-size", "16"]])
def test_no_batch_ends_inside_of_a_row(copy: Copy, db: str, flags: list[str]) -> None:
    count = 7
    text = "".join(f'{i},{i},"first\nsecond, ""third""\n\nfourth of {i}"\n' for i in range(count))
    copy(text, *flags, "-workers", "2")
    assert rows(db, ALL) == [(i, i, f'first\nsecond, "third"\n\nfourth of {i}') for i in range(count)]
    assert scalar(db, "SELECT count(*) FROM hyperfill.batches") == -(-count // (2 if flags[-1] == "2" else 1))


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("1\t10\tone, two\n", ["-split", "\t"]),
        ("1\t10\tone, two\n", ["-split", "\\t"]),
        ("1;10;one, two\n", ["-split=;"]),
        ("1;10;one, two\n", ["-copy-options", "CSV DELIMITER ';'"]),
        ("1,10,'one, two'\n", ["-quote", "'"]),
        ("1,10,'one, two'\n", ["-copy-options", "(FORMAT csv, QUOTE '''')"]),
        ("1,10,|one, two|\n", ["-quote", "|", "-escape", "\\"]),
    ],
)
def test_how_a_file_is_written(copy: Copy, db: str, text: str, flags: list[str]) -> None:
    copy(text, *flags)
    assert rows(db, ALL) == [(1, 10, "one, two")]


def test_copy_options_mean_what_they_mean_to_the_server(copy: Copy, db: str) -> None:
    copy("1,NA,NA\n2,2,\n", "-copy-options", "CSV NULL 'NA'")
    copy('3,3,\n4,,"x"\n', "-copy-options", "CSV FORCE NOT NULL note")
    copy('5,5,"-"\n6,-,-\n', "-copy-options", "(FORMAT csv, NULL '-', FORCE_NULL (note))")
    copy('7,7,"a\\"b\\\\"\n', "-copy-options", "CSV ESCAPE '\\'")
    copy("8,8,é\n".encode("latin1"), "-copy-options", "CSV ENCODING 'LATIN1'")
    assert rows(db, ALL) == [
        (1, None, None),
        (2, 2, ""),
        (3, 3, ""),
        (4, None, "x"),
        (5, 5, None),
        (6, None, None),
        (7, 7, 'a"b\\'),
        (8, 8, "é"),
    ]


def test_a_bad_byte_is_an_error_with_its_place_and_nothing_is_guessed(copy: Copy, db: str) -> None:
    done = copy(b"1,1,a\n2,2,caf\xe9\n3,3,b\n", "-batch-size", "1", code=4)
    assert "line 2 (byte 13): invalid byte sequence" in done.stderr and "nothing is guessed" in done.stderr
    assert done.stdout == ""
    assert (2, 2, "cafÃ©") not in rows(db, ALL) and scalar(db, "SELECT count(*) FROM t WHERE time = 2") == 0
    assert copy(b"1,1,caf\xe9\n", "-connection", f"{db} client_encoding=LATIN1").stdout == "COPY 1\n"
    assert rows(db, "SELECT note FROM t WHERE note LIKE 'caf%'") == [("café",)]


def test_times_are_read_as_the_database_says(hyperfill: Hyperfill, target_db: str, tmp_path: Path) -> None:
    execute(
        target_db,
        "CREATE TABLE t (time timestamptz NOT NULL)",
        "SELECT create_hypertable('t', 'time')",
        f"ALTER DATABASE {pq_conninfo.conninfo_to_dict(target_db)['dbname']} SET datestyle = 'ISO, DMY'",
        f"ALTER DATABASE {pq_conninfo.conninfo_to_dict(target_db)['dbname']} SET timezone = 'Asia/Kolkata'",
    )
    path = tmp_path / "in.csv"
    path.write_text("01/02/2024 10:00:00\n2024-03-01 00:00:00\n2024-03-02 00:00:00Z\n")
    done = hyperfill("copy", "-connection", target_db, "-table", "t", "-file", str(path))
    assert done.returncode == 0, done.stderr
    found = rows(target_db, "SELECT (time AT TIME ZONE 'UTC')::text FROM t ORDER BY time")
    assert found == [("2024-02-01 04:30:00",), ("2024-02-29 18:30:00",), ("2024-03-02 00:00:00",)]


def test_an_archive_and_a_glob(copy: Copy, db: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    (tmp_path / "b.csv").write_text("9,9,nine\n")
    assert copy(None, "-file", str(tmp_path / "?.csv*")).stdout == "COPY 6\n"
    assert rows(db, ALL) == [*FIVE, (9, 9, "nine")]


def test_several_workers(copy: Copy, db: str) -> None:
    count = 20_000
    text = "".join(f"{i},{i},row {i}\n" for i in range(count))
    done = copy(text, "-workers", "2", "-batch-size", "500", "-disable-direct-compress")
    assert done.stdout == f"COPY {count}\n"
    assert scalar(db, "SELECT count(DISTINCT time) FROM t") == count
    assert scalar(db, "SELECT count(*) FROM hyperfill.batches") == count // 500


# -- conflicts and bad rows --------------------------------------------------------------------------------------


def test_of_rows_with_one_key_the_first_stays(copy: Copy, db: str) -> None:
    execute(db, "CREATE UNIQUE INDEX ON t (time)", "INSERT INTO t VALUES (2, 0, 'there')")
    text = "1,1,first\n1,2,second\n2,3,third\n3,4,fourth\n3,5,fifth\n4,6,sixth\n"
    done = copy(text, "-on-conflict-do-nothing", "-batch-size", "2")
    assert done.stdout == "COPY 3\n"
    assert rows(db, ALL) == [(1, 1, "first"), (2, 0, "there"), (3, 4, "fourth"), (4, 6, "sixth")]
    assert rows(db, "SELECT sum(rows_copied), sum(rows_skipped) FROM hyperfill.batches") == [(3, 3)]


def test_a_conflict_stops_otherwise(copy: Copy, db: str) -> None:
    execute(db, "CREATE UNIQUE INDEX ON t (time)")
    done = copy("1,1,a\n2,2,b\n2,3,c\n3,4,d\n", "-batch-size", "2", code=4)
    assert rows(db, ALL) == [(1, 1, "a"), (2, 2, "b")] or rows(db, ALL) == []
    assert done.stdout == ""
    assert "-on-conflict-do-nothing" in done.stderr


def test_a_bad_row_stops_with_its_line(copy: Copy, db: str) -> None:
    done = copy("time,id,note\n" + BAD, "-skip-header", "-batch-size", "2", code=4)
    assert "line 4 (byte 25)" in done.stderr and 'invalid input syntax for type integer: "x"' in done.stderr
    assert done.stdout == ""
    brought = scalar(db, "SELECT count(*) FROM t")
    assert f"this call has brought {brought} rows; another call loads all rows again" in done.stderr
    assert not rows(db, "SELECT FROM t WHERE time IN (3, 4)")


def test_batches_with_errors_are_left_out_and_told(copy: Copy, db: str) -> None:
    done = copy(BAD, "-batch-size", "2", "-skip-batch-errors", code=4)
    assert done.stdout == "COPY 4\n"
    assert [r[0] for r in rows(db, ALL)] == [1, 2, 5, 6]
    [told] = re.findall(r"left out: 2 rows, .*in\.csv line 3 on \(bytes 12 to 24\): .*\n", done.stderr)
    assert 'invalid input syntax for type integer: "x"' in told
