"""What commands print: one JSON object on stdout, or tables and sentences for people."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hyperfill.early import print_json
from hyperfill.errors import Finding, HyperfillError

__all__ = ["findings_lines", "observer", "print_error", "print_json", "say"]

if TYPE_CHECKING:
    from hyperfill.progress import Observer


def say(text: str) -> None:
    """A line on stderr: stdout belongs to results."""
    print(text, file=sys.stderr)


def print_error(error: HyperfillError) -> None:
    """An error for people: the sentence, then what to do."""
    say(f"hyperfill: {error.message}")
    if error.hint:
        say(f"  {error.hint}")


def observer() -> Observer:
    """A live display where there is a terminal, log lines elsewhere."""
    logger = logging.getLogger("hyperfill")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    if sys.stderr.isatty():
        from hyperfill.cli.terminal import Terminal

        return Terminal()
    from hyperfill.progress import Lines

    return Lines()


def findings_lines(findings: Sequence[Finding]) -> list[str]:
    """Findings as indented lines, errors first."""
    rank = {"error": 0, "warning": 1, "note": 2}
    lines = []
    for finding in sorted(findings, key=lambda f: rank[f.severity]):
        lines.append(f"  {finding.severity}: {finding.message}")
        if finding.hint:
            lines.append(f"    {finding.hint}")
    return lines
