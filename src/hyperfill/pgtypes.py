"""What a column's type is made of, and whether two servers mean the same by it. Pure.

Names say little: a user's type of one name may be a range of integers here and of floats there, or a
composite with its fields in another order. COPY BINARY would take the one for the other without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Types that initdb made have the same OID on every server.
_FIRST_USER_OID = 16384
# Types whose binary form is an OID of one database, or depends on settings of the session.
_NO_BINARY = frozenset({"xml", "money", "pg_snapshot", "txid_snapshot"})
_DIGITS = {"int2": 5, "int4": 10, "int8": 19}

# Casts that lose nothing, by pg_type.typname: source, target. The source does the cast: the text of a
# real is not the text of the double of the same value.
_LOSSLESS = frozenset(
    {
        ("int2", "int4"), ("int2", "int8"), ("int4", "int8"),
        ("int2", "numeric"), ("int4", "numeric"), ("int8", "numeric"),
        ("int2", "float4"), ("int2", "float8"), ("int4", "float8"), ("float4", "float8"),
        ("varchar", "text"), ("bpchar", "text"), ("name", "text"), ("text", "varchar"), ("bpchar", "varchar"),
        ("name", "varchar"),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Type:
    """A type below all domains. `inner`: the element of an array, subtype of a range, range of a multirange."""

    name: str  # pg_type.typname
    kind: str  # b base, a array, r range, m multirange, c composite, e enum
    builtin: bool
    typmod: int
    has_binary: bool
    inner: Type | None = None
    labels: tuple[str, ...] = ()
    fields: tuple[tuple[str, Type], ...] = ()

    @property
    def names_objects(self) -> bool:
        """Whether values stand for objects of the database, which are printed by name: reg*, also inside."""
        if self.builtin and self.name.startswith("reg"):
            return True
        inside = [*([self.inner] if self.inner else []), *(kind for _, kind in self.fields)]
        return any(kind.names_objects for kind in inside)

    @property
    def binary_safe(self) -> bool:
        """Whether COPY BINARY means the same on another server that has the same type."""
        if not self.has_binary or self.name.startswith("reg") or self.name in _NO_BINARY:
            return False
        if self.kind == "c":
            return False  # carries the OIDs of its fields' types
        if self.kind == "a" and not self.builtin:
            return False  # carries the OID of its element's type, a domain's included
        return self.inner is None or self.inner.binary_safe


UNKNOWN = Type("unknown", "b", True, -1, has_binary=False)


def build_types(rows: Iterable[Mapping[str, Any]], columns: Iterable[tuple[int, int]]) -> list[Type]:
    """The types of columns, given as (type oid, typmod), from the rows of catalog/types.sql."""
    known = {int(row["oid"]): row for row in rows}

    def build(oid: int, typmod: int) -> Type:
        row = known[oid]
        if row["kind"] == "d":
            # The innermost domain decides; its modifier is the one that holds.
            return build(row["inner_oid"], row["inner_typmod"])
        kind = "a" if row["is_array"] else {"b": "b", "p": "b"}.get(row["kind"], row["kind"])
        inner = None
        if kind in ("a", "r", "m"):
            inner = build(row["inner_oid"], typmod if kind == "a" else -1)
        return Type(
            name=row["name"],
            kind=kind,
            builtin=oid < _FIRST_USER_OID,
            typmod=typmod,
            has_binary=row["has_binary"],
            inner=inner,
            labels=tuple(row["labels"] or ()),
            fields=tuple((name, build(field, modifier)) for name, field, modifier in row["fields"] or ()),
        )

    return [build(oid, typmod) for oid, typmod in columns]


def difference(source: Type, target: Type) -> str | None:
    """Why a value of `source` would not arrive as itself in `target` without a cast; None if it would."""
    if source.kind != target.kind or source.builtin != target.builtin:
        return "not the same type"
    if source.kind == "e":
        unknown = [label for label in source.labels if label not in target.labels]
        return f"the target's type does not know {', '.join(map(repr, unknown[:5]))}" if unknown else None
    if source.kind == "c":
        if [name for name, _ in source.fields] != [name for name, _ in target.fields]:
            return "the fields are not the same, or not in the same order"
        for (name, mine), (_, theirs) in zip(source.fields, target.fields, strict=True):
            reason = difference(mine, theirs)
            if reason:
                return f"field {name}: {reason}"
        return None
    if source.inner is not None and target.inner is not None:
        reason = difference(source.inner, target.inner)
        return reason or (None if source.kind == "a" or source.name == target.name else "not the same type")
    if source.name != target.name:
        return "not the same type"
    return None if _wide_enough(source, target) else "values could be cut or rounded"


def lossless_cast(source: Type, target: Type) -> bool:
    """Whether the server's cast from `source` to `target` keeps every value."""
    if (source.name, target.name) not in _LOSSLESS or not (source.builtin and target.builtin):
        return False
    if target.name == "varchar":
        return _wide_enough(source, target)
    if target.name == "numeric" and target.typmod != -1:
        return _whole_digits(target.typmod) >= _DIGITS[source.name]
    return True


def _whole_digits(typmod: int) -> int:
    return (((typmod - 4) >> 16) & 0xFFFF) - _scale(typmod)


def _scale(typmod: int) -> int:
    scale = (typmod - 4) & 0x7FF
    return scale - 0x800 if scale >= 0x400 else scale  # negative scales exist since PostgreSQL 15


def _wide_enough(source: Type, target: Type) -> bool:
    """Whether the type modifier of the target holds everything that the source's allows."""
    if target.typmod in (-1, source.typmod):
        return True
    if target.name in ("varchar", "bpchar", "varbit"):
        return source.typmod != -1 and source.typmod <= target.typmod
    if target.name == "numeric":
        return (
            source.typmod != -1
            and _whole_digits(source.typmod) <= _whole_digits(target.typmod)
            and _scale(source.typmod) <= _scale(target.typmod)
        )
    if target.name in ("timestamp", "timestamptz", "time", "timetz"):
        return target.typmod >= 6 or (source.typmod != -1 and source.typmod <= target.typmod)
    return False
