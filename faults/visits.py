"""Decides which user comes when, and how the users behave."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from faults.tally import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How the users behave. `request_timeout_sec` must be longer than the server's accept deadline.

    `repeat_share` of all visits come from users who were promised a coupon before, and `duplicate_share` of the new
    users send two requests at the same time. A user repeats for `give_up_after_sec`. `max_wait_sec` caps Retry-After.
    As many `shops` use the coupons of those who got one.
    """

    users_per_sec: float = 40.0
    connections: int = 16
    request_timeout_sec: float = 5.0
    max_wait_sec: float = 1.0
    give_up_after_sec: float = 120.0
    shops: int = 0
    repeat_share: float = 0.1
    duplicate_share: float = 0.05
    seed: int = 1


class Visit(NamedTuple):
    campaign_id: str
    user_id: str
    twice: bool = False


class Visits:
    """Schedules the visits of users."""

    def __init__(self, campaign_ids: Sequence[str], habits: Habits, name: str, tally: Tally) -> None:
        self._campaign_ids = campaign_ids
        self._habits = habits
        self._name = name
        self._tally = tally
        self._random = random.Random(habits.seed)
        self._number = 0
        self._due = time.monotonic()

    async def next(self, closing: asyncio.Event) -> Visit | None:
        """Waits for the next visit; None at the end. Does not catch up on visits missed in an outage."""
        self._due = max(self._due + 1 / self._habits.users_per_sec, time.monotonic())
        await wait_for(closing, self._due - time.monotonic())
        if closing.is_set():
            return None
        if self._tally.promised_users and self._random.random() < self._habits.repeat_share:
            return Visit(*self._random.choice(self._tally.promised_users))
        self._number += 1
        campaign_id = self._campaign_ids[self._number % len(self._campaign_ids)]
        return Visit(campaign_id, f"{self._name}{self._number}", self._random.random() < self._habits.duplicate_share)


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Waits for this time, or until the event."""
    if seconds <= 0:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
