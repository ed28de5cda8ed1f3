"""The SQL resources: each is used, each that is used is there, and none goes against the rules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
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


# Text that becomes SQL and is neither a literal nor a resource, and why it may.
_OURS = "a word or an expression of ours, chosen from a fixed few"
_NAMED = "a resource by its name, typed as a literal"
_TYPE = "a type as format_type() of the server wrote it, quoted by it"
ALLOWED = {
    ("batch.py", "cast(Any, statement)"): _NAMED,
    ("chunks.py", "cast(Any, column.type)"): _TYPE,
    ("compressed.py", "cast(Any, column.type)"): _TYPE,
    ("dialect.py", "word"): _OURS,
    ("fingerprint.py", "text"): _NAMED,
    ("fingerprint.py", "name"): _OURS,
    ("fingerprint.py", "cast(Any, axis.time_type.sql_name)"): _OURS,
    ("fingerprint.py", "cast(Any, column.cast)"): _TYPE,
    ("policies.py", "cast(Any, statement)"): _NAMED,
    ("preflight.py", "time_type.sql_name"): _OURS,
    ("preflight.py", "cast(Any, where)"): "--where is SQL of the user's, and meant to be",
    ("preflight.py", "cast(Any, composed.replace('%', '%%') + ' OFFSET %s')"): "the same, as one statement",
    ("preflight.py", "cast(Any, composed)"): "the same",
    ("preflight_rows.py", "cast(Any, expression)"): "a default as pg_get_expr() of the server wrote it",
    ("refresh.py", "cast(Any, kind.sql_name)"): _OURS,
    ("refresh.py", "cast(Any, type_name)"): _OURS,
    ("refresh.py", "cast(Any, name)"): _OURS,
    ("sampling.py", "_literal(order.target.time_type.sql_name)"): _OURS,
    ("source.py", "cast(Any, column.cast)"): _TYPE,
    ("survey.py", "self._type"): _OURS,
    ("survey.py", "axis._type"): _OURS,
    ("survey.py", "cast(Any, _POSITION[kind])"): _OURS,
    ("survey.py", "cast(Any, self.where)"): "--where",
    ("window.py", "cast(Any, column.cast)"): _TYPE,
}
# Functions that send SQL, and which of their arguments it is.
_SENT = {"execute": 0, "executemany": 0, "copy": 0, "stream": 0, "fetch_one": 1, "counted": 1, "explain": 1}


def made_by_hand(node: ast.expr) -> bool:
    """Whether an expression makes a string of parts: an f-string, + or % on text, .format(), .join(), .replace()."""
    for part in parts_of(node):
        if isinstance(part, ast.JoinedStr) and any(isinstance(v, ast.FormattedValue) for v in part.values):
            return True
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add | ast.Mod):
            sides = (part.left, part.right)
            if any(isinstance(side, ast.Constant | ast.JoinedStr) for side in sides):
                return True
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
            on = part.func.value
            if part.func.attr in ("format", "format_map", "join") and isinstance(on, ast.Constant):
                return True
            # A resource is composed by sql.SQL(), not by the format() of its text.
            if part.func.attr in ("format", "format_map") and called(on) == "query":
                return True
            if part.func.attr in ("replace", "format_map", "translate", "removeprefix"):
                return True
    return False


def parts_of(node: ast.AST) -> Iterator[ast.AST]:
    """An expression and what it is made of, without what the driver quotes."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.Call) and called(child) in ("Identifier", "Literal")):
            yield from parts_of(child)


def called(node: ast.expr) -> str:
    """The name of the function that an expression calls, "" if it is no call."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def trusted(node: ast.expr) -> bool:
    """A literal, a resource, or a choice between such."""
    if isinstance(node, ast.IfExp):
        return trusted(node.body) and trusted(node.orelse)
    return isinstance(node, ast.Constant) or called(node) == "query"


def text_in(tree: ast.Module) -> Iterator[ast.expr]:
    """Expressions that become SQL and are neither literals, nor resources, nor composed by the driver."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    for scope in [tree, *functions]:
        values: dict[str, list[ast.expr]] = {}
        for node in ast.walk(scope):
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
                targets = [node.target]
            for target in targets:
                value = getattr(node, "value", None)
                if isinstance(target, ast.Name) and value is not None:
                    values.setdefault(target.id, []).append(value)
        for node in ast.walk(scope):
            if not isinstance(node, ast.Call):
                continue
            name, arguments = called(node), list(node.args)
            if name == "SQL" and not trusted(arguments[0]):
                yield arguments[0]
            if name in _SENT and len(arguments) > _SENT[name]:
                one = arguments[_SENT[name]]
                known = values.get(one.id, []) if isinstance(one, ast.Name) else [one]
                yield from (v for v in known if made_by_hand(v) or called(v) == "cast")


@pytest.mark.parametrize(
    "code",
    [
        "c.execute(f'SELECT {x}')",
        "c.execute('SELECT ' + x)",
        "c.execute('SELECT %s' % x)",
        "c.execute('SELECT {}'.format(x))",
        "c.execute(', '.join(x))",
        "c.execute(query('a/b').format(x))",
        "c.execute(query('a/b').replace('x', y))",
        "c.execute(cast(Any, x))",
        "with c.copy(f'COPY {x} FROM STDIN') as copy: pass",
        "fetch_one(c, f'SELECT {x}', [1])",
        "sql.SQL(x)",
        "sql.SQL(cast(Any, x))",
        "sql.SQL(f'{x}')",
        "def f():\n    s = 'SELECT '\n    s += f'{x}'\n    c.execute(s)",
        "def f():\n    if (s := 'SELECT ' + x): c.execute(s)",
    ],
)
def test_sql_made_by_hand_is_seen(code: str) -> None:
    assert list(text_in(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "c.execute('SELECT %s', [f'{x}'])",
        "c.execute(query('a/b'), {'x': x})",
        "c.execute(sql.SQL(query('a/b')).format(x=sql.Identifier(y), z=sql.SQL(', ').join(w)))",
        "sql.SQL('a' if x else query('b/c'))",
    ],
)
def test_sql_that_the_driver_composes_is_no_such_thing(code: str) -> None:
    assert not list(text_in(ast.parse(code)))


def test_no_sql_is_made_by_string_formatting() -> None:
    """Nowhere, with the listed exceptions; and what is listed is there."""
    found = {
        (path.name, ast.unparse(text))
        for path in PACKAGE.rglob("*.py")
        for text in text_in(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set(ALLOWED)
