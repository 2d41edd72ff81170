"""How many applications are on their way at once in this process; the others wait in a line, and not for long.

Each is asked for, published and confirmed, in turns of one event loop: with too many at once all of them would be too
late for their deadline, and nobody would be served. With twice as many asking as two cores can serve, 0.03 of the best
rate was left without a line, 0.4 to 0.7 with one (docs/decisions/0029).
"""

import asyncio
import time
from collections import deque

from django.conf import settings

MAX_ON_THEIR_WAY = 128
"""As many as fill a pipeline to Redis. The others wait where waiting costs least: before anything is done for them."""
WAIT_OF_ACCEPT_TIMEOUT = 0.3
"""Longer, and it is refused: the rest of the accept timeout is for the way, for Kafka above all."""
LOOK_SEC = 0.05


class Line:
    """Of one event loop; first come, first served."""

    def __init__(self) -> None:
        self._wait_sec = WAIT_OF_ACCEPT_TIMEOUT * settings.ACCEPT_TIMEOUT_MS / 1000
        self._on_their_way = 0
        self._waiting: deque[tuple[float, asyncio.Future[bool]]] = deque()
        self._is_watched = False

    async def enter(self) -> bool:
        """False: refused. After True the caller must `leave`."""
        if self._on_their_way < MAX_ON_THEIR_WAY and not self._waiting:
            self._on_their_way += 1
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((time.monotonic() + self._wait_sec, waiter))
        if not self._is_watched:
            self._is_watched = True
            loop.call_later(LOOK_SEC, self._look)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                self.leave()
            raise

    def leave(self) -> None:
        self._on_their_way -= 1
        self._refuse_who_is_late()
        while self._waiting and self._on_their_way < MAX_ON_THEIR_WAY:
            _, waiter = self._waiting.popleft()
            if not waiter.done():  # cancelled: its client is gone
                self._on_their_way += 1
                waiter.set_result(True)

    def _look(self) -> None:
        """Also where nobody leaves, since a store hangs."""
        self._refuse_who_is_late()
        self._is_watched = bool(self._waiting)
        if self._is_watched:
            asyncio.get_running_loop().call_later(LOOK_SEC, self._look)

    def _refuse_who_is_late(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(False)
