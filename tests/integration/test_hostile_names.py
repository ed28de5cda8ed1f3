"""Names and bounds with all that means something to SQL, a shell, a format or a terminal: they are names and bounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.fixtures import roles
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import execute, rows, scalar
from tests.fixtures.servers import TEMPLATE, Servers

# At most 63 bytes are a name; one letter more goes before it.
HOSTILE = "\"'; DROP TABLE victim; -- %s%%(x)s {0} \\ $1 \n\té $$ /*"
END = "2024-01-03T00:00:00Z"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


SCHEMA, TABLE, TIME, VALUE, KIND, DATABASE, ROLE = (letter + HOSTILE for letter in "stcvkdr")
RELATION = f"{quoted(SCHEMA)}.{quoted(TABLE)}"


@dataclass
class Hostile:
    """A source and a target in which everything has such a name; conninfos of superusers and of roles."""

    admins: tuple[str, str]
    source: str
    target: str
    hyperfill: Hyperfill

    def done(self, *words: str, code: int = 0) -> str:
        """stdout of a command that must end with this code."""
        ended = self.hyperfill(*words)
        assert ended.returncode == code, (words[0], ended.stdout, ended.stderr)
        assert "Traceback" not in ended.stderr
        return ended.stdout

    def unharmed(self) -> None:
        """The table that all these names would like to drop is there."""
        for admin in self.admins:
            assert rows(admin, "SELECT x FROM victim") == [(1,)]

    def content(self) -> list[list[tuple[object, ...]]]:
        statement = f"SELECT t::text FROM {RELATION} AS t WHERE {quoted(TIME)} < '{END}' ORDER BY 1"
        return [rows(admin, statement) for admin in self.admins]


@pytest.fixture
def hostile(servers: Servers, hyperfill: Hyperfill) -> Iterator[Hostile]:
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(DATABASE), sql.Identifier(TEMPLATE))
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(DATABASE))
    admins = (servers.source.conninfo(DATABASE), servers.target.conninfo(DATABASE))
    ends = []
    try:
        for server, admin, block in zip(servers, admins, ("source", "target"), strict=True):
            with psycopg.connect(server.conninfo(), autocommit=True) as connection:
                connection.execute(create)
            execute(
                admin,
                "CREATE TABLE victim AS SELECT 1 AS x",
                f"CREATE SCHEMA {quoted(SCHEMA)}",
                f"CREATE TYPE {quoted(SCHEMA)}.{quoted(KIND)} AS ENUM ('a', {sql.Literal(HOSTILE).as_string()})",
                f"CREATE TABLE {RELATION} ({quoted(TIME)} timestamptz NOT NULL, {quoted(VALUE)} text, "
                f"{quoted(KIND)} {quoted(SCHEMA)}.{quoted(KIND)}, PRIMARY KEY ({quoted(TIME)}))",
            )
            names = roles.names_of(DATABASE, ROLE, SCHEMA, TABLE)
            execute(admin, *roles.statements(block, names), f"ALTER ROLE {quoted(ROLE)} PASSWORD 'secret'")
            ends.append(make_conninfo(admin, user=ROLE, password="secret"))
        with psycopg.connect(admins[1], autocommit=True) as connection:
            connection.execute("SET client_min_messages = warning")
            statement = "SELECT create_hypertable(%s::regclass, %s, chunk_time_interval => interval '1 day')"
            connection.execute(statement, [RELATION, TIME])
        with psycopg.connect(admins[0], autocommit=True) as connection:
            connection.execute(
                sql.SQL(
                    "INSERT INTO {} SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', {} || i, {} "
                    "FROM generate_series(0, 71) AS i"
                ).format(sql.Identifier(SCHEMA, TABLE), sql.Literal(HOSTILE), sql.Literal(HOSTILE))
            )
        yield Hostile(admins, ends[0], ends[1], hyperfill)
    finally:
        for server in servers:
            with psycopg.connect(server.conninfo(), autocommit=True) as connection:
                connection.execute(drop)
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(ROLE)))


def test_names_are_names_to_every_command(hostile: Hostile, tmp_path: Path) -> None:
    ends = ("--source", hostile.source, "--target", hostile.target, "--table", RELATION)
    moved = (*ends, "--end", END)
    columns = ",".join(map(quoted, (TIME, VALUE, KIND)))
    assert json.loads(hostile.done("plan", *moved, "--json"))["state"] == "planned"
    hostile.done("plan", *moved)
    report = json.loads(
        hostile.done("run", *moved, "--columns", columns, "--time-column", TIME, "--triggers", "fire", "--json")
    )
    assert (report["rows_copied"], report["verification"]["state"]) == (48, "equal")
    source, target = hostile.content()
    assert source == target and len(source) == 48
    hostile.done("verify", *moved)
    with psycopg.connect(hostile.admins[1], autocommit=True) as connection:
        connection.execute(
            sql.SQL("UPDATE {} SET {} = 'x' WHERE {} < '2024-01-01 02:00Z'").format(
                sql.Identifier(SCHEMA, TABLE), sql.Identifier(VALUE), sql.Identifier(TIME)
            )
        )
    hostile.done("verify", *moved, code=5)
    hostile.done("repair", *moved)
    folder = tmp_path / "dump"
    hostile.done("dump", "--source", hostile.source, "--table", RELATION, "--end", END, "--out", str(folder))
    hostile.done("load", "--target", hostile.target, "--hypertable", RELATION, "--replace", str(folder))
    assert hostile.content() == [source, source]
    hostile.done("status", "--target", hostile.target)
    hostile.done("status", "--target", hostile.target, "--json")
    for name in ("page.html", "page.md", "page.json"):
        hostile.done("report", "--target", hostile.target, "--backfill", "1", "--out", str(tmp_path / name))
    assert "<script" not in (tmp_path / "page.html").read_text().lower()
    hostile.done("policies", "show", "--target", hostile.target, "--hypertable", RELATION)
    said = hostile.hyperfill("suggest-end", *ends, "--since", "2024-01-01T00:00:00Z")
    assert said.returncode in (0, 3) and "Traceback" not in said.stderr, said.stderr
    hostile.unharmed()


def test_bounds_and_other_values_are_refused_or_mean_themselves(hostile: Hostile, tmp_path: Path) -> None:
    """None of these is a bound, a length, a name or a number of anything."""
    ends = ("--source", hostile.source, "--target", hostile.target)
    good = {"--table": RELATION, "--end": END}
    evil = "2024-01-01Z'; DROP TABLE victim; --"
    cases = [
        *(("--end", value) for value in (evil, f"{END}'::timestamptz OR true --", "now() - interval '1 day'", HOSTILE)),
        ("--start", evil),
        ("--start", "2024-01-01Z\n'"),
        ("--window", "1 day'; DROP TABLE victim; --"),
        ("--columns", f'{quoted(TIME)},"; DROP TABLE victim; --"'),
        ("--columns", "*); DROP TABLE victim; --"),
        ("--time-column", f"{TIME}x"),
        ("--source-time-column", HOSTILE),
        ("--table", "victim; DROP TABLE victim"),
        ("--hypertable", f"{RELATION}; DROP TABLE victim"),
        ("--max-rate", "1; DROP TABLE victim"),
        # SQL of the user's, but one expression and no statement.
        ("--where", "true; DROP TABLE victim"),
        ("--where", "true) OR (true"),
        ("--where", "%s"),
    ]
    for option, value in cases:
        words = {**good, option: value}
        ended = hostile.hyperfill("run", *ends, *(word for pair in words.items() for word in pair), "--json")
        assert ended.returncode in (2, 3), (option, value, ended.stdout, ended.stderr)
        assert "Traceback" not in ended.stderr and "unexpected" not in ended.stderr, (option, value, ended.stderr)
    for command in (
        ("report", "--target", hostile.target, "--backfill", "1; DROP TABLE victim", "--out", str(tmp_path / "x.md")),
        ("clean", "--target", hostile.target, "--backfill", "1'"),
        ("policies", "show", "--target", hostile.target, "--hypertable", "x'; DROP TABLE victim; --"),
    ):
        hostile.done(*command, code=2)
    assert not scalar(hostile.admins[1], "SELECT to_regnamespace('hyperfill') IS NOT NULL")
    hostile.unharmed()
