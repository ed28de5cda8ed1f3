"""Half-open spans of ordinals, and the exactness of every way to cut them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyperfill.timeline import TIME_TYPES, Span, cut, grid_floor, split_even

TIMESTAMPTZ = TIME_TYPES["timestamp with time zone"]

small = st.integers(-30, 30)
axis = range(-40, 40)


@st.composite
def spans(draw: st.DrawFn, numbers: st.SearchStrategy[int] = small) -> Span:
    one, other = sorted((draw(numbers), draw(numbers)))
    return Span(None if draw(st.booleans()) else one, other)


def members(span: Span) -> set[int]:
    return {ordinal for ordinal in axis if span.contains(ordinal)}


@given(spans(), spans())
def test_spans_are_sets_of_ordinals(one: Span, other: Span) -> None:
    assert one.is_empty == (not members(one))
    assert one.overlaps(other) == other.overlaps(one) == bool(members(one) & members(other))
    both = one.intersect(other)
    assert both == other.intersect(one)
    assert (members(both) if both else set()) == members(one) & members(other)
    assert both is None or not both.is_empty
    if one.lower is None or other.lower is not None:  # a piece of the axis cannot show an unbounded other
        assert one.covers(other) == (members(other) <= members(one))
    else:
        assert not one.covers(other)


def test_a_span_is_half_open() -> None:
    start, end = TIMESTAMPTZ.ordinal("2023-08-01 00:00:00+00"), TIMESTAMPTZ.ordinal("2023-09-01 00:00:00+00")
    span = Span(start, end)
    assert [span.contains(at) for at in (start - 1, start, end - 1, end)] == [False, True, True, False]
    assert Span(None, end).contains(TIMESTAMPTZ.minimum)
    with pytest.raises(ValueError, match="after its end"):
        Span(end, start)


def assert_exact_partition(span: Span, pieces: list[Span]) -> None:
    """No gap, no overlap, no empty piece, the union is the span: pieces follow each other from end to end."""
    if span.is_empty:
        assert pieces == []
        return
    assert [piece.lower for piece in pieces] == [span.lower, *(piece.upper for piece in pieces[:-1])]
    assert pieces[-1].upper == span.upper
    assert not any(piece.is_empty for piece in pieces)
    edges = [span.upper, *(edge for piece in pieces if (edge := piece.lower) is not None)]
    for ordinal in {edge + delta for edge in edges for delta in (-1, 0, 1)}:
        assert sum(piece.contains(ordinal) for piece in pieces) == span.contains(ordinal)


@given(spans(st.integers()) | spans(), st.lists(st.integers() | small))
def test_cut_is_an_exact_partition_at_the_edges_inside(span: Span, edges: list[int]) -> None:
    pieces = cut(span, iter([*edges, *edges]))
    assert_exact_partition(span, pieces)
    inside = {edge for edge in edges if span.contains(edge) and edge != span.lower}
    assert {piece.lower for piece in pieces[1:]} == inside


@given(spans(st.integers(-(2**127), 2**127)) | spans(), st.integers(1, 200))
def test_split_even_is_an_exact_partition_of_nearly_equal_pieces(span: Span, count: int) -> None:
    if span.lower is None:
        with pytest.raises(ValueError, match="without a lower bound"):
            split_even(span, count)
        return
    pieces = split_even(span, count)
    assert_exact_partition(span, pieces)
    assert len(pieces) == min(count, span.upper - span.lower)
    lengths = [piece.upper - piece.lower for piece in pieces if piece.lower is not None]
    assert not lengths or max(lengths) - min(lengths) <= 1


def test_a_span_cannot_be_split_into_no_pieces() -> None:
    with pytest.raises(ValueError, match="into 0 pieces"):
        split_even(Span(0, 10), 0)


@given(st.integers(), st.integers(1), st.integers())
@example(-1, 10, 0)
@example(-10, 10, 0)
def test_grid_floor(ordinal: int, interval: int, origin: int) -> None:
    line = grid_floor(ordinal, interval, origin)
    assert line <= ordinal < line + interval
    assert (line - origin) % interval == 0


def test_a_grid_needs_an_interval() -> None:
    with pytest.raises(ValueError, match="positive interval"):
        grid_floor(5, 0)
