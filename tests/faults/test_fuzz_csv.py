"""The checks of the fuzzer hold without it: for its first cases, for those that it found, and for generated ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfill.splitter import Splitter
from tests.faults import csv_cases, fuzz_csv
from tests.fixtures.fuzzing import fuzz

_WORDS = [b"a", b'"', b'""', b",", b"\n", b"\r\n", b"\r", b"\\", b"\\.", b"\x1f", b"\x1e", b"'", b";", b"\xef\xbb\xbf"]
_contents = st.lists(st.sampled_from(_WORDS) | st.binary(max_size=2), max_size=20).map(b"".join)
# Three columns that can be encoded, now and then with something else in between.
_instants = st.datetimes().map(lambda t: f"{t.isoformat(' ', 'microseconds')}Z".encode())
_rows = st.tuples(
    st.sampled_from([b"x", b'"a\nb"', b""]), st.integers(-(2**31), 2**31 - 1).map(b"%d".__mod__), _instants
)
_files = st.lists(_rows.map(b",".join), min_size=1, max_size=4).map(lambda rows: b"\n".join(rows) + b"\n")


@pytest.mark.parametrize("check", range(4))
def test_the_cases_to_begin_with(check: int) -> None:
    for case in fuzz_csv.seeds():
        if case[0] == check:
            csv_cases.check(case)


@fuzz(200)
@given(st.integers(0, 3), st.integers(0, 10), st.binary(min_size=6, max_size=6), _contents | _files)
def test_generated_cases(check: int, dialect: int, numbers: bytes, content: bytes) -> None:
    csv_cases.check(bytes([check, dialect]) + numbers + content)


def test_files_are_encoded_and_not_only_left_to_the_server() -> None:
    rows = b"a,1,2024-01-01 00:00:00Z\n,-2,2024-02-29 12:34:56.789+00\n"
    assert csv_cases._encoder(b"\n").encode(rows, 2) is not None


def test_a_defect_is_found_and_played_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the fuzzer says of a case: here with a splitter that takes no notice of where a piece begins."""
    case = bytes([0, 0, 3, 0, 0, 4, 5, 6]) + b"a,b\nc,d\n"
    csv_cases.check(case)
    file = tmp_path / "case"
    file.write_bytes(case)
    words = [sys.executable, "-m", "tests.faults.fuzz_csv", str(file)]
    played = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (played.returncode, played.stdout.splitlines()[-1]) == (0, "nothing is wrong with it"), played.stderr
    monkeypatch.setattr(Splitter, "line", property(lambda _: 1))
    with pytest.raises(AssertionError):
        csv_cases.check(case)
