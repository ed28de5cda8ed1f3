"""How each chunk of a range ends: written compressed, compressed when its windows are done, or plain; and why.

A chunk that its policy would compress anyway is written once, sorted and compressed, where one window covers it and the
server can do it right. Where it cannot (unique keys, older servers), workers compress it as soon as all its windows are
done, so that few plain chunks lie about. Nothing half full is ever compressed: a chunk that the range's ends cut, above
all the one that contains the completion point, stays plain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest
from typing import Any, Literal

import psycopg

from hyperfill import columnstore
from hyperfill.catalog import Hypertable, Server
from hyperfill.columnstore import Settings, Sides
from hyperfill.compressed import has_rows
from hyperfill.errors import Finding, first_line
from hyperfill.plan import DEFAULT_WINDOW_ROWS, PlannedWindow
from hyperfill.policies import read_cutoff
from hyperfill.preflight_policies import Policies, ordinal_of
from hyperfill.quantities import human_bytes
from hyperfill.session import Connection, fetch_one
from hyperfill.spec import Land
from hyperfill.sql import query
from hyperfill.timeline import Span, TimeType

Way = Literal["written", "afterwards", "plain"]

# Before 2.29 direct compression let rows past CHECK and NOT NULL, and lost some.
_DIRECT_SINCE = (2, 29)
# A chunk with more is not written by one window: it could not be tried again within seconds. And where it cannot be
# read in slices of time, all of it is sorted at once.
_LARGEST_ROWS, _LARGEST_BYTES = 5_000_000, 1 << 30
_ASKED = 1000  # chunks, whether there are rows in them
_ROW_OVERHEAD = 28  # bytes of a row in a page beside its values


@dataclass(frozen=True)
class Stretch:
    """A cell of the grid with rows: how the chunk in it (or to be made there) ends, and in words why not otherwise."""

    span: Span
    way: Way
    reason: str
    rows: int
    first_window: int = 0
    last_window: int = 0
    direct: bool = False  # its one window writes compressed rows if it can when it comes to it


@dataclass
class Rules:
    """What holds for all chunks of a backfill."""

    land: Land
    span: Span
    nothing: str | None = None  # why no chunk is compressed
    indirect: str | None = None  # why none is written compressed
    cutoff: int | None = None  # chunks that end at or before it are compressed; None: all
    cutoff_text: str = ""
    settings: Settings | None = None
    sides: Sides | None = None
    time_column: str = ""
    row_bytes: int = 0  # of a plain row, without indexes; 0: not known
    largest: int = 0  # rows of a chunk that one window may write
    occupied: frozenset[int] = frozenset()  # chunks in which the target has rows already, by oid

    def way(self, cell: Span, hypertable: Hypertable) -> tuple[Way, str]:
        """How a chunk in this cell ends, as far as its windows have no say in it."""
        if self.nothing is not None:
            return "plain", self.nothing
        if cell.upper > self.span.upper:
            return "plain", "it contains the end of the range"
        if self.span.lower is not None and (cell.lower is None or cell.lower < self.span.lower):
            return "plain", "it contains the start of the range"
        if self.cutoff is not None and cell.upper > self.cutoff:
            return "plain", f"its policy does not compress it yet ({self.cutoff_text})"
        lower = hypertable.time_type.minimum if cell.lower is None else cell.lower
        for chunk in hypertable.chunks_in(cell):
            bottom = hypertable.time_type.minimum if chunk.lower is None else chunk.lower
            if bottom < lower or chunk.upper is None or chunk.upper > cell.upper:
                return "plain", "its space partitions have chunks of different lengths"
        if self.indirect is not None:
            return "afterwards", self.indirect
        return "written", ""

    def whole(self, hypertable: Hypertable, *, cut: bool) -> Callable[[Span, float], bool]:
        """Whether a cell with so many rows is to be one window, however many rows a window usually has.

        `cut`: the user has said how large windows are.
        """
        return lambda cell, rows: not cut and rows <= self.largest and self.way(cell, hypertable)[0] == "written"


@dataclass
class Landings:
    """How the chunks of a range end, as a plan shows it."""

    land: Land = "auto"
    stretches: list[Stretch] = field(default_factory=list)
    row_bytes: int = 0  # of a plain row, without indexes; 0: not known
    jobs: int = 1
    settings: Settings | None = None  # of the hypertable

    @property
    def compressed(self) -> list[Stretch]:
        return [one for one in self.stretches if one.way != "plain"]

    @property
    def plain_bytes(self) -> int:
        """What stays plain."""
        return self.row_bytes * sum(one.rows for one in self.stretches if one.way == "plain")

    @property
    def peak_bytes(self) -> int:
        """The most that lies there plain at once beyond that: as many chunks as there are workers, the largest ones."""
        waiting = (one.rows for one in self.stretches if one.way == "afterwards")
        return self.row_bytes * sum(nlargest(self.jobs, waiting))

    def counts(self) -> dict[str, int]:
        found = Counter(one.way for one in self.stretches)
        ways: tuple[Way, ...] = ("written", "afterwards", "plain")
        return {way: found[way] for way in ways}

    def as_json(self, time_type: TimeType | None) -> dict[str, Any]:
        """The contract of `plan --json`."""
        chunks = [
            {**time_type.bounds(one.span), "way": one.way, "reason": one.reason, "rows_estimated": one.rows}
            for one in self.stretches
            if time_type is not None
        ]
        known = self.row_bytes > 0
        return {
            "land": self.land,
            **self.counts(),
            "plain_bytes": self.plain_bytes if known else None,
            "waiting_bytes": self.peak_bytes if known else None,
            "chunks": chunks,
        }

    def lines(self) -> list[str]:
        """For people: a line for each way and reason, and the disk that it takes."""
        words = {"written": "written compressed", "afterwards": "compressed when filled", "plain": "plain"}
        groups = Counter((one.way, one.reason) for one in self.stretches)
        lines = [
            f"chunks {words[way]}: {number}" + (f" ({reason})" if reason else "")
            for (way, reason), number in sorted(groups.items(), key=lambda g: (list(words).index(g[0][0]), g[0][1]))
        ]
        if self.compressed and self.row_bytes:
            lines.append(
                f"disk: about {human_bytes(self.plain_bytes)} stay plain, at most about {human_bytes(self.peak_bytes)} "
                "more wait to be compressed at a time (without indexes); the rest is compressed"
            )
        return lines


def read_rules(
    target: Connection,
    server: Server,
    hypertable: Hypertable,
    policies: Policies,
    span: Span,
    land: Land,
    sides: Sides | None,
    *,
    where: bool,
    row_bytes: int = 0,
) -> tuple[Rules, list[Finding]]:
    """What the target says of compressing this hypertable's chunks. `sides` None: rows come from files."""
    rules = Rules(land, span, time_column=hypertable.time_column, sides=sides, row_bytes=row_bytes)
    rules.nothing = _nothing(target, server, hypertable, policies, rules, where=where)
    if rules.nothing is None:
        rules.occupied = _occupied(target, hypertable, span)
        return rules, []
    if land != "compressed":
        # Whoever has a policy expects it; why it is not done is said.
        concerned = [job for job in policies.jobs if job.scheduled or policies.hold_of(job)]
        expected = land == "auto" and any(job.kind == "compression" for job in concerned)
        text = f"chunks land plain, and are left to their policy: {rules.nothing}"
        return rules, [Finding("note", "land", text)] if expected else []
    hint = "--land auto compresses what can be compressed, and leaves the rest plain"
    return rules, [Finding("error", "land", f"--land compressed: {rules.nothing}", hint)]


def _nothing(
    target: Connection, server: Server, hypertable: Hypertable, policies: Policies, rules: Rules, *, where: bool
) -> str | None:
    """Why no chunk is compressed; None: `rules` are filled in."""
    if rules.land == "plain":
        return "--land plain"
    if not server.community:
        return "the Apache edition of TimescaleDB does not compress"
    row: Any = target.execute(query("compressed/able"), {"oid": hypertable.relation.oid}).fetchone()
    able, merged, owner, known, unique, exclusion, triggers, generated, analyzed, chooses = row
    if not able:
        return "the hypertable's columnstore is not switched on"
    problem = None if rules.land == "compressed" else _cutoff(target, hypertable, policies, rules)
    if problem is not None:
        return problem
    if where:
        return "--where moves only some of their rows"
    if merged:
        return "compress_chunk_time_interval merges chunks: that is left to the policy"
    if not owner:
        return "only the hypertable's owner may compress its chunks"
    settings = rules.settings = columnstore.read_settings(target, hypertable.relation.oid)
    if settings is None:
        return "the hypertable's columnstore has no settings"
    if settings.segmentby is None and chooses and not analyzed:
        return "segmentby is left to the server, which chooses by statistics and has none: set it, or ANALYZE"
    collations = columnstore.read_collations(target, hypertable.relation)
    chosen = settings
    if settings.segmentby is None and chooses:
        asked = fetch_one(target, query("compressed/segmentby_default"), [hypertable.relation.oid])
        chosen = replace(settings, segmentby=tuple(asked[0]))
    changed = columnstore.unfaithful(chosen, hypertable.relation, collations)
    if changed is not None:
        return changed
    if rules.sides is None:
        rules.indirect = "its rows come from files"
    elif server.timescaledb is None or server.timescaledb < _DIRECT_SINCE or not known:
        rules.indirect = "TimescaleDB before 2.29 cannot be trusted to write compressed rows"
    elif unique or exclusion:
        rules.indirect = f"the hypertable has {'a unique key' if unique else 'an exclusion constraint'}"
    elif triggers:
        rules.indirect = "the hypertable has triggers or foreign keys"
    elif generated:
        rules.indirect = "the hypertable has virtual generated columns"
    elif fetch_one(target, query("compressed/skipping"), [hypertable.relation.oid])[0]:
        rules.indirect = "chunk skipping is enabled, which goes by ranges that are computed when a chunk is compressed"
    elif settings.segmentby is None:
        rules.indirect = "segmentby is left to the server"
    else:
        rules.indirect = rules.sides.problem(settings)
        # Without orderby the server sorts by time, the newest first.
        slices = not settings.orderby or columnstore.time_first(settings, rules.time_column)
        rules.largest = min(_LARGEST_ROWS if slices else DEFAULT_WINDOW_ROWS, _LARGEST_BYTES // max(1, rules.row_bytes))
    return None


def _occupied(target: Connection, hypertable: Hypertable, span: Span) -> frozenset[int]:
    """The chunks of the range in which the target has rows. Beyond a number they are not asked, and taken for empty:
    it is only a matter of what the plan says."""
    return frozenset(chunk.oid for chunk in hypertable.chunks_in(span)[:_ASKED] if has_rows(target, chunk))


def _cutoff(target: Connection, hypertable: Hypertable, policies: Policies, rules: Rules) -> str | None:
    """Find out what the compression policy compresses now; why nothing."""
    jobs = [job for job in policies.jobs if job.kind == "compression" and (job.scheduled or policies.hold_of(job))]
    jobs = [job for job in jobs if job.proc_name == "policy_compression"]
    if not jobs or policies.extension is None:
        return "no compression policy is on (--land compressed does without)"
    job = jobs[0]
    try:
        found = read_cutoff(target, policies.extension, job, hypertable.relation, "compress")
    except psycopg.errors.InsufficientPrivilege as error:
        return f"what its policy compresses is unknown: {first_line(error)}"
    if found is None:
        return "what its policy compresses is unknown"
    kind, cutoff = found
    if kind == "creation":
        return "its policy goes by when chunks were created, and new ones are too young"
    rules.cutoff = ordinal_of(hypertable.time_type, cutoff)
    rules.cutoff_text = f"compress_after {(job.config or {}).get('compress_after')}"
    return None


def assign(
    rules: Rules, hypertable: Hypertable, cells: Iterable[Span], windows: Sequence[PlannedWindow]
) -> list[Stretch]:
    """The cells with rows, each with its windows and the way in which its chunk ends.

    `windows` in time order, an exact partition of the range, numbered from 1.
    """
    found: list[Stretch] = []
    at = 0
    bottom = hypertable.time_type.minimum
    for cell in cells:
        inside = Span(None if cell.lower == bottom else cell.lower, cell.upper)
        while at < len(windows) and cell.lower is not None and windows[at].span.upper <= cell.lower:
            at += 1
        last = at
        while last + 1 < len(windows) and windows[last].span.upper < cell.upper:
            last += 1
        if at >= len(windows):
            break
        mine = windows[at : last + 1]
        rows = sum(w.estimate for w in mine)
        way, reason = rules.way(cell, hypertable)
        direct = way == "written"
        if direct and rows > rules.largest:
            direct, way, reason = False, "afterwards", "it has too many rows to be written by one window"
        elif direct and (len(mine) > 1 or not _fills(mine[0].span, inside)):
            direct, way, reason = False, "afterwards", "it is not filled by one window of its own"
        elif direct and any(chunk.oid in rules.occupied for chunk in hypertable.chunks_in(cell)):
            # Compressed ones are written so all the same, which leaves less to do.
            way, reason = "afterwards", "the target has rows in it already"
        found.append(Stretch(cell, way, reason, rows, at + 1, last + 1, direct))
    return found


def _fills(window: Span, cell: Span) -> bool:
    """Whether a window is exactly a cell; below the bottom of the type there is nothing."""
    return window.upper == cell.upper and (window.lower == cell.lower or (cell.lower is None and window.lower is None))


def row_bytes(width: float) -> int:
    """What a plain row takes by the planner's width of it."""
    return round(width) + _ROW_OVERHEAD
