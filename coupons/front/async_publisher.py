"""Publishes tickets from an event loop, which awaits the delivery report of each message."""

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
    """Belongs to one event loop. Reports arrive in the producer's thread; one wake-up of the loop serves many."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reports: deque[tuple[asyncio.Future[Position | None], Future[Position | None]]] = deque()
        self._is_wakeup_scheduled = False

    async def publish(self, ticket: Ticket, *, timeout_sec: float) -> Position | None:
        """Publishes like `Publisher.publish`. Raises LogUnavailable, or TimeoutError when no report came in time."""
        waiter: asyncio.Future[Position | None] = self._loop.create_future()
        # `asyncio.timeout`, here and for the body, took 17 % of the loop's time (docs/decisions/0029).
        timer = self._loop.call_later(timeout_sec, _time_out, waiter)
        publisher().publish(ticket).add_done_callback(partial(self._queue_report, waiter))
        failpoint(WEB_PRODUCED)
        try:
            return await waiter
        finally:
            timer.cancel()

    def _queue_report(self, waiter: asyncio.Future[Position | None], delivered: Future[Position | None]) -> None:
        self._reports.append((waiter, delivered))
        if not self._is_wakeup_scheduled:
            self._is_wakeup_scheduled = True
            with suppress(RuntimeError):  # the loop is closed, as the process ends: no request waits
                self._loop.call_soon_threadsafe(self._resolve_reports)

    def _resolve_reports(self) -> None:
        self._is_wakeup_scheduled = False  # before the reports are read: a later one schedules a new wake-up
        while self._reports:
            waiter, delivered = self._reports.popleft()
            error = delivered.exception()
            if waiter.done():  # its deadline has passed
                continue
            if error is None:
                waiter.set_result(delivered.result())
            else:
                waiter.set_exception(error)


def _time_out(waiter: asyncio.Future[Position | None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
