"""Where chunks are, one by one: the same as the view says of all of them."""

from __future__ import annotations

import pytest

from hyperfill import catalog
from hyperfill.places import Places
from hyperfill.session import connect
from hyperfill.timeline import Span
from tests.fixtures.pair import Pair

pytestmark = pytest.mark.community

AXES = {
    "timestamptz": ("interval '1 day'", "'1969-12-30Z'::timestamptz + i * interval '9 hours'"),
    "timestamp": ("interval '1 day'", "'1969-12-30'::timestamp + i * interval '9 hours'"),
    "date": ("interval '3 days'", "'1969-12-30'::date + i"),
    "smallint": ("10", "(i - 5) * 3"),
    "bigint": ("1000", "(i - 5) * 300::bigint"),
}


@pytest.mark.parametrize("kind", AXES)
@pytest.mark.parametrize("spaces", [0, 3])
def test_the_same_as_the_view(policy_pair: Pair, kind: str, spaces: int) -> None:
    interval, value = AXES[kind]
    policy_pair.on_target(
        f'CREATE TABLE "M m" ("T" {kind} NOT NULL, device int)',
        f"SELECT create_hypertable('\"M m\"', 'T', chunk_time_interval => {interval})",
        *([f"SELECT add_dimension('\"M m\"', 'device', {spaces})"] if spaces else []),
        f'INSERT INTO "M m" SELECT {value}, i FROM generate_series(1, 12) AS i',
    )
    with connect(policy_pair.target_conninfo, "target") as connection:
        server = catalog.read_server(connection)
        relation = catalog.resolve(connection, 'public."M m"', "target", "--hypertable")
        hypertable = catalog.read_hypertable(connection, server, relation)
        places = Places(hypertable)
        everything = Span(None, hypertable.time_type.maximum + 1)
        for _ in range(2):  # looked up, and remembered
            seen = {(c.oid, c.schema, c.name, c.lower, c.upper) for c in places.chunks_in(connection, everything)}
            told = catalog.read_chunks(connection, relation, hypertable.time_type)
            assert seen == {(c.oid, c.schema, c.name, c.lower, c.upper) for c in told}
            assert len(seen) > 2
            for chunk in told:
                assert chunk.lower is not None
                here = places.chunks_in(connection, Span(chunk.lower, chunk.lower + 1))
                assert {c.oid for c in here} == {c.oid for c in told if c.lower == chunk.lower}
            connection.execute(f"DROP TABLE {told[0].schema}.{told[0].name}")
