"""Random CSV on a real server: one COPY of all bytes against one of each piece: the same rows, or an error in both."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from hyperfill.csvrows import Scanner
from hyperfill.dialect import Dialect
from hyperfill.splitter import CsvError, Splitter, fields_of, row_spans
from tests.fixtures.pair import Pair

Connection = psycopg.Connection[tuple[object, ...]]
Rows = list[tuple[object, ...]]

# Two columns, or one and a delimiter that never occurs: then most of any bytes is valid.
NEVER = "\x01"
DIALECTS = [
    Dialect(),
    Dialect(delimiter=NEVER),
    Dialect(delimiter=NEVER, escape="\\"),
    Dialect(escape="\\", null="x"),
    Dialect(delimiter=NEVER, quote="'", escape='"'),
    Dialect(delimiter=NEVER, quote="\\"),
    Dialect(delimiter=NEVER, quote=".", escape="\\"),
    Dialect(escape=","),
]
TOKENS = [b"x", b'"', b"'", b"\\", b".", b",", b"\n", b"\r", b"\r\n", b'""', b"\\.", b"\0", b"\xff", b"x" * 50]
TOKENS += [b"\\.\n", b"\n\\.\n", b"\r\n\\.\r\n", b"\r\\.\r", b'"\n"', b'"x\ny"', b"'x\r\ny'", b'\\"', b"\\\\"]

quiet = settings(
    deadline=None,
    max_examples=700,
    # The server and its table are the same for all examples; each ends with a rollback.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def table(dialect: Dialect) -> str:
    return "one" if dialect.delimiter == NEVER else "two"


@pytest.fixture
def loading(pair: Pair) -> Connection:
    pair.on_target(
        "CREATE TABLE one (n bigserial, a text)",
        "CREATE TABLE two (n bigserial, a text, b text)",
        "CREATE TABLE four (n bigserial, a text, b text, c text, d text)",
    )
    return pair.target


def load(connection: Connection, dialect: Dialect, pieces: list[bytes], columns: str = "") -> tuple[Rows, list[int]]:
    """Rows after a COPY of each piece, in order, and what each COPY counted; all of it is rolled back."""
    columns = columns or ("a" if table(dialect) == "one" else "a, b")
    name = {"a": "one", "a, b": "two", "a, b, c, d": "four"}[columns]
    statement = sql.SQL("COPY {} ({}) FROM STDIN ({})").format(
        sql.Identifier(name), sql.SQL(columns), dialect.copy_options()
    )
    counts = []
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        for piece in pieces:
            with cursor.copy(statement) as copy:
                copy.write(piece)
            counts.append(cursor.rowcount)
        return connection.execute(f"SELECT {columns} FROM {name} ORDER BY n").fetchall(), counts


@contextmanager
def small(size: int) -> Iterator[None]:
    before = Splitter.READ, Scanner.CHUNK, Scanner.WALK
    Splitter.READ, Scanner.CHUNK, Scanner.WALK = size, size, min(size, 4)
    try:
        yield
    finally:
        Splitter.READ, Scanner.CHUNK, Scanner.WALK = before


@st.composite
def contents(draw: st.DrawFn) -> tuple[Dialect, bytes]:
    """Noise, or rows as a program writes them, whole or with something thrown in."""
    dialect = draw(st.sampled_from(DIALECTS))
    noise = st.lists(st.sampled_from(TOKENS), max_size=25).map(b"".join)
    if draw(st.integers(0, 2)) == 0:
        return dialect, draw(noise)
    eol = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    quote, escape = dialect.quote.encode(), chr(dialect.escape_byte).encode()

    def quoted(value: bytes) -> bytes:
        value = value.replace(b"\0", b"").replace(b"\xff", b"").replace(escape, escape * 2)
        return quote + (value if escape == quote else value.replace(quote, escape + quote)) + quote

    plain = st.sampled_from([v for v in (b"", b"x", b"1.5", b"\\.", b"y" * 30) if quote not in v])
    field = plain | noise.map(quoted)
    width = 1 if dialect.delimiter == NEVER else 2
    rows = draw(st.lists(st.lists(field, min_size=width, max_size=width), max_size=10))
    data = b"".join(dialect.delimiter.encode().join(row) + eol for row in rows)
    if draw(st.booleans()):
        data = data.removesuffix(eol)
    if draw(st.integers(0, 2)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from(TOKENS)) + data[at:]
    return dialect, data


@quiet
@given(contents(), st.integers(1, 90), st.none() | st.integers(1, 4), st.integers(1, 90))
@example((Dialect(), b"a,b\r\n\\.\r\nc,d\r\n"), 1, None, 9)
@example((Dialect(), b"a,b\r\n\\.\nc,d\r\n"), 1, None, 9)
@example((Dialect(delimiter=NEVER), b"a\rb\r\n"), 1, 1, 9)
@example((Dialect(delimiter=NEVER), b"a\nb\r\n"), 1, 1, 9)
@example((Dialect(delimiter=NEVER), b"a\nb\r"), 1, 1, 9)
@example((Dialect(delimiter=NEVER), b"a\r\nb\n"), 1, 1, 9)
@example((Dialect(delimiter=NEVER), b"a\n\\."), 1, 1, 9)
@example((Dialect(delimiter=NEVER), b'"\n\\.\n"\n\\'), 1, 1, 9)
def test_pieces_bring_what_the_whole_brings(
    loading: Connection, content: tuple[Dialect, bytes], max_bytes: int, max_rows: int | None, size: int
) -> None:
    dialect, data = content
    try:
        whole, (count,) = load(loading, dialect, [data])
        failed = False
    except psycopg.Error:
        failed = True
    with small(size):
        splitter = Splitter(io.BytesIO(data).read, dialect, max_bytes=max_bytes, max_rows=max_rows)
        try:
            pieces = list(splitter.pieces())
        except CsvError as error:
            if not failed:
                # The one thing that we refuse and the server does not: what is behind the marker would be lost.
                assert "ends the data" in str(error) or dialect.quote in "\\."
                assert data[error.offset : error.offset + 3] in (b"\\.\n", b"\\.\r")
                before = load(loading, dialect, [data[: error.offset]])[0]
                if loading.info.server_version < 180000 and dialect.quote not in "\\.":
                    assert before == whole
                assert before == whole[: len(before)]
            return
    assert b"".join(p.data for p in pieces) == data
    try:
        found, counts = load(loading, dialect, [p.data for p in pieces])
    except psycopg.Error:
        assert failed
        return
    assert not failed
    assert found == whole
    assert counts == [p.rows for p in pieces]
    assert sum(counts) == count
    if data:
        rows = [data[a:b] for a, b in row_spans(data, dialect, splitter.eol or b"\n")]
        assert load(loading, dialect, rows)[0] == whole


ENCODINGS = {
    "UTF8": "größe,|\\x",
    "LATIN1": "größe,|\\x",
    "SJIS": "漏ポソ十,|x",  # bytes of these look like | and \
    "GB18030": "名㐂,|0",
}


@st.composite
def headers(draw: st.DrawFn) -> tuple[Dialect, str]:
    encoding = draw(st.sampled_from(sorted(ENCODINGS)))
    escape = draw(st.sampled_from([None, "\\"] if encoding in ("UTF8", "LATIN1") else [None, "!"]))
    dialect = Dialect(delimiter=draw(st.sampled_from(",|")), escape=escape, encoding=encoding)
    mark = dialect.escape or dialect.quote
    letters = ENCODINGS[encoding]
    values = draw(st.lists(st.text(letters + '"\r\n.', max_size=8), min_size=4, max_size=4))
    written = []
    for value in values:
        inside = value.replace(mark, mark * 2)
        written.append(f'"{inside if mark == dialect.quote else inside.replace(dialect.quote, mark + dialect.quote)}"')
    unquoted = st.text([c for c in letters if c != dialect.delimiter], max_size=4)
    index = draw(st.integers(0, 3))
    written[index] = draw(unquoted) + written[index] + draw(unquoted)
    written[draw(st.integers(0, 3))] = draw(unquoted)
    return dialect, dialect.delimiter.join(written) + draw(st.sampled_from(["", "\n", "\r\n", "\r"]))


@settings(quiet, max_examples=300)
@given(headers())
def test_a_header_is_read_as_the_server_reads_it(loading: Connection, content: tuple[Dialect, str]) -> None:
    dialect, text = content
    data = text.encode({"SJIS": "cp932", "LATIN1": "latin-1"}.get(dialect.encoding, dialect.encoding))
    rows, _ = load(loading, dialect, [data], "a, b, c, d")
    splitter = Splitter(io.BytesIO(data).read, dialect)
    assert splitter.header() == [value or "" for value in rows[0]]
    assert list(splitter.pieces()) == []
    if dialect.encoding == "UTF8":
        read = [v.decode() if v or quoted else None for v, quoted in fields_of(data, dialect, splitter.eol or b"")]
        assert read == list(rows[0])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\n\\.\nb\n", ["a"]),
        (b"\\.\r\nb\r\n", []),
        (b"a\r\\.\rb\r", ["a"]),
        (b"a\n\\.", ["a", "\\."]),
        (b"\\.", ["\\."]),
        (b'"a\n\\.\nb"\nc\n', ["a\n\\.\nb", "c"]),
        (b'"a\r\n\\.\r\nb"\r\nc\r\n', ["a\r\n\\.\r\nb", "c"]),
        (b'"\\."\n\\.x\n""\\.\n', ["\\.", "\\.x", "\\."]),
    ],
)
def test_what_the_server_makes_of_the_end_marker(loading: Connection, data: bytes, expected: list[str]) -> None:
    """The facts behind it. From 18 on all of it is data, and refusing is still what keeps a file meaning one thing."""
    dialect = Dialect(delimiter=NEVER)
    values = [row[0] for row in load(loading, dialect, [data])[0]]
    if loading.info.server_version < 180000:
        assert values == expected
    try:
        pieces = list(Splitter(io.BytesIO(data).read, dialect).pieces())
        assert [row[0] for row in load(loading, dialect, [p.data for p in pieces])[0]] == expected
    except CsvError:
        assert data != b"" and b"\\.\n" in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def test_half_a_million_rows_in_odd_pieces(pair: Pair) -> None:
    """Nothing is lost at the real sizes of blocks, with line breaks in every third row."""
    pair.on_target("CREATE TABLE t (i int PRIMARY KEY, x text)")
    data = b"".join(b'%d,"a ""quoted""\r\nvalue"\n' % i if i % 3 == 0 else b"%d,plain\n" % i for i in range(500_000))
    pieces = list(Splitter(io.BytesIO(data).read, Dialect(), max_bytes=1_000_003).pieces())
    assert len(pieces) > 5
    assert sum(p.rows for p in pieces) == 500_000
    with pair.target.cursor() as cursor:
        for piece in reversed(pieces):
            with cursor.copy("COPY t FROM STDIN (FORMAT csv)") as copy:
                copy.write(piece.data)
            assert cursor.rowcount == piece.rows
    summary = "SELECT count(*), sum(i::bigint), count(*) FILTER (WHERE x = E'a \"quoted\"\\r\\nvalue') FROM t"
    assert pair.query(pair.target, summary) == [(500_000, sum(range(500_000)), 166_667)]
