"""A schema `hyperfill` that somebody else made: nothing of it is run, read or written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from hyperfill import ledger, session
from hyperfill.errors import Refused
from hyperfill.sql import query
from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import arguments, assert_equal_below, execute, make_metrics, with_options

EVIL = """CREATE FUNCTION hyperfill.evil() RETURNS int SECURITY INVOKER LANGUAGE plpgsql VOLATILE AS
    $$BEGIN IF current_user <> '{0}' THEN EXECUTE 'ALTER ROLE "{0}" SUPERUSER'; END IF; RETURN 1; END$$"""
FOR_ALL = "GRANT USAGE ON SCHEMA hyperfill TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA hyperfill TO PUBLIC"


@pytest.fixture
def mallory(target_db: str) -> Iterator[str]:
    """A role that may create schemas in the target and nothing else; its conninfo."""
    name = "mallory " + scenes.scalar(target_db, "SELECT current_database()")
    execute(
        target_db,
        f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'secret'",
        f'GRANT CREATE ON DATABASE {scenes.scalar(target_db, "SELECT current_database()")} TO "{name}"',
    )
    yield with_options(target_db, user=name, password="secret")
    execute(target_db, f'DROP OWNED BY "{name}" CASCADE', f'DROP ROLE "{name}"')


def name_of(conninfo: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(conninfo)["user"])


def refused(hyperfill: Hyperfill, words: list[str], *texts: str) -> None:
    ended = hyperfill(*words)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 3, (words[0], ended.returncode, said)
    for text in texts:
        assert text in said, (words[0], said)


def test_a_trap_is_not_stepped_into(
    source_db: str, target_db: str, mallory: str, hyperfill: Hyperfill, tmp_path: Path
) -> None:
    """A view in the place of the ledger, whose function would make its owner a superuser."""
    make_metrics(source_db, target_db, days=1)
    execute(
        mallory,
        "CREATE SCHEMA hyperfill",
        EVIL.format(name_of(mallory)),
        "CREATE VIEW hyperfill.ledger AS SELECT hyperfill.evil() AS version",
        FOR_ALL,
    )
    (tmp_path / "a.csv").write_text("2024-01-01 00:00:00+00,1,1,x\n")
    both, one = arguments(source_db, target_db), ["--target", target_db]
    for words in (
        *([name, *both] for name in ("run", "plan", "repair")),
        *([name, *one] for name in ("status", "clean")),
        ["report", *one, "--backfill", "1", "--out", "page.md"],
        ["load", *one, "--hypertable", "metrics", str(tmp_path / "a.csv")],
        *(["policies", name, *one, "--hypertable", "metrics"] for name in ("show", "hold", "release")),
    ):
        refused(hyperfill, words, "schema hyperfill is not a ledger of hyperfill: ledger is no ordinary table")
    # It needs no ledger, and takes this for none.
    assert hyperfill("verify", *both).returncode == 5
    assert not scenes.scalar(target_db, "SELECT rolsuper FROM pg_roles WHERE rolname = %s", name_of(mallory))


# What is done to a ledger of ours, and what is said of it.
TRAPS = {
    "trigger": (
        "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER mine BEFORE INSERT ON hyperfill.backfills FOR EACH ROW EXECUTE FUNCTION t()",
        "backfills has trigger mine",
    ),
    "rule": ("CREATE RULE r AS ON INSERT TO hyperfill.holds DO ALSO SELECT 1", "holds has rules"),
    "row security": ("ALTER TABLE hyperfill.windows ENABLE ROW LEVEL SECURITY", "windows has row-level security"),
    "child": ("CREATE TABLE child () INHERITS (hyperfill.windows)", "windows has child tables"),
    "default": ("ALTER TABLE hyperfill.windows ALTER attempts SET DEFAULT f(1)", "windows uses function f(integer)"),
    "check": ("ALTER TABLE hyperfill.files ADD CHECK (f(id) > 0)", "files uses function f(integer)"),
    "index": ("CREATE INDEX ON hyperfill.windows (f(id))", "windows uses function f(integer)"),
    "predicate": ("CREATE INDEX ON hyperfill.windows (id) WHERE f(1) > 0", "windows uses function f(integer)"),
    "statistics": ("CREATE STATISTICS s ON (f(id)) FROM hyperfill.windows", "windows uses function f(integer)"),
    "type": ("CREATE DOMAIN d AS text; ALTER TABLE hyperfill.windows ALTER lower TYPE d", "windows uses type d"),
    "missing": ("DROP TABLE hyperfill.hold_users", "hold_users is missing"),
    "column": ("ALTER TABLE hyperfill.windows RENAME estimate TO guess", "windows.estimate bigint is missing"),
    "type of a column": ("ALTER TABLE hyperfill.ledger ALTER version TYPE text", "ledger.version integer is missing"),
    "empty": ("DELETE FROM hyperfill.ledger", "table ledger has no version"),
}


def test_what_is_ours_and_what_is_not(target_db: str) -> None:
    """What we make is taken for ours; each change to it by itself is found."""
    with session.connect(target_db, "target") as connection:
        assert not ledger.exists(connection)
        ledger.create(connection)
        assert ledger.exists(connection)
        connection.execute("SET search_path = public")
        connection.execute("CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'")
        for name, (trap, text) in TRAPS.items():
            with connection.transaction(force_rollback=True):
                for statement in trap.split(";") if "LANGUAGE" not in trap else [trap]:
                    connection.execute(statement)
                with pytest.raises(Refused, match="is not a ledger of hyperfill") as found:
                    ledger.exists(connection)
                assert text in found.value.message, name
        assert ledger.exists(connection)


def test_something_else_of_that_name(target_db: str, hyperfill: Hyperfill) -> None:
    execute(target_db, "CREATE SCHEMA hyperfill", "CREATE TABLE hyperfill.ledger (version text)")
    for words in (["status"], ["status", "--json"], ["clean"], ["report", "--backfill", "1", "--out", "page.md"]):
        refused(hyperfill, [*words, "--target", target_db], "schema hyperfill is not a ledger of hyperfill")


def test_tables_of_somebody_who_is_not_trusted(
    source_db: str, target_db: str, mallory: str, hyperfill: Hyperfill
) -> None:
    """A ledger like ours may be read, but is not written to: its owner could add a trigger at any time."""
    make_metrics(source_db, target_db, days=1)
    execute(mallory, query("ledger/schema"), FOR_ALL)
    assert hyperfill("status", "--target", target_db).returncode == 0
    options, said = arguments(source_db, target_db), f'belongs to "{name_of(mallory)}", and is not written to'
    for name in ("run", "plan", "repair"):
        refused(hyperfill, [name, *options], said, "-c role=")
    refused(hyperfill, ["policies", "release", "--target", target_db, "--hypertable", "metrics"], said)
    assert scenes.scalar(target_db, "SELECT count(*) FROM hyperfill.backfills") == 0
    # Whoever owns the hypertable could do the same by a trigger on that.
    execute(target_db, f'ALTER TABLE metrics OWNER TO "{name_of(mallory)}"')
    assert hyperfill("run", *options).returncode == 0
    assert_equal_below(source_db, target_db)
    refused(hyperfill, ["clean", "--target", target_db], said)
    owner = with_options(target_db, options=f"-c role={name_of(mallory).replace(' ', chr(92) + ' ')}")
    assert hyperfill("clean", "--target", owner).returncode == 0
