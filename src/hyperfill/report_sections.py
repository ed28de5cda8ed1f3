"""What a report tells, section by section: the HTML page and the Markdown file differ only in looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hyperfill import __version__
from hyperfill.quantities import counted, human_bytes
from hyperfill.report import Report, Window
from hyperfill.report_parts import (
    DASH,
    Cell,
    Rows,
    Section,
    Table,
    cell,
    code,
    compact,
    elapsed,
    left_out,
    moment,
    server_version,
)
from hyperfill.report_policies import policies

_COLUMNS = 100  # that are named; a table may have 1600


def span(report: Report) -> str:
    """The range in a sentence."""
    return f"range {report.entry.bounds}" if report.entry.range_end is not None else "no range"


def sections(report: Report) -> list[Section]:
    """All parts in the order of the page, without those that have nothing to say; windows come last."""
    entry = report.entry
    found = [_moved(report), _when(report)]
    if entry.total:
        found += [_verification(report), *_wrong(report)]
    if entry.kind == "load":
        found += _files(report)
    found += [policies(report)]
    if report.chunks or report.landed is not None:
        found.append(_chunks(report))
    found += [_aggregates(report), _versions(report), _findings(report)]
    if report.repairs:
        found.append(_repairs(report))
    if entry.total:
        found.append(_windows(report))
    return found


def _moved(report: Report) -> Section:
    entry = report.entry
    names = [c["name"] + (f" (from {c['source']})" if c.get("source", c["name"]) != c["name"] else "")
             + f" {c['type']}" for c in entry.columns if "name" in c and "type" in c]  # fmt: skip
    more = f", and {len(names) - _COLUMNS:,} more" if len(names) > _COLUMNS else ""
    settings = {k: v for k, v in entry.settings.items() if v not in (None, False, "", [], {}) and k != "files"}
    kinds = {"run": "from a server", "dump": "from the folder of a dump", "load": "from files", "repair": "a repair"}
    what = [
        ("backfill", Cell(f"#{entry.id}, {kinds.get(entry.kind, entry.kind)}")),
        ("source", code(entry.source_relation)),
        *([] if entry.kind == "load" else [("source database", code(entry.source))]),
        ("hypertable", code(entry.hypertable)),
        ("target database", code(f"{report.server.system_identifier or 'a server'}/{report.server.database}")),
        ("range", code(entry.bounds)),
        ("time column", code(f"{entry.time_column} {entry.time_type}")),
    ]
    if entry.source_time_column != entry.time_column:
        what.append(("time column of the source", code(entry.source_time_column)))
    what.append(("columns", code(", ".join(names[:_COLUMNS]) + more)))
    what += [(f"setting {key}", code(v if isinstance(v, str) else compact(v))) for key, v in sorted(settings.items())]
    figures = [
        ("rows copied", cell(entry.rows_copied)),
        ("rows deleted on the target before", cell(entry.rows_deleted)),
        ("bytes", Cell(human_bytes(entry.bytes_copied))),
    ]
    if entry.kind == "load":
        figures[:0] = [("rows read", cell(entry.rows_read))]
        figures[3:3] = [
            ("rows skipped (in conflict with rows that were there)", cell(entry.rows_skipped)),
            ("rows outside of the range", cell(entry.rows_outside)),
            ("rows rejected", cell(entry.rows_rejected)),
        ]
    if entry.total:
        done = f"{entry.done:,} of {entry.total:,} done" + (f", {entry.failed:,} failed" if entry.failed else "")
        figures.append(("windows", Cell(done, "bad" if entry.failed else "")))
    charts = ["moved"] if report.bars else []
    charts += ["batches"] if report.batch_bars else []
    return Section("moved", "What was moved", facts=what + figures, charts=charts)


def _when(report: Report) -> Section:
    entry = report.entry
    section = Section("when", "When")
    section.facts = [
        ("planned", Cell(f"{moment(entry.planned_at)} UTC by {report.planned_by}")),
        ("started", cell(entry.started_at)),
        ("finished", cell(entry.finished_at) if entry.finished else Cell("not finished", "bad")),
        ("phase", Cell(entry.phase, "" if entry.finished else "bad")),
        ("runs", cell(entry.runs)),
    ]
    if report.periods and report.active_seconds > 0:
        rate = sum(p.rows for p in report.periods) / report.active_seconds
        text = f"{elapsed(report.active_seconds)} at {rate:,.0f} rows per second"
        section.facts.append(("rows were moved for", Cell(text)))
        section.charts = ["throughput"]
    if len(report.periods) > 1:
        heads = ("began (UTC)", "ended (UTC)", "lasted", "windows or batches", "rows", "rows per second")
        rows: Rows = [
            (cell(p.started_at), cell(p.finished_at), Cell(elapsed(p.seconds)), cell(p.pieces), cell(p.rows),
             cell(round(p.rows / p.seconds) if p.seconds else None))
            for p in report.periods
        ]  # fmt: skip
        section.tables = [Table(heads, rows)]
    return section


def _verification(report: Report) -> Section:
    entry, compared = report.entry, report.compared
    section = Section("verification", "Source and target compared")
    none = entry.total - compared.windows
    if not compared.windows:
        section.texts = ["No window was compared with the source after it had been moved."]
        return section
    section.facts = [
        ("windows compared by hash", cell(compared.by_hash)),
        ("windows compared by count", cell(compared.by_count)),
        ("windows not compared", Cell(f"{none:,}", "bad" if none else "number")),
        ("windows that differed", Cell(f"{compared.differ:,}", "bad" if compared.differ else "number")),
        ("rows in the source", cell(compared.source_rows)),
        ("rows in the target", cell(compared.target_rows)),
        ("sum of hashes, source", code(compared.source_hash)),
        ("sum of hashes, target", code(compared.target_hash)),
        ("compared", Cell(" to ".join(moment(m) for m in (compared.first, compared.last) if m) + " UTC")),
    ]
    if report.repaired:
        section.facts.insert(4, ("of these repaired since", cell(report.repaired)))
    section.notes = [
        "A hash is a sum over hashes of rows that does not depend on their order; it covers all columns that were "
        "moved. Figures are those of the moment of the comparison: below the end of the range nobody should write."
    ]
    section.charts = ["sides"]
    return section


def _error(error: dict[str, Any] | None) -> Cell:
    if not error:
        return Cell(DASH)
    where = ", ".join(str(error[k]) for k in ("server", "sqlstate") if error.get(k))
    lines = [str(error.get("message") or compact(error)) + (f" ({where})" if where else "")]
    return Cell("\n".join(lines + [str(error[k]) for k in ("context", "hint") if error.get(k)]), "message")


def _wrong(report: Report) -> list[Section]:
    differ, failed = report.differ, report.failed
    found: list[Section] = []
    rows: Rows
    if differ:
        heads = ("window", *_bound_heads(report), "rows in source", "rows in target", "hash in source",
                 "hash in target", "compared (UTC)")  # fmt: skip
        rows = [
            (cell(w.id), *at, cell(w.source_rows), cell(w.target_rows), code(w.source_hash),
             code(w.target_hash), cell(w.compared_at))
            for w, at in zip(differ, _bounds(differ), strict=True)
        ]  # fmt: skip
        section = Section("differ", "Windows that differ", tables=[Table(heads, rows, small=True)])
        section.notes = left_out(len(rows), report.compared.differ, "windows that differ")
        found.append(section)
    if failed:
        rows = [
            (cell(w.id), *at, cell(w.attempts), _error(w.error)) for w, at in zip(failed, _bounds(failed), strict=True)
        ]
        table = Table(("window", *_bound_heads(report), "attempts", "reason"), rows, small=True)
        section = Section("failed", "Windows that failed", tables=[table])
        section.notes = left_out(len(rows), report.entry.failed, "windows that failed")
        found.append(section)
    return found


def _bound_heads(report: Report) -> tuple[str, str]:
    zone = ", UTC" if report.entry.time_type == "timestamptz" else ""
    return f"from (incl.{zone})", f"to (excl.{zone})"


def _bounds(windows: Sequence[Window]) -> list[tuple[Cell, Cell]]:
    """Both bounds of each. What is the same at every end (the zone, seconds, midnight) would only fill the page."""
    texts = [(w.lower or "-infinity", w.upper) for w in windows]
    for ending in ("+00", ":00", " 00:00"):
        if all(text.endswith(ending) for pair in texts for text in pair if text != "-infinity"):
            texts = [(a.removesuffix(ending), b.removesuffix(ending)) for a, b in texts]
    return [(code(a), code(b)) for a, b in texts]


def _state(window: Window) -> Cell:
    if window.equal is False:
        return Cell("differs", "bad")
    if window.equal:
        return Cell(f"equal ({window.mode})", "good short")
    return Cell(window.state, "bad" if window.state == "failed" else "")


def _windows(report: Report) -> Section:
    entry, shown = report.entry, report.listed
    section = Section("windows", "Windows")
    if len(shown) < entry.total:
        section.texts = [
            *left_out(len(shown), entry.total, "windows"),
            "Listed are first those that differ, failed, or deleted rows.",
        ]
    heads = ("window", *_bound_heads(report), "deleted", "copied", "compared", "hash", "state", "moved (UTC)")
    rows: Rows = [
        (cell(w.id), *at, cell(w.rows_deleted), cell(w.rows_copied), _both(w), _hashes(w), _state(w),
         cell(w.finished_at if w.state == "done" else None))
        for w, at in zip(shown, _bounds(shown), strict=True)
    ]  # fmt: skip
    bad = frozenset(number for number, w in enumerate(shown) if w.wrong)
    section.tables = [Table(heads, rows, bad, small=True)]
    section.notes = ["Compared: rows in the source / in the target after the move, and the hash of each; one figure "
                     "where both are the same."]  # fmt: skip
    return section


def _both(window: Window) -> Cell:
    """Rows in source and target when they were compared: one figure where it is the same."""
    if window.source_rows == window.target_rows:
        return cell(window.source_rows)
    return Cell(f"{window.source_rows:,} / {window.target_rows:,}", "number")


def _hashes(window: Window) -> Cell:
    if window.source_hash == window.target_hash:
        return Cell(window.source_hash or DASH, "code")
    return Cell(f"{window.source_hash or DASH}\n{window.target_hash or DASH}", "code lines")


def _files(report: Report) -> list[Section]:
    heads = ("file", "bytes", "batches", "read", "copied", "skipped", "outside", "rejected", "failed batches")
    keys = ("batches", "rows_read", "rows_copied", "rows_skipped", "rows_outside", "rows_rejected", "batches_failed")
    rows: Rows = [(code(f["path"]), cell(f["size"]), *(cell(f[key]) for key in keys)) for f in report.files]
    files = Section("files", "Files", tables=[Table(heads, rows, small=True)])
    files.notes = left_out(len(rows), len(report.entry.settings.get("files") or rows), "files")
    found = [files]
    if report.batches_failed:
        rows = [(code(b["file"]), cell(b["line"]), cell(b["rows_read"]), _error(b["error"]))
                for b in report.batches_failed]  # fmt: skip
        section = Section("batches", "Batches that failed")
        section.tables = [Table(("file", "first line", "rows", "reason"), rows)]
        section.notes = left_out(len(rows), report.entry.batches_failed, "batches that failed")
        found.append(section)
    if report.rejects:
        rows = [(code(r["file"]), cell(r["line"]), Cell(r["sqlstate"] or DASH), Cell(r["message"], "message"))
                for r in report.rejects]  # fmt: skip
        section = Section("rejects", "Rows that were rejected")
        section.tables = [Table(("file", "line", "SQLSTATE", "reason"), rows)]
        section.notes = left_out(len(rows), report.entry.rows_rejected, "rejected rows")
        found.append(section)
    return found


def _chunks(report: Report) -> Section:
    left = report.chunks - report.chunks_in_order
    section = Section("chunks", "Compressed chunks")
    if report.landed is not None:
        landed = report.landed
        section.facts = [
            ("chunks that were to end compressed", cell(landed.total)),
            ("of these written compressed", cell(landed.written)),
            ("compressed when their windows were done", cell(landed.afterwards)),
            ("not compressed", Cell(f"{landed.left:,}", "bad" if landed.left else "number")),
        ]
    section.facts += [
        ("chunks of the range that were compressed before", cell(report.chunks)),
        ("of these compressed and in order again", cell(report.chunks_in_order)),
        ("not compressed again", Cell(f"{left:,}", "bad" if left else "number")),
    ]
    if report.chunks_open:
        section.tables = [Table(("chunk that is not in order again",), [(code(c),) for c in report.chunks_open])]
        section.notes = left_out(len(report.chunks_open), left, "chunks")
    return section


def _aggregates(report: Report) -> Section:
    section = Section("aggregates", "Continuous aggregates")
    if not report.aggregates:
        section.texts = ["No continuous aggregate depended on the hypertable when it was filled."]
        return section
    heads = ("view", "level", "from", "to", "slices refreshed", "left out", "refreshed until (UTC)")
    rows: Rows = []
    for one in report.aggregates:
        refreshed = f"{one['done']:,} of {one['planned']:,}" if one["planned"] else "none planned"
        reason = f"{one['left_out']:,}: {one['reason']}" if one["left_out"] else None
        complete = one["done"] == one["planned"] and one["planned"]
        rows.append(
            (code(one["view"]), cell(one["level"]), code(one["lower"]), code(one["upper"]),
             Cell(refreshed, "good" if complete else ""), cell(reason), cell(one["last_done"]))
        )  # fmt: skip
    section.tables = [Table(heads, rows, small=True)]
    return section


def _version(part: object) -> tuple[Cell, Cell]:
    known = part if isinstance(part, dict) else {}
    timescaledb = known.get("timescaledb", "") if known else ""
    return (
        cell(known.get("postgresql") or "unknown"),
        cell("none" if timescaledb is None else timescaledb or "unknown"),
    )


def _versions(report: Report) -> Section:
    server, versions = report.server, report.versions
    edition = {"timescale": "community edition", "apache": "Apache edition"}.get(server.license or "", "")
    now = server.timescaledb_text + (f" ({edition})" if edition else "")
    asked = str(versions.get("client") or report.client)
    rows: Rows = [(Cell("target, now"), cell(server_version(server.version)), cell(now), cell(__version__))]
    rows.insert(0, (Cell("target, when it was filled"), *_version(versions.get("target")), cell(asked)))
    if report.entry.kind in ("run", "repair") or versions.get("source"):
        rows.insert(0, (Cell("source"), *_version(versions.get("source")), cell(asked)))
    return Section("versions", "Versions", tables=[Table(("", "PostgreSQL", "TimescaleDB", "hyperfill"), rows)])


def _findings(report: Report) -> Section:
    section = Section("findings", "Findings")
    rank = {"error": 0, "warning": 1, "note": 2}
    found = sorted(report.entry.findings, key=lambda f: rank.get(str(f.get("severity")), 3))
    if not found:
        section.texts = ["The checks of the last run had nothing to say."]
        return section
    section.texts = ["What the checks of the last run said before its first write."]
    rows: Rows = [
        (Cell(str(f.get("severity")), "bad" if f.get("severity") == "error" else ""), cell(f.get("code")),
         Cell("\n".join(str(f[k]) for k in ("message", "hint") if f.get(k)), "message"))
        for f in found
    ]  # fmt: skip
    section.tables = [Table(("severity", "code", "what"), rows)]
    return section


def _repairs(report: Report) -> Section:
    heads = ("repair", "range", "state", "windows", "deleted", "copied", "compared equal", "finished (UTC)")
    rows: Rows = []
    for entry, compared in report.repairs:
        equal = compared.windows - compared.differ
        rows.append(
            (Cell(f"#{entry.id}"), code(entry.bounds), Cell(entry.phase, "good" if entry.finished else "bad"),
             cell(entry.total), cell(entry.rows_deleted), cell(entry.rows_copied),
             Cell(f"{equal:,} of {counted(entry.total, 'window')}", "good" if equal == entry.total else "bad"),
             cell(entry.finished_at))
        )  # fmt: skip
    section = Section("repairs", "Repairs since", tables=[Table(heads, rows, small=True)])
    section.texts = ["Windows of the same hypertable and range that differed later and were moved again."]
    return section
