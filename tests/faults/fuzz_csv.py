"""Coverage-guided fuzzing of splitter, header and encoder: `python -m tests.faults.fuzz_csv --seconds 60`.

Atheris (libFuzzer) changes bytes so that ever more of the code is reached; `csv_cases` says what must hold for any.
It is no dependency of the project, as it has wheels for few platforms only. A case that fails is written to a file;
`python -m tests.faults.fuzz_csv FILE` plays it again, without atheris, and shows where it fails.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_MISSING = """atheris is not installed; it has wheels for Linux and some versions of Python:
  {python} -m pip install 'atheris>=3,<4'"""
# What csv is made of: found by changing single bytes too, but much later.
_WORDS = [b'"', b'""', b"\\\\", b'\\"', b"\r\n", b"\n\\.\n", b"\\.\n", b'"\n"', b"\xef\xbb\xbf", b",", b";", b"1,2\n"]
_WORDS += [b"a,1,2024-01-01 00:00:00Z\n", b"2024-02-29T12:34:56.789+02:30", b"infinity", b'"",', b"\x1e", b"\x1f"]
_LONGEST = 400  # bytes of a case


def seeds() -> list[bytes]:
    """Cases to begin with: each check, each dialect, some files."""
    files = [b"", b"a,b\n1,2\n", b'a,"b\r\nc"\r\nd,e\r\n', b'"a""b",\\.\n\\.\n', b"a\rb\r", b"x;'y\n'\n", b"]a^-]b]\n"]
    files += [
        b"a,1,2024-01-01 00:00:00Z\nb,-2,2024-01-02 00:00:00Z\n",
        b'"",,2024-01-01 00:00:00\r\n',
        b"p\x1fq\x1er\x1e",
    ]
    numbers = [bytes([3, 0, 0, 4, 5, 6]), bytes([60, 2, 7, 20, 30, 18])]
    return [
        bytes([check, dialect]) + number + file
        for check in range(4)
        for dialect in (range(11) if check < 2 else (0,))
        for number in numbers
        for file in files
    ]


def _fuzz(arguments: list[str]) -> None:
    """The process that atheris takes over; it leaves by itself."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["hyperfill"]):
        cases = importlib.import_module("tests.faults.csv_cases")

    def one(data: bytes) -> None:
        cases.check(data)

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def _play(file: Path) -> int:
    from tests.faults import csv_cases

    case = file.read_bytes()
    print(csv_cases.describe(case))
    csv_cases.check(case)
    print("nothing is wrong with it")
    return 0


def _run(seconds: int, seed: int, out: Path, corpus: Path) -> int:
    """Fuzz in a process of its own; the exit code."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(seeds()):
        (corpus / f"seed-{number:03}").write_bytes(case)
    out.mkdir(parents=True, exist_ok=True)
    before = set(out.iterdir())
    words = corpus.parent / "words"
    words.write_text("".join('"' + "".join(f"\\x{b:02x}" for b in word) + '"\n' for word in _WORDS))
    command = [sys.executable, "-m", "tests.faults.fuzz_csv", "--child", f"-max_total_time={seconds}", f"-seed={seed}"]
    command += [f"-max_len={_LONGEST}", f"-dict={words}", f"-artifact_prefix={out}/", "-timeout=20", str(corpus)]
    print(f"fuzzing for {seconds} s, seed {seed}", flush=True)
    began, lines, told = time.monotonic(), [""], 0.0
    process = subprocess.Popen(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True, errors="replace")
    assert process.stdout is not None
    figures = None
    for line in process.stdout:
        found = re.match(r"#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)/", line)
        figures = found or figures
        if not found:
            lines = [*lines[-60:], line]
        if found and time.monotonic() - told > 10:
            told = time.monotonic()
            print(f"  {told - began:4.0f} s: {_said(figures)}", flush=True)
    code = process.wait()
    print(f"{time.monotonic() - began:.0f} s: {_said(figures)}")
    if code == 0 and figures is not None:
        return 0
    print("".join(lines).rstrip())
    for file in sorted(set(out.iterdir()) - before):
        print(f"this case failed, and is played again by: {sys.executable} -m tests.faults.fuzz_csv {file}")
    return 1


def _said(figures: re.Match[str] | None) -> str:
    if figures is None:
        return "nothing was executed"
    runs, covered, features, kept = (int(figures[i]) for i in range(1, 5))
    return f"{runs:,} executions, {covered:,} branches and {features:,} features covered, {kept:,} cases kept"


def main(arguments: Sequence[str]) -> int:
    """Fuzz, or play one case again; the exit code."""
    if arguments[:1] == ["--child"]:
        _fuzz(list(arguments[1:]))
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz_csv", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a case to play again")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(".fuzz"), help="where cases that failed are written")
    parser.add_argument("--corpus", type=Path, help="where cases that reach something new are kept; default: nowhere")
    chosen = parser.parse_args(arguments)
    if chosen.file is not None:
        return _play(chosen.file)
    if importlib.util.find_spec("atheris") is None:
        print(_MISSING.format(python=sys.executable), file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        return _run(chosen.seconds, chosen.seed, chosen.out, chosen.corpus or Path(folder) / "corpus")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
