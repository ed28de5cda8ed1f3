"""Embedded PostgreSQL with TimescaleDB: for the demo, the tests, and to play with.

Nothing on the system changes: the binaries are unpacked into a cache folder, never installed, and
PostgreSQL never runs as root. See `packages` (where the binaries come from), `launch` (how they are
started), `server` (one server) and `pair` (the source and target of `hyperfill sandbox`).
"""

from hyperfill.sandbox.errors import SandboxError
from hyperfill.sandbox.pair import Sandbox, sandbox_start, sandbox_status, sandbox_stop
from hyperfill.sandbox.server import Server, create_server, open_server

__all__ = [
    "Sandbox",
    "SandboxError",
    "Server",
    "create_server",
    "open_server",
    "sandbox_start",
    "sandbox_status",
    "sandbox_stop",
]
