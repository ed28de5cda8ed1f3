"""The charts of a report as SVG that stands inside an HTML page: no script, no address, ids of their own."""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hyperfill.report import Bar, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (8.0, 2.35)  # inches; the page scales it
_BLUE, _DARK, _ORANGE, _RED, _GREY = "#9fc3e6", "#1f4e79", "#e39b3a", "#c62828", "#e4e4e4"
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "text.parse_math": False,
    "svg.fonttype": "none",  # text stays text: it can be found, read aloud, and is small
    "axes.unicode_minus": False,
}
_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800]  # seconds
_STEPS += [h * 3600 for h in (1, 2, 3, 6, 12, 24, 48, 168, 336, 720, 1440, 4320, 8760, 87600)]


def charts(report: Report) -> dict[str, str]:
    """SVG by the key of the chart, of those for which there are figures. Text in them is fixed, or a bound."""
    import matplotlib.style

    makers: dict[str, tuple[bool, Callable[[Report, Figure], str]]] = {
        "sides": (any(b.compared for b in report.bars), _sides),
        "moved": (any(b.done for b in report.bars), _moved),
        "batches": (bool(report.batch_bars), _batches),
        "throughput": (bool(report.slices), _throughput),
    }
    found = {}
    # "default": whatever this user's own settings file says.
    with matplotlib.style.context(["default", {**_STYLE, "svg.hashsalt": "hyperfill"}]):
        for key, (wanted, draw) in makers.items():
            if wanted:
                found[key] = _svg(report, key, draw)
    return found


def _svg(report: Report, key: str, draw: Callable[[Report, Figure], str]) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    title = draw(report, figure)
    out = io.StringIO()
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(out, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    head, rest = body.split(">", 1)
    box = re.search(r'viewBox="[0-9. -]+"', head)
    assert box is not None
    # Every chart of a page would have an axes_1 otherwise; inside HTML no name space has to be declared.
    rest = re.sub(r'(\sid=")', rf"\1{key}-", rest)
    rest = re.sub(r'(?:xlink:)?href="#', f'href="#{key}-', rest)
    rest = re.sub(r"url\(#", f"url(#{key}-", rest)
    return f'<svg {box.group()} role="img" aria-label="{title}">{rest.strip()}'


def _figures(axes: Axes, *, whole: bool) -> None:
    """Ticks of the upright axis, all in the same unit; what hangs down has no sign."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    def text(value: float, _: object) -> str:
        most = max(map(abs, axes.get_ylim()))
        for limit, unit, letter in ((2e9, 1e9, "G"), (2e6, 1e6, "M"), (2e4, 1e3, "k")):
            if most >= limit:
                return f"{abs(value) / unit:.3g}{letter if value else ''}"
        return f"{abs(value):,.0f}" if most > 5 or whole else f"{abs(value):.2g}"

    axes.yaxis.set_major_formatter(FuncFormatter(text))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=whole))


def _label(lower: str | None, time_type: str) -> str:
    if lower is None:
        return "\u2212\u221e"
    if time_type == "uuid":
        return f"{lower[:13]}\u2026"
    text = lower.removesuffix("+00").removesuffix(" 00:00:00")
    return text.removesuffix(":00") if text.count(":") == 2 else text


def _axis_of_windows(axes: Axes, report: Report) -> None:
    """Bounds at the bars where they begin; windows that are not done are shaded."""
    bars = report.bars
    _ticks(axes, len(bars), [_label(b.lower, report.entry.time_type) for b in bars])
    zone = " (UTC)" if report.entry.time_type == "timestamptz" else ""
    of = f"{bars[0].windows:,} neighbouring windows, their mean" if bars[0].windows > 1 else "one window"
    axes.set_xlabel(f"lower bound{zone}; each bar is {of}")
    _spans(axes, [b.done + b.failed < b.windows for b in bars], _GREY, "not done")
    _spans(axes, [b.failed > 0 for b in bars], "#f4b6b6", "failed")


def _ticks(axes: Axes, count: int, labels: Sequence[str]) -> None:
    wanted = min(count, 5)
    places = sorted({round(i * (count - 1) / max(1, wanted - 1)) for i in range(wanted)})
    # A few wide bars are labelled in their middle, many narrow ones where they begin.
    axes.set_xticks([p + 0.5 for p in places], [labels[p] for p in places])
    if count > wanted:
        axes.get_xticklabels()[-1].set_horizontalalignment("right")
    axes.set_xlim(0, count)
    _figures(axes, whole=True)


def _spans(axes: Axes, which: Sequence[bool], color: str, label: str) -> None:
    """Shade runs of neighbouring bars, each run once."""
    begin: int | None = None
    said = False
    for place, marked in enumerate([*which, False]):
        if marked and begin is None:
            begin = place
        elif not marked and begin is not None:
            axes.axvspan(begin, place, color=color, lw=0, zorder=0, label=None if said else label)
            begin, said = None, True


def _mean(bars: Sequence[Bar], value: Callable[[Bar], int], number: Callable[[Bar], int]) -> list[float]:
    return [value(b) / number(b) if number(b) else 0.0 for b in bars]


def _fill(axes: Axes, values: Sequence[float], color: str, label: str | None) -> None:
    axes.stairs(values, range(len(values) + 1), fill=True, color=color, label=label, lw=0)


def _sides(report: Report, figure: Figure) -> str:
    axes = figure.add_subplot()
    bars = report.bars
    _axis_of_windows(axes, report)
    source = _mean(bars, lambda b: b.source_rows, lambda b: b.compared)
    outline = [rows if b.compared else float("nan") for b, rows in zip(bars, source, strict=True)]
    target = _mean(bars, lambda b: b.target_rows, lambda b: b.compared)
    _fill(axes, target, _BLUE, "rows in the target")
    if any(b.differ for b in bars):
        differ = [t if b.differ else 0.0 for b, t in zip(bars, target, strict=True)]
        _fill(axes, differ, "#ef9a9a", None)
    axes.stairs(outline, range(len(bars) + 1), color=_DARK, lw=1.0, label="rows in the source", baseline=None)
    marked = [i + 0.5 for i, b in enumerate(bars) if b.differ]
    if marked:
        # In black and white as well, and where the target has no row at all.
        top = max([*source, *target, 1.0])
        axes.plot(marked, [top * 1.06] * len(marked), "v", color=_RED, ms=4, label="differs", clip_on=False)
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
    axes.set_ylabel("rows per window")
    _legend(axes)
    return "Rows per window in the source and in the target"


def _moved(report: Report, figure: Figure) -> str:
    axes = figure.add_subplot()
    bars = report.bars
    _axis_of_windows(axes, report)
    _fill(axes, _mean(bars, lambda b: b.copied, lambda b: b.done), _BLUE, "copied from the source")
    deleted = _mean(bars, lambda b: -b.deleted, lambda b: b.done)
    if any(deleted):
        _fill(axes, deleted, _ORANGE, "deleted on the target before (downwards)")
    axes.axhline(0, color="#666666", lw=0.6)
    axes.set_ylabel("rows per window")
    axes.set_ylim(top=max(1.0, axes.get_ylim()[1]))
    _legend(axes)
    return "Rows copied and deleted per window"


def _batches(report: Report, figure: Figure) -> str:
    axes = figure.add_subplot()
    bars = report.batch_bars
    size = [b.last - b.first + 1 for b in bars]
    _fill(axes, [b.copied / n for b, n in zip(bars, size, strict=True)], _BLUE, "copied")
    left_out = [-b.left_out / n for b, n in zip(bars, size, strict=True)]
    if any(left_out):
        _fill(axes, left_out, _ORANGE, "skipped, outside of the range or rejected (downwards)")
    _ticks(axes, len(bars), [f"batch {b.first:,}" for b in bars])
    _spans(axes, [b.failed > 0 for b in bars], "#f4b6b6", "failed")
    of = f"{size[0]:,} neighbouring batches, their mean" if size[0] > 1 else "one batch"
    axes.set_xlabel(f"batches in the order of the files; each bar is {of}")
    axes.axhline(0, color="#666666", lw=0.6)
    axes.set_ylabel("rows per batch")
    _legend(axes)
    return "Rows per batch of the files"


def _throughput(report: Report, figure: Figure) -> str:
    axes = figure.add_subplot()
    total, slices = report.active_seconds, report.slices
    edges = [i * total / len(slices) for i in range(len(slices) + 1)]
    axes.stairs(slices, edges, fill=True, color=_BLUE, lw=0)
    axes.stairs(slices, edges, color=_DARK, lw=0.8)
    mean = sum(p.rows for p in report.periods) / total
    axes.axhline(mean, color=_ORANGE, lw=1.0, ls="--", label=f"mean: {mean:,.0f} rows per second")
    for number, period in enumerate(report.periods[1:]):
        axes.axvline(period.offset, color="#555555", lw=0.8, ls=":", label=None if number else "pause, left out")
    places, labels = moments(report)
    axes.set_xticks(places, labels)
    axes.set_xlim(0, total)
    axes.set_ylim(bottom=0)
    _figures(axes, whole=False)
    axes.set_xlabel("time (UTC)")
    axes.set_ylabel("rows per second")
    _legend(axes)
    return "Rows per second over time"


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=5, borderaxespad=0.2, handlelength=1.4)


def moments(report: Report) -> tuple[list[float], list[str]]:
    """Places on the axis of throughput and the clock there, at round times, far enough from each other."""
    total = report.active_seconds
    step = next((s for s in _STEPS if total / s <= 6), _STEPS[-1])
    wanted: list[tuple[float, dt.datetime]] = []
    for period in report.periods:
        first = period.started_at.timestamp()
        wanted.append((period.offset, period.started_at))
        number = int(first // step) + 1
        while number * step < period.finished_at.timestamp():
            at = dt.datetime.fromtimestamp(number * step, dt.UTC)
            wanted.append((period.offset + number * step - first, at))
            number += 1
    starts = {p.offset for p in report.periods}
    chosen: list[tuple[float, dt.datetime]] = []
    # Beginnings first: what stands too near to a label that is there is left out.
    for place, at in sorted(wanted, key=lambda one: (one[0] not in starts, one[0])):
        if place <= total * 0.97 and all(abs(place - other) > total * 0.1 for other, _ in chosen):
            chosen.append((place, at))
    chosen.sort()
    labels, day = [], None
    for _, at in chosen:
        clock = f"{at:%H:%M:%S}" if step < 60 or at.second else f"{at:%H:%M}"
        labels.append(clock if at.date() == day else f"{clock}\n{at:%Y-%m-%d}")
        day = at.date()
    return [place for place, _ in chosen], labels
