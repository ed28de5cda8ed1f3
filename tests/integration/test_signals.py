"""A signal at a moment in which Python forgets exceptions: heard, once, and without a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# What `hyperfill` does first, with a command in which a destructor takes its time.
_PROGRAM = """
import os, signal, sys, time
import hyperfill.__main__ as program
import hyperfill.cli
from hyperfill.signals import Signals

class Slow:
    def __del__(self):
        print("inside", flush=True)
        time.sleep(1)

def listening(arguments):
    with Signals() as signals:
        try:
            Slow()
            time.sleep(5)
        except BaseException as error:
            print("heard", type(error).__name__, signals.count, flush=True)
            raise
    return 0

def starting(arguments):
    Slow()
    time.sleep(5)
    return 0

hyperfill.cli.invoke = {"listening": listening, "starting": starting}[sys.argv[1]]
try:
    program.main()
except KeyboardInterrupt as error:
    sys.exit(128 + error.signum)
"""


@pytest.mark.parametrize("moment", ["starting", "listening"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_inside_of_a_destructor_is_heard(tmp_path: Path, moment: str, signum: signal.Signals) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    with subprocess.Popen(
        [sys.executable, str(program), moment],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "inside\n"
        process.send_signal(signum)
        said, errors = process.communicate(timeout=20)
    assert errors == ""
    assert said == ("heard Interrupted 0\n" if moment == "listening" else "")
    assert process.returncode == 128 + signum
