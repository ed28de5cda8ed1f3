"""Rounds of random faults: `python -m tests.faults.rounds --rounds N --seed S`; one round is one seed.

A round makes tables on two servers, starts an application that writes to both, runs one `hyperfill run` again and
again while one to three things go wrong, and ends when it has ended with 0: then everything must be as promised.
What is chosen comes from the seed; at which moment of the run it happens is only as repeatable as the machine.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from hyperfill.sandbox import create_server
from tests.conftest import pytest_configure
from tests.faults import checks, scenery
from tests.faults.application import Application
from tests.faults.harm import FAULTS, Fault, TooLate, Victim
from tests.faults.runs import Run
from tests.fixtures import scenes
from tests.fixtures.community import policy_database
from tests.fixtures.servers import SETTINGS, Servers, fresh_database, make_template

_MAX_RUNS = 6
# Longer than a window is tried again: whoever takes more than that hangs.
_RUN_SECONDS = 180.0


@dataclass
class Harm:
    """A fault of a round: what was seen of it, and how the run ended to which it was done."""

    fault: str
    said: str
    done: bool
    code: int | None = None


@dataclass
class Result:
    """What became of a round; `problems` is empty if everything was as promised."""

    seed: int
    policies: bool
    scene: str = ""
    harm: list[Harm] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)  # errors that the application got, by SQLSTATE
    slowest: float = 0.0  # seconds of the application's slowest INSERT
    seconds: float = 0.0


@contextlib.contextmanager
def two_servers(base: Path) -> Iterator[Servers]:
    """A source and a target for all rounds, that may be stopped."""
    made = []
    try:
        for name in ("source", "target"):
            server = create_server(base / name, settings=SETTINGS)
            made.append(server)
            server.start()
            make_template(server, timescaledb=name == "target")
        yield Servers(*made)
    finally:
        for server in made:
            server.remove()


class Round:
    """One round. `servers` are running before and after it, and `base` is an empty folder for what the runs say."""

    def __init__(
        self, seed: int, servers: Servers, base: Path, *, policies: bool = False, faults: Sequence[Fault] = FAULTS
    ) -> None:
        self.servers, self.base, self.faults = servers, base, faults
        self.result = Result(seed, policies)
        self.rng = random.Random(seed)
        self.runs: list[Run] = []
        self.harmed: list[tuple[Harm, Run]] = []
        self.terminal = False
        self.scene: scenery.Scene
        self.before: checks.Before

    def play(self) -> Result:
        """Play it; never raises for what it finds."""
        result, began = self.result, time.monotonic()
        try:
            with contextlib.ExitStack() as stack:
                enter = contextlib.contextmanager(fresh_database)
                source = stack.enter_context(enter(self.servers.source, "source"))
                if result.policies:
                    target = stack.enter_context(contextlib.contextmanager(policy_database)())
                else:
                    target = stack.enter_context(enter(self.servers.target, "target"))
                stack.callback(self._end)
                self.scene = scenery.choose(self.rng, result.seed, source, target, policies=result.policies)
                faults = self.rng.sample(self.faults, min(self.rng.choice([1, 2, 2, 3]), len(self.faults)))
                result.scene = str(self.scene)
                scenery.make(self.scene, self.rng)
                self.before = checks.Before(self.scene)
                with Application(self.scene) as application:
                    self._go(faults)
                result.lost, result.slowest = dict(application.errors), round(application.slowest, 3)
                result.problems += checks.problems(self.before, application, self.runs)
        except Exception as error:
            result.problems.append(f"{type(error).__name__}: {str(error)[:600]}")
        result.harm = [harm for harm, _ in self.harmed]
        result.seconds = round(time.monotonic() - began, 1)
        return result

    def _end(self) -> None:
        for run in self.runs:
            run.end()

    def _start(self) -> Run:
        self.before.look()
        run = Run.begin(self.base, len(self.runs) + 1, self.scene.command(), terminal=self.terminal)
        self.runs.append(run)
        return run

    def _go(self, faults: list[Fault]) -> None:
        run: Run | None = None
        self.terminal = any(fault.terminal for fault in faults)
        for number, fault in enumerate(faults):
            # Numbers of its own: how many are drawn depends on what it finds.
            rng = random.Random(f"{self.result.seed}/{number}")
            if run is None or not run.alive:
                if run is not None and self._ended() == 0:
                    return
                run = self._start()
            self._wait(run, rng)
            victim = Victim(
                run,
                self.scene,
                rng,
                self.servers.source,
                None if self.scene.policies else self.servers.target,
                self._start,
            )
            harm = Harm(fault.name, "", done=run.alive)
            self.harmed.append((harm, run))
            if harm.done:
                run.expected |= fault.codes
                try:
                    harm.said = fault.act(victim)
                except TooLate:
                    harm.done = False
            if fault.deadly or rng.random() < 0.5:
                self._ended()
            run = next((r for r in self.runs if r.alive), run)
        self.terminal = False
        while self._ended() != 0:
            if len(self.runs) > _MAX_RUNS:
                raise AssertionError(f"not done after {len(self.runs)} runs: {self.result.codes}")
            self._start()

    def _ended(self) -> int:
        """Wait for all runs. The exit code: 0 if one of those that were new has done it."""
        known = len(self.result.codes)
        for run in self.runs[known:]:
            code = run.wait(_RUN_SECONDS)
            self.result.codes.append(code)
            if code not in run.expected:
                self.result.problems.append(
                    f"{run.folder.name} ended with {code}, not {sorted(run.expected)}: ...{run.stderr[-1500:]}"
                )
        for harm, run in self.harmed:
            harm.code = run.process.returncode if harm.code is None else harm.code
        new = self.result.codes[known:] or self.result.codes[-1:]
        return 0 if 0 in new else new[-1]

    def _wait(self, run: Run, rng: random.Random) -> None:
        """Until a moment: of its start, between windows and inside of them, of its end."""
        kind, more, pause = rng.random(), rng.randint(1, 6), rng.random()
        if kind < 0.25:
            time.sleep(max(0.0, run.began + 0.05 + 1.5 * pause - time.monotonic()))
            return
        done = self._done()[0]
        deadline = time.monotonic() + _RUN_SECONDS
        while run.alive and time.monotonic() < deadline:
            now, total = self._done()
            if (total and now == total) or (kind < 0.85 and now >= done + more):
                break
            time.sleep(0.01)
        time.sleep(0.35 * pause if kind < 0.85 else 0.5 * pause * pause)

    def _done(self) -> tuple[int, int]:
        """Windows that are done, and all."""
        with contextlib.suppress(psycopg.Error):
            if scenes.has_ledger(self.scene.target):
                counts = "SELECT count(*) FILTER (WHERE state = 'done'), count(*) FROM hyperfill.windows"
                done, total = scenes.rows(self.scene.target, counts)[0]
                return int(done), int(total)
        return 0, 0


def table(results: list[Result]) -> str:
    """Each fault: how often it was tried, how the runs ended to which it was done, on what."""
    lines = [f"{'fault':<50} {'tried':>5} {'late':>4}  runs ended with (times), of which"]
    for fault in FAULTS:
        harm = [h for r in results for h in r.harm if h.fault == fault.name]
        done = [h for h in harm if h.done]
        codes = collections.Counter(str(h.code) for h in done)
        said = collections.Counter(h.said for h in done if h.said)
        ends = ", ".join(f"{code} ({count})" for code, count in sorted(codes.items()))
        what = "; ".join(f"{text} {count}" for text, count in sorted(said.items()))
        lines.append(f"{fault.name:<50} {len(done):>5} {len(harm) - len(done):>4}  {ends}{'; ' + what if what else ''}")
    return "\n".join(lines)


def main() -> int:
    """Play rounds, print a table; 1 if something was not as promised."""
    parser = argparse.ArgumentParser(prog="tests.faults.rounds", description="Rounds of random faults.")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="of the first round; the next has the next number")
    parser.add_argument("--json", type=Path, help="a file for all results")
    parser.add_argument("--policies", action="store_true", help="play on the server of HYPERFILL_TEST_COMMUNITY")
    parser.add_argument("--only", default="", help="only faults whose names have these words in them")
    chosen = parser.parse_args()
    faults = [fault for fault in FAULTS if chosen.only in fault.name]
    if not faults:
        parser.error(f"no fault is called that; there are: {', '.join(f.name for f in FAULTS)}")
    pytest_configure()
    first = random.randrange(10**6) if chosen.seed is None else chosen.seed
    print(f"seed {first}, {chosen.rounds} rounds", flush=True)
    results: list[Result] = []
    kinds = [chosen.policies] * chosen.rounds
    if "HYPERFILL_TEST_COMMUNITY" in os.environ and not chosen.policies:
        kinds += [True] * max(1, chosen.rounds // 5)
    base = Path(tempfile.mkdtemp(prefix="hyperfill-rounds-"))
    try:
        with two_servers(base) as servers:
            for number, policies in enumerate(kinds):
                seed = first + number
                result = Round(seed, servers, base / f"seed-{seed}", policies=policies, faults=faults).play()
                results.append(result)
                _say(result)
                if chosen.json:
                    chosen.json.write_text(json.dumps([dataclasses.asdict(r) for r in results], indent=1))
                if result.problems:
                    print(f"  what its runs said is in {base / f'seed-{seed}'}")
                else:
                    shutil.rmtree(base / f"seed-{seed}")
    finally:
        # What rounds with problems said stays.
        with contextlib.suppress(OSError):
            base.rmdir()
    bad = [r for r in results if r.problems]
    runs = sum(len(r.codes) for r in results)
    slowest = max((r.slowest for r in results), default=0.0)
    print(f"\n{table(results)}\n")
    print(f"{len(results)} rounds, {runs} runs, {len(bad)} rounds with problems {[r.seed for r in bad]}")
    print(f"slowest INSERT of the application: {slowest} s")
    return 1 if bad else 0


def _say(result: Result) -> None:
    harm = ", ".join(
        f"{h.fault}{f' [{h.said}]' if h.said else ''}{'' if h.done else ' (too late)'}" for h in result.harm
    )
    where = " --policies" if result.policies else ""
    print(f"{'ok  ' if not result.problems else 'BAD '} --seed {result.seed}{where}: {result.scene}")
    print(f"     {harm}; exit codes {result.codes}; {result.seconds} s, application {result.lost} {result.slowest} s")
    for problem in result.problems:
        print(f"  !! {problem}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
