"""Worker processes made before they are needed, from a process that is still young.

A worker that begins as an interpreter of its own imports the driver again: a third of a second of CPU for each, while
nothing is moved yet. One that is forked has all of it. That is safe only before there is a connection, a thread or a
display, so it happens at the start of a command, and a worker waits until it is known what to do.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from typing import Any

from hyperfill.process import start

_MOST = 16  # processes; a run that is refused has made them for nothing


@dataclass
class Spare:
    """A process that waits for its body and its task, and the pipes to and from it."""

    process: BaseProcess
    commands: Pipe
    events: Pipe

    def begin(self, body: Callable[[Any, Pipe, Pipe], None], task: Any) -> bool:
        """Let it do `body` with the task; False if it has died."""
        try:
            self.commands.send((body, task))
        except OSError:
            return False
        return True


class Reserve:
    """Some spare workers. To be made before the first connection; what is not used leaves in the end."""

    def __init__(self, count: int) -> None:
        self._spares: list[Spare] = []
        self._left: list[Spare] = []
        # Elsewhere system libraries may not live through a fork (macOS: Kerberos within libpq).
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # no more processes: whoever needs them tries again, and says so
                for _ in range(min(count, _MOST)):
                    self._spares.append(self._fork())

    def __enter__(self) -> Reserve:
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()
        for spare in self._left:
            spare.process.join(1)
            if spare.process.is_alive():  # stopped, or the interpreter would wait for it at its end
                spare.process.kill()

    def take(self) -> Spare | None:
        """One of them, if there is one left."""
        return self._spares.pop(0) if self._spares else None

    def dismiss(self) -> None:
        """Let those that are left go."""
        for spare in self._spares:
            spare.commands.close()
            spare.events.close()
        self._left += self._spares
        self._spares = []

    def _fork(self) -> Spare:
        context = multiprocessing.get_context("fork")
        theirs, ours = context.Pipe(duplex=False)
        events, their_events = context.Pipe(duplex=False)
        # What the child inherits and must not hold: with it the end of a pipe would never be seen.
        others = [ours, events, *(pipe for spare in self._spares for pipe in (spare.commands, spare.events))]
        process = context.Process(target=_wait, args=(theirs, their_events, others), daemon=True)
        start(process, (theirs, their_events))
        return Spare(process, ours, events)


def _wait(commands: Pipe, events: Pipe, others: list[Pipe]) -> None:
    """The body of a spare process: what it does is said later. Signals stay blocked until then."""
    for pipe in others:
        pipe.close()
    logging.getLogger("hyperfill").handlers.clear()  # the parent alone speaks
    try:
        body, task = commands.recv()
    except (EOFError, OSError):
        return
    body(task, commands, events)
