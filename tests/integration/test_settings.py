"""Settings of a role or database that change what text means, as values and in conditions: none of them is felt."""

from __future__ import annotations

import pytest

from tests.fixtures.loading import Loading
from tests.fixtures.pair import Pair, alter_database

END = ("--end", "2024-02-01T00:00:00Z")
# As text, with what an array of NULL and a string "NULL" differ in.
COLUMNS = "time, note, n, n[2] IS NULL, x, v"
ODD = {
    "array_nulls": "off",
    "xmloption": "document",
    "xmlbinary": "hex",
    "transform_null_equals": "on",
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "timezone_abbreviations": "India",
}


@pytest.mark.parametrize("side", ["source", "target"])
def test_values_in_text_and_conditions_mean_the_same(pair: Pair, side: str) -> None:
    """The xml column makes it the text format. `v` is made an array by a view of the source."""
    table = "(time timestamptz NOT NULL, note text, n text[], x xml, v text"
    pair.on_target(
        f"CREATE TABLE m {table}[])",
        "SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')",
    )
    pair.on_source(
        f"CREATE TABLE base {table})",
        "CREATE VIEW m AS SELECT time, note, n, x, v::text[] AS v FROM base",
        "CREATE INDEX ON base (time)",
        "INSERT INTO base SELECT '2024-01-01Z'::timestamptz + i * interval '1 hour', nullif(i, 3) || ' d', "
        "ARRAY['a', NULL, 'NULL'], 'no <b>document</b>'::xml, '{NULL,1}' FROM generate_series(0, 99) AS i",
        "INSERT INTO base VALUES ('2024-01-07Z', 'd', NULL, NULL, NULL)",
    )
    alter_database(pair.source if side == "source" else pair.target, ODD)
    # Of the 101 rows two are left out: note is NULL, and note begins with no digit.
    where = ("--where", r"note ~ '^\d' AND coalesce(note <> NULL, true)")
    inside = r"note ~ '^\d'"
    assert pair.plan("m", *END, *where)["format"] == "text"
    assert pair.run("m", *END, *where)["rows_copied"] == 99
    assert len(pair.same("m", COLUMNS, inside)) == 99
    # What another program has made of it is found, and mended.
    pair.on_target("UPDATE m SET n = ARRAY['a', 'NULL', 'NULL'], v = ARRAY['NULL', '1'] WHERE note = '7 d'")
    assert pair.command("verify", "m", *END, *where)[0] == 5
    assert pair.command("repair", "m", *END, *where)[0] == 0
    assert len(pair.same("m", COLUMNS, inside)) == 99


def test_a_timeout_that_no_session_survives_is_named(pair: Pair) -> None:
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, n int)")
    pair.on_target("SELECT create_hypertable('m', 'time')")
    alter_database(pair.source, {"idle_session_timeout": "1"})
    for _ in range(5):  # on a fast machine a session may get through
        code, report, errors = pair.command("plan", "m", *END)
        if code != 0:
            break
    assert code == 3
    said = errors + str(report)
    assert "cannot connect to the source" in said and "ALTER ROLE ... RESET" in said, said


def test_triggers_of_the_target_fire(pair: Pair) -> None:
    """Unless --triggers off says otherwise: those of TimescaleDB, of foreign keys and aggregates are among them."""
    pair.both("CREATE TABLE m (time timestamptz NOT NULL, n int)")
    pair.on_source("CREATE INDEX ON m (time)", "INSERT INTO m VALUES ('2024-01-01Z', 1)")
    pair.on_target(
        "SELECT create_hypertable('m', 'time')",
        "CREATE TABLE seen (n int)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN INSERT INTO public.seen VALUES (NEW.n); RETURN NULL; END'",
        "CREATE TRIGGER note AFTER INSERT ON m FOR EACH ROW EXECUTE FUNCTION note()",
    )
    alter_database(pair.target, {"session_replication_role": "replica"})
    pair.run("m", *END)
    assert pair.query(pair.target, "SELECT n FROM seen") == [(1,)]


def test_values_of_files_mean_the_same(loading: Loading) -> None:
    loading.sql("ALTER TABLE m ADD n text[], ADD x xml")
    alter_database(loading.target, ODD)
    path = loading.file("a.csv", 'time,id,value,n,x\n2024-01-01 12:00:00 IST,1,v,"{a,NULL,""NULL""}",no <b>doc</b>\n')
    loading.done("--header", "--encode", "server", path)
    assert loading.query("SELECT time = '2024-01-01 10:00Z', n = ARRAY['a', NULL, 'NULL'], x::text FROM m") == [
        (True, True, "no <b>doc</b>")
    ]
