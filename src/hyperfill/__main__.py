"""The entry point, also `python -m hyperfill`.

A signal must have its exit code from the first moment on, also while modules are still being imported.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType


def _leave(signum: int, _: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def main() -> None:
    """Run the command line. Every way out has an exit code; docs/exit-codes.md lists them."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup starts us with SIGHUP ignored, and means it.
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _leave)
    from hyperfill.cli import invoke

    sys.exit(invoke(sys.argv[1:]))


if __name__ == "__main__":
    main()
