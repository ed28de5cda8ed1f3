"""`hyperfill suggest-end`: the completion point is found, or it is said why there is none; and it is good to run with.

The application of these tests writes at the time that its rows bear, into the past: what matters are the rows.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo as pq_conninfo
from psycopg import sql

from tests.fixtures.pair import Pair, connect

COLUMNS = "time timestamptz NOT NULL, device int, value float8, note text"
# Two days of a row each minute, from two writers: even and odd minutes.
ROWS = (
    "SELECT '2024-03-01Z'::timestamptz + i * interval '1 minute', i % 2, sqrt(i), 'row ' || i"
    " FROM generate_series(0, 2879) AS i"
)
BOTH = "time >= '2024-03-02 03:20Z'"  # the second writer writes to both sides since then
LATE = "time >= '2024-03-02 22:31Z' AND device = 1 AND extract(minute FROM time)::int % 3 = 1"


def suggest(pair: Pair, table: str, *options: str, code: int = 0) -> dict[str, Any]:
    """The object that it prints, with --json."""
    ended, found, errors = pair.command("suggest-end", table, *options)
    assert ended == code, (found, errors)
    assert found["state"] == ("done" if code == 0 else "refused")
    return found


def shown(pair: Pair, table: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What people see."""
    ends = ("--source", pair.source_conninfo, "--target", pair.target_conninfo)
    return pair.hyperfill("suggest-end", *ends, "--table", table, *options)


def make(pair: Pair, written: str, late: str = "false", rows: str = ROWS) -> None:
    """The source has all of `rows`, the target those that were `written` to both sides, without the `late` ones."""
    pair.both(f"CREATE TABLE m ({COLUMNS})")
    pair.on_source(f"INSERT INTO m {rows}", "CREATE INDEX ON m (time)", "ANALYZE m")
    pair.on_target(
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
        f"INSERT INTO m SELECT * FROM ({rows}) AS r (time, device, value, note) WHERE ({written}) AND NOT ({late})",
    )


def two_writers(pair: Pair) -> None:
    """The first begins at noon of the first day, the second at 03:20 of the next; the last hours are patchy."""
    make(pair, f"device = 0 AND time >= '2024-03-01 12:07Z' OR {BOTH}", LATE)


def use(pair: Pair, end: str, table: str = "m", *options: str, columns: str = "time, device, value, note") -> None:
    """Run with the suggested end, let what was late arrive by dual-writing, and compare everything."""
    given = ("--end", end) if not end.startswith("-") else (f"--end={end}",)
    report = pair.run(table, *given, *options)
    assert report["rows_copied"] > 0
    time_column = columns.split(",", maxsplit=1)[0]
    pair.same(table, columns, f"{time_column} < '{end}'")


def test_two_writers_and_late_data(pair: Pair) -> None:
    two_writers(pair)
    found = suggest(pair, "m")
    assert (found["table"], found["hypertable"], found["bucket"]) == ("public.m", "public.m", "30 minutes")
    assert found["since"] == "2024-03-01 12:08:00+00"
    assert found["missing_from"] == "2024-03-01 12:08:00+00"
    assert found["consistent_from"] == "2024-03-02 03:30:00+00"
    assert found["consistent_until"] == found["late_from"] == "2024-03-02 22:30:00+00"
    assert found["consistent_from"] < found["end"] < found["consistent_until"]
    assert found["end"] == "2024-03-02 13:00:00+00"
    assert not found["findings"]
    text = "\n".join(found["reasons"])
    for word in ("--since", "lacks 456 rows", "taken for the zone of late-arriving data", "only --lateness", "T = "):
        assert word in text, text
    zones = [b["zone"] for b in found["buckets"]]
    assert zones == ["missing"] * 31 + ["consistent"] * 38 + ["late"] * 3
    assert all(b["difference"] == b["target"] - b["source"] for b in found["buckets"])
    assert sum(b["source"] for b in found["buckets"]) == 2880 - 12 * 60 - 8
    # What is late arrives on both sides at last.
    pair.on_target(f"INSERT INTO m SELECT * FROM ({ROWS}) AS r (time, device, value, note) WHERE {LATE}")
    use(pair, found["end"])
    assert len(pair.same("m", "time, device, value, note")) == 2880


def test_lateness_moves_the_end(pair: Pair) -> None:
    two_writers(pair)
    found = suggest(pair, "m", "--lateness", "2 hours")
    # The newest row is at 23:59: what ends after 21:59 may still change.
    assert found["late_from"] == "2024-03-02 21:30:00+00"
    assert (found["consistent_from"], found["consistent_until"]) == ("2024-03-02 03:30:00+00", found["late_from"])
    assert found["end"] == "2024-03-02 21:00:00+00"
    assert "--lateness is 2 hours" in "\n".join(found["reasons"])
    assert "only --lateness" not in "\n".join(found["reasons"])
    assert "the target lacks" in "\n".join(found["reasons"])
    assert suggest(pair, "m", "--lateness", "2h", "--bucket", "1h")["end"] == "2024-03-02 20:00:00+00"
    narrow = suggest(pair, "m", "--lateness", "2h", "--since", "2024-03-02T05:00+01:00", "--bucket", "10 min")
    assert narrow["end"] == "2024-03-02 21:40:00+00"
    assert (narrow["since"], narrow["consistent_from"]) == ("2024-03-02 04:00:00+00",) * 2
    assert narrow["missing_from"] is None


def test_rows_that_are_missing_before_the_zone(pair: Pair) -> None:
    """With a known lateness a row that is missing before is missing for good: any T would be a guess."""
    two_writers(pair)
    found = suggest(pair, "m", "--lateness", "20 min", code=3)
    assert found["end"] is found["consistent_from"] is found["consistent_until"] is None
    assert re.search(r"\[2024-03-02 23:00:00\+00, 2024-03-02 23:30:00\+00\): source 30, target 25", found["error"])
    assert found["error"] in found["reasons"]
    assert len(found["buckets"]) == 72


def test_dual_writing_that_stopped(pair: Pair) -> None:
    make(pair, f"{BOTH} AND time < '2024-03-02 20:10Z'")
    found = suggest(pair, "m", code=3)
    assert found["end"] is None
    assert "nobody writes to the target any more" in found["error"]
    assert "2024-03-02 20:15:00+00" in found["error"]
    for lateness in ("1h", "3h30min"):
        assert suggest(pair, "m", "--lateness", lateness, code=3)["end"] is None
    # Late data comes late to both sides: whoever says that it explains this is told what it looks like.
    found = suggest(pair, "m", "--lateness", "6h")
    assert any("nobody seems to write to it any more" in reason for reason in found["reasons"])
    done = shown(pair, "m")
    assert done.returncode == 3
    assert "missing writes" in done.stdout
    assert "nobody writes to the target any more" in done.stderr


def test_one_of_two_writers_stopped(pair: Pair) -> None:
    """Rows are missing at the same rate all the time: that does not look like data which is late."""
    make(pair, f"{BOTH} AND (device = 0 OR time < '2024-03-02 20:10Z')")
    found = suggest(pair, "m")
    assert found["consistent_until"] == found["late_from"] == "2024-03-02 20:00:00+00"
    assert any("one of several writers that writes no more" in reason for reason in found["reasons"])
    # For most of the time it cannot be that at all.
    pair.on_target("DELETE FROM m WHERE device = 1 AND time > '2024-03-02 12:00Z'")
    assert "in too many buckets" in suggest(pair, "m", code=3)["error"]


def test_an_outage_is_not_stepped_over(pair: Pair) -> None:
    make(pair, f"{BOTH} AND time NOT BETWEEN '2024-03-02 10:00Z' AND '2024-03-02 11:00Z'")
    found = suggest(pair, "m")
    assert found["missing_from"] == "2024-03-02 10:00:00+00"
    assert found["consistent_from"] == "2024-03-02 11:15:00+00"
    assert found["end"] > found["consistent_from"]
    use(pair, found["end"])
    assert len(pair.same("m", "time, device, value, note")) == 2880


def test_values_that_differ_are_seen(pair: Pair) -> None:
    """As many rows in every bucket, but two of them swapped a value: T lies behind that."""
    make(pair, BOTH)
    counted = suggest(pair, "m")
    assert counted["consistent_from"] == "2024-03-02 03:20:00+00"
    pair.on_target(
        "UPDATE m SET value = value + 1 WHERE time = '2024-03-02 12:31Z'",
        "UPDATE m SET value = value - 1 WHERE time = '2024-03-02 12:33Z'",
    )
    found = suggest(pair, "m")
    assert all(b["difference"] == 0 for b in found["buckets"])
    assert [b["lower"] for b in found["buckets"] if not b["equal"]] == ["2024-03-02 12:30:00+00"]
    assert found["missing_from"] == "2024-03-02 12:30:00+00"
    assert found["consistent_from"] == "2024-03-02 12:45:00+00"
    assert "with other values: 2024-03-02 12:30:00+00" in "\n".join(found["reasons"])
    assert suggest(pair, "m", "--columns", "time,device,note")["consistent_from"] == counted["consistent_from"]
    pair.on_target("UPDATE m SET note = 'other'")
    refused = suggest(pair, "m", code=3)
    assert "with other values" in refused["error"] and "--columns" in refused["hint"]
    use(pair, found["end"], "m", "--verify", "none")
    # Only what dual-writing alone is answerable for is still as it was written.
    assert pair.query(pair.target, f"SELECT count(*) FROM m WHERE note = 'other' AND time < '{found['end']}'") == [(0,)]


def test_nothing_in_common(pair: Pair) -> None:
    make(pair, "false")
    assert "dual-writing has not begun" in suggest(pair, "m", code=3)["error"]
    assert "the target has no rows since" in suggest(pair, "m", "--since", "2024-03-01T00:00Z", code=3)["error"]
    found = suggest(pair, "m", "--since", "2030-01-01T00:00Z", code=3)
    assert "neither side has any rows since 2030-01-01 00:00:00+00" in found["error"]
    assert (found["end"], found["buckets"], found["late_from"]) == (None, [], None)
    # Rows of the target that the source never had.
    pair.on_target("INSERT INTO m SELECT time + interval '7 days' FROM (" + ROWS + ") AS r (time)")
    assert "the source has no rows since 2024-03-08" in suggest(pair, "m", code=3)["error"]
    pair.on_source(
        "INSERT INTO m SELECT '2024-03-08Z'::timestamptz + i * interval '61 s' FROM generate_series(0,2830) i"
    )
    assert suggest(pair, "m", code=3)["end"] is None


def test_more_rows_on_the_target_are_told(pair: Pair) -> None:
    make(pair, BOTH)
    pair.on_source("DELETE FROM m WHERE time BETWEEN '2024-03-02 05:00Z' AND '2024-03-02 05:05Z'")
    found = suggest(pair, "m")
    assert found["consistent_from"] == "2024-03-02 05:15:00+00"
    assert "the target has 6 rows more than the source in 1 bucket" in "\n".join(found["reasons"])


def test_since_before_anything_was_written(pair: Pair) -> None:
    make(pair, BOTH)
    found = suggest(pair, "m", "--since", "2024-03-01T00:00Z", "--bucket", "20 min")
    assert (found["missing_from"], found["consistent_from"]) == (None, "2024-03-02 03:20:00+00")
    assert {b["zone"] for b in found["buckets"] if b["target"] == 0} == {"before"}
    assert "nobody wrote to the target yet" in "\n".join(found["reasons"])


def test_rows_in_the_future_do_not_move_the_present(pair: Pair) -> None:
    make(pair, BOTH)
    before = suggest(pair, "m", "--lateness", "1h")
    for at in ("2199-01-01Z", "infinity"):
        pair.on_source(f"INSERT INTO m VALUES ('{at}')")
    pair.on_target("INSERT INTO m VALUES ('2198-01-01Z')")
    after = suggest(pair, "m", "--lateness", "1h")
    assert (after["end"], after["bucket"], after["buckets"]) == (before["end"], before["bucket"], before["buckets"])
    assert "the last of them is at 2199-01-01" in "\n".join(after["reasons"])
    assert "in the future" in suggest(pair, "m", "--since", "2100-01-01T00:00Z", code=3)["error"]


KINDS = [
    ("bigint", "1700000000000 + i * 60000", 10**8),
    ("integer", "-2000 + i", 1000),
    ("smallint", "32767 - 2879 + i", 1000),
    ("date", "date '2001-01-01' + i", "interval '30 days'"),
    ("timestamp", "timestamp '2024-03-01' + i * interval '1 second'", "interval '1 day'"),
    ("timestamptz", "timestamptz '0044-03-15 BC' + i * interval '1 day'", "interval '1 year'"),
    ("timestamptz", "timestamptz '2024-03-01Z' + i * interval '10 ms'", "interval '1 day'"),
]


@pytest.mark.parametrize(("kind", "at", "chunk"), KINDS, ids=lambda value: str(value)[:24])
def test_every_kind_of_time(pair: Pair, kind: str, at: str, chunk: int | str) -> None:
    rows = f"SELECT ({at})::{kind}, i % 2, i FROM generate_series(0, 2879) AS i"
    pair.both(f"CREATE TABLE m (time {kind} NOT NULL, device int, i int)")
    pair.on_source(f"INSERT INTO m {rows}", "CREATE INDEX ON m (time)")
    pair.on_target(
        f"SELECT create_hypertable('m', 'time', chunk_time_interval => {chunk})",
        f"INSERT INTO m SELECT * FROM ({rows}) AS r (time, device, i) WHERE i >= 500 AND device = 0 OR i >= 1501",
    )
    found = suggest(pair, "m")
    assert len(found["buckets"]) in range(40, 125)
    text = f"time::text = '{found['end']}' AND false OR time >= '{found['end']}'"
    [(first,)] = pair.query(pair.source, f"SELECT min(i) FROM m WHERE {text}")
    assert 1501 < first < 2860
    use(pair, found["end"], columns="time, device, i")
    assert len(pair.same("m", "time, device, i")) == 2880
    # The unit of --bucket and --lateness is that of the axis.
    one = {"bigint": "600000", "integer": "10", "smallint": "10", "date": "10 days"}.get(kind, found["bucket"])
    sure = suggest(pair, "m", f"--lateness={one}", f"--bucket={one}", *since(found["consistent_from"]))
    assert sure["bucket"] == one
    [(later,)] = pair.query(pair.source, f"SELECT min(i) FROM m WHERE time >= '{sure['end']}'")
    assert first < later < 2880


def since(text: str) -> tuple[str, ...]:
    return (f"--since={text}",)


def test_uuids(pair: Pair) -> None:
    """UUIDv7 as a time column: hypertables know it from 2.22 on."""
    make_uuid = (
        "CREATE FUNCTION u7(ms bigint, i int) RETURNS uuid LANGUAGE sql AS $$ SELECT (lpad(to_hex(ms), 12, '0')"
        " || '7' || lpad(to_hex(i % 4096), 3, '0') || '8' || lpad(to_hex(i), 15, '0'))::uuid $$"
    )
    pair.both(make_uuid, "CREATE TABLE m (id uuid NOT NULL, device int)")
    try:
        pair.on_target("SELECT create_hypertable('m', 'id', chunk_time_interval => interval '1 day')")
    except psycopg.Error:
        pytest.skip("this TimescaleDB has no hypertables by uuid")
    rows = "SELECT u7(1709251200000 + i * 60000, i), i FROM generate_series(0, 2879) AS i"
    pair.on_source(f"INSERT INTO m {rows}", "CREATE INDEX ON m (id)")
    pair.on_target(f"INSERT INTO m SELECT * FROM ({rows}) AS r (id, i) WHERE i % 2 = 0 AND i > 700 OR i > 1500")
    found = suggest(pair, "m", "--lateness", "3 hours", "--bucket", "1 hour")
    assert re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", found["end"])
    assert "T = 2024-03-02 19:00:00+00" in "\n".join(found["reasons"])
    use(pair, found["end"], columns="id, device")
    assert len(pair.same("m", "id, device")) == 2880


NAMES = [
    ("My Schema", 'Met"rics 100%', "Zeit %s", "{n} $x$"),
    ("{}", "%(time)s {0}", "t{", "漢字\nnew"),
]


@pytest.mark.parametrize(("schema", "table", "at", "value"), NAMES)
def test_odd_names(pair: Pair, tmp_path: Path, schema: str, table: str, at: str, value: str) -> None:
    names = {"s": sql.Identifier(schema), "t": sql.Identifier(schema, table), "at": sql.Identifier(at)}
    names["v"] = sql.Identifier(value)
    for connection in (pair.source, pair.target):
        connection.execute(sql.SQL("CREATE SCHEMA {s}").format(**names))
        connection.execute(sql.SQL("CREATE TABLE {t} ({at} timestamptz NOT NULL, {v} int)").format(**names))
    quoted = names["t"].as_string()
    pair.target.execute(
        sql.SQL("SELECT create_hypertable({t}, {at}, chunk_time_interval => interval '1 day')").format(
            t=sql.Literal(quoted), at=sql.Literal(at)
        )
    )
    fill = sql.SQL("INSERT INTO {t} SELECT t, d FROM (" + ROWS + ") AS r (t, d, value, note)").format(**names)
    pair.source.execute(fill)
    pair.source.execute(sql.SQL("CREATE INDEX ON {t} ({at})").format(**names))
    pair.target.execute(fill + sql.SQL(" WHERE t >= '2024-03-02Z'"))
    pictures = [tmp_path / "odd 100% $x$.png", tmp_path / "odd.svg"]
    where = f"{names['v'].as_string()} >= 0 AND '%s' <> '{{}}' -- all"
    for picture in pictures:
        options = ("--where", where, "--columns", f"{names['at'].as_string()},{names['v'].as_string()}")
        found = suggest(pair, quoted, *options, "--lateness", "1h", "--plot", str(picture))
        assert found["end"] == "2024-03-02 22:30:00+00"
    assert pictures[0].read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert "consistency range" in pictures[1].read_text(encoding="utf-8")
    text = shown(pair, quoted, "--where", where, "--lateness", "1h")
    assert text.returncode == 0, text.stderr
    use(pair, found["end"], quoted, columns=f"{names['at'].as_string()}, {names['v'].as_string()}")


def test_pictures(pair: Pair, tmp_path: Path) -> None:
    two_writers(pair)
    png, svg = tmp_path / "three ranges.png", tmp_path / "three.SVG"
    png.write_text("what was there before")
    for picture in (png, svg):
        assert suggest(pair, "m", "--plot", str(picture))["end"]
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") and png.read_bytes().endswith(b"IEND\xaeB`\x82")
    text = svg.read_text(encoding="utf-8")
    for word in ("missing writes", "consistency range", "late-arriving data", "T = 2024-03-02 13:00:00+00", "public.m",
                 "source", "target", "30 minutes"):  # fmt: skip
        assert word in text, word
    assert text == (suggest(pair, "m", "--plot", str(svg)), svg.read_text(encoding="utf-8"))[1]
    # Also where there is no T: that is when one looks.
    refused = tmp_path / "refused.svg"
    suggest(pair, "m", "--lateness", "20 min", "--plot", str(refused), code=3)
    assert "no completion point" in refused.read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["refused.svg", "three ranges.png", "three.SVG"]


def test_pictures_that_cannot_be_drawn(pair: Pair, tmp_path: Path) -> None:
    """Known before any server is asked: the address is wrong, and nobody minds."""
    ends = ("--source", "host=127.0.0.1 port=1", "--target", "host=127.0.0.1 port=1", "--table", "m")
    for name in ("picture.pdf", "picture", "no such folder/picture.png"):
        ended = pair.hyperfill("suggest-end", *ends, "--plot", str(tmp_path / name))
        assert (ended.returncode, "--plot" in ended.stderr) == (2, True), ended.stderr
    # A module of that name that cannot be found, before the real one.
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text("import sys\nsys.modules['matplotlib'] = None\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = pair.hyperfill("suggest-end", *ends, "--plot", str(tmp_path / "a.png"), env={"PYTHONPATH": path})
    assert ended.returncode == 2, ended.stderr
    assert "pip install 'hyperfill[report]'" in ended.stderr


def test_what_people_see(pair: Pair) -> None:
    two_writers(pair)
    done = shown(pair, "m", "--lateness", "2h", "--columns", "time,device,value,note")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "about" in done.stderr and "rows on each side" in done.stderr
    lines = done.stdout.splitlines()
    drawn = [line for line in lines if re.match(r"2024-03-0\d \d\d:\d\d  #", line)]
    assert 30 <= len(drawn) <= 70
    for word in ("missing writes", "consistent", "late data"):
        assert any(line.endswith(word) for line in drawn), word
    assert [line[:16] for line in lines if " T " in line and "---" in line] == ["2024-03-02 21:00"]
    # Never is a difference hidden in a line with others that are equal.
    lacking = sum(int(found[1]) for line in drawn if (found := re.search(r" -(\d+)  ", line)))
    [(missing,)] = pair.query(pair.source, f"SELECT count(*) FROM m WHERE time >= '2024-03-01 12:08Z' AND NOT ({BOTH}) "
                              "AND device = 1")  # fmt: skip
    [(late,)] = pair.query(pair.source, f"SELECT count(*) FROM m WHERE {LATE}")
    assert lacking == missing + late
    assert "end: 2024-03-02 21:00:00+00" in lines
    [command] = [line for line in lines if line.startswith("hyperfill plan")]
    assert command.endswith("--table m --columns time,device,value,note --end '2024-03-02 21:00:00+00'")
    assert pair.source_conninfo not in done.stdout
    wide = shown(pair, "m", "--bucket", "2 minutes", "--lateness", "2h")
    assert wide.returncode == 0, wide.stderr
    assert max(len(line) for line in wide.stdout.splitlines() if not line.startswith("- ")) <= 120


def test_questions_that_are_wrong(pair: Pair) -> None:
    make(pair, BOTH)
    for options, code, said in (
        (("--bucket", ""), 2, "--bucket is empty"),
        (("--bucket", "1 month"), 3, "--bucket: '1 month' is no length"),
        (("--bucket", "5"), 3, "it has no unit"),
        (("--lateness", "-1 hour"), 3, "--lateness: "),
        (("--bucket", "1 second"), 3, "would make 74,341 buckets"),
        (("--since", "2024-03-01"), 3, "it has no time zone"),
        (("--since", "-infinity"), 3, "--since (column time of public.m)"),
        (("--where", "true) OR (true"), 3, "--where"),
        (("--columns", "time,nothing"), 3, "nothing"),
        (("--source-time-column", "nothing"), 3, "nothing"),
        (("--hypertable", "nothing"), 3, "nothing"),
    ):
        ended = shown(pair, "m", *(f"{options[0]}={options[1]}",))
        assert ended.returncode == code, (options, ended.stderr)
        assert said in ended.stderr, (options, ended.stderr)
        assert not ended.stdout
    assert pair.hyperfill("suggest-end", "--table", "m").returncode == 2
    assert shown(pair, "m", "--lateness", "10 days").returncode == 3
    # All that is wrong at once, and nothing but one object.
    code, found, _ = pair.command("suggest-end", "m", "--bucket", "x", "--since", "y", "--columns", "z")
    assert (code, found["state"]) == (3, "refused")
    assert {f["code"] for f in found["findings"]} >= {"bucket", "bound"}


def test_a_role_that_may_only_read(pair: Pair) -> None:
    two_writers(pair)
    expected = suggest(pair, "m", "--lateness", "2h")
    role = f"reader_{os.getpid()}"
    conninfos = []
    for connection, conninfo in ((pair.source, pair.source_conninfo), (pair.target, pair.target_conninfo)):
        connection.execute(f"DROP ROLE IF EXISTS {role}")
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
        connection.execute(f"GRANT SELECT ON m TO {role}")
        conninfos.append(pq_conninfo.make_conninfo(conninfo, user=role, password=role))
    try:
        with connect(conninfos[1]) as check, pytest.raises(psycopg.errors.InsufficientPrivilege):
            check.execute("DELETE FROM m")
        ends = ("--source", conninfos[0], "--target", conninfos[1], "--table", "m", "--json")
        ended = pair.hyperfill("suggest-end", *ends, "--lateness", "2h")
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout) == expected
        pair.on_target(f"REVOKE SELECT ON m FROM {role}")
        ended = pair.hyperfill("suggest-end", *ends)
        assert ended.returncode == 3, ended.stderr
        assert json.loads(ended.stdout)["state"] == "refused"
    finally:
        for connection in (pair.source, pair.target):
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")
    assert not pair.query(pair.target, "SELECT 1 FROM pg_namespace WHERE nspname = 'hyperfill'")


def test_an_open_transaction_is_told(pair: Pair) -> None:
    """What it wrote is seen by nobody yet; and T is younger than it."""
    make(pair, "true", rows=ROWS + " LIMIT 0")
    with psycopg.connect(pair.source_conninfo, application_name="slow writer") as open_one:
        open_one.execute("INSERT INTO m VALUES (now())")
        time.sleep(3)
        [(now,)] = pair.query(pair.source, "SELECT now()::text")
        for connection in (pair.source, pair.target):
            connection.execute(
                f"INSERT INTO m SELECT '{now}'::timestamptz - i * interval '20 ms', i FROM generate_series(0, 140) AS i"
            )
        found = suggest(pair, "m")
        [told] = found["findings"]
        assert (told["code"], told["severity"], told["table"]) == ("old-transactions", "warning", "public.m")
        assert "slow writer" in told["message"]
    assert not suggest(pair, "m")["findings"]


def test_ctrl_c_ends_what_runs_on_the_servers(pair: Pair) -> None:
    """Both sides are cancelled, and nobody waits for the pass to end."""
    make(pair, BOTH)
    slow = "SELECT time, device, value, note FROM slow WHERE (SELECT count(*) FROM pg_sleep(0.1)) > 0 OR time IS NULL"
    pair.on_source(
        "ALTER TABLE m RENAME TO slow",
        "CREATE FUNCTION snail(d int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN d; END $$",
        "CREATE VIEW m AS " + slow.replace("device", "snail(device) AS device").split(" WHERE")[0]
        + " WHERE snail(device) >= 0",
    )  # fmt: skip
    ends = ("--source", pair.source_conninfo, "--target", pair.target_conninfo, "--table", "m")
    command = [sys.executable, "-m", "hyperfill", "suggest-end", *ends]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        working = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hyperfill/suggest-end'"
            f" AND state = 'active' AND datname = '{pair.source.info.dbname}'"
        )
        deadline = time.monotonic() + 30
        while pair.query(pair.source, working) == [(0,)] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert pair.query(pair.source, working) == [(1,)]
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, ""), errors
    assert time.monotonic() - started < 10
    assert "interrupted" in errors
    assert pair.query(pair.source, working) == [(0,)]
