"""Preflight of what lies below and above the rows: compressed chunks, continuous aggregates, triggers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from hyperfill import caggs, compressed, refresh
from hyperfill.caggs import Aggregate, Refresh
from hyperfill.catalog import Hypertable, Server
from hyperfill.errors import Finding, first_line
from hyperfill.session import Connection
from hyperfill.spec import Landing
from hyperfill.timeline import Span

# Before, an aggregate heard of changes through a trigger, which replica mode silences as well.
_INVALIDATES_WITHOUT_TRIGGER = (2, 23)


@dataclass
class Shape:
    """The chunks of the range by state, and the aggregates above with what would be refreshed."""

    chunks: dict[str, int] = field(default_factory=dict)
    aggregates: list[Aggregate] = field(default_factory=list)
    refreshes: list[Refresh] = field(default_factory=list)

    def foresee(self, connection: Connection, hypertable: Hypertable, windows: Sequence[Span]) -> list[Finding]:
        """Work out what would be refreshed if windows with these spans change something."""
        if not self.aggregates or not windows:
            return []
        time_type = hypertable.time_type
        below = caggs.levels_below(connection, hypertable.relation, time_type, self.aggregates)
        held = {number: caggs.held_by(chunks) for number, chunks in below.items()}
        try:
            self.refreshes = refresh.plan(connection, time_type, self.aggregates, windows, held, below, beforehand=True)
        except psycopg.Error as error:
            return [Finding("note", "caggs", f"what would be refreshed is not known yet: {first_line(error)}")]
        return []

    def as_json(self) -> dict[str, Any]:
        """The contract of `plan --json`."""
        return {"chunks": self.chunks, "aggregates": [self._aggregate_json(one) for one in self.aggregates]}

    def _aggregate_json(self, one: Aggregate) -> dict[str, Any]:
        text = one.time_type.text
        mine = next((r for r in self.refreshes if r.aggregate.id == one.id), Refresh(one))

        def spans(found: Sequence[Span]) -> list[dict[str, str]]:
            return [{"lower": text(s.lower), "upper": text(s.upper)} for s in found if s.lower is not None]

        return {
            "view": one.view,
            "level": one.level,
            "bucket": one.bucket.width,
            "time_zone": one.bucket.zone,
            "watermark": None if one.watermark is None else text(one.watermark),
            "refresh": spans(mine.spans),
            "left_out": spans(mine.left_out),
        }

    def lines(self) -> list[str]:
        """For people: a line for the chunks, one or more for each aggregate."""
        found = []
        if any(self.chunks.values()):
            states = ", ".join(f"{number} {state}" for state, number in self.chunks.items() if number)
            found.append(f"chunks in the range: {states}")
        for one in map(self._aggregate_json, self.aggregates):
            spans = [f"[{s['lower']}, {s['upper']})" for s in one["refresh"]]
            more = f" and {len(spans) - 3} more" if len(spans) > 3 else ""
            found.append(
                f"continuous aggregate {one['view']} (level {one['level']}, {one['bucket']}): "
                + (f"refreshed for {', '.join(spans[:3])}{more}" if spans else "nothing to refresh")
            )
            found += [
                f"  not refreshed: [{s['lower']}, {s['upper']}), of which rows are no longer below it"
                for s in one["left_out"]
            ]
        return found


def check(
    target: Connection, server: Server, hypertable: Hypertable, span: Span, spec: Landing, shape: Shape
) -> list[Finding]:
    """Fill in the shape, and find what stands against compressing, refreshing and switching off triggers."""
    shape.chunks = compressed.counts(target, hypertable, span)
    shape.aggregates = caggs.read(target, hypertable.relation)
    findings = compressed.preflight(target, hypertable, span, recompress=spec.recompress)
    findings += caggs.preflight(shape.aggregates, server.user, refresh=spec.refresh_caggs)
    if spec.triggers == "off":
        findings += _triggers_off(target, server, shape)
    return findings


def _triggers_off(target: Connection, server: Server, shape: Shape) -> list[Finding]:
    findings = [
        Finding(
            "warning",
            "triggers",
            "no user trigger and no foreign key of the target fires for what is moved (--triggers off)",
        )
    ]
    if shape.aggregates and server.timescaledb is not None and server.timescaledb < _INVALIDATES_WITHOUT_TRIGGER:
        findings.append(
            Finding(
                "error",
                "triggers",
                f"--triggers off: in TimescaleDB {server.timescaledb_text} the continuous aggregates would not hear "
                "of the rows either",
                hint="let the triggers fire, or update to 2.23",
            )
        )
    try:
        with target.transaction(force_rollback=True):
            target.execute("SET LOCAL session_replication_role = replica")
    except psycopg.errors.InsufficientPrivilege:
        findings.append(
            Finding(
                "error",
                "triggers",
                "--triggers off: this role may not set session_replication_role",
                hint="on PostgreSQL 15 and later: GRANT SET ON PARAMETER session_replication_role TO the_role;",
            )
        )
    return findings
