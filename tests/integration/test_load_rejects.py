"""`hyperfill load`: rows that are not loaded, each with its place and reason: bad ones, conflicts, those outside."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures.loading import RANGE, Loading, ids, rows


def test_rows_outside_are_an_error_with_their_lines_or_counted(loading: Loading) -> None:
    content = (
        "2023-12-31 23:59:59.999999+00,1,before\n"
        "2024-01-01 00:00:00+00,2,first\n"
        '2024-01-02 23:59:59.999999+00,3,"last\n'
        'of all"\n'
        "2024-01-03 00:00:00+00,4,end\n"
    )
    path = loading.file("a.csv", content)
    code, report, errors = loading.load(*RANGE, path)
    assert code == 4
    assert "2 rows outside of the range, lines 1, 5" in errors
    assert loading.count() == 0
    report = loading.done(*RANGE, "--outside", "skip", path)
    assert (report["rows_copied"], report["rows_outside"]) == (2, 2)
    assert ids(loading) == [2, 3]


def test_bad_rows_are_kept_with_place_and_reason(loading: Loading) -> None:
    loading.sql(
        "ALTER TABLE m ADD CHECK (id <> 50)",
        "CREATE UNIQUE INDEX ON m (time, id)",
        "CREATE TABLE known (value text PRIMARY KEY)",
        "INSERT INTO known SELECT 'value ' || n FROM generate_series(0, 200) AS n WHERE n <> 120",
        "ALTER TABLE m ADD FOREIGN KEY (value) REFERENCES known DEFERRABLE INITIALLY DEFERRED",
    )
    lines = rows(200).splitlines(keepends=True)
    lines[20] = "2024-01-01 00:20:00+00,twenty,value 20\n"
    lines[70] = lines[69]
    lines[90] = "2024-01-01 01:30:00+00,90\n"
    lines[100] = '2024-01-01 01:40:00+00,100,"value\n100"\n'
    content = "".join(lines).encode()
    content = content.replace(b"value 150\n", b"value \xff\n")
    path = loading.file("bad.csv", content)
    code, report, errors = loading.load("--max-rejects", "6", "--batch-size", "3kB", path)
    assert code == 4
    assert "more than --max-rejects 6" in errors + str(report)
    rejects = loading.folder / "rejects.csv"
    report = loading.done(
        "--max-rejects", "10", "--rejects", str(rejects), "--batch-size", "3kB", "--jobs", "2", path, code=6
    )
    assert (report["rows_copied"], report["rows_rejected"]) == (193, 7)
    places = loading.query("SELECT line, sqlstate FROM hyperfill.rejects ORDER BY start")
    assert places == [
        (21, "22P02"),  # twenty
        (51, "23514"),  # the check
        (71, "23505"),  # a row twice: the first stays
        (91, "22P04"),  # a field is missing
        (101, "23503"),  # no such value
        (122, "23503"),  # one line later because of the line break
        (152, "22021"),  # a byte that is no UTF-8
    ]
    starts = [row[0] for row in loading.query("SELECT start FROM hyperfill.rejects ORDER BY start")]
    assert content[starts[0] :].startswith(b"2024-01-01 00:20:00+00,twenty")
    kept = [bytes(row[0]) for row in loading.query("SELECT row FROM hyperfill.rejects ORDER BY start")]
    assert kept[4] == b'2024-01-01 01:40:00+00,100,"value\n100"\n'
    assert (loading.folder / "rejects.csv.rows").read_bytes() == b"".join(kept)
    text = rejects.read_bytes()
    assert text.startswith(b"file,line,byte_offset,sqlstate,message,row\n")
    assert text.count(path.encode()) == 7
    assert f",21,{starts[0]},22P02,".encode() in text
    assert b'"2024-01-01 02:31:00+00' not in text  # a good row
    rejects.unlink()
    code, report, _ = loading.load("--max-rejects", "10", "--rejects", str(rejects), path)
    assert (code, report["state"]) == (6, "nothing")
    assert rejects.read_bytes() == text
    assert ids(loading) == sorted(set(range(200)) - {20, 50, 70, 90, 100, 120, 150})


def test_without_max_rejects_a_bad_row_stops_the_load_with_its_place(loading: Loading) -> None:
    content = rows(10) + "2024-01-01 00:10:00+00,ten,x\n"
    path = loading.file("a.csv", content)
    for encode in ("server", "auto"):
        code, report, _ = loading.load("--encode", encode, path)
        assert code == 4
        [failed] = report["failed_batches"]
        assert failed["sqlstate"] == "22P02"
        assert f"{path} line 11 (byte {len(rows(10))})" in failed["message"]
    assert loading.count() == 0


def test_a_bad_byte_is_an_error_with_its_place(loading: Loading) -> None:
    good = rows(3).encode()
    path = loading.file("a.csv", good + b"2024-01-01 00:10:00+00,1,caf\xe9\n")
    code, report, _ = loading.load(path)
    assert code == 4
    at = len(good) + len("2024-01-01 00:10:00+00,1,caf")
    assert f"line 4 (byte {at})" in report["failed_batches"][0]["message"]
    # Nothing of it was loaded: the same file with other options is another load, in its place.
    loading.done("--encoding", "LATIN1", path)
    assert loading.query("SELECT count(*) FROM hyperfill.backfills") == [(1,)]
    assert loading.count("value = 'café'") == 1


def test_conflicts_are_an_error_or_skipped(loading: Loading) -> None:
    loading.sql("CREATE UNIQUE INDEX ON m (time, id)")
    loading.done(loading.file("a.csv", rows(100)))
    twice = loading.file("b.csv", rows(100, first=50) + rows(1, first=149))
    code, report, _ = loading.load(twice)
    assert code == 4
    assert report["failed_batches"][0]["sqlstate"] == "23505"
    report = loading.done("--on-conflict", "skip", twice)
    assert (report["rows_copied"], report["rows_skipped"]) == (50, 51)
    assert ids(loading) == list(range(150))


def test_the_end_of_data_mark_is_an_error_with_its_place(loading: Loading) -> None:
    path = loading.file("a.csv", rows(3) + "\\.\n" + rows(3, first=3))
    code, report, errors = loading.load(path)
    assert code in (3, 4)
    assert "line 4" in errors + str(report)
    assert loading.count() == 0


def test_a_trigger_that_drops_rows_is_noticed(loading: Loading) -> None:
    loading.sql(
        "CREATE FUNCTION drop_some() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF NEW.id = 5 THEN RETURN NULL; END IF; RETURN NEW; END'",
        "CREATE TRIGGER t BEFORE INSERT ON m FOR EACH ROW EXECUTE FUNCTION drop_some()",
    )
    code, report, _ = loading.load(loading.file("a.csv", rows(10)))
    assert code == 4
    assert "10 rows were read, and 9 are accounted for" in report["failed_batches"][0]["message"]
    code, report, _ = loading.load(*RANGE, "--outside", "skip", loading.file("b.csv", rows(11)))
    assert code == 4
    assert "11 rows were read, and 10 are accounted for" in report["failed_batches"][0]["message"]
    assert loading.count() == 0


def test_places_behind_a_first_row_of_many_lines(loading: Loading) -> None:
    """Before it has seen a line end, the server does not count those in quotes."""
    first = '2024-01-01 00:00:00+00,0,"one\ntwo\nthree"\n'
    content = first + rows(5, first=1) + "2024-01-01 00:06:00+00,six,x\n" + rows(3, first=7)
    path = loading.file("a.csv", content)
    for encode in ("server", "auto"):
        code, report, _ = loading.load("--encode", encode, path)
        assert code == 4
        assert f"line 9 (byte {content.index('2024-01-01 00:06')})" in report["failed_batches"][0]["message"]
    loading.done("--max-rejects", "1", path, code=6)
    assert loading.query("SELECT line, row FROM hyperfill.rejects") == [(9, b"2024-01-01 00:06:00+00,six,x\n")]
    assert loading.count() == 9


def test_a_line_end_of_another_kind_is_a_bad_row_wherever_a_batch_begins(loading: Loading) -> None:
    lines = [line + "\n" for line in rows(40).splitlines()]
    lines[20] = lines[20].replace("\n", "\r\n")
    lines[7] = "x\n"
    path = loading.file("a.csv", "".join(lines))
    code, _, errors = loading.load("--batch-size", "1kB", path)
    assert code == 4, errors
    loading.hyperfill("clean", "--target", loading.conninfo, "--force")
    loading.sql("TRUNCATE m")
    loading.done("--max-rejects", "2", path, code=6)
    assert loading.query("SELECT line FROM hyperfill.rejects ORDER BY line") == [(8,), (21,)]
    assert ids(loading) == [n for n in range(40) if n not in (7, 20)]


def test_deferred_constraints_are_checked_with_the_rows(loading: Loading) -> None:
    loading.sql(
        "CREATE TABLE known (value text PRIMARY KEY)",
        "INSERT INTO known SELECT 'value ' || n FROM generate_series(0, 99) AS n WHERE n % 10 <> 0",
        "ALTER TABLE m ADD FOREIGN KEY (value) REFERENCES known DEFERRABLE INITIALLY DEFERRED",
    )
    path = loading.file("a.csv", rows(100))
    code, report, _ = loading.load(path)
    assert code == 4
    assert report["failed_batches"][0]["sqlstate"] == "23503"
    report = loading.done("--max-rejects", "10", path, code=6)
    assert (report["rows_copied"], report["rows_rejected"]) == (90, 10)


def test_many_bad_rows_and_codes_of_users(loading: Loading) -> None:
    """A constraint that raises with a code of its own; one row of twenty is bad."""
    loading.sql(
        "CREATE FUNCTION fine(id bigint) RETURNS bool LANGUAGE plpgsql AS"
        " $$ BEGIN IF id % 20 = 7 THEN RAISE 'no %', id USING ERRCODE = 'ZZ999'; END IF; RETURN true; END $$",
        "ALTER TABLE m ADD CHECK (fine(id))",
    )
    path = loading.file("a.csv", rows(20_000))
    code, report, _ = loading.load(path)
    assert code == 4
    assert "line 8 (byte" in report["failed_batches"][0]["message"]
    report = loading.done("--max-rejects", "1000", path, code=6)
    assert (report["rows_copied"], report["rows_rejected"]) == (19_000, 1000)
    assert loading.query("SELECT DISTINCT sqlstate FROM hyperfill.rejects") == [("ZZ999",)]
    assert loading.count("id % 20 = 7") == 0


def test_dropped_rows_are_not_taken_for_conflicts(loading: Loading) -> None:
    loading.sql(
        "CREATE UNIQUE INDEX ON m (time, id)",
        "CREATE FUNCTION drop_some() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF NEW.id % 10 = 3 THEN RETURN NULL; END IF; RETURN NEW; END'",
        "CREATE TRIGGER t BEFORE INSERT ON m FOR EACH ROW EXECUTE FUNCTION drop_some()",
    )
    path = loading.file("a.csv", rows(100))
    assert loading.refused("--on-conflict", "skip", path) == {"triggers"}
    report = loading.done("--on-conflict", "skip", "--triggers", "off", path)
    assert report["rows_copied"] == 100


def test_the_rejects_file_harms_no_other_file(loading: Loading) -> None:
    bad = rows(3) + "x\n"
    paths = [loading.file(name, bad) for name in ("out.part", "out.rows.part", "in.csv")]
    out = loading.folder / "out"
    link = loading.folder / "link"
    link.symlink_to(out)
    for place in (paths[0], "/dev/null", str(loading.folder)):
        code, _, errors = loading.load("--max-rejects", "1", "--rejects", place, paths[0])
        assert code == 2, errors
    loading.done("--max-rejects", "1", "--rejects", str(link), paths[0], code=6)
    assert link.is_symlink()
    assert out.read_text().count("\n") == 2
    assert (loading.folder / "out.rows").read_text() == "x\n"
    assert [Path(p).read_text() for p in paths] == [bad] * 3
    assert sorted(p.name for p in loading.folder.iterdir()) == [
        "in.csv",
        "link",
        "out",
        "out.part",
        "out.rows",
        "out.rows.part",
    ]
