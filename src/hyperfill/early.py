"""What must work before anything heavy is imported: `--json` promises one object, whatever happens."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence


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
    json.dump(
        {"state": state, "error": error, "hint": hint, "findings": list(findings)},
        sys.stdout,
        ensure_ascii=False,
        indent=2,
    )
    sys.stdout.write("\n")
