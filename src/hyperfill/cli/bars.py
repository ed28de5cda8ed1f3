"""The buckets of a suggestion, drawn with letters: a bar for each side, the difference, the three ranges, and T."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from hyperfill.suggest import Verdict
from hyperfill.suggest_words import short_label
from hyperfill.timeline import Kind, TimeType

_LINES = 60  # about as many as are looked at; differing buckets are never put together with equal ones
NAMES = {
    "before": "target not written yet",
    "missing": "missing writes",
    "consistent": "consistent",
    "empty": "",
    "late": "late data",
    "undecided": "",
}
_STYLES = {"before": "dim", "missing": "yellow", "consistent": "green", "empty": "dim", "late": "magenta"}


@dataclass(frozen=True)
class Line:
    """Neighbouring buckets that look the same, [first, stop)."""

    first: int
    stop: int
    source: int
    target: int
    zone: str

    @property
    def number(self) -> int:
        return self.stop - self.first


def lines(verdict: Verdict) -> list[Line]:
    """Buckets put together where there are many: only such as are alike, and never over T."""
    buckets = verdict.buckets
    most = -(-len(buckets) // _LINES)
    found: list[Line] = []
    kinds: list[tuple[object, ...]] = []
    for i, bucket in enumerate(buckets):
        sign = (bucket.difference > 0) - (bucket.difference < 0)
        kind = (verdict.zone(i), bucket.equal, sign)
        if found and kind == kinds[-1] and found[-1].number < most and bucket.lower != verdict.end:
            last = found[-1]
            found[-1] = Line(last.first, i + 1, last.source + bucket.source, last.target + bucket.target, last.zone)
        else:
            found.append(Line(i, i + 1, bucket.source, bucket.target, verdict.zone(i)))
            kinds.append(kind)
    return found


def draw(console: Console, verdict: Verdict, time_type: TimeType, step: int) -> None:
    """Print the drawing. In a pipe it is ASCII, and as wide as the console says."""
    block, rule = ("█", "─") if console.is_terminal and console.encoding.startswith("utf") else ("#", "-")
    rows = lines(verdict)
    labels = [short_label(time_type, verdict.buckets[row.first].lower, step) for row in rows]
    figures = [(f"{row.source:,}", f"{row.target:,}", _difference(verdict, row)) for row in rows]
    first = "from (UTC)" if time_type.kind in (Kind.INSTANT, Kind.UUID) else "from"
    left = max(len(first), *(len(text) for text in labels))
    counts = max(len(text) for row in figures for text in row[:2])
    third = max(len("difference"), *(len(row[2]) for row in figures))
    right = max(len(NAMES[row.zone]) for row in rows)
    width = max(6, min(40, (console.width - left - 2 * counts - third - right - 12) // 2))
    # Lines may stand for several buckets: bars show the mean of one.
    most = max(max(row.source, row.target) / row.number for row in rows) or 1.0
    heads = [f"{first:<{left}}", *(f"{side:<{width + counts + 1}}" for side in ("source", "target"))]
    head = "  ".join([*heads, f"{'difference':>{third}}"])
    out = [Text(head, style="bold")]
    for row, text, (source, target, difference) in zip(rows, labels, figures, strict=True):
        if verdict.buckets[row.first].lower == verdict.end:
            out.append(Text(f"{text:<{left}}  {rule * 2} T {rule * (2 * width + 2 * counts + 2)}", style="bold cyan"))
        style = _STYLES.get(row.zone, "")
        line = Text(f"{text:<{left}}  ")
        for count, total in ((source, row.source), (target, row.target)):
            line.append(_bar(total / row.number / most, width, block), style=style)
            line.append(f" {count:>{counts}}  ")
        line.append(f"{difference:>{third}}", style="" if difference in ("=", "") else "bold red")
        line.append(f"  {NAMES[row.zone]}", style=style)
        line.rstrip()
        out.append(line)
    together = max(row.number for row in rows)
    if together > 1:
        out.append(Text(f"up to {together} buckets in a line; a bar is as long as their mean", style="dim"))
    for line in out:
        console.print(line, soft_wrap=True)


def _bar(share: float, width: int, block: str) -> str:
    """Anything at all is at least one block."""
    return (block * max(1 if share > 0 else 0, round(share * width))).ljust(width)


def _difference(verdict: Verdict, row: Line) -> str:
    """What the target has more or less; "values" where only they differ."""
    if row.target != row.source:
        return f"{row.target - row.source:+,}"
    buckets = verdict.buckets[row.first : row.stop]
    if not all(b.equal for b in buckets):
        return "values"
    return "=" if row.source else ""
