"""The kinds of policies that a hold turns off."""

from __future__ import annotations

from typing import Literal

from hyperfill.errors import UsageError

Kind = Literal["compression", "retention", "refresh", "reorder"]
KINDS: tuple[Kind, ...] = ("compression", "retention", "refresh", "reorder")


def parse_kinds(text: str) -> tuple[Kind, ...]:
    """The kinds in a comma-separated list; "none" for no kind at all. Raises `UsageError`."""
    names = [part.strip().lower() for part in text.split(",")]
    if names == ["none"]:
        return ()
    for name in names:
        if name not in KINDS:
            raise UsageError(f"--hold {text!r}: {name!r} is none of {', '.join(KINDS)}, and none stands alone")
    return tuple(kind for kind in KINDS if kind in names)
