"""`hyperfill run` in the background, also in a terminal that can be closed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fixtures.scenes import Background

# Becomes the leader of a session whose controlling terminal is its standard input, and then the command.
_IN_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, '-m', 'hyperfill', *sys.argv[1:]])"
)


@dataclass
class Run(Background):
    """A run, what was done to it, and when it began."""

    began: float = field(default_factory=time.monotonic)
    expected: set[int] = field(default_factory=lambda: {0})  # exit codes that what was done to it may lead to
    terminal: Terminal | None = None

    @classmethod
    def begin(cls, folder: Path, number: int, command: list[str], *, terminal: bool = False) -> Run:
        """Start it in an empty folder of its own, its output in files beside it. Temporary files have one as well."""
        base = folder / f"run-{number}"
        (base / "cwd").mkdir(parents=True)
        (base / "tmp").mkdir()
        program = ["-c", _IN_TERMINAL] if terminal else ["-m", "hyperfill"]
        pty = Terminal(base / "stderr") if terminal else None
        environment = {**os.environ, "TMPDIR": str(base / "tmp"), "TERM": "xterm", "COLUMNS": "120"}
        with (base / "stdout").open("wb") as out, (base / "stderr").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, *program, *command],
                stdout=out,
                stderr=pty.slave if pty else err,
                stdin=pty.slave if pty else subprocess.DEVNULL,
                cwd=base / "cwd",
                env=environment,
                start_new_session=not terminal,
            )
        if pty:
            os.close(pty.slave)
        return cls(process, base, terminal=pty)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def listening(self) -> bool:
        """Whether it has come so far that it hears signals."""
        return "checking" in self.stderr

    def litter(self) -> list[str]:
        """Files that it left behind."""
        return [str(p.relative_to(self.folder)) for d in ("cwd", "tmp") for p in (self.folder / d).rglob("*")]

    def problems(self) -> list[str]:
        """What is wrong with how it ended, its exit code apart."""
        bad = [w for w in ("Traceback", "this is a defect", "unexpected ") if w in self.stderr]
        found = [f"it said {w!r}: ...{self.stderr[max(0, self.stderr.index(w) - 300) :][:1500]}" for w in bad]
        found += [f"it left {name}" for name in self.litter()]
        code = self.process.returncode
        if code >= 0 and (self.listening or code != 130):
            try:
                report: Any = json.loads(self.stdout)
                if not isinstance(report, dict) or "state" not in report:
                    found.append(f"its JSON has no state: {self.stdout[:200]!r}")
            except ValueError:
                found.append(f"stdout is not one JSON object: {self.stdout[:200]!r}")
        return found

    def end(self) -> None:
        if self.terminal:
            self.terminal.close()
        super().end()


class Terminal:
    """A pseudo-terminal; what is written to it goes to a file. Closing it hangs up whoever it controls."""

    def __init__(self, copy: Path) -> None:
        self._master, self.slave = os.openpty()
        self._copy = copy
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._copy.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while not self._closing.is_set():
                if select.select([self._master], [], [], 0.02)[0]:
                    file.write(os.read(self._master, 65536))

    def close(self) -> None:
        if not self._closing.is_set():
            self._closing.set()
            self._thread.join()
            os.close(self._master)
