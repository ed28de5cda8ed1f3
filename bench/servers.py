"""The servers of the benchmarks and the programs that are measured: found or made, and what they say of themselves."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.measure import ServerCpu, run
from hyperfill.sandbox import Server, create_server

Connection = psycopg.Connection[tuple[Any, ...]]

PEER_VARIABLE = "HYPERFILL_BENCH_PEER"
PEER_NAME = "timescaledb-parallel-copy"

# Durable, as a server in use is. No checkpoint and no autovacuum falls into some runs and spares others.
SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    # On, for a load leaves most of ANALYZE to it where it is; but asleep for the hour.
    "autovacuum": "on",
    "autovacuum_naptime": "1h",
    # Counting and dropping a thousand chunks locks all of them at once.
    "max_locks_per_transaction": "512",
}
_TOLD = (*SETTINGS, "wal_level", "wal_compression", "jit", "max_connections")
_PLAIN = {"shared_preload_libraries": "", "wal_level": "replica"}  # nothing of TimescaleDB is loaded in the source


@dataclass
class End:
    """A database of a bench."""

    conninfo: str  # without the password: anyone may read command lines
    connection: Connection
    cpu: ServerCpu | None
    facts: dict[str, str]


@dataclass
class Programs:
    """What is measured: how it is started, and what it says of its version (None: it is missing)."""

    commands: dict[str, str]  # psql, peer, python
    versions: dict[str, str | None]  # psql, peer, hyperfill


def say(text: str) -> None:
    """What happens meanwhile; stdout belongs to the tables."""
    print(text, file=sys.stderr, flush=True)


def one(connection: Connection, statement: str | sql.Composed, parameters: Sequence[Any] | None = None) -> Any:
    """The first value of the first row."""
    return connection.execute(statement, parameters).fetchall()[0][0]


def server_facts(connection: Connection) -> dict[str, str]:
    """Versions and the settings that matter for speed."""
    names = [*_TOLD, "timescaledb.license"]
    settings = connection.execute("SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)", [names])
    facts = {"postgresql": one(connection, "SHOW server_version")}
    version = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    if version:
        facts["timescaledb"] = version[0]
    return {**facts, **dict(settings.fetchall())}


def machine_facts() -> dict[str, Any]:
    """Of the machine that all of it runs on."""
    facts = {"cores": os.cpu_count(), "system": platform.system(), "machine": platform.machine()}
    return {**facts, "python": platform.python_version()}


def described(facts: Mapping[str, str]) -> str:
    """A server in a line."""
    known = [f"{name} {facts[name]}" for name in ("postgresql", "timescaledb", "timescaledb.license") if name in facts]
    return f"{', '.join(known)}; {', '.join(f'{name} {facts[name]}' for name in SETTINGS)}; {os.cpu_count()} cores"


def now() -> str:
    """The time as results keep it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def positive(text: str) -> int:
    """An option's number: a benchmark of nothing would end well and say nothing."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"not a number above 0: {text}")
    return number


def add_options(parser: argparse.ArgumentParser, *, source: bool = True, peer: bool = True) -> None:
    """The options that every section has."""
    add = parser.add_argument
    if source:
        add("--source", metavar="CONNINFO", help="an existing server, as superuser (default: an embedded one)")
    add("--target", metavar="CONNINFO", help="an existing server, as superuser (default: an embedded one)")
    if peer:
        add("--peer", help=f"{PEER_NAME} (default: {PEER_VARIABLE}, or the one on PATH)")
        add("--psql", help="the psql to use (default: the servers' own, or the one on PATH)")
    add("--dir", type=Path, help="where files and servers go (default: a temporary folder)")
    add("--timeout", type=float, default=600, metavar="SECONDS", help="of one run")
    add("--json", type=Path, metavar="FILE", help="write everything measured there")


def programs(args: argparse.Namespace, folder: Path, env: Mapping[str, str]) -> Programs:
    """The programs to measure, each asked for its version."""
    peer = args.peer or os.environ.get(PEER_VARIABLE) or shutil.which(PEER_NAME) or PEER_NAME
    psql = args.psql or _own_psql(folder) or shutil.which("psql") or "psql"

    def said(*command: str) -> str | None:
        try:
            ran = run(command, env, 60)
        except OSError:
            return None
        return ran.said.splitlines()[-1] if ran.exit_code == 0 and ran.said else None

    # The peer says it through a logger, with the date; hyperfill says the number only.
    release = (said(peer, "-version") or "").partition(PEER_NAME)
    own = said(sys.executable, "-m", "hyperfill", "--version")
    versions = {
        "psql": said(psql, "--version"),
        "peer": "".join(release[1:]) or None,
        "hyperfill": f"hyperfill {own}" if own else None,
    }
    return Programs({"psql": psql, "peer": peer, "python": sys.executable}, versions)


def _own_psql(folder: Path) -> str | None:
    """The psql that came with the embedded servers; None where there is none.

    Debian's psql on PATH is a Perl script that looks for the right one, for longer than psql itself takes to start.
    """
    from hyperfill.sandbox.programs import find_programs

    found = find_programs()
    if found.tree is None:
        psql = found.bindir / "psql" if found.bindir else None
        return str(psql) if psql and os.access(psql, os.X_OK) else None
    root = found.tree.rootfs
    psql = root / found.tree.bindir.lstrip("/") / "psql"
    loaders = sorted((root / "usr/lib").glob("*/ld-linux*.so.*"))
    if not psql.exists() or not loaders:
        return None
    # A C library must match the loader that loads it, so the tree's own loader starts the program.
    script = folder / "psql"
    libraries = f"{loaders[0].parent}:{root / 'usr/lib'}"
    script.write_text(f'#!/bin/sh\nexec "{loaders[0]}" --inhibit-cache --library-path "{libraries}" "{psql}" "$@"\n')
    script.chmod(0o755)
    return str(script)


@contextlib.contextmanager
def database(given: str | None, folder: Path, *, timescaledb: bool = True, name: str = "") -> Iterator[str]:
    """A conninfo of a fresh database, on the given server or on an embedded one that is made in `folder`.

    `name`: the end of the database's name, where a bench has more than a source and a target.
    """
    server: Server | None = None
    if not given:
        settings = SETTINGS if timescaledb else {**SETTINGS, **_PLAIN}
        server = create_server(folder, settings=settings)
    try:
        if server:
            server.start()
        there = server.conninfo() if server else str(given)
        text = f"hyperfill_bench_{os.getpid()}_{name or ('target' if timescaledb else 'source')}"
        quoted = sql.Identifier(text)
        with psycopg.connect(there, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(quoted))
            try:
                conninfo = make_conninfo(there, dbname=text)
                if timescaledb:
                    with psycopg.connect(conninfo, autocommit=True) as connection:
                        connection.execute("SET client_min_messages = warning")
                        connection.execute("CREATE EXTENSION timescaledb")
                yield conninfo
            finally:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(quoted))
    finally:
        if server:
            server.remove()


@contextlib.contextmanager
def end(conninfo: str) -> Iterator[End]:
    """A connection of our own to a database, and what is known of its server."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        parts = conninfo_to_dict(conninfo)
        parts.pop("password", None)
        connection.execute("SET client_min_messages = warning")
        connection.execute("SET timezone = 'UTC'")
        yield End(make_conninfo("", **parts), connection, ServerCpu.of(connection), server_facts(connection))


@contextlib.contextmanager
def pair(args: argparse.Namespace, folder: Path) -> Iterator[tuple[End, End, dict[str, str]]]:
    """A source, a target, and the environment for programs that use them."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        infos = [
            stack.enter_context(database(args.source, folder / "source", timescaledb=False)),
            stack.enter_context(database(args.target, folder / "target")),
        ]
        source, target = (stack.enter_context(end(conninfo)) for conninfo in infos)
        yield source, target, environment(folder, infos)


def environment(folder: Path, conninfos: Sequence[str]) -> dict[str, str]:
    """Ours, with the passwords in a file that only we may read: two servers do not fit into PGPASSWORD."""
    lines = []
    for conninfo in conninfos:
        parts = conninfo_to_dict(conninfo)
        if parts.get("password"):
            with psycopg.connect(conninfo) as connection:
                info = connection.info
                fields = [info.host or "*", str(info.port), "*", info.user, str(parts["password"])]
            lines.append(":".join(re.sub(r"([\\:])", r"\\\1", text) if text != "*" else text for text in fields))
    env = {**os.environ, "NO_COLOR": "1"}
    if lines:
        file = folder / "passwords"
        file.touch(mode=0o600)
        file.write_text("\n".join(lines) + "\n")
        env["PGPASSFILE"] = str(file)
    return env


def wait_for_clients(connection: Connection, but: Sequence[int] = ()) -> None:
    """Until the command's backends are gone: what a worker of a killed client still does belongs to it.

    `but`: backends that stay, as ours does.
    """
    others = """SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND backend_type = 'client backend'
                  AND pid <> pg_backend_pid() AND pid <> ALL (%s::int[])"""
    deadline = time.monotonic() + 10
    while one(connection, others, [list(but)]) and time.monotonic() < deadline:
        time.sleep(0.005)


def digest(connection: Connection, relation: sql.Composable) -> str:
    """A hash over all rows that does not depend on their order; the same on both ends."""
    of_rows = "SELECT sum(hash_numeric_extended(hash_record_extended(t, 0)::numeric, 7))::text FROM {} t"
    return str(one(connection, sql.SQL(of_rows).format(relation)))
