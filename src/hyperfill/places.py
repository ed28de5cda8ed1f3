"""Where a hypertable's chunks are now, asked again and again by workers: cheap also with thousands of chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hyperfill.catalog import MICROSECONDS_PER_DAY, UNLIMITED, Chunk, Hypertable
from hyperfill.session import Connection
from hyperfill.sql import query
from hyperfill.timeline import Kind, Span, TimeType, uuid_of_milliseconds


class Places:
    """Remembers the range of each chunk by its oid, and looks up those that are new. Community edition only."""

    def __init__(self, hypertable: Hypertable) -> None:
        self._hypertable = hypertable
        self._known: dict[int, Chunk] = {}

    def chunks_in(self, connection: Connection, span: Span) -> list[Chunk]:
        """The chunks of which some part lies in `span`, in time order. Their `compressed`, `rows` are not known."""
        parent = self._hypertable.relation.oid
        children: list[Any] = connection.execute(query("catalog/children"), [parent]).fetchall()
        now = [int(row[0]) for row in children]
        self._look(connection, [oid for oid in now if oid not in self._known])
        inside = self._inside(now, span)
        # A chunk may have been merged with its neighbour since.
        self._look(connection, [chunk.oid for chunk in inside])
        return self._inside(now, span)

    def _inside(self, oids: Sequence[int], span: Span) -> list[Chunk]:
        known = tuple(self._known[oid] for oid in oids if oid in self._known)
        found = replace(self._hypertable, chunks=known).chunks_in(span)
        return sorted(found, key=lambda c: (c.lower is not None, c.lower or 0, c.name))

    def _look(self, connection: Connection, oids: Sequence[int]) -> None:
        if not oids:
            return
        time_type = self._hypertable.time_type
        arguments = {"oids": list(oids), "column": self._hypertable.time_column}
        for oid in oids:
            self._known.pop(oid, None)
        found: list[Any] = connection.execute(query("catalog/slices"), arguments).fetchall()
        for oid, schema, name, lower, upper in found:
            ends = _edge(time_type, lower), _edge(time_type, upper)
            self._known[oid] = Chunk(*ends, schema, name, compressed=False, rows=-1, pages=0, oid=oid)


def _edge(time_type: TimeType, place: int) -> int | None:
    """One end of a slice as an ordinal; None where it is open."""
    if place in UNLIMITED:
        return None
    if time_type.kind is Kind.DATE:
        return place // MICROSECONDS_PER_DAY
    if time_type.kind is Kind.UUID:
        return uuid_of_milliseconds(place // 1000)
    return place
