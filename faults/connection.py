"""A client's connection through the proxy, and socket functions for a reset that loses no other bytes."""

import asyncio
import contextlib
import fcntl
import socket
import sys
import termios
import time
from enum import Flag, auto
from typing import Any

LOOPBACK = "127.0.0.1"


class Direction(Flag):
    REQUESTS = auto()
    ANSWERS = auto()
    BOTH = REQUESTS | ANSWERS


class Connection:
    """Both ends of a client's connection, and the directions in which the proxy dropped bytes."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.writers = [client]
        self.lost: set[Direction] = set()
        self.carrying: asyncio.Future[Any] | None = None
        self._heard_at = time.monotonic()
        self._is_forgotten = False

    def is_forgotten(self, after_sec: float) -> bool:
        """Whether it was ever silent for longer until now, when bytes have come."""
        now = time.monotonic()
        self._is_forgotten |= now - self._heard_at > after_sec
        self._heard_at = now
        return self._is_forgotten

    def reset(self) -> None:
        for writer in self.writers:
            with contextlib.suppress(OSError):  # closed already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            writer.transport.abort()
        if self.carrying is not None:
            self.carrying.cancel()  # also ends a direction that waits for another rule

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
        for writer in self.writers:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


async def flush(writer: asyncio.StreamWriter) -> None:
    """Waits until the peer's kernel has the written bytes, for a second at most: a RST would discard them."""
    writer.transport.set_write_buffer_limits(high=0)
    await writer.drain()
    for _ in range(1_000):
        if not int.from_bytes(fcntl.ioctl(writer.get_extra_info("socket"), termios.TIOCOUTQ, bytes(4)), sys.byteorder):
            return
        await asyncio.sleep(0.001)


_RST = b"\1\0\0\0\0\0\0\0"  # struct linger { on, 0 seconds }


def bound_socket(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind((LOOPBACK, port))
    except OSError:
        made.close()
        raise
    return made
