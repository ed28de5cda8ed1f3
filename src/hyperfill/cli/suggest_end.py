"""`hyperfill suggest-end`: parse, call, print."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from hyperfill.cli.options import Hypertable, Json, Source, SourceTimeColumn, Table, Target, build_spec, option
from hyperfill.cli.output import observer, print_json, say
from hyperfill.errors import Refused, UsageError

if TYPE_CHECKING:
    from hyperfill.suggest_end import Question, Suggestion


@Parameter(name="*")
@dataclass(kw_only=True)
class SuggestOptions:
    """Options of suggest-end."""

    source: Source = None
    target: Target = None
    table: Table = None
    hypertable: Hypertable = None
    since: Annotated[
        str | None,
        option(
            "since",
            "Where dual-writing began, or a little before. Default: the target's first row.",
            allow_leading_hyphen=True,
        ),
    ] = None
    bucket: Annotated[
        str | None,
        option("bucket", "Length of a bucket: an interval such as '15 minutes', or an integer. Default: a round one."),
    ] = None
    lateness: Annotated[
        str | None,
        option("lateness", "The longest that a row may come late: an interval, or an integer. Only this makes sure."),
    ] = None
    source_time_column: SourceTimeColumn = None
    columns: Annotated[
        str | None, option("columns", "Columns to compare, by their target names: A,B. Default: all.")
    ] = None
    where: Annotated[str | None, option("where", "Compare only rows for which this SQL condition holds.")] = None
    plot: Annotated[Path | None, option("plot", "Draw the buckets into a file, .png or .svg by its ending.")] = None
    json: Json = False

    def question(self) -> Question:
        """What is asked. Raises `UsageError`."""
        from hyperfill.suggest_end import Question

        if self.table is None:
            raise UsageError("--table is required: SCHEMA.TABLE on the source")
        if self.plot is not None:
            from hyperfill.plot import check

            check(self.plot)
        given = {k: v for k, v in self.__dict__.items() if v is not None and k not in ("plot", "json")}
        own = {k: given.pop(k, None) for k in ("since", "bucket", "lateness")}
        for name, value in own.items():
            if value == "":
                raise UsageError(f"--{name} is empty: leave it out, or say what you mean")
        return Question(spec=build_spec({**given, "end": ""}), **own)


def suggest_end(options: SuggestOptions) -> int:
    """Find T; the exit code. Raises `Refused` where there is none, after what was found is shown."""
    from hyperfill.signals import Signals

    watcher = observer()
    with Signals():
        question = options.question()
        from hyperfill.suggest_end import suggest

        try:
            found = suggest(question, watcher)
        finally:
            watcher.stop()
        if options.plot is not None and found.verdict is not None and found.step is not None:
            from hyperfill.plot import plot

            title = found.table if found.table == found.hypertable else f"{found.table} → {found.hypertable}"
            plot(options.plot, f"{title}: {_title(found)}", found.verdict, found.time_type, found.step)
            say(f"drawn: {options.plot}")
    if options.json:
        print_json(found.as_json())
        if found.refused is not None:
            say(f"hyperfill: {found.refused[0]}")
            say(f"  {found.refused[1]}")
            return Refused.exit_code
        return 0
    _print(found, options)
    if found.refused is not None:
        raise Refused(found.refused[0], hint=found.refused[1], findings=found.findings)
    return 0


def _title(found: Suggestion) -> str:
    from hyperfill.suggest_words import label

    if found.end is None:
        return "no completion point"
    return f"suggested end {label(found.time_type, found.end)}"


def _print(found: Suggestion, options: SuggestOptions) -> None:
    from rich.console import Console

    from hyperfill.cli.bars import draw

    if found.verdict is not None and found.step is not None:
        draw(Console(highlight=False), found.verdict, found.time_type, found.step)
        print()
    for reason in found.reasons[: -1 if found.refused else None]:
        print(f"- {reason}")
    if found.end is not None:
        print(f"\nend: {found.time_type.text(found.end)}\n\n{_next(found, options)}", flush=True)
    sys.stdout.flush()


def _next(found: Suggestion, options: SuggestOptions) -> str:
    """The command to go on with. Conninfos are left out: they may hold a password."""
    assert found.end is not None
    words = ["hyperfill", "plan", "--source", "...", "--target", "...", "--table", options.table or ""]
    for name in ("hypertable", "source_time_column", "columns", "where"):
        value = getattr(options, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", value]
    end = found.time_type.text(found.end)
    words += [f"--end={end}"] if end.startswith("-") else ["--end", end]
    return shlex.join(words)
