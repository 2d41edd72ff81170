"""The gate in the event loop: what requests ask of Redis at the same time goes there in one pipeline.

Nobody waits for company: a request that is alone is asked for at once. What gathers is what comes while the pipelines
are under way, so the busier the process, the more to a round trip.
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
"""Under way at most: one is worked off while the other's answers are read."""
MAX_CALLS_PER_PIPELINE = 128
"""In one pipeline: Redis works off a few milliseconds of them, and a user of another process waits for it."""


class _QueuedCall(NamedTuple):
    call: Call[Any]
    answer: asyncio.Future[Any]


class AsyncGate:
    """Of one event loop. What applications have begun (`priority`) is asked before what is new."""

    def __init__(self) -> None:
        self._redis = loop_redis()
        self._new: deque[_QueuedCall] = deque()
        self._priority: deque[_QueuedCall] = deque()
        self._pipelines: set[asyncio.Task[None]] = set()

    async def ask(self, call: Call[T], *, priority: bool = False) -> T:
        """Raises GateUnavailable (it may have run all the same), and what the call's `read` raises."""
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
                # A server that let one batch run into a time-out would let each of them.
                self._fail_calls([*batch, *self._priority, *self._new], error)
                self._priority.clear()
                self._new.clear()
            except Exception as error:  # noqa: BLE001  a defect is the answer of those whom it met
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
            except Exception as error:  # noqa: BLE001  it is this caller's alone
                _set_exception(queued, error)
            else:
                if not queued.answer.done():
                    queued.answer.set_result(answer)

    async def _execute_pipeline(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        """The replies, of which some may be errors."""
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
