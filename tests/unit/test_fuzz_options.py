"""Any words behind any command: a documented exit code, one JSON object where it is asked for, never a traceback."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyperfill.cli import app
from hyperfill.early import wants_json
from tests.fixtures.fuzzing import arguments, fuzz, odd
from tests.fixtures.inprocess import call

# Nobody listens there.
NOWHERE = "host=127.0.0.1 port=1 connect_timeout=2"
COMMANDS = ["run", "plan", "verify", "repair", "load", "dump", "status", "clean", "suggest-end", "report"]
COMMANDS += ["policies show", "policies hold", "policies release"]
# Words that mean something to some option, so that others are reached behind it.
_GOOD = ["m", "public.m", "2024-01-01Z", "100", "6 hours", "time", "a,b", "1", "8", "20MB", "oldest", "none", "hash"]
_GOOD += ["a.csv", "dump", "new", "r.json", "x.html", "c.toml", "-", "a:b", '{"a": "b"}', "tab", ";", "UTF8", "DMY"]
# No name that leaves the folder or is the whole disk.
files = arguments.map(lambda text: text.replace("/", "").replace("..", "")) | st.sampled_from(_GOOD)
conninfos = st.sampled_from([NOWHERE, "", "postgresql://u:pw@127.0.0.1:1/d", "service=missing", "host=", "port=1"])
conninfos |= odd.map(lambda text: NOWHERE + " dbname='" + text.replace("\\", "\\\\").replace("'", "\\'") + "'")
conninfos |= st.sampled_from([f"{NOWHERE} user=\udcff", f"{NOWHERE} options=\udc80", "postgresql://[::1", "host='"])
_PATHS = {"--config", "--out", "--rejects", "--plot"}


@cache
def options_of(command: str) -> tuple[tuple[str, bool, str], ...]:
    """Name, whether it takes a value, and variable of all options of a command."""
    found = app
    for word in command.split():
        found = found[word]
    listed = [a for a in found.assemble_argument_collection() if a.names and a.names[0].startswith("--")]
    variables = [next(iter(a.parameter.env_var or ())) for a in listed]
    return tuple((a.names[0], a.hint not in (bool, bool | None), v) for a, v in zip(listed, variables, strict=True))


@st.composite
def commands(draw: st.DrawFn) -> tuple[list[str], dict[str, str]]:
    command = draw(st.sampled_from(COMMANDS))
    said: list[str] = []
    environment: dict[str, str] = {}
    known = options_of(command)
    # Most have what every such command needs.
    chosen = [o for o in known if o[0] in ("--source", "--target", "--table", "--hypertable", "--end", "--out")]
    chosen = [o for o in chosen if draw(st.integers(0, 9))]
    chosen += draw(st.lists(st.sampled_from(known), max_size=4))
    for name, takes, variable in chosen:
        if name in ("--source", "--target"):
            value = draw(conninfos)
        elif name in _PATHS:
            value = draw(files)
        else:
            value = draw(st.sampled_from(_GOOD) | arguments)
        form = draw(st.integers(0, 5))
        if form == 0:
            environment[variable] = value
        elif not takes:
            said.append(name)
        else:
            said += [f"{name}={value}"] if form == 1 else [name, value]
    if command == "load":
        said += draw(st.lists(files, max_size=2))
    if draw(st.integers(0, 19)) == 0:
        said.insert(draw(st.integers(0, len(said))), draw(files))
    return [*command.split(), *said], environment


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some files of the kinds that options name; PG* variables that lead nowhere."""
    for name, value in {"PGHOST": "127.0.0.1", "PGPORT": "1", "PGCONNECT_TIMEOUT": "2"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "a.csv").write_text("time,id\n2024-01-01 00:00:00Z,1\n")
    (tmp_path / "c.toml").write_text(f'source = "{NOWHERE}"\n[[backfill]]\ntable = "m"\nend = "2024-01-01Z"\n')
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "manifest.json").write_text("{}")
    return tmp_path


def holds(words: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    said = call(words, folder, environment)
    asked_for_help = any(word in ("--help", "-h", "--version") for word in words)
    assert said.code in ({0} if asked_for_help else {2, 3}), said
    assert "Traceback" not in said.err and "defect" not in said.err
    assert said.err.strip() or asked_for_help
    if wants_json(words) and not asked_for_help:
        assert json.loads(said.out)["state"] == "refused"


@fuzz(150)
@given(commands())
@example((["policies", "show", "--target", f"{NOWHERE} user=\udcff", "--json"], {}))
@example((["run", "--json", "--table", "m", "--end", "1"], {"HYPERFILL_SOURCE": "\udcff", "HYPERFILL_TARGET": ""}))
@example((["run", "--json", "--config", "\udcff"], {}))
@example((["dump", "--json", "--source", NOWHERE, "--table", "m", "--end", "1", "--out", "\udcff"], {}))
def test_any_options(folder: Path, command: tuple[list[str], dict[str, str]]) -> None:
    words, environment = command
    holds(words, folder, environment)
