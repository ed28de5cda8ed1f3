"""The command line of timescaledb-parallel-copy 0.13, read as Go's flag package reads it; nothing else is done here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any, get_type_hints

from hyperfill.copy_options import parse_copy_options
from hyperfill.dialect import Dialect
from hyperfill.errors import UsageError

CONNECTION = "host=localhost user=postgres"
_SMALLEST = 16  # bytes of a buffer, as there


def _flag(default: object, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class CopyFlags:
    """The flags, by their names with _ for -. Those of type float are seconds.

    An empty text is what it is there: not given, for most of them.
    """

    connection: str = _flag(CONNECTION, "Conninfo of the target; without it PG* variables come before this default.")
    db_name: str = _flag("", "Refused, as there: name the database in -connection.")
    table: str = _flag("test_table", "The hypertable, exactly as its name is spelt; or qualified, or in double quotes.")
    schema: str = _flag("public", "The hypertable's schema, exactly as its name is spelt.")
    truncate: bool = _flag(False, "Empty the hypertable first; if that fails nothing is loaded.")
    copy_options: str = _flag(
        "CSV", "Options of COPY: CSV, NULL, ENCODING, FORCE [NOT] NULL, DELIMITER, QUOTE, ESCAPE."
    )
    split: str = _flag(",", "The character between fields; also \\t.")
    quote: str = _flag("", 'The character around fields; empty: ".')
    escape: str = _flag("", "The character before a quote inside quotes; empty: the quote.")
    file: str = _flag("", "File to read; empty or -: standard input.")
    columns: str = _flag("", "The columns of the file, as SQL writes names; empty: all of the hypertable.")
    column_mapping: str = _flag("", "Names in the header and columns: csv:db,csv2:db2, or a JSON object.")
    auto_column_mapping: bool = _flag(False, "The header names the columns.")
    skip_header: bool = _flag(False, "Leave out the first line, after -skip-lines.")
    header_line_count: int = _flag(1, "Anything but 1 is refused, as there: use -skip-lines.")
    skip_lines: int = _flag(0, "Leave out so many lines before anything else.")
    skip_batch_errors: bool = _flag(False, "Go on after a batch that fails; it is reported, and the exit code is 4.")
    import_id: str = _flag("", "Name of this import: running it again continues it, or does nothing once it is done.")
    batch_size: int = _flag(0, "Rows of a batch, which is one transaction. Default: what -batch-byte-size allows.")
    batch_byte_size: int = _flag(4 << 20, "Bytes of a batch.")
    buffer_byte_size: int = _flag(2 << 20, "Accepted, without effect: rows may have any length.")
    limit: int = _flag(0, "Load only so many rows; 0: all.")
    workers: int = _flag(1, "Workers, each with a connection.")
    log_batches: bool = _flag(False, "Print rows, bytes and time of each batch at the end, on stderr.")
    reporting_period: float = _flag(0.0, "Print rates and counts so often, such as 10s or 1m30s; 0s: never.")
    verbose: bool = _flag(False, "Say more on stderr; time and rate on the result line.")
    on_conflict_do_nothing: bool = _flag(False, "Leave out rows whose key is there already.")
    version: bool = _flag(False, "Print the version and end.")
    disable_direct_compress: bool = _flag(False, "Accepted, without effect: direct compress is never used.")
    enable_client_side_sorting: bool = _flag(False, "Accepted, without effect: nothing there was sorted either.")
    disable_windows_1252_handling: bool = _flag(False, "Accepted, without effect: encodings are never guessed.")
    no_retry: bool = _flag(False, "Accepted, without effect: trying again never loads a row twice here.")
    retry_timeout: float = _flag(300.0, "Accepted, without effect: two minutes.")
    help: bool = _flag(False, "Print this list and end; also -h.")
    given: frozenset[str] = frozenset()  # names of the flags that were said

    @property
    def maps_header(self) -> bool:
        """Whether the header of the file says what its columns are."""
        return self.auto_column_mapping or bool(self.column_mapping)

    def check(self) -> None:
        """Raise `UsageError` for what is fatal there, and for what would do something else than it says."""
        if self.db_name:
            raise UsageError("-db-name is deprecated", hint="name the database in -connection: dbname=...")
        if self.header_line_count != 1:
            raise UsageError("-header-line-count is deprecated", hint="use -skip-lines")
        for name in ("table", "schema", "copy_options", "split"):
            if not getattr(self, name):
                raise UsageError(f"{_written(name)} is empty: leave it out, or say what you mean")
        ways = [w for w in ("skip_header", "column_mapping", "auto_column_mapping") if getattr(self, w)]
        for said in (ways, [w for w in ("columns", "column_mapping", "auto_column_mapping") if getattr(self, w)]):
            if len(said) > 1:
                raise UsageError(f"{' and '.join(map(_written, said))} exclude each other: say one of them")
        # There a batch of 0 rows is cut after every line, also inside quotes.
        least = {"skip_lines": 0, "limit": 0, "reporting_period": 0, "workers": 1}
        least |= {"batch_size": 1} if "batch_size" in self.given else {}
        least |= {"batch_byte_size": _SMALLEST, "buffer_byte_size": _SMALLEST}
        for name, smallest in least.items():
            if (value := getattr(self, name)) < smallest:
                raise UsageError(f"{_written(name)} must be at least {smallest:g}, and is {value:g}")
        if self.workers > 256:
            raise UsageError(f"-workers must be at most 256, and is {self.workers}")

    def dialect(self, encoding: str = "UTF8") -> Dialect:
        """How the file is written; `encoding` unless -copy-options name one. Raises `UsageError`."""
        found: dict[str, Any] = {"encoding": encoding, **parse_copy_options(self.copy_options)}
        split = {"\\t": "\t"}.get(self.split, self.split)
        for flag, name, value in (
            ("split", "delimiter", split if "split" in self.given else None),
            ("quote", "quote", self.quote or None),
            ("escape", "escape", self.escape or None),
        ):
            if value is None:
                continue
            if found.setdefault(name, value) != value:
                raise UsageError(f"-{flag} says {value!r}, and -copy-options say {name.upper()} {found[name]!r}")
            if len(value) != 1 or not value.isascii():
                raise UsageError(f"-{flag} {value!r}: it must be a single byte")
        return Dialect(**found)


_KINDS: dict[str, type] = {
    f.name.replace("_", "-"): get_type_hints(CopyFlags)[f.name] for f in fields(CopyFlags) if f.name != "given"
}


def parse(tokens: Sequence[str]) -> CopyFlags:
    """The flags of a command line. Raises `UsageError`; what follows a call for help is not looked at."""
    values: dict[str, Any] = {}
    left = list(tokens)
    while left:
        token = left.pop(0)
        if token == "--" and not left:
            break
        if not token.startswith("-") or token in ("-", "--"):
            word = left[0] if token == "--" else token
            raise UsageError(
                f"{word!r} belongs to no flag", hint="a switch is turned off with an equals sign: -truncate=false"
            )
        name, equals, text = token.removeprefix("-").removeprefix("-").partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f"bad flag syntax: {token}")
        if name == "h":
            name = "help"
        kind = _KINDS.get(name)
        if kind is None:
            raise UsageError(f"flag provided but not defined: -{name}", hint="hyperfill copy -help lists all flags")
        if kind is bool:
            text = text if equals else "true"
        elif not equals:
            if not left:
                raise UsageError(f"flag needs an argument: -{name}")
            text = left.pop(0)
        if name != "file" and any("\ud800" <= c <= "\udfff" for c in text):
            raise UsageError(f"-{name} {text!r} holds bytes that are no text in UTF-8")
        values[name.replace("-", "_")] = _value(name, kind, text)
        if values.get("help"):
            return CopyFlags(help=True)
    return CopyFlags(**values, given=frozenset(values))


def usage() -> str:
    """All flags with their kinds, meanings and defaults, a line each."""
    lines = ["Usage: hyperfill copy [flags]", ""]
    for one in fields(CopyFlags):
        if one.name == "given":
            continue
        kind = {bool: "", int: "N", str: "TEXT", float: "TIME"}[_KINDS[one.name.replace("_", "-")]]
        flag = f"{_written(one.name)} {kind}".rstrip()
        default = "" if one.default in ("", False, 0) else f" Default: {_shown(one.default)}"
        lines.append(f"  {flag:<31} {one.metadata['help']}{default}")
    lines += [
        "",
        "One dash or two; -flag value or -flag=value; a switch alone, or -switch=false. More: docs/copy.md.",
    ]
    return "\n".join(lines)


def go_duration(seconds: float) -> str:
    """A length of time as Go prints it: 1m30.5s, 250ms."""
    if seconds < 1:
        return f"{round(seconds * 1000, 3):g}ms" if seconds else "0s"
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    front = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{front}{round(rest, 3):.10g}s"


def _written(name: str) -> str:
    return "-" + name.replace("_", "-")


def _shown(default: Any) -> str:
    return go_duration(default) if isinstance(default, float) else str(default)


def _value(name: str, kind: type, text: str) -> Any:
    try:
        return _READERS[kind](text)
    except (ValueError, OverflowError):
        what = {bool: "true or false", int: "a whole number", float: "a time such as 10s or 1m30s"}[kind]
        raise UsageError(f"-{name} must be {what}, and is {text!r}") from None


def _boolean(text: str) -> bool:
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError


def _integer(text: str) -> int:
    """As a literal of Go: with 0x, 0o and 0b, a leading 0 for octal, and underscores between digits."""
    if not re.fullmatch(r"[+-]?[0-9][0-9A-Za-z_]*", text):  # nor spaces, nor digits of other scripts
        raise ValueError
    octal = re.fullmatch(r"[+-]?0[0-7_]+", text)
    value = int(text, 8 if octal else 0)
    if not -(2**63) <= value < 2**63:
        raise ValueError
    return value


_DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {"ns": 10**9, "us": 10**6, "µs": 10**6, "μs": 10**6, "ms": 10**3, "s": 1}


def _duration(text: str) -> float:
    """Seconds."""
    body = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if body == "0":
        return 0.0
    total, at = Fraction(0), 0
    while at < len(body) or not at:
        part = _DURATION.match(body, at)
        if part is None:
            raise ValueError
        total += Fraction(part[1].rstrip(".")) * {"m": 60, "h": 3600}.get(part[2], 1) / _UNITS.get(part[2], 1)
        at = part.end()
    if total * 10**9 >= 2**63:  # nanoseconds there
        raise ValueError
    return float(-total if text.startswith("-") else total)


_READERS: dict[type, Callable[[str], Any]] = {bool: _boolean, int: _integer, float: _duration, str: str}
