"""A report as one HTML page: nothing is loaded from anywhere, nothing runs in it, and it prints."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from hyperfill import __version__
from hyperfill.quantities import human_bytes
from hyperfill.report import Report
from hyperfill.report_charts import charts
from hyperfill.report_parts import elapsed, moment, visible
from hyperfill.report_sections import sections, span
from hyperfill.report_verdict import judge

_TEMPLATE = "report.html.j2"
_CAPTIONS = {
    "sides": "Rows per window in the source and in the target, as they were compared after the move",
    "moved": "Rows copied and deleted per window",
    "batches": "Rows per batch of the files",
    "throughput": "Rows per second over time; the rows of each transaction are spread evenly over it",
}


def render(report: Report) -> str:
    """The whole page. Needs matplotlib and jinja2."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files("hyperfill") / "templates" / name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = lambda text: visible(str(text))
    environment.filters["lines"] = lambda text: visible(str(text), lines=True)
    entry = report.entry
    return environment.get_template(_TEMPLATE).render(
        entry=entry,
        verdict=judge(report),
        mark={"verified": "\u2713", "counted": "!", "unverified": "!"}.get(judge(report).code, "\u2717"),
        span=span(report),
        began=None if entry.started_at is None else moment(entry.started_at),
        ended=None if entry.finished_at is None or not entry.finished else moment(entry.finished_at),
        tiles=_tiles(report),
        sections=sections(report),
        # The charts are ours, and all text in them is escaped by the library that draws it.
        charts={key: Markup(svg) for key, svg in charts(report).items()},
        captions=_CAPTIONS,
        made_at=moment(report.made_at),
        version=__version__,
    )


def _tiles(report: Report) -> list[tuple[str, str, str]]:
    """The figures at the top: number, name, a word more."""
    entry, compared = report.entry, report.compared
    found: list[tuple[str, Any, str]] = [("rows copied", f"{entry.rows_copied:,}", human_bytes(entry.bytes_copied))]
    if entry.kind == "load":
        left_out = entry.rows_skipped + entry.rows_outside + entry.rows_rejected
        found.append(("rows not copied", f"{left_out:,}", f"of {entry.rows_read:,} read"))
    if entry.total or entry.kind != "load":
        found.append(("rows deleted before", f"{entry.rows_deleted:,}", "on the target"))
        failed = f"{entry.failed:,} failed" if entry.failed else "done"
        found.append(("windows", f"{entry.done:,} of {entry.total:,}", failed))
    if entry.kind != "load":
        differ = compared.differ - report.repaired
        said = f"{differ:,} differ" if differ else "equal" if compared.windows else "not compared"
        found.append(("windows compared", f"{compared.windows:,} of {entry.total:,}", said))
    if report.periods and report.active_seconds > 0:
        rate = sum(p.rows for p in report.periods) / report.active_seconds
        found.append(("time of moving", elapsed(report.active_seconds), f"{rate:,.0f} rows/s"))
    return found
