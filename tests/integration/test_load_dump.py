"""A table, dumped into files and loaded from them: what was there arrives, window by window."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.fixtures.pair import Pair
from tests.fixtures.scenes import Background, more, until

COLUMNS = 'time, "a b""c", flags, doc, raw, amount, happened, name'
TABLE = (
    'CREATE TABLE m (time timestamptz NOT NULL, "a b""c" text, flags int[], doc jsonb, raw bytea, amount numeric,'
    " happened interval, name varchar(20))"
)


def make(pair: Pair, rows: int = 2000) -> None:
    """Ten days of awkward values on the source; chunks of six hours on the target."""
    pair.both(TABLE)
    pair.on_source(
        "INSERT INTO m SELECT timestamptz '2024-01-01Z' + n * (interval '10 days' / " + str(rows) + "),"
        " (ARRAY[NULL, '', 'NULL', E'two\\nlines', '\"q\"', '\\.', 'Grüße'])[1 + n % 7], ARRAY[n, NULL],"
        " jsonb_build_object('n', n, 't', E'a\\tb'), decode(md5(n::text), 'hex'),"
        " CASE WHEN n % 11 = 0 THEN 'NaN' ELSE n / 7.0 END, n * interval '1.5 s', 'n' || n"
        f" FROM generate_series(0, {rows - 1}) AS n",
        "CREATE INDEX ON m (time)",
        "ANALYZE m",
    )
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '6 hours')")


def dump(pair: Pair, out: Path, *options: str) -> None:
    done = pair.hyperfill(
        "dump", "--source", pair.source_conninfo, "--table", "m", "--end", "2024-01-09T00:00:00Z", "--out", str(out),
        "--window", "1 day", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def load(pair: Pair, out: Path, *options: str) -> tuple[int, dict[str, object], str]:
    done = pair.hyperfill("load", "--target", pair.target_conninfo, "--json", "--jobs", "2", *options, str(out))
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


@pytest.mark.parametrize("compress", ["zstd", "gzip", "none"])
def test_what_was_dumped_arrives(pair: Pair, tmp_path: Path, compress: str) -> None:
    make(pair)
    pair.on_target(
        "INSERT INTO m (time) VALUES ('2024-01-03 12:00Z'), ('2024-01-08 23:59:59.999999Z'), ('2024-01-09Z')"
    )
    dump(pair, tmp_path / "d", "--compress", compress)
    code, report, errors = load(pair, tmp_path / "d", "--dry-run")
    assert (code, report["state"]) == (0, "planned"), errors
    code, report, errors = load(pair, tmp_path / "d")
    assert code == 0, errors
    assert report["rows_copied"] == 1600
    assert report["rows_deleted"] == 2
    pair.same("m", COLUMNS, "time < '2024-01-09Z'")
    assert pair.query(pair.target, "SELECT count(*) FROM m WHERE time >= '2024-01-09Z'") == [(1,)]
    code, report, _ = load(pair, tmp_path / "d")
    assert (code, report["state"]) == (0, "nothing")


def test_simple_columns_are_read_on_the_client(pair: Pair, tmp_path: Path) -> None:
    make(pair)
    dump(pair, tmp_path / "d", "--columns", 'time,"a b""c",name')
    pair.on_target("CREATE TABLE other (LIKE m)", "SELECT create_hypertable('other', 'time')")
    code, _, errors = load(pair, tmp_path / "d", "--hypertable", "other", "--encode", "client")
    assert code == 0, errors
    pair.same("m", 'time, "a b""c", name', "time < '2024-01-09Z'", "other")


def test_the_rate_holds_where_the_server_reads_the_files(pair: Pair, tmp_path: Path) -> None:
    make(pair, 4_000)
    dump(pair, tmp_path / "d")
    code, report, errors = load(pair, tmp_path / "d", "--encode", "server", "--max-rate", "40kB")
    assert code == 0, errors
    taken = int(str(report["bytes_copied"]))
    # Bursts are a quarter of a second for each worker at most.
    assert taken > 200_000 and float(str(report["seconds"])) > taken / 40_000 - 1


def test_kill_and_go_on(pair: Pair, tmp_path: Path) -> None:
    make(pair, 40_000)
    dump(pair, tmp_path / "d")
    statement = "SELECT count(*) FROM hyperfill.windows WHERE state = 'done'"

    def done() -> int:
        there = pair.query(pair.target, "SELECT to_regclass('hyperfill.windows')")[0][0]
        return int(pair.query(pair.target, statement)[0][0]) if there else 0

    arguments = ["--target", pair.target_conninfo, "--jobs", "2", "--max-rate", "500kB", str(tmp_path / "d")]
    for _ in range(2):
        before = done()
        running = Background.start(tmp_path, "load", *arguments)
        until(more(done, before))
        running.end()
    assert 0 < done() < 10
    code, _, errors = load(pair, tmp_path / "d")
    assert code == 0, errors
    pair.same("m", COLUMNS, "time < '2024-01-09Z'")


def test_what_changed_since_is_refused(pair: Pair, tmp_path: Path) -> None:
    make(pair)
    whole = tmp_path / "whole"
    dump(pair, whole, "--compress", "none")
    for change in ("file", "missing", "count"):
        folder = tmp_path / change
        shutil.copytree(whole, folder)
        if change == "file":
            path = sorted(folder.glob("*.csv"))[3]
            path.write_bytes(path.read_bytes().replace(b",n", b",N", 1))
        elif change == "missing":
            sorted(folder.glob("*.csv"))[2].unlink()
        else:
            path = folder / "manifest.json"
            path.write_text(path.read_text().replace('"rows": 200,', '"rows": 201,', 1))
        code, _, errors = load(pair, folder)
        assert code == 3, (change, errors)
        assert not pair.query(pair.target, "SELECT 1 FROM pg_namespace WHERE nspname = 'hyperfill'")
    pair.on_target("ALTER TABLE m ADD CONSTRAINT c CHECK (name <> 'n777')")
    code, report, errors = load(pair, whole)
    assert code == 4, errors
    pair.on_target("ALTER TABLE m DROP CONSTRAINT c")
    manifest = whole / "manifest.json"
    before = manifest.read_text()
    manifest.write_text(before.replace('"complete": true', '"complete":  true'))
    code, report, _ = load(pair, whole)
    assert code == 3
    assert "manifest" in str(report)
    manifest.write_text(before)
    code, _, errors = load(pair, whole)
    assert code == 0, errors
    pair.same("m", COLUMNS, "time < '2024-01-09Z'")


def test_a_dump_with_fewer_rows_does_not_wipe_history(pair: Pair, tmp_path: Path) -> None:
    make(pair)
    pair.on_target(
        "INSERT INTO m SELECT timestamptz '2024-01-03Z' + n * interval '1 s' FROM generate_series(0, 999) AS n"
    )
    dump(pair, tmp_path / "d")
    code, _, _ = load(pair, tmp_path / "d")
    assert code == 4
    assert pair.query(pair.target, "SELECT count(*) FROM m WHERE name IS NULL") == [(1000,)]
    code, _, errors = load(pair, tmp_path / "d", "--replace")
    assert code == 0, errors
    pair.same("m", COLUMNS, "time < '2024-01-09Z'")


def test_columns_that_would_lose_values_are_refused(pair: Pair, tmp_path: Path) -> None:
    make(pair)
    dump(pair, tmp_path / "d")
    pair.on_target("ALTER TABLE m ALTER name TYPE varchar(5), ALTER amount TYPE numeric(10, 1), DROP flags")
    code, report, _ = load(pair, tmp_path / "d")
    assert code == 3
    findings = report["findings"]
    assert isinstance(findings, list)
    said = [f["message"] for f in findings if f["severity"] == "error"]
    assert len(said) == 3, said
    code, _, errors = load(pair, tmp_path / "d", "--header")
    assert code == 2, errors
