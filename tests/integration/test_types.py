"""Values of every common type arrive as they were, in binary and in text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures.cli import Hyperfill
from tests.fixtures.pair import Pair, open_pair
from tests.fixtures.servers import Servers
from tests.fixtures.values import BUILTIN, DEFINED, DEFINITIONS, LOSSLESS, LOSSY, TEXT_ONLY

END = ("--end", "2030-01-01T00:00:00Z")
TIME = "'2024-01-01 00:00Z'::timestamptz + {} * interval '1 hour'"


@pytest.fixture
def typed_pair(pair: Pair) -> Pair:
    """Both sides know the types of DEFINITIONS; the labels of the enum were added in another order on the target."""
    # Different OIDs: a database where everything was made in the same order would hide a mistake.
    pair.on_target("CREATE TYPE filler AS (a int)", "CREATE TABLE filler_table (a int)")
    pair.on_source("CREATE TYPE mood AS ENUM ('sad', 'ok', 'very happy')")
    pair.on_target(
        "CREATE TYPE mood AS ENUM ('very happy')",
        "ALTER TYPE mood ADD VALUE 'unknown on the source'",
        "ALTER TYPE mood ADD VALUE 'ok' BEFORE 'very happy'",
        "ALTER TYPE mood ADD VALUE 'sad' BEFORE 'ok'",
    )
    pair.both("CREATE EXTENSION hstore", "CREATE EXTENSION citext", *DEFINITIONS)
    return pair


def fill(pair: Pair, types: dict[str, list[str]]) -> str:
    """Table `m` with a column for each type, on both sides, and rows on the source; a comma-separated column list."""
    names = {name: f"c{number}" for number, name in enumerate(types)}
    columns = ", ".join(f"{column} {name}" for name, column in names.items())
    pair.both(f"CREATE TABLE m (time timestamptz NOT NULL, n int, {columns})")
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")
    number = 0
    for name, values in types.items():
        for value in [*values, "NULL"]:
            pair.on_source(
                f"INSERT INTO m (time, n, {names[name]})"
                f" SELECT {TIME.format(number)}, {number}, CAST({value} AS {name})"
            )
            number += 1
    pair.on_source("CREATE INDEX ON m (time)")
    return ", ".join(["time", "n", *names.values()])


def rows_with(types: dict[str, list[str]]) -> int:
    return sum(len(values) + 1 for values in types.values())


def test_builtin_types_in_binary(pair: Pair) -> None:
    types = {name: values for name, values in BUILTIN.items() if name not in TEXT_ONLY}
    columns = fill(pair, types)
    assert pair.plan("m", *END)["format"] == "binary"
    assert pair.run("m", *END)["rows_copied"] == rows_with(types)
    assert len(pair.same("m", columns)) == rows_with(types)


def test_builtin_types_in_text(pair: Pair) -> None:
    columns = fill(pair, BUILTIN)
    assert pair.plan("m", *END)["format"] == "text"
    assert pair.run("m", *END)["rows_copied"] == rows_with(BUILTIN)
    assert len(pair.same("m", columns)) == rows_with(BUILTIN)


def test_defined_types_in_binary(typed_pair: Pair) -> None:
    types = {name: values for name, values in DEFINED.items() if name not in TEXT_ONLY}
    columns = fill(typed_pair, types)
    assert typed_pair.plan("m", *END)["format"] == "binary"
    typed_pair.run("m", *END)
    assert len(typed_pair.same("m", columns)) == rows_with(types)


def test_defined_types_in_text(typed_pair: Pair) -> None:
    columns = fill(typed_pair, DEFINED)
    assert typed_pair.plan("m", *END)["format"] == "text"
    typed_pair.run("m", *END)
    assert len(typed_pair.same("m", columns)) == rows_with(DEFINED)


def test_types_whose_binary_form_says_oids_travel_as_text(typed_pair: Pair, tmp_path: Path) -> None:
    """Each of them alone makes its table a text one."""
    pair, text = typed_pair, []
    for number, name in enumerate(sorted(TEXT_ONLY)):
        pair.both(f"CREATE TABLE m{number} (time timestamptz NOT NULL, c {name})")
        pair.on_target(f"SELECT create_hypertable('m{number}', 'time')")
        text.append(f'[[backfill]]\ntable = "m{number}"\nend = "{END[1]}"\n')
    config = tmp_path / "migration.toml"
    config.write_text("\n".join(text))
    ends = ("--source", pair.source_conninfo, "--target", pair.target_conninfo)
    done = pair.hyperfill("plan", "--config", str(config), "--json", *ends)
    assert done.returncode == 0, done.stderr
    assert [plan["format"] for plan in json.loads(done.stdout)["backfills"]] == ["text"] * len(TEXT_ONLY)


@pytest.mark.parametrize("name", ["positive[]", "mood[]", "citext[]"])
def test_arrays_of_defined_types_arrive(typed_pair: Pair, name: str) -> None:
    """Alone in their table: nothing else makes it a text one. Their binary form says the OID of the element's type."""
    columns = fill(typed_pair, {name: DEFINED[name]})
    typed_pair.run("m", *END)
    typed_pair.same("m", columns)


def test_a_source_in_another_encoding(servers: Servers, target_db: str, hyperfill: Hyperfill) -> None:
    """LATIN1 on one side, UTF8 on the other: characters arrive, not bytes."""
    name = "latin_source"
    admin = servers.source.conninfo
    with_latin = f"CREATE DATABASE {name} ENCODING LATIN1 LOCALE 'C' TEMPLATE template0"
    for pair in open_pair(admin(), target_db, hyperfill):
        pair.on_source(with_latin)
    try:
        for pair in open_pair(admin(name), target_db, hyperfill):
            pair.both("CREATE TABLE m (time timestamptz NOT NULL, c text, v varchar(3))")
            pair.on_source(
                "INSERT INTO m VALUES ('2024-01-01Z', 'Grüße, ÿ', 'äöü')",
                "INSERT INTO m VALUES ('2024-01-02Z', '', NULL)",
            )
            pair.on_target("SELECT create_hypertable('m', 'time')")
            pair.run("m", *END)
            assert len(pair.same("m", "time, c, v")) == 2
    finally:
        for pair in open_pair(admin(), target_db, hyperfill):
            pair.on_source(f"DROP DATABASE {name} WITH (FORCE)")


def test_casts_that_lose_nothing(pair: Pair) -> None:
    """The source casts: the double of a real is its value, not its text."""
    pair.both("CREATE DOMAIN code AS varchar(8)")
    sources = ", ".join(f"c{i} {source}" for i, (source, _) in enumerate(LOSSLESS))
    targets = ", ".join(f"c{i} {target}" for i, (_, target) in enumerate(LOSSLESS))
    pair.on_source(f"CREATE TABLE m (time timestamptz NOT NULL, n int, {sources})")
    pair.on_target(
        f"CREATE TABLE m (time timestamptz NOT NULL, n int, {targets})", "SELECT create_hypertable('m', 'time')"
    )
    number = 0
    for i, ((source, _), values) in enumerate(LOSSLESS.items()):
        for value in values:
            number += 1
            pair.on_source(
                f"INSERT INTO m (time, n, c{i}) SELECT {TIME.format(number)}, {number}, CAST({value} AS {source})"
            )
    pair.run("m", *END)
    for i, (_, target) in enumerate(LOSSLESS):
        cast = pair.query(pair.source, f"SELECT n, CAST(c{i} AS {target})::text FROM m ORDER BY n")
        assert pair.query(pair.target, f"SELECT n, c{i}::text FROM m ORDER BY n") == cast
    assert pair.query(pair.target, "SELECT count(*) FROM m") == [(number,)]
    assert pair.query(pair.target, "SELECT count(*) FROM m WHERE c13 = 0.1::real::float8") == [(1,)]


def test_lossy_casts_are_refused_before_anything_is_deleted(pair: Pair) -> None:
    pair.on_source("CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE TYPE mood_with_less AS ENUM ('sad', 'ok')")
    pair.on_target("CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE TYPE mood_with_less AS ENUM ('sad')")
    # "mood_with_less" has the same name on both sides, and a label less on the target.
    sources = ", ".join(f"c{i} {target if target == 'mood_with_less' else s}" for i, (s, target) in enumerate(LOSSY))
    targets = ", ".join(f"c{i} {target}" for i, (_, target) in enumerate(LOSSY))
    pair.on_source(f"CREATE TABLE m (time timestamptz NOT NULL, {sources})", "INSERT INTO m VALUES ('2024-01-01Z')")
    pair.on_target(
        f"CREATE TABLE m (time timestamptz NOT NULL, {targets})",
        "SELECT create_hypertable('m', 'time')",
        "INSERT INTO m VALUES ('2024-01-01 12:00Z'), ('2024-01-02Z')",
    )
    before = pair.physical("m", "true")
    code, report, errors = pair.command("run", "m", *END)
    assert code == 3, errors
    found = {f["message"].split(":", 1)[0] for f in report["findings"] if f["code"] == "type"}
    assert found == {f"column c{i}" for i in range(len(LOSSY))}  # each of them, all at once
    assert pair.physical("m", "true") == before


def test_a_large_value_in_each_format(pair: Pair) -> None:
    """Rows larger than a block are sent in slices; in text and in binary."""
    for name, kind in (("b", "bytea"), ("x", "xml")):
        pair.both(f"CREATE TABLE {name} (time timestamptz NOT NULL, c {kind}, t text)")
        pair.on_target(f"SELECT create_hypertable('{name}', 'time')")
        pair.on_source(
            f"INSERT INTO {name} SELECT {TIME.format('i')}, NULL, repeat(E'\\\\\\n\\t😀', i * 30000)"
            " FROM generate_series(0, 6) AS i",
        )
        assert pair.plan(name, *END)["format"] == ("binary" if kind == "bytea" else "text")
        pair.run(name, *END)
        assert len(pair.same(name, "time, md5(t)", "length(t) >= 0")) == 7
