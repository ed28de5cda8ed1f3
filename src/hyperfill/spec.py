"""What a person asked for: the options of one backfill, from the command line or a configuration file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from hyperfill.policies import KINDS, Kind


@dataclass(frozen=True)
class Spec:
    """One backfill as asked for. Bounds, names and lengths are the user's text: the server reads them."""

    source: str
    target: str
    table: str
    end: str
    hypertable: str | None = None  # None: the same name as the table
    start: str | None = None  # None: no lower bound
    time_column: str | None = None
    source_time_column: str | None = None
    columns: str | None = None
    window: str | None = None
    max_window_rows: int | None = None
    order: Literal["oldest", "newest"] = "oldest"
    where: str | None = None
    replace: bool = False
    again: bool = False
    allow_seqscan: bool = False
    skip_unstorable: bool = False
    sync_sequences: bool = False
    hold: tuple[Kind, ...] = KINDS  # policies to turn off while windows are moved
    accept_retention: bool = False
    recompress: bool = True
    refresh_caggs: bool = True
    triggers: Literal["fire", "off"] = "fire"


@dataclass(frozen=True)
class Limits:
    """What holds for a whole run, however many tables it moves."""

    jobs: int
    bytes_per_second: float | None = None
    seconds: float | None = None  # stop claiming windows after this time


def default_jobs() -> int:
    """As many workers as this machine has cores, at most eight: the servers do most of the work."""
    return max(1, min(8, os.cpu_count() or 1))
