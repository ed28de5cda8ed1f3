"""Watching a crew at work: what it says is shown, signals and time limits are passed on to it, the display is fed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from hyperfill import ledger
from hyperfill.control import Control
from hyperfill.deadline import answered
from hyperfill.errors import HyperfillError, PoliciesOn, WindowError, blamed
from hyperfill.process import Event
from hyperfill.progress import Observer, Snapshot, take
from hyperfill.session import Connection
from hyperfill.signals import Signals
from hyperfill.window import Order


class Watched(Protocol):
    """Workers of some kind: processes for windows, threads for batches."""

    noun: str
    draining: bool

    @property
    def running(self) -> bool:
        """Whether one of them still works."""

    def events(self, timeout: float, wake: int | None = None) -> Iterable[Event]:
        """What they have told within so many seconds, or until `wake` is readable."""

    def drain(self) -> None:
        """Let what runs finish, begin no more."""

    def cancel(self) -> None:
        """Roll back what runs."""


_LOOK = 0.5  # seconds between two looks at the ledger for the display
_LOOK_MOST = 15.0  # seconds that one may take: meanwhile no signal is heard


def watch(
    control: Control,
    crew: Watched,
    orders: Sequence[Order],
    deadline: float | None,
    observer: Observer,
    signals: Signals,
    known: dict[int, ledger.Entry],
    read: Callable[[int], float | None] | None = None,
) -> HyperfillError | None:
    """Until the workers have ended. `known` is kept at what the ledger said last, should the target go away.

    `read`: how much of a load's files is done, when so many bytes are loaded.
    """
    failure: HyperfillError | None = None
    heard = 0
    looked = 0.0
    while crew.running:
        if deadline is not None and time.monotonic() > deadline and not crew.draining:
            observer.log(
                f"--max-duration is over: running {crew.noun} are finished, no more are started", level="warning"
            )
            crew.drain()
        patience = _LOOK if deadline is None or crew.draining else min(_LOOK, max(0.0, deadline - time.monotonic()))
        for event in crew.events(patience, signals.wake):
            _tell(event, observer)
            if event.kind == "ended" and event.error is not None:
                if isinstance(failure, PoliciesOn) and isinstance(event.error, PoliciesOn):
                    continue  # every worker sees the same
                failure = failure or event.error
                observer.log(f"worker {event.worker}: {event.error}", level="error")
        signals.clear_wake()
        if signals.count > heard:
            heard = signals.count
            if heard == 1:
                observer.log(f"stopping: running {crew.noun} are finished first; again to cancel them", level="warning")
                crew.drain()
            else:
                observer.log(f"cancelling the running {crew.noun}", level="warning")
                crew.cancel()
        if observer.wants_snapshots and time.monotonic() - looked > _LOOK:
            looked = time.monotonic()
            control.keep(orders)
            snapshot = look(control.connection, orders)
            if snapshot:
                known.update((entry.id, entry) for entry in snapshot.entries)
                observer.show(replace(snapshot, read=read(snapshot.bytes) if read else None))
    return failure


def look(control: Connection, orders: Sequence[Order]) -> Snapshot | None:
    """A display is never worth a failed run: what cannot be read now is read next time."""
    try:
        with answered(control, _LOOK_MOST):
            return take(control, [o.backfill for o in orders])
    except Exception:
        return None


def _tell(event: Event, observer: Observer) -> None:
    if event.kind == "failed" and event.error is not None:
        what = f"window {event.window}" if event.window else "a batch"
        blame = blamed(event.error.as_json()) if isinstance(event.error, WindowError) else ""
        observer.log(f"{what} failed{blame}: {event.error}", level="error")
    elif event.kind in ("retry", "waiting"):
        observer.log(event.text, level="warning")
