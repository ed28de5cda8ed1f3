"""How a plan is shown."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from hyperfill.catalog import quote_name
from hyperfill.cli.output import findings_lines
from hyperfill.plan import PlannedWindow
from hyperfill.preparing import Prepared
from hyperfill.spec import Limits
from hyperfill.sql import query
from hyperfill.timeline import Span
from hyperfill.window import copy_statements

_SHOWN = 12


def _state(prepared: Prepared) -> str:
    if prepared.errors:
        return "refused"
    if prepared.empty or (prepared.entry is not None and prepared.entry.finished):
        return "nothing"
    return "resume" if prepared.entry is not None else "planned"


def statements(prepared: Prepared) -> dict[str, str]:
    """The SQL of one window, as it is sent: the first with rows, or the first."""
    order, time_type = prepared.order, prepared.time_type
    if order is None or time_type is None or not prepared.end:
        return {}
    window = next((w for w in prepared.windows if w.occupied), prepared.windows[0] if prepared.windows else None)
    lower = None if prepared.start is None else time_type.ordinal(prepared.start)
    span = window.span if window else Span(lower, time_type.ordinal(prepared.end))
    copies = {}
    if order.source is not None:
        settings = prepared.landings.settings
        direct = any(one.direct and one.span.upper == span.upper for one in prepared.landings.stretches)
        out, into = copy_statements(order, span)
        if direct and settings is not None and order.sides is not None:
            copies["write_compressed"] = query("conversions/write_compressed")
            out, into = copy_statements(order, span, order.sides.order_by(settings))
        copies |= {"copy_from_source": out.as_string(), "copy_to_target": into.as_string()}
    parts = {"relation": order.target.relation.identifier, "window": order.target.condition(span)}
    name = sql.Literal(order.target.relation.identifier.as_string())
    return {
        "count": sql.SQL(query("window/count")).format(**parts, name=name).as_string(),
        "delete": sql.SQL(query("window/delete")).format(**parts).as_string(),
        **copies,
    }


def policy_statements(prepared: Prepared) -> dict[str, str]:
    """The SQL that holds the policies and releases them; nothing where none is concerned."""
    found = {}
    for name, on in (("hold_policies", False), ("release_policies", True)):
        calls = prepared.policies.statements(prepared.spec.hold, on=on)
        if calls:
            found[name] = " ".join(f"{call};" for call in calls)
    return found


def _window_json(prepared: Prepared, number: int, window: PlannedWindow) -> dict[str, Any]:
    assert prepared.time_type is not None
    return {"window": number, **prepared.time_type.bounds(window.span), "rows_estimated": window.estimate}


def plan_json(prepared: Prepared, limits: Limits) -> dict[str, Any]:
    """The plan as one JSON object."""
    entry, order = prepared.entry, prepared.order
    total = entry.total if entry else len(prepared.windows)
    return {
        "backfill": entry.id if entry else None,
        "table": prepared.table,
        "hypertable": prepared.hypertable,
        "start": prepared.start or "-infinity",
        "end": prepared.end,
        "state": _state(prepared),
        "windows": {"total": total, "done": entry.done if entry else 0, "failed": entry.failed if entry else 0},
        "rows_estimated": entry.estimate if entry else sum(w.estimate for w in prepared.windows),
        "rows_overlap": prepared.overlap_rows,
        "rows_overlap_exact": prepared.overlap_exact,
        "chunks_to_create": prepared.missing_chunks,
        "jobs": limits.jobs,
        "format": None if order is None else "binary" if order.binary else "text",
        "columns": [c.target for c in order.columns] if order else [],
        "findings": [f.as_json() for f in prepared.findings],
        "policies": prepared.policies.as_json(),
        **prepared.shape.as_json(),
        "landing": prepared.landings.as_json(prepared.time_type),
        "sql": {**statements(prepared), **policy_statements(prepared)},
        "window_list": [_window_json(prepared, i, w) for i, w in enumerate(prepared.windows, start=1)],
    }


def plan_text(prepared: Prepared, limits: Limits) -> str:
    """The plan for people."""
    entry, order = prepared.entry, prepared.order
    lines = [f"{prepared.table} → {prepared.hypertable}  [{prepared.start or '-infinity'}, {prepared.end or '?'})"]
    match _state(prepared):
        case "nothing":
            lines.append("  nothing to do: " + (f"backfill {entry.id} is finished" if entry else "the range is empty"))
        case "resume":
            assert entry is not None
            lines.append(f"  goes on with backfill {entry.id}: {entry.done} of {entry.total} windows are done")
        case "planned":
            assert order is not None
            rows = sum(w.estimate for w in prepared.windows)
            about = "" if prepared.overlap_exact else "about "
            lines += [
                f"  {len(prepared.windows)} windows, about {rows:,} rows, {limits.jobs} workers, COPY "
                + ("from files" if order.dump else f"in {'binary' if order.binary else 'text'}"),
                f"  {about}{prepared.overlap_rows:,} rows of the target in the range are replaced",
                f"  about {prepared.missing_chunks} chunks are created beforehand",
                "  columns: "
                + ", ".join(quote_name(c.target) + (f" (cast to {c.cast})" if c.cast else "") for c in order.columns),
                *_windows(prepared),
                "  one window, by hand:",
                *(f"    {statement};" for statement in statements(prepared).values()),
            ]
    lines += [f"  {line}" for line in [*prepared.landings.lines(), *prepared.shape.lines()]]
    if prepared.policies.jobs:
        lines += ["  policies:", *(f"    {line}" for line in prepared.policies.lines())]
        by_hand = policy_statements(prepared)
        if by_hand:
            lines += ["  to hold and to release them by hand:", *(f"    {one}" for one in by_hand.values())]
    lines += findings_lines(prepared.findings)
    if not prepared.errors:
        command = "run" if order is None or order.dump is None else "load"
        lines.append(f"  nothing was written; the same options with `hyperfill {command}` do it")
    return "\n".join(lines)


def _windows(prepared: Prepared) -> list[str]:
    shown = (
        prepared.windows
        if len(prepared.windows) <= _SHOWN
        else [*prepared.windows[: _SHOWN // 2], None, *prepared.windows[-_SHOWN // 2 :]]
    )
    lines = []
    number = 0
    for window in shown:
        number += 1
        if window is None:
            lines.append(f"    ... {len(prepared.windows) - _SHOWN} more ...")
            number = len(prepared.windows) - _SHOWN // 2
            continue
        one = _window_json(prepared, number, window)
        rows = f"about {window.estimate:,} rows" if window.occupied else "seems empty"
        lines.append(f"    {number:>6}  [{one['lower']}, {one['upper']})  {rows}")
    return lines
