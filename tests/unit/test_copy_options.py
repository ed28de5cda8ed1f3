"""Dialects by flags, and the options of COPY in -copy-options."""

from __future__ import annotations

import pytest

from hyperfill.copy_flags import parse
from hyperfill.copy_options import parse_copy_options
from hyperfill.dialect import Dialect
from hyperfill.errors import UsageError


@pytest.mark.parametrize(
    ("tokens", "dialect"),
    [
        ([], Dialect()),
        (["-split", "\t"], Dialect(delimiter="\t")),
        (["-split", "\\t"], Dialect(delimiter="\t")),
        (["-split=-"], Dialect(delimiter="-")),
        (["-quote", "'", "-escape", "\\"], Dialect(quote="'", escape="\\")),
        (["-quote=", "-escape="], Dialect()),
        (["-copy-options", "CSV DELIMITER ';'"], Dialect(delimiter=";")),
        (["-copy-options", "CSV DELIMITER ';'", "-split", ";"], Dialect(delimiter=";")),
        (["-copy-options", "CSV QUOTE ''''", "-quote", "'"], Dialect(quote="'")),
        (["-copy-options", "CSV ENCODING 'LATIN1'"], Dialect(encoding="LATIN1")),
    ],
)
def test_dialect(tokens: list[str], dialect: Dialect) -> None:
    flags = parse(tokens)
    flags.check()
    assert flags.dialect() == dialect


def test_the_encoding_of_the_options_wins() -> None:
    assert parse([]).dialect("LATIN1").encoding == "LATIN1"
    assert parse(["-copy-options", "CSV ENCODING 'WIN1252'"]).dialect("LATIN1").encoding == "WIN1252"


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["-split", ",", "-copy-options", "CSV DELIMITER ';'"], "-split says ',', and -copy-options say DELIMITER ';'"),
        (["-quote", '"', "-copy-options", "CSV QUOTE ''''"], "-quote says"),
        (["-escape", "\\", "-copy-options", "CSV ESCAPE '!'"], "-escape says"),
        (["-split", ";;"], "-split ';;': it must be a single byte"),
        (["-split", "\\n"], "-split '\\\\n': it must be a single byte"),
        (["-quote", "ab"], "-quote 'ab': it must be a single byte"),
        (["-escape", "é"], "-escape 'é': it must be a single byte"),
        (["-split", '"'], "--delimiter and --quote are the same character"),
    ],
)
def test_dialects_that_contradict_themselves_are_refused(tokens: list[str], words: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(tokens).dialect()
    assert error.value.message.startswith(words)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("CSV", {}),
        ("csv", {}),
        ("  CSV\n", {}),
        ("WITH CSV", {}),
        ("CSV NULL 'NULL'", {"null": "NULL"}),
        ("NULL AS '' CSV", {"null": ""}),
        ("CSV NULL 'it''s'", {"null": "it's"}),
        ("CSV NULL E'\\\\N'", {"null": "\\N"}),
        ("CSV NULL e'it\\'s''x'", {"null": "it's'x"}),
        ("CSV NULL E'\\x41\\u00e9\\U0001F600\\101\\q'", {"null": "Aé\U0001f600Aq"}),
        ("CSV DELIMITER E'\\t'", {"delimiter": "\t"}),
        ("CSV DELIMITER AS '|' QUOTE AS '''' ESCAPE AS '\\'", {"delimiter": "|", "quote": "'", "escape": "\\"}),
        ("CSV ESCAPE '\\' NULL '\\'", {"escape": "\\", "null": "\\"}),
        ("CSV ENCODING 'latin1'", {"encoding": "latin1"}),
        ("CSV FORCE NOT NULL a, B", {"force_not_null": ("a", "b")}),
        ('CSV FORCE NULL "A b", "say ""x"""', {"force_null": ("A b", 'say "x"')}),
        ("CSV FORCE NULL a, b FORCE NOT NULL c", {"force_null": ("a", "b"), "force_not_null": ("c",)}),
        ("CSV FORCE NULL (a, b)", {"force_null": ("a", "b")}),
        ("CSV FORCE NULL ÄRA NULL 'x'", {"force_null": ("Ära",), "null": "x"}),
        ("CSV FORCE NULL header_id", {"force_null": ("header_id",)}),
        ("CSV NULL 'HEADER'", {"null": "HEADER"}),
        ("(FORMAT csv)", {}),
        ("( format 'CSV' , null 'x' )", {"null": "x"}),
        ("WITH (FORMAT csv, NULL na, DELIMITER ';')", {"null": "na", "delimiter": ";"}),
        (
            '(FORMAT csv, FORCE_NULL (a, "B"), FORCE_NOT_NULL (c), QUOTE \'\'\'\', ESCAPE \'\\\', ENCODING utf8)',
            {"force_null": ("a", "B"), "force_not_null": ("c",), "quote": "'", "escape": "\\", "encoding": "utf8"},
        ),
    ],
)  # fmt: skip
def test_copy_options(text: str, found: dict[str, object]) -> None:
    assert parse_copy_options(text) == found


@pytest.mark.parametrize(
    "text", ["CSV HEADER", "csv header", "HEADER CSV", "(FORMAT csv, HEADER)", "(HEADER, FORMAT csv)"]
)
def test_header_is_refused_and_a_way_is_shown(text: str) -> None:
    with pytest.raises(UsageError, match="'HEADER' detected in -copy-options") as error:
        parse_copy_options(text)
    assert error.value.hint is not None and "-skip-header" in error.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NULL 'x'", "do not say CSV"),
        ("()", "an option is expected"),
        ("(NULL 'x')", "do not say CSV"),
        ("BINARY", "BINARY is not supported"),
        ("(FORMAT text)", "FORMAT text is not supported"),
        ("(FORMAT binary)", "FORMAT binary is not supported"),
        ("CSV FREEZE", "FREEZE is not supported"),
        ("CSV FORCE QUOTE *", "FORCE QUOTE is not supported"),
        ("CSV FORCE NULL *", "FORCE * is not understood"),
        ("CSV FORCE NOT a", "FORCE NOT is followed by 'a'"),
        ("CSV FORCE NULL", "FORCE needs names of columns"),
        ("CSV FORCE NULL a,", "FORCE needs names of columns"),
        ("CSV FORCE NULL (a", "a ) is missing"),
        ("CSV CSV", "CSV is said twice"),
        ("CSV NULL 'a' NULL 'a'", "NULL is said twice"),
        ("CSV NULL", "NULL needs a text in single quotes"),
        ("CSV NULL x", "NULL needs a text in single quotes"),
        ("CSV NULL 'x", "a quote does not end"),
        ("CSV NULL E'\\'", "a quote does not end"),
        ("CSV NULL E'\\Uffffffff'", "holds what is no character"),
        ("CSV NULL E'\\ud800'", "holds what is no character"),
        ('CSV FORCE NULL ""', "holds nothing"),
        ("CSV; DROP TABLE t", "an option is expected, and there is ';'"),
        ("CSV 5", "an option is expected, and there is '5'"),
        ("(FORMAT csv", "a comma or ) is missing"),
        ("(FORMAT csv NULL 'x')", "a comma or ) is missing"),
        ("(FORMAT csv,)", "an option is expected"),
        ("(FORMAT csv) CSV", "something follows the ): 'csv'"),
        ("(FORMAT csv, ON_ERROR ignore)", "ON_ERROR is not supported"),
        ("(FORMAT", "FORMAT  is not supported"),
    ],
)
def test_other_copy_options_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_copy_options(text)
    assert error.value.message.startswith(f"-copy-options {text!r}: ")
    assert words in error.value.message
