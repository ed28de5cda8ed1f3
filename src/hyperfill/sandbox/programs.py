"""How PostgreSQL's programs are run on this machine: from where, as whom, and seeing what.

=================  ==============================  =========================================
                   an ordinary user                root
=================  ==============================  =========================================
unpacked tree      by the tree's own loader        chroot, as a user of its own
HYPERFILL_PG_BIN   as it is                        as `postgres` or `nobody`
=================  ==============================  =========================================

As root, the server's user cannot walk through a folder such as /root or pytest's temporary one to
reach its data. The data is therefore bound to a place inside the tree, in a mount namespace of the
server's own. Where even root may not mount (most containers), the data lives in the tree, and the
folder that the caller named holds a link to it.
"""

from __future__ import annotations

import functools
import json
import os
import pwd
import re
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hyperfill.sandbox import launch
from hyperfill.sandbox.errors import SandboxError
from hyperfill.sandbox.packages import SERVER_UID, Report, Tree, chosen_suite, ensure_tree, locked

# Where bound data appears. FHS: /srv in our own tree; /mnt is for temporary mounts, and it is only
# hidden from our own process.
_BOUND_IN_TREE = "/srv"
_BOUND_ON_HOST = "/mnt"


@dataclass(frozen=True)
class Launch:
    """What `launch.py` is to do before it becomes the program."""

    argv: list[str]
    env: dict[str, str]
    uid: int | None = None
    gid: int | None = None
    chroot: str | None = None
    binds: tuple[tuple[str, str], ...] = ()

    def command(self) -> list[str]:
        """The command line that does it. It holds no secret: anyone may read command lines."""
        return [sys.executable, "-I", launch.__file__, json.dumps(self.__dict__)]


@functools.cache
def may_mount() -> bool:
    """Whether this process could give a child a mount namespace of its own."""
    probe = [sys.executable, "-I", launch.__file__, '{"probe": true}']
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def is_root() -> bool:
    """Whether PostgreSQL would refuse to start as the current user."""
    return os.geteuid() == 0


@dataclass(frozen=True)
class Programs:
    """PostgreSQL's programs: of an unpacked tree, or of an installation in `bindir`."""

    major: int
    tree: Tree | None = None
    bindir: Path | None = None

    @property
    def owner(self) -> tuple[int, int] | None:
        """uid and gid that must own the data; None: whoever we are."""
        if not is_root():
            return None
        if self.tree:
            return SERVER_UID, SERVER_UID
        # initdb looks its user up, so it must be one that this system knows.
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return entry.pw_uid, entry.pw_gid
        raise SandboxError("PostgreSQL does not run as root, and this system has neither a user postgres nor nobody")

    def make_home(self, link: Path) -> None:
        """Make the folder for the server's files; `link` is where the caller wants it.

        Usually that is where it is. As root without the right to mount, `link` becomes a link.
        """
        if self.owner is None:
            link.mkdir(mode=0o700)
            return
        uid, gid = self.owner
        if may_mount() or self.tree is None:
            link.mkdir(mode=0o700)
        else:
            inside = self.tree.rootfs / "data"
            # Locked: what another process has just made, and not linked yet, must not be swept away.
            with locked(inside / "lock"):
                sweep(inside)
                name = secrets.token_hex(8)
                (inside / name).mkdir(mode=0o700)
                (inside / f"{name}.origin").write_text(str(link))
                link.symlink_to(inside / name)
        os.chown(link, uid, gid)

    def launch(self, program: str, home: Path, arguments: list[str]) -> Launch:
        """How to run a program with its data in `home`; in the arguments, `{home}` stands for that folder.

        Raises SandboxError where the server's user could not reach the data.
        """
        seen = str(home)
        chroot: str | None = None
        binds: tuple[tuple[str, str], ...] = ()
        directory = str(self.tree.native_bindir if self.tree else self.bindir)
        owner = self.owner
        if owner and self.tree:
            directory, chroot = self.tree.bindir, str(self.tree.rootfs)
            if home.is_symlink():
                seen = "/" + str(home.resolve().relative_to(self.tree.rootfs.resolve()))
            else:
                devices = tuple((f"/dev/{name}", f"{chroot}/dev/{name}") for name in ("null", "zero", "urandom"))
                binds, seen = ((str(home), chroot + _BOUND_IN_TREE), *devices), _BOUND_IN_TREE
        elif owner and not _reachable(home, *owner):
            if not may_mount():
                raise SandboxError(
                    f"the user that PostgreSQL runs as (uid {owner[0]}) cannot reach {home}",
                    hint="Name a folder whose parents may be entered by everyone, or run as an ordinary user.",
                )
            binds, seen = ((str(home), _BOUND_ON_HOST),), _BOUND_ON_HOST
        if owner and not self.tree and not _reachable(Path(directory), *owner):
            raise SandboxError(f"the user that PostgreSQL runs as (uid {owner[0]}) cannot reach {directory}")
        argv = [f"{directory}/{program}", *(argument.replace("{home}", seen) for argument in arguments)]
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "HOME": "/", "TZ": "UTC"}
        uid, gid = owner or (None, None)
        return Launch(argv, environment, uid, gid, chroot, binds)


def _reachable(path: Path, uid: int, gid: int) -> bool:
    """Whether that user could walk to the folder: execute permission on it and on all its parents."""
    for folder in (path.resolve(), *path.resolve().parents):
        status = folder.stat()
        shift = 6 if status.st_uid == uid else 3 if status.st_gid == gid else 0
        if not (status.st_mode >> shift) & 1:
            return False
    return True


def sweep(inside: Path) -> None:
    """Delete data in a tree whose link is gone: pytest and people delete folders, and know nothing of ours."""
    for note in inside.glob("*.origin"):
        home = note.with_suffix("")
        link = Path(note.read_text())
        if home.exists() and not (link.is_symlink() and link.resolve() == home.resolve()) and not _in_use(home):
            shutil.rmtree(home, ignore_errors=True)
        if not home.exists():
            note.unlink(missing_ok=True)


def _in_use(home: Path) -> bool:
    from hyperfill.sandbox.processes import running_in

    return bool(running_in(home / "pgdata"))


def find_programs(suite: str | None = None, report: Report | None = None) -> Programs:
    """The programs to use: of the given suite; or of HYPERFILL_PG_BIN; or of the default suite.

    Unpacks a tree into the cache when needed. Raises SandboxError.
    """
    installed = os.environ.get("HYPERFILL_PG_BIN")
    if installed and not suite:
        return installed_programs(Path(installed))
    tree = ensure_tree(chosen_suite(suite), report)
    return Programs(tree.major, tree=tree)


def installed_programs(bindir: Path) -> Programs:
    """An installation that is already there. Raises SandboxError if it lacks a program or TimescaleDB."""
    hint = "HYPERFILL_PG_BIN must be the bin directory of a PostgreSQL that has TimescaleDB installed."
    bindir = bindir.absolute()
    for program in ("postgres", "initdb"):
        if not os.access(bindir / program, os.X_OK):
            raise SandboxError(f"there is no program {program} in {bindir}", hint=hint)
    version = _output(bindir / "postgres", "--version")
    found = re.search(r"\) (\d+)", version)
    if not found:
        raise SandboxError(f"{bindir / 'postgres'} --version says {version.strip()!r}", hint=hint)
    # The last one is Debian's layout, where pg_config is in another package.
    debian = bindir.parents[3] / "share/postgresql" / found[1] if len(bindir.parents) > 3 else bindir
    shares = [bindir.parent / "share", bindir.parent / "share/postgresql", debian]
    if os.access(bindir / "pg_config", os.X_OK):
        shares.insert(0, Path(_output(bindir / "pg_config", "--sharedir").strip()))
    if not any((share / "extension/timescaledb.control").exists() for share in shares):
        looked = ", ".join(str(share / "extension") for share in shares)
        raise SandboxError(f"PostgreSQL {found[1]} in {bindir} has no TimescaleDB (looked in {looked})", hint=hint)
    return Programs(int(found[1]), bindir=bindir)


def _output(program: Path, argument: str) -> str:
    ended = subprocess.run([program, argument], capture_output=True, text=True, check=False)
    # A program that cannot be started (a missing library) says so on stderr.
    return ended.stdout or ended.stderr
