"""A worker process, whatever it works on: how it is started, what it says to its parent, and how it leaves."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from typing import Protocol

from hyperfill.errors import HyperfillError, WindowAborted, first_line
from hyperfill.stopping import PipedStop

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start(process: BaseProcess, theirs: Sequence[Pipe]) -> None:
    """Start a worker process, and close our copies of its ends of the pipes: its end could not be seen otherwise.

    Until it has said that it ignores them, a Ctrl-C to the whole group must wait: it would be a traceback of an
    interpreter that is still starting.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        for pipe in theirs:
            pipe.close()


@dataclass(frozen=True)
class Event:
    """What a worker tells its parent; figures are in the ledger. `kind`: loaded | failed | retry | waiting | ended."""

    kind: str
    worker: int
    backfill: int = 0
    window: int = 0
    error: HyperfillError | None = None
    text: str = ""


class Work(Protocol):
    """What is done in the process."""

    def run(self) -> None: ...

    def close(self) -> None: ...


def serve(
    stop: PipedStop,
    events: Pipe,
    ended: Event,
    make: Callable[[Callable[[Event], None]], Work],
    unexpected: type[HyperfillError] = HyperfillError,
) -> None:
    """Do what the parent commands, and tell it what becomes of it; `ended` is the last word, an error added to it.

    `make` gets the function that tells; `unexpected` is the class of what nobody foresaw.
    """
    # Ctrl-C reaches every process of the terminal's group; only the parent decides what it means.
    for signum in IGNORED:
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)  # the parent blocked them while we started
    logging.getLogger("hyperfill").addHandler(logging.NullHandler())

    def tell(event: Event) -> None:
        # A parent that is gone hears nothing; the command pipe has broken as well and stops us.
        with contextlib.suppress(OSError):
            events.send(event)

    work = make(tell)
    try:
        work.run()
    except WindowAborted:
        ended = replace(ended, text="aborted")
    except HyperfillError as error:
        ended = replace(ended, error=error)
    except Exception as error:
        ended = replace(ended, error=unexpected(f"{type(error).__name__}: {first_line(error)}"))
    finally:
        work.close()
        tell(ended)
        with contextlib.suppress(OSError):
            events.close()
    if stop.cancel.is_set():
        os._exit(0)  # the command thread may be inside a cancel request
