"""Limits the rate of a worker (`--max-rate`), and spaces its retries."""

import random
import time
from collections.abc import Callable


class RateLimit:
    """A token bucket that holds at most one second's messages. `rate` is in messages/s, 0 = no limit."""

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._tokens = 0.0
        self._filled_at = clock()

    def allowance(self, wanted: int) -> int:
        if not self._rate:
            return wanted
        self._fill()
        return min(wanted, int(self._tokens))

    def take(self, count: int) -> None:
        """Counts messages as taken now. They may have been allowed long before: a poll waits for its first message."""
        self._fill()
        self._tokens -= count

    def _fill(self) -> None:
        now = self._clock()
        # The bucket holds at least one whole message, or a rate below 1 would let none through.
        capacity = max(self._rate, 1.0)
        self._tokens = min(self._tokens + (now - self._filled_at) * self._rate, capacity)
        self._filled_at = now

    def wait_sec(self) -> float:
        return max((1 - self._tokens) / self._rate, 0.0) if self._rate else 0.0


class Backoff:
    """Delays that double from `first_sec` to `cap_sec`, each shortened at random by up to half."""

    def __init__(self, *, first_sec: float, cap_sec: float) -> None:
        self._first_sec = first_sec
        self._cap_sec = cap_sec
        self._delay_sec = first_sec

    def next_delay_sec(self) -> float:
        delay = self._delay_sec
        self._delay_sec = min(2 * delay, self._cap_sec)
        return random.uniform(delay / 2, delay)

    def reset(self) -> None:
        self._delay_sec = self._first_sec
