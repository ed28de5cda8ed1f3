"""What is altered between the plan and the landing of chunks: nothing is claimed sorted, or compressed, that is not."""

from __future__ import annotations

import pytest

from tests.fixtures.landing import END, ORDERED, PLAIN, assert_landed, make, statuses
from tests.fixtures.pair import Pair

pytestmark = pytest.mark.community

BELOW = f"time < '{END}'"
SETTINGS = "timescaledb.compress_segmentby = 'device', timescaledb.compress_orderby = '{}'"


def planned(pair: Pair, options: tuple[str, ...]) -> None:
    """The plan is in the ledger, and hardly a window is done."""
    code, report, errors = pair.command("run", "m", *options, "--jobs", "1", "--max-duration", "1ms")
    assert code == 4, errors
    assert report["windows"]["done"] < report["windows"]["total"] - 3


@pytest.mark.parametrize("orderby", ["value, time", "time DESC"])
def test_chunks_become_longer(policy_pair: Pair, orderby: str) -> None:
    """Chunks that are made later hold several windows, or the end of the range: neither sorted nor compressed."""
    pair = policy_pair
    make(pair, SETTINGS.format(orderby))
    options = ("--end", END, "--land", "compressed")
    planned(pair, options)
    before = statuses(pair)
    pair.on_target("SELECT set_chunk_time_interval('m', interval '4 days')")
    report = pair.run("m", *options, jobs=1)
    after = statuses(pair)
    assert after[: len(before)] == before
    assert set(after[len(before) :]) == {PLAIN}
    assert report["landed"]["left"] > 0
    told = [f for f in report["findings"] if f["code"] == "land" and f["severity"] == "warning"]
    assert len(told) == report["landed"]["left"]
    assert_landed(pair, where=BELOW)


def test_chunks_become_shorter(policy_pair: Pair) -> None:
    """Several in one stretch: each has its rows in order."""
    pair = policy_pair
    make(pair, SETTINGS.format("value, time"))
    options = ("--end", END, "--land", "compressed")
    planned(pair, options)
    pair.on_target("SELECT set_chunk_time_interval('m', interval '6 hours')")
    pair.run("m", *options, jobs=2)
    assert set(statuses(pair)) == {ORDERED}
    assert len(statuses(pair)) > 6
    assert_landed(pair, where=BELOW)


def test_other_settings_meanwhile(policy_pair: Pair) -> None:
    """Each chunk is sorted as it is kept, not as the hypertable says when its window comes."""
    pair = policy_pair
    make(pair, SETTINGS.format("value, time"))
    options = ("--end", END, "--land", "compressed")
    planned(pair, options)
    pair.on_target(f"ALTER TABLE m SET (timescaledb.compress, {SETTINGS.format('note DESC, time')})")
    report = pair.run("m", *options, jobs=2)
    assert report["landed"]["left"] == 0
    assert set(statuses(pair)) == {ORDERED}
    assert_landed(pair, where=BELOW)


def test_chunk_skipping(policy_pair: Pair) -> None:
    """The ranges by which chunks are left out are computed by compress_chunk(): written chunks would have none."""
    pair = policy_pair
    make(pair, on_target=("SET timescaledb.enable_chunk_skipping = on", "SELECT enable_chunk_skipping('m', 'device')"))
    report = pair.run("m", "--end", END)
    assert report["landed"]["written"] == 0
    assert report["landed"]["afterwards"] == 6
    assert_landed(pair, where=BELOW)


def test_partitions_that_appear_after_other_settings(policy_pair: Pair) -> None:
    """The chunks of partitions that had none are made by the COPY, with the settings of that moment."""
    pair = policy_pair
    make(
        pair,
        SETTINGS.format("time"),
        on_target=("SELECT add_dimension('m', 'device', number_partitions => 4)",),
    )
    pair.on_target(
        "INSERT INTO m SELECT '2024-01-01Z'::timestamptz + i * interval '1 day', 1 FROM generate_series(0, 5) AS i",
        "SELECT compress_chunk(c) FROM show_chunks('m') AS c",
        f"ALTER TABLE m SET (timescaledb.compress, {SETTINGS.format('value, time')})",
    )
    pair.run("m", "--end", END, "--land", "compressed", jobs=2)
    assert set(statuses(pair)) == {ORDERED}
    assert_landed(pair, where=BELOW)


def test_segmentby_that_the_server_chooses(policy_pair: Pair) -> None:
    """By statistics: without them its choice would be a poor one for good, and is left to the policy."""
    pair = policy_pair
    make(pair, "timescaledb.compress, ", on_target=("CREATE INDEX ON m (device, time)",))
    assert {one["way"] for one in pair.plan("m", "--end", END)["landing"]["chunks"]} == {"plain"}
    pair.on_target(
        "INSERT INTO m SELECT '2024-02-01Z', i % 5 FROM generate_series(1, 100) AS i", "ANALYZE m", "ANALYZE m"
    )
    report = pair.run("m", "--end", END)
    assert report["landed"] == {"written": 0, "afterwards": 6, "left": 0}
    chosen = "SELECT DISTINCT segmentby FROM timescaledb_information.chunk_columnstore_settings"
    assert pair.query(pair.target, chosen) == [("device",)]
    assert_landed(pair, where=BELOW)


@pytest.mark.long
def test_values_that_fit_into_no_compressed_row(policy_pair: Pair) -> None:
    """A thousand of a megabyte: the window is written plain, and what cannot be compressed is named."""
    pair = policy_pair
    rows = "SELECT '2024-01-02Z'::timestamptz + i * interval '1 second', 1, 1, repeat(md5(i::text), 34500)"
    make(pair, rows=f"{rows} FROM generate_series(1, 1000) AS i")
    code, report, errors = pair.command("run", "m", "--end", END, "--jobs", "1")
    assert (code, report["rows_copied"]) == (0, 1000), errors
    assert "could not be written compressed" in errors
    assert [f["code"] for f in report["findings"] if f["severity"] == "warning"] == ["land"]
