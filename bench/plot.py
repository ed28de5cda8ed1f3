"""The picture of a whole bench: ratios, what growth costs, what a window costs, what starting takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.expected import GOALS
from bench.sizes import Line
from bench.windows import PHASES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL = (5.4, 3.7)  # inches
_COLOURS = (
    "#1f4e79",
    "#e39b3a",
    "#5b9bd5",
    "#8a8a8a",
    "#9c4a6e",
    "#6aa84f",
    "#c9b458",
    "#7b5ea7",
    "#2f8f8f",
    "#b5651d",
)
_GOAL = "#c62828"
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "hyperfill",
}
Sections = Mapping[str, Any]
Drawing = Callable[["Axes"], None]


def draw(whole: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write bench.png and bench.svg into `folder`: a panel for all that was measured. None of nothing."""
    import matplotlib.style
    from matplotlib.figure import Figure

    panels = list(_panels(whole["sections"]))
    if not panels:
        return []
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "bench.png", folder / "bench.svg"]
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(columns * _PANEL[0], rows * _PANEL[1] + 0.4), layout="constrained")
        for place, panel in enumerate(panels, 1):
            panel(figure.add_subplot(rows, columns, place))
        machine = whole["machine"]
        title = f"hyperfill, {whole['size']} sizes, {machine['cores']} cores, Python {machine['python']}, {whole['at']}"
        figure.suptitle(title, fontsize=11)
        figure.savefig(files[0], dpi=120)
        figure.savefig(files[1], metadata={"Date": None})
    return files


def _panels(sections: Sections) -> list[Drawing]:
    found: list[Drawing] = []
    if "move" in sections:
        for label, title in (("pipeline", "published pipeline"), ("raw", "raw limit with as many jobs")):
            if any(b for _, bars in _move(sections["move"], label) for b in bars):
                found.append(partial(_moved, section=sections["move"], label=label, title=title))
    if any(line["ratio"]["peer"] for line in sections.get("csv", {}).get("summary", ())):
        found.append(partial(_loaded, section=sections["csv"]))
    for name, title in (("rows", "millions of rows"), ("chunks", "chunks")):
        lines = [line for line in sections.get("growth", {}).get(name, {}).get("summary", ()) if line["wall"]]
        if lines:
            part = sections["growth"][name]
            found.append(partial(_grown, part=part, name=name, title=title))
    if any(line["wall"] for line in sections.get("client", {}).get("summary", ())):
        found.append(partial(_client, section=sections["client"]))
    if any(line["wall"] for line in sections.get("windows", {}).get("summary", ())):
        found.append(partial(_windows, section=sections["windows"]))
    if any(line["wall"] for line in sections.get("startup", {}).get("summary", ())):
        found.append(partial(_startup, section=sections["startup"]))
    return found


Bar = tuple[str, Mapping[str, float]]  # what it is of, its spread


def _move(section: Mapping[str, Any], label: str) -> list[tuple[str, list[Bar]]]:
    """Of each shape the contenders that have a ratio."""
    return [
        (shape, [(line["contender"], line["ratio"][label]) for line in part["summary"] if line["ratio"].get(label)])
        for shape, part in section["shapes"].items()
    ]


def _moved(axes: Axes, section: Mapping[str, Any], label: str, title: str) -> None:
    groups = _move(section, label)
    # As in the other panel: the same contender in the same colour.
    order = [line["contender"] for part in section["shapes"].values() for line in part["summary"][1:]]
    _grouped(axes, groups, list(dict.fromkeys(order)))
    goals = {
        "pipeline": ("move/floats/run 2/pipeline", "move/floats/run 2 hash/pipeline"),
        "raw": ("move/floats/run 2/raw",),
    }
    _limits(axes, [(f"{'hash' if 'hash' in name else 'floats'}", GOALS[name].most) for name in goals[label]])
    axes.set_title(f"wall time, {title} = 1")


def _loaded(axes: Axes, section: Mapping[str, Any]) -> None:
    bars = [(line["contender"], line["ratio"]["peer"]) for line in section["summary"] if line["ratio"]["peer"]]
    _grouped(axes, [("CSV", bars)], [name for name, _ in bars])
    _limits(axes, [(name, GOALS[f"csv/{name}/peer"].most) for name in ("client", "server")])
    axes.set_title("wall time, parallel-copy with as many workers = 1")


def _grouped(axes: Axes, groups: Sequence[tuple[str, Sequence[Bar]]], order: Sequence[str]) -> None:
    """Bars of each group side by side; whiskers from lowest to highest. The place in `order` gives the colour."""
    present = {name for _, bars in groups for name, _ in bars}
    names = [name for name in order if name in present]
    width = 0.8 / max(1, len(names))
    for index, name in enumerate(names):
        places, values, low, high = [], [], [], []
        for group, (_, bars) in enumerate(groups):
            if (found := dict(bars).get(name)) is not None:
                places.append(group - 0.4 + (index + 0.5) * width)
                values.append(found["median"])
                low.append(found["median"] - found["low"])
                high.append(found["high"] - found["median"])
        colour = _COLOURS[order.index(name) % len(_COLOURS)]
        axes.bar(places, values, width * 0.9, label=name, color=colour)
        axes.errorbar(places, values, yerr=[low, high], fmt="none", ecolor="#333333", capsize=2, linewidth=0.8)
        for place, value, more in zip(places, values, high, strict=True):
            axes.annotate(
                f"{value:.2f}", (place, value + more), (0, 2), textcoords="offset points", ha="center",
                va="bottom", fontsize=7, rotation=90 if len(names) * len(groups) > 12 else 0,
            )  # fmt: skip
    axes.axhline(1, color="#333333", linewidth=1)
    axes.set_xticks(range(len(groups)), [name for name, _ in groups])
    axes.grid(False, axis="x")
    axes.margins(y=0.12)
    _legend(axes)


def _limits(axes: Axes, limits: Sequence[tuple[str, float]]) -> None:
    for name, value in limits:
        axes.axhline(value, color=_GOAL, linewidth=1, linestyle="--")
        axes.annotate(
            f"goal\n{name}", (1, value), (2, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            color=_GOAL, fontsize=7, ha="left", va="center",
        )  # fmt: skip


def _legend(axes: Axes) -> None:
    """Below the panel: inside, it would hide bars."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


def _grown(axes: Axes, part: Mapping[str, Any], name: str, title: str) -> None:
    lines = [line for line in part["summary"] if line["wall"]]
    per = 1e6 if name == "rows" else 1.0
    places = [line[name] / per for line in lines]
    medians = [line["wall"]["median"] for line in lines]
    low = [line["wall"]["median"] - line["wall"]["low"] for line in lines]
    high = [line["wall"]["high"] - line["wall"]["median"] for line in lines]
    axes.errorbar(places, medians, yerr=[low, high], fmt="o", color=_COLOURS[0], capsize=3, label="measured")
    if part["line"]:
        fit = Line(**part["line"])
        ends = [0.0, max(places)]
        text = f"{fit.fixed:.2f} s + {fit.slope * per:.3g} s each, ±{fit.largest:.0%}"
        axes.plot(ends, [fit.fixed + fit.slope * x * per for x in ends], color=_COLOURS[1], label=text)
    axes.set_xlim(left=0)
    axes.set_ylim(0, max(line["wall"]["high"] for line in lines) * 1.1)
    axes.set_xlabel(title)
    axes.set_ylabel("seconds")
    axes.legend(loc="lower right")
    fixed = f", {lines[0]['rows']:,} rows" if name == "chunks" else ""
    axes.set_title(f"wall time as {name} grow{fixed}")


def _client(axes: Axes, section: Mapping[str, Any]) -> None:
    lines = [line for line in section["summary"] if line["wall"]]
    places = range(len(lines))
    cpu = [line["client_cpu_per_million"]["median"] for line in lines]
    axes.bar([p - 0.2 for p in places], cpu, 0.36, color=_COLOURS[0], label="CPU, s per million rows")
    axes.set_ylabel("seconds")
    axes.set_ylim(0, max(*cpu, GOALS["client/cpu"].most) * 1.25)
    axes.axhline(GOALS["client/cpu"].most, color=_COLOURS[0], linewidth=1, linestyle="--")
    other = axes.twinx()
    peaks = [(line["worker_peak"] or 0) / 2**20 for line in lines]
    other.bar([p + 0.2 for p in places], peaks, 0.36, color=_COLOURS[1], label="memory of a worker, MiB")
    other.axhline(GOALS["client/worker"].most, color=_COLOURS[1], linewidth=1, linestyle="--")
    other.set_ylim(0, max(*peaks, GOALS["client/worker"].most) * 1.25)
    other.set_ylabel("MiB")
    other.grid(False)
    other.spines["right"].set_visible(True)
    for place, value, peak in zip(places, cpu, peaks, strict=True):
        axes.annotate(f"{value:.2f}", (place - 0.2, value), (0, 2), textcoords="offset points", ha="center")
        other.annotate(f"{peak:.0f}", (place + 0.2, peak), (0, 2), textcoords="offset points", ha="center")
    axes.set_xticks(list(places), [f"{line['rows'] / 1e6:g} M rows" for line in lines])
    handles = [*axes.get_legend_handles_labels()[0], *other.get_legend_handles_labels()[0]]
    labels = [*axes.get_legend_handles_labels()[1], *other.get_legend_handles_labels()[1]]
    axes.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    axes.set_title("client (dashed: at most)")


def _windows(axes: Axes, section: Mapping[str, Any]) -> None:
    lines = [line for line in section["summary"] if line["wall"]]
    left = [0.0] * len(lines)
    names = [f"{line['contender']}\n({line['windows']:,})" for line in lines]
    for index, phase in enumerate(PHASES):
        widths = [line[phase]["median"] for line in lines]
        axes.barh(names, widths, 0.6, left=left, color=_COLOURS[index], label=phase)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for row, line in enumerate(lines):
        text = f"{line['overhead_ms']['median']:.1f} ms/window" if line["overhead_ms"] else ""
        axes.annotate(text, (left[row], row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.3)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.set_xlabel("seconds")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.16), ncols=5)
    axes.set_title(f"the same {section['rows']:,} rows in few and in many windows")


def _startup(axes: Axes, section: Mapping[str, Any]) -> None:
    lines = [line for line in section["summary"] if line["wall"]]
    values = [line["wall"]["median"] for line in lines]
    whiskers = [[v - line["wall"]["low"] for v, line in zip(values, lines, strict=True)],
                [line["wall"]["high"] - v for v, line in zip(values, lines, strict=True)]]  # fmt: skip
    axes.barh([line["contender"] for line in lines], values, 0.6, color=_COLOURS[0])
    axes.errorbar(values, range(len(lines)), xerr=whiskers, fmt="none", ecolor="#333333", capsize=2, linewidth=0.8)
    for row, line in enumerate(lines):
        place = (line["wall"]["high"], row)
        axes.annotate(f"{values[row]:.2f}", place, (4, 0), textcoords="offset points", va="center")
    axes.axvline(GOALS["startup/help"].most, color=_GOAL, linewidth=1, linestyle="--")
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.set_xlabel("seconds (dashed: goal of --help)")
    axes.set_title("start-up")
