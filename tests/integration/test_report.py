"""`hyperfill report`: what the ledger has is in the file, whatever it is called, and nothing else is."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from psycopg import conninfo, sql

from tests.fixtures.cli import Hyperfill
from tests.fixtures.community import jobs_on, make_policies
from tests.fixtures.loading import Loading, rows
from tests.fixtures.pair import Connection, Pair
from tests.unit.test_report import HOSTILE, Page

END = "2024-01-05T00:00:00Z"
FORMS = (".html", ".md", ".json")
RANGE = ("--start", "2024-01-01T00:00:00Z", "--end", END)


def write(hyperfill: Hyperfill, target: str, backfill: int, out: Path) -> str:
    """The text of a report that must be written."""
    done = hyperfill("report", "--target", target, "--backfill", str(backfill), "--out", str(out))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert str(out) in done.stderr
    return out.read_text(encoding="utf-8")


def read(pair: Pair, backfill: int, folder: Path) -> dict[str, Any]:
    """The JSON of a report."""
    found = json.loads(write(pair.hyperfill, pair.target_conninfo, backfill, folder / "r.json"))
    assert isinstance(found, dict)
    return found


def fill(pair: Pair, name: sql.Identifier, value: str = "v") -> None:
    """Four days of hours on the source, the last twenty of them dual-written."""
    parts = {"name": name, "value": sql.Identifier(value)}
    for connection in (pair.source, pair.target):
        connection.execute(sql.SQL("CREATE TABLE {name} (time timestamptz NOT NULL, {value} text)").format(**parts))
    create = sql.SQL("SELECT create_hypertable({}, 'time', chunk_time_interval => interval '1 day')")
    pair.target.execute(create.format(sql.Literal(name.as_string())))
    every = "SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', 'row ' || i FROM generate_series({}, 95) AS i"
    for connection, first in ((pair.source, 0), (pair.target, 76)):
        connection.execute(sql.SQL("INSERT INTO {name} " + every.format(first)).format(**parts))
    pair.source.execute(sql.SQL("CREATE INDEX ON {name} (time)").format(**parts))


def compare(target: Connection, backfill: int, mode: str = "hash") -> None:
    """Write the comparisons of a backfill anew, all equal."""
    target.execute("DELETE FROM hyperfill.comparisons WHERE backfill_id = %s", [backfill])
    target.execute(
        "INSERT INTO hyperfill.comparisons (backfill_id, window_id, mode, source_rows, target_rows, source_hash,"
        " target_hash, equal) SELECT backfill_id, id, %(mode)s, rows_copied, rows_copied,"
        " CASE WHEN %(mode)s = 'hash' THEN id * 12345678901234567890 END,"
        " CASE WHEN %(mode)s = 'hash' THEN id * 12345678901234567890 END, true"
        " FROM hyperfill.windows WHERE backfill_id = %(id)s AND state = 'done'",
        {"mode": mode, "id": backfill},
    )


@pytest.fixture
def moved(pair: Pair) -> int:
    """A finished backfill of `m`, verified by hash; its id."""
    fill(pair, sql.Identifier("m"))
    backfill = int(pair.run("m", *RANGE)["backfill"])
    compare(pair.target, backfill)
    return backfill


def test_all_of_a_backfill(pair: Pair, moved: int, tmp_path: Path) -> None:
    found = read(pair, moved, tmp_path)
    assert list(found)[:4] == ["format", "made_at", "made_by", "verdict"]
    assert (found["format"], found["verdict"], found["notes"]) == (1, "verified", [])
    told = found["backfill"]
    assert (told["backfill"], told["kind"], told["state"], told["phase"]) == (moved, "run", "done", "done")
    assert (told["table"], told["hypertable"], told["hypertable_now"]) == ("public.m", "public.m", "public.m")
    assert (told["start"], told["end"]) == ("2024-01-01 00:00:00+00", "2024-01-05 00:00:00+00")
    assert (told["rows_copied"], told["rows_deleted"], told["planned_by"]) == (96, 20, "postgres")
    assert [(w["window"], w["lower"], w["upper"], w["rows_deleted"], w["rows_copied"]) for w in found["windows"]] == (
        pair.windows(moved)
    )
    assert [w["comparison"]["source_hash"] for w in found["windows"]] == [
        str(12345678901234567890 * (i + 1)) for i in range(len(found["windows"]))
    ]
    sums = found["comparisons"]
    assert (sums["by_hash"], sums["by_count"], sums["not_compared"], sums["differ"]) == (len(found["windows"]), 0, 0, 0)
    assert (sums["source_rows"], sums["target_rows"]) == (96, 96)
    assert sum(p["rows"] for p in found["periods"]) == 96
    assert found["versions"]["now"]["target"]["postgresql"].startswith(str(pair.target.info.server_version // 10000))
    assert found["findings"] == pair.query(pair.target, "SELECT findings FROM hyperfill.backfills")[0][0]
    assert (found["files"], found["batches"], found["rejects"], found["repairs"]) == ([], [], [], [])
    for ending in (".md", ".html"):
        text = write(pair.hyperfill, pair.target_conninfo, moved, tmp_path / f"r{ending}")
        for shown in ("Done and verified by hash", "public.m", "96", sums["source_hash"], "Sign-off", "Apache edition"):
            assert shown in text, (ending, shown)
        for window in found["windows"]:
            assert window["comparison"]["source_hash"] in text


def test_no_secret_is_in_it(pair: Pair, moved: int, tmp_path: Path) -> None:
    secrets = [conninfo.conninfo_to_dict(c)["password"] for c in (pair.source_conninfo, pair.target_conninfo)]
    for ending in FORMS:
        text = write(pair.hyperfill, pair.target_conninfo, moved, tmp_path / f"r{ending}")
        assert not any(str(secret) in text for secret in secrets)
        assert "password" not in text and "127.0.0.1" not in text


def test_the_page_is_self_contained(pair: Pair, moved: int, tmp_path: Path) -> None:
    page = Page(text := write(pair.hyperfill, pair.target_conninfo, moved, tmp_path / "r.html"))
    names = [tag for tag, _ in page.tags]
    assert names.count("svg") == 3 and "script" not in names
    assert "://" not in text
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("table", ["t", HOSTILE[:55], "%s%%(x)s|`\\", "Ünï漢字🎈" * 4])
def test_odd_names_are_only_text(pair: Pair, table: str, tmp_path: Path) -> None:
    schema = "<b>\"' |\n" + table[:20]
    for connection in (pair.source, pair.target):
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    name = sql.Identifier(schema, table)
    fill(pair, name, "<i>|`" + table[:20])
    backfill = int(pair.run(name.as_string(), *RANGE, "--where", "true /* <script>|` */")["backfill"])
    compare(pair.target, backfill)
    found = read(pair, backfill, tmp_path)
    assert found["backfill"]["hypertable"] == found["backfill"]["hypertable_now"]
    assert table.replace('"', '""') in found["backfill"]["hypertable"]
    page = Page(write(pair.hyperfill, pair.target_conninfo, backfill, tmp_path / "r.html"))
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"script", "img", "i"})
    text = "".join(page.text)
    assert "true /* <script>|` */" in text and "<i>|`" in text
    marked = write(pair.hyperfill, pair.target_conninfo, backfill, tmp_path / "r.md")
    assert "<script" not in (html := MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(marked))
    assert "<i>" not in html and "<b>" not in html
    # Every row of a table has as many cells as its head: no bar of a name ended one.
    for lines in re.findall(r"(?m)(?:^\|.*\n)+", marked):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines.splitlines()}) == 1, lines


def test_unfinished_and_different(pair: Pair, tmp_path: Path) -> None:
    fill(pair, sql.Identifier("m"))
    pair.on_target("ALTER TABLE m ADD CONSTRAINT not_30 CHECK (v <> 'row 30')")
    code, report, errors = pair.command("run", "m", *RANGE, "--jobs", "1")
    assert (code, report["windows"]["failed"]) == (4, 1), errors
    backfill = int(report["backfill"])
    found = read(pair, backfill, tmp_path)
    assert (found["verdict"], found["backfill"]["state"]) == ("incomplete", "incomplete")
    [failed] = [w for w in found["windows"] if w["state"] == "failed"]
    assert "not_30" in failed["error"]["message"]
    for ending in (".md", ".html"):
        text = write(pair.hyperfill, pair.target_conninfo, backfill, tmp_path / f"r{ending}")
        assert "Incomplete" in text and "Windows that failed" in text
        assert "not_30" in text.replace("\\", "")
    compare(pair.target, backfill)
    pair.on_target(
        "UPDATE hyperfill.comparisons SET equal = false, target_hash = 4242, target_rows = 1 WHERE window_id = 1"
    )
    found = read(pair, backfill, tmp_path)
    assert (found["verdict"], found["backfill"]["state"]) == ("differs", "mismatch")
    text = write(pair.hyperfill, pair.target_conninfo, backfill, tmp_path / "r.html")
    assert "Source and target differ" in text and "Windows that differ" in text and "4242" in text
    # What was compared before its rows were moved says nothing of them.
    pair.on_target("UPDATE hyperfill.comparisons SET compared_at = '2000-01-01'")
    found = read(pair, backfill, tmp_path)
    assert (found["verdict"], found["comparisons"]["differ"]) == ("incomplete", 0)
    assert {w["comparison"] for w in found["windows"]} == {None}


def test_counted_only_and_not_at_all(pair: Pair, moved: int, tmp_path: Path) -> None:
    compare(pair.target, moved, "count")
    found = read(pair, moved, tmp_path)
    assert (found["verdict"], found["comparisons"]["source_hash"]) == ("counted", None)
    pair.on_target("DELETE FROM hyperfill.comparisons")
    found = read(pair, moved, tmp_path)
    assert (found["verdict"], found["comparisons"]["source_rows"]) == ("unverified", None)
    assert "Done, not verified" in write(pair.hyperfill, pair.target_conninfo, moved, tmp_path / "r.html")


def test_repairs_are_listed_and_count(pair: Pair, moved: int, tmp_path: Path) -> None:
    [[repair]] = pair.query(
        pair.target,
        "INSERT INTO hyperfill.backfills (kind, hypertable, hypertable_oid, source, source_relation, time_type,"
        " time_column, source_time_column, range_start, range_end, columns, settings, phase, started_at, finished_at,"
        " client) SELECT 'repair', hypertable, hypertable_oid, source, source_relation, time_type, time_column,"
        " source_time_column, range_start, range_end, columns, settings || jsonb_build_object('repairs', id), 'done',"
        " now(), now(), client FROM hyperfill.backfills RETURNING id",
    )
    pair.on_target(
        "INSERT INTO hyperfill.windows SELECT "
        f"{repair}, 1, lower, upper, 0, 'done', 1, NULL, 24, 24, 99, now(), clock_timestamp(), NULL"
        " FROM hyperfill.windows WHERE id = 2",
        "UPDATE hyperfill.comparisons SET equal = false, target_hash = 1 WHERE window_id = 2",
    )
    assert read(pair, moved, tmp_path)["verdict"] == "differs"
    compare(pair.target, repair)
    found = read(pair, moved, tmp_path)
    assert (found["verdict"], found["comparisons"]["differ"], found["comparisons"]["repaired"]) == ("verified", 1, 1)
    assert [r["backfill"] for r in found["repairs"]] == [repair]
    text = write(pair.hyperfill, pair.target_conninfo, moved, tmp_path / "r.html")
    assert "Repairs since" in text and "1 window differed, then was moved again" in text
    mine = read(pair, repair, tmp_path)
    assert (mine["verdict"], mine["repairs"], mine["backfill"]["kind"]) == ("verified", [], "repair")
    # Windows that a repair found different again are not put right by it.
    pair.on_target(f"UPDATE hyperfill.comparisons SET equal = false WHERE backfill_id = {repair}")
    assert read(pair, moved, tmp_path)["verdict"] == "differs"


def test_files_and_their_rejects(loading: Loading, tmp_path: Path) -> None:
    path = loading.file("a.csv", rows(500) + "2024-01-01 00:00:00+00,<b>|x,bad\n" + rows(500, first=500))
    backfill = int(loading.done("--max-rejects", "5", path, code=6)["backfill"])
    out = tmp_path / "r.json"
    found = json.loads(write(loading.hyperfill, loading.conninfo, backfill, out))
    assert (found["verdict"], found["backfill"]["state"], found["windows"]) == ("unverified", "done", [])
    assert [(f["path"], f["rows_read"], f["rows_rejected"]) for f in found["files"]] == [(path, 1001, 1)]
    assert sum(b["rows_copied"] for b in found["batches"]) == found["backfill"]["rows_copied"] == 1000
    [reject] = found["rejects"]
    assert (reject["file"], reject["line"], reject["sqlstate"]) == (path, 501, "22P02")
    assert "row" not in reject
    text = write(loading.hyperfill, loading.conninfo, backfill, tmp_path / "r.html")
    assert "1 row of the files was rejected" in text and "Rows per batch" in text
    assert "Rows that were rejected" in write(loading.hyperfill, loading.conninfo, backfill, tmp_path / "r.md")


def test_many_windows(pair: Pair, moved: int, tmp_path: Path) -> None:
    """A page lists some of them, what needs a look first; JSON has all."""
    pair.on_target(
        f"DELETE FROM hyperfill.windows WHERE backfill_id = {moved}",
        "INSERT INTO hyperfill.windows SELECT "
        f"{moved}, i, ('2024-01-01Z'::timestamptz + (i - 1) * interval '1 minute')::text,"
        " ('2024-01-01Z'::timestamptz + i * interval '1 minute')::text, 1, 'done', 1, NULL, (i = 5000)::int, 10, 100,"
        " '2024-06-01Z'::timestamptz + i * interval '1 second', '2024-06-01Z'::timestamptz + i * interval '1 second'"
        " + interval '1500 ms', NULL FROM generate_series(1, 6000) AS i",
    )
    compare(pair.target, moved)
    pair.on_target("UPDATE hyperfill.comparisons SET equal = false, target_rows = 9 WHERE window_id > 5500")
    found = read(pair, moved, tmp_path)
    assert [w["window"] for w in found["windows"]] == list(range(1, 6001))
    assert found["comparisons"]["differ"] == 500
    assert [(p["pieces"], p["rows"]) for p in found["periods"]] == [(6000, 60_000)]
    page = Page(text := write(pair.hyperfill, pair.target_conninfo, moved, tmp_path / "r.html"))
    assert "100 of 500 windows that differ are listed" in text and "300 of 6,000 windows are listed" in text
    assert len(text) < 500_000 and [tag for tag, _ in page.tags].count("tr") < 500
    pair.on_target("UPDATE hyperfill.comparisons SET equal = true, target_rows = 10 WHERE window_id > 5503")
    text = write(pair.hyperfill, pair.target_conninfo, moved, tmp_path / "r.md")
    listed = text[text.index("## Windows\n") :]
    for number in (1, 5000, 5501, 5502, 5503):
        assert f"\n| {number:,} |" in listed
    assert "\n| 5,504 |" not in listed and "\n| 297 |" not in listed


def test_pauses_are_no_part_of_the_throughput(pair: Pair, moved: int, tmp_path: Path) -> None:
    pair.on_target(
        "UPDATE hyperfill.windows SET started_at = '2024-06-01Z'::timestamptz + id * interval '1 day',"
        " finished_at = '2024-06-01Z'::timestamptz + id * interval '1 day' + interval '24 seconds'",
        "UPDATE hyperfill.comparisons SET compared_at = now()",
    )
    found = read(pair, moved, tmp_path)
    assert len(found["periods"]) == len(found["windows"])
    assert found["backfill"]["active_seconds"] == 24 * len(found["windows"])
    assert "pause, left out" in write(pair.hyperfill, pair.target_conninfo, moved, tmp_path / "r.html")


def test_what_is_refused(pair: Pair, moved: int, tmp_path: Path) -> None:
    def run(*options: str, env: dict[str, str] | None = None) -> tuple[int, str]:
        done = pair.hyperfill("report", *options, env=env)
        assert done.stdout == ""
        return done.returncode, done.stderr

    nowhere = ("--target", "host=127.0.0.1 port=1 connect_timeout=1")
    here = ("--target", pair.target_conninfo)
    for options, expected in [
        ((*nowhere, "--backfill", "1", "--out", str(tmp_path / "r.pdf")), ".html, .md, .json"),
        ((*nowhere, "--backfill", "1", "--out", str(tmp_path / "html")), ".html, .md, .json"),
        ((*nowhere, "--backfill", "1", "--out", ""), ".html, .md, .json"),
        ((*nowhere, "--backfill", "1", "--out", str(tmp_path / "no" / "r.html")), "No such file or directory"),
        ((*nowhere, "--backfill", "1"), "--out is required"),
        ((*nowhere, "--out", str(tmp_path / "r.md")), "--backfill is required"),
        (("--backfill", "1", "--out", str(tmp_path / "r.md")), "--target is required"),
    ]:
        code, said = run(*options)
        assert (code, expected in said) == (2, True), (options, said)
    (tmp_path / "folder.md").mkdir()
    code, said = run(*nowhere, "--backfill", "1", "--out", str(tmp_path / "folder.md"))
    assert (code, "is a folder" in said) == (2, True)
    for unknown in (str(moved + 1), "0", str(2**64)):
        code, said = run(*here, "--backfill", unknown, "--out", str(tmp_path / "r.md"))
        assert (code, f"the ledger has no backfill {unknown}" in said) == (3, True), said
    assert run(*nowhere, "--backfill", "1", "--out", str(tmp_path / "r.md"))[0] == 3
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == []
    variables = {
        "HYPERFILL_TARGET": pair.target_conninfo,
        "HYPERFILL_BACKFILL": str(moved),
        "HYPERFILL_OUT": str(tmp_path / "R.MD"),
    }
    assert run(env=variables)[0] == 0
    assert stat.S_IMODE((tmp_path / "R.MD").stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_target_without_a_ledger(hyperfill: Hyperfill, target_db: str, tmp_path: Path) -> None:
    done = hyperfill("report", "--target", target_db, "--backfill", "1", "--out", str(tmp_path / "r.md"))
    assert (done.returncode, "no backfill 1" in done.stderr) == (3, True)


def test_without_the_libraries_of_the_page(pair: Pair, moved: int, tmp_path: Path) -> None:
    """Only HTML needs them, and it says so before a server is asked."""
    for name in ("jinja2", "matplotlib"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name='{name}')\n")
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    out = str(tmp_path / "r.html")
    done = pair.hyperfill("report", "--target", "port=1", "--backfill", "1", "--out", out, env=env)
    assert (done.returncode, "pip install 'hyperfill[report]'" in done.stderr) == (2, True)
    for ending in (".md", ".json"):
        out = str(tmp_path / f"r{ending}")
        options = ("--target", pair.target_conninfo, "--backfill", str(moved), "--out", out)
        assert pair.hyperfill("report", *options, env=env).returncode == 0


def test_a_role_that_may_only_read_the_ledger(pair: Pair, moved: int, tmp_path: Path) -> None:
    role = sql.Identifier(f"reader_{pair.target.info.dbname}")
    parameters = conninfo.conninfo_to_dict(pair.target_conninfo)
    pair.target.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(parameters["password"])))
    target = conninfo.make_conninfo(pair.target_conninfo, user=role.as_string().strip('"'))
    options = ("--target", target, "--backfill", str(moved), "--out", str(tmp_path / "r.html"))
    try:
        done = pair.hyperfill("report", *options)
        assert (done.returncode, "may not read the ledger" in done.stderr) == (3, True), done.stderr
        pair.target.execute(sql.SQL("GRANT USAGE ON SCHEMA hyperfill TO {}").format(role))
        pair.target.execute(sql.SQL("GRANT SELECT ON hyperfill.ledger, hyperfill.backfills TO {}").format(role))
        done = pair.hyperfill("report", *options)
        assert (done.returncode, "may not read the ledger" in done.stderr) == (3, True), done.stderr
        pair.target.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA hyperfill TO {}").format(role))
        done = pair.hyperfill("report", *options)
        assert done.returncode == 0, done.stderr
    finally:
        pair.target.execute(sql.SQL("DROP OWNED BY {}").format(role))
        pair.target.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.mark.community
def test_policies_before_and_after(policy_pair: Pair, tmp_path: Path) -> None:
    pair = policy_pair
    jobs = make_policies(pair.target)
    on = jobs_on(pair.target)
    pair.on_source(
        "CREATE TABLE m (time timestamptz NOT NULL, device int NOT NULL, value float8)",
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', 1, i"
        " FROM generate_series(0, 95) AS i",
        "CREATE INDEX ON m (time)",
    )
    backfill = int(pair.run("public.m", *RANGE)["backfill"])
    assert jobs_on(pair.target) == on
    pair.on_target(f"SELECT alter_job({jobs['retention']}, schedule_interval => interval '5 days')")
    found = read(pair, backfill, tmp_path)
    held = {h["job"]: h for h in found["policies"]["held"]}
    assert set(held) == {jobs[name] for name in ("compression", "retention", "reorder", "refresh1")}
    assert {h["outcome"] for h in held.values()} == {"on"}
    assert all(h["before"]["scheduled"] and h["now"]["scheduled"] for h in held.values())
    changed = held[jobs["retention"]]["changed"]
    assert (
        changed["schedule_interval"]["now"] == "5 days" and "schedule_interval" not in held[jobs["reorder"]]["changed"]
    )
    assert jobs["refresh2"] in {j["id"] for j in found["policies"]["now"]}
    assert {a["view"]: a["done"] == a["planned"] > 0 for a in found["aggregates"]} == {
        "public.hourly": True,
        "public.daily": True,
    }
    page = "".join(Page(write(pair.hyperfill, pair.target_conninfo, backfill, tmp_path / "r.html")).text)
    for text in ("Europe/Berlin", "on, as before", "on, changed:", "public.hourly", "5 days"):
        assert text in page
    # Held again by hand after the end: not of this backfill, but how it is now.
    done = pair.hyperfill("policies", "hold", "--target", pair.target_conninfo, "--hypertable", "public.m")
    assert done.returncode == 0, done.stderr
    found = read(pair, backfill, tmp_path)
    assert len(found["policies"]["held"]) == 4
    assert not any(h["now"]["scheduled"] for h in found["policies"]["held"])
    page = "".join(Page(write(pair.hyperfill, pair.target_conninfo, backfill, tmp_path / "r.html")).text)
    assert "off, otherwise as before" in page
