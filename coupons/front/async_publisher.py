"""The log in the event loop: a winner awaits the report of its own message."""

import asyncio
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

from coupons.messaging.messages import Ticket
from coupons.messaging.positions import Position
from coupons.messaging.producer import publisher
from coupons.runtime.failpoints import WEB_PRODUCED, failpoint


class AsyncPublisher:
    """Of one event loop. Reports come in the producer's thread; those that come together wake the loop once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reported: deque[tuple[asyncio.Future[Position | None], Future[Position | None]]] = deque()
        self._is_woken = False

    async def publish(self, ticket: Ticket, *, timeout_sec: float) -> Position | None:
        """As the publisher does. Raises LogUnavailable, or TimeoutError when there was no report in time."""
        awaited: asyncio.Future[Position | None] = self._loop.create_future()
        # A timer of its own: `asyncio.timeout` here and for the body was 17 % of the loop's time (docs/decisions/0029).
        too_late = self._loop.call_later(timeout_sec, _give_up, awaited)
        publisher().publish(ticket).add_done_callback(partial(self._report, awaited))
        failpoint(WEB_PRODUCED)
        try:
            return await awaited
        finally:
            too_late.cancel()

    def _report(self, awaited: asyncio.Future[Position | None], delivered: Future[Position | None]) -> None:
        self._reported.append((awaited, delivered))
        if not self._is_woken:
            self._is_woken = True
            with suppress(RuntimeError):  # the loop has ended: the process does, and nobody waits
                self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        self._is_woken = False  # before looking: what comes meanwhile wakes again
        while self._reported:
            awaited, delivered = self._reported.popleft()
            error = delivered.exception()
            if awaited.done():  # its deadline has passed
                continue
            if error is None:
                awaited.set_result(delivered.result())
            else:
                awaited.set_exception(error)


def _give_up(awaited: asyncio.Future[Position | None]) -> None:
    if not awaited.done():
        awaited.set_exception(TimeoutError())
