"""From a range, the target's chunks and what is known of the source's rows to windows. Pure.

Whatever the evidence says, the windows are an exact partition of the range: a stretch that looked
empty is a window as well (moving nothing costs a probe on each side), so a row that appears later
is moved like any other. Evidence decides only where the cuts are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from math import fsum

from hyperfill.errors import Refused
from hyperfill.timeline import Span, TimeType, cut, grid_floor, split_even

# A window is one transaction: small enough to be tried again within seconds, large enough that its
# fixed cost (about 3 ms) does not show. A million rows of ten floats take about two seconds.
DEFAULT_WINDOW_ROWS = 1_000_000
MAX_WINDOWS = 1_000_000
_FINE_PIECES = 8  # how much finer than the aim a skewed cell is looked at before it is put together again
_DEPTH = 16  # looks closer where rows crowd: enough for one chunk that spans all of a bigint
_MERGE_CHUNKS = 64  # without an index windows cover several chunks; each costs locks in the transaction


@dataclass(frozen=True)
class PlannedWindow:
    """A piece of the range. `estimate` is how many rows the source seems to have there; `occupied` is
    False for a stretch in which neither side had anything when the plan was made."""

    span: Span
    estimate: int
    occupied: bool
    may_lose: int | None = None  # of a repair: how many rows the target has more than the source


class Density:
    """How many rows lie where: bins of constant density, in order. Answers in O(log bins)."""

    def __init__(self, bins: Iterable[tuple[int, int, float]]) -> None:
        """`bins`: (lower, upper, rows), half-open; overlaps add up."""
        known = [(lower, upper, rows / (upper - lower)) for lower, upper, rows in bins if upper > lower and rows > 0]
        starts = sorted(range(len(known)), key=lambda i: known[i][0])
        self._edges = sorted({edge for lower, upper, _ in known for edge in (lower, upper)})
        self._totals = [0.0]
        active: dict[int, float] = {}
        ends: list[tuple[int, int]] = []
        at = 0
        for edge, following in pairwise(self._edges):
            while ends and ends[0][0] <= edge:
                del active[heappop(ends)[1]]
            while at < len(starts) and known[starts[at]][0] <= edge:
                active[starts[at]] = known[starts[at]][2]
                heappush(ends, (known[starts[at]][1], starts[at]))
                at += 1
            # Summed anew for each stretch: adding and subtracting slopes would leave the rounding error
            # of one crowded microsecond behind, larger than everything else together.
            self._totals.append(self._totals[-1] + fsum(active.values()) * (following - edge))

    @property
    def total(self) -> float:
        return self._totals[-1]

    def rows(self, span: Span) -> float:
        """The estimated number of rows in a span."""
        return self._below(span.upper) - (0.0 if span.lower is None else self._below(span.lower))

    def _below(self, ordinal: int) -> float:
        if not self._edges or ordinal <= self._edges[0]:
            return 0.0
        index = bisect_right(self._edges, ordinal) - 1
        if index >= len(self._edges) - 1:
            return self._totals[-1]
        lower, upper = self._edges[index], self._edges[index + 1]
        share = (ordinal - lower) / (upper - lower)
        return self._totals[index] + share * (self._totals[index + 1] - self._totals[index])


class Grid:
    """Where the target's chunks are, and where new ones would be."""

    def __init__(self, time_type: TimeType, interval: int, chunks: Iterable[tuple[int | None, int | None]]) -> None:
        self.time_type = time_type
        self.interval = interval
        least, most = time_type.minimum, time_type.maximum + 1
        spans = {(least if lo is None else max(lo, least), most if hi is None else min(hi, most)) for lo, hi in chunks}
        self.chunks = sorted(s for s in spans if s[0] < s[1])
        # Space partitions may have been cut differently: ranges can overlap. Cells are their common pieces.
        self.edges = sorted({edge for span in self.chunks for edge in span})
        self._covered: list[tuple[int, int]] = []
        for lower, upper in self.chunks:
            if self._covered and lower <= self._covered[-1][1]:
                self._covered[-1] = (self._covered[-1][0], max(self._covered[-1][1], upper))
            else:
                self._covered.append((lower, upper))

    def cell(self, ordinal: int) -> Span:
        """The stretch around `ordinal` that no chunk boundary cuts: a chunk's range, or where a chunk would be made."""
        lower = max(grid_floor(ordinal, self.interval), self.time_type.minimum)
        upper = min(grid_floor(ordinal, self.interval) + self.interval, self.time_type.maximum + 1)
        index = bisect_right(self.edges, ordinal)
        before = self.edges[index - 1] if index else None
        after = self.edges[index] if index < len(self.edges) else None
        if before is not None and after is not None and self.exists(ordinal):
            return Span(before, after)
        return Span(lower if before is None else max(lower, before), upper if after is None else min(upper, after))

    def exists(self, ordinal: int) -> bool:
        """Whether a chunk covers this place."""
        index = bisect_right(self._covered, (ordinal, self.time_type.maximum + 2))
        return index > 0 and ordinal < self._covered[index - 1][1]


def make_windows(
    span: Span,
    grid: Grid,
    occupied: Iterable[Span],
    density: Density,
    *,
    max_rows: int,
    step: int | None = None,
    merge: bool = False,
    whole: Callable[[Span, float], bool] = lambda cell, rows: False,
) -> list[PlannedWindow]:
    """Cut `span` into windows.

    `occupied` are cells of the grid in which the source may have rows; cells with a chunk on the target
    are added to them. `step` (ordinals) cuts at its multiples instead of by estimated rows. `merge`
    puts neighbouring cells together up to `max_rows`: for a source that is scanned anew for every window. `whole` is
    asked which cells, of about so many rows, are not to be cut at all.
    """
    cells = sorted({_key(c) for c in occupied} | {_key(grid.cell(edge)) for edge in grid.edges if grid.exists(edge)})
    pieces: list[PlannedWindow] = []
    position = span.lower
    for lower, upper in cells:
        # The cell at the bottom of the type has nothing below it: it takes the open end.
        bottom = lower <= grid.time_type.minimum and span.lower is None
        cell = Span(None if bottom else lower, upper).intersect(span)
        if cell is None or cell.is_empty or (position is not None and cell.upper <= position):
            continue
        if position is not None and cell.lower is not None and cell.lower < position:
            cell = Span(position, cell.upper)
        if cell.lower is not None and (position is None or position < cell.lower):
            pieces.append(PlannedWindow(Span(position, cell.lower), 0, occupied=False))
        rows = density.rows(cell)
        pieces += [_occupied(cell, rows)] if whole(cell, rows) else _split(cell, density, max_rows, step)
        position = cell.upper
        if len(pieces) > MAX_WINDOWS:
            raise Refused(
                f"this would be more than {MAX_WINDOWS:,} windows",
                hint="use a larger --window, or move the range in parts",
            )
    if position is None or position < span.upper:
        pieces.append(PlannedWindow(Span(position, span.upper), 0, occupied=False))
    return _merge(pieces, max_rows) if merge and step is None else pieces


def _key(span: Span) -> tuple[int, int]:
    assert span.lower is not None
    return span.lower, span.upper


def _split(cell: Span, density: Density, max_rows: int, step: int | None, depth: int = 0) -> list[PlannedWindow]:
    """A cell in pieces of at most `max_rows` estimated rows, or of `step` ordinals."""
    rows = density.rows(cell)
    whole = [_occupied(cell, rows)]
    if cell.lower is None:
        return whole
    if step is not None:
        first = grid_floor(cell.lower, step) + step
        if (cell.upper - first) // step > MAX_WINDOWS:
            raise Refused(f"--window would cut one chunk into more than {MAX_WINDOWS:,} pieces")
        spans = cut(cell, range(first, cell.upper, step))
        return [_occupied(s, density.rows(s)) for s in spans]
    if rows <= max_rows * 1.1 or depth > _DEPTH:
        return whole
    fine = split_even(cell, min(2048, _FINE_PIECES * int(rows / max_rows + 1)))
    if len(fine) == 1:
        return whole
    # Rows are seldom spread evenly: cut finely, then put neighbours together until the aim is reached.
    aim = rows / -(-rows // max_rows)
    pieces: list[PlannedWindow] = []
    current, current_rows = fine[0], density.rows(fine[0])
    for piece in fine[1:]:
        piece_rows = density.rows(piece)
        if current_rows + piece_rows / 2 > aim:
            pieces += _settle(current, current_rows, density, max_rows, depth)
            current, current_rows = piece, piece_rows
        else:
            current, current_rows = Span(current.lower, piece.upper), current_rows + piece_rows
    return pieces + _settle(current, current_rows, density, max_rows, depth)


def _settle(span: Span, rows: float, density: Density, max_rows: int, depth: int) -> list[PlannedWindow]:
    """A piece as it is, or cut once more where a fine piece alone holds far too much."""
    if rows > 2 * max_rows:
        return _split(span, density, max_rows, None, depth + 1)
    return [_occupied(span, rows)]


def _occupied(span: Span, rows: float) -> PlannedWindow:
    # Never 0: that means "seems empty", and no chunk would be made for the window beforehand.
    return PlannedWindow(span, max(1, round(rows)), occupied=True)


def _merge(pieces: Sequence[PlannedWindow], max_rows: int) -> list[PlannedWindow]:
    """Neighbours put together up to `max_rows`: fewer windows, each aligned still."""
    merged: list[PlannedWindow] = []
    count = 0
    for piece in pieces:
        last = merged[-1] if merged else None
        if last is not None and last.estimate + piece.estimate <= max_rows and count < _MERGE_CHUNKS:
            merged[-1] = PlannedWindow(
                Span(last.span.lower, piece.span.upper), last.estimate + piece.estimate, last.occupied or piece.occupied
            )
            count += 1
        else:
            merged.append(piece)
            count = 1
    return merged


def cells_between(grid: Grid, first: int, last: int, limit: int) -> list[Span]:
    """The cells from the one with `first` to the one with `last`, at most `limit` of them."""
    cells: list[Span] = []
    position = first
    while position <= last and len(cells) < limit:
        cell = grid.cell(position)
        cells.append(cell)
        position = cell.upper
    return cells


def histogram_bins(
    bounds: Sequence[int], common: Iterable[tuple[int, float]], total: float, rest: float
) -> list[tuple[int, int, float]]:
    """Bins from an equi-depth histogram: `bounds` hold `rest` of the `total` rows in equal parts, `common`
    are single values with their share."""
    bins = [(value, value + 1, share * total) for value, share in common]
    if len(bounds) > 1:
        each = rest * total / (len(bounds) - 1)
        bins += [(a, max(b, a + 1), each) for a, b in pairwise(bounds)]
    elif bounds:
        bins.append((bounds[0], bounds[0] + 1, rest * total))
    return bins
