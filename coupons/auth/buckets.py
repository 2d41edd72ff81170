"""Token buckets in bounded memory: how often somebody may do something, counted in this process.

DRF's throttles pickle a list of times into a cache at every request, and the `limits` package keeps every key it has
ever seen until a timer passes; a crowd of invented users is what this must stand. So: one small record a key, the least
recently used forgotten first.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple


class Taken(NamedTuple):
    """What is left after this one, and after how many seconds one more is to be had (0 = now)."""

    allowed: bool
    limit: int
    left: int
    wait_sec: float


class Buckets:
    """`limit` in a minute for each key, all at once after a quiet minute, then one every 60/limit seconds.

    Holds `capacity` keys. A forgotten key starts anew with a full bucket: whoever makes others be forgotten must come
    with `capacity` names of their own, each of which is one more request that something else limits.
    """

    def __init__(self, *, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._filled: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # key -> tokens, at which time

    def __len__(self) -> int:
        return len(self._filled)

    def take(self, key: Hashable, *, limit: int) -> Taken:
        """One token of the key's bucket, if there is one."""
        rate = limit / 60
        with self._lock:
            now = self._clock()
            tokens, at = self._filled.pop(key, (float(limit), now))
            tokens = min(float(limit), tokens + (now - at) * rate)
            allowed = tokens >= 1
            if allowed:
                tokens -= 1
            self._filled[key] = (tokens, now)
            if len(self._filled) > self._capacity:
                self._filled.popitem(last=False)
        wait_sec = 0.0 if tokens >= 1 else (1 - tokens) / rate
        return Taken(allowed, limit, math.floor(tokens), wait_sec)

    def clear(self) -> None:
        with self._lock:
            self._filled.clear()
