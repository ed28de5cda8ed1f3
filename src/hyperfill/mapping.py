"""Which columns are moved, and how: by name, losslessly, in binary where that means the same on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hyperfill.catalog import Column, Hypertable, Relation, quote_name
from hyperfill.errors import Finding
from hyperfill.pgtypes import difference, lossless_cast
from hyperfill.window import MovedColumn

_TIME_NAMES = frozenset({"timestamptz", "timestamp", "date", "int2", "int4", "int8", "uuid"})
_WIDER_TIME = frozenset({("int2", "int4"), ("int2", "int8"), ("int4", "int8")})


@dataclass(frozen=True)
class Mapping:
    """The result of matching: what is moved, in which format, and what the target has for itself."""

    columns: tuple[MovedColumn, ...]
    binary: bool
    target_only: tuple[Column, ...]  # with a default or nullable, not generated


def match(
    source: Relation,
    target: Hypertable,
    source_time: str,
    wanted: Sequence[str] | None,
    *,
    writes: bool = True,
) -> tuple[Mapping, list[Finding]]:
    """Match columns by name; the time columns are matched whatever they are called. Without `writes` they are compared.

    `wanted` are the target's names of the columns to move, None for all. Findings hold every reason
    why not, not only the first.
    """
    findings: list[Finding] = []
    moved: list[MovedColumn] = []
    target_only: list[Column] = []
    binary = True
    used: set[str] = {source_time}
    insertable = [c for c in target.relation.columns if not c.generated]
    names = {c.name for c in insertable}
    for name in wanted or ():
        if name not in names:
            generated = target.relation.column(name) is not None
            why = "is generated: the target computes it" if generated else "does not exist on the target"
            findings.append(Finding("error", "no-such-column", f"--columns: {quote_name(name)} {why}"))
        elif name != target.time_column and source.column(name) is None:
            findings.append(
                Finding("error", "no-such-column", f"--columns: {quote_name(name)} does not exist on the source")
            )
    if wanted is not None and target.time_column not in wanted:
        findings.append(
            Finding("error", "no-time-column", f"--columns must name the time column {quote_name(target.time_column)}")
        )
    for column in insertable:
        is_time = column.name == target.time_column
        theirs = source.column(source_time if is_time else column.name)
        if not is_time and theirs is not None and theirs.name == source_time:
            theirs = None  # the source's time column goes into the target's time column and nowhere else
        if theirs is None or (wanted is not None and column.name not in wanted):
            target_only.append(column)
            if writes and column.not_null and not (column.default_expression or column.identity) and not is_time:
                findings.append(
                    Finding(
                        "error",
                        "missing-not-null",
                        f"the target's column {quote_name(column.name)} is NOT NULL and has no default, "
                        "and nothing is moved into it",
                    )
                )
            continue
        used.add(theirs.name)
        cast, problem = _convert(theirs, column, writes)
        if problem:
            findings.append(problem)
        moved.append(MovedColumn(theirs.name, column.name, cast))
        binary &= column.of.binary_safe and (theirs.of.binary_safe or cast is not None)
    computed = {c.name for c in target.relation.columns if c.generated}
    left = [c for c in source.columns if c.name not in used and c.name not in computed]
    findings += _left_behind(left, [m.target for m in moved]) if wanted is None else []
    replaced = [c for c in source.columns if c.name in computed and not c.generated]
    if replaced:
        listed = ", ".join(quote_name(c.name) for c in replaced)
        text = f"the target computes {listed} itself: the source's values are not moved"
        findings.append(Finding("note", "generated", text))
    if len(moved) <= 1 and len(insertable) > 1 and not any(f.severity == "error" for f in findings):
        text = "--columns names" if wanted is not None else "source and target have in common"
        findings.append(Finding("error", "no-columns", f"{text} no column but the time"))
    return Mapping(tuple(moved), binary, tuple(target_only)), findings


def _left_behind(columns: Sequence[Column], moved: Sequence[str]) -> list[Finding]:
    real = [c for c in columns if not c.generated]
    findings = []
    if real:
        names = ", ".join(quote_name(c.name) for c in real)
        findings.append(
            Finding(
                "error",
                "source-only-columns",
                f"the source has columns that the target has not: {names}",
                hint="add them to the target, or leave them behind on purpose with "
                f"--columns '{','.join(quote_name(name) for name in moved)}'",
            )
        )
    return findings


def _convert(source: Column, target: Column, writes: bool) -> tuple[str | None, Finding | None]:
    """The cast that the source applies, or the reason why this column cannot be moved."""

    def refuse(reason: str) -> tuple[None, Finding]:
        text = f"column {quote_name(target.name)}: {source.type} on the source, {target.type} on the target: {reason}"
        return None, Finding(
            "error",
            "type",
            text,
            hint="if you know a conversion, make a view on the source that casts it, and move the view",
        )

    if not source.selectable:
        return None, Finding(
            "error", "rights", f"this role may not SELECT column {quote_name(source.name)} of the source"
        )
    if not writes and not target.selectable:
        return None, Finding(
            "error", "rights", f"this role may not SELECT column {quote_name(target.name)} of the target"
        )
    if writes and not target.insertable:
        return None, Finding(
            "error", "rights", f"this role may not INSERT into column {quote_name(target.name)} of the target"
        )
    reason = difference(source.of, target.of)
    if reason is None:
        return None, None
    if lossless_cast(source.of, target.of):
        return f"pg_catalog.{target.of.name}", None
    return refuse(reason)


def check_time_column(source: Column, target: Column) -> Finding | None:
    """The time columns must be of one type; a smaller integer on the source is fine."""
    names = source.of.name, target.of.name
    if source.of.builtin and ((names[0] == names[1] and names[0] in _TIME_NAMES) or names in _WIDER_TIME):
        return None
    return Finding(
        "error",
        "time-type",
        f"the source's time column {quote_name(source.name)} is of type {source.type}, the hypertable's "
        f"{quote_name(target.name)} of type {target.type}",
        hint="make a view on the source that converts it on purpose (a timestamp needs to be told its zone), and move "
        "the view",
    )
