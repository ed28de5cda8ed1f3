"""Signals at bad moments: where Python forgets exceptions, and while an earlier one is answered."""

from __future__ import annotations

import json
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
from hyperfill.early import print_json
from hyperfill.signals import Signals

class Slow:
    def __del__(self):
        os.write(1, b"inside\\n")
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

def twice(arguments):
    def printing(*words):
        os.kill(os.getpid(), int(sys.argv[2]))
        print("said", flush=True)
    program.print_failure = printing
    program.wants_json = lambda arguments: True
    os.kill(os.getpid(), int(sys.argv[2]))
    time.sleep(5)
    return 0

def answered(arguments):
    print_json({"state": "done"})
    os.kill(os.getpid(), int(sys.argv[2]))
    time.sleep(0.2)
    return 0

def interrupted(arguments):
    try:
        with Signals():
            os.kill(os.getpid(), int(sys.argv[2]))
            time.sleep(5)
    except KeyboardInterrupt as error:
        os.kill(os.getpid(), int(sys.argv[2]))
        print("said", flush=True)
        return 128 + error.signum

hyperfill.cli.invoke = globals()[sys.argv[1]]
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


@pytest.mark.parametrize("moment", ["twice", "interrupted"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_a_second_signal_does_not_disturb_the_answer_to_the_first(
    tmp_path: Path, moment: str, signum: signal.Signals
) -> None:
    """A terminal that is closed sends two."""
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(program), moment, str(int(signum))],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("said\n", "", 128 + signum)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_after_the_answer_does_not_add_another(tmp_path: Path, signum: signal.Signals) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(program), "answered", str(int(signum)), "--json"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert (json.loads(done.stdout), done.stderr, done.returncode) == ({"state": "done"}, "", 0)


_IMPORTING = """
import os, sys, time
from importlib.abc import MetaPathFinder

module, signum = sys.argv[1], int(sys.argv[2])

class Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            class Attribute:
                def __set_name__(self, owner, attribute):
                    os.kill(os.getpid(), signum)
                    time.sleep(5)
            class Owner:
                attribute = Attribute()

sys.meta_path.insert(0, Finder())
from hyperfill.__main__ import main
sys.argv[1:] = ["run", "--table", "m", "--end", "1", "--source", "dbname=a", "--target", "dbname=b", "--json"]
main()
"""


@pytest.mark.parametrize("module", ["hyperfill.spec", "hyperfill.backfill", "hyperfill.prepare"])
def test_a_signal_while_a_class_is_made(tmp_path: Path, module: str) -> None:
    """Before Python 3.12 whatever is raised there becomes a RuntimeError."""
    program = tmp_path / "program.py"
    program.write_text(_IMPORTING)
    done = subprocess.run(
        [sys.executable, str(program), module, str(int(signal.SIGTERM))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["state"] == "incomplete"
