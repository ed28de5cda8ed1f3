"""Whatever can be selected from is a source, whatever it is called; and only what --where says is replaced."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from hyperfill.catalog import quote_name
from hyperfill.sandbox import Server
from tests.fixtures.cli import Hyperfill
from tests.fixtures.pair import Pair, connect, open_pair
from tests.fixtures.servers import Servers

END = ("--end", "2024-01-03T00:00:00Z")
HOURS = "SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', i, 'row ' || i FROM generate_series(0, 71) AS i"
COLUMNS = "time timestamptz NOT NULL, n int, note text"
BEFORE_END = "time < '2024-01-03Z'"


def make_target(pair: Pair, name: str = "m", interval: str = "1 day") -> None:
    """A hypertable with what the dual-writer has written: rows 40 to 71, the ones below the end with another note."""
    pair.on_target(
        f"CREATE TABLE {name} ({COLUMNS})",
        f"SELECT create_hypertable('{name}', 'time', chunk_time_interval => interval '{interval}')",
        f"INSERT INTO {name} SELECT time, n, 'dual' FROM ({HOURS}) AS h (time, n, note) WHERE n >= 40",
    )


def assert_moved(pair: Pair, source: str, target: str = "m", *options: str, deleted: int = 8, jobs: int = 1) -> None:
    """Run, and compare: the source's rows below the end, the dual-writer's from there on, untouched."""
    after = pair.physical(target, f"NOT ({BEFORE_END})")
    assert len(after) == 24
    report = pair.run(source, "--hypertable", target, *END, *options, jobs=jobs)
    assert (report["rows_copied"], report["rows_deleted"]) == (48, deleted)
    assert len(pair.same(source, "time, n, note", BEFORE_END, target)) == 48
    assert pair.physical(target, f"NOT ({BEFORE_END})") == after


def test_a_table_without_an_index(pair: Pair) -> None:
    make_target(pair)
    pair.on_source(f"CREATE TABLE m ({COLUMNS})", f"INSERT INTO m {HOURS}")
    assert "no-index" in {f["code"] for f in pair.plan("m", *END)["findings"]}
    assert_moved(pair, "m")


def test_a_partitioned_table(pair: Pair) -> None:
    make_target(pair)
    pair.on_source(
        f"CREATE TABLE m ({COLUMNS}) PARTITION BY RANGE (time)",
        "CREATE TABLE m_old PARTITION OF m FOR VALUES FROM (MINVALUE) TO ('2024-01-01 12:00Z')",
        # Columns in another order, and one that was dropped.
        "CREATE TABLE m_new (gone int, note text, n int, time timestamptz NOT NULL)",
        "ALTER TABLE m_new DROP gone",
        "ALTER TABLE m ATTACH PARTITION m_new FOR VALUES FROM ('2024-01-01 12:00Z') TO ('2025-01-01Z')",
        "CREATE TABLE m_rest PARTITION OF m DEFAULT",
        "CREATE INDEX ON m (time)",
        f"INSERT INTO m {HOURS}",
    )
    assert_moved(pair, "m", jobs=2)


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view(pair: Pair, kind: str) -> None:
    make_target(pair)
    pair.on_source(
        "CREATE TABLE raw (at timestamptz NOT NULL, n text)",
        "CREATE INDEX ON raw (at)",
        f"INSERT INTO raw SELECT time, n::text FROM ({HOURS}) AS h (time, n, note)",
        f"CREATE {kind} m AS SELECT at AS time, n::int AS n, 'row ' || n AS note FROM raw",
    )
    assert_moved(pair, "m")


def test_a_foreign_table(pair: Pair, new_database: Callable[[Server], str], servers: Servers) -> None:
    make_target(pair)
    with connect(new_database(servers.source)) as remote:
        remote.execute("CREATE TABLE far (time timestamptz NOT NULL, n int, note text)")
        remote.execute("CREATE INDEX ON far (time)")
        remote.execute(f"INSERT INTO far {HOURS}")
        info = remote.info
        pair.on_source(
            "CREATE EXTENSION postgres_fdw",
            f"CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{info.host}', port '{info.port}',"
            f" dbname '{info.dbname}')",
            f"CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user '{info.user}', password '{info.password}')",
            f"CREATE FOREIGN TABLE m ({COLUMNS}) SERVER far OPTIONS (table_name 'far')",
        )
        assert_moved(pair, "m")


def test_a_hypertable_with_other_chunks(
    servers: Servers, new_database: Callable[[Server], str], hyperfill: Hyperfill
) -> None:
    """The source has chunks of seven hours, the target of one day."""
    databases = new_database(servers.target), new_database(servers.target)
    for pair in open_pair(*databases, hyperfill):
        make_target(pair)
        pair.on_source(
            f"CREATE TABLE m ({COLUMNS})",
            "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '7 hours')",
            f"INSERT INTO m {HOURS}",
        )
        assert_moved(pair, "m", jobs=2)


def test_a_table_beside_the_hypertable(target_db: str, hyperfill: Hyperfill) -> None:
    """One database for both; the hypertable itself, and a chunk of it, are refused as source."""
    for pair in open_pair(target_db, target_db, hyperfill):
        make_target(pair)
        pair.on_source(f"CREATE TABLE old ({COLUMNS})", f"INSERT INTO old {HOURS}", "CREATE INDEX ON old (time)")
        before = pair.physical("m", "true")
        assert pair.refused("m", *END) == {"same-relation"}
        chunk = pair.query(pair.target, "SELECT show_chunks('m')::text LIMIT 1")[0][0]
        assert pair.refused(chunk, "--hypertable", "m", *END) == {"same-relation"}
        assert pair.physical("m", "true") == before
        assert_moved(pair, "old")


NAMES = [
    ("My Schema", 'Met"rics', "Zeit stempel", "Größe"),
    ("a.b", "c%d", "time", "%s"),
    ("{}", "{0} {x}", "t%(time)s", "{n}"),
    ("select", "order", "from", "user"),
    ("Ünïcödé 漢字", "x" * 63, "é" * 31, "y" * 63),
    ("public", "c$1", "--time", "'; DROP TABLE m; --"),
    ("s\\n", "t\\", "tab\there", "new\nline"),
]


@pytest.mark.parametrize(("schema", "table", "time", "value"), NAMES)
def test_odd_names(pair: Pair, schema: str, table: str, time: str, value: str) -> None:
    names = {"t": sql.Identifier(schema, table), "time": sql.Identifier(time), "v": sql.Identifier(value)}
    for connection in (pair.source, pair.target):
        if schema != "public":
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        connection.execute(sql.SQL("CREATE TABLE {t} ({time} timestamptz NOT NULL, {v} int)").format(**names))
    pair.source.execute(sql.SQL("CREATE INDEX ON {t} ({time})").format(**names))
    pair.target.execute(
        sql.SQL("SELECT create_hypertable({r}, {c}, chunk_time_interval => interval '1 day')").format(
            r=sql.Literal(names["t"].as_string()), c=sql.Literal(time)
        )
    )
    fill = sql.SQL("INSERT INTO {t} SELECT h, n FROM (" + HOURS + ") AS h (h, n, x)")
    pair.source.execute(fill.format(**names))
    pair.target.execute(fill.format(**names) + sql.SQL(" WHERE n > 40"))
    quoted = names["t"].as_string()
    column, at = names["v"].as_string(), names["time"].as_string()
    listed = (f"--columns={at},{column}", f"--source-time-column={time}", f"--time-column={time}")
    report = pair.run(quoted, *END, *listed, "--where", f"{column} >= 10 AND {at} IS NOT NULL", "--sync-sequences")
    assert report["table"] == f"{quote_name(schema)}.{quote_name(table)}"
    assert (report["rows_copied"], report["rows_deleted"]) == (38, 7)
    rest = sql.SQL("SELECT {v}, {time} FROM {t} WHERE {v} >= 10 ORDER BY 1").format(**names)
    expected = pair.source.execute(rest).fetchall()
    assert pair.target.execute(rest).fetchall() == expected
    assert pair.run(quoted, *END, "--again", "--window", "6 hours", "--replace")["rows_copied"] == 48
    assert len(pair.target.execute(sql.SQL("SELECT 1 FROM {t}").format(**names)).fetchall()) == 72


def test_a_space_partitioned_hypertable(pair: Pair) -> None:
    """Four partitions, and chunks of three different lengths: the interval and the partitions were changed."""
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, device text NOT NULL, n int, PRIMARY KEY (device, time))")
    pair.on_source(
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '10 minutes', 'device ' || i % 17, i"
        " FROM generate_series(0, 1999) AS i",
        "CREATE INDEX ON m (time)",
    )
    pair.on_target(
        "SELECT create_hypertable('m', 'time', 'device', 4, chunk_time_interval => interval '1 day')",
        "INSERT INTO m VALUES ('2024-01-02 00:10Z', 'device 1', -1), ('2024-01-02 00:20Z', 'device 2', -1)",
        "SELECT set_chunk_time_interval('m', interval '7 hours')",
        "INSERT INTO m VALUES ('2024-01-06 12:10Z', 'device 1', -1), ('2024-01-06 12:20Z', 'device 9', -1)",
        "SELECT set_number_partitions('m', 3)",
        "INSERT INTO m VALUES ('2024-01-09 00:10Z', 'device 3', -1)",
        "SELECT set_chunk_time_interval('m', interval '5 days')",
        "INSERT INTO m VALUES ('2024-02-01Z', 'device 4', -1)",
    )
    report = pair.run("m", "--end", "2024-01-31T00:00:00Z", jobs=2)
    assert (report["rows_copied"], report["rows_deleted"]) == (2000, 5)
    assert len(pair.same("m", "time, device, n", "time < '2024-01-31Z'")) == 2000
    assert pair.query(pair.target, "SELECT device FROM m WHERE time >= '2024-01-31Z'") == [("device 4",)]


def test_the_time_column_may_have_another_name(pair: Pair) -> None:
    make_target(pair)
    pair.on_source(
        "CREATE TABLE m (recorded timestamptz NOT NULL, n int, note text)",
        f"INSERT INTO m {HOURS}",
        "CREATE INDEX ON m (recorded)",
    )
    assert pair.refused("m", *END) == {"time-column"}
    assert pair.refused("m", *END, "--source-time-column", "note") == {"time-column"}
    report = pair.run("m", *END, "--source-time-column", "recorded")
    assert (report["rows_copied"], report["rows_deleted"]) == (48, 8)
    assert pair.rows_of(pair.target, "m", "time, n, note", BEFORE_END) == pair.rows_of(
        pair.source, "m", "recorded, n, note", "recorded < '2024-01-03Z'"
    )


def test_columns_that_are_left_behind(pair: Pair) -> None:
    """Only the named columns are moved; the target's own in the overlap are not lost without a word."""
    pair.on_source('CREATE TABLE m (time timestamptz NOT NULL, "Value, raw" int, secret text)')
    pair.on_source("INSERT INTO m SELECT * FROM (" + HOURS + ") AS h", "CREATE INDEX ON m (time)")
    pair.on_target(
        """CREATE TABLE m (time timestamptz NOT NULL, "Value, raw" int, flag text DEFAULT 'none (yet)')""",
        "SELECT create_hypertable('m', 'time')",
        "INSERT INTO m VALUES ('2024-01-01 05:30Z', 1)",
    )
    assert pair.refused("m", *END) == {"source-only-columns"}
    columns = ("--columns", 'time,"Value, raw"')
    assert pair.run("m", *END, *columns)["rows_deleted"] == 1
    assert pair.query(pair.target, "SELECT DISTINCT flag FROM m") == [("none (yet)",)]


def test_what_only_the_target_knows_is_not_lost(pair: Pair) -> None:
    """The dual-writer filled a column that the source does not have: its default is no reason to forget that."""
    make_target(pair)
    pair.on_source(f"CREATE TABLE m ({COLUMNS})", f"INSERT INTO m {HOURS}", "CREATE INDEX ON m (time)")
    pair.on_target("ALTER TABLE m ADD flag varchar(30) DEFAULT 'none (yet)'", "UPDATE m SET flag = 'seen' WHERE n = 41")
    before = pair.physical("m", "true")
    assert pair.refused("m", *END) == {"target-only-values"}
    assert pair.physical("m", "true") == before


def test_where_limits_what_is_replaced(pair: Pair) -> None:
    make_target(pair)
    pair.on_source(f"CREATE TABLE m ({COLUMNS})", f"INSERT INTO m {HOURS}", "CREATE INDEX ON m (time)")
    untouched = pair.physical("m", "n % 2 = 1")
    report = pair.run("m", *END, "--where", "n % 2 = 0 -- the even ones")
    assert (report["rows_copied"], report["rows_deleted"]) == (24, 4)
    assert pair.physical("m", "n % 2 = 1") == untouched
    assert len(pair.same("m", "time, n, note", f"{BEFORE_END} AND n % 2 = 0")) == 24
    # The others, in another run; what the first one moved stays.
    even = pair.physical("m", "n % 2 = 0")
    assert pair.run("m", *END, "--where", "n % 2 <> 0 AND '100%' = '100%' OR n IS NULL")["rows_copied"] == 24
    assert pair.physical("m", "n % 2 = 0") == even
    assert len(pair.same("m", "time, n, note", BEFORE_END)) == 48


HOSTILE = [
    "true) OR (true",
    "1=1; drop table x",
    "true); DROP TABLE x; SELECT (1 = 1",
    "true /*",
    "n = 'x",
    "true THEN true END AND (now()::text = '",
    "true THEN true END AND (now()::text = $q$",
    'true THEN true END AND (n = "',
    "n",
    "count(*) > 0",
    "no_such_column = 1",
    "$1",
    "%s = 1",
    "true ELSE true END OR CASE WHEN true",
    "true LIMIT 1",
    "true GROUP BY n",
    "true\\gexec",
]


def test_conditions_that_are_no_condition_are_refused(pair: Pair, tmp_path: Path) -> None:
    """One migration with a table for each: every one of them must be refused for its condition."""
    make_target(pair)
    pair.both("CREATE TABLE x (a int)")
    pair.on_source(f"CREATE TABLE m ({COLUMNS})", f"INSERT INTO m {HOURS}", "CREATE INDEX ON m (time)")
    before = pair.physical("m", "true")
    config = tmp_path / "migration.toml"
    entries = [
        f'[[backfill]]\ntable = "m"\nstart = "{year}-01-01T00:00:00Z"\nend = "{year + 1}-01-01T00:00:00Z"\n'
        f"where = {json.dumps(condition)}\n"
        for year, condition in enumerate(HOSTILE, start=2010)
    ]
    config.write_text("\n".join(entries))
    ends = ("--source", pair.source_conninfo, "--target", pair.target_conninfo)
    planned = pair.hyperfill("plan", "--config", str(config), "--json", *ends)
    assert planned.returncode == 3, planned.stderr
    for condition, plan in zip(HOSTILE, json.loads(planned.stdout)["backfills"], strict=True):
        errors = {f["code"] for f in plan["findings"] if f["severity"] == "error"}
        assert (plan["state"], errors) == ("refused", {"where"}), condition
    assert pair.hyperfill("run", "--config", str(config), *ends).returncode == 3
    assert pair.command("run", "m", *END, "--where", HOSTILE[0])[0] == 3
    assert pair.command("run", "m", *END, "--where", "")[0] in (2, 3)
    assert pair.physical("m", "true") == before
    for connection in (pair.source, pair.target):
        assert pair.query(connection, "SELECT to_regclass('x') IS NOT NULL") == [(True,)]


def test_a_condition_means_the_same_on_both_sides_or_is_refused(pair: Pair) -> None:
    """What preflight lets pass must be valid in every statement of a window."""
    make_target(pair)
    pair.on_source(f"CREATE TABLE m ({COLUMNS})", f"INSERT INTO m {HOURS}", "CREATE INDEX ON m (time)")
    for condition in ("r.n >= 0", "m.n >= 0", "public.m.n >= 0", "n IN (SELECT r.n)", "n >= (SELECT 0)"):
        code, report, errors = pair.command("run", "m", *END, "--where", condition, "--again", "--replace")
        assert code in (0, 3), (condition, errors)
        if code == 0:
            assert report["rows_copied"] == 48
