"""Whatever is known of the rows, the windows of a plan are an exact partition of its range."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfill.errors import Refused
from hyperfill.plan import Density, Grid, PlannedWindow, cells_between, histogram_bins, make_windows
from hyperfill.timeline import TIME_TYPES, Span, TimeType, grid_floor

SMALLINT = TIME_TYPES["smallint"]
BIGINT = TIME_TYPES["bigint"]
TIMESTAMPTZ = TIME_TYPES["timestamp with time zone"]
TYPES = [SMALLINT, TIME_TYPES["integer"], BIGINT, TIME_TYPES["date"], TIMESTAMPTZ]

Bin = tuple[int, int, float]


class Problem(NamedTuple):
    """All that decides how a range is cut."""

    span: Span
    grid: Grid
    occupied: list[Span]
    density: Density

    def windows(self, max_rows: int = 100, step: int | None = None, merge: bool = False) -> list[PlannedWindow]:
        return make_windows(
            self.span, self.grid, self.occupied, self.density, max_rows=max_rows, step=step, merge=merge
        )


@st.composite
def places(draw: st.DrawFn, time_type: TimeType) -> int:
    """An ordinal of the type: around zero, around both of its ends, or anywhere."""
    near = st.integers(-200, 200)
    bottom = st.integers(time_type.minimum, time_type.minimum + 200)
    top = st.integers(time_type.maximum - 200, time_type.maximum)
    return draw(near | near | bottom | top | st.integers(time_type.minimum, time_type.maximum))


@st.composite
def chunk_ranges(draw: st.DrawFn, time_type: TimeType) -> tuple[int | None, int | None]:
    """A chunk's range as the catalog may show it: of any length, without an end at the ends of the type."""
    lower = draw(places(time_type))
    upper = lower + draw(st.integers(1, 60) | st.integers(1, 10**6))
    return (
        None if lower == time_type.minimum or draw(st.sampled_from([True, *[False] * 9])) else lower,
        None if upper > time_type.maximum else upper,
    )


@st.composite
def grids(draw: st.DrawFn, time_type: TimeType) -> Grid:
    interval = draw(st.integers(1, 100) | st.integers(1, 10**7))
    return Grid(time_type, interval, draw(st.lists(chunk_ranges(time_type), max_size=8)))


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    time_type = draw(st.sampled_from(TYPES))
    ends = sorted((draw(places(time_type)), draw(places(time_type))))
    span = Span(None if draw(st.booleans()) else ends[0], ends[1])
    grid = draw(grids(time_type))
    rows = draw(st.lists(places(time_type), max_size=12))
    bins: list[Bin] = []
    for _ in range(draw(st.integers(0, 6))):
        lower = draw(places(time_type))
        bins.append((lower, lower + draw(st.integers(1, 5000)), draw(st.floats(0, 5_000))))
    return Problem(span, grid, [grid.cell(row) for row in rows], Density(bins))


def assert_exact_partition(span: Span, windows: list[PlannedWindow]) -> None:
    if span.is_empty:
        assert windows == []
        return
    assert windows[0].span.lower == span.lower
    assert windows[-1].span.upper == span.upper
    assert all(a.span.upper == b.span.lower for a, b in pairwise(windows))
    assert not any(window.span.is_empty for window in windows)
    assert all(window.span.lower is not None for window in windows[1:])


def strictly_inside(span: Span, ordinal: int, time_type: TimeType) -> bool:
    """Whether a cut at the ordinal would leave something on both sides."""
    lower = time_type.minimum if span.lower is None else span.lower
    return lower < ordinal < span.upper


def step_for(data: st.DataObject, problem: Problem) -> int:
    """A length that cuts the largest cell into at most a hundred pieces, or leaves it whole."""
    cells = [*problem.occupied, *map(problem.grid.cell, filter(problem.grid.exists, problem.grid.edges))]
    longest = max((cell.upper - cell.lower for cell in cells if cell.lower is not None), default=100)
    return data.draw(st.integers(longest // 100 + 1, 2 * longest + 1))


@given(st.data(), problems(), st.integers(50, 5000), st.booleans())
def test_windows_are_an_exact_partition(data: st.DataObject, problem: Problem, max_rows: int, merge: bool) -> None:
    assert_exact_partition(problem.span, problem.windows(max_rows, None, merge))
    assert_exact_partition(problem.span, problem.windows(max_rows, step_for(data, problem), merge))


@given(problems(), st.integers(50, 5000))
def test_a_window_lies_in_one_chunk(problem: Problem, max_rows: int) -> None:
    """No chunk boundary inside a window, neither of a chunk that is there nor of one that will be made."""
    grid = problem.grid
    for window in problem.windows(max_rows):
        assert not any(strictly_inside(window.span, edge, grid.time_type) for edge in grid.edges)
        if window.occupied:
            assert grid.cell(window.span.upper - 1).covers(
                window.span if window.span.lower is not None else Span(grid.time_type.minimum, window.span.upper)
            )


@given(problems(), st.integers(50, 5000))
def test_every_chunk_and_every_row_lies_in_an_occupied_window(problem: Problem, max_rows: int) -> None:
    """What looks empty is a window too, but holds nothing that was known when the plan was made."""
    known = [*problem.occupied, *(problem.grid.cell(lower) for lower, _ in problem.grid.chunks)]
    for window in problem.windows(max_rows):
        if not window.occupied:
            assert window.estimate == 0
            assert not any(window.span.overlaps(cell) for cell in known)


@given(st.data(), problems())
def test_a_step_cuts_at_its_multiples_and_nowhere_else(data: st.DataObject, problem: Problem) -> None:
    step = step_for(data, problem)
    windows = problem.windows(step=step)
    assert_exact_partition(problem.span, windows)
    cells = {(cell.lower, cell.upper) for cell in map(problem.grid.cell, (w.span.upper - 1 for w in windows))}
    edges = {edge for cell in cells for edge in cell} | {problem.span.lower, problem.span.upper}
    edges |= {edge for cell in problem.occupied for edge in (cell.lower, cell.upper)}
    for window in windows:
        lower, upper = window.span.lower, window.span.upper
        if window.occupied and lower is not None:
            assert grid_floor(lower, step) == grid_floor(upper - 1, step)  # no multiple strictly inside
            assert all(at % step == 0 or at in edges for at in (lower, upper))


def test_rows_that_crowd_in_a_chunk_without_end() -> None:
    """One chunk over half of all bigints, and all its rows in four neighbouring values."""
    edge = BIGINT.minimum
    grid = Grid(BIGINT, 1000, [(edge, 1)])
    windows = make_windows(Span(edge, 1), grid, [], Density([(-3491311, -3491307, 101.7)]), max_rows=50)
    assert max(window.estimate for window in windows) < 101


@given(problems(), st.integers(50, 5000))
def test_no_window_is_larger_than_it_must_be(problem: Problem, max_rows: int) -> None:
    """At most twice the rows that were asked for, unless all of them share one moment, or the open past."""
    windows = problem.windows(max_rows)
    for window in windows:
        if window.span.lower is not None and window.span.upper - window.span.lower > 1:
            assert window.estimate <= 2 * max_rows + 1
    # And not cut to pieces: cells that need no cut get none, the others a few times the least number.
    cells = sum(1 for w in windows if w.occupied and w.span == problem.grid.cell(w.span.upper - 1))
    assert len(windows) <= 2 * (len(problem.occupied) + len(problem.grid.edges)) + 2 + cells + 6 * (
        problem.density.rows(problem.span) / max_rows
    )


@given(problems(), st.integers(50, 5000))
def test_merged_windows_are_unions_of_windows(problem: Problem, max_rows: int) -> None:
    single, merged = problem.windows(max_rows), problem.windows(max_rows, merge=True)
    assert_exact_partition(problem.span, merged)
    assert {w.span.upper for w in merged} <= {w.span.upper for w in single}
    rest = list(single)
    for window in merged:
        parts = [rest.pop(0)]
        while parts[-1].span.upper < window.span.upper:
            parts.append(rest.pop(0))
        assert window.estimate == sum(part.estimate for part in parts)
        assert window.occupied == any(part.occupied for part in parts)
        assert len(parts) <= 64
        assert len(parts) == 1 or window.estimate <= max_rows
        # What follows would have fitted as well only if the window held too many chunks then.
        assert not rest or window.estimate + rest[0].estimate > max_rows or len(parts) == 64


def test_too_many_windows_are_refused_before_memory_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid(BIGINT, 10**9, [])
    for step in (1, 100):
        with pytest.raises(Refused, match="--window"):
            make_windows(Span(0, 10**9), grid, [grid.cell(0)], Density([]), max_rows=10, step=step)
    tiny = Grid(BIGINT, 1, [])
    many = (Span(at, at + 1) for at in range(2_000))
    monkeypatch.setattr("hyperfill.plan.MAX_WINDOWS", 1_000)
    with pytest.raises(Refused, match="more than 1,000 windows"):
        make_windows(Span(0, 10**9), tiny, many, Density([]), max_rows=10)


def test_skewed_rows_of_one_chunk_are_cut_where_they_are() -> None:
    hour = 3_600_000_000
    grid = Grid(TIMESTAMPTZ, 24 * hour, [(0, 24 * hour)])
    density = Density([(0, 24 * hour, 2_400.0), (12 * hour, 12 * hour + hour // 60, 100_000.0)])
    windows = make_windows(Span(0, 24 * hour), grid, [], density, max_rows=10_000)
    assert_exact_partition(Span(0, 24 * hour), windows)
    assert max(w.estimate for w in windows) <= 20_000
    assert 6 <= len(windows) <= 20
    burst = [w for w in windows if w.span.overlaps(Span(12 * hour, 12 * hour + hour // 60))]
    assert len(burst) >= len(windows) - 3


@given(st.data())
def test_cells_tile_the_axis(data: st.DataObject) -> None:
    time_type = data.draw(st.sampled_from(TYPES))
    grid = data.draw(grids(time_type))
    at = data.draw(places(time_type))
    cell = grid.cell(at)
    assert cell.contains(at)
    assert cell.lower is not None
    assert time_type.minimum <= cell.lower
    assert cell.upper <= time_type.maximum + 1
    assert not any(strictly_inside(cell, edge, time_type) for edge in grid.edges)
    assert grid.exists(at) == any(lower <= at < upper for lower, upper in grid.chunks)
    for other in (cell.lower, cell.upper - 1):
        assert grid.cell(other) == cell
    if not grid.exists(at):  # where a chunk would be made, it is no longer than the interval
        assert cell.upper - cell.lower <= grid.interval
    several = cells_between(grid, at, time_type.maximum, 20)
    assert several[0] == cell
    assert all(a.upper == b.lower for a, b in pairwise(several))
    assert several[-1].upper == time_type.maximum + 1 or len(several) == 20


def test_an_unlimited_chunk_ends_where_the_type_does() -> None:
    """The catalog shows the lowest chunk of a smallint dimension without a lower bound."""
    grid = Grid(SMALLINT, 10, [(None, -32_760), (32_760, None)])
    assert grid.edges == [-32_768, -32_760, 32_760, 32_768]
    windows = make_windows(Span(None, 32_767), grid, [], Density([]), max_rows=1)
    assert [(w.span.lower, w.span.upper, w.occupied) for w in windows] == [
        (None, -32_760, True),
        (-32_760, 32_760, False),
        (32_760, 32_767, True),
    ]


@st.composite
def bins_and_span(draw: st.DrawFn) -> tuple[list[Bin], Span]:
    edges = st.integers(-1000, 1000)
    bins = [
        (lower, lower + draw(st.integers(0, 300)), float(draw(st.integers(0, 10_000))))
        for lower in draw(st.lists(edges, max_size=8))
    ]
    one, other = sorted((draw(edges), draw(edges)))
    return bins, Span(None if draw(st.booleans()) else one, other)


def counted(bins: list[Bin], span: Span) -> float:
    """The same, the long way round."""
    total = 0.0
    for lower, upper, rows in bins:
        inside = Span(lower, upper).intersect(span) if upper > lower else None
        if inside is not None and inside.lower is not None:
            total += rows * (inside.upper - inside.lower) / (upper - lower)
    return total


@given(bins_and_span(), st.lists(st.integers(-1000, 1300), max_size=5))
def test_density_adds_up(case: tuple[list[Bin], Span], cuts: list[int]) -> None:
    bins, span = case
    density = Density(bins)
    assert density.total == pytest.approx(counted(bins, Span(None, 2000)), rel=1e-9, abs=1e-6)
    assert density.rows(span) == pytest.approx(counted(bins, span), rel=1e-9, abs=1e-6)
    edges = [-2000, *sorted(cuts), 2000]
    parts = [density.rows(Span(a, b)) for a, b in pairwise(edges)]
    assert all(part >= 0 for part in parts)
    assert sum(parts) == pytest.approx(density.total, rel=1e-9, abs=1e-6)


def test_one_crowded_moment_does_not_change_what_is_known_of_the_rest() -> None:
    """A hundred million rows of one microsecond in 74 years, and a million rows over all of them."""
    years = 74 * 31_557_600_000_000
    density = Density([(years // 3, years // 3 + 1, 1e8), (0, years, 1e6)])
    assert density.rows(Span(0, years)) == pytest.approx(1.01e8)
    assert density.rows(Span(years // 2, years)) == pytest.approx(5e5, rel=1e-3)


@given(
    st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(-10_000, 10_000), st.floats(0, 0.1)), max_size=5),
    st.integers(1, 10**9),
)
def test_bins_of_a_histogram_hold_all_rows(values: list[int], common: list[tuple[int, float]], total: int) -> None:
    rest = 1.0 - sum(share for _, share in common)
    bins = histogram_bins(sorted(values), common, float(total), rest)
    assert sum(rows for *_, rows in bins) == pytest.approx(total)
    assert all(lower < upper for lower, upper, _ in bins)
