"""Write docs/commands.md from the commands themselves; `--check` only says whether it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from cyclopts import App
from cyclopts.argument import Argument

from hyperfill.cli import app

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"

_HEAD = """\
# Commands

Written by `tools/command_docs.py` from the commands themselves; do not edit it.

Every option has an environment variable; what is said on the command line wins over it. A switch is on if its
variable is `true` or `1`. [Configuration](configuration.md) tells how the options look in a file,
[exit codes](exit-codes.md) what a script can rely on.
"""


def commands(parent: App = app, prefix: tuple[str, ...] = ("hyperfill",)) -> Iterator[tuple[tuple[str, ...], App]]:
    """Every command that does something, with the words that call it."""
    for name in sorted(n for n in parent if not n.startswith("-")):
        command = parent[name]
        words = (*prefix, name)
        if command.default_command is not None:
            yield words, command
        yield from commands(command, words)


def options(command: App) -> list[Argument]:
    """The options of a command, in the order of its help; words without a name are told in its sentence."""
    return [a for a in command.assemble_argument_collection() if a.show and a.parse and a.name.startswith("-")]


def summary(command: App) -> str:
    """The command's own sentence."""
    assert command.default_command is not None
    return " ".join((command.default_command.__doc__ or "").split())


def text() -> str:
    """The whole page."""
    parts = [_HEAD]
    for words, command in commands():
        parts.append(f"## {' '.join(words)}\n\n{summary(command)}\n")
        rows = [
            f"| `{option.name}` | `{', '.join(option.parameter.env_var or ())}` | {_cell(option)} |"
            for option in options(command)
        ]
        if rows:
            parts.append("\n".join(["| option | environment | meaning |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _cell(option: Argument) -> str:
    return (option.parameter.help or "").replace("|", "\\|")


def main() -> int:
    """Write the page, or check it; the exit code."""
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text() else 1
    PAGE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
