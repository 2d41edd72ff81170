"""The event loop's clients: of the gate in Redis, and of the publisher, whose thread reports what Kafka has."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from redis.exceptions import NoScriptError

from coupons.admission.scripts import OUTAGE, Call, loop_redis
from coupons.messaging.messages import Ticket
from coupons.messaging.positions import Position
from coupons.messaging.producer import publisher
from coupons.runtime.failpoints import WEB_PRODUCED, failpoint

T = TypeVar("T")
MAX_PIPELINES = 2
"""Redis works on one while the event loop reads the replies of the other."""
MAX_CALLS_PER_PIPELINE = 128
"""Redis works a few milliseconds on such a batch, and the calls of other processes wait meanwhile."""


class _QueuedCall(NamedTuple):
    call: Call[Any]
    answer: asyncio.Future[Any]

    def resolve(self, reply: Any) -> None:
        if self.answer.done():  # cancelled: the client has disconnected
            return
        try:
            self.answer.set_result(self.call.answer(reply))
        except Exception as error:  # noqa: BLE001  it concerns this call alone
            self.answer.set_exception(error)


class AsyncGate:
    """Sends the concurrent calls of one event loop in pipelines. A call that is alone is sent at once. Calls gather
    only while pipelines are under way, so the busier the process, the larger its batches.
    """

    def __init__(self) -> None:
        self._redis = loop_redis()
        self._waiting: deque[_QueuedCall] = deque()
        self._pipelines: set[asyncio.Task[None]] = set()

    async def ask(self, call: Call[T]) -> T:
        """Raises GateUnavailable (the script may have run all the same), and what the call's `read` raises."""
        queued = _QueuedCall(call, asyncio.get_running_loop().create_future())
        self._waiting.append(queued)
        if len(self._pipelines) < MAX_PIPELINES:
            pipeline = asyncio.create_task(self._run_batches())
            self._pipelines.add(pipeline)
            pipeline.add_done_callback(self._pipelines.discard)
        answer: T = await queued.answer
        return answer

    async def close(self) -> None:
        await self._redis.aclose()

    async def _run_batches(self) -> None:
        while batch := self._next_batch():
            try:
                replies = await self._run_batch([queued.call for queued in batch])
            except Exception as error:  # noqa: BLE001  each call raises it; the loop goes on
                if isinstance(error, OUTAGE):
                    # Redis hangs: the calls behind this batch would time out one batch after the other.
                    batch += self._waiting
                    self._waiting.clear()
                replies = [error] * len(batch)
            for queued, reply in zip(batch, replies, strict=True):
                queued.resolve(reply)

    def _next_batch(self) -> list[_QueuedCall]:
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_CALLS_PER_PIPELINE))]

    async def _run_batch(self, calls: Sequence[Call[Any]]) -> list[Any]:
        replies = await self._execute_pipeline([call.command for call in calls])
        forgotten = [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if forgotten:  # after a restart or SCRIPT FLUSH
            again = await self._execute_pipeline([calls[number].command_with_script for number in forgotten])
            for number, reply in zip(forgotten, again, strict=True):
                replies[number] = reply
        return replies

    async def _execute_pipeline(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        """Returns the replies; errors are among them, not raised."""
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies


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
