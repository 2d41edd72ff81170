"""The line before the way of an application: first come, first served, and nobody waits for long."""

import asyncio

import pytest
from django.conf import LazySettings

from coupons.front.overload import MAX_IN_PROGRESS, MAX_WAIT_SHARE, Line, line_of_applications


@pytest.fixture(autouse=True)
def _short(settings: LazySettings) -> None:
    settings.ACCEPT_TIMEOUT_MS = 500


async def full_line() -> Line:
    line = line_of_applications()
    assert not any([await line.enter() for _ in range(MAX_IN_PROGRESS)])
    return line


def test_as_many_as_fit_are_admitted_at_once() -> None:
    async def run() -> None:
        line = await full_line()
        first, second = (asyncio.create_task(line.enter()) for _ in range(2))
        await asyncio.sleep(0)
        line.leave()
        assert await first == ""
        assert not second.done()
        line.leave()
        assert await second == ""

    asyncio.run(run())


def test_whoever_waits_too_long_is_refused_though_nobody_leaves() -> None:
    async def run() -> None:
        line = await full_line()
        began = asyncio.get_running_loop().time()
        assert await asyncio.gather(*(line.enter() for _ in range(3))) == ["late"] * 3
        assert asyncio.get_running_loop().time() - began >= 0.5 * MAX_WAIT_SHARE - 0.01

        line.leave()
        assert not await line.enter(), "the line goes on"

    asyncio.run(run())


def test_a_client_that_went_away_takes_nobodys_place() -> None:
    async def run() -> None:
        line = await full_line()
        gone, stays, goes_later = (asyncio.create_task(line.enter()) for _ in range(3))
        await asyncio.sleep(0)
        gone.cancel()
        line.leave()
        assert await stays == ""

        line.leave()  # the third one's place
        goes_later.cancel()  # before it has heard of it
        with pytest.raises(asyncio.CancelledError):
            await goes_later
        assert not await line.enter(), "its place is free again"

    asyncio.run(run())


def test_a_line_may_be_full() -> None:
    async def run() -> None:
        line = Line("pages", places=1, wait_sec=60, max_waiting=1)
        assert await line.enter() == ""
        waits = asyncio.create_task(line.enter())
        await asyncio.sleep(0)
        assert await line.enter() == "full"
        line.leave()
        assert await waits == ""

    asyncio.run(run())
