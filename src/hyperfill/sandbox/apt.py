"""What this machine's apt is told about Debian: the mirror, the keys, and how to get there.

The mirror, proxies and credentials are the machine's own, so that the sandbox works behind whatever
the machine is behind. apt itself is asked, because it alone knows how to read both of its source
formats, its configuration fragments and their precedence.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from hyperfill.sandbox.errors import SandboxError

# What Debian's main archive is called by releases that we could meet. A third-party archive that
# uses the same names is told apart by its Origin, once its lists have been downloaded.
_CODENAMES = frozenset(("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid"))
_RELEASES = _CODENAMES | {"oldoldstable", "oldstable", "stable", "testing", "unstable"}
_KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg")
# How to fetch, and nothing else: a pinned release or a post-install hook of this machine has no
# business in a tree that is unpacked elsewhere.
_PASSED_ON = ("Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::Check-")


@dataclass(frozen=True)
class Target:
    """One line of `apt-get indextargets`: an archive, a release of it and a component."""

    uri: str
    release: str
    component: str
    origin: str
    label: str

    @property
    def score(self) -> int:
        """How sure we are that this is Debian's main archive; 0: it is not."""
        if self.component != "main" or "security" in self.uri:
            return 0
        if self.origin:
            return 9 if (self.origin, self.label) == ("Debian", "Debian") else 0
        if self.release not in _RELEASES:
            return 0
        # Lists not downloaded yet: only the address is left to judge by. Third parties put their
        # own archives for Debian at /someone/something/debian, so the shortest path wins.
        path = re.sub(r"^[a-z+]+:(//[^/]*)?", "", self.uri).strip("/")
        # Debian's cloud images: a file that lists mirrors.
        listed = self.uri.startswith("mirror+file:") and path.endswith("/debian.list")
        if path == "debian" or listed:
            return 8
        return 7 if "archive/debian" in path else max(1, 6 - path.count("/"))


def _run(*command: str) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    except FileNotFoundError:
        raise SandboxError(
            f"{command[0]} is not there: the embedded servers are unpacked from Debian's packages",
            hint="Set HYPERFILL_PG_BIN to the bin directory of a PostgreSQL that has TimescaleDB installed.",
        ) from None
    return done.stdout


def _targets() -> list[Target]:
    fields = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(ORIGIN)\t$(LABEL)"
    lines = _run("apt-get", "indextargets", "--format", fields, "Created-By: Packages").splitlines()
    targets = []
    for line in lines:
        # A field that apt knows nothing about is printed as it was asked for.
        values = ["" if value.startswith("$(") else value for value in line.split("\t")]
        if len(values) == len(fields.split("\t")):
            targets.append(Target(*values))
    return targets


def mirror() -> str:
    """The address of Debian's main archive in this machine's apt configuration.

    HYPERFILL_SANDBOX_MIRROR overrides it. Raises SandboxError where there is none, as on a machine
    that is not Debian.
    """
    if given := os.environ.get("HYPERFILL_SANDBOX_MIRROR"):
        return given
    best = max(_targets(), key=lambda target: target.score, default=None)
    if best is None or best.score == 0:
        raise SandboxError(
            "the apt configuration of this machine names no mirror of Debian's main archive",
            hint="Name one in HYPERFILL_SANDBOX_MIRROR, or set HYPERFILL_PG_BIN to the bin directory of a "
            "PostgreSQL that has TimescaleDB installed.",
        )
    return best.uri


def keyring() -> str:
    """The file with the keys of Debian's archive. Raises SandboxError where there is none."""
    for name in _KEYRINGS:
        if Path(name).exists():
            return name
    raise SandboxError(
        "the keys of Debian's archive are not on this machine",
        hint="Install the package debian-archive-keyring (`make setup` does, as root).",
    )


def options() -> str:
    """The machine's apt options that say how to fetch, as the text of an apt configuration file.

    May contain the password of a proxy: keep the file private.
    """
    dump = _run("apt-config", "dump").splitlines()
    kept = [line for line in dump if line.startswith(_PASSED_ON)]
    # mmdebstrap moves every folder of apt into the new tree; credentials stay where they are.
    for option, default in (("Dir::Etc::netrc", "auth.conf"), ("Dir::Etc::netrcparts", "auth.conf.d")):
        kept.append(f'{option} "/etc/apt/{default}";')
    return "\n".join(kept) + "\n"
