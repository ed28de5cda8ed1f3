"""What exactly differs in a window: halved again and again by time, down to single rows, told apart by their key."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

from psycopg import sql

from hyperfill.comparing import Compared, Ends, Piece, Reader
from hyperfill.fingerprint import Fingerprint, Side, readable
from hyperfill.sql import query
from hyperfill.survey import first_row
from hyperfill.timeline import Span, TimeType, split_even

_PIECES = 64  # a stretch is looked at in so many parts
_LEAF_ROWS = 20_000  # few enough to be fetched row by row
_SLICE_ROWS = 100_000  # rows of one and the same moment are fetched in slices of so many
_BUCKETS_SHOWN = 100
_SAMPLES = 5  # of each kind
_SHOWN_CHARACTERS = 200

What = Literal["missing", "extra", "different"]


@dataclass(frozen=True)
class Bucket:
    """The smallest stretch of time that was looked at as a whole, where both sides differ."""

    span: Span
    source: int  # rows
    target: int


@dataclass(frozen=True)
class Sample:
    """A row that is not the same on both sides. `columns`: those that differ, where both have a row of that key."""

    what: What
    key: dict[str, str | None]
    source: dict[str, str | None] | None
    target: dict[str, str | None] | None
    columns: tuple[str, ...] = ()


@dataclass
class Difference:
    """A window that differs."""

    window: Compared
    examined: bool = False
    buckets: list[Bucket] = field(default_factory=list)
    more_buckets: int = 0
    missing: int = 0  # rows that only the source has
    extra: int = 0  # rows that only the target has
    changed: int = 0  # rows that both have, by their key, with other values
    exact: bool = True  # False: there are at least so many
    samples: list[Sample] = field(default_factory=list)

    def as_json(self, time_type: TimeType) -> dict[str, Any]:
        """One element of `differences`."""
        window = self.window
        found = {
            "window": window.piece.id,
            **time_type.bounds(window.piece.span),
            "rows_source": window.source.rows,
            "rows_target": window.target.rows,
            "examined": self.examined,
        }
        if not self.examined:
            return found
        return {
            **found,
            "rows_missing": self.missing,
            "rows_extra": self.extra,
            "rows_different": self.changed,
            "exact": self.exact,
            "buckets": [
                {**time_type.bounds(b.span), "rows_source": b.source, "rows_target": b.target} for b in self.buckets
            ],
            "buckets_left_out": self.more_buckets,
            "samples": [
                {"what": s.what, "key": s.key, "columns": list(s.columns), "source": s.source, "target": s.target}
                for s in self.samples
            ],
        }


class _Row(NamedTuple):
    hash: int
    key: tuple[str | None, ...]


@dataclass(frozen=True)
class _Slice:
    """Some of the rows of one moment: by the hash of their key, so that both rows of a key are in one slice."""

    number: int
    slices: int
    by_key: bool


class Examiner:
    """Looks into windows that differ. Reads only."""

    def __init__(self, ends: Ends, rows: int | None) -> None:
        """`rows`: how many rows of a window are fetched at most to tell them apart; None: all that is needed."""
        self._ends = ends
        self._budget = rows
        self._left = 0
        here, there = ends.sides()
        self._names = here.names
        self._key, self._unique = self._find_key(here, there)

    def _find_key(self, here: Side, there: Side) -> tuple[tuple[str, ...], bool]:
        """The columns that say which rows are the same one, by the target's names; else the time alone."""
        time = there.axis.column
        mine, theirs = self._ends.ask(_key)
        for side, names in ((there, theirs), (here, mine)):
            if side is here:
                # The source may call its time column something else; other names are the same on both sides.
                names = [time if name == here.axis.column else name for name in names]
            if names and set(names) <= set(self._names):
                return (time, *(n for n in names if n != time)), True
        return (time,), False

    def examine(self, piece: Piece) -> tuple[Compared, Difference | None]:
        """A window as it is now, and what differs in it; None if nothing does."""
        self._left = self._budget if self._budget is not None else 0
        both = self._ends.ask(partial(Reader.fingerprint, span=piece.span, mode="hash"))
        window = Compared(piece, *both)
        if window.equal:
            return window, None
        found = Difference(window, examined=True)
        self._descend(found, self._bounded(piece.span), *both)
        return window, found

    def _bounded(self, span: Span) -> list[Span]:
        """The span in pieces. One that is open below is cut where its first rows are."""
        if span.lower is not None:
            return split_even(span, _PIECES)
        begins = self._ends.ask(lambda reader, side: first_row(reader.open(), side.axis, span))
        firsts = [f for f in begins if f is not None and f < span.upper]
        if not firsts:
            return [span]
        first = min(firsts)
        lower = Span(None, first)
        return [lower, *split_even(Span(first, span.upper), _PIECES)]

    def _descend(self, found: Difference, pieces: list[Span], source: Fingerprint, target: Fingerprint) -> None:
        if len(pieces) == 1:
            self._leaf(found, pieces[0], source, target)
            return
        here, there = self._ends.ask(partial(Reader.fingerprints, pieces=pieces, mode="hash"))
        for span, mine, theirs in zip(pieces, here, there, strict=True):
            if mine == theirs:
                continue
            inside = [span] if span.lower is None else split_even(span, _PIECES)
            if max(mine.rows, theirs.rows) <= _LEAF_ROWS or len(inside) == 1:
                self._leaf(found, span, mine, theirs)
            elif self._spent:
                self._count(found, span, mine, theirs)
            else:
                self._descend(found, inside, mine, theirs)

    @property
    def _spent(self) -> bool:
        return self._budget is not None and self._left <= 0

    def _count(self, found: Difference, span: Span, source: Fingerprint, target: Fingerprint) -> None:
        """Only what the numbers of rows tell."""
        found.exact = False
        found.missing += max(0, source.rows - target.rows)
        found.extra += max(0, target.rows - source.rows)
        self._note(found, Bucket(span, source.rows, target.rows))

    @staticmethod
    def _note(found: Difference, bucket: Bucket) -> None:
        if len(found.buckets) < _BUCKETS_SHOWN:
            found.buckets.append(bucket)
        else:
            found.more_buckets += 1

    def _leaf(self, found: Difference, span: Span, source: Fingerprint, target: Fingerprint) -> None:
        """Row by row. Rows of one moment may be any number: in slices then, each with all rows of its keys."""
        slices = max(1, -(-max(source.rows, target.rows) // _SLICE_ROWS))
        bucket = Bucket(span, source.rows, target.rows)
        seen = (0, 0)
        differs = False
        for number in range(slices):
            if self._spent:
                found.exact = False
                found.missing += max(0, source.rows - target.rows - seen[0])
                found.extra += max(0, target.rows - source.rows - seen[1])
                differs = True
                break
            part = self._slice(number, slices) if slices > 1 else None
            missing, extra = self._compare_rows(found, span, part)
            seen = (seen[0] + missing, seen[1] + extra)
            differs = differs or bool(missing or extra)
        if differs:  # otherwise it is equal by now
            self._note(found, bucket)

    def _slice(self, number: int, slices: int) -> _Slice:
        return _Slice(number, slices, by_key=self._unique)

    def _compare_rows(self, found: Difference, span: Span, part: _Slice | None) -> tuple[int, int]:
        """Rows that differ on the source and on the target; how many there are of each."""
        here, there = self._ends.ask(lambda reader, side: self._fetch(reader, side, span, part))
        self._left -= max(len(here), len(there))
        mine, theirs = Counter(here), Counter(there)
        missing, extra = list((mine - theirs).elements()), list((theirs - mine).elements())
        if not missing and not extra:
            return 0, 0
        pairs = self._pair(missing, extra)
        paired = Counter(row for pair in pairs for row in pair)
        alone = list((Counter(missing) - paired).elements()), list((Counter(extra) - paired).elements())
        found.missing += len(alone[0])
        found.extra += len(alone[1])
        found.changed += len(pairs)
        self._sample(found, span, *alone, pairs)
        return len(missing), len(extra)

    def _expressions(self, side: Side) -> sql.Composable:
        values = dict(zip(side.names, side.shown, strict=True))
        return sql.SQL(", ").join(readable(values[name]) for name in self._key)

    def _fetch(self, reader: Reader, side: Side, span: Span, part: _Slice | None) -> list[_Row]:
        within = side.condition(span)
        if part is not None:
            what = side.hash_of([self._expressions(side)]) if part.by_key else side.row_hash()
            within = sql.SQL(query("differences/slice")).format(
                range=within, hash=what, slices=sql.Literal(part.slices), number=sql.Literal(part.number)
            )
        statement = sql.SQL(query("differences/hashes")).format(
            hash=side.row_hash(),
            key=self._expressions(side),
            relation=side.axis.relation.identifier,
            range=within,
        )
        rows: list[Any] = reader.open().execute(statement).fetchall()
        return [_Row(number, tuple(key)) for number, key in rows]

    def _pair(self, missing: Sequence[_Row], extra: Sequence[_Row]) -> list[tuple[_Row, _Row]]:
        """Rows of one key on both sides. Where the time alone is the key only if there is one on each side."""
        by_key: dict[tuple[str | None, ...], tuple[list[_Row], list[_Row]]] = defaultdict(lambda: ([], []))
        for row in missing:
            by_key[row.key][0].append(row)
        for row in extra:
            by_key[row.key][1].append(row)
        return [
            pair
            for mine, theirs in by_key.values()
            if self._unique or len(mine) == len(theirs) == 1
            for pair in zip(mine, theirs, strict=False)
        ]

    def _sample(
        self,
        found: Difference,
        span: Span,
        missing: Sequence[_Row],
        extra: Sequence[_Row],
        pairs: Sequence[tuple[_Row, _Row]],
    ) -> None:
        room = {w: _SAMPLES - sum(1 for s in found.samples if s.what == w) for w in ("missing", "extra", "different")}
        chosen = pairs[: room["different"]]
        lost, more = missing[: room["missing"]], extra[: room["extra"]]
        here, there = self._ends.ask(
            lambda reader, side: self._read(
                reader,
                side,
                span,
                [*lost, *(m for m, _ in chosen)] if reader is self._ends.source else [*more, *(t for _, t in chosen)],
            )
        )
        for mine, theirs in chosen:
            a, b = here.get(mine.hash), there.get(theirs.hash)
            if a is None or b is None:
                continue
            differing = tuple(n for n, x, y in zip(self._names, a[1], b[1], strict=True) if x != y)
            found.samples.append(
                Sample("different", self._named(mine), dict(zip(self._names, a[0], strict=True)),
                       dict(zip(self._names, b[0], strict=True)), differing)
            )  # fmt: skip
        for row in lost:
            if row.hash in here:
                values = dict(zip(self._names, here[row.hash][0], strict=True))
                found.samples.append(Sample("missing", self._named(row), values, None))
        for row in more:
            if row.hash in there:
                values = dict(zip(self._names, there[row.hash][0], strict=True))
                found.samples.append(Sample("extra", self._named(row), None, values))

    def _named(self, row: _Row) -> dict[str, str | None]:
        return dict(zip(self._key, row.key, strict=True))

    def _read(
        self, reader: Reader, side: Side, span: Span, rows: Sequence[_Row]
    ) -> dict[int, tuple[list[str | None], list[int]]]:
        """Values of rows and their hashes, by the hash of the row."""
        if not rows:
            return {}
        cut = sql.SQL("pg_catalog.left({}, {})")
        statement = sql.SQL(query("differences/samples")).format(
            hash=side.row_hash(),
            shown=sql.SQL(", ").join(cut.format(readable(v), sql.Literal(_SHOWN_CHARACTERS)) for v in side.shown),
            hashes=sql.SQL(", ").join(side.hash_of(v) for v in side.values),
            relation=side.axis.relation.identifier,
            range=side.condition(span),
            wanted=sql.Literal([row.hash for row in rows]),
            limit=sql.Literal(100 * len(rows)),
        )
        found: list[Any] = reader.open().execute(statement).fetchall()
        return {number: (shown, hashes) for number, shown, hashes in found}


def _key(reader: Reader, side: Side) -> list[str]:
    """The columns of a unique key; empty if there is none."""
    statement = sql.SQL(query("differences/key")).format(oid=sql.Literal(side.axis.relation.oid))
    row: Any = reader.open().execute(statement).fetchone()
    return row[0] if row else []
