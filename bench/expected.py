"""What is to be reached, and when a ratio is clearly worse than it was: the regression check of `make bench`.

A goal is met or MISSED. A ratio (both sides measured in the same run, in turn) is also compared with what this version
is expected to reach: one that is worse by more than `TOLERANCE` makes the command end with 1. Seconds and bytes depend
on the machine: they have goals only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 0.10  # of the expected ratio: what medians of five pairs differ by from one run to the next
LEAST_PAIRS = 3  # a ratio of fewer is shown, and never called worse


@dataclass(frozen=True)
class Goal:
    """At most `most`, judged from `rows` on.

    `ratio`: what is expected of a ratio; None for a figure of the machine, or where nothing is expected yet.
    """

    most: float
    rows: int = 0
    ratio: float | None = None
    unit: str = ""


_FLOATS = 3_000_000
_HISTORY = 4_000_000
# Unique keys: the server writes plain rows and both indexes first, which the goal does not allow for.
_LANDED = {"usual": 0.40, "unique": 0.63, "series": 0.42, "compressed": 0.35, "text": 0.45}
GOALS = {
    "move/floats/run 2/pipeline": Goal(0.55, _FLOATS, ratio=0.45),
    "move/floats/run 2/raw": Goal(1.00, _FLOATS, ratio=1.00),
    "move/floats/run 2 hash/pipeline": Goal(0.85, _FLOATS, ratio=0.60),
    # Of smaller files the start is too large a part.
    "csv/client/peer": Goal(0.75, 2_000_000, ratio=0.82),
    "csv/server/peer": Goal(1.00, 2_000_000, ratio=1.07),
    "client/cpu": Goal(0.5, _FLOATS, unit="s"),
    "client/worker": Goal(150.0, 1_000_000, unit="MiB"),
    "windows/overhead": Goal(3.0, 1_000, unit="ms"),
    "windows/planned": Goal(20.0, 100_000, unit="s"),
    "startup/help": Goal(0.25, unit="s"),
    # Compressed when it is over, all of it, against being loaded and compressed then.
    **{f"land/{name}/run 2/pipeline": Goal(0.45, _HISTORY, ratio=ratio) for name, ratio in _LANDED.items()},
    **{f"land/{name}/run 2/size": Goal(1.05, _HISTORY) for name in _LANDED},
}


@dataclass(frozen=True)
class Figure:
    """A median that may have a goal. `rows`: how large the run was; `pairs`: of how many runs; `calm`: most of them."""

    name: str
    value: float
    rows: int
    pairs: int
    calm: bool = True


@dataclass(frozen=True)
class Judged:
    """`word`: met, MISSED, too small to judge, disturbed, or nothing where there is no goal."""

    word: str
    worse: bool = False


def judge(figure: Figure) -> Judged:
    """Whether a goal is met, and whether a ratio is clearly worse than expected."""
    goal = GOALS.get(figure.name)
    if goal is None:
        return Judged("")
    if figure.rows < goal.rows:
        return Judged("too small to judge")
    if not figure.calm:
        return Judged("disturbed")
    worse = goal.ratio is not None and figure.pairs >= LEAST_PAIRS and figure.value > goal.ratio * (1 + TOLERANCE)
    return Judged("met" if figure.value <= goal.most else "MISSED", worse)


def words(figure: Figure, *, full: bool = False) -> str:
    """The judgement for a table; `full` with name and figure."""
    goal, judged = GOALS.get(figure.name), judge(figure)
    if goal is None:
        return ""
    unit = f" {goal.unit}" if goal.unit else ""
    limit = f"{goal.most:g}{unit}" if goal.ratio is None else f"{goal.most:.2f}"
    if full:
        return f"{figure.name}: {figure.value:.2f}{unit}, {judged.word}, at most {limit}"
    short = figure.name.rpartition("/")[2]
    return judged.word if judged.word == "too small to judge" else f"{judged.word}: {short} {limit}"


def summary(figures: Sequence[Figure]) -> str:
    """All that has a goal, a line each; what is worse than expected is called so."""
    lines = []
    for figure in figures:
        text = words(figure, full=True)
        if text:
            lines.append(f"  {text}{' - WORSE than expected' if judge(figure).worse else ''}")
    return "\n".join(["goals:", *lines]) if lines else ""
