"""Every statement that hyperfill sends lives in a commented `.sql` file beside this module.

`query("catalog/columns")` is the text of `catalog/columns.sql`. Files are part of the package, so their
text is as trustworthy as a literal; identifiers and values are composed into `{}` places by
`psycopg.sql`, never formatted.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import LiteralString


@cache
def query(name: LiteralString) -> LiteralString:
    """The statement in `<name>.sql`, without its leading comment lines."""
    text = files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return "\n".join(lines).strip()
