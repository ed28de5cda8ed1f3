"""What every preparation begins with, wherever the rows come from: a result, its findings, the target's side of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import psycopg

from hyperfill import catalog, ledger, preflight, preflight_chunks, preflight_policies
from hyperfill.catalog import Hypertable, Server
from hyperfill.errors import Finding, Refused, first_line
from hyperfill.landing import Landings
from hyperfill.plan import PlannedWindow
from hyperfill.progress import Observer
from hyperfill.session import Connection
from hyperfill.spec import Landing
from hyperfill.timeline import BoundError, Span, TimeType
from hyperfill.window import Order

State = Literal["done", "incomplete", "mismatch", "nothing"]  # of a command, in its JSON
T = TypeVar("T")
S = TypeVar("S", bound=Landing)


@dataclass
class Prepared:
    """A backfill ready to run: everything known, nothing written. `entry` is the one in the ledger to go on with."""

    spec: Landing
    table: str
    hypertable: str
    start: str | None = None
    end: str = ""
    findings: list[Finding] = field(default_factory=list)
    definition: ledger.Definition | None = None
    order: Order | None = None
    windows: list[PlannedWindow] = field(default_factory=list)
    entry: ledger.Entry | None = None
    time_type: TimeType | None = None
    cells: list[Span] = field(default_factory=list)  # of the target's grid, in which the source may have rows
    missing_chunks: int = 0
    overlap_rows: int = 0
    overlap_exact: bool = True
    empty: bool = False  # start = end: there is nothing to do
    superseded: set[int] = field(default_factory=set)  # loads of which nothing came, in whose place this one steps
    unlike: set[int] = field(default_factory=set)  # finished loads whose files only look the same
    versions: dict[str, Any] = field(default_factory=dict)  # of the servers, for the report
    policies: preflight_policies.Policies = field(default_factory=preflight_policies.Policies)
    shape: preflight_chunks.Shape = field(default_factory=preflight_chunks.Shape)
    landings: Landings = field(default_factory=Landings)

    @property
    def range(self) -> str:
        """The bounds, for people."""
        return f"[{self.start or '-infinity'}, {self.end})"

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]


def worst(states: Iterable[State]) -> State:
    """The state of several together."""
    found = set(states)
    ordered: tuple[State, ...] = ("mismatch", "incomplete", "done")
    return next((state for state in ordered if state in found), "nothing")


def refuse(prepared: Sequence[Prepared], observer: Observer, nothing: str = "nothing was written") -> None:
    """Show what was found. Raises `Refused` if anything stands against beginning."""
    observer.findings([f for p in prepared for f in p.findings])
    errors = [f for p in prepared for f in p.errors]
    if errors:
        raise Refused(
            f"refused: {len(errors)} reason{'s' if len(errors) > 1 else ''} not to start; {nothing}",
            findings=tuple(f for p in prepared for f in p.findings),
        )


class Stop(Exception):
    """Without this nothing further can be checked."""


class Preparation(Generic[S]):
    """What steps share; each adds findings to the result."""

    def __init__(self, spec: S, jobs: int, table: str) -> None:
        """`table` is what the findings are about, until the source has said its name."""
        self.spec = spec
        self.jobs = jobs
        self.result = Prepared(spec, table, spec.hypertable or table)

    def note(self, findings: list[Finding]) -> None:
        for finding in findings:
            self.result.findings.append(
                Finding(finding.severity, finding.code, finding.message, finding.hint, self.result.table)
            )

    def attempt(self, code: str, action: Callable[[], T]) -> T | None:
        """Run a step; a refusal becomes a finding, so that the next step can find more."""
        try:
            return action()
        except Refused as error:
            if not any(f.message == error.message for f in self.result.errors):  # two steps may meet the same
                self.note([Finding("error", code, error.message, error.hint)])
        except BoundError as error:
            self.note([Finding("error", code, str(error))])
        except psycopg.errors.InsufficientPrivilege as error:
            # Said already where the right itself was looked at: this is only what follows from it.
            if not any(f.code in ("rights", "row-security", "ledger") for f in self.result.errors):
                self.note([Finding("error", "rights", first_line(error))])
        return None

    def look(self, check: Callable[[], list[Finding]]) -> None:
        """A check of its own: what it finds, or that this role may not look."""
        self.note(self.attempt("rights", check) or [])

    def policies(self, target: Connection, server: Server, hypertable: Hypertable) -> list[Finding]:
        self.result.policies = preflight_policies.read(target, hypertable.relation.oid, refused_ok=True)
        return preflight_policies.check(self.result.policies, self.spec, server.user)

    def forget_policies(self) -> None:
        """What is finished is not done again: nothing is turned off for it, so nothing is said of that."""
        if self.result.entry is not None and self.result.entry.finished:
            errors = self.result.errors
            self.result.findings = [f for f in self.result.findings if f.code != "policies" or f in errors]

    def retention(
        self, target: Connection, hypertable: Hypertable, span: Span, first: Callable[[], int | None] = lambda: None
    ) -> list[Finding]:
        """Also of a backfill that goes on: the cutoff moves. `first`: where the source's rows begin, if known."""
        result, entry = self.result, self.result.entry
        if entry is not None and entry.finished:
            return []
        # Windows of a source without an index reach over stretches without rows: where those are is known better.
        occupied = result.cells or [w.span for w in result.windows if w.occupied and w.estimate]
        if entry is not None:
            occupied = ledger.occupied(target, entry.id, hypertable.time_type)
        if any(window.lower is None for window in occupied):
            begin = first()
            occupied = [
                Span(begin, w.upper) if w.lower is None and begin is not None and begin < w.upper else w
                for w in occupied
            ]
        return preflight_policies.retention(target, result.policies, hypertable, span, occupied, self.spec)

    def read_target(self, target: Connection, server: Server, name: str, option: str) -> Hypertable:
        found = catalog.resolve(target, name, "target", option)
        self.result.hypertable = found.quoted
        return catalog.read_hypertable(target, server, found)

    def read_span(self, target: Connection, hypertable: Hypertable, end: str) -> Span:
        """The bounds, read by the server in the type of the time column."""
        result, spec = self.result, self.spec
        column = f"{catalog.quote_name(hypertable.time_column)} of {hypertable.relation.quoted}"
        lower = None
        if spec.start is not None and spec.start.strip().lower() != "-infinity":
            lower = preflight.read_bound(target, hypertable.time_type, spec.start, f"--start (column {column})")
        upper = preflight.read_bound(target, hypertable.time_type, end, f"--end (column {column})")
        time_type = hypertable.time_type
        result.start = None if lower is None else time_type.text(lower)
        result.end = time_type.text(upper)
        if lower is not None and lower > upper:
            raise Refused(f"--start {result.start} is after --end {result.end}")
        return Span(lower, upper)
