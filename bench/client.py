"""What the client takes: CPU for a million rows and memory of a worker, as the rows grow.

    python -m bench.client                              two minutes
    python -m bench.client --rows 1000000 50000000      half an hour, 20 GB of disk
    python -m bench.client --rows 50000 --rounds 1      a smoke run

What each run does and how it is measured: README.md in this folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bench import sizes
from bench.expected import Figure, words
from bench.measure import table
from bench.runs import Section, alone, disturbed
from bench.servers import add_options, machine_facts, now, positive


def measure(args: argparse.Namespace, folder: Path) -> Section:
    """All sizes in turn."""
    found = sizes.by_rows(args, folder)
    done = [line for line in found.lines if line["wall"]]
    figures: list[Figure] = []
    more: list[str] = []
    if done:
        last = done[-1]
        calm = 2 * last["calm"] > last["good"]
        cpu, peak = last["client_cpu_per_million"]["median"], last["worker_peak"]
        figures.append(Figure("client/cpu", cpu, last["rows"], last["good"], calm))
        if peak:
            # Memory is the same whoever disturbs.
            figures.append(Figure("client/worker", peak / 2**20, last["rows"], last["good"]))
            if done[0]["worker_peak"] and len(done) > 1:
                more.append(f"memory of a worker, largest size to smallest: {peak / done[0]['worker_peak']:.2f}")
    line = sizes.line_through(found.points("rows", "cpu"))
    if line:
        more.append(line.text("CPU of the client", 1e6, "million rows"))
    text = "\n".join(
        [
            f"Client, time and 10 float8, --jobs {args.jobs} --verify none; rounds: {args.rounds}",
            sizes.facts(found),
            "medians, CPU in seconds per million rows with all of starting, memory in MiB of the parent and a worker\n",
            table([*sizes.HEADER, ""], [[*sizes.cells(one), " ".join(one["bad"])] for one in found.lines]),
            *(words(f, full=True) for f in figures),
            *more,
        ]
    )
    data: dict[str, Any] = {"at": now(), "machine": machine_facts(), "jobs": args.jobs, "rounds": args.rounds}
    data |= sizes.as_json(found) | {"line": vars(line) if line else None}
    return Section("client", text + disturbed(found.runs), data, figures, found.good)


def parser() -> argparse.ArgumentParser:
    """Its options."""
    made = argparse.ArgumentParser(prog="python -m bench.client", description=(__doc__ or "").split("\n", 1)[0])
    made.add_argument("--rows", type=positive, nargs="+", default=[1_000_000, 5_000_000], metavar="N")
    made.add_argument("--rounds", type=positive, default=5)
    made.add_argument("--jobs", type=positive, default=2)
    add_options(made, peer=False)
    made.set_defaults(timeout=3600)
    return made


if __name__ == "__main__":
    sys.exit(alone(measure, parser().parse_args()))
