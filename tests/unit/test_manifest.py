"""Manifests: written and read the same; anything about them that is not right is refused with a sentence."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hyperfill import manifest
from hyperfill.dialect import Dialect
from hyperfill.errors import Refused
from hyperfill.manifest import DumpedWindow, Manifest

FILES = {"000001.csv": b"time,n\n2024-01-01 00:00:00+00,1\n", "000003.csv": b"time,n\n2024-01-03 00:00:00+00,3\n"}
EDGES = [None, "2024-01-02 00:00:00+00", "2024-01-03 00:00:00+00", "2024-01-04 00:00:00+00"]


def window(number: int) -> DumpedWindow:
    name = f"{number:06}.csv"
    data = FILES.get(name, b"")
    digest = hashlib.sha256(data).hexdigest() if data else ""
    lower, upper = EDGES[number - 1], EDGES[number]
    assert upper is not None
    return DumpedWindow(number, lower, upper, name if data else "", int(bool(data)), len(data), len(data), digest)


DUMP = Manifest(
    relation='public."M"',
    source="7/db",
    columns=({"name": "time", "type": "timestamp with time zone"}, {"name": 'a "b"', "type": "integer"}),
    time_column="time",
    time_type="timestamptz",
    start=None,
    end="2024-01-04 00:00:00+00",
    compress="none",
    settings={"window": None, "where": "n > 0"},
    dialect=Dialect(null="\\N", force_null=("n",)),
    id="2b1c",
    hyperfill="0.1.0",
    windows=(window(1), window(2), window(3)),
    complete=True,
    rows=2,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    manifest.write(tmp_path, DUMP)
    return tmp_path


def test_written_and_read(folder: Path) -> None:
    assert manifest.read(folder) == DUMP
    assert sorted(p.name for p in folder.iterdir()) == [*FILES, "manifest.json"]
    assert manifest.fingerprint(folder) == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert manifest.is_dump(folder)


def test_a_write_that_fails_leaves_the_old_one(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(TypeError):
        manifest.write_json(folder / "manifest.json", {"rows": {1, 2}})
    assert (folder / "manifest.json").read_bytes() == before
    assert not list(folder.glob("*.part"))


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """What reading says after the JSON was changed."""
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(Refused) as caught:
        manifest.read(folder)
    assert caught.value.exit_code == 3
    return str(caught.value)


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], object]:
    """A change of one field."""

    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("id"), "id is missing"),
        (lambda d: d["windows"][1].pop("rows"), "windows[1].rows is missing"),
        (lambda d: d["columns"][1].pop("type"), "columns[1].type is missing"),
        (put("rows", value="2"), "rows is a text, and should be a whole number"),
        (put("rows", value=True), "rows is true or false"),
        (put("rows", value=2.0), "rows is a number, and"),
        (put("complete", value=1), "complete is a whole number"),
        (put("end", value=None), "end is null"),
        (put("windows", value={}), "windows is an object"),
        (put("windows", 0, value=[]), "windows[0] is no JSON object"),
        (put("windows", 0, "bytes", value=-1), "windows[0].bytes is negative"),
        (put("format", value=2), "is of format 2, and this hyperfill knows 1"),
        (put("complete", value=False), "is not complete\nrun the same dump command again"),
        (put("relation", value="a\0b"), "relation holds what no server takes for text"),
        (put("columns", 1, "name", value="\ud800"), "columns holds what no server takes"),
        (put("settings", "where", value="\udc00"), "settings holds what no server takes"),
        (put("dialect", "force_null", value=[1]), "dialect.force_null is no list of texts"),
        (put("compress", value="lzma"), "'lzma' is none that"),
        (put("time_type", value="text"), "'text' is none that"),
        (put("time_column", value="n"), "'n' is none of the columns"),
        (put("dialect", "quote", value="ab"), "one character of ASCII"),
        (put("dialect", "bom", value=True), "dialect has other fields"),
        (put("dialect", "force_null", value="n"), "dialect.force_null is a text"),
        (put("rows", value=3), "do not have 3 rows"),
        (put("windows", 0, "file", value="../x"), "no name of a file inside"),
        (put("windows", 0, "file", value="a/x"), "no name of a file inside"),
        (put("windows", 0, "file", value=".."), "no name of a file inside"),
        (put("windows", 0, "file", value="000003.csv"), "two windows have the same file"),
        (put("windows", 0, "file", value=""), "window 1 has 1 rows and no file"),
        (put("windows", 1, "file", value="000002.csv"), "window 2 has 0 rows and a file"),
        (put("windows", 0, "id", value=2), "not numbered from 1"),
        (put("start", value="2023-01-01 00:00:00+00"), "no partition of [2023-01-01 00:00:00+00, "),
        (put("end", value="2024-01-05 00:00:00+00"), "no partition of [-infinity, "),
        (put("windows", 1, "lower", value="2024-01-02 00:00:00.000001+00"), "no partition"),
        (put("windows", 1, "lower", value=None), "no partition"),
        (put("windows", 2, "lower", value="2024-01-02 00:00:00+00"), "no partition"),
        (put("windows", 1, "upper", value="yesterday"), "'yesterday' is not a bound of type timestamptz"),
        (lambda d: d.update(windows=[], rows=0), "no partition"),
        (put("windows", 0, "bytes", value=7), "000001.csv has 32 bytes, and should have 7"),
    ],
)
def test_what_is_refused(folder: Path, change: Callable[[dict[str, Any]], object], words: str) -> None:
    assert words in changed(folder, change)


def test_windows_that_go_back_are_no_partition(folder: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        # Each begins where the one before ends, and the whole begins and ends where it should.
        document["windows"][1]["upper"] = document["windows"][2]["lower"] = "2024-01-01 00:00:00+00"

    assert "no partition" in changed(folder, change)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_manifest(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(Refused, match=r"is no JSON|no JSON object"):
        manifest.read(folder)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="holds no dump"):
        manifest.read(tmp_path)
    (tmp_path / "dump.json").write_text("{}")
    with pytest.raises(Refused) as caught:
        manifest.read(tmp_path)
    assert "is not complete\nrun the same dump command again" in str(caught.value)
    with pytest.raises(Refused, match="cannot be read"):
        manifest.fingerprint(tmp_path)


def test_files_that_are_gone(folder: Path) -> None:
    (folder / "000001.csv").unlink()
    (folder / "000003.csv").unlink()
    (folder / "000003.csv").mkdir()
    with pytest.raises(Refused) as caught:
        manifest.read(folder)
    assert "2 files" in str(caught.value)
    assert "000001.csv: No such file" in str(caught.value) and "000003.csv is no file" in str(caught.value)


def test_hashes(folder: Path) -> None:
    manifest.verify(folder, DUMP, 4)
    data = bytearray(FILES["000003.csv"])
    data[-2] ^= 1
    (folder / "000003.csv").write_bytes(data)
    assert manifest.read(folder) == DUMP  # the size is the same
    manifest.verify(folder, DUMP, 1, ids=[1, 2])
    for ids in (None, {3}):
        with pytest.raises(Refused, match=r"000003.csv is not as it was written"):
            manifest.verify(folder, DUMP, 4, ids)
    (folder / "000001.csv").unlink()
    with pytest.raises(Refused) as caught:
        manifest.verify(folder, DUMP, 2)
    assert "2 files" in str(caught.value) and "000001.csv: No such file" in str(caught.value)


def test_differences() -> None:
    other = replace(DUMP, end="2025-01-01 00:00:00+00", settings={"window": "1 day", "where": "n > 0"})
    assert DUMP.differences(other) == {"end": (DUMP.end, other.end), "window": (None, "1 day")}
    assert DUMP.differences(replace(DUMP, id="another", windows=(), rows=0)) == {}
    fewer = replace(DUMP, columns=DUMP.columns[:1])
    assert DUMP.differences(fewer)["columns"][1] == "time timestamp with time zone"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_looked_into(folder: Path) -> None:
    folder.chmod(0)
    with pytest.raises(PermissionError):
        manifest.is_dump(folder)
    folder.chmod(0o700)
