"""Coalesces the concurrent Redis calls of an event loop into pipelined batches.

A call that is alone is sent at once. Calls gather only while pipelines are under way, so the busier the process, the
larger its batches.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from redis.exceptions import NoScriptError, RedisError

from coupons.admission.scripts import BROKEN_TRANSPORT, Call, loop_redis
from coupons.errors import GateUnavailable

T = TypeVar("T")
MAX_PIPELINES = 2
"""Redis works on one while the event loop reads the replies of the other."""
MAX_CALLS_PER_PIPELINE = 128
"""Redis works a few milliseconds on such a batch, and the calls of other processes wait meanwhile."""


class _QueuedCall(NamedTuple):
    call: Call[Any]
    answer: asyncio.Future[Any]


class AsyncGate:
    """Belongs to one event loop. Calls with `priority`, of applications that are in progress, go before new ones."""

    def __init__(self) -> None:
        self._redis = loop_redis()
        self._new: deque[_QueuedCall] = deque()
        self._priority: deque[_QueuedCall] = deque()
        self._pipelines: set[asyncio.Task[None]] = set()

    async def ask(self, call: Call[T], *, priority: bool = False) -> T:
        """Raises GateUnavailable (the script may have run all the same), and what the call's `read` raises."""
        queued = _QueuedCall(call, asyncio.get_running_loop().create_future())
        (self._priority if priority else self._new).append(queued)
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
                await self._run_batch(batch)
            except (RedisError, BROKEN_TRANSPORT) as error:
                # Redis hangs: the calls behind this batch would time out one batch after the other.
                self._fail_calls([*batch, *self._priority, *self._new], error)
                self._priority.clear()
                self._new.clear()
            except Exception as error:  # noqa: BLE001  a defect fails the calls of its batch, not the loop
                for queued in batch:
                    _set_exception(queued, error)

    def _next_batch(self) -> list[_QueuedCall]:
        batch: list[_QueuedCall] = []
        for line in (self._priority, self._new):
            while line and len(batch) < MAX_CALLS_PER_PIPELINE:
                batch.append(line.popleft())
        return batch

    async def _run_batch(self, batch: Sequence[_QueuedCall]) -> None:
        replies = await self._execute_pipeline([queued.call.command for queued in batch])
        forgotten = [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if forgotten:  # after a restart or SCRIPT FLUSH
            again = await self._execute_pipeline([batch[number].call.command_with_script for number in forgotten])
            for number, reply in zip(forgotten, again, strict=True):
                replies[number] = reply
        for queued, reply in zip(batch, replies, strict=True):
            try:
                answer = queued.call.answer(reply)
            except Exception as error:  # noqa: BLE001  it concerns this call alone
                _set_exception(queued, error)
            else:
                if not queued.answer.done():
                    queued.answer.set_result(answer)

    async def _execute_pipeline(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        """Returns the replies; errors are among them, not raised."""
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    def _fail_calls(self, calls: Sequence[_QueuedCall], cause: Exception) -> None:
        for queued in calls:
            error = GateUnavailable(f"Redis, script {queued.call.name}: {cause}")
            error.__cause__ = cause
            _set_exception(queued, error)


def _set_exception(queued: _QueuedCall, error: Exception) -> None:
    if not queued.answer.done():
        queued.answer.set_exception(error)
