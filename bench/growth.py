"""Rows per second as rows and chunks grow: a straight line, or not.

    python -m bench.growth                                                five minutes
    python -m bench.growth --rows 1000000 10000000 50000000 --chunks 10 100 1000     half an hour, 20 GB of disk
    python -m bench.growth --rows 20000 40000 60000 --chunk-rows 20000 --chunks 5 10 15 --rounds 1    a smoke run

What each run does and how it is measured: README.md in this folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bench import sizes
from bench.measure import table
from bench.runs import Section, alone, disturbed
from bench.servers import add_options, machine_facts, now, positive


def measure(args: argparse.Namespace, folder: Path) -> Section:
    """Rows first, then chunks."""
    rows = sizes.by_rows(args, folder / "rows")
    chunks = sizes.by_chunks(args, folder / "chunks")
    data: dict[str, Any] = {"at": now(), "machine": machine_facts(), "jobs": args.jobs, "rounds": args.rounds}
    texts = [
        f"Growth, time and 10 float8, --jobs {args.jobs} --verify none; rounds: {args.rounds}",
        sizes.facts(rows),
        "medians, CPU in seconds per million rows, memory in MiB of the parent and a worker",
    ]
    for name, found, per, each in (("rows", rows, 1e6, "million rows"), ("chunks", chunks, 1.0, "chunk")):
        line = sizes.line_through(found.points(name, "wall"))
        texts.append("\n" + table([*sizes.HEADER, ""], [[*sizes.cells(o), " ".join(o["bad"])] for o in found.lines]))
        texts.append(line.text(f"wall over {name}", per, each) if line else f"wall over {name}: too few sizes")
        texts.append(disturbed(found.runs).strip())
        data[name] = sizes.as_json(found) | {"line": vars(line) if line else None}
    return Section("growth", "\n".join(text for text in texts if text), data, [], rows.good and chunks.good)


def parser() -> argparse.ArgumentParser:
    """Its options."""
    made = argparse.ArgumentParser(prog="python -m bench.growth", description=(__doc__ or "").split("\n", 1)[0])
    add = made.add_argument
    add("--rows", type=positive, nargs="+", default=[500_000, 1_000_000, 2_000_000], metavar="N")
    add("--chunks", type=positive, nargs="+", default=[10, 100, 1000], metavar="N")
    add("--chunk-rows", type=positive, default=500_000, metavar="N", help="rows in which chunks grow")
    add("--rounds", type=positive, default=5)
    add("--jobs", type=positive, default=2)
    add_options(made, peer=False)
    made.set_defaults(timeout=3600)
    return made


if __name__ == "__main__":
    sys.exit(alone(measure, parser().parse_args()))
