"""An edition that does not compress: nothing is, and the plan says so."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures.landing import COLUMNS, END, ROWS
from tests.fixtures.pair import Pair

APACHE = "the Apache edition of TimescaleDB does not compress"


def make(pair: Pair) -> None:
    pair.both(f"CREATE TABLE m ({COLUMNS})")
    pair.on_source(f"INSERT INTO m {ROWS}", "CREATE INDEX ON m (time)", "ANALYZE m")
    pair.on_target("SELECT create_hypertable('m', 'time', chunk_time_interval => interval '1 day')")


def test_compressed_is_refused(pair: Pair) -> None:
    make(pair)
    assert pair.refused("m", "--end", END, "--land", "compressed") == {"land"}
    _, report, _ = pair.command("run", "m", "--end", END, "--land", "compressed")
    [finding] = [f for f in report["findings"] if f["code"] == "land"]
    assert finding["message"] == f"--land compressed: {APACHE}"
    assert "--land auto" in finding["hint"]


def test_auto_is_plain_and_says_why(pair: Pair) -> None:
    make(pair)
    landing = pair.plan("m", "--end", END)["landing"]
    assert (landing["land"], landing["written"], landing["afterwards"], landing["plain"]) == ("auto", 0, 0, 6)
    assert [c["lower"][:10] for c in landing["chunks"]] == [f"2024-01-0{day}" for day in range(1, 7)]
    assert {c["reason"] for c in landing["chunks"]} == {APACHE}
    assert sum(c["rows_estimated"] for c in landing["chunks"]) > 8000
    shown = pair.hyperfill(
        "plan", "--source", pair.source_conninfo, "--target", pair.target_conninfo, "--table", "m", "--end", END
    )
    assert f"chunks plain: 6 ({APACHE})" in shown.stdout
    assert "landed" not in pair.run("m", "--end", END)
    assert len(pair.same("m", "time, device, value, note", f"time < '{END}'")) == 8640
    assert pair.query(pair.target, "SELECT count(*) FROM hyperfill.conversions") == [(0,)]


def test_a_dump(pair: Pair, tmp_path: Path) -> None:
    make(pair)
    out = str(tmp_path / "d")
    done = pair.hyperfill("dump", "--source", pair.source_conninfo, "--table", "m", "--end", END, "--out", out)
    assert done.returncode == 0, done.stderr
    load = ("load", "--target", pair.target_conninfo, "--jobs", "1", out)
    refused = pair.hyperfill(*load, "--land", "compressed")
    assert refused.returncode == 3 and APACHE in refused.stderr + refused.stdout
    done = pair.hyperfill(*load)
    assert done.returncode == 0, done.stderr
    assert len(pair.same("m", "time, device, value, note", f"time < '{END}'")) == 8640
