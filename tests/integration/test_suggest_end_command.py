"""`hyperfill suggest-end`: kinds of time, odd names, pictures, what people see, what is refused, signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo as pq_conninfo
from psycopg import sql

from tests.fixtures.pair import Pair, connect
from tests.fixtures.suggesting import BOTH, LATE, ROWS, make, shown, suggest, two_writers, use

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
