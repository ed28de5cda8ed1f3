"""`hyperfill sandbox start|status|stop`, as a subprocess."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import psycopg

from tests.fixtures.cli import Hyperfill


def test_start_status_stop(hyperfill: Hyperfill, tmp_path: Path) -> None:
    home = tmp_path / "sandbox"
    env = {"HYPERFILL_SANDBOX_DIR": str(home)}

    found = hyperfill("sandbox", "status", "--json", env=env)
    assert (found.returncode, json.loads(found.stdout)) == (0, {"state": "stopped"})
    try:
        started = hyperfill("sandbox", "start", env=env)
        assert started.returncode == 0, started.stderr
        # Words that a shell can evaluate, and nothing else on stdout.
        lines = [shlex.split(line) for line in started.stdout.splitlines()]
        assert [words[0] for words in lines] == ["export", "export"]
        given = dict(word.split("=", 1) for _, word in lines)
        for name, extensions in (("HYPERFILL_SOURCE", 0), ("HYPERFILL_TARGET", 1)):
            with psycopg.connect(given[name]) as connection:
                row = connection.execute("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
                assert row == (extensions,)
        shown = json.loads(hyperfill("sandbox", "status", "--json", env=env).stdout)
        assert shown == {
            "state": "running",
            "source": given["HYPERFILL_SOURCE"],
            "target": given["HYPERFILL_TARGET"],
        }
        assert hyperfill("sandbox", "status", env=env).stdout == started.stdout
        again = hyperfill("sandbox", "start", env=env)
        assert again.stdout == started.stdout
    finally:
        stopped = hyperfill("sandbox", "stop", env=env)
    assert stopped.returncode == 0
    assert stopped.stdout == ""
    assert not home.exists()
    assert json.loads(hyperfill("sandbox", "stop", "--json", env=env).stdout) == {"state": "stopped"}
