"""`hyperfill report`: a backfill as a page to sign off, or as data."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hyperfill import ledger, report, report_json, report_text, session
from hyperfill.cli.output import say
from hyperfill.errors import Refused, UsageError
from hyperfill.report_verdict import judge
from hyperfill.signals import Signals

_ENDINGS = (".html", ".md", ".json")


def write(target: str, backfill: int | None, out: str | None) -> int:
    """Write the report of a backfill into a file, in the form that its ending says."""
    if backfill is None:
        raise UsageError("--backfill is required: an id as hyperfill status shows it")
    if out is None:
        raise UsageError(f"--out is required: a file that ends in {', '.join(_ENDINGS)}")
    path = Path(out)
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise UsageError(f"--out {out!r} ends in none of {', '.join(_ENDINGS)}: the ending says what is written")
    if ending == ".html":
        _require_libraries()
    with Signals(), _beside(path) as file:
        with session.connect(target, "target", application_name="hyperfill/report") as connection:
            if not ledger.exists(connection):
                raise Refused(f"the ledger has no backfill {backfill}")
            present = report.present(connection, backfill)
            with report.snapshot(connection):
                found = report.read(connection, backfill, present)
                if ending == ".json":
                    report_json.write(connection, found, file)
        if ending == ".html":
            from hyperfill import report_page

            file.write(report_page.render(found))
        elif ending == ".md":
            file.write(report_text.render(found))
    say(f"the report of backfill {backfill} ({judge(found).headline.lower()}) is in {out}")
    return 0


def _require_libraries() -> None:
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"a report in HTML needs {error.name or 'two libraries'}, which is not installed",
            hint="pip install 'hyperfill[report]'; .md and .json need nothing more",
        ) from None


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[IO[str]]:
    """A new file in the same folder, which takes the name `path` when all of it is written, and else is removed.

    Raises `UsageError` where it cannot be written, before any server is asked.
    """
    made: Path | None = None
    try:
        try:
            if path.is_dir():
                raise UsageError(f"--out {str(path)!r} is a folder")
            descriptor, name = tempfile.mkstemp(prefix=".hyperfill-report-", dir=path.parent)
        except OSError as error:
            raise UsageError(f"the report cannot be written to {str(path)!r}: {error.strerror}") from None
        made = Path(name)
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(descriptor, 0o666 & ~mask)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            yield file
        try:
            made.replace(path)
        except OSError as error:
            raise UsageError(f"the report cannot be written to {str(path)!r}: {error.strerror}") from None
        made = None
    finally:
        if made is not None:
            made.unlink(missing_ok=True)
