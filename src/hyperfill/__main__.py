"""The entry point, also `python -m hyperfill`.

A signal must have its exit code from the first moment on, also while modules are still being imported.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from hyperfill.early import Answer, behind, flush, let_readers_leave, open_what_is_closed, print_failure, wants_json


class _Left(BaseException):
    """A signal came before a command listened, or after."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def _leave(signum: int, _: FrameType | None) -> None:
    """End what runs. A second signal (a closed terminal sends two) must not end how the first one is answered."""
    if not Answer.decided:
        Answer.decided = True
        raise _Left(signum)


def _swallowed(unraisable: sys.UnraisableHookArgs) -> None:
    """Send a signal again whose exception Python has printed and forgotten otherwise.

    Python does so in destructors and callbacks, of which an import alone has hundreds.
    """
    signum = getattr(unraisable.exc_value, "signum", None)
    if not isinstance(unraisable.exc_value, _Left | KeyboardInterrupt) or signum is None:
        sys.__unraisablehook__(unraisable)
        return
    import threading

    Answer.decided = False
    # Not here: what the handler raises inside of this hook would be forgotten as well.
    threading.Timer(0.01, os.kill, (os.getpid(), signum)).start()


def main() -> None:
    """Run the command line. Every way out has an exit code; docs/exit-codes.md lists them."""
    open_what_is_closed()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup starts us with SIGHUP ignored, and means it.
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _leave)
    sys.unraisablehook = _swallowed
    arguments = sys.argv[1:]
    let_readers_leave()
    try:
        from hyperfill.cli import invoke

        code = invoke(arguments)
    except BaseException as error:
        left = behind(error, _Left)
        if left is None:
            raise
        if wants_json(arguments):
            print_failure("incomplete", f"interrupted by signal {left.signum}; nothing was written")
        code = 128 + left.signum
    lost = flush()
    if lost is not None:
        print(f"hyperfill: {lost}", file=sys.stderr)
        code = code or 1
    # All is said: one signal more must not change how we left.
    Answer.decided = True
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    main()
