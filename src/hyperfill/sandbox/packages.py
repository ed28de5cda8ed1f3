"""PostgreSQL with TimescaleDB, unpacked from Debian's packages into a cache folder.

Nothing is installed: `mmdebstrap --variant=extract` downloads, checks signatures and unpacks, and no
maintainer script runs. What those scripts would have made, and we need, is made in `_complete`. It
needs no privileges, and nothing on the system changes.

A tree looks like this::

    <cache>/trixie/rootfs/         what the packages contain
    <cache>/trixie/native/usr/     the same programs, to be run without a chroot (see `_native`)
    <cache>/trixie/tree.json       written last
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hyperfill.sandbox import apt
from hyperfill.sandbox.errors import SandboxError

Report = Callable[[str], None]

# Which PostgreSQL each suite has. TimescaleDB came into Debian with trixie.
SUITES = {"trixie": 17, "forky": 18, "sid": 18}
DEFAULT_SUITE = "trixie"

# Folders and links of the file system's layout, a shell for initdb, the C.UTF-8 locale, time zones.
_BASE = "base-files,base-passwd,coreutils,dash,libc-bin,tzdata"

# Raised when trees made by older versions of this module no longer fit.
_FORMAT = 1

# A number that neither Debian nor adduser gives to anyone by itself. It owns the servers' data
# when root starts them, and nothing else.
SERVER_UID = 64_917

_HINT = "Or set HYPERFILL_PG_BIN to the bin directory of a PostgreSQL that has TimescaleDB: then nothing is unpacked."


@dataclass(frozen=True)
class Tree:
    """An unpacked PostgreSQL."""

    suite: str
    home: Path
    major: int
    postgres: str  # full version
    timescaledb: str

    @property
    def rootfs(self) -> Path:
        return self.home / "rootfs"

    @property
    def bindir(self) -> str:
        """Where the programs are, seen from inside a chroot."""
        return f"/usr/lib/postgresql/{self.major}/bin"

    @property
    def native_bindir(self) -> Path:
        """Where the programs are that run without a chroot."""
        return self.home / "native" / self.bindir.lstrip("/")


def cache_dir() -> Path:
    """XDG_CACHE_HOME/hyperfill, or ~/.cache/hyperfill."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification wants relative paths ignored.
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "hyperfill"


def chosen_suite(suite: str | None = None) -> str:
    """The given suite, or HYPERFILL_SANDBOX_SUITE, or the default. Raises SandboxError for an unknown one."""
    name = suite or os.environ.get("HYPERFILL_SANDBOX_SUITE") or DEFAULT_SUITE
    if name not in SUITES:
        raise SandboxError(
            f"no embedded server comes from the Debian suite {name!r}", hint=f"Known: {', '.join(SUITES)}."
        )
    return name


def ensure_tree(suite: str | None = None, report: Report | None = None) -> Tree:
    """The unpacked PostgreSQL of a suite; downloaded and unpacked when it is not in the cache.

    Safe to call from several processes: the first one unpacks, the others wait. Raises SandboxError.
    """
    name = chosen_suite(suite)
    home = cache_dir() / name
    if tree := _read(name, home):
        return tree
    home.parent.mkdir(parents=True, exist_ok=True)
    with locked(home.parent / f"{name}.lock"):
        if tree := _read(name, home):
            return tree
        if report:
            report(f"unpacking PostgreSQL {SUITES[name]} with TimescaleDB from Debian {name}: about 15 s, 450 MB")
        _build(name, home)
    tree = _read(name, home)
    if tree is None:
        raise SandboxError(f"the tree unpacked into {home} is not complete", hint=_HINT)
    return tree


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file while the block runs. The kernel releases it if we are killed."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(suite: str, home: Path) -> Tree | None:
    try:
        facts = json.loads((home / "tree.json").read_text())
    except (OSError, ValueError):
        return None
    if facts.get("format") != _FORMAT:
        return None
    return Tree(suite, home, facts["major"], facts["postgres"], facts["timescaledb"])


def _build(suite: str, home: Path) -> None:
    # Beside its final place, so that the rename is one: a tree is complete or not there.
    for left_over in home.parent.glob(f"{suite}.new-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=f"{suite}.new-", dir=home.parent))
    try:
        new.chmod(0o755)
        _unpack(suite, new)
        facts = _complete(suite, new)
        _native(new, facts["major"])
        (new / "tree.json").write_text(json.dumps(facts, indent=1))
        shutil.rmtree(home, ignore_errors=True)
        new.rename(home)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _unpack(suite: str, new: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise SandboxError(
            "mmdebstrap is not installed: it unpacks the embedded servers from Debian's packages",
            hint=f"As root: apt-get install mmdebstrap debian-archive-keyring (`make setup` does). {_HINT}",
        )
    major = SUITES[suite]
    packages = f"{_BASE},postgresql-{major},postgresql-{major}-timescaledb"
    conf = new / "apt.conf"
    conf.touch(mode=0o600)
    # sid's own signature is valid for a week: a mirror or a snapshot may well be older.
    stale = 'Acquire::Check-Valid-Until "false";\n' if suite == "sid" else ""
    conf.write_text(apt.options() + stale)
    source = f"deb [signed-by={apt.keyring()}] {apt.mirror()} {suite} main"
    command = ["mmdebstrap", "--variant=extract", f"--include={packages}", f"--aptopt={conf}"]
    # chrootless: extracting needs neither root nor a user namespace, and then the tree is ours to delete.
    command += ["--mode=chrootless", "--quiet", suite, str(new / "rootfs"), source]
    # /sbin is not in an ordinary user's PATH, and dpkg insists on finding ldconfig there.
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": path}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, check=False
    )
    conf.unlink()
    if done.returncode != 0:
        # apt prints addresses, and an address can carry a password.
        said = re.sub(r"//[^@/\s]*@", "//", "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:]))
        raise SandboxError(f"unpacking PostgreSQL from Debian {suite} failed; mmdebstrap said:\n{said}", hint=_HINT)


def _complete(suite: str, new: Path) -> dict[str, str | int]:
    """Make what the maintainer scripts, which did not run, would have made. Returns the facts for tree.json."""
    root = new / "rootfs"
    # Sources and options of apt, possibly with a proxy's password, have no use any more.
    shutil.rmtree(root / "etc/apt", ignore_errors=True)
    shell = root / "usr/bin/sh"
    if not shell.exists():
        shell.unlink(missing_ok=True)
        shell.symlink_to("dash")
    # initdb looks its own user up, whatever it is told to call the superuser.
    (root / "etc/passwd").write_text(f"root:x:0:0::/:/bin/sh\npostgres:x:{SERVER_UID}:{SERVER_UID}::/:/bin/sh\n")
    (root / "etc/group").write_text(f"root:x:0:\npostgres:x:{SERVER_UID}:\n")
    # Device nodes need root to be made and a file system that allows them. Empty files do: where
    # mounts are allowed, the real devices are bound over them; where not, initdb's output goes into
    # a file, and random numbers come from a system call anyway.
    device = root / "dev"
    device.mkdir(exist_ok=True)
    for name in ("null", "zero", "urandom"):
        shutil.rmtree(device / name, ignore_errors=True)
        (device / name).unlink(missing_ok=True)
        (device / name).touch()
        (device / name).chmod(0o666)
    (device / "shm").mkdir(exist_ok=True)
    for path, mode in ((device / "shm", 0o1777), (root / "tmp", 0o1777), (root / "srv", 0o755), (root / "data", 0o711)):
        path.mkdir(exist_ok=True)
        path.chmod(mode)
    major = SUITES[suite]
    control = root / f"usr/share/postgresql/{major}/extension/timescaledb.control"
    try:
        version = re.search(r"default_version\s*=\s*'([^']+)'", control.read_text())
    except OSError:
        raise SandboxError(f"Debian {suite} did not deliver PostgreSQL {major} with TimescaleDB", hint=_HINT) from None
    return {
        "format": _FORMAT,
        "suite": suite,
        "major": major,
        "postgres": _package_version(root, f"postgresql-{major}"),
        "timescaledb": version[1] if version else "?",
    }


def _package_version(root: Path, package: str) -> str:
    """From the package's changelog; the package database is empty, because nothing was installed."""
    import gzip

    changelog = root / f"usr/share/doc/{package}/changelog.Debian.gz"
    try:
        with gzip.open(changelog, "rt") as lines:
            found = re.search(r"\(([^)]+)\)", lines.readline())
    except OSError:
        return "?"
    return found[1] if found else "?"


# A C library must match the loader that loads it, so the tree's own loader starts the program.
# --argv0: PostgreSQL finds its files relative to the name that it was started with.
# The host's library cache must not be asked: it knows other builds of the same libraries.
_WRAPPER = """\
#!/bin/sh
here=${{0%/*}}
root=$here/../../../../../../rootfs
LOCPATH=$root/usr/lib/locale exec "$root/{loader}" --inhibit-cache \\
    --library-path "$root/{libraries}:$root/usr/lib" --argv0 "$0" "$root{bindir}/{program}" "$@"
"""


def _native(new: Path, major: str | int) -> None:
    """Programs that run without a chroot, and therefore without any privileges.

    PostgreSQL is relocatable: it looks for its files relative to its own program. A small script in
    a folder of the same shape, with links to the rest, is all that is needed.
    """
    root = new / "rootfs"
    loaders = sorted((root / "usr/lib").glob("*/ld-linux*.so.*"))
    if not loaders:
        raise SandboxError("the unpacked tree has no dynamic loader", hint=_HINT)
    libraries = loaders[0].parent.relative_to(root)
    bindir = f"/usr/lib/postgresql/{major}/bin"
    bin_ = new / "native" / bindir.lstrip("/")
    bin_.mkdir(parents=True)
    share = new / f"native/usr/share/postgresql/{major}"
    share.parent.mkdir(parents=True)
    share.symlink_to(f"../../../../rootfs/usr/share/postgresql/{major}")
    (bin_.parent / "lib").symlink_to(f"../../../../../rootfs/usr/lib/postgresql/{major}/lib")
    for program in ("postgres", "initdb"):
        script = bin_ / program
        loader = loaders[0].relative_to(root)
        script.write_text(_WRAPPER.format(loader=loader, libraries=libraries, bindir=bindir, program=program))
        script.chmod(0o755)
