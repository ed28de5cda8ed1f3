"""Servers with certificates: libpq verifies them as it was asked to, and nothing tries again with less."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hyperfill.relay import relay
from hyperfill.sandbox import Server, create_server
from hyperfill.session import connect
from hyperfill.splice import possible
from tests.fixtures.cli import Hyperfill
from tests.fixtures.scenes import arguments, assert_equal_below, make_metrics, with_options
from tests.fixtures.servers import SETTINGS

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


@dataclass
class Certified:
    """A server whose certificate is for "localhost" and signed by `authority`; `stranger` signed nothing of it."""

    server: Server
    authority: Path
    stranger: Path

    def conninfo(self, authority: Path, host: str = "localhost") -> str:
        options = {"host": host, "sslmode": "verify-full", "sslrootcert": str(authority)}
        return with_options(self.server.conninfo(), **options)

    def admitted(self) -> list[str]:
        """What the server's log says of connections that got in."""
        return [line for line in self.server.log.read_text().splitlines() if "connection authorized" in line]


def openssl(folder: Path, *words: str) -> None:
    done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certified]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("authority", "stranger"):
        out = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
        openssl(folder, "req", "-x509", *_NEW_KEY, *out, "-subj", f"/CN={name}")
    openssl(folder, "req", *_NEW_KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName = DNS:localhost\n")
    signed = ("-CA", "authority.crt", "-CAkey", "authority.key", "-CAcreateserial", "-extfile", "names")
    openssl(folder, "x509", "-req", "-in", "server.csr", "-out", "server.crt", "-days", "2", *signed)
    files = {"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
    server = create_server(folder / "data", settings={**SETTINGS, **files, "log_connections": "on"})
    try:
        for name in ("server.crt", "server.key"):
            there = server.pgdata / name
            shutil.copy(folder / name, there)
            there.chmod(0o600)
            owner = server.pgdata.stat()
            os.chown(there, owner.st_uid, owner.st_gid)
        server.start()
        yield Certified(server, folder / "authority.crt", folder / "stranger.crt")
    finally:
        server.remove()


def test_a_certificate_that_is_right_is_taken_on_every_connection(
    certified: Certified, hyperfill: Hyperfill, target_db: str
) -> None:
    make_metrics(certified.server.conninfo(), target_db, days=2)
    before = len(certified.admitted())
    source = certified.conninfo(certified.authority)
    ended = hyperfill("run", *arguments(source, target_db, "--jobs", "2"))
    assert ended.returncode == 0, ended.stderr
    admitted = certified.admitted()[before:]
    assert len(admitted) >= 4, "preflight, two workers, and comparing"
    assert all("SSL enabled" in line for line in admitted)
    assert_equal_below(certified.server.conninfo(), target_db)


def test_rows_of_an_encrypted_connection_are_left_to_libpq(
    certified: Certified, source_db: str, target_db: str
) -> None:
    out, into = b"COPY (SELECT generate_series(1, 9000)) TO STDOUT", b"COPY public.n FROM STDIN"
    with connect(source_db, "source") as plain, connect(target_db, "target") as target:
        target.execute("CREATE TABLE public.n (i int)")
        assert possible(plain.pgconn, target.pgconn)
        with connect(certified.conninfo(certified.authority), "source") as encrypted:
            assert not possible(encrypted.pgconn, target.pgconn)
            assert not possible(plain.pgconn, encrypted.pgconn)
            assert relay(encrypted.pgconn, target.pgconn, out, into).rows_taken == 9000


def test_a_certificate_that_is_wrong_is_refused_and_nothing_less_is_tried(
    certified: Certified, hyperfill: Hyperfill, source_db: str, target_db: str
) -> None:
    before = certified.admitted()
    wrong = certified.conninfo(certified.stranger)
    elsewhere = certified.conninfo(certified.authority, host="127.0.0.1")
    missing = certified.conninfo(certified.authority.with_name("no such file.crt"))
    plain = with_options(target_db, sslmode="require")
    for bad, reason in (
        (wrong, "certificate verify failed"),
        (elsewhere, 'server certificate for "localhost"'),
        (missing, "no such file.crt"),
        (plain, "server does not support SSL"),
    ):
        ended = hyperfill("status", "--target", bad)
        assert ended.returncode == 3, ended.stderr
        assert "cannot connect to the target" in ended.stderr and reason in ended.stderr, ended.stderr
        assert "Traceback" not in ended.stderr
    ended = hyperfill("plan", *arguments(wrong, target_db))
    assert ended.returncode == 3
    shown = ended.stdout + ended.stderr  # a plan shows what stands against it on stdout
    assert "cannot connect to the source" in shown and "certificate verify failed" in shown
    assert certified.admitted() == before
