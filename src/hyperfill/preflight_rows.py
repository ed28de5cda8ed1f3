"""Preflight of rows: those that belong to no window, those that the target already has, what reading costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import psycopg
from psycopg import sql

from hyperfill.catalog import Hypertable, quote_name
from hyperfill.errors import Finding
from hyperfill.mapping import Mapping
from hyperfill.quantities import human_bytes
from hyperfill.session import Connection, fetch_one
from hyperfill.spec import Landing, Spec
from hyperfill.sql import query
from hyperfill.survey import Axis, Survey, estimate
from hyperfill.timeline import Span
from hyperfill.window import MovedColumn

GIGABYTE = 10**9
_MAX_SCANS = 10  # times that a table without an index may be read over before we refuse
_COUNT_MS = 30_000  # a count that takes longer than this is replaced by an estimate


def counted(connection: Connection, statement: sql.Composed) -> int | None:
    """A count that gives up after 30 seconds: None."""
    row = _counts(connection, statement)
    return None if row is None else int(row[0])


def _counts(connection: Connection, statement: sql.Composed) -> tuple[Any, ...] | None:
    try:
        with connection.transaction():
            connection.execute("SELECT pg_catalog.set_config('statement_timeout', %s, true)", [str(_COUNT_MS)])
            return fetch_one(connection, statement)
    except psycopg.errors.QueryCanceled:
        return None


def without_time(connection: Connection, axis: Axis, fate: str = "not moved") -> list[Finding]:
    """Rows of the source that belong to no window."""
    nulls, name = counted(connection, axis.compose("survey/nulls")), quote_name(axis.column)
    if nulls == 0:
        return []
    if nulls is None:
        text = (
            f"rows of the source without a time could not be counted within 30 s: rows with {name} IS NULL are {fate}"
        )
    else:
        text = f"{nulls:,} rows of the source have no time ({name} IS NULL): they belong to no window and are {fate}"
    return [Finding("warning", "null-time", text)]


def source_rows(connection: Connection, axis: Axis, span: Span, spec: Spec, nullable: bool) -> list[Finding]:
    """Rows that belong to no window: without a time, and at -infinity."""
    findings = without_time(connection, axis) if nullable else []
    if span.lower is None and axis.time_type.has_infinity:
        lost = counted(connection, axis.compose("survey/unstorable"))
        if lost and not spec.skip_unstorable:
            findings.append(
                Finding(
                    "error",
                    "unstorable",
                    f"{lost:,} rows of the source have the time -infinity, which no hypertable can hold",
                    hint="--skip-unstorable leaves them out; a finite --start does too",
                )
            )
        elif lost:
            findings.append(
                Finding("warning", "unstorable", f"{lost:,} rows at -infinity are left out (--skip-unstorable)")
            )
        elif lost is None and not spec.skip_unstorable:
            findings.append(
                Finding(
                    "warning",
                    "unstorable",
                    "rows at -infinity could not be counted within 30 s: one would stop its window "
                    "(--skip-unstorable leaves them out)",
                )
            )
    return findings


def overlap(
    connection: Connection,
    axis: Axis,
    hypertable: Hypertable,
    span: Span,
    mapping: Mapping,
    spec: Landing,
    fate: str = "they are replaced by the source's, window by window",
) -> tuple[list[Finding], int, bool]:
    """What the target holds in the range, of which `fate` says what happens: findings, how many rows, and whether
    that is exact."""
    if not hypertable.chunks_in(span):
        return [], 0, True
    guess = round(estimate(connection, axis, span))
    parts = {"relation": axis.relation.identifier, "range": axis.condition(span)}
    exact = counted(connection, sql.SQL(query("preflight/overlap")).format(**parts)) if guess < 20_000_000 else None
    rows = guess if exact is None else exact
    findings = []
    if rows:
        about = "" if exact is not None else "about "
        findings.append(
            Finding(
                "note",
                "overlap",
                f"the target has {about}{rows:,} rows in the range: {fate}",
            )
        )
    findings += _target_only(connection, parts, mapping, spec) if rows else []
    return findings, rows, exact is not None


def _target_only(connection: Connection, parts: dict[str, Any], mapping: Mapping, spec: Landing) -> list[Finding]:
    """Columns that only the target has, and that somebody filled in the overlap."""
    filled, renewed = [], []
    for column in mapping.target_only:
        expression = column.default_expression
        name = sql.Identifier("r", column.name)
        if column.identity or column.default_computed:
            renewed.append(quote_name(column.name))  # computed by the server: identity, nextval(), now(), ...
        elif expression is not None:
            filled.append((column.name, sql.SQL("{} IS DISTINCT FROM {}").format(name, sql.SQL(cast(Any, expression)))))
        else:
            filled.append((column.name, sql.SQL("{} IS NOT NULL").format(name)))
    findings = []
    if renewed:
        findings.append(
            Finding(
                "warning", "renewed", f"the target computes {', '.join(renewed)} anew for the rows that are replaced"
            )
        )
    if filled:
        terms = sql.SQL(", ").join(sql.SQL("count(*) FILTER (WHERE {})").format(term) for _, term in filled)
        anything = sql.SQL(" OR ").join(term for _, term in filled)
        statement = sql.SQL(query("preflight/target_only")).format(**parts, anything=anything, terms=terms)
        row = _counts(connection, statement)
        if row is None or row[0]:
            lost = "an unknown number of" if row is None else f"{row[0]:,}"
            each = zip(filled, row[1:] if row else [1] * len(filled), strict=True)
            names = ", ".join(quote_name(name) for (name, _), count in each if count)
            findings.append(
                Finding(
                    "warning" if spec.replace else "error",
                    "target-only-values",
                    f"{lost} rows of the target in the range hold values in columns that the source does not "
                    f"have ({names}): they would be lost",
                    hint="--replace replaces these rows all the same",
                )
            )
    return findings


def sequences(columns: Sequence[MovedColumn], hypertable: Hypertable, sync: bool) -> list[Finding]:
    """Sequences behind moved columns do not move by themselves."""
    moved = {m.target for m in columns}
    names = [quote_name(c.name) for c in hypertable.relation.columns if c.name in moved and c.sequence_oid]
    if not names or sync:
        return []
    return [
        Finding(
            "warning",
            "sequences",
            f"the sequence behind {', '.join(names)} does not know the values that are moved: new rows may "
            "collide with them",
            hint="--sync-sequences moves it forward at the end, never back",
        )
    ]


def scans(found: Survey, windows: int, spec: Spec) -> list[Finding]:
    """The price of a source without an index on its time column."""
    if found.indexed:
        return []
    table, each = max(found.table_bytes, found.scan_bytes), found.scan_bytes
    text = (
        f"the source has no usable index on {quote_name(found.axis.column)}: each of {windows:,} windows reads "
        f"{human_bytes(each)}, "
        f"{human_bytes(each * windows)} in all"
    )
    index_hint = f"CREATE INDEX CONCURRENTLY ON {found.axis.relation.quoted} ({quote_name(found.axis.column)});"
    if table > GIGABYTE and each * windows > _MAX_SCANS * table and not spec.allow_seqscan:
        return [Finding("error", "no-index", text, hint=f"{index_hint} or go on with --allow-seqscan")]
    return [Finding("warning", "no-index", text, hint=index_hint)]
