"""The options of COPY that a command line may hold, in either of its grammars, read into those of a `Dialect`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hyperfill.errors import UsageError

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")+")
      | (?P<word>(?![bBeEnNxX]')[A-Za-z_\x80-\U0010ffff][\w$]*)
      | (?P<sign>[(),*;]|[^\s'"A-Za-z_(),*;]+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"''|\\(?:x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{1,3})|(.))", re.DOTALL)
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_TEXTS = {"DELIMITER", "NULL", "QUOTE", "ESCAPE", "ENCODING"}

Token = tuple[str, str]  # kind: text | name | word | sign | end; what it stands for


def parse_copy_options(text: str) -> dict[str, Any]:
    """What `CSV NULL 'x' FORCE NOT NULL a, b` or `(FORMAT csv, NULL 'x')` say, by the names of `Dialect`.

    Raises `UsageError` for HEADER, for formats other than CSV, and for whatever else is not understood.
    """
    return _Reader(text).read()


class _Reader:
    """One token after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split(text)
        self._at = 0
        self._found: dict[str, Any] = {}
        self._csv = False

    def read(self) -> dict[str, Any]:
        if self._is_word("WITH"):
            self._next()
        if self._tokens[self._at] == ("sign", "("):
            self._bracketed()
        else:
            while self._tokens[self._at][0] != "end":
                self._old()
        if not self._csv:
            raise self._error("they do not say CSV, and so mean the text format", hint="only CSV is read: add CSV")
        return self._found

    # -- the two grammars ----------------------------------------------------------------------------------------

    def _old(self) -> None:
        """One option of COPY ... WITH CSV NULL AS 'x'."""
        word = self._option()
        if word == "CSV":
            self._set_csv()
        elif word in _TEXTS:
            if self._is_word("AS"):
                self._next()
            self._set(word.lower(), self._string(word))
        elif word == "FORCE" and self._is_word("NOT", "NULL"):
            negated = self._is_word("NOT")
            self._next()
            if negated and not self._is_word("NULL"):
                raise self._error(f"FORCE NOT is followed by {self._shown()}")
            if negated:
                self._next()
            self._set("force_not_null" if negated else "force_null", self._names("FORCE"))
        else:
            raise self._unknown("FORCE QUOTE" if word == "FORCE" and self._is_word("QUOTE") else word)

    def _bracketed(self) -> None:
        """All of COPY ... (FORMAT csv, NULL 'x')."""
        self._next()
        while True:
            word = self._option()
            if word == "FORMAT":
                kind, value = self._next()
                if kind == "end" or value.lower() != "csv":
                    raise self._unknown(f"FORMAT {value}")
                self._set_csv()
            elif word in _TEXTS:
                self._set(word.lower(), self._string(word, bare=True))
            elif word in ("FORCE_NULL", "FORCE_NOT_NULL"):
                self._set(word.lower(), self._names(word))
            else:
                raise self._unknown(word)
            sign = self._next()
            if sign == ("sign", ")"):
                break
            if sign != ("sign", ","):
                raise self._error(f"a comma or ) is missing after {word}")
        if self._tokens[self._at][0] != "end":
            raise self._error(f"something follows the ): {self._shown()}")

    # -- parts ---------------------------------------------------------------------------------------------------

    def _option(self) -> str:
        kind, value = self._next()
        if kind != "word":
            raise self._error(f"an option is expected, and there is {value!r}" if value else "they end too early")
        if value.upper() == "HEADER":
            raise UsageError(
                "'HEADER' detected in -copy-options: every batch is a COPY of its own, and would lose its first row",
                hint="use -skip-header, or -auto-column-mapping where the header names the columns",
            )
        return value.upper()

    def _string(self, option: str, *, bare: bool = False) -> str:
        kind, value = self._next()
        if kind == "text" or (bare and kind in ("word", "name")):
            return value
        raise self._error(f"{option} needs a text in single quotes")

    def _names(self, option: str) -> tuple[str, ...]:
        """Columns, in brackets or not: there one grammar asks for them and the other forbids them."""
        if self._tokens[self._at] == ("sign", "*"):
            raise self._error(f"{option} * is not understood", hint="name the columns")
        bracket = self._tokens[self._at] == ("sign", "(")
        if bracket:
            self._next()
        names = []
        while True:
            kind, value = self._next()
            if kind not in ("word", "name"):
                raise self._error(f"{option} needs names of columns")
            names.append(value)
            if self._tokens[self._at] != ("sign", ","):
                break
            self._next()
        if bracket and self._next() != ("sign", ")"):
            raise self._error(f"a ) is missing after {option}")
        return tuple(names)

    def _set_csv(self) -> None:
        if self._csv:
            raise self._error("CSV is said twice")
        self._csv = True

    def _set(self, name: str, value: object) -> None:
        if name in self._found:
            raise self._error(f"{name.upper()} is said twice")
        self._found[name] = value

    # -- tokens --------------------------------------------------------------------------------------------------

    def _split(self, text: str) -> list[Token]:
        found: list[Token] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._error(f"a quote does not end, or holds nothing, in {text[at:].strip()}")
            kind = str(match.lastgroup)
            try:
                found.append((kind, _VALUES[kind](match[kind])))
            except (ValueError, OverflowError):
                raise self._error(f"{match[kind]} holds what is no character") from None
            at = match.end()
        return [*found, ("end", "")]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        if token[0] != "end":
            self._at += 1
        return token

    def _is_word(self, *words: str) -> bool:
        kind, value = self._tokens[self._at]
        return kind == "word" and value.upper() in words

    def _shown(self) -> str:
        return repr(self._tokens[self._at][1]) if self._tokens[self._at][0] != "end" else "nothing"

    def _unknown(self, option: str) -> UsageError:
        hints = {
            "BINARY": "only CSV is read",
            "ON_ERROR": "-skip-batch-errors leaves out batches, and hyperfill load with --max-rejects only bad rows",
        }
        hint = hints.get(option, "only CSV is read" if option.startswith("FORMAT") else None)
        known = "CSV, DELIMITER, NULL, QUOTE, ESCAPE, ENCODING, FORCE NULL and FORCE NOT NULL are understood"
        return self._error(f"{option} is not supported", hint=hint or known)

    def _error(self, reason: str, *, hint: str | None = None) -> UsageError:
        return UsageError(f"-copy-options {self._text!r}: {reason}", hint=hint)


def _text(token: str) -> str:
    """A text of SQL. A backslash is an escape only behind an E. Raises ValueError or OverflowError for no character."""
    value = _ESCAPE.sub(_escape, token[2:-1]) if token[0] in "eE" else token[1:-1].replace("''", "'")
    value.encode()
    return value


def _escape(match: re.Match[str]) -> str:
    if match[0] == "''":
        return "'"
    for group, base in ((1, 16), (2, 16), (3, 16), (4, 8)):
        if match[group]:
            return chr(int(match[group], base))
    return _LETTERS.get(match[5], match[5])


def _word(token: str) -> str:
    """Folded as the server does it: ASCII alone."""
    return "".join(c.lower() if c.isascii() else c for c in token)


_VALUES: dict[str, Callable[[str], str]] = {
    "text": _text,
    "name": lambda token: token[1:-1].replace('""', '"'),
    "word": _word,
    "sign": str,
}
