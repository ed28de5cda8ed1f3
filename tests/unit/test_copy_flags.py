"""The command line of timescaledb-parallel-copy, as its own parser reads it, and the options of COPY in it."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from hyperfill.cli.copy import connection, worded
from hyperfill.copy_flags import CONNECTION, CopyFlags, go_duration, parse, usage
from hyperfill.errors import UsageError

PAGE = Path(__file__).parents[2] / "docs" / "copy.md"

# Every flag of version 0.13 with its default there; that of -batch-size and -connection is another one here.
THERE: dict[str, Any] = {
    "connection": "host=localhost user=postgres sslmode=disable",
    "db-name": "",
    "table": "test_table",
    "schema": "public",
    "truncate": False,
    "copy-options": "CSV",
    "split": ",",
    "quote": "",
    "escape": "",
    "file": "",
    "columns": "",
    "column-mapping": "",
    "auto-column-mapping": False,
    "skip-header": False,
    "header-line-count": 1,
    "skip-lines": 0,
    "skip-batch-errors": False,
    "import-id": "",
    "batch-size": 5000,
    "buffer-byte-size": 2 * 1024 * 1024,
    "batch-byte-size": 4 * 1024 * 1024,
    "limit": 0,
    "workers": 1,
    "log-batches": False,
    "reporting-period": 0.0,
    "verbose": False,
    "version": False,
    "on-conflict-do-nothing": False,
    "disable-direct-compress": False,
    "enable-client-side-sorting": False,
    "disable-windows-1252-handling": False,
    "no-retry": False,
    "retry-timeout": 300.0,
}
OTHERWISE = {"connection", "batch-size"}


def attribute(flag: str) -> str:
    return flag.replace("-", "_")


def test_all_flags_are_known_with_their_defaults() -> None:
    flags = parse([])
    assert {f.name for f in fields(CopyFlags)} == {attribute(n) for n in THERE} | {"help", "given"}
    for name, default in THERE.items():
        if name not in OTHERWISE:
            found = getattr(flags, attribute(name))
            assert found == default and type(found) is type(default), name
    assert flags.given == frozenset()
    flags.check()


@pytest.mark.parametrize("name", THERE)
@pytest.mark.parametrize("dashes", ["-", "--"])
def test_every_flag_takes_a_value_in_every_form(name: str, dashes: str) -> None:
    texts: dict[type, tuple[str, object]] = {
        bool: ("true", True),
        int: ("17", 17),
        float: ("1m30s", 90.0),
        str: ("-some=text", "-some=text"),
    }
    text, value = texts[type(THERE[name])]
    forms = [[f"{dashes}{name}={text}"], [f"{dashes}{name}"] if value is True else [f"{dashes}{name}", text]]
    for form in forms:
        flags = parse([*form, "-limit", "3"])
        assert getattr(flags, attribute(name)) == (3 if name == "limit" else value)
        assert flags.given == {attribute(name), "limit"}


@pytest.mark.parametrize(("text", "value"), [(t, True) for t in ("1", "t", "T", "TRUE", "true", "True")])
def test_booleans_are_those_of_go(text: str, value: bool) -> None:
    off = {"1": "0", "t": "f", "T": "F", "TRUE": "FALSE", "true": "false", "True": "False"}[text]
    assert parse([f"-truncate={text}"]).truncate is value
    assert parse(["-truncate", f"--truncate={off}"]).truncate is not value


@pytest.mark.parametrize("text", ["yes", "", "2", "tRUE", "on"])
def test_other_booleans_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="-truncate must be true or false"):
        parse([f"-truncate={text}"])


@pytest.mark.parametrize(
    ("text", "value"),
    [("0x10", 16), ("0b101", 5), ("0o17", 15), ("017", 15), ("1_000", 1000), ("-3", -3), ("+4", 4), ("0", 0)],
)
def test_numbers_are_literals_of_go(text: str, value: int) -> None:
    assert parse(["-limit", text]).limit == value


@pytest.mark.parametrize("text", ["", "5k", "1.5", "1e3", " 1", "٣", "08", "0x", "_1", "1__0"])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="-limit must be a whole number"):
        parse([f"-limit={text}"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10s", 10),
        ("1m30s", 90),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1.s", 1),
        ("300ms", 0.3),
        ("2h3m4.5s", 7384.5),
        ("0", 0),
        ("1000000ns", 0.001),
        ("10µs", 0.00001),
        ("10us", 0.00001),
        ("+1s", 1),
        ("-1s", -1),
    ],
)
def test_durations_are_those_of_go(text: str, value: float) -> None:
    assert parse(["-reporting-period", text]).reporting_period == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "10", "1d", "s", ".", ".s", "1s ", "1 s", "-", "1m30"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="-reporting-period must be a time"):
        parse([f"-reporting-period={text}"])


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["-nonsense"], "flag provided but not defined: -nonsense"),
        (["---table", "x"], "bad flag syntax: ---table"),
        (["-=x"], "bad flag syntax: -=x"),
        (["-table"], "flag needs an argument: -table"),
        (["-truncate", "false"], "'false' belongs to no flag"),
        (["data.csv"], "'data.csv' belongs to no flag"),
        (["-table", "t", "-"], "'-' belongs to no flag"),
        (["-table", "t", "--", "-workers"], "'-workers' belongs to no flag"),
    ],
)
def test_what_cannot_be_read_is_refused(tokens: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(tokens)
    assert error.value.message == message


def test_the_terminator_ends_the_flags() -> None:
    assert parse(["-table", "t", "--"]).table == "t"
    assert parse(["-table", "--", "-schema", "-h"]).table == "--"
    assert parse(["-table", "--", "-schema", "-h"]).schema == "-h"
    assert parse(["--"]) == parse([])


def test_the_last_of_a_flag_holds() -> None:
    assert parse(["-table", "a", "--table=b"]).table == "b"


@pytest.mark.parametrize("word", ["-h", "--h", "-help", "--help"])
def test_help_comes_before_whatever_follows(word: str) -> None:
    assert parse(["-table", "t", word, "-nonsense"]).help
    with pytest.raises(UsageError):
        parse(["-nonsense", word])


def test_help_lists_every_flag_on_a_line() -> None:
    lines = usage().splitlines()
    for name, default in THERE.items():
        [line] = [line for line in lines if line.startswith(f"  -{name} ")]
        if name not in OTHERWISE and default not in ("", False, 0):
            assert line.endswith(f"Default: {go_duration(default) if isinstance(default, float) else default}")


def test_the_page_lists_every_flag_and_no_other() -> None:
    text = PAGE.read_text(encoding="utf-8")
    flags = re.split(r"^## ", text, flags=re.MULTILINE)
    [table] = [part for part in flags if part.startswith("Flags")]
    assert re.findall(r"^\| `-([a-z0-9-]+)` \|", table, re.MULTILINE) == [
        f.name.replace("_", "-") for f in fields(CopyFlags) if f.name != "given"
    ]
    for name in re.findall(r"`-([a-z][a-z0-9-]+)[ `=]", text):
        assert name in {*THERE, "help"}, name


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["-db-name", "x"], "-db-name is deprecated"),
        (["-header-line-count", "2"], "-header-line-count is deprecated"),
        (["-header-line-count=0"], "-header-line-count is deprecated"),
        (["-table", ""], "-table is empty"),
        (["-schema="], "-schema is empty"),
        (["-split", ""], "-split is empty"),
        (["-copy-options", ""], "-copy-options is empty"),
        (["-skip-header", "-auto-column-mapping"], "-skip-header and -auto-column-mapping exclude each other"),
        (["-skip-header", "-column-mapping", "a:b"], "-skip-header and -column-mapping exclude each other"),
        (["-column-mapping", "a:b", "-auto-column-mapping"], "-column-mapping and -auto-column-mapping exclude"),
        (["-columns", "a", "-auto-column-mapping"], "-columns and -auto-column-mapping exclude each other"),
        (["-columns", "a", "-column-mapping", "a:b"], "-columns and -column-mapping exclude each other"),
        (["-workers", "0"], "-workers must be at least 1, and is 0"),
        (["-workers", "257"], "-workers must be at most 256"),
        (["-batch-size", "0"], "-batch-size must be at least 1, and is 0"),
        (["-batch-size", "-1"], "-batch-size must be at least 1"),
        (["-batch-byte-size", "15"], "-batch-byte-size must be at least 16"),
        (["-buffer-byte-size", "15"], "-buffer-byte-size must be at least 16"),
        (["-limit", "-1"], "-limit must be at least 0"),
        (["-skip-lines", "-1"], "-skip-lines must be at least 0"),
        (["-reporting-period", "-1s"], "-reporting-period must be at least 0"),
    ],
)
def test_what_goes_against_the_rules_is_refused(tokens: list[str], words: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(tokens).check()
    assert error.value.message.startswith(words)


@pytest.mark.parametrize(
    "tokens",
    [
        ["-skip-header", "-columns", "a,b"],
        ["-skip-header=false", "-auto-column-mapping"],
        ["-columns=", "-column-mapping=", "-auto-column-mapping"],
        ["-db-name", ""],
        ["-header-line-count", "1"],
        ["-limit", "0", "-skip-lines", "0", "-reporting-period", "0s"],
        ["-batch-byte-size", "16", "-buffer-byte-size", "16", "-batch-size", "1"],
        ["-connection", ""],
    ],
)
def test_what_goes_together_is_accepted(tokens: list[str]) -> None:
    parse(tokens).check()


@pytest.mark.parametrize(
    ("tokens", "environment", "found"),
    [
        ([], {}, CONNECTION),
        ([], {"PGUSER": "me"}, "host=localhost"),
        ([], {"PGHOST": "db"}, "user=postgres"),
        ([], {"PGHOSTADDR": "10.0.0.1", "PGUSER": "me"}, ""),
        ([], {"PGHOST": "", "PGUSER": ""}, CONNECTION),
        ([], {"PGSERVICE": "mine"}, ""),
        (["-connection", "dbname=x"], {"PGSERVICE": "mine"}, "dbname=x"),
        (["-connection", ""], {}, ""),
    ],
)
def test_the_default_connection_stands_behind_variables(
    tokens: list[str], environment: dict[str, str], found: str
) -> None:
    assert connection(parse(tokens), environment) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("--on-conflict skip leaves out rows", "-on-conflict-do-nothing leaves out rows"),
        ("--map says nothing of 'x'", "-column-mapping says nothing of 'x'"),
        ("hyperfill clean --backfill 3 --force", "hyperfill clean --backfill 3 --force"),
        ("are --delimiter, --quote and --header right?", "are -split, -quote and -auto-column-mapping right?"),
        ("--map-like", "--map-like"),
        ("--date-style says how", "times are read in the DateStyle and TimeZone of the database and the role"),
    ],
)
def test_sentences_about_load_are_put_into_the_words_of_copy(text: str, found: str) -> None:
    assert worded(text) == found


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (1.5, "1.5s"), (90, "1m30s"), (3723.25, "1h2m3.25s"), (59.9999, "1m0s")],
)
def test_durations_are_written_as_go_does(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text
