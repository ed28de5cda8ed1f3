"""What a report says of a ledger's figures, and that nothing in a name becomes markup."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hyperfill import report_charts, report_compared, report_page, report_text
from hyperfill.catalog import Server
from hyperfill.ledger import Entry
from hyperfill.report import BARS, Bar, BatchBar, Held, Period, Report, Window
from hyperfill.report_compared import Compared
from hyperfill.report_parts import visible
from hyperfill.report_verdict import judge
from hyperfill.timeline import Span

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
SERVER = Server(170005, (2, 19, 3), "public", "apache", False, False, "UTF8", "db", 5, "me", 8192, "77")
NOT_COMPARED = Compared(0, 0, 0, None, None, None, None, None, None)


def entry(**given: Any) -> Entry:
    """A finished backfill of four windows."""
    figures = {f.name: 0 for f in dataclasses.fields(Entry) if f.type == "int"}
    known: dict[str, Any] = {
        "id": 7, "kind": "run", "hypertable": "public.m", "hypertable_oid": 1, "source": "1/src",
        "source_relation": "public.m", "time_type": "timestamptz", "time_column": "time", "source_time_column": "time",
        "range_start": "2024-01-01 00:00:00+00", "range_end": "2024-01-05 00:00:00+00",
        "columns": [{"name": "time", "type": "timestamp with time zone", "source": "time"}],
        "settings": {}, "phase": "done", "planned_at": NOW, "started_at": NOW, "finished_at": NOW,
        "runs": 1, "findings": [], "total": 4, "done": 4, "rows_copied": 40, "bytes_total": None,
    }  # fmt: skip
    return Entry(**{**figures, **known, **given})


def compared(by_hash: int = 4, by_count: int = 0, differ: int = 0) -> Compared:
    return Compared(by_hash, by_count, differ, 40, 40, "9", "9", NOW, NOW)


def report(sums: Compared = NOT_COMPARED, /, *, more: dict[str, Any] | None = None, **given: Any) -> Report:
    return Report(entry(**given), NOW, SERVER, hypertable_now="public.m", compared=sums, **(more or {}))


@pytest.mark.parametrize(
    ("sums", "given", "code", "state"),
    [
        (compared(), {}, "verified", "done"),
        (compared(3), {}, "unverified", "done"),
        (compared(3, 1), {}, "counted", "done"),
        (compared(0, 4), {}, "counted", "done"),
        (NOT_COMPARED, {}, "unverified", "done"),
        (NOT_COMPARED, {"total": 0, "done": 0, "kind": "load"}, "unverified", "done"),
        (compared(4, 0, 1), {}, "differs", "mismatch"),
        (compared(4, 0, 1), {"phase": "refreshed"}, "differs", "mismatch"),
        (compared(), {"phase": "refreshed"}, "incomplete", "incomplete"),
        (NOT_COMPARED, {"phase": "held", "done": 1, "failed": 1}, "incomplete", "incomplete"),
    ],
)
def test_the_verdict(sums: Compared, given: dict[str, Any], code: str, state: str) -> None:
    found = judge(report(sums, **given))
    assert (found.code, found.state) == (code, state)
    assert found.sentence.endswith(".")


def test_an_unfinished_backfill_says_how_far_it_is() -> None:
    found = judge(report(phase="held", done=1, failed=1))
    assert "1 of 4 windows done, 1 failed, 2 pending" in found.sentence
    found = judge(report(compared(2, 0, 1), phase="held", done=2))
    assert any("2 of 4 windows done, 2 pending" in note for note in found.notes)


def test_a_difference_that_was_repaired_is_none() -> None:
    other = entry(id=9, kind="repair", settings={"repairs": 7}, total=1, done=1)
    repairs = [(other, compared(1))]
    found = judge(report(compared(4, 0, 2), more={"repairs": repairs, "repaired": 2}))
    assert found.code == "verified"
    assert any("2 windows differed" in note and "#9" in note for note in found.notes)
    found = judge(report(compared(4, 0, 2), more={"repairs": repairs, "repaired": 1}))
    assert (found.code, found.sentence.startswith("1 window of 4 differs")) == ("differs", True)


def test_what_is_left_to_do_is_noted() -> None:
    held = Held(1, "public.m", 1000, "retention", {"scheduled": True}, NOW, "me", None, None, None)
    more = {
        "holds": [held],
        "chunks": 3,
        "chunks_in_order": 1,
        "aggregates": [{"planned": 4, "done": 1, "left_out": 2}],
    }
    notes = " ".join(judge(report(compared(), rows_rejected=1, more=more)).notes)
    for text in ("1 policy", "2 chunks", "3 slices", "2 slices", "1 row of the files was rejected"):
        assert text in notes
    assert judge(report(compared())).notes == []


def spans(*pairs: tuple[int | None, int]) -> list[tuple[Span, dt.datetime]]:
    later = NOW + dt.timedelta(seconds=1)
    return [(Span(lower, upper), later) for lower, upper in pairs]


@pytest.mark.parametrize(
    ("span", "again", "covered"),
    [
        (Span(10, 20), spans((10, 20)), True),
        (Span(10, 20), spans((0, 15), (15, 30)), True),
        (Span(10, 20), spans((0, 15), (16, 30)), False),
        (Span(10, 20), spans((10, 19)), False),
        (Span(10, 20), spans((11, 20)), False),
        (Span(10, 20), spans((None, 20)), True),
        (Span(None, 20), spans((0, 20)), False),
        (Span(None, 20), spans((None, 5), (5, 20)), True),
        (Span(10, 20), [(Span(10, 20), NOW)], False),  # it was compared before the window was
        (Span(10, 20), [], False),
    ],
)
def test_which_windows_a_repair_covers(span: Span, again: list[tuple[Span, dt.datetime]], covered: bool) -> None:
    assert report_compared.covered(span, NOW, again) is covered


def test_a_changed_policy_is_told_from_one_that_only_moved_on() -> None:
    before = {"scheduled": True, "next_start": "2024", "schedule_interval": "1 day", "timezone": "Europe/Berlin"}

    def held(now: dict[str, Any] | None) -> dict[str, Any]:
        return Held(1, "m", 1, "retention", before, NOW, "me", NOW, "on", now).changed

    assert held({**before, "next_start": "2025"}) == {}
    assert held({**before, "timezone": None}) == {"timezone": ("Europe/Berlin", None)}
    assert held(None) == {}


ODD = st.text(st.sampled_from("<>&|\\`*_{}[]()#+-.!~$@:/\"'%\n\r\t\x00\x1b\u2028\u202e aWw1=é漢"), max_size=40)


@given(ODD)
def test_markdown_shows_a_name_as_it_is(name: str) -> None:
    table = f"| a | b |\n|---|---|\n| x{report_text.escape(name)}x | y |\n"
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(table)
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 4
    [*children] = cells[2].children or []
    assert {child.type for child in children} <= {"text", "text_special"}
    assert "".join(child.content for child in children) == f"x{visible(name)}x"


def test_markdown_makes_no_links_and_no_mentions() -> None:
    for text in ("https://example.com", "www.example.com", "@somebody", "#12", "$x$", "a@b.c"):
        raw = report_text.escape(text)
        assert not re.search(r"(?<!\\)[@#$]|(?<!\\)://|www\.", raw), raw


def test_control_characters_are_seen() -> None:
    assert visible("a\nb\x1b[31m\u202ec") == "a\\nb\\u001b[31m\\u202ec"
    assert visible("a\nb\tc\rd", lines=True) == "a\nb\tc\\rd"


class Page(HTMLParser):
    """What a browser would make of a page: tags, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def drawn(**given: Any) -> Report:
    """A report with every chart."""
    bars = [Bar(i, i, f"2024-01-{i:02} 00:00:00+00", i % 5 and 1, not i % 5, i % 5 and 1, i == 3, 100 * i, 3 * i, 9, 8)
            for i in range(1, 21)]  # fmt: skip
    found = report(compared(19, 0, 1), total=20, done=16, failed=4, **given)
    found.bars = bars
    found.batch_bars = [BatchBar(i, i, 1, 10, 1, 0) for i in range(1, 4)]
    hour = dt.timedelta(hours=1)
    found.periods = [Period(NOW, NOW + hour, 10, 3600, 1), Period(NOW + 9 * hour, NOW + 10 * hour, 10, 7200, 1, 3600.0)]
    found.slices = [1.0, 1.0, 2.0, 2.0]
    return found


def test_the_page_loads_and_runs_nothing() -> None:
    text = report_page.render(drawn())
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("svg") == 4
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"script", "link", "iframe", "object", "embed", "img", "image", "base", "form", "a"})
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "://" not in text and "@import" not in text
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "xlink:href", "src") or "url(" in (value or ""):
                target = re.search(r"#([\w-]+)", value or "")
                assert target and target.group(1) in ids, (tag, name, value)
    assert "Source and target differ" in "".join(page.text)


HOSTILE = "<script>alert(1)</script>\"><img src=x onerror=alert(1)> {{ 7*7 }} ' | \n%s \u202e"


def test_hostile_text_is_inert_everywhere_in_the_page() -> None:
    found = drawn(
        hypertable=HOSTILE, source_relation=HOSTILE, time_column=HOSTILE, settings={HOSTILE: HOSTILE},
        columns=[{"name": HOSTILE, "type": HOSTILE, "source": "x"}],
        findings=[{"severity": HOSTILE, "code": HOSTILE, "message": HOSTILE, "hint": HOSTILE}],
    )  # fmt: skip
    found.hypertable_now = found.planned_by = found.client = found.policies_note = HOSTILE
    found.versions = {"client": HOSTILE, "source": {"postgresql": HOSTILE, "timescaledb": HOSTILE}, "target": HOSTILE}
    job = {"scheduled": False, "owner": HOSTILE, "config": {HOSTILE: HOSTILE}}
    found.holds = [Held(1, HOSTILE, 1, HOSTILE, {**job, "scheduled": True}, NOW, HOSTILE, None, None, job)]
    found.failed = found.listed = [
        Window(1, None, HOSTILE, "failed", 1, None, None, None, None, {"message": HOSTILE, "context": HOSTILE}, None,
               None, None, None, None, None, None)
    ]  # fmt: skip
    found.aggregates = [
        {"view": HOSTILE, "level": 1, "lower": HOSTILE, "upper": HOSTILE, "planned": 1, "done": 0, "left_out": 1,
         "reason": HOSTILE, "last_done": None}
    ]  # fmt: skip
    found.chunks, found.chunks_open = 1, [HOSTILE]
    page = Page(report_page.render(found))
    names = [tag for tag, _ in page.tags]
    assert "script" not in names and "img" not in names
    shown = "".join(page.text)
    assert shown.count("<script>alert(1)</script>") >= 25
    assert "49" not in re.findall(r"\{\{ [^}]* \}\}|\b49\b", shown)
    assert "\u202e" not in shown
    marked = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(report_text.render(found))
    assert "<script" not in marked and "<img" not in marked
    assert "&lt;script&gt;" in marked


def test_versions_may_be_anything() -> None:
    odd: list[dict[str, Any]] = [
        {},
        {"source": None, "target": 3},
        {"source": {"timescaledb": None}},
        {"target": {"x": []}},
    ]
    for versions in odd:
        found = report(compared())
        found.versions = versions
        assert "## Versions" in report_text.render(found)


@pytest.mark.parametrize(
    ("time_type", "lowers"),
    [
        ("bigint", ["-9223372036854775808", "0", "9223372036854775000"]),
        ("uuid", ["018cc251-f400-7000-8000-000000000000", "018cc777-5000-7000-8000-000000000000"]),
        ("date", ["0044-03-15 BC", "2024-01-01"]),
        ("timestamptz", [None, "2024-01-01 00:00:00.000001+00"]),
    ],
)
def test_axes_of_every_type(time_type: str, lowers: list[str | None]) -> None:
    found = report(compared(), time_type=time_type, total=len(lowers))
    found.bars = [Bar(i, i, lower, 1, 0, 1, 0, 0, 0, 0, 0) for i, lower in enumerate(lowers, start=1)]
    drawings = report_charts.charts(found)
    assert set(drawings) == {"sides", "moved"}
    expected = "\u2212\u221e" if lowers[0] is None else lowers[0][:13]
    assert expected in drawings["moved"]


@given(st.lists(st.tuples(st.floats(0.01, 1e8), st.floats(61, 1e8)), min_size=1, max_size=20))
def test_labels_of_times_do_not_meet(lengths: list[tuple[float, float]]) -> None:
    found, at, offset = report(), NOW - dt.timedelta(days=300_000), 0.0
    for seconds, pause in lengths:
        end = at + dt.timedelta(seconds=seconds)
        found.periods.append(Period(at, end, 1, 1, 1, offset))
        at, offset = end + dt.timedelta(seconds=pause), offset + seconds
    places, labels = report_charts.moments(found)
    assert 1 <= len(places) == len(labels) <= 11
    assert places == sorted(places)
    assert all(b - a > offset * 0.099 for a, b in pairwise(places))


def test_there_are_few_bars() -> None:
    for total in (1, BARS - 1, BARS, BARS + 1, 3 * BARS + 1, 1_000_000):
        size = -(-total // BARS)
        assert -(-total // size) <= BARS
