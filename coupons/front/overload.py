"""Limits how many requests a process works on at once; the others wait in a line for a short time.

All applications share one event loop: with too many at once, all of them would miss their deadline. At twice the load
that two cores can serve, 0.03 of the best rate was left without a line, and about ten times as much with one
(docs/decisions/0029).
"""

import asyncio
import time
from collections import deque
from math import inf

from django.conf import settings

from coupons.metrics import QUEUE_SECONDS

MAX_IN_PROGRESS = 128
"""As many as fill a pipeline to Redis. The others wait where it costs least: before any work is done for them."""
MAX_WAIT_SHARE = 0.4
"""The share of the accept timeout that an application may wait; the rest is for its work, for Kafka above all."""
CHECK_SEC = 0.05


def line_of_applications() -> "Line":
    return Line("applications", places=MAX_IN_PROGRESS, wait_sec=MAX_WAIT_SHARE * settings.ACCEPT_TIMEOUT_MS / 1000)


class Line:
    """Requests that wait for one of `places`. Belongs to one event loop; serves first come, first served."""

    def __init__(self, name: str, *, places: int, wait_sec: float, max_waiting: float = inf) -> None:
        self._places = places
        self._wait_sec = wait_sec
        self._max_waiting = max_waiting
        self._in_progress = 0
        self._waiting: deque[tuple[float, asyncio.Future[bool]]] = deque()
        self._is_check_scheduled = False
        self._waits = QUEUE_SECONDS.labels(name)

    async def enter(self) -> str:
        """Returns "" for a place, which the caller must `leave`. Else returns why there is none: `full` (the line is)
        or `late` (the wait was too long)."""
        if self._in_progress < self._places and not self._waiting:
            self._in_progress += 1
            return ""
        if len(self._waiting) >= self._max_waiting:
            return "full"
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((time.monotonic() + self._wait_sec, waiter))
        if not self._is_check_scheduled:
            self._is_check_scheduled = True
            loop.call_later(CHECK_SEC, self._check_waiting)
        try:
            with self._waits.time():
                return "" if await waiter else "late"
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                self.leave()
            raise

    def leave(self) -> None:
        self._in_progress -= 1
        self._refuse_overdue()
        while self._waiting and self._in_progress < self._places:
            _, waiter = self._waiting.popleft()
            if not waiter.done():  # cancelled: the client has disconnected
                self._in_progress += 1
                waiter.set_result(True)

    def _check_waiting(self) -> None:
        """Refuses overdue requests also while a store hangs and none leaves."""
        self._refuse_overdue()
        self._is_check_scheduled = bool(self._waiting)
        if self._is_check_scheduled:
            asyncio.get_running_loop().call_later(CHECK_SEC, self._check_waiting)

    def _refuse_overdue(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(False)
