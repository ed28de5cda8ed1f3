"""The options of commands that move or compare rows, written once. Each has an environment variable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from cyclopts import Parameter

from hyperfill.errors import RETRY_SECONDS, STALL_SECONDS, UsageError
from hyperfill.kinds import parse_kinds
from hyperfill.quantities import parse_duration, parse_size
from hyperfill.spec import Land, Limits, Spec, default_jobs

T = TypeVar("T")


def is_text(_: Any, value: Any) -> None:
    """Bytes that are no text can name a file, and nothing on a server. Raises ValueError."""
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError("It holds bytes that are no text in UTF-8.")


def option(name: str, text: str, **more: Any) -> Parameter:
    """An option with its environment variable. Where a text names a file, say `validator=None`."""
    variable = "HYPERFILL_" + name.upper().replace("-", "_")
    return Parameter(name=f"--{name}", env_var=variable, help=text, **{"validator": is_text, **more})


Target = Annotated[
    str | None, option("target", "Conninfo of the target: a URI, key=value pairs, a service, PG* variables.")
]
Json = Annotated[bool, option("json", "Print one JSON object on stdout; everything else goes to stderr.", negative="")]
Source = Annotated[str | None, option("source", "Conninfo of the source: anything libpq takes.")]
Table = Annotated[str | None, option("table", "SCHEMA.TABLE on the source, quoted as in SQL; a view will do.")]
Hypertable = Annotated[
    str | None, option("hypertable", "SCHEMA.TABLE on the target, if it has another name than the table.")
]
Start = Annotated[
    str | None,
    option(
        "start",
        "Lower bound, inclusive, in the type of the time column. Default: -infinity.",
        allow_leading_hyphen=True,
    ),
]
SourceTimeColumn = Annotated[
    str | None, option("source-time-column", "The source's time column, if it has another name.")
]
Jobs = Annotated[int | None, option("jobs", "Worker processes. Default: one for each core, at most 8.")]
Window = Annotated[
    str | None, option("window", "Largest window: an interval such as '6 hours', or an integer. Default: a chunk.")
]
MaxWindowRows = Annotated[
    int | None, option("max-window-rows", "Split chunks into windows of about this many rows. Default: 1000000.")
]
MaxRate = Annotated[
    str | None, option("max-rate", "Bytes per second over all workers, e.g. 20MB, to spare the source.")
]
AllowSeqscan = Annotated[
    bool | None,
    option("allow-seqscan", "Go on although the source is scanned anew for every window.", negative=""),
]
SkipUnstorable = Annotated[
    bool | None,
    option("skip-unstorable", "Leave out rows at -infinity, which no hypertable can hold.", negative=""),
]
AcceptRetention = Annotated[
    bool | None,
    option("accept-retention", "Go on although a retention policy will drop part of the range.", negative=""),
]
Triggers = Annotated[
    Literal["fire", "off"] | None,
    option("triggers", "off: no user trigger and no foreign key of the target fires. Default: fire."),
]
LandOption = Annotated[
    Land | None,
    option(
        "land",
        "How chunks end: compressed where their policy compresses them by now (auto), wherever it can be done "
        "(compressed), or plain. Default: auto.",
    ),
]
RetryFor = Annotated[
    str | None,
    option("retry-for", "Try a window, or a lost connection, again for so long before it fails. Default: 2m."),
]
StallTimeout = Annotated[
    str | None,
    option(
        "stall-timeout",
        "Give a server up of which nothing comes for so long while rows are copied, and try the window again; 0: "
        "never. Default: 10m.",
    ),
]


@Parameter(name="*")
@dataclass(kw_only=True)
class MoveOptions:
    """Options of run, plan, verify and repair."""

    source: Source = None
    target: Target = None
    table: Table = None
    hypertable: Hypertable = None
    start: Start = None
    end: Annotated[
        str | None,
        option(
            "end",
            "The completion point: upper bound, exclusive. Rows at or after it are never touched.",
            allow_leading_hyphen=True,
        ),
    ] = None
    time_column: Annotated[
        str | None,
        option("time-column", "The hypertable's time column; a check only, it is known from the hypertable."),
    ] = None
    source_time_column: SourceTimeColumn = None
    columns: Annotated[str | None, option("columns", "Columns to move, by their target names: A,B. Default: all.")] = (
        None
    )
    jobs: Jobs = None
    window: Window = None
    max_window_rows: MaxWindowRows = None
    order: Annotated[
        Literal["oldest", "newest"] | None, option("order", "Which windows come first. Default: oldest.")
    ] = None
    max_rate: MaxRate = None
    where: Annotated[
        str | None,
        option(
            "where", "Move only rows for which this SQL condition holds; it limits the DELETE on the target as well."
        ),
    ] = None
    replace: Annotated[
        bool | None,
        option(
            "replace",
            "Go on where the source has fewer rows than the target, or another source filled the range.",
            negative="",
        ),
    ] = None
    again: Annotated[bool | None, option("again", "Move a finished backfill anew.", negative="")] = None
    allow_seqscan: AllowSeqscan = None
    skip_unstorable: SkipUnstorable = None
    sync_sequences: Annotated[
        bool | None, option("sync-sequences", "Move sequences behind moved columns forward at the end.", negative="")
    ] = None
    hold: Annotated[
        str | None,
        option(
            "hold",
            "Policies to turn off meanwhile: compression, retention, refresh, reorder (default: all four), or none.",
        ),
    ] = None
    accept_retention: AcceptRetention = None
    land: LandOption = None
    recompress: Annotated[
        bool | None,
        option(
            "recompress", "Compress chunks again that were compressed before and are partly so after. Default: yes."
        ),
    ] = None
    refresh_caggs: Annotated[
        bool | None,
        option("refresh-caggs", "Refresh the continuous aggregates of what was moved, at every level. Default: yes."),
    ] = None
    triggers: Triggers = None
    max_duration: Annotated[
        str | None,
        option("max-duration", "Start no window after this time, e.g. 90m or 6h; exit code 4 if some are left."),
    ] = None
    verify: Annotated[
        Literal["hash", "count", "none"] | None,
        option("verify", "How run compares both sides after the last window, before it is done. Default: hash."),
    ] = None
    retry_for: RetryFor = None
    stall_timeout: StallTimeout = None
    config: Annotated[
        Path | None, option("config", "A TOML file with one [[backfill]] for each table; see docs/configuration.md.")
    ] = None
    json: Json = False

    def specs(self) -> tuple[list[Spec], Limits]:
        """What is asked for. Raises `UsageError`."""
        if self.config is not None:
            from hyperfill.config import load

            return load(self.config, self.given())
        return [self._spec()], self._limits()

    def given(self) -> dict[str, Any]:
        """Options that were said, on the command line or in the environment, by their names in a file."""
        return {k: v for k, v in self.__dict__.items() if v is not None and k not in ("config", "json")}

    def _spec(self) -> Spec:
        if self.end is None:
            raise UsageError(
                "--end is required: the completion point T, from which on the dual-writer owns the rows",
                hint="it lies after the last writer began to dual-write and before the zone of late data",
            )
        if self.table is None:
            raise UsageError("--table is required: SCHEMA.TABLE on the source")
        return build_spec(self.given())

    def _limits(self) -> Limits:
        return build_limits(self.given())


_LIMITS = ("jobs", "max_rate", "max_duration", "stall_timeout", "retry_for")


def build_spec(values: dict[str, Any]) -> Spec:
    """A backfill from options by name; those of the whole run are passed over. Raises `UsageError`."""
    for name in ("source", "target"):
        if values.get(name) is None:
            raise UsageError(
                f"--{name} is required: a libpq conninfo, or HYPERFILL_{name.upper()}",
                hint="an empty conninfo ('') means PG* variables alone",
            )
    for name, value in values.items():
        # An unset variable of a script must not widen what is moved. An empty bound is refused as a bound.
        if value == "" and name not in ("source", "target", "start", "end"):
            option = name.replace("_", "-")
            raise UsageError(f"--{option} is empty: leave it out, or say what you mean")
    rows = values.get("max_window_rows")
    if rows is not None and rows < 1:
        raise UsageError(f"--max-window-rows must be at least 1, not {rows}")
    chosen = {k: v for k, v in values.items() if k not in _LIMITS}
    if "hold" in chosen:
        chosen["hold"] = parse_kinds(chosen["hold"])
    return Spec(**chosen)


def build_limits(values: dict[str, Any]) -> Limits:
    """What holds for a whole run, from options by name. Raises `UsageError`."""
    jobs = values.get("jobs")
    if jobs is not None and not 1 <= jobs <= 256:
        raise UsageError(f"--jobs must be from 1 to 256, not {jobs}")
    rate, seconds, stall, retry = (values.get(name) for name in _LIMITS[1:])
    return Limits(
        jobs or default_jobs(),
        None if rate is None else quantity("--max-rate", parse_size, rate),
        None if seconds is None else quantity("--max-duration", parse_duration, seconds),
        RETRY_SECONDS if retry is None else quantity("--retry-for", parse_duration, retry),
        STALL_SECONDS if stall is None else quantity("--stall-timeout", _or_never, stall),
    )


def _or_never(text: str) -> float | None:
    return None if text.strip() == "0" else parse_duration(text)


def quantity(option: str, parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(str(text).removesuffix("/s") if option == "--max-rate" else str(text))
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def require_target(target: str | None) -> str:
    """The target of a command that needs only one. Raises `UsageError`."""
    if target is None:
        raise UsageError("--target is required: a libpq conninfo, or HYPERFILL_TARGET")
    return target
