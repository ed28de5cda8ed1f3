"""How chunks end, by the rules alone: one window for what is written compressed, and no order claimed that is not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfill.catalog import Chunk, Column, Hypertable, Relation
from hyperfill.columnstore import Collation, OrderBy, Settings, Sides, same, time_first, unfaithful
from hyperfill.landing import Landings, Rules, Stretch, Way, assign
from hyperfill.pgtypes import Type
from hyperfill.plan import Density, Grid, make_windows
from hyperfill.timeline import TIME_TYPES, Span
from hyperfill.window import MovedColumn

BIGINT = TIME_TYPES["bigint"]
EMPTY = Relation(1, "public", "m", "r")


def hypertable(*chunks: tuple[int | None, int | None], interval: int = 100) -> Hypertable:
    made = [Chunk(lower, upper, "c", str(i), False, -1, 0, i) for i, (lower, upper) in enumerate(chunks)]
    return Hypertable(EMPTY, "time", BIGINT, interval, chunks=tuple(made))


def rules(span: Span, *, cutoff: int | None = None, largest: int = 1000) -> Rules:
    return Rules("auto", span, cutoff=cutoff, cutoff_text="compress_after 5", largest=largest)


def test_the_ways() -> None:
    table = hypertable()
    found = rules(Span(50, 950), cutoff=800)
    ways = {lower: found.way(Span(lower, lower + 100), table) for lower in range(0, 1000, 100)}
    assert [lower for lower, (way, _) in ways.items() if way == "written"] == [100, 200, 300, 400, 500, 600, 700]
    assert ways[0] == ("plain", "it contains the start of the range")
    assert ways[800] == ("plain", "its policy does not compress it yet (compress_after 5)")
    assert ways[900] == ("plain", "it contains the end of the range")


def test_the_ends_of_the_range_on_a_chunks_own() -> None:
    found = rules(Span(100, 300))
    assert [found.way(Span(n, n + 100), hypertable())[0] for n in (0, 100, 200, 300)] == [
        "plain", "written", "written", "plain",
    ]  # fmt: skip


def test_a_range_that_is_open_below() -> None:
    found = rules(Span(None, 300))
    assert found.way(Span(BIGINT.minimum, 100), hypertable())[0] == "written"
    assert found.way(Span(None, 100), hypertable())[0] == "written"
    assert rules(Span(0, 300)).way(Span(None, 100), hypertable())[0] == "plain"


@pytest.mark.parametrize("chunk", [(None, 200), (50, 200), (100, 250), (100, None)])
def test_chunks_of_different_lengths(chunk: tuple[int | None, int | None]) -> None:
    """Another space partition reaches beyond the cell."""
    way, reason = rules(Span(None, 1000)).way(Span(100, 200), hypertable((100, 200), chunk))
    assert (way, reason) == ("plain", "its space partitions have chunks of different lengths")
    assert rules(Span(None, 1000)).way(Span(100, 200), hypertable((100, 200), (100, 200)))[0] == "written"


def test_what_holds_for_all_comes_before() -> None:
    found = rules(Span(0, 1000))
    indirect = dataclasses.replace(found, indirect="because")
    assert indirect.way(Span(100, 200), hypertable()) == ("afterwards", "because")
    nothing = dataclasses.replace(indirect, nothing="never")
    assert nothing.way(Span(100, 200), hypertable()) == ("plain", "never")
    assert dataclasses.replace(indirect, cutoff=150).way(Span(100, 200), hypertable())[0] == "plain"


def test_which_cells_are_not_cut() -> None:
    found, table = rules(Span(50, 1000), largest=1000), hypertable()
    whole = found.whole(table, cut=False)
    assert whole(Span(100, 200), 1000)
    assert not whole(Span(100, 200), 1001)
    assert not whole(Span(0, 100), 10)
    assert not found.whole(table, cut=True)(Span(100, 200), 10)
    assert not dataclasses.replace(found, indirect="because").whole(table, cut=False)(Span(100, 200), 10)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Rules, Hypertable, list[int], int, bool, bool]:
    """Rules, chunks that are there, rows, the most of a window, whether cells are merged, whether the user cuts."""
    ends = sorted((draw(st.integers(-500, 1500)), draw(st.integers(-500, 1500))))
    span = Span(None if draw(st.booleans()) else ends[0], ends[1] + 1)
    edges = sorted(draw(st.sets(st.integers(-800, 2000), max_size=6)))
    table = hypertable(*zip(edges[::2], edges[1::2], strict=False), interval=draw(st.integers(1, 300)))
    cutoff = draw(st.none() | st.integers(-500, 1500))
    found = rules(span, cutoff=cutoff, largest=draw(st.integers(0, 3000)))
    rows = draw(st.lists(st.integers(-500, 1500), max_size=8))
    if draw(st.booleans()):
        found.indirect = "because"
    inside = [row for row in rows if span.contains(row)]
    return found, table, inside, draw(st.integers(1, 2000)), draw(st.booleans()), draw(st.booleans())


@given(scenes())
def test_every_stretch_has_its_windows(scene: tuple[Rules, Hypertable, list[int], int, bool, bool]) -> None:
    """What is written compressed is one window and that alone; what is compressed afterwards is all in its windows."""
    found, table, rows, most, merge, cut = scene
    grid = Grid(BIGINT, table.interval, [(c.lower, c.upper) for c in table.chunks])
    density = Density([(row, row + 7, 900.0) for row in rows])
    keys = {(grid.cell(row).lower, grid.cell(row).upper) for row in rows}
    cells = [Span(*key) for key in sorted(keys, key=lambda k: k[1])]
    windows = make_windows(
        found.span, grid, cells, density, max_rows=most, merge=merge, whole=found.whole(table, cut=cut)
    )
    stretches = assign(found, table, cells, windows)
    assert [one.span for one in stretches] == cells
    for one in stretches:
        mine = windows[one.first_window - 1 : one.last_window]
        assert mine and one.rows == sum(w.estimate for w in mine)
        assert one.first_window == 1 or windows[one.first_window - 2].span.upper <= (one.span.lower or 0)
        if one.way != "plain":
            assert mine[0].span.lower is None or mine[0].span.lower <= (one.span.lower or 0)
            assert mine[-1].span.upper >= one.span.upper
            assert one.span.upper <= (found.span.upper if found.cutoff is None else min(found.span.upper, found.cutoff))
        if one.way == "written":
            assert [w.span for w in mine] == [one.span] and one.reason == ""
            assert one.rows <= found.largest and found.indirect is None
        else:
            assert one.reason


@given(scenes())
def test_what_may_be_one_window_is_written(scene: tuple[Rules, Hypertable, list[int], int, bool, bool]) -> None:
    """However few rows windows have else, as long as nobody has said so, and none is put together with others."""
    found, table, rows, most, _, _ = scene
    grid = Grid(BIGINT, table.interval, [(c.lower, c.upper) for c in table.chunks])
    cells = [Span(*k) for k in sorted({(grid.cell(r).lower, grid.cell(r).upper) for r in rows}, key=lambda k: k[1])]
    density = Density([(row, row + 1, 900.0) for row in rows])
    whole = found.whole(table, cut=False)
    windows = make_windows(found.span, grid, cells, density, max_rows=most, whole=whole)
    ways = {one.span: one.way for one in assign(found, table, cells, windows)}
    for cell in cells:
        expected = found.way(cell, table)[0]
        if expected == "written" and density.rows(cell) > found.largest:
            expected = "afterwards"
        assert ways[cell] == expected


def test_figures() -> None:
    rows: dict[Way, tuple[int, ...]] = {"plain": (10, 20), "afterwards": (5, 50, 30), "written": (1000,)}
    stretches = [Stretch(Span(n, n + 1), way, "", n) for way, sizes in rows.items() for n in sizes]
    found = Landings("auto", stretches, row_bytes=100, jobs=2)
    assert found.counts() == {"written": 1, "afterwards": 3, "plain": 2}
    assert (found.plain_bytes, found.peak_bytes) == (3000, 8000)
    shown = found.as_json(BIGINT)
    assert (shown["land"], shown["plain_bytes"], shown["waiting_bytes"]) == ("auto", 3000, 8000)
    assert shown["chunks"][0] == {"lower": "10", "upper": "11", "way": "plain", "reason": "", "rows_estimated": 10}
    assert found.lines()[0] == "chunks written compressed: 1"
    assert "8" in found.lines()[-1]
    unknown = dataclasses.replace(found, row_bytes=0).as_json(BIGINT)
    assert (unknown["plain_bytes"], unknown["waiting_bytes"]) == (None, None)


# -- the order that both servers have in common


def column(name: str, kind: str, *, builtin: bool = True, typmod: int = -1, of: str = "b") -> Column:
    inner = Type(kind, of, builtin, typmod, has_binary=True)
    return Column(name, kind, 1, typmod, False, False, "", None, False, None, True, True, inner)


def sides(
    kind: str,
    *,
    source: str | None = None,
    here: Collation | None = None,
    there: Collation | None = None,
    cast: str | None = None,
    utf8: bool = True,
    builtin: bool = True,
    compressed: bool = False,
) -> Sides:
    return Sides(
        Relation(1, "public", "m", "r", (column("of source", source or kind, builtin=builtin),)),
        Relation(2, "public", "m", "r", (column("c", kind, builtin=builtin),)),
        (MovedColumn("of source", "c", cast),),
        {"of source": here} if here else {},
        {"c": there} if there else {},
        utf8,
        compressed,
    )


SEGMENT = Settings(("c",), ())
ORDER = Settings((), (OrderBy("c", True, False),))
BYTES, WORDS, ANYCASE = Collation(True, True), Collation(True, False), Collation(False, False)


@pytest.mark.parametrize("kind", ["int4", "int8", "timestamptz", "uuid", "bool", "date", "inet", "bytea"])
def test_types_that_all_servers_sort_alike(kind: str) -> None:
    assert sides(kind).problem(SEGMENT) is None
    assert sides(kind).problem(ORDER) is None


@pytest.mark.parametrize("kind", ["float8", "float4", "numeric", "interval", "timetz"])
def test_equal_values_that_are_not_the_same(kind: str) -> None:
    assert "may not sort segmentby column" in str(sides(kind).problem(SEGMENT))
    assert sides(kind).problem(ORDER) is None


@pytest.mark.parametrize("kind", ["jsonb", "_int4", "bpchar", "name", "tsvector", "int4range"])
def test_types_that_nobody_vouches_for(kind: str) -> None:
    for settings in (SEGMENT, ORDER):
        assert "may not sort" in str(sides(kind).problem(settings))


def test_columns_that_are_not_the_same() -> None:
    for settings in (SEGMENT, ORDER):
        assert "another type" in str(sides("int8", source="int4").problem(settings))
        assert "another type" in str(sides("int8", cast="bigint").problem(settings))
        assert "user's own type" in str(sides("mood", builtin=False).problem(settings))
    assert "is not moved" in str(sides("int4").problem(Settings(("other",), ())))
    assert "is not moved" in str(sides("int4").problem(Settings(("c",), (OrderBy("other", True, True),))))


@pytest.mark.parametrize("kind", ["text", "varchar"])
def test_text(kind: str) -> None:
    """segmentby needs that equal is the same on both sides; orderby that the target sorts by bytes."""
    for here, there in ((BYTES, WORDS), (WORDS, BYTES), (WORDS, WORDS)):
        assert sides(kind, here=here, there=there).problem(SEGMENT) is None
        found = sides(kind, here=here, there=there).problem(ORDER)
        assert (found is None) == (there is BYTES)
    unsure: list[tuple[Collation | None, Collation]]
    unsure = [(ANYCASE, WORDS), (BYTES, ANYCASE), (ANYCASE, BYTES), (None, BYTES)]
    for one, other in unsure:
        for settings in (SEGMENT, ORDER):
            assert "different values are equal" in str(sides(kind, here=one, there=other).problem(settings))
    assert "may not sort orderby" in str(sides(kind, here=BYTES, there=BYTES, utf8=False).problem(ORDER))


def test_order_by() -> None:
    both = Settings(("c",), (OrderBy("c", True, True),))
    expected = 'ORDER BY "r"."of source", "r"."of source" DESC NULLS FIRST'
    assert sides("int4").order_by(both).as_string() == expected
    ascending = Settings((), (OrderBy("c", False, False),))
    assert sides("int4").order_by(ascending).as_string() == 'ORDER BY "r"."of source" ASC NULLS LAST'
    text = sides("text", here=WORDS, there=BYTES)
    by_bytes = '"r"."of source" COLLATE pg_catalog."C"'
    assert text.order_by(both).as_string() == f"ORDER BY {by_bytes}, {by_bytes} DESC NULLS FIRST"
    # The order of a compressed source's own batches, which must not be sorted again.
    found = dataclasses.replace(text, compressed=True).order_by(both).as_string()
    assert found == f'ORDER BY "r"."of source", {by_bytes} DESC NULLS FIRST'


def test_slices_of_time() -> None:
    assert time_first(Settings(("c",), (OrderBy("time", True, True), OrderBy("c", True, True))), "time")
    assert not time_first(Settings(("c",), (OrderBy("c", True, True), OrderBy("time", True, True))), "time")
    assert not time_first(Settings(("c",), ()), "time")


def test_settings_that_chunks_share() -> None:
    assert same([SEGMENT, SEGMENT]) == SEGMENT
    for found in ([], [None], [SEGMENT, None], [None, SEGMENT], [SEGMENT, ORDER]):
        assert same(found) is None


def test_what_compressing_would_change() -> None:
    def changed(kind: str, collation: Collation | None = None, **more: Any) -> bool:
        relation = Relation(2, "public", "m", "r", (column("c", kind, **more),))
        return unfaithful(SEGMENT, relation, {"c": collation} if collation else {}) is not None

    assert [k for k in ("int4", "uuid", "name", "bool") if changed(k)] == []
    assert changed("bpchar") and not changed("bpchar", typmod=8)
    assert not changed("text", BYTES) and not changed("text", WORDS) and changed("text", ANYCASE)
    assert not changed("mood", builtin=False, of="e")
    for kind in ("float8", "numeric", "interval", "jsonb", "_float8"):
        assert changed(kind)
    assert changed("citext", WORDS, builtin=False)
    assert not changed("numeric", typmod=655366)
    assert unfaithful(ORDER, EMPTY, {}) is None
