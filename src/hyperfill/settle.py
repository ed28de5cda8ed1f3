"""What production needs around the windows: noted before the first write, put in order after the last window."""

from __future__ import annotations

from collections.abc import Sequence

from hyperfill import caggs, compressed, conversions, ledger
from hyperfill.errors import Finding
from hyperfill.ledger import Entry, Phase
from hyperfill.preparing import Prepared
from hyperfill.progress import Observer
from hyperfill.refresh import refresh
from hyperfill.session import Connection
from hyperfill.timeline import Span

_PHASES: tuple[Phase, ...] = ("planned", "held", "moved", "recompressed", "refreshed", "verified", "done")


def _span(prepared: Prepared) -> Span:
    assert prepared.definition is not None and prepared.time_type is not None
    return prepared.definition.span(prepared.time_type)


def record(control: Connection, prepared: Prepared) -> None:
    """Note how chunks and aggregates are; after the hold, so that no policy changes it, and before the first write.

    What a former run has noted stays: it was there before that run wrote.
    """
    assert prepared.order is not None and prepared.time_type is not None
    order = prepared.order
    with control.transaction():
        control.execute("SET LOCAL lock_timeout = '60s'")
        ledger.lock_hypertable(control, order.hypertable_oid)
        compressed.record(control, order, order.backfill, _span(prepared))
        caggs.record(control, order.backfill, order.target.relation, prepared.time_type)


def settle(
    control: Connection, prepared: Prepared, entry: Entry, touched: Sequence[Span], jobs: int, observer: Observer
) -> list[Finding]:
    """Compress again, then refresh: phases, so that a later run does not refresh again. What was left undone.

    `touched`: where rows came or went, in time order, disjoint.

    Refreshing comes after compressing: it reads the chunks, and compressed ones are read faster.
    """
    assert prepared.order is not None and prepared.time_type is not None
    order, findings = prepared.order, []
    reached = _PHASES.index(entry.phase)
    findings += conversions.finish_all(control, order, jobs, observer.log)
    if prepared.spec.recompress:
        # In every run, whatever phase was reached: a chunk that could not be compressed then (and was only a warning,
        # of a run that ended for another reason) may be now. Those that are in order again are not looked at.
        findings += compressed.recompress(control, order, _span(prepared).upper, jobs, observer.log)
    if reached < _PHASES.index("recompressed"):
        ledger.set_phase(control, entry, order.backfill, "recompressed")
    if reached < _PHASES.index("refreshed"):
        if prepared.spec.refresh_caggs:
            findings += refresh(control, order, touched, observer.log)
        ledger.set_phase(control, entry, order.backfill, "refreshed")
    return findings
