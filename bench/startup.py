"""What starting takes: Python alone, `--help`, a run with nothing to do, and what is imported before it is used.

    python -m bench.startup               half a minute
    python -m bench.startup --rounds 2    a smoke run

What each run does and how it is measured: README.md in this folder.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.expected import words
from bench.measure import Ran, alternate, table
from bench.runs import Run, Section, alone, disturbed, figure, measured, mebibytes, numbers, summarize
from bench.servers import End, add_options, machine_facts, now, pair, positive, say
from bench.shapes import SHAPES, START, bound, hypertable, make_source

# Packages that cost so much that nobody may pay for them who does not use them.
HEAVY = ("psycopg", "rich", "pyarrow", "numpy", "pgpq", "matplotlib", "jinja2", "multiprocessing", "asyncio")
_TOP = 15
_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|(\s*)(\S+)")


def commands(source: End, target: End) -> dict[str, list[str]]:
    """What is started."""
    own = [sys.executable, "-m", "hyperfill"]
    start = bound(START)
    moved = ["--table", "public.m", "--start", start, "--end", start, "--json"]
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        "hyperfill --help": [*own, "--help"],
        "hyperfill run --help": [*own, "run", "--help"],
        "run of an empty range": [*own, "run", "--source", source.conninfo, "--target", target.conninfo, *moved],
    }


def imports(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """What a command imports: how many modules, which heavy packages, and where the time goes (microseconds)."""
    ran = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = [m.groups() for line in ran.stderr.splitlines() if (m := _LINE.match(line))]
    names = [name for *_, name in found]
    packages = {name.partition(".")[0] for name in names}
    by_self = sorted(((int(own), name) for own, _, _, name in found), reverse=True)
    by_all = sorted(((int(everything), name) for _, everything, _, name in found), reverse=True)
    return {
        "modules": len(names),
        "heavy": [name for name in HEAVY if name in packages],
        "total_us": sum(own for own, _ in by_self),
        "own_us": {name: own for own, name in by_self[:_TOP]},
        "with_what_they_import_us": {name: everything for everything, name in by_all[:_TOP]},
    }


def measure(args: argparse.Namespace, folder: Path) -> Section:
    """All commands in turn."""
    runs: list[Run] = []
    with pair(args, folder) as (source, target, environment):
        make_source(source.connection, SHAPES["narrow"], timedelta(seconds=1), 1000)
        hypertable(target.connection, "m", SHAPES["narrow"], timedelta(days=1))
        # A file that Python compiles anew each time is no start-up that a user has.
        environment = {**environment, "PYTHONDONTWRITEBYTECODE": ""}
        known = commands(source, target)

        def check(ran: Ran) -> tuple[int, str]:
            return 0, "FAILED" if ran.exit_code else "ok"

        for number, name in [*((-1, n) for n in known), *alternate(list(known), args.rounds)]:
            done = measured(
                name, number, known[name], environment, args.timeout, source=source, target=target, check=check
            )
            if number >= 0:
                runs.append(done)
            if done.verdict != "ok":
                say(f"startup: {done.line()}")
        imported = {name: imports(command, environment) for name, command in known.items()}
    lines = [summarize(name, runs, 1_000_000, {"python": "python -c pass"}) for name in known]
    rows, figures = [], []
    for line in lines:
        name, seen = line["contender"], imported[line["contender"]]
        judged = figure("startup/help", line["wall"], args.rounds, line) if name == "hyperfill --help" else []
        figures += judged
        cells = [name, *numbers(line["wall"], 3), numbers(line["client_cpu_per_million"], 3)[0]]
        cells += [mebibytes(line["parent_peak"]), str(seen["modules"]), f"{seen['total_us'] / 1000:.0f}"]
        failed = line["runs"] - line["good"]
        remark = f"{failed} FAILED" if failed else "; ".join(words(f) for f in judged)
        rows.append([*cells, " ".join(seen["heavy"]) or "-", remark])
    header = ("", "wall s", "min", "max", "CPU", "MiB", "modules", "import ms", "heavy ones", "")
    text = f"Start-up; rounds: {args.rounds}; medians in seconds\n\n{table(header, rows)}{disturbed(runs)}"
    data: dict[str, Any] = {"at": now(), "machine": machine_facts(), "rounds": args.rounds, "summary": lines}
    data |= {"imports": imported, "runs": [asdict(r) for r in runs]}
    return Section("startup", text, data, figures, all(r.verdict == "ok" for r in runs))


def parser() -> argparse.ArgumentParser:
    """Its options."""
    made = argparse.ArgumentParser(prog="python -m bench.startup", description=(__doc__ or "").split("\n", 1)[0])
    made.add_argument("--rounds", type=positive, default=10)
    add_options(made, peer=False)
    made.set_defaults(timeout=60)
    return made


if __name__ == "__main__":
    sys.exit(alone(measure, parser().parse_args()))
