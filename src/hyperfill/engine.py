"""Where windows run: worker processes on this machine, started, watched and stopped.

Processes and not threads: what a worker does with rows holds the GIL. The same workers could run on
other machines: they share nothing but the ledger.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from hyperfill import worker
from hyperfill.errors import RETRY_SECONDS, STALL_SECONDS, HyperfillError
from hyperfill.process import Event, start
from hyperfill.reserve import Reserve
from hyperfill.stopping import CANCEL, CANCEL_PATIENCE, DRAIN
from hyperfill.window import Order
from hyperfill.worker import Task

# A worker that was killed is replaced; one that keeps dying is not.
_MAX_REPLACEMENTS = 5


@dataclass
class Member:
    """A worker process, and the pipes to and from it."""

    task: Any
    process: BaseProcess
    commands: Pipe
    events: Pipe
    ended: bool = False


class Crew:
    """The workers of one run."""

    noun = "windows"

    def __init__(
        self,
        orders: Sequence[Order],
        jobs: int,
        bytes_per_second: float | None = None,
        stall: float | None = STALL_SECONDS,
        retry: float = RETRY_SECONDS,
        reserve: Reserve | None = None,
    ) -> None:
        """`reserve`: where the first workers come from; without it, and for those that are replaced, new processes."""
        # Not fork: libpq connections and the display's thread would be copied along.
        self._context = multiprocessing.get_context("spawn")
        self._orders = tuple(orders)
        self._rate = bytes_per_second / jobs if bytes_per_second else None
        self._stall, self._retry = stall, retry
        self._replaced = 0
        self._reserve = reserve
        self._cancelled: float | None = None
        self.draining = False
        self._members: list[Member] = []
        self.shortage: OSError | None = None  # why fewer workers were started than asked for
        # Starting a process does so as well: there, output that cannot be written would pass for a want of processes.
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # as in a daemon that embeds us
                stream.flush()
        for number in range(1, jobs + 1):
            try:
                self._members.append(self._start(self._task(number)))
            except OSError as error:
                self.shortage = error
                break
        if reserve is not None:
            reserve.dismiss()
        if not self._members:
            raise HyperfillError(f"no worker process can be started: {self.shortage}")

    def _task(self, number: int) -> Any:
        return Task(number, self._orders, self._rate, self._stall, self._retry)

    def _start(self, task: Any) -> Member:
        return self._launch(task, worker.main)

    def _launch(self, task: Any, body: Callable[[Any, Pipe, Pipe], None]) -> Member:
        """Let a process do `body` with the task, the pipe of its commands and that of its events."""
        spare = self._reserve.take() if self._reserve is not None else None
        if spare is not None and spare.begin(body, task):
            return Member(task, spare.process, spare.commands, spare.events)
        theirs, ours = self._context.Pipe(duplex=False)
        events, their_events = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=body, args=(task, theirs, their_events), name=f"hyperfill-{task.number}", daemon=True
        )
        # Starting the tracker along with a process would let signals through again.
        resource_tracker.ensure_running()
        start(process, (theirs, their_events))
        return Member(task, process, ours, events)

    def events(self, timeout: float, wake: int | None = None) -> Iterator[Event]:
        """What workers have told within `timeout` seconds, killed workers replaced; empty when nothing happened.

        A readable `wake` (a file descriptor) ends the waiting early.
        """
        alive = [m for m in self._members if not m.ended]
        ready = wait([m.events for m in alive] + ([wake] if wake is not None else []), timeout)
        for member in alive:
            if member.events in ready:
                yield from self._receive(member)
        if self._cancelled is not None and time.monotonic() - self._cancelled > CANCEL_PATIENCE:
            for member in self._members:
                member.process.kill()

    def _receive(self, member: Member) -> Iterator[Event]:
        with contextlib.suppress(EOFError, OSError):
            while member.events.poll():
                event: Event = member.events.recv()
                member.ended = event.kind == "ended"
                yield event
                if member.ended:
                    return
            return
        # End of file without a farewell: the process was killed. Its transaction is rolled back by the
        # server, so its window can be claimed again.
        member.ended = True
        member.process.join(5)
        code = member.process.exitcode
        if self.draining or self._replaced >= _MAX_REPLACEMENTS:
            error = None if self.draining else HyperfillError(f"workers keep dying (exit code {code})")
            yield Event("ended", member.task.number, error=error)
            return
        self._replaced += 1
        yield Event("retry", member.task.number, text=f"worker {member.task.number} died (exit code {code}): replaced")
        self._members[self._members.index(member)] = self._start(member.task)

    @property
    def running(self) -> bool:
        return any(not m.ended for m in self._members)

    def drain(self) -> None:
        """Let running windows finish, claim no more."""
        self.draining = True
        self._command(DRAIN)

    def cancel(self) -> None:
        """Cancel running windows on the servers; they are rolled back."""
        self.draining = True
        self._cancelled = self._cancelled or time.monotonic()
        self._command(CANCEL)

    def _command(self, command: str) -> None:
        for member in self._members:
            with contextlib.suppress(OSError):
                member.commands.send(command)

    def close(self) -> None:
        """Leave no process behind."""
        if self.running:
            self.cancel()
        deadline = time.monotonic() + CANCEL_PATIENCE
        for member in self._members:
            member.commands.close()  # whoever still listens takes the end of file for a cancel
            member.process.join(max(0.1, deadline - time.monotonic()))
            if member.process.is_alive():
                member.process.kill()
                member.process.join(5)
            member.events.close()
