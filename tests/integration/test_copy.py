"""`hyperfill copy`: what scripts written for timescaledb-parallel-copy rely on, on a real server."""

from __future__ import annotations

import contextlib
import gzip
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from psycopg import conninfo as pq_conninfo

from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import Background, execute, rows, scalar, until

TABLE = "CREATE TABLE t (time int NOT NULL, id int, note text)"
HYPERTABLE = "SELECT create_hypertable('t', 'time', chunk_time_interval => 1000)"
ALL = "SELECT time, id, note FROM t ORDER BY time, id"
CSV = "1,10,one\n2,20,two\n3,30,three\n4,40,four\n5,50,five\n"
FIVE = [(1, 10, "one"), (2, 20, "two"), (3, 30, "three"), (4, 40, "four"), (5, 50, "five")]


class Copy(Protocol):
    """Run `hyperfill copy` into `t`; a text becomes the file, bytes too."""

    def __call__(
        self, content: str | bytes | None, *flags: str, code: int = 0, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def db(target_db: str) -> str:
    """A database with an empty hypertable `t`."""
    execute(target_db, TABLE, HYPERTABLE)
    return target_db


@pytest.fixture
def copy(db: str, hyperfill: Hyperfill, tmp_path: Path) -> Copy:
    """The command on `t`, with its exit code checked."""

    def run(
        content: str | bytes | None, *flags: str, code: int = 0, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        given = ["-connection", db]
        if "-table" not in flags:
            given += ["-table", "t"]
        if content is not None:
            path = tmp_path / "in.csv"
            data = content if isinstance(content, bytes) else content.encode()
            if not path.exists() or path.read_bytes() != data:  # written again it would be another file
                path.write_bytes(data)
            given += ["-file", str(path)]
        done = hyperfill("copy", *given, *flags, stdin=stdin)
        assert done.returncode == code, (done.stdout, done.stderr)
        if code not in (0, 4):
            assert done.stdout == ""
        return done

    return run


# -- rows and what surrounds them --------------------------------------------------------------------------------


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


BAD = "1,1,a\n2,2,b\n3,x,c\n4,4,d\n5,5,e\n6,6,f\n"


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


# -- imports -----------------------------------------------------------------------------------------------------


def test_an_import_is_loaded_once(copy: Copy, db: str) -> None:
    flags = ["-import-id", "april", "-batch-size", "2"]
    assert copy(CSV, *flags).stdout == "COPY 5\n"
    again = copy(CSV, *flags)
    assert again.stdout == "COPY 0\n"
    assert "import 'april' was finished at" in again.stderr
    assert rows(db, ALL) == FIVE
    assert copy(CSV, "-import-id", "may", "-batch-size", "2").stdout == "COPY 5\n"


@pytest.mark.parametrize(
    ("text", "flags", "code"),
    [
        (CSV.replace("five", "more"), [], 3),
        (CSV, ["-skip-lines", "1"], 3),
        (CSV, ["-limit", "4"], 3),
        (CSV, ["-columns", "time,id,note", "-split", ","], 0),
    ],
)
def test_an_import_is_of_one_file_and_one_way_to_read_it(
    copy: Copy, db: str, text: str, flags: list[str], code: int
) -> None:
    copy(CSV, "-import-id", "april")
    done = copy(text, "-import-id", "april", *flags, code=code)
    assert ("another -import-id is another import" in done.stderr) == (code == 3)
    assert rows(db, ALL) == FIVE


def test_an_import_goes_on_where_it_stopped(copy: Copy, db: str) -> None:
    execute(db, "ALTER TABLE t ADD CONSTRAINT few CHECK (id < 50)")
    flags = ["-import-id", "april", "-batch-size", "1"]
    done = copy(CSV, *flags, code=4)
    assert "the same command continues it" in done.stderr
    before = scalar(db, "SELECT count(*) FROM t")
    assert before <= 4
    execute(db, "ALTER TABLE t DROP CONSTRAINT few")
    assert copy(CSV, *flags, "-log-batches").stdout == f"COPY {5 - before}\n"
    assert rows(db, ALL) == FIVE


def test_an_unfinished_import_is_of_one_file(copy: Copy, db: str) -> None:
    copy(BAD, "-import-id", "april", "-batch-size", "1", code=4)
    before = rows(db, ALL)
    refused = copy(BAD.replace("x", "3"), "-import-id", "april", "-batch-size", "1", code=3)
    assert "is unfinished, and is not the same" in refused.stderr and "changed since" in refused.stderr
    assert rows(db, ALL) == before


def test_an_import_from_a_pipe(copy: Copy, db: str) -> None:
    assert copy(None, "-import-id", "april", stdin=CSV).stdout == "COPY 5\n"
    again = copy(None, "-import-id", "april", stdin=CSV)
    assert again.stdout == "COPY 0\n"
    assert "what comes through standard input was not compared" in again.stderr
    assert "warning: standard input cannot be read again" in again.stderr
    assert rows(db, ALL) == FIVE


def test_failed_batches_of_an_import_are_tried_again(copy: Copy, db: str) -> None:
    execute(db, "ALTER TABLE t ADD CONSTRAINT few CHECK (id <> 30)")
    flags = ["-import-id", "april", "-batch-size", "1", "-skip-batch-errors"]
    assert copy(CSV, *flags, code=4).stdout == "COPY 4\n"
    assert copy(CSV, *flags, code=4).stdout == "COPY 0\n"
    execute(db, "ALTER TABLE t DROP CONSTRAINT few")
    assert copy(CSV, *flags).stdout == "COPY 1\n"
    assert rows(db, ALL) == FIVE


def test_a_call_that_failed_does_not_stand_in_the_way(copy: Copy, db: str) -> None:
    """Whoever has no import id removes what came, and calls again: with the mended file, or with another."""
    copy(BAD, "-batch-size", "2", code=4)
    copy(None, "-batch-size", "2", code=4, stdin=BAD)
    execute(db, "TRUNCATE t")
    assert copy(CSV).stdout == "COPY 5\n"
    assert copy(None, stdin=CSV).stdout == "COPY 5\n"
    assert rows(db, ALL) == sorted(FIVE * 2)


@pytest.fixture
def pipe(db: str, tmp_path: Path) -> Iterator[Callable[..., Background]]:
    """Start the command on `t` with its standard input open."""
    started = []

    def start(*flags: str) -> Background:
        one = Background.start(tmp_path, "copy", "-connection", db, "-table", "t", *flags, stdin=subprocess.PIPE)
        started.append(one)
        return one

    yield start
    for one in started:
        one.end()
        assert one.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            one.process.stdin.close()


def write(process: Background, text: str, *, close: bool = False) -> None:
    assert process.process.stdin is not None
    process.process.stdin.write(text.encode())
    process.process.stdin.flush()
    if close:
        process.process.stdin.close()


def loads(db: str) -> int:
    """How many loads have a batch."""
    there = scalar(db, "SELECT to_regclass('hyperfill.batches') IS NOT NULL")
    return int(scalar(db, "SELECT count(DISTINCT backfill_id) FROM hyperfill.batches")) if there else 0


COUNT = 40_000
LONG = "".join(f"{i},{i},{'x' * 90}\n" for i in range(COUNT))  # about 4 MB: a pipe is read in large blocks


def test_two_pipes_at_once(pipe: Callable[..., Background], db: str) -> None:
    both = [pipe("-batch-byte-size", "500000"), pipe("-batch-byte-size", "500000")]
    for one in both:
        write(one, LONG)
    # Each has loaded something, and none is at its end.
    until(lambda: loads(db) == 2, what="both to load")
    for one in both:
        write(one, f"{COUNT},0,\n", close=True)
    assert [(one.wait(), one.stdout) for one in both] == [(0, f"COPY {COUNT + 1}\n")] * 2, [o.stderr for o in both]
    assert rows(db, "SELECT count(*), count(DISTINCT time) FROM t") == [(2 * COUNT + 2, COUNT + 1)]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_the_next_call_begins_anew(
    pipe: Callable[..., Background], copy: Copy, db: str, signum: int, code: int
) -> None:
    run = pipe("-batch-byte-size", "500000", "-workers", "2")
    write(run, LONG)
    until(lambda: loads(db) == 1, what="a batch")
    run.signal(signum)
    assert run.wait(30) == code, run.stderr
    assert run.stdout == ""
    loaded = f"{scalar(db, 'SELECT count(*) FROM t'):,}"
    assert f"not everything is loaded: this call has brought {loaded} rows; another call" in run.stderr
    execute(db, "TRUNCATE t")
    assert copy(None, stdin=CSV).stdout == "COPY 5\n"
    assert rows(db, ALL) == FIVE


# -- the table ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "flags"),
    [
        ('"My Schema"."T 1"', ["-schema", "My Schema", "-table", "T 1"]),
        ('"My Schema"."T 1"', ["-table", '"My Schema"."T 1"']),
        ('"My Schema".t1', ["-schema", "My Schema", "-table", "t1"]),
        ('"My Schema".t1', ["-table", '"My Schema".T1']),
        ('"My Schema"."say ""hi"""', ["-schema", "My Schema", "-table", 'say "hi"']),
        ('"My Schema"."say ""hi"""', ["-schema", "My Schema", "-table", '"say ""hi"""']),
        ("public.metrics", ["-table", "public.metrics"]),
        ("public.metrics", ["-table", "PUBLIC.Metrics", "-schema", "public"]),
        ('public."public.metrics"', ["-table", "public.metrics"]),
        ('public."Metrics"', ["-table", "Metrics"]),
    ],
)  # fmt: skip
def test_names(db: str, copy: Copy, made: str, flags: list[str]) -> None:
    execute(
        db,
        'CREATE SCHEMA "My Schema"',
        f"CREATE TABLE {made} (LIKE t)",
        f"SELECT create_hypertable('{made}', 'time', chunk_time_interval => 1000)",
    )
    assert copy(CSV, *flags).stdout == "COPY 5\n"
    assert rows(db, f"SELECT * FROM {made} ORDER BY time") == FIVE


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["-table", "missing"], 3, "has no table or view public.missing"),
        (["-table", "T"], 3, 'has no table or view public."T"'),
        (["-table", "other.t"], 3, "has no table or view other.t"),
        (["-table", "public.t", "-schema", "other"], 2, "-table public.t is in schema public, and -schema says other"),
        (["-table", "public.t; DROP TABLE t"], 2, "is not a name that SQL can read"),
        (["-table", "plain"], 3, "plain is a plain table, not a hypertable"),
    ],
)
def test_tables_that_cannot_be_filled(copy: Copy, db: str, flags: list[str], code: int, words: str) -> None:
    execute(db, "CREATE TABLE plain (time int, id int, note text)")
    done = copy(CSV, *flags, code=code)
    assert words in done.stderr
    assert rows(db, ALL) == rows(db, "SELECT * FROM plain") == []


def test_truncate(copy: Copy, db: str) -> None:
    copy(CSV)
    assert copy("7,7,a\n", "-truncate").stdout == "COPY 1\n"
    assert rows(db, ALL) == [(7, 7, "a")]


def test_an_import_truncates_only_when_it_begins(copy: Copy, db: str) -> None:
    execute(db, "INSERT INTO t VALUES (9, 9, 'old')", "ALTER TABLE t ADD CONSTRAINT few CHECK (id < 50)")
    flags = ["-truncate", "-import-id", "april", "-batch-size", "1"]
    copy(CSV, *flags, code=4)
    loaded = rows(db, ALL)
    assert (9, 9, "old") not in loaded
    execute(db, "ALTER TABLE t DROP CONSTRAINT few")
    copy(CSV, *flags)
    assert rows(db, ALL) == FIVE
    copy(CSV, *flags)
    assert rows(db, ALL) == FIVE


def test_a_truncate_that_fails_stops(hyperfill: Hyperfill, db: str, tmp_path: Path) -> None:
    execute(
        db,
        "INSERT INTO t VALUES (9, 9, 'old')",
        "DROP ROLE IF EXISTS copier",
        "CREATE ROLE copier LOGIN PASSWORD 'copier'",
        "GRANT SELECT, INSERT, DELETE ON t TO copier",
        f"GRANT CREATE ON DATABASE {pq_conninfo.conninfo_to_dict(db)['dbname']} TO copier",
    )
    path = tmp_path / "in.csv"
    path.write_text(CSV)
    try:
        arguments = [
            "copy",
            "-connection",
            pq_conninfo.make_conninfo(db, user="copier", password="copier"),
            "-table",
            "t",
            "-file",
            str(path),
        ]
        done = hyperfill(*arguments, "-truncate")
        assert done.returncode in (3, 4), done.stderr
        assert "permission denied for table t" in done.stderr
        assert done.stdout == ""
        assert rows(db, ALL) == [(9, 9, "old")]
        assert hyperfill(*arguments).stdout == "COPY 5\n"
    finally:
        execute(db, "DROP OWNED BY copier", "DROP ROLE copier")


# -- what is said ------------------------------------------------------------------------------------------------


def test_more_is_said_where_it_is_asked_for(copy: Copy) -> None:
    done = copy(CSV, "-verbose", "-log-batches", "-reporting-period", "10ms", "-batch-size", "2", "-workers", "2")
    rate = r"\(mean rate [0-9.]+/sec\)"
    assert re.fullmatch(rf"COPY 5, took [0-9.]+m?s with 2 worker\(s\) {rate}\n", done.stdout)
    assert "There will be reports every 10ms" in done.stderr
    assert re.findall(r"\[BATCH\] .*in\.csv line (\d+), took \S+, row count (\d), byte len (\d+)", done.stderr)
    assert len(re.findall(r"\[BATCH\]", done.stderr)) == 3
    reports = re.findall(
        r"^\S+ \S+ \(\d+s\), row rate [0-9.]+/sec \(period\), row rate [0-9.]+/sec \(overall\), "
        r"(\d) inserted rows, 0 skipped rows, (\d) total rows$",
        done.stderr,
        re.MULTILINE,
    )
    assert reports[-1] == ("5", "5")
    assert not any("{" in line for line in done.stderr.splitlines())


def test_flags_without_effect_are_accepted_and_say_so(copy: Copy) -> None:
    quiet = copy(CSV, "-disable-direct-compress", "-disable-windows-1252-handling", "-buffer-byte-size", "16")
    assert quiet.stderr == ""
    done = copy(CSV, "-enable-client-side-sorting", "-no-retry", "--retry-timeout=1m")
    for flag in ("-enable-client-side-sorting", "-no-retry", "-retry-timeout"):
        assert f"warning: {flag} has no effect" in done.stderr
    assert "-import-id is empty" in copy(CSV, "-import-id", "").stderr


def test_help_and_version(hyperfill: Hyperfill) -> None:
    for word in ("-h", "--help", "-help"):
        done = hyperfill("copy", "-table", "t", word)
        assert done.returncode == 0 and done.stdout.startswith("Usage: hyperfill copy")
        assert done.stderr == ""
    done = hyperfill("copy", "-version")
    assert done.returncode == 0 and done.stdout == ""
    assert re.match(r"hyperfill \S+, with the flags of timescaledb-parallel-copy 0\.13\n", done.stderr)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-nonsense"], "flag provided but not defined: -nonsense"),
        (["-db-name", "x"], "-db-name is deprecated"),
        (["-copy-options", "CSV HEADER"], "-skip-header"),
        (["-split", '"'], "-split and -quote are the same character"),
        (["-file", "no-such-file.csv"], "there is no such file"),
        (["-connection", "host=x timezone=UTC"], "parameters are libpq's"),
    ],
)
def test_what_cannot_be_meant_ends_with_2(copy: Copy, db: str, flags: list[str], words: str) -> None:
    assert words in copy(None, *flags, code=2).stderr
    assert not scalar(db, "SELECT to_regnamespace('hyperfill') IS NOT NULL")


def test_only_variables_of_libpq_apply(hyperfill: Hyperfill, db: str, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text(CSV)
    said = {k: str(v) for k, v in pq_conninfo.conninfo_to_dict(db).items()}
    environment = {"PGHOST": said["host"], "PGPORT": said["port"], "PGDATABASE": said["dbname"]}
    environment["PGPASSWORD"] = said["password"]
    ours = {"HYPERFILL_TARGET": "host=nowhere.invalid", "HYPERFILL_JSON": "1", "HYPERFILL_LIMIT": "1"}
    done = hyperfill("copy", "-table", "t", "-file", str(path), env={**environment, **ours})
    assert (done.returncode, done.stdout) == (0, "COPY 5\n"), done.stderr
    refused = hyperfill("copy", "-table", "missing", "-file", str(path), env={**environment, **ours})
    assert (refused.returncode, refused.stdout) == (3, "")
