"""A report as one JSON object, with everything that the ledger has. Its shape is documented in docs/report.md.

Written piece by piece: a million windows do not have to fit into memory.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import IO, Any

from hyperfill import __version__
from hyperfill.progress import entry_json
from hyperfill.report import Held, Report, stream
from hyperfill.report_compared import Compared
from hyperfill.report_parts import server_version
from hyperfill.report_verdict import judge
from hyperfill.session import Connection
from hyperfill.sql import query

FORMAT = 1


def write(connection: Connection, report: Report, out: IO[str]) -> None:
    """Write the object; inside the snapshot in which the report was read."""
    head = _dumps(_head(report))
    out.write(head[: head.rindex("}")].rstrip())
    one, bounded = [report.entry.id], {"backfill": report.entry.id, "limit": None}
    for name, rows in (
        ("files", stream(connection, query("report/files"), bounded)),
        ("windows", stream(connection, query("report/windows"), one)),
        ("batches", stream(connection, query("report/batches"), {**bounded, "failed": False})),
        ("rejects", stream(connection, query("report/rejects"), bounded)),
        ("chunks", stream(connection, query("report/chunks"), one)),
        ("landed", stream(connection, query("report/landed"), one)),
        ("refreshes", stream(connection, query("report/refreshes"), one)),
    ):
        _write_list(out, name, rows)
    out.write("\n}\n")


def _write_list(out: IO[str], name: str, rows: Iterable[dict[str, Any]]) -> None:
    """One line for each row."""
    out.write(f',\n  "{name}": [')
    separator = "\n    "
    for row in rows:
        out.write(separator + json.dumps(row, ensure_ascii=False, default=_plain))
        separator = ",\n    "
    out.write("]" if separator == "\n    " else "\n  ]")


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON")


def _head(report: Report) -> dict[str, Any]:
    entry, server, verdict = report.entry, report.server, judge(report)
    backfill = entry_json(entry, [])
    for name in ("workers", "findings", "files"):
        backfill.pop(name, None)
    backfill |= {
        "state": verdict.state,
        "hypertable_now": report.hypertable_now,
        "source": entry.source,
        "time_column": entry.time_column,
        "time_type": entry.time_type,
        "source_time_column": entry.source_time_column,
        "columns": entry.columns,
        "settings": entry.settings,
        "planned_by": report.planned_by,
        "client": report.client,
        "active_seconds": round(report.active_seconds, 3),
    }
    return {
        "format": FORMAT,
        "made_at": report.made_at,
        "made_by": __version__,
        "verdict": verdict.code,
        "headline": verdict.headline,
        "sentence": verdict.sentence,
        "notes": verdict.notes,
        "backfill": backfill,
        "comparisons": {**_compared(report.compared, entry.total), "repaired": report.repaired},
        "periods": [
            {"started_at": p.started_at, "finished_at": p.finished_at, "pieces": p.pieces, "rows": p.rows,
             "bytes": p.bytes}
            for p in report.periods
        ],
        "versions": {
            "moved": report.versions,
            "now": {
                "client": __version__,
                "target": {
                    "postgresql": server_version(server.version),
                    "timescaledb": server.timescaledb_text if server.timescaledb else None,
                    "license": server.license,
                    "database": server.database,
                    "system_identifier": server.system_identifier,
                },
            },
        },
        "findings": entry.findings,
        "policies": {
            "note": report.policies_note,
            "held": [_hold(h) for h in report.holds],
            "now": [j.job for j in report.jobs],
        },
        "aggregates": report.aggregates,
        "repairs": [
            {**entry_json(other, []), "repairs": other.settings.get("repairs"),
             "comparisons": _compared(compared, other.total)}
            for other, compared in report.repairs
        ],
    }  # fmt: skip


def _compared(compared: Compared, total: int) -> dict[str, Any]:
    found = asdict(compared)
    return {
        "by_hash": compared.by_hash,
        "by_count": compared.by_count,
        "not_compared": total - compared.windows,
        "differ": compared.differ,
        **{name: found[name] for name in ("source_rows", "target_rows", "source_hash", "target_hash")},
        "first_compared_at": compared.first,
        "last_compared_at": compared.last,
    }


def _hold(hold: Held) -> dict[str, Any]:
    return {
        "job": hold.job_id,
        "kind": hold.kind,
        "relation": hold.relation,
        "held_at": hold.held_at,
        "held_by": hold.held_by,
        "released_at": hold.released_at,
        "outcome": hold.outcome,
        "before": hold.before,
        "now": hold.now,
        "changed": {name: {"before": a, "now": b} for name, (a, b) in hold.changed.items()},
    }
