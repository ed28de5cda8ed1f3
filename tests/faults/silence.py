"""A socket that hears nothing any more.

The socket drops every packet before TCP sees it, so that not even keepalives are acknowledged: what a machine without
power looks like from the other end. Just not to read would not do, because the system would answer for us.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import socket
import struct
import termios
import time

_SO_ATTACH_FILTER = 26


def acknowledged(one: socket.socket, seconds: float = 1.0) -> None:
    """Wait until the peer has everything: what it had not would be sent again and again, a sign of life."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        left = array.array("i", [0])
        fcntl.ioctl(one, termios.TIOCOUTQ, left)
        if left[0] == 0:
            return
        time.sleep(0.005)


def silence(one: socket.socket) -> None:
    """Drop every packet that comes from now on, before TCP sees it: nothing is acknowledged any more."""
    # One instruction of the classic packet filter: keep 0 bytes.
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(program)))
