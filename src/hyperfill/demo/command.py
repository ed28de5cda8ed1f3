"""hyperfill as a person runs it: a process of its own, on the same terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# How long a command may take before the demo is taken for stuck, in seconds.
_LIMIT = 300.0


class Command:
    """Runs `hyperfill` with the conninfos in its environment, in a folder."""

    def __init__(self, folder: Path, source: str, target: str) -> None:
        # Nothing that the user has set for databases of their own.
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "HYPERFILL_"))}
        self._environment: Mapping[str, str] = {**clean, "HYPERFILL_SOURCE": source, "HYPERFILL_TARGET": target}
        self._folder = folder

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """The running command; it and its workers are killed if the block is left before it has ended."""
        # A process group of its own: then one signal kills all its processes, and Ctrl-C on the terminal
        # is ours alone. Such a group may write to a terminal unless it is told not to (stty tostop).
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "hyperfill", *arguments],
                stdin=subprocess.DEVNULL,
                cwd=self._folder,
                env=self._environment,
                process_group=0,
            )
        finally:
            signal.signal(signal.SIGTTOU, before)
        try:
            yield process
        finally:
            if process.poll() is None:
                kill(process)

    def run(self, *arguments: str) -> int:
        """Run to the end; the exit code."""
        with self.running(*arguments) as process:
            return process.wait(_LIMIT)


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 the command and all its workers, at one moment."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # It was drawing: show the cursor again, and go on below.
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h\r\n")
        sys.stderr.flush()
