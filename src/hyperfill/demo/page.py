"""Printing for people, on a terminal of 80 columns and in a pipe."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table as Grid
from rich.text import Text

_WIDTH = 78


class Page:
    """Numbered steps with a line or two that explain each."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else 80)
        self._step = 0

    def step(self, title: str, *paragraphs: str) -> None:
        """Begin a step."""
        self._step += 1
        self.console.print()
        self.console.print(Text(f"{self._step}. {title}", style="bold cyan"))
        self.say(*paragraphs)

    def say(self, *paragraphs: str) -> None:
        """Explain."""
        for paragraph in paragraphs:
            for line in textwrap.wrap(paragraph, _WIDTH - 3):
                self.console.print(Text(f"   {line}"))

    def result(self, text: str, *, good: bool = True) -> None:
        """What came out of a check."""
        mark = ("ok  ", "bold green") if good else ("DIFFERENT  ", "bold red")
        lines = textwrap.wrap(text, _WIDTH - 8)
        self.console.print(Text("   ") + Text(*mark) + Text(lines[0]))
        for line in lines[1:]:
            self.console.print(Text(f"       {line}"))

    def listing(self, text: str, language: str) -> None:
        """A file or a statement, as it is."""
        self.console.print()
        if self.console.is_terminal:
            self.console.print(
                Syntax(text.strip("\n"), language, theme="ansi_dark", background_color="default", padding=(0, 3))
            )
        else:
            for line in text.strip("\n").splitlines():
                self.console.print(f"   {line}" if line else "", markup=False)
        self.console.print()

    def command(self, text: str) -> None:
        """A command that is about to run; what it prints follows."""
        self.console.print(Text(f"   $ {text}", style="bold"))
        sys.stdout.flush()

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> None:
        """A table; all but the first `words` columns are figures."""
        grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, heading in enumerate(headings):
            grid.add_column(heading, justify="left" if number < words else "right", no_wrap=True)
        for row in rows:
            grid.add_row(*row)
        with self.console.capture() as captured:
            self.console.print(grid)
        self.console.print()
        for line in captured.get().splitlines():
            text = Text.from_ansi(line)
            text.rstrip()
            if text:
                self.console.print(Text("  ") + text)
        self.console.print()
