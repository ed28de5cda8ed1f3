"""What must work before anything heavy is imported: `--json` promises one object, whatever happens."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

_SECRETS = (
    # key=value, in libpq's words or a URI's parameters
    re.compile(r"""((?:password|secret|client_key|server_key)\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&]+)""", re.IGNORECASE),
    # scheme://user:password@: a password that should have been written in percents may hold anything
    re.compile(r"(://[^:@/\s]*:)\S*(?=@)"),
)


def hide_secrets(text: str) -> str:
    """Text that may quote a command line, without passwords: a conninfo whose quotes were forgotten is no option."""
    for pattern in _SECRETS:
        text = pattern.sub(r"\1***", text)
    return text


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether the command line or the environment asks for JSON, also where the rest of it cannot be read."""
    options = list(arguments)
    if options[:1] == ["copy"]:
        return False  # another program's flags, and no variable of ours
    if "--" in options:
        options = options[: options.index("--")]
    return "--json" in options or os.environ.get("HYPERFILL_JSON", "").lower() in ("1", "true", "yes", "y")


def print_failure(state: str, error: str, hint: str | None = None, findings: Sequence[object] = ()) -> None:
    """The object for a command that has no result."""
    print_json({"state": state, "error": error, "hint": hint, "findings": list(findings)})


def print_json(value: Any) -> None:
    """One object on stdout. Bytes of the command line that are no text are in it as escapes, which UTF-8 can hold."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
