"""How workers are told to stop: after what they do now, or at once, with what runs on the servers cancelled."""

from __future__ import annotations

import contextlib
import threading
from multiprocessing.connection import Connection as Pipe

from hyperfill import session
from hyperfill.deadline import hang_up

DRAIN, CANCEL = "drain", "cancel"  # what a parent process writes into a worker's pipe
# Seconds until a worker that was told to cancel and has not left is made to: its server says nothing any more. The
# other one sees the end of a connection, and rolls back.
CANCEL_PATIENCE = 10.0


class Stop:
    """Whether to stop, and the connections to interrupt when running work is to be cancelled."""

    def __init__(self, of: Stop | None = None) -> None:
        """With `of` one of several that stop together, each with connections of its own."""
        self.drain: threading.Event = of.drain if of else threading.Event()
        self.cancel: threading.Event = of.cancel if of else threading.Event()
        self.over = threading.Event()  # nobody is left to be cancelled
        self.connections: list[session.Connection] = []
        self._others: list[Stop] = []
        if of is not None:
            of._others.append(self)

    def abort(self) -> None:
        """Cancel what runs, again and again: a cancel that arrives between two statements is lost."""
        self.drain.set()
        if not self.cancel.is_set():
            self.cancel.set()
            threading.Thread(target=self.interrupt, name="cancel", daemon=True).start()
            threading.Thread(target=self._hang_up, name="hang up", daemon=True).start()

    def interrupt(self) -> None:
        """Send cancel requests until it is over."""
        while not self.over.is_set():
            for connection in self._all():
                with contextlib.suppress(Exception):
                    connection.cancel_safe(timeout=5)
            self.over.wait(0.2)

    def _all(self) -> list[session.Connection]:
        return [c for one in (self, *self._others) for c in one.connections]

    def _hang_up(self) -> None:
        """A thread cannot be killed, but what it waits for can end. A process is killed by its parent instead."""
        if not self.over.wait(CANCEL_PATIENCE):
            for connection in self._all():
                hang_up(connection)


class PipedStop(Stop):
    """What the parent process has told us. A parent that is gone means that all is to be cancelled."""

    def __init__(self, commands: Pipe) -> None:
        super().__init__()
        self._commands = commands
        threading.Thread(target=self._listen, name="commands", daemon=True).start()

    def take(self, command: object) -> bool:
        """Take a command that is about work and not about stopping; whether it was one. None: there is no more work."""
        return False

    def _listen(self) -> None:
        while True:
            try:
                command = self._commands.recv()
            except (EOFError, OSError):
                command = CANCEL
            if self.take(command):
                continue
            self.drain.set()
            self.take(None)
            if command == CANCEL:
                break
        self.cancel.set()
        self.interrupt()
