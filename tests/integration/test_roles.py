"""docs/roles.md: what it grants is enough, each right is needed, and nobody else gets any right to the ledger."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo as pq_conninfo

from tests.fixtures import roles, scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import T, arguments, assert_equal_below, execute, make_metrics, nothing_written

EVERYBODY = "SELECT quote_ident(current_database())"


@dataclass
class Page:
    """Two databases in which PUBLIC may do nothing, and the page's statements to change that."""

    source: str  # of the superuser
    target: str
    hyperfill: Hyperfill

    def statements(self, block: str) -> list[str]:
        """A block of the page for these databases."""
        conninfo = self.source if block == "source" else self.target
        database = str(pq_conninfo.conninfo_to_dict(conninfo)["dbname"])
        names = roles.names_of(database, self.role(conninfo))
        return roles.statements(block, {**names, "public.metrics_id_seq": "public.metrics_id_seq"})

    def run_block(self, block: str) -> None:
        execute(self.source if block == "source" else self.target, *self.statements(block))

    @staticmethod
    def role(conninfo: str) -> str:
        return f"least {pq_conninfo.conninfo_to_dict(conninfo)['dbname']}"

    def as_role(self, conninfo: str) -> str:
        """The conninfo of the page's role, who has a password by now."""
        role = self.role(conninfo)
        execute(conninfo, f"ALTER ROLE \"{role}\" PASSWORD 'secret'")
        return pq_conninfo.make_conninfo(conninfo, user=role, password="secret")

    @property
    def ends(self) -> tuple[str, str]:
        return self.as_role(self.source), self.as_role(self.target)

    def done(self, *words: str, code: int = 0) -> dict[str, Any]:
        """The object of a command that must end with this code."""
        ended = self.hyperfill(*words, "--json")
        assert ended.returncode == code, (words[0], ended.stdout, ended.stderr)
        found: dict[str, Any] = json.loads(ended.stdout)
        return found


@pytest.fixture
def page(source_db: str, target_db: str, hyperfill: Hyperfill) -> Iterator[Page]:
    """The roles do not exist yet; afterwards they do not exist any more."""
    found = Page(source_db, target_db, hyperfill)
    for side in (source_db, target_db):
        database = scenes.scalar(side, EVERYBODY)
        execute(side, f"REVOKE ALL ON DATABASE {database} FROM PUBLIC", "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    yield found
    for side in (source_db, target_db):
        if scenes.rows(side, "SELECT FROM pg_roles WHERE rolname = %s", found.role(side)):
            execute(side, f'DROP OWNED BY "{found.role(side)}" CASCADE', f'DROP ROLE "{found.role(side)}"')


def test_the_page_is_enough_for_every_command(page: Page, tmp_path: Path) -> None:
    """Also where PUBLIC may not even connect. The source's role can write nothing, and neither is anything special."""
    make_metrics(page.source, page.target, overlap=20)
    page.run_block("source")
    page.run_block("target")
    source, target = page.ends
    attributes = (
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles "
        "WHERE rolname = current_user"
    )
    assert scenes.rows(source, attributes) == scenes.rows(target, attributes) == [(False,) * 5]
    written = "SELECT has_table_privilege('metrics', 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
    assert not scenes.scalar(source, written)
    options = arguments(source, target)
    page.done("plan", *options)
    report = page.done("run", *options, "--jobs", "2")
    assert (report["state"], report["rows_deleted"], report["verification"]["state"]) == ("done", 20, "equal")
    assert_equal_below(page.source, page.target)
    page.run_block("target: when the ledger is there")
    page.done("verify", *options)
    execute(page.target, "UPDATE metrics SET value = 0 WHERE id = 7")
    page.done("verify", *options, code=5)
    page.done("repair", *options)
    assert_equal_below(page.source, page.target)
    page.done("run", *options, "--again")
    folder = tmp_path / "dump"
    page.done("dump", "--source", source, "--table", "metrics", "--end", T, "--out", str(folder))
    page.done("load", "--target", target, "--hypertable", "metrics", "--replace", str(folder))
    assert_equal_below(page.source, page.target)
    said = page.hyperfill("suggest-end", *options[:6], "--since", scenes.START, "--json")
    assert said.returncode in (0, 3) and "permission" not in said.stderr, said.stderr
    assert page.done("status", "--target", target)
    for name in ("page.md", "page.json"):
        written_page = ("report", "--target", target, "--backfill", "1", "--out", str(tmp_path / name))
        ended = page.hyperfill(*written_page)
        assert ended.returncode == 0, ended.stderr
    assert page.hyperfill("clean", "--target", target).returncode == 0
    # What only reads is content with the right to read, on either side.
    reader = page.role(page.target)
    execute(page.target, f'DROP OWNED BY "{reader}" CASCADE', f'DROP ROLE "{reader}"')
    names = roles.names_of(str(pq_conninfo.conninfo_to_dict(page.target)["dbname"]), reader)
    execute(page.target, *roles.statements("source", names))
    source, target = page.ends
    page.done("verify", *arguments(source, target))


def test_each_right_is_needed(page: Page) -> None:
    """Without any one of them the plan is refused, by a sentence, and nothing is written."""
    make_metrics(page.source, page.target, days=1)
    page.run_block("source")
    page.run_block("target")
    options = arguments(*page.ends)
    page.done("plan", *options)
    taken = 0
    for block in ("source", "target"):
        conninfo = page.source if block == "source" else page.target
        for statement in page.statements(block)[1:]:
            found = re.fullmatch(r"GRANT (.*?) (ON .*)", statement, re.DOTALL)
            assert found, statement
            rights, on = found.groups()
            for right in rights.split(", "):
                execute(conninfo, f"REVOKE {right} {on.replace(' TO ', ' FROM ')}")
                with nothing_written(page.target):
                    errors = page.done("plan", *options, code=3)
                texts = json.dumps(errors)
                assert "Traceback" not in texts
                assert block in texts and re.search(r"may not|lacks|permission denied", texts), (right, texts)
                execute(conninfo, f"GRANT {right} {on}")
                taken += 1
    assert taken == 9
    page.done("plan", *options)


def test_what_is_optional_does_what_it_says(page: Page, tmp_path: Path) -> None:
    make_metrics(page.source, page.target, days=2)
    execute(
        page.target,
        "ALTER TABLE metrics ALTER id ADD GENERATED BY DEFAULT AS IDENTITY",
        "CREATE UNIQUE INDEX ON metrics (time, id)",
    )
    page.run_block("source")
    page.run_block("target")
    source, target = page.ends
    options = arguments(source, target)
    with psycopg.connect(page.target, autocommit=True) as other:
        # An open transaction from before T, seen only by a role that may look.
        other.execute("BEGIN")
        other.execute("SELECT 1")
        end = scenes.scalar(page.target, "SELECT (now() + interval '1 day')::timestamptz(0)::text")
        seen = []
        for block in (None, "sessions of others"):
            if block:
                page.run_block(block)
            found = page.done("plan", *arguments(source, target, end=end))
            seen.append("old-transactions" in {f["code"] for f in found["findings"]})
    assert seen == [False, True]
    found = page.done("plan", *options, "--triggers", "off", code=3)
    assert {f["code"] for f in found["findings"] if f["severity"] == "error"} == {"triggers"}
    report = page.done("run", *options, "--sync-sequences")
    assert [f["severity"] for f in report["findings"] if f["code"] == "sequences"] == ["warning"]
    path = tmp_path / "rows.csv"
    path.write_text("2024-01-01 00:00:00+00,0,1,x\n2024-01-01 00:00:01+00,999,1,x\n")
    load = ("load", "--target", target, "--hypertable", "metrics", "--on-conflict", "skip", str(path))
    found = page.done(*load, code=3)
    assert "rights" in {f["code"] for f in found["findings"]}
    for block in ("triggers", "sequences", "load", "deadlocks"):
        page.run_block(f"target: {block}")
    report = page.done("run", *options, "--again", "--triggers", "off", "--sync-sequences")
    assert [f["severity"] for f in report["findings"] if f["code"] == "sequences"] == ["note"]
    assert page.done(*load)["rows_skipped"] == 1


def test_nobody_else_may_touch_the_ledger(page: Page) -> None:
    """Whatever rights new things get by default in this database."""
    make_metrics(page.source, page.target, days=2)
    page.run_block("source")
    page.run_block("target")
    owner, stranger = page.role(page.target), f"stranger {page.target[-12:].split('_')[-1]}"
    given = ("SCHEMAS", "TABLES", "SEQUENCES", "FUNCTIONS", "TYPES")
    execute(page.target, *(f'ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" GRANT ALL ON {w} TO PUBLIC' for w in given))
    execute(page.target, "CREATE SCHEMA proof", f'GRANT CREATE ON SCHEMA proof TO "{owner}"')
    source, target = page.ends
    page.done("run", *arguments(source, target))
    execute(page.target, f'SET ROLE "{owner}"; CREATE TABLE proof.open ()')
    public = "SELECT coalesce(bool_or(a.grantee = 0), false) FROM pg_class AS c, aclexplode(c.relacl) AS a"
    assert scenes.scalar(page.target, f"{public} WHERE c.oid = 'proof.open'::regclass"), "the default is at work"
    inside = "c.relnamespace = 'hyperfill'::regnamespace"
    assert not scenes.scalar(page.target, f"{public} WHERE {inside}")
    schema = "SELECT coalesce(bool_or(a.grantee = 0), false) FROM pg_namespace AS n, aclexplode(n.nspacl) AS a"
    assert not scenes.scalar(page.target, f"{schema} WHERE n.nspname = 'hyperfill'")
    assert not scenes.rows(page.target, "SELECT FROM pg_proc WHERE pronamespace = 'hyperfill'::regnamespace")
    database = scenes.scalar(page.target, EVERYBODY)
    execute(page.target, f"CREATE ROLE \"{stranger}\" LOGIN PASSWORD 'secret'")
    try:
        execute(page.target, f'GRANT CONNECT ON DATABASE {database} TO "{stranger}"')
        with psycopg.connect(scenes.with_options(page.target, user=stranger, password="secret")) as connection:
            kinds = [("r", "table", "SELECT, INSERT, UPDATE, DELETE, TRUNCATE"), ("S", "sequence", "USAGE, SELECT")]
            for kind, word, rights in kinds:
                [(count, may)] = connection.execute(
                    f"SELECT count(*), bool_or(has_{word}_privilege(c.oid, '{rights}')) FROM pg_class AS c "
                    f"WHERE {inside} AND c.relkind = '{kind}'"
                ).fetchall()
                assert count > 1 and not may, (word, count)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT * FROM hyperfill.backfills")
    finally:
        execute(page.target, f'DROP OWNED BY "{stranger}"', f'DROP ROLE "{stranger}"')


def test_somebody_else_s_ledger(page: Page) -> None:
    make_metrics(page.source, page.target, days=2)
    middle = "2024-01-02T00:00:00Z"
    page.done("run", *arguments(page.source, page.target, end=middle))
    page.run_block("source")
    page.run_block("target")
    options = arguments(*page.ends, "--start", middle)
    assert {f["code"] for f in page.done("run", *options, code=3)["findings"] if f["severity"] == "error"} == {"ledger"}
    page.run_block("target: somebody else's ledger")
    page.done("run", *options)
    assert_equal_below(page.source, page.target)
