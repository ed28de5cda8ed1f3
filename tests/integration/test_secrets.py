"""Passwords: wherever they were said, nobody reads them again. What errors say is tried in test_run_cli as well."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo as pq_conninfo

from hyperfill.early import hide_secrets
from tests.fixtures import scenes
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import Background, T, execute, make_metrics, until, windows_done
from tests.fixtures.servers import Servers

SECRET = "Ge_heim%1"


def without_password(conninfo: str) -> tuple[str, str]:
    """The conninfo without its password, and the password."""
    parts = pq_conninfo.conninfo_to_dict(conninfo)
    return pq_conninfo.make_conninfo("", **{k: v for k, v in parts.items() if k != "password"}), str(parts["password"])


def everything_in(conninfo: str, schema: str) -> str:
    """Each row of each table of a schema, as text."""
    names = scenes.rows(
        conninfo,
        "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables WHERE schemaname = %s",
        schema,
    )
    assert len(names) > 8
    return "\n".join(str(scenes.rows(conninfo, f"SELECT t::text FROM {name} AS t")) for (name,) in names)


def sessions(conninfo: str) -> str:
    """All that a superuser sees of sessions in this database."""
    found = scenes.rows(conninfo, "SELECT a::text FROM pg_stat_activity AS a WHERE datname = current_database()")
    return "\n".join(row[0] for row in found)


@pytest.mark.parametrize("how", ["variable", "passfile", "service"])
def test_a_password_is_read_by_nobody(
    how: str,
    hyperfill: Hyperfill,
    source_db: str,
    target_db: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The source's from libpq's own places, the target's from HYPERFILL_TARGET, while a run works and afterwards."""
    make_metrics(source_db, target_db, days=4)
    execute(target_db, "ALTER TABLE metrics ADD CONSTRAINT not_333 CHECK (id <> 333)")
    source, first = without_password(source_db)
    second = without_password(target_db)[1]
    secrets = (first, second)
    assert len({*secrets}) == 2
    parts = {k: str(v) for k, v in pq_conninfo.conninfo_to_dict(source_db).items()}
    match how:
        case "variable":
            monkeypatch.setenv("PGPASSWORD", first)
        case "passfile":
            passfile = tmp_path / "passwords"
            passfile.write_text(f"*:{parts['port']}:*:*:{first}\n")
            passfile.chmod(0o600)
            source = scenes.with_options(source, passfile=str(passfile))
        case "service":
            services = tmp_path / "services"
            services.write_text("[old]\n" + "".join(f"{k}={v}\n" for k, v in parts.items()))
            monkeypatch.setenv("PGSERVICEFILE", str(services))
            source = "service=old"
    monkeypatch.setenv("HYPERFILL_SOURCE", source)
    monkeypatch.setenv("HYPERFILL_TARGET", target_db)
    options = ("--table", "public.metrics", "--end", T)
    slow = ("--jobs", "2", "--max-rate", "4kB", "--json")
    run = Background.start(tmp_path, "run", *options, *slow)
    try:
        until(lambda: windows_done(target_db) and len(run.workers()) == 2)
        texts = ""
        members = run.members()
        assert len(members) >= 3
        for pid in members:
            texts += Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        texts += sessions(source_db) + sessions(target_db)
        assert "hyperfill/1/" in texts
        for command in (("status",), ("plan", *options)):
            texts += (ended := hyperfill(*command, "--json")).stdout + ended.stderr
        assert run.wait() == 4
    finally:
        run.end()
    texts += run.stdout + run.stderr + everything_in(target_db, "hyperfill")
    for out in ("page.html", "page.md", "page.json"):
        ended = hyperfill("report", "--backfill", "1", "--out", str(tmp_path / out))
        assert ended.returncode == 0, ended.stderr
        texts += ended.stdout + ended.stderr + (tmp_path / out).read_text()
    assert "not_333" in texts
    for secret in secrets:
        assert secret not in texts


def commands(source: str, target: str, folder: Path) -> Iterator[list[str]]:
    """Every command that connects."""
    moved = ["--source", source, "--target", target, "--table", "metrics"]
    for name in ("run", "plan", "verify", "repair"):
        yield [name, *moved, "--end", T]
    yield ["dump", "--source", source, "--table", "metrics", "--end", T, "--out", str(folder / "dump")]
    (folder / "rows.csv").write_text("2024-01-01Z,1,1,x\n")
    yield ["load", "--target", target, "--hypertable", "metrics", str(folder / "rows.csv")]
    yield ["suggest-end", *moved]
    yield ["status", "--target", target]
    yield ["clean", "--target", target]
    yield ["report", "--target", target, "--backfill", "1", "--out", str(folder / "page.md")]
    for name in ("show", "hold", "release"):
        yield ["policies", name, "--target", target, "--hypertable", "metrics"]
    yield ["copy", "-connection", target, "-table", "metrics", "-file", str(folder / "rows.csv")]


def test_no_command_shows_a_password_in_an_error_or_a_traceback(
    hyperfill: Hyperfill, target_db: str, tmp_path: Path
) -> None:
    parts = {k: str(v) for k, v in pq_conninfo.conninfo_to_dict(target_db).items()} | {"password": SECRET}
    host, port, name = parts["host"], parts["port"], parts["dbname"]
    broken = itertools.cycle(
        (
            pq_conninfo.make_conninfo("", **parts),
            pq_conninfo.make_conninfo("", **{**parts, "port": "1"}),
            f"host={host} password='{SECRET}",
            f"postgresql://postgres:{SECRET}%zz@{host}:{port}/{name}",
            f"host={host} port={port} password={SECRET} sslmode=maybe",
        )
    )
    for command in commands("", "", tmp_path):
        conninfo = next(broken)
        words = [conninfo if word == "" else word for word in command]
        ended = hyperfill(*words, env={"HYPERFILL_TRACEBACK": "1"})
        shown = ended.stdout + ended.stderr
        assert ended.returncode in (1, 2, 3), (words[0], ended.returncode, shown)
        assert SECRET not in shown, (words[0], conninfo)
        assert "cannot connect" in shown or "cannot be parsed" in shown, (words[0], conninfo, shown)


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--source", "host=h", f"password={SECRET}"),
        ("run", f"postgresql://u:{SECRET}@h/d"),
        ("run", f"--soruce=postgresql://u:{SECRET}@h/d"),
        (f"postgresql://u:{SECRET}@h/d",),
        ("run", "--jobs", f"postgresql://h/d?user=u&password={SECRET}"),
        ("status", f"host=h password='{SECRET} x'"),
    ],
)
def test_a_password_in_the_wrong_place_is_not_repeated(words: tuple[str, ...], hyperfill: Hyperfill) -> None:
    ended = hyperfill(*words, "--json")
    assert ended.returncode == 2, ended.stderr
    assert json.loads(ended.stdout)["state"] == "refused"
    assert SECRET not in ended.stdout + ended.stderr, ended.stderr


def test_what_is_no_secret_is_shown() -> None:
    for text in ("--end 2024-01-01T00:00:00Z: no", "postgresql://u@h:1/d", "Unused Tokens: ['a=b']"):
        assert hide_secrets(text) == text
    assert hide_secrets("['host=h', 'password=a'] b") == "['host=h', 'password=*** b"


def test_no_statement_holds_a_password(hyperfill: Hyperfill, source_db: str, target_db: str, servers: Servers) -> None:
    """In the servers' own logs of everything that is sent."""
    make_metrics(source_db, target_db, days=1)
    for side in (source_db, target_db):
        with psycopg.connect(side, autocommit=True) as connection:
            name = connection.execute("SELECT quote_ident(current_database())").fetchone()
            assert name
            connection.execute(f"ALTER DATABASE {name[0]} SET log_statement = 'all'")  # type: ignore[arg-type,unused-ignore]
    ended = hyperfill("run", *scenes.arguments(source_db, target_db))
    assert ended.returncode == 0, ended.stderr
    for server, conninfo in zip(servers, (source_db, target_db), strict=True):
        text = server.log.read_text(errors="replace")
        assert "COPY (SELECT" in text or 'COPY "public"' in text
        assert without_password(conninfo)[1] not in text
