"""Become a PostgreSQL program: the last thing that happens before `exec`.

This file is run as a script, by path, in a process of its own, and therefore imports nothing but
the standard library. A `preexec_fn` would do the same in fewer lines, but runs between fork and
exec of a process that may have threads, where a lock held by another thread is a deadlock.

The argument is a JSON object (see `Launch` in programs.py). What the process needs root for, it
does first: a private mount namespace, which disappears with the process and which nobody else
sees, so that the data folder of the caller appears inside the unpacked tree. Then it gives
root up for good.
"""

import ctypes
import json
import os
import sys

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
PR_SET_NO_NEW_PRIVS = 38

EXIT_NOT_STARTED = 70


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def private_mounts() -> None:
    """A mount namespace of our own. Needs CAP_SYS_ADMIN, which root in a container often lacks.

    Raises OSError where that is not allowed.
    """
    _call("unshare", CLONE_NEWNS)
    # Slave, not private: what the system unmounts must not be kept busy by us.
    _call("mount", b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None)


def bind(source: str, destination: str) -> None:
    """Make `source` visible at `destination`, in this mount namespace only."""
    flags = ctypes.c_ulong(MS_BIND)
    _call("mount", os.fsencode(source), os.fsencode(destination), None, flags, None)


def main(text: str) -> None:
    """Do what the JSON object says, and become the program. Returns only when probing."""
    spec = json.loads(text)
    if spec.get("probe"):
        private_mounts()
        return
    os.umask(0o077)
    # Whatever our parents left open (a lock, a pipe that somebody reads to its end) is not the server's.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if spec["binds"]:
        private_mounts()
        for source, destination in spec["binds"]:
            bind(source, destination)
    if spec["chroot"]:
        os.chroot(spec["chroot"])
    os.chdir("/")
    if spec["uid"] is not None:
        os.setgroups([])
        os.setresgid(spec["gid"], spec["gid"], spec["gid"])
        os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.execve(spec["argv"][0], spec["argv"], spec["env"])


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except OSError as error:
        print(f"could not start: {error}", file=sys.stderr)
        sys.exit(EXIT_NOT_STARTED)
