"""Text, and values that are equal and not the same: an order is only claimed where it is true on the target."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.landing import (
    END,
    ORDERED,
    PLAIN,
    ROWS,
    SEGMENTBY,
    assert_landed,
    hypertable,
    reasons,
    run_all,
    statuses,
    ways,
)
from tests.fixtures.pair import Pair

pytestmark = pytest.mark.community

BELOW = f"time < '{END}'"
WORDS = "(ARRAY['a', 'B', 'ab', 'A b', 'ä', 'Z', '_', NULL])[1 + i % 8]"
TEXT = "time timestamptz NOT NULL, device {}, value float8, note text"
TEXT_ROWS = (
    f"SELECT '2024-01-01Z'::timestamptz + i * interval '1 minute', {WORDS}, i % 50 / 3.0, {WORDS}"
    " FROM generate_series(0, 8699) AS i"
)
ICU = 'text COLLATE "de-x-icu"'
BYTES = 'text COLLATE "C"'
# Types on both sides, segmentby and orderby, the way, and part of why.
TEXTS = {
    "equal values lie together": ("text", ICU, "device", "time", "written", ""),
    "whatever the source's order": (ICU, "text", "device", "time", "written", ""),
    "by bytes on the source": (BYTES, ICU, "device", "time", "written", ""),
    "of a length": ("varchar(9)", "varchar(9)", "device", "time", "written", ""),
    "not by bytes": (BYTES, "text", "", "device, time", "afterwards", "may not sort orderby column"),
    "by ICU on both": (ICU, ICU, "", "device, time", "afterwards", "may not sort orderby column"),
    "another type": ("varchar(9)", "text", "device", "time", "afterwards", "another type on the source"),
    "by bytes on the target": (ICU, BYTES, "", "device DESC NULLS LAST, time", "written", ""),
}


def test_text(policy_pair: Pair, tmp_path: Path) -> None:
    """Equal values need only lie together, for segmentby; a false claim of an order would give wrong answers."""
    pair = policy_pair
    tables = {}
    for number, (here, there, segmentby, orderby, _, _) in enumerate(TEXTS.values()):
        source, target = f"s{number}", f"t{number}"
        tables[target] = source
        pair.on_source(
            f"CREATE TABLE {source} ({TEXT.format(here)})",
            f"INSERT INTO {source} {TEXT_ROWS}",
            f"CREATE INDEX ON {source} (time)",
        )
        hypertable(pair, target, SEGMENTBY.format(segmentby, orderby), TEXT.format(there))
    found = run_all(pair, tmp_path, tables)
    for (name, (_, _, _, _, way, why)), (target, source) in zip(TEXTS.items(), tables.items(), strict=True):
        plan, report = found[target]
        assert ways(plan) == [way] * 6 and why in str(reasons(plan)), (name, plan["landing"])
        assert report["landed"] == {"written": 0, "afterwards": 0, "left": 0} | {way: 6}
        assert statuses(pair, target) == [ORDERED] * 6, name
        assert_text(pair, source, target)


def assert_text(pair: Pair, source: str, target: str) -> None:
    """As the servers sort text differently, both are asked to sort it by its bytes."""
    view = 'CREATE OR REPLACE VIEW shown AS SELECT time, device::text COLLATE "C" AS device, value, note FROM {}'
    pair.on_source(view.format(source))
    pair.on_target(view.format(target))
    assert_landed(pair, "shown", where=BELOW)
    # And as the target itself sorts.
    found = []
    for sort in ("on", "off"):
        pair.on_target(f"SET enable_sort = {sort}")
        asked = (
            f"SELECT (SELECT array_agg(d) FROM (SELECT device AS d FROM {target} ORDER BY device, time DESC) AS s),"
            f" (SELECT array_agg(d) FROM (SELECT device AS d FROM {target} ORDER BY device DESC NULLS LAST) AS s),"
            f" min(note), max(note), min(device), max(device) FROM {target}"
        )
        found.append(pair.query(pair.target, asked))
    pair.on_target("RESET enable_sort")
    assert found[0] == found[1]


SAME = "CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
ANY = "text COLLATE anycase"


def test_values_that_differ_and_are_equal(policy_pair: Pair, tmp_path: Path) -> None:
    """As segmentby of a compressed chunk one of them stands for all, whoever compresses it: it stays plain.

    Where only the source takes them for equal, they must not be put together there.
    """
    pair = policy_pair
    pair.both("CREATE EXTENSION citext", SAME)
    words = "'a', 'B', 'A', 'b', NULL"
    kinds = {
        "t1": ("citext", "citext", words, "plain"),
        "t2": ("text", ANY, words, "plain"),
        "t3": (ANY, "text", words, "afterwards"),
        "t4": ("float8", "float8", "'0', '-0', '1'", "plain"),
        "t5": ("numeric", "numeric", "'1.0', '1.00', '2'", "plain"),
        "t6": ("numeric(9,2)", "numeric(9,2)", "'1.0', '1.00', '2'", "afterwards"),
    }
    for name, (here, there, values, _) in kinds.items():
        count = values.count(",") + 1
        kind = here.partition(" ")[0]
        rows = ROWS.replace("nullif(i % 7, 3)", f"(ARRAY[{values}])[1 + i % {count}]::{kind}")
        pair.on_source(f"CREATE TABLE {name} ({TEXT.format(here)})", f"INSERT INTO {name} {rows}")
        pair.on_source(f"CREATE INDEX ON {name} (time)")
        hypertable(pair, name, SEGMENTBY.format("device", "time"), TEXT.format(there))
    for name, (plan, _) in run_all(pair, tmp_path, {name: name for name in kinds}).items():
        way = kinds[name][3]
        assert ways(plan) == [way] * 6, (name, plan["landing"])
        assert "equal and not the same" in str(reasons(plan)) or way != "plain"
        assert statuses(pair, name) == [PLAIN if way == "plain" else ORDERED] * 6
        assert len(pair.same(name, "time, device, value, note", BELOW)) == 8640
    code, report, _ = pair.command("run", "t1", "--end", END, "--land", "compressed", "--again")
    assert code == 3 and "equal and not the same" in str(report["findings"])
