"""All benchmarks of `make bench`: the tables, one JSON file, one plot, and whether the goals are met.

    python -m bench                                 the usual sizes
    python -m bench --size smoke                    whether everything works
    python -m bench --size full                     hours: what the goals are stated for
    python -m bench --only move startup --rows 5000000 --rounds 7

What each section measures and how: README.md in this folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import client, csv_load, growth, move, startup, windows
from bench.expected import Figure, judge, summary
from bench.runs import in_folder, write_json
from bench.servers import PEER_NAME, PEER_VARIABLE, machine_facts, now, positive, say

SECTIONS: dict[str, ModuleType] = {
    "move": move,
    "csv": csv_load,
    "windows": windows,
    "startup": startup,
    "client": client,
    "growth": growth,
}

# The options of each section. Client and growth with the same rows and rounds share their runs.
_SMOKE = "--rows 10000 20000 30000 --rounds 1"
_USUAL = "--rows 500000 1000000 3000000"
_FULL = "--rows 1000000 5000000 20000000 50000000"
SIZES = {
    "smoke": {
        "move": "--rows 60000 --rounds 1 --jobs 2",
        "csv": "--rows 60000 --rounds 1 --workers 2",
        "windows": "--windows 200 --rounds 1",
        "startup": "--rounds 1",
        "client": _SMOKE,
        "growth": f"{_SMOKE} --chunk-rows 10000 --chunks 5 10 20",
    },
    "usual": {
        "move": "--jobs 2",
        "csv": "--rows 2000000 --workers 2",
        "windows": "--windows 2000",
        "startup": "",
        "client": _USUAL,
        "growth": f"{_USUAL} --chunk-rows 200000 --chunks 10 50 200",
    },
    "full": {
        "move": "--rows 10000000 --jobs 1 2 4 --verify none hash",
        "csv": "--rows 5000000",
        "windows": "--windows 100000",
        "startup": "--rounds 20",
        "client": _FULL,
        "growth": f"{_FULL} --chunk-rows 5000000 --chunks 10 100 1000",
    },
}
# What --rows may say of each section; windows, start-up and growth in chunks have sizes of another kind.
_HAVE_ROWS = ("move", "csv", "client", "growth")


def arguments(args: argparse.Namespace, name: str) -> argparse.Namespace:
    """The options of a section, as its own command would have them."""
    words = SIZES[args.size][name].split()
    if args.rows and name in _HAVE_ROWS:
        # The lines need several points; the largest is what was asked for.
        several = [-(-args.rows // 4), -(-args.rows // 2), args.rows] if name in ("client", "growth") else [args.rows]
        words += ["--rows", *map(str, several)]
    if args.rounds:
        words += ["--rounds", str(args.rounds)]
    if args.windows and name == "windows":
        words += ["--windows", str(args.windows)]
    parser: Callable[[], argparse.ArgumentParser] = SECTIONS[name].parser
    found = parser().parse_args(words)
    for given in ("peer", "psql", "dir", "source", "target"):
        if getattr(args, given) is not None:
            setattr(found, given, getattr(args, given))
    return found


def main() -> int:
    """The exit code: 1 where a run failed or was wrong, or where a ratio is clearly worse than expected."""
    args = options()
    say(f"{args.size} sizes, sections: {', '.join(args.only)}")
    figures: list[Figure] = []
    broken: list[str] = []
    whole: dict[str, Any] = {"at": now(), "machine": machine_facts(), "size": args.size, "sections": {}}
    for name in args.only:
        began = time.monotonic()
        section = in_folder(SECTIONS[name].measure, arguments(args, name))
        say(f"{name}: {time.monotonic() - began:.0f} s")
        print(f"\n== {name} ==\n{section.text}", flush=True)
        whole["sections"][name] = section.data
        figures += section.figures
        broken += [] if section.good else [name]
        whole["figures"] = [{**vars(f), "judged": judge(f).word, "worse": judge(f).worse} for f in figures]
        # After each section: hours of measuring must not hang on the last one.
        if args.json:
            write_json(args.json, whole)
    print(f"\n{summary(figures)}")
    if args.plot:
        from bench.plot import draw

        for file in draw(whole, args.plot):
            say(f"plot: {file}")
    worse = [f.name for f in figures if judge(f).worse]
    if worse:
        print(f"WORSE than expected: {', '.join(worse)}")
    if broken:
        print(f"runs failed or were wrong in: {', '.join(broken)}")
    return 1 if worse or broken else 0


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--size", choices=list(SIZES), default="usual")
    add("--only", nargs="+", type=_names, metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all")
    add("--rows", type=positive, help="of move, csv, client and growth, in place of the size's own")
    add("--rounds", type=positive, help="of every section")
    add("--windows", type=positive, help="of windows")
    add("--json", type=Path, metavar="FILE", help="write everything measured there")
    add("--plot", type=Path, metavar="DIR", help="draw bench.png and bench.svg there")
    add("--source", metavar="CONNINFO", help="an existing server, as superuser (default: embedded ones)")
    add("--target", metavar="CONNINFO", help="an existing server, as superuser (default: embedded ones)")
    add("--peer", help=f"{PEER_NAME} (default: {PEER_VARIABLE}, or the one on PATH)")
    add("--psql", help="the psql to use (default: the servers' own, or the one on PATH)")
    add("--dir", type=Path, help="where files and servers go (default: a temporary folder)")
    args = parser.parse_args()
    chosen = {name for names in args.only or [] for name in names} or set(SECTIONS)
    args.only = [name for name in SECTIONS if name in chosen]
    return args


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"no section is called {', '.join(unknown)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
