"""Chooses free ports for a stack. The stack stores them and chooses again when another program has taken one."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Collection

from .errors import StackError

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen on the port of the loopback address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # like the servers, ignore closed connections of a previous server
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(
    *,
    first: int,
    count: int,
    seed: str,
    taken: Collection[int] = (),
    free: Callable[[int], bool] = is_free,
) -> int:
    """Chooses a free port of the range that is not `taken`.

    The seed (the stack's folder) determines where the search starts, so that two checkouts which start at the same
    time, or whose servers are stopped, rarely choose the same port.
    """
    start = zlib.crc32(seed.encode(errors="surrogateescape")) % count
    for step in range(count):
        port = first + (start + step) % count
        if port not in taken and free(port):
            return port
    raise StackError(
        f"no free port between {first} and {first + count - 1}; stop a program that listens there and try again"
    )
