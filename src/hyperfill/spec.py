"""What a person asked for: the options of one backfill, from the command line or a configuration file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hyperfill.dialect import Dialect
from hyperfill.errors import RETRY_SECONDS, STALL_SECONDS
from hyperfill.kinds import KINDS, Kind

Land = Literal["auto", "compressed", "plain"]


@dataclass(frozen=True, kw_only=True)
class Landing:
    """What holds for everything that is brought into a hypertable, wherever it comes from."""

    target: str
    hypertable: str | None = None  # None: the same name as the table
    start: str | None = None  # None: no lower bound
    replace: bool = False
    again: bool = False
    hold: tuple[Kind, ...] = KINDS  # policies to turn off while rows land
    accept_retention: bool = False
    land: Land = "auto"  # how chunks end; see `landing`
    recompress: bool = True
    refresh_caggs: bool = True
    triggers: Literal["fire", "off"] = "fire"
    sync_sequences: bool = False


@dataclass(frozen=True, kw_only=True)
class Spec(Landing):
    """One backfill as asked for. Bounds, names and lengths are the user's text: the server reads them."""

    source: str
    table: str
    end: str
    time_column: str | None = None
    source_time_column: str | None = None
    columns: str | None = None
    window: str | None = None
    max_window_rows: int | None = None
    order: Literal["oldest", "newest"] = "oldest"
    where: str | None = None
    allow_seqscan: bool = False
    skip_unstorable: bool = False
    verify: Literal["hash", "count", "none"] = "hash"  # after the last window, before policies are released


@dataclass(frozen=True, kw_only=True)
class LoadSpec(Landing):
    """One load of files as asked for."""

    files: tuple[str, ...]  # names, globs, the folder of a dump, or "-"
    end: str | None = None  # None: no range, and nothing is deleted
    dialect: Dialect = field(default_factory=Dialect)
    header: bool = False  # the first row names the columns
    columns: str | None = None  # the columns of a file without a header
    mapping: tuple[tuple[str, str], ...] | None = None  # the file's names and the target's; implies a header
    skip_lines: int = 0  # physical lines before anything else
    skip_header: bool = False  # one more, of which the names are not used
    outside: Literal["error", "skip"] = "error"
    on_conflict: Literal["error", "skip"] = "error"
    max_rejects: int = 0
    rejects: Path | None = None
    encode: Literal["auto", "client", "server"] = "auto"
    time_zone: str | None = "UTC"  # of times that are written without one; None: as the database says
    date_style: str | None = "ISO, YMD"
    batch_bytes: int = 8 << 20
    batch_rows: int | None = None
    limit: int | None = None  # rows of all files together
    import_id: str | None = None
    skip_batch_errors: bool = False
    truncate: bool = False
    forget: bool = False  # load anew what was loaded before, without a word
    order: Literal["oldest"] = "oldest"


@dataclass(frozen=True)
class Limits:
    """What holds for a whole run, however many tables it moves."""

    jobs: int
    bytes_per_second: float | None = None
    seconds: float | None = None  # stop claiming windows after this time
    retry: float = RETRY_SECONDS  # seconds for which a window, or a lost connection, is tried again
    stall: float | None = STALL_SECONDS  # seconds after which a server of which nothing comes is given up; None: never


def default_jobs() -> int:
    """As many workers as this machine has cores, at most eight: the servers do most of the work."""
    return max(1, min(8, os.cpu_count() or 1))
