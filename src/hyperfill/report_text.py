"""A report as Markdown: plain text, tables as GitHub writes them. Nothing in a name is taken for Markdown or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hyperfill import __version__
from hyperfill.report import Report
from hyperfill.report_parts import Cell, Section, Table, moment, visible
from hyperfill.report_sections import sections, span
from hyperfill.report_verdict import judge

# Whatever could begin markup inside a line; GitHub also reads formulas, mentions and bare addresses.
_MARKUP = re.compile(r"[\\`*_{}\[\]<>()#|~&$@!]|(?<=www)\.|:(?=//)", re.IGNORECASE)


def escape(text: str) -> str:
    """A text as a part of one line of Markdown, to be read as it is."""
    return _MARKUP.sub(lambda match: "\\" + match.group(), visible(text))


def _cell(cell: Cell) -> str:
    # The parts of a message are set apart by hand: a table's row is one line.
    text = escape(cell.text.replace("\n", " / ") if cell.lines else cell.text)
    return f"**{text}**" if cell.kind == "bad" else text


def _table(table: Table) -> Iterable[str]:
    yield f"| {' | '.join(escape(head) for head in table.heads)} |"
    yield f"|{'|'.join('---:' if number else '---' for number in table.numbers)}|"
    for row in table.rows:
        yield f"| {' | '.join(_cell(cell) for cell in row)} |"
    yield ""


def _section(section: Section) -> Iterable[str]:
    yield f"## {section.title}"
    yield ""
    for text in section.texts:
        yield from (escape(text), "")
    if section.facts:
        yield "| | |"
        yield "|---|---|"
        yield from (f"| {escape(name)} | {_cell(cell)} |" for name, cell in section.facts)
        yield ""
    for table in section.tables:
        yield from _table(table)
    for text in section.notes:
        yield from (escape(text), "")


def render(report: Report) -> str:
    """The whole file."""
    entry, verdict = report.entry, judge(report)
    lines = [
        f"# Backfill {entry.id}: {escape(entry.hypertable)}",
        "",
        f"**{escape(verdict.headline)}** ({verdict.state}). {escape(verdict.sentence)}",
        "",
        f"{escape(entry.source_relation)} to {escape(entry.hypertable)}, {escape(span(report))}.",
        "",
        *(f"- {escape(note)}" for note in verdict.notes),
        *([""] if verdict.notes else []),
    ]
    for section in sections(report):
        lines += _section(section)
    lines += ["## Sign-off", "", "| role | name | date | signature |", "|---|---|---|---|"]
    lines += ["| migration owner | | | |", "| reviewed by | | | |", ""]
    lines.append(f"Made by hyperfill {__version__} from the ledger of the target, {moment(report.made_at)} UTC.")
    return "\n".join(lines) + "\n"
