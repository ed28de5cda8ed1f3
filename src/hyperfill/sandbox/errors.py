"""What can go wrong with the embedded servers."""

from hyperfill.errors import HyperfillError


class SandboxError(HyperfillError):
    """An embedded server could not be unpacked, created, started or stopped."""
