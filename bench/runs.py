"""A command measured on the servers that it works on, what several of them come to, and one table for all sections."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.expected import Figure, judge, words
from bench.measure import Ran, Spread, machine_cpu, ratios, run, table
from bench.servers import End, wait_for_clients


@dataclass(frozen=True)
class Run:
    """One measured run. Seconds and bytes; None is what could not be measured here."""

    round: int
    contender: str
    wall: float
    source_cpu: float | None
    target_cpu: float | None
    client_cpu: float
    client_peak: int | None  # all its processes together
    parent_peak: int | None
    worker_peak: int | None  # the largest of its other processes
    other_cpu: float | None  # of everything else on the machine meanwhile
    rows: int
    verdict: str  # ok, WRONG (rows or their content) or FAILED
    said: str = ""

    @property
    def disturbed(self) -> bool:
        """Whether others took more than a tenth of a core."""
        return self.other_cpu is not None and self.other_cpu > 0.05 + 0.1 * self.wall

    def line(self) -> str:
        """What is said of it as soon as it is over."""
        cpus = [f"{name} {value:.2f}" for name, value in self._cpus() if value is not None]
        text = f"{self.contender}: {self.wall:.2f} s, CPU {' '.join(cpus)}"
        return text if self.verdict == "ok" else f"{text}\n  {self.verdict}, {self.rows} rows: {self.said}"

    def _cpus(self) -> list[tuple[str, float | None]]:
        mine = [("source", self.source_cpu), ("target", self.target_cpu)]
        return [*mine, ("client", self.client_cpu), ("other", self.other_cpu)]


def measured(
    name: str,
    number: int,
    command: Sequence[str],
    environment: Mapping[str, str],
    timeout: float,
    *,
    target: End,
    check: Callable[[Ran], tuple[int, str]],
    source: End | None = None,
    but: Sequence[int] = (),
) -> Run:
    """Run a command once; `check` says how many rows it left and whether they are right.

    CPU of the servers is taken until the command's backends are gone; `but` are backends that stay.
    """
    ends = [e for e in (source, target) if e is not None]
    busy = machine_cpu()
    before = [e.cpu.seconds() if e.cpu else 0.0 for e in ends]
    ran = run(command, environment, timeout)
    for e in ends:
        wait_for_clients(e.connection, but)
    used = [e.cpu.seconds() - was if e.cpu else None for e, was in zip(ends, before, strict=True)]
    busy = machine_cpu() - busy
    rows, verdict = check(ran)
    known = [value for value in used if value is not None]
    return Run(
        round=number,
        contender=name,
        wall=ran.wall,
        source_cpu=used[0] if source else None,
        target_cpu=used[-1],
        client_cpu=ran.cpu,
        client_peak=ran.peak,
        parent_peak=ran.parent_peak,
        worker_peak=ran.worker_peak,
        other_cpu=max(0.0, busy - sum(known) - ran.cpu) if len(known) == len(used) else None,
        rows=rows,
        verdict=verdict,
        said="" if verdict == "ok" else ran.said,
    )


@dataclass
class Section:
    """What a section has found: its tables as text, everything for the JSON file, what there is to be judged."""

    name: str
    text: str
    data: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)
    good: bool = True  # every run ended well, with the right rows


def summarize(name: str, runs: Iterable[Run], rows: int, against: Mapping[str, str | None]) -> dict[str, Any]:
    """Spreads over the good runs of a contender; CPU in seconds per million rows, memory the highest peak in bytes.

    `against` names others whose wall times its own are divided by, round by round.
    """
    everything = list(runs)
    mine = [r for r in everything if r.contender == name]
    good = [r for r in mine if r.verdict == "ok"]
    line: dict[str, Any] = {"contender": name, "runs": len(mine), "good": len(good)}
    line["calm"] = sum(not r.disturbed for r in good)
    line["bad"] = sorted({r.verdict for r in mine} - {"ok"})
    line["wall"] = spread([r.wall for r in good])
    for side in ("source", "target", "client"):
        values = [v * 1_000_000 / rows for r in good if (v := getattr(r, f"{side}_cpu")) is not None]
        line[f"{side}_cpu_per_million"] = spread(values)
    for whose in ("client", "parent", "worker"):
        line[f"{whose}_peak"] = max((v for r in good if (v := getattr(r, f"{whose}_peak")) is not None), default=None)
    line["ratio"], line["pairs"] = {}, {}
    for label, other in against.items():
        walls = {r.round: r.wall for r in everything if r.contender == other and r.verdict == "ok"}
        found = ratios({r.round: r.wall for r in good}, walls)
        line["ratio"][label], line["pairs"][label] = spread(found), len(found)
    return line


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """As results keep it; None of nothing."""
    return asdict(Spread.of(values)) if values else None


def figure(name: str, values: dict[str, float] | None, rows: int, line: Mapping[str, Any]) -> list[Figure]:
    """A median of a line as something to be judged; nothing where it was not measured.

    Of a ratio, whose label is the end of its name, only rounds count in which both sides ended well.
    """
    if values is None:
        return []
    pairs = line.get("pairs", {}).get(name.rpartition("/")[2], line["good"])
    return [Figure(name, values["median"], rows, pairs, 2 * line["calm"] > line["good"])]


def lines_table(
    lines: Sequence[Mapping[str, Any]],
    rows: int,
    *,
    against: Sequence[str],
    missing: Mapping[str, str],
    figures: Mapping[str, Sequence[Figure]],
    source: bool = True,
) -> str:
    """A line for each contender: medians, lowest and highest of its wall times and ratios.

    `figures`: what is judged of each contender, `missing`: why one has no figures at all.
    """
    header = ["", "wall s", "min", "max", "rows/s", *(["source CPU"] if source else []), "target CPU", "client CPU"]
    header += ["MiB", "parent", "worker"]
    for label in against:
        header += [f"to {label}", "min", "max"]
    found = []
    for line in lines:
        name, wall = line["contender"], line["wall"]
        rate = f"{rows / wall['median']:,.0f}".replace(",", " ") if wall else "-"
        sides = ("source", "target", "client") if source else ("target", "client")
        cells = [name, *numbers(wall), rate, *(numbers(line[f"{side}_cpu_per_million"])[0] for side in sides)]
        cells += [mebibytes(line[f"{whose}_peak"]) for whose in ("client", "parent", "worker")]
        for label in against:
            cells += numbers(line["ratio"].get(label))
        remark = missing.get(name, "")
        if not remark and line["bad"]:
            remark = f"{line['runs'] - line['good']} of {line['runs']} {' '.join(line['bad'])}"
        found.append([*cells, remark or "; ".join(dict.fromkeys(w for f in figures.get(name, ()) if (w := words(f))))])
    return table([*header, ""], found)


def numbers(values: Mapping[str, float] | None, digits: int = 2) -> list[str]:
    """Median, lowest, highest as cells."""
    return Spread(**values).text(digits) if values else ["-", "-", "-"]


def mebibytes(size: int | None) -> str:
    """Bytes as a cell."""
    return f"{size / 2**20:.0f}" if size else "-"


def disturbed(runs: Sequence[Run]) -> str:
    """A sentence on how many runs others slowed down, or nothing."""
    busy = sum(r.disturbed for r in runs)
    if not busy:
        return ""
    return f"\n{busy} of {len(runs)} runs were disturbed: others took more than a tenth of a core meanwhile"


def alone(measure: Callable[[argparse.Namespace, Path], Section], args: argparse.Namespace) -> int:
    """A section by itself: its tables on stdout, its JSON file; the exit code. 1: a run failed, or was wrong, or a
    ratio is clearly worse than expected.
    """
    section = in_folder(measure, args)
    print(section.text)
    if args.json:
        write_json(args.json, {section.name: section.data})
    worse = [f for f in section.figures if judge(f).worse]
    for one in worse:
        print(f"WORSE than expected: {words(one, full=True)}")
    return 0 if section.good and not worse else 1


def in_folder(measure: Callable[[argparse.Namespace, Path], Section], args: argparse.Namespace) -> Section:
    """Measure in a folder of its own, which is gone afterwards."""
    if args.dir:
        args.dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.dir, prefix="hyperfill-bench-") as folder:
        return measure(args, Path(folder))


def write_json(file: Path, content: Any) -> None:
    """One JSON file, its folder made if need be."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n")
