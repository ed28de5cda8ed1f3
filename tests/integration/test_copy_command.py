"""`hyperfill copy`: names of tables, truncating, what is said, what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from psycopg import conninfo as pq_conninfo

from tests.fixtures.cli import Hyperfill
from tests.fixtures.copying import ALL, CSV, FIVE, Copy
from tests.fixtures.scenes import execute, rows, scalar


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
