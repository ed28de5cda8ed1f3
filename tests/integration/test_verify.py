"""`hyperfill verify`: whatever differs is found and named; nothing is written; what was not compared is said."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from hyperfill.sandbox import Server
from tests.fixtures.compared import BELOW, COLUMNS, END, bounds, make, moved, role_that_reads, verify
from tests.fixtures.pair import Pair, open_pair
from tests.fixtures.servers import Servers

SECOND = ("2024-01-01 06:00:00+00", "2024-01-01 12:00:00+00")
PLACE = "t = '2024-01-01 08:00Z' AND dev = 2"


def test_equal_sides(pair: Pair) -> None:
    moved(pair)
    before = pair.physical("m", "true")
    code, found = verify(pair, *END)
    assert code == 0
    assert found["state"] == "done"
    assert found["differences"] == []
    assert found["windows"]["compared"] == found["windows"]["total"] == found["windows"]["equal"]
    assert found["rows_source"] == found["rows_target"] == 288 * 3
    assert found["columns"] == ["t", "dev", "v", "note", "big", "doc"]
    assert pair.physical("m", "true") == before


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (f"UPDATE m SET v = v + 1e-9 WHERE {PLACE}", "different"),
        (f"UPDATE m SET note = NULL WHERE {PLACE}", "different"),
        (f"UPDATE m SET big = big # 4294967297 WHERE {PLACE}", "different"),
        (f'UPDATE m SET doc = \'{{"i": "48"}}\' WHERE {PLACE}', "different"),
        (f"DELETE FROM m WHERE {PLACE}", "missing"),
        (f"INSERT INTO m SELECT t + interval '1 second', dev, v FROM m WHERE {PLACE}", "extra"),
    ],
)
def test_a_change_of_one_row_is_found(pair: Pair, change: str, what: str) -> None:
    moved(pair)
    pair.on_target(change)
    code, found = verify(pair, *END)
    assert code == 5
    assert found["state"] == "mismatch"
    assert bounds(found) == [SECOND]
    [difference] = found["differences"]
    counts = {w: difference[f"rows_{w}"] for w in ("missing", "extra", "different")}
    assert counts == {"missing": 0, "extra": 0, "different": 0, what: 1}
    assert difference["exact"] is True
    [bucket] = difference["buckets"]
    assert SECOND[0] <= bucket["lower"] <= "2024-01-01 08:00:01+00" < bucket["upper"] <= SECOND[1]
    [sample] = difference["samples"]
    assert sample["what"] == what
    assert sample["key"]["dev"] == "2"
    assert sample["key"]["t"].startswith("2024-01-01 08:00:0")
    if what == "different":
        assert len(sample["columns"]) == 1
        [column] = sample["columns"]
        assert sample["source"][column] != sample["target"][column]


def test_values_swapped_between_two_rows_are_found(pair: Pair) -> None:
    moved(pair)
    pair.on_target(
        "UPDATE m SET v = o.v FROM m AS o WHERE m.dev + o.dev = 3 AND m.dev <> o.dev "
        "AND m.t = '2024-01-01 08:00Z' AND o.t = m.t"
    )
    assert verify(pair, *END, "--mode", "count")[0] == 0
    code, found = verify(pair, *END)
    assert code == 5
    assert bounds(found) == [SECOND]
    assert found["differences"][0]["rows_different"] == 2


def test_stray_rows_of_the_target_are_seen_wherever_they_are(pair: Pair) -> None:
    moved(pair)
    pair.on_target("INSERT INTO m VALUES ('1999-06-01Z', 1, 1)")
    code, found = verify(pair, *END)
    assert code == 5
    assert found["rows_target"] == found["rows_source"] + 1
    [difference] = found["differences"]
    assert difference["lower"] == "-infinity"
    [sample] = difference["samples"]
    assert (sample["what"], sample["key"]) == ("extra", {"t": "1999-06-01 00:00:00+00", "dev": "1"})
    # Without the ledger as well: windows are planned then.
    pair.on_target("DROP SCHEMA hyperfill CASCADE")
    assert verify(pair, *END)[0] == 5


def test_rows_from_the_end_on_are_not_compared(pair: Pair) -> None:
    moved(pair)
    pair.on_target("INSERT INTO m VALUES ('2024-01-03Z', 77, 1)")
    pair.on_source("DELETE FROM m WHERE t >= '2024-01-03Z'")
    assert verify(pair, *END)[0] == 0
    # And the row before it is.
    pair.on_target("INSERT INTO m VALUES ('2024-01-02 23:59:59.999999Z', 77, 1)")
    assert verify(pair, *END)[0] == 5


def test_the_table_for_people(pair: Pair) -> None:
    moved(pair)
    pair.on_target(f"UPDATE m SET v = 0.5 WHERE {PLACE}", "ALTER TABLE m ADD own int")
    done = pair.hyperfill(
        "verify", "--source", pair.source_conninfo, "--target", pair.target_conninfo, "--table", "m", *END
    )
    assert done.returncode == 5
    assert "DIFFERENT" in done.stdout
    assert "[2024-01-01 06:00:00+00, 2024-01-01 12:00:00+00) differs" in done.stdout
    assert "v: '48.2' → '0.5'" in done.stdout
    assert "NOT compared: columns that are not moved: own" in done.stdout
    # The cost is said before.
    assert "rows of the source with about" in done.stderr


def test_many_differing_windows_are_all_listed(pair: Pair) -> None:
    make(pair, interval="30 minutes")
    pair.run("m", *END)
    pair.on_target("UPDATE m SET v = v + 1")
    code, found = verify(pair, *END)
    assert code == 5
    assert len(found["differences"]) == found["windows"]["different"] == 96
    assert sum(d["examined"] for d in found["differences"]) == 20
    assert all(d["rows_different"] == 9 for d in found["differences"] if d["examined"])


def test_without_a_key_rows_are_told_apart_by_their_time(pair: Pair) -> None:
    moved(pair, key=False)
    pair.on_target(
        f"UPDATE m SET v = 0 WHERE {PLACE}",
        "UPDATE m SET v = 0 WHERE t = '2024-01-01 09:00Z'",
        f"INSERT INTO m SELECT * FROM m WHERE {PLACE.replace('dev = 2', 'dev = 1')}",
    )
    code, found = verify(pair, *END)
    assert code == 5
    [difference] = found["differences"]
    # Three rows of one moment changed, and nobody can say which was which; a row that is there twice is one too many.
    assert (difference["rows_missing"], difference["rows_extra"], difference["rows_different"]) == (4, 5, 0)


def test_a_moment_with_rows_of_one_key_on_either_side(pair: Pair) -> None:
    make(pair, key=False)
    pair.on_source("DELETE FROM m WHERE dev > 1")
    pair.run("m", *END)
    pair.on_target("UPDATE m SET note = 'other' WHERE t = '2024-01-01 08:00Z'")
    [difference] = verify(pair, *END)[1]["differences"]
    assert difference["rows_different"] == 1
    assert difference["samples"][0]["columns"] == ["note"]


def test_a_role_that_may_only_read_compares(pair: Pair) -> None:
    moved(pair)
    with role_that_reads(pair) as (role, command):
        done = pair.hyperfill(*command)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["windows"]["compared"] > 1
        pair.on_target(f"REVOKE SELECT ON m FROM {role}", f"GRANT SELECT (t, dev) ON m TO {role}")
        done = pair.hyperfill(*command)
        assert done.returncode == 3
        messages = [f["message"] for f in json.loads(done.stdout)["findings"]]
        assert any("may not SELECT column note of the target" in m for m in messages)


def test_row_security_is_no_silent_filter(pair: Pair) -> None:
    moved(pair)
    pair.on_target("ALTER TABLE m ENABLE ROW LEVEL SECURITY", "CREATE POLICY p ON m USING (dev = 1)")
    with role_that_reads(pair) as (_, command):
        done = pair.hyperfill(*command)
        assert done.returncode == 3
        assert "row-security" in {f["code"] for f in json.loads(done.stdout)["findings"]}


def test_counting_only(pair: Pair) -> None:
    moved(pair)
    pair.on_target(f"DELETE FROM m WHERE {PLACE}")
    code, found = verify(pair, *END, "--mode", "count")
    assert code == 5
    assert found["mode"] == "count"
    assert bounds(found) == [SECOND]


def test_a_sample_says_what_it_left_out(pair: Pair) -> None:
    moved(pair)
    pair.on_target("UPDATE m SET v = v + 1 WHERE t < '2024-01-03Z'")
    code, found = verify(pair, *END, "--sample", "50")
    assert code == 5
    assert found["sample_percent"] == 50
    windows = found["windows"]
    assert windows["compared"] + windows["not_compared"] == windows["total"]
    assert windows["not_compared"] == windows["different"] == 4
    seen = {tuple(bounds(verify(pair, *END, "--sample", "25")[1])) for _ in range(8)}
    assert len(seen) > 1, "the share is not random"
    for wrong in ("0", "101", "nan", "-5"):
        assert verify(pair, *END, f"--sample={wrong}")[0] == 2


def test_a_throttle_spares_the_servers(pair: Pair) -> None:
    moved(pair)
    began = time.monotonic()
    code, found = verify(pair, *END, "--throttle", "400")
    assert code == 0
    # 864 rows, of which the first quarter of a second is free.
    assert time.monotonic() - began > 1.5
    assert found["seconds"] > 1.5
    assert verify(pair, *END, "--throttle", "0.5")[0] == 2


def test_a_limit_of_time_leaves_windows_out(pair: Pair) -> None:
    moved(pair)
    code, found = verify(pair, *END, "--throttle", "300", "--max-duration", "1s")
    assert (code, found["state"]) == (4, "incomplete")
    windows = found["windows"]
    assert 0 < windows["compared"] < windows["total"]
    assert windows["compared"] + windows["not_compared"] == windows["total"]
    assert verify(pair, *END, "--max-duration", "10m")[0] == 0


def test_a_source_without_an_index_is_read_once(pair: Pair) -> None:
    pair.both(f"CREATE TABLE m ({COLUMNS})")
    pair.on_source(
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 min', 1, i FROM generate_series(0, 999) i",
        "ANALYZE m",
    )
    pair.on_target("SELECT create_hypertable('m', 't', chunk_time_interval => interval '1 hour')")
    pair.run("m", *END, "--verify", "none")
    # The server itself scans for the plan, and so it is counted from here on.
    pair.on_source("SELECT pg_stat_reset()")
    code, found = verify(pair, *END)
    assert code == 0
    assert "no-index" in {f["code"] for f in found["findings"]}
    pair.on_source("SELECT pg_stat_force_next_flush()")
    [(scans,)] = pair.query(pair.source, "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'm'")
    assert scans <= 4
    pair.on_target("UPDATE m SET v = -1 WHERE t = '2024-01-01 08:00Z'")
    code, found = verify(pair, *END)
    assert code == 5
    assert found["differences"][0]["rows_different"] == 1


def test_only_what_the_condition_says(pair: Pair) -> None:
    make(pair)
    pair.run("m", *END, "--where", "dev <> 3")
    assert verify(pair, *END, "--where", "dev <> 3")[0] == 0
    assert verify(pair, *END)[0] == 5


def test_an_unfinished_backfill_is_said(pair: Pair) -> None:
    make(pair)
    pair.on_target("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'",
                   "CREATE TRIGGER no BEFORE INSERT ON m FOR EACH ROW WHEN (NEW.t >= '2024-01-02 12:00Z') "
                   "EXECUTE FUNCTION no()")  # fmt: skip
    assert pair.command("run", "m", *END)[0] == 4
    code, found = verify(pair, *END)
    assert code == 5
    assert "unfinished" in {f["code"] for f in found["findings"]}
    assert ("2024-01-02 12:00:00+00", "2024-01-02 18:00:00+00") in bounds(found)


def test_a_window_that_cannot_be_read_is_named(pair: Pair) -> None:
    """A view of which some rows raise an error stands for a broken disk: the other windows are compared."""
    moved(pair)
    pair.on_source(
        "CREATE VIEW broken AS SELECT t, dev, v, note, "
        "CASE WHEN t = '2024-01-01 08:00Z' THEN 1 / (dev - 2) * 0 + big ELSE big END AS big, doc FROM m"
    )
    code, found = verify(pair, *END, "--hypertable", "m", table="broken")
    assert code == 4
    assert found["state"] == "incomplete"
    [failed] = found["failed_windows"]
    assert (failed["lower"], failed["upper"]) == SECOND
    assert "division by zero" in failed["message"]
    assert failed["server"] == "source"


def test_what_cannot_be_compared_is_refused(pair: Pair) -> None:
    make(pair)
    pair.on_target("ALTER TABLE m DROP note")
    code, found = verify(pair, *END)
    assert code == 3
    assert "source-only-columns" in {f["code"] for f in found["findings"]}
    assert verify(pair, *END, table="nothing")[0] == 3
    assert verify(pair, "--end", "tomorrow")[0] == 3
    assert not pair.query(pair.target, "SELECT 1 FROM pg_namespace WHERE nspname = 'hyperfill'")


def test_an_empty_range(pair: Pair) -> None:
    make(pair)
    code, found = verify(pair, *END, "--start", END[1])
    assert (code, found["state"]) == (0, "nothing")


def test_a_configuration(pair: Pair, tmp_path: Any) -> None:
    moved(pair)
    path = tmp_path / "m.toml"
    path.write_text("".join(f'[[backfill]]\ntable = "m"\nend = "{end}"\n' for end in (END[1], "2024-01-02Z")))
    pair.on_target("UPDATE m SET v = 0 WHERE t = '2024-01-02 08:00Z'")
    done = pair.hyperfill(
        "verify", "--source", pair.source_conninfo, "--target", pair.target_conninfo, "--config", str(path), "--json"
    )
    assert done.returncode == 5, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] == "mismatch"
    assert [b["state"] for b in found["backfills"]] == ["mismatch", "done"]


def test_a_hypertable_as_source(pair: Pair, new_database: Callable[[Server], str], servers: Servers) -> None:
    moved(pair)
    other = new_database(servers.target)
    for second in open_pair(pair.target_conninfo, other, pair.hyperfill):
        second.on_target(
            f"CREATE TABLE m ({COLUMNS}, PRIMARY KEY (t, dev))",
            "SELECT create_hypertable('m', 't', chunk_time_interval => interval '7 hours')",
        )
        second.run("m", *END)
        assert verify(second, *END)[0] == 0
        second.on_target(f"DELETE FROM m WHERE {PLACE}")
        assert verify(second, *END)[1]["differences"][0]["rows_missing"] == 1


@pytest.mark.parametrize("mode", ["hash", "count"])
def test_many_small_windows_are_read_together(pair: Pair, mode: str) -> None:
    make(pair, interval="10 minutes")
    pair.run("m", *END, "--verify", "none")
    code, found = verify(pair, *END, "--mode", mode)
    assert code == 0
    assert found["windows"]["compared"] > 280
    pair.on_target(f"DELETE FROM m WHERE {PLACE}", f"DELETE FROM m WHERE {BELOW} AND t > '2024-01-02 23:00Z'")
    found = verify(pair, *END, "--mode", mode)[1]
    assert len(found["differences"]) == 6
