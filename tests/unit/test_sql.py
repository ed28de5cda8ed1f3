"""The SQL resources: each is used, each that is used is there, and none goes against the rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hyperfill
from hyperfill.sql import query

PACKAGE = Path(hyperfill.__file__).parent
FOLDER = PACKAGE / "sql"
NAMES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.sql"))
FOLDERS = "|".join(sorted({name.split("/")[0] for name in NAMES}))


def test_what_is_used_is_there_and_what_is_there_is_used() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    assert set(re.findall(rf'"((?:{FOLDERS})/[a-z_]+)"', source)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_resource_says_what_it_is_for(name: str) -> None:
    assert (FOLDER / f"{name}.sql").read_text(encoding="utf-8").startswith("-- ")
    assert query(name)  # type: ignore[arg-type,unused-ignore]


def test_sql_is_not_formatted() -> None:
    """Identifiers and values are composed by the driver: no f-string and no % makes a statement."""
    statement = r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|COPY|ALTER|CREATE|DROP|TRUNCATE)\b [A-Za-z\"{*]"
    for path in [p for p in PACKAGE.rglob("*.py") if "demo" not in p.parts and "sandbox" not in p.parts]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            found = re.search(rf'(?<![A-Za-z])f"\s*{statement}', line)
            # Hints show statements to people; they are not sent.
            assert not found or "hint" in line or "GRANT" in line, f"{path.name}:{number}: {line.strip()}"
