"""The buckets of a suggestion as a picture, PNG or SVG. Matplotlib is imported only where one is drawn."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import warnings
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperfill.errors import UsageError
from hyperfill.suggest import Verdict, step_text, usual_step
from hyperfill.suggest_words import label, short_label
from hyperfill.timeline import Kind, TimeType, grid_floor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
_TICKS = 10
# Told apart by people who do not see red or green, and in grey.
_SOURCE, _TARGET = "#9aa5b1", "#1f4e79"
_LACKS, _MORE, _VALUES = "#c0392b", "#7d3c98", "#e67e22"
_T = "#111111"
_ZONES = {
    "before": ("#eceff1", "not written yet"),
    "missing": ("#fdebd0", "missing writes"),
    "consistent": ("#d5f0dc", "consistency range"),
    "late": ("#e4dcf3", "late-arriving data"),
}


def check(path: Path) -> None:
    """Whether a picture can be written there at all, before any server is asked. Raises `UsageError`."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot {path}: the ending says what to draw, and must be .png or .svg")
    if not path.parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UsageError(f"--plot {path}: that is a folder")
    try:
        # Not os.access: root may write everywhere, and some folders take no file from anybody.
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UsageError(f"--plot {path}: nothing can be written into {path.parent}: {error.strerror}") from None
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib, which is not installed", hint="pip install 'hyperfill[report]'")


def plot(path: Path, title: str, verdict: Verdict, time_type: TimeType, step: int) -> None:
    """Draw the buckets of a verdict into a file. It appears when it is complete, or stays as it was.

    Raises OSError if it cannot be written.
    """
    import matplotlib

    kind = path.suffix.lower().removeprefix(".")
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Letters stay letters, for searching; the same buckets make the same file.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "hyperfill", "font.size": 10, "axes.axisbelow": True}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A name may have letters that no font here has: boxes are drawn in their place.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")
        figure = _draw(title, verdict, time_type, step)
        try:
            figure.savefig(beside, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def _draw(title: str, verdict: Verdict, time_type: TimeType, step: int) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    # Positions in lengths of a bucket: ordinals of uuids and of far years are no floats, nor datetimes.
    base = grid_floor(verdict.buckets[0].lower, step)

    def x(ordinal: int) -> float:
        return (ordinal - base) / step

    figure = Figure(figsize=(12, 6.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.1])
    edges = [x(b.lower) for b in verdict.buckets] + [x(verdict.buckets[-1].upper)]
    source, target = [b.source for b in verdict.buckets], [b.target for b in verdict.buckets]
    above.stairs(source, edges, fill=True, color=_SOURCE, label="source", zorder=2)
    above.stairs(target, edges, color=_TARGET, linewidth=1.8, label="target", zorder=3, baseline=None)
    _differences(below, verdict, edges)
    above.set_ylim(0, max(1, *source, *target) * 1.22)
    above.set_xlim(edges[0], edges[-1])
    for zone, first, stop in _zones(verdict):
        for axes in (above, below):
            axes.axvspan(edges[first], edges[stop], color=_ZONES[zone][0], linewidth=0, zorder=0)
    _name_zones(above, verdict, edges)
    if verdict.end is not None:
        _mark_end(above, below, x(verdict.end), label(time_type, verdict.end), (edges[0] + edges[-1]) / 2)
    whole = FuncFormatter(lambda value, _: f"{value:,.0f}")
    for axes in (above, below):
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5 if axes is above else 3))
        axes.yaxis.set_major_formatter(whole)
        axes.grid(axis="y", color="white", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    above.set_ylabel(f"rows in {step_text(time_type, step)}")
    below.set_ylabel("target minus source")
    zone = ", UTC" if time_type.kind in (Kind.INSTANT, Kind.UUID) else ""
    below.set_xlabel(f"time column ({time_type.sql_name}{zone})")
    ticks, length = _ticks(verdict, time_type, step)
    below.set_xticks([x(tick) for tick in ticks], [short_label(time_type, tick, length) for tick in ticks])
    # Names of tables are no formulas, though they may have dollars.
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", parse_math=False)
    figure.legend(*above.get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    return figure


def _differences(axes: Axes, verdict: Verdict, edges: list[float]) -> None:
    """Bars below zero for what the target lacks, above for what it has more; crosses where only values differ."""
    for sign, colour, name in ((-1, _LACKS, "target lacks rows"), (1, _MORE, "target has more")):
        bars = [i for i, b in enumerate(verdict.buckets) if b.difference * sign > 0]
        if bars:
            widths = [edges[i + 1] - edges[i] for i in bars]
            heights = [verdict.buckets[i].difference for i in bars]
            axes.bar([edges[i] for i in bars], heights, widths, align="edge", color=colour, label=name, zorder=3)
    changed = [i for i, b in enumerate(verdict.buckets) if not b.equal and not b.difference]
    if changed:
        middle = [(edges[i] + edges[i + 1]) / 2 for i in changed]
        axes.plot(
            middle, [0] * len(middle), "x", color=_VALUES, markersize=7, label="other values", zorder=4, clip_on=False
        )
    lowest = min(0, *(b.difference for b in verdict.buckets))
    highest = max(0, *(b.difference for b in verdict.buckets))
    room = max(1.0, 0.15 * (highest - lowest))
    axes.set_ylim(lowest - room, highest + room)
    axes.axhline(0, color="#555555", linewidth=0.8, zorder=2)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best", frameon=True, framealpha=0.9)
    else:
        axes.text(0.02, 0.75, "no difference", transform=axes.transAxes, ha="left", va="center", color="#333333")


def _zones(verdict: Verdict) -> Iterator[tuple[str, int, int]]:
    """Neighbouring buckets of one zone."""
    for zone, group in groupby(range(len(verdict.buckets)), verdict.zone):
        numbers = list(group)
        if zone in _ZONES:
            yield zone, numbers[0], numbers[-1] + 1


def _name_zones(axes: Axes, verdict: Verdict, edges: list[float]) -> None:
    """The names of the ranges above them, each where it is longest or fits; in another row where they would touch."""
    whole = edges[-1] - edges[0]
    places = [(edges[first], edges[stop], zone) for zone, first, stop in _zones(verdict)]
    longest = {zone: max(u - w for w, u, z in places if z == zone) for *_, zone in places}
    ends = [edges[0] - whole] * (len(places) + 1)  # how far to the right each row is full
    for lower, upper, zone in places:
        colour, name = _ZONES[zone]
        half = whole * 0.0045 * (len(name) + 2)
        if upper - lower < min(longest[zone], 2 * half):
            continue
        longest[zone] += whole  # once is enough where it is shorter than its name
        middle = min(max((lower + upper) / 2, edges[0] + half), edges[-1] - half)
        row = next(row for row, end in enumerate(ends) if end <= middle - half)
        ends[row] = middle + half
        axes.annotate(
            name, (middle, 1), xycoords=axes.get_xaxis_transform(), xytext=(0, 6 + 19 * row),
            textcoords="offset points", ha="center", va="bottom", color="#333333", annotation_clip=False,
            bbox={"boxstyle": "round,pad=0.25", "facecolor": colour, "edgecolor": "none"},
        )  # fmt: skip


def _mark_end(above: Axes, below: Axes, x: float, text: str, middle: float) -> None:
    for axes in (above, below):
        axes.axvline(x, color=_T, linewidth=1.6, linestyle="--", zorder=5)
    right = x > middle  # the text stands on the side where there is more room
    above.annotate(
        f"T = {text}", (x, 0.9), xycoords=above.get_xaxis_transform(), xytext=(-6 if right else 6, 0),
        textcoords="offset points", ha="right" if right else "left", va="top", fontweight="bold", zorder=6,
        bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )  # fmt: skip


def _ticks(verdict: Verdict, time_type: TimeType, step: int) -> tuple[list[int], int]:
    """Round positions, and how far they are from each other."""
    first, last = verdict.buckets[0].lower, verdict.buckets[-1].upper
    length = max(step, usual_step(time_type, first, last, _TICKS))
    start = -(-first // length) * length
    ticks = [tick for tick in range(start, last + 1, length) if tick <= time_type.maximum]
    return (ticks, length) if len(ticks) > 1 else ([first, last], min(step, length))
