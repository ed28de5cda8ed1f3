"""How a CSV file is written, in the words of the server's COPY: one place for what splitter, encoder and COPY share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from hyperfill.errors import UsageError

if TYPE_CHECKING:
    from psycopg import sql


@dataclass(frozen=True)
class Dialect:
    """The options of COPY ... (FORMAT csv). Delimiter, quote and escape are single bytes of ASCII."""

    delimiter: str = ","
    quote: str = '"'
    escape: str | None = None  # None: the same as the quote
    null: str = ""
    encoding: str = "UTF8"  # a name that the server knows
    force_null: tuple[str, ...] = ()  # columns of which a quoted NULL text is NULL as well
    force_not_null: tuple[str, ...] = ()  # columns that are never NULL

    def __post_init__(self) -> None:
        for name in ("delimiter", "quote", "escape"):
            value = getattr(self, name)
            if value is None:
                continue
            if len(value) != 1 or not value.isascii() or value in "\r\n\0":
                raise UsageError(f"--{name} {value!r}: it must be one character of ASCII, and no line break")
        if self.delimiter == self.quote:
            raise UsageError(f"--delimiter and --quote are the same character: {self.quote!r}")
        if any(c in self.null for c in "\r\n\0") or self.delimiter in self.null or self.quote in self.null:
            raise UsageError(f"--null {self.null!r}: it must not hold the delimiter, the quote or a line break")

    @property
    def delimiter_byte(self) -> int:
        return ord(self.delimiter)

    @property
    def quote_byte(self) -> int:
        return ord(self.quote)

    @property
    def escape_byte(self) -> int:
        return ord(self.quote if self.escape is None else self.escape)

    @property
    def doubled(self) -> bool:
        """Whether a quote inside quotes is written as two quotes, as it is by default."""
        return self.escape_byte == self.quote_byte

    def as_json(self) -> dict[str, object]:
        """What the ledger and a manifest keep of it."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}

    def copy_options(self) -> sql.Composed:
        """The inside of COPY's brackets. NULL is written out also where it is the default: it is what we rely on."""
        from psycopg import sql

        options = [
            sql.SQL("FORMAT csv"),
            sql.SQL("DELIMITER {}").format(sql.Literal(self.delimiter)),
            sql.SQL("QUOTE {}").format(sql.Literal(self.quote)),
            sql.SQL("ESCAPE {}").format(sql.Literal(self.quote if self.escape is None else self.escape)),
            sql.SQL("NULL {}").format(sql.Literal(self.null)),
            sql.SQL("ENCODING {}").format(sql.Literal(self.encoding)),
        ]
        for word, columns in (("FORCE_NULL", self.force_null), ("FORCE_NOT_NULL", self.force_not_null)):
            if columns:
                names = sql.SQL(", ").join(sql.Identifier(name) for name in columns)
                options.append(sql.SQL("{} ({})").format(sql.SQL(word), names))
        return sql.SQL(", ").join(options)
