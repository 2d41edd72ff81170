"""Ports of a stack's own: free when chosen, remembered, chosen again when somebody else took one."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Collection

from .errors import StackError

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen on the port of the loopback address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # as servers do: the closed connections of a former one are no obstacle
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
    """A free port of the range that is not `taken`.

    The search starts at a place that the seed (the stack's folder) decides, so that two checkouts which start
    at the same moment, or whose servers are stopped, rarely want the same one.
    """
    start = zlib.crc32(seed.encode(errors="surrogateescape")) % count
    for step in range(count):
        port = first + (start + step) % count
        if port not in taken and free(port):
            return port
    raise StackError(f"no free port between {first} and {first + count - 1}; end what listens there, then try again")
