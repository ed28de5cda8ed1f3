"""A ledger that a newer hyperfill has written is left alone, by every command that would use it."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import arguments, execute, make_metrics

ONLY_TARGET = {
    "status": ["status"],
    "status --watch": ["status", "--watch"],
    "clean": ["clean"],
    "report": ["report", "--backfill", "1", "--out", "page.md"],
    "policies show": ["policies", "show", "--hypertable", "metrics"],
    "policies hold": ["policies", "hold", "--hypertable", "metrics"],
    "policies release": ["policies", "release", "--hypertable", "metrics"],
}
BOTH = ["run", "plan", "repair"]


def state(target: str) -> list[tuple[object, ...]]:
    return scenes.rows(target, "SELECT b::text FROM hyperfill.backfills AS b") + scenes.physical(target)


def test_every_command_refuses_it(source_db: str, target_db: str, hyperfill: Hyperfill, tmp_path: Path) -> None:
    make_metrics(source_db, target_db, overlap=20)
    assert hyperfill("run", *arguments(source_db, target_db)).returncode == 0
    (tmp_path / "a.csv").write_text("2024-01-01 00:00:00+00,1,1,x\n")
    execute(target_db, "UPDATE hyperfill.ledger SET version = version + 1")
    before = state(target_db)
    commands = {name: [*words, "--target", target_db] for name, words in ONLY_TARGET.items()}
    commands |= {name: [name, *arguments(source_db, target_db)] for name in BOTH}
    again = [*arguments(source_db, target_db), "--again", "--replace"]
    commands["run --again --replace"] = ["run", *again]
    commands["load"] = ["load", "--target", target_db, "--hypertable", "metrics", str(tmp_path / "a.csv")]
    for name, words in commands.items():
        ended = hyperfill(*words)
        assert ended.returncode == 3, (name, ended.returncode, ended.stdout, ended.stderr)
        said = ended.stderr + ended.stdout
        assert "was written by a newer hyperfill: its version is 2, and this one knows 1" in said, (name, said)
        assert "Traceback" not in said
    # What writes nothing, and needs no ledger, can do without.
    assert hyperfill("verify", *arguments(source_db, target_db)).returncode == 0
    assert state(target_db) == before
