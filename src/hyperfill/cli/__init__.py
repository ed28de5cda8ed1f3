"""The command line: one thin function for each command. What a command does lives elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from hyperfill import __version__
from hyperfill.cli.dump import DumpOptions
from hyperfill.cli.load import LoadOptions
from hyperfill.cli.options import Json, MoveOptions, Target, option, require_target
from hyperfill.cli.output import print_error, say
from hyperfill.cli.policies import policies_app
from hyperfill.cli.sandbox import sandbox_app
from hyperfill.cli.suggest_end import SuggestOptions
from hyperfill.cli.verify import VerifyOptions
from hyperfill.early import Answer, behind, hide_secrets, print_failure, wants_json
from hyperfill.errors import (
    PAUSE_STATES,
    HyperfillError,
    Incomplete,
    Interrupted,
    Refused,
    UsageError,
    first_line,
    is_transient,
)

app = App(
    name="hyperfill",
    version=__version__,
    help="Fill TimescaleDB hypertables with history, exactly once, while the application keeps writing.",
    help_format="plaintext",
    # Otherwise every signal would end with 130, SIGTERM as well, and without a word.
    suppress_keyboard_interrupt=False,
)


@app.command
def run(
    *,
    options: MoveOptions | None = None,
    dry_run: Annotated[bool, option("dry-run", "The same as plan.", negative="")] = False,
) -> int:
    """Backfill a table: all of [start, end), exactly once. The same command resumes it after any interruption."""
    from hyperfill.cli import move

    chosen = options or MoveOptions()
    return move.plan(chosen) if dry_run else move.run(chosen)


@app.command
def plan(*, options: MoveOptions | None = None) -> int:
    """Show everything that run would do. Nothing is written."""
    from hyperfill.cli import move

    return move.plan(options or MoveOptions())


@app.command
def verify(*, options: MoveOptions | None = None, how: VerifyOptions | None = None) -> int:
    """Compare both sides of a range, window by window; nothing is written. Ends with 5 if they differ."""
    from hyperfill.cli.verify import verify as carry_out

    return carry_out(options or MoveOptions(), how or VerifyOptions())


@app.command
def repair(
    *,
    options: MoveOptions | None = None,
    dry_run: Annotated[bool, option("dry-run", "Only say what it would do.", negative="")] = False,
) -> int:
    """Make the target equal to the source: compare, move again the windows that differ, compare those."""
    from hyperfill.cli.repair import repair as carry_out

    return carry_out(options or MoveOptions(), dry_run=dry_run)


@app.command
def load(
    # "-" is standard input. What else begins with a hyphen is looked at afterwards.
    *files: Annotated[str, Parameter(allow_leading_hyphen=True)],
    options: LoadOptions | None = None,
    dry_run: Annotated[bool, option("dry-run", "Show what it would do.", negative="")] = False,
) -> int:
    """Load CSV files, or the folder of a dump, into a hypertable, exactly once. The same command resumes it.

    FILE: files, globs, the folder of a dump, or - for standard input; .gz, .zst and .bz2 by their endings.
    """
    from hyperfill.cli.load import load as carry_out

    return carry_out(options or LoadOptions(), files, dry_run=dry_run)


# The words behind it are another program's flags, which `invoke` hands over as they are: this is for --help.
@app.command(help_flags=[], version_flags=[], end_of_options_delimiter="")
def copy(*tokens: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]) -> int:
    """Load CSV by the command line of timescaledb-parallel-copy. See hyperfill copy -help for its flags."""
    from hyperfill.cli.copy import copy as carry_out

    return carry_out(tokens)


@app.command
def status(
    *,
    target: Target = None,
    json: Json = False,
    watch: Annotated[bool, option("watch", "Look again every second until all is done.", negative="")] = False,
    config: Annotated[str | None, option("config", "Only the tables of this TOML file, and its target.")] = None,
) -> int:
    """Show the backfills of a target: how far they are, who works on them."""
    from hyperfill.cli import ledger_commands

    hypertables: list[str] | None = None
    if config is not None:
        from pathlib import Path

        from hyperfill.config import destinations

        named, hypertables = destinations(Path(config))
        target = target or named
    return ledger_commands.status(require_target(target), as_json=json, watch=watch, hypertables=hypertables)


@app.command
def clean(
    *,
    target: Target = None,
    backfill: Annotated[int | None, option("backfill", "Only this one.")] = None,
    force: Annotated[bool, option("force", "Unfinished ones as well.", negative="")] = False,
) -> int:
    """Remove finished backfills from the ledger. The rows they moved stay."""
    from hyperfill.cli import ledger_commands

    return ledger_commands.clean(require_target(target), backfill=backfill, force=force)


@app.command
def dump(*, options: DumpOptions | None = None) -> int:
    """Write a range of a table into a folder of CSV files, one for each window. The same command resumes it."""
    from hyperfill.cli.dump import write

    return write(options or DumpOptions())


@app.command(name="suggest-end")
def suggest_end(*, options: SuggestOptions | None = None) -> int:
    """Compare both sides since dual-writing began, and suggest a completion point (--end of run) with its reasons."""
    from hyperfill.cli.suggest_end import suggest_end as answer

    return answer(options or SuggestOptions())


@app.command
def report(
    *,
    target: Target = None,
    backfill: Annotated[int | None, option("backfill", "Its id, as hyperfill status shows it.")] = None,
    out: Annotated[str | None, option("out", "The file to write: it ends in .html, .md or .json.")] = None,
) -> int:
    """Write what a backfill did into a file: a page to sign off and print, Markdown, or JSON with every window."""
    from hyperfill.cli.report import write

    return write(require_target(target), backfill, out)


@app.command
def demo() -> int:
    """The whole story on real data and two embedded servers, in a minute; nothing of yours is touched."""
    from hyperfill.demo import demo as tell

    return tell()


app.command(policies_app)
app.command(sandbox_app)


def invoke(arguments: list[str]) -> int:
    """Run a command line; the exit code. A traceback is shown only where HYPERFILL_TRACEBACK is set.

    With --json a command that has no result prints an object that says why.
    """
    Answer.decided = False
    foreign = arguments[:1] == ["copy"]
    fail = print_failure if wants_json(arguments) and not foreign else _no_json
    try:
        if foreign:
            # cyclopts would drop words that are empty.
            return copy(*arguments[1:])
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else 0
    except CycloptsError as error:
        text = hide_secrets(str(error))
        say(f"hyperfill: {text}")
        say("  see hyperfill --help")
        fail("refused", text, "see hyperfill --help")
        return UsageError.exit_code
    except HyperfillError as error:
        print_error(error)
        state = "refused" if error.exit_code in (UsageError.exit_code, Refused.exit_code) else "incomplete"
        fail(state, error.message, error.hint, [f.as_json() for f in getattr(error, "findings", ())])
        if "HYPERFILL_TRACEBACK" in os.environ:
            raise
        return error.exit_code
    except Interrupted as interrupted:
        return _interrupted(interrupted, fail)
    except OSError as error:
        # A full disk behind stdout, a file that cannot be read: the system's own sentence says it best.
        say(f"hyperfill: {error}")
        return 1
    except Exception as error:
        interruption = behind(error, Interrupted)
        if interruption is not None:
            return _interrupted(interruption, fail)
        if error.__cause__ is not None and not isinstance(error.__cause__, Exception):
            raise error.__cause__ from None  # a signal, too
        if "HYPERFILL_TRACEBACK" in os.environ:
            raise
        if is_transient(error):
            text = f"a server went away: {first_line(error)}"
            say(f"hyperfill: {text}")
            say("  whatever was not done is as before, run the same command again")
            fail("incomplete", text, "run the same command again")
            return Incomplete.exit_code
        if paused := PAUSE_STATES.get(str(getattr(error, "sqlstate", None))):
            text = f"{paused}: {first_line(error)}"
            say(f"hyperfill: {text}")
            say("  when that is mended, run the same command again")
            fail("incomplete", text, "when that is mended, run the same command again")
            return Incomplete.exit_code
        text = hide_secrets(f"unexpected {type(error).__name__}: {error}")
        say(f"hyperfill: {text}")
        say("  this is a defect; HYPERFILL_TRACEBACK=1 shows where")
        fail("incomplete", text)
        return 1


def _interrupted(interrupted: Interrupted, fail: Callable[..., None]) -> int:
    say("hyperfill: interrupted; whatever was not done is as before, run the same command again")
    fail("incomplete", str(interrupted))
    return interrupted.exit_code


def _no_json(state: str, error: str, hint: str | None = None, findings: Sequence[object] = ()) -> None:
    """People read stderr."""
