"""The workers of a dump. Unlike those of a run they share no ledger: the parent hands out the windows."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hyperfill import dump_worker, engine
from hyperfill.dump_folder import Piece
from hyperfill.dump_worker import Task
from hyperfill.engine import Member
from hyperfill.process import Event
from hyperfill.reserve import Reserve
from hyperfill.stopping import DRAIN

_AHEAD = 2  # windows that a worker has: one to work on, and one so that it need not wait for us


class Crew(engine.Crew):
    """The workers of one dump, and which windows they were given."""

    def __init__(self, task: Task, pieces: Sequence[Piece], jobs: int, reserve: Reserve | None = None) -> None:
        self._template = task
        self._waiting = deque(pieces)
        self._given: dict[int, list[Piece]] = {}
        self._over = False
        super().__init__((), jobs, task.bytes_per_second, reserve=reserve)
        self._hand_out()

    def _task(self, number: int) -> Any:
        return replace(self._template, number=number, bytes_per_second=self._rate)

    def _start(self, task: Any) -> Member:
        self._take_back(task.number)
        return self._launch(task, dump_worker.main)

    def events(self, timeout: float, wake: int | None = None) -> Iterator[Event]:
        yield from super().events(timeout, wake)
        self._hand_out()

    def _receive(self, member: Member) -> Iterator[Event]:
        for event in super()._receive(member):
            if event.kind in ("done", "failed"):
                self._given[event.worker] = [p for p in self._given[event.worker] if p.id != event.window]
            elif event.kind == "ended":
                self._take_back(event.worker)
            yield event

    def _take_back(self, worker: int) -> None:
        """A worker is gone: what it had is for the others."""
        self._waiting.extendleft(reversed(self._given.pop(worker, [])))
        self._given[worker] = []

    def _hand_out(self) -> None:
        alive = [m for m in self._members if not m.ended]
        # One each before anybody gets a second: the last windows are not to wait behind each other.
        for depth in range(1, _AHEAD + 1):
            for member in alive:
                given = self._given[member.task.number]
                if len(given) < depth and self._waiting and not self.draining:
                    piece = self._waiting.popleft()
                    given.append(piece)
                    with contextlib.suppress(OSError):  # it is dead, and what it was given is for another
                        member.commands.send(piece)
        # Only when all are answered for: the window of a worker that dies is somebody else's.
        if not self._waiting and not any(self._given.values()) and not self._over:
            self._over = True
            self._command(DRAIN)
