"""Ten rounds of random faults; HYPERFILL_FAULT_ROUNDS says how many. Each is a seed that can be played again:
`python -m tests.faults.rounds --rounds 1 --seed SEED`, and `--policies` for those of the community edition."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults import checks
from tests.faults.application import Application
from tests.faults.rounds import Round, two_servers
from tests.faults.runs import Run
from tests.fixtures import scenes
from tests.fixtures.servers import Servers

ROUNDS = int(os.environ.get("HYPERFILL_FAULT_ROUNDS", "10"))
# The same seeds every time, so that a change that breaks something is told from bad luck; `make faults` takes others.
SEEDS = random.Random(int(os.environ.get("HYPERFILL_FAULT_SEED", "1"))).sample(range(10**6), ROUNDS + 3)


@pytest.fixture(scope="module")
def mortal_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that may be stopped; those of the session are other tests' as well."""
    with two_servers(tmp_path_factory.mktemp("mortal")) as servers:
        yield servers


@pytest.mark.parametrize("seed", SEEDS[:ROUNDS])
def test_a_round_of_faults(seed: int, mortal_servers: Servers, tmp_path: Path) -> None:
    result = Round(seed, mortal_servers, tmp_path).play()
    print(result)
    assert result.problems == []
    assert 0 in result.codes


@pytest.mark.community
@pytest.mark.parametrize("seed", SEEDS[ROUNDS : ROUNDS + 2])
def test_a_round_of_faults_with_policies(seed: int, mortal_servers: Servers, tmp_path: Path) -> None:
    result = Round(seed, mortal_servers, tmp_path, policies=True).play()
    print(result)
    assert result.problems == []


def test_a_round_sees_what_is_wrong(mortal_servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks themselves: a row that is there twice, one from T on that was written again or is
    missing on the source, a ledger that is not done, a table left behind."""
    found = checks.problems

    def spoiled(before: checks.Before, application: Application, runs: Sequence[Run]) -> list[str]:
        scene = before.scene
        scenes.execute(
            scene.target,
            f"INSERT INTO m (time, n, device, value, note) SELECT time, -n, device, value, note FROM m "
            f"WHERE {scene.inside} LIMIT 1",
            "UPDATE m SET note = note WHERE n = -100",
            "UPDATE hyperfill.backfills SET phase = 'verified'",
            "CREATE TABLE left_behind ()",
        )
        scenes.execute(scene.source, "DELETE FROM m WHERE n = -101")
        return found(before, application, runs)

    monkeypatch.setattr(checks, "problems", spoiled)
    result = Round(SEEDS[-1], mortal_servers, tmp_path).play()
    text = "\n".join(result.problems)
    for what in ("target, below T", "target, from T on", "written again", "the ledger's backfills", "objects on the"):
        assert what in text, (result.seed, text)
