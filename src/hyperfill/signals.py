"""What Ctrl-C and its relatives mean: the first lets running windows finish, the second cancels them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from hyperfill.early import Answer
from hyperfill.errors import Interrupted

_HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """While it is installed, a signal raises `Interrupted` at once; inside of `deferred()` it is counted instead."""

    def __init__(self) -> None:
        self.count = 0
        self.signum: int | None = None  # the first one that came
        self._deferred = False
        self._raised = False
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous: dict[int, Any] = {}

    @property
    def wake(self) -> int:
        """A file descriptor that is readable after a signal: for a wait that must end early."""
        return self._read

    def __enter__(self) -> Signals:
        for signum in _HEARD:
            if signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN:
                continue  # nohup
            self._previous[signum] = signal.signal(signum, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            # Who was interrupted only says so now: a second signal (a closed terminal sends two) has nothing to end.
            signal.signal(signum, _nothing if self._raised else handler)
        os.close(self._read)
        os.close(self._write)

    def _hear(self, signum: int, _: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
        if not self._deferred:
            if Answer.decided:
                return
            self._raised = True
            # Not counted: it ends what runs, or it comes again (`__main__._swallowed`) and would count twice.
            raise Interrupted(signum)
        self.count += 1
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Only count: whoever is inside looks at `count` itself."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def clear_wake(self) -> None:
        """Forget that `wake` was readable."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 64):
                pass


def _nothing(signum: int, _: FrameType | None) -> None:
    """Hear a signal; unlike SIG_IGN no child inherits it."""
