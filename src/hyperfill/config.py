"""A migration of many tables: a TOML file with shared settings and one [[backfill]] for each table."""

from __future__ import annotations

import datetime as dt
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hyperfill.cli.options import MoveOptions, build_limits, build_spec
from hyperfill.errors import UsageError
from hyperfill.session import SECRET_KEYS, Role, parse_conninfo
from hyperfill.spec import Limits, Spec

# Not for a single table.
_RUN_ONLY = frozenset({"target", "jobs", "max_rate", "max_duration", "stall_timeout", "retry_for"})
_TABLE_ONLY = frozenset({"table", "hypertable", "end"})  # never shared
_NOT_IN_A_FILE = frozenset({"config", "json"})


def load(path: Path, given: dict[str, Any]) -> tuple[list[Spec], Limits]:
    """Read a configuration. `given` are options from the command line or environment: they win over shared settings.

    Raises `UsageError` with every problem of the file.
    """
    document = _read(path)
    tables = document.pop("backfill", [])
    problems: list[str] = []
    extra = sorted(given.keys() & _TABLE_ONLY)
    if extra:
        problems.append(f"--{extra[0].replace('_', '-')} cannot be used together with --config: say it in the file")
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        problems.append("there is no [[backfill]] section: write one for each table")
        tables = []
    shared = _checked(document, "the shared settings", _TABLE_ONLY, problems)
    sections = []
    for number, table in enumerate(tables, start=1):
        where = f"[[backfill]] {number} ({table.get('table', 'no table')})"
        values = _checked(table, where, _RUN_ONLY, problems)
        problems += [f"{where}: {name} is missing" for name in ("table", "end") if name not in table]
        sections.append({**shared, **{k: v for k, v in given.items() if k not in _TABLE_ONLY}, **values})
    if problems:
        raise UsageError(f"--config {path}:\n" + "\n".join(f"  {p}" for p in problems))
    return [build_spec(s) for s in sections], build_limits({**shared, **given})


def destinations(path: Path) -> tuple[str | None, list[str]]:
    """The target of a configuration, if it names one, and the hypertables it fills. Raises `UsageError`."""
    document = _read(path)
    target = document.get("target")
    if target is not None and not isinstance(target, str):
        raise UsageError(f"--config {path}: target = {target!r} is not a text")
    tables = document.get("backfill", [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise UsageError(f"--config {path}: there is no [[backfill]] section")
    return target, [str(t.get("hypertable", t.get("table", ""))) for t in tables]


def _read(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        leaves = list(_leaves(document))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror or error}") from None
    except ValueError as error:  # of the encoding as well, and of a number of 5000 digits
        raise UsageError(f"--config {path}: {error}") from None
    except RecursionError:
        raise UsageError(f"--config {path}: it is nested too deeply") from None
    for value in leaves:
        # A hexadecimal number may be so long that Python does not even print it.
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise UsageError(f"--config {path}: a number in it has more than 64 bits")
        if isinstance(value, str) and "\0" in value:
            raise UsageError(f"--config {path}: {value!r} holds a NUL, which no server takes")
    return document


def _leaves(value: Any, depth: int = 0) -> Iterator[Any]:
    """All values in it, and the keys of its tables. Dotted keys nest as deeply as they are long: a RecursionError."""
    if depth > 100:
        raise RecursionError
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for part in value:
            yield from _leaves(part, depth + 1)
    else:
        yield value


def _checked(section: dict[str, Any], where: str, forbidden: frozenset[str], problems: list[str]) -> dict[str, Any]:
    """The section with option names as Python spells them; anything that does not fit goes to `problems`."""
    hints = {k: _plain(v) for k, v in typing.get_type_hints(MoveOptions).items() if k not in _NOT_IN_A_FILE}
    found: dict[str, Any] = {}
    for key, value in section.items():
        name = key.replace("-", "_")
        if name not in hints:
            problems.append(f"{where}: {key} is no option; known are {', '.join(sorted(hints))}")
        elif name in forbidden:
            problems.append(f"{where}: {key} does not belong here")
        elif name == "columns" and isinstance(value, list) and all(isinstance(v, str) for v in value):
            found[name] = ",".join('"' + v.replace('"', '""') + '"' for v in value)
        elif name in ("start", "end", "window") and isinstance(value, int) and not isinstance(value, bool):
            found[name] = str(value)
        elif not _fits(value, hints[name]):
            if isinstance(value, dt.date | dt.time):
                problems.append(f"{where}: {key} = {value} is not {_describe(hints[name])}: write it in quotes")
            else:
                problems.append(f"{where}: {key} = {value!r} is not {_describe(hints[name])}")
        else:
            found[name] = value
    roles: tuple[Role, ...] = ("source", "target")
    for role in roles:
        if role in found and SECRET_KEYS & parse_conninfo(found[role], role).keys():
            problems.append(
                f"{where}: {role} holds a password; keep it in the environment, a service file or a password file"
            )
    return found


def _plain(hint: Any) -> tuple[Any, ...]:
    """The types an option may have, without Annotated and None; a Literal stands for its values."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(part for a in typing.get_args(hint) if a is not type(None) for part in _plain(a))
    return (hint,)


def _fits(value: Any, hint: tuple[Any, ...]) -> bool:
    for part in hint:
        if typing.get_origin(part) is typing.Literal:
            if value in typing.get_args(part):
                return True
        elif isinstance(value, part) and (part is bool or not isinstance(value, bool)):
            return True
    return False


def _describe(hint: tuple[Any, ...]) -> str:
    names = {str: "a text", int: "a whole number", bool: "true or false"}
    literal = typing.get_args(hint[0]) if typing.get_origin(hint[0]) is typing.Literal else None
    return "one of " + ", ".join(map(repr, literal)) if literal else names.get(hint[0], str(hint[0]))
