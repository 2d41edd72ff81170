"""A circuit breaker: while a part hangs, nobody waits for it but a probe a second."""

import threading
import time
from collections.abc import Callable


class Breaker:
    """Opens after `failures` misses in a row; then `allow()` lets one caller through every `probe_sec`.

    A call that ended quickly, with whatever error, is neither a miss nor a success: it cost nobody a wait.

    Thread-safe. One success closes it. `clock` is monotonic, in seconds.
    """

    def __init__(self, *, failures: int, probe_sec: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._probe_sec = probe_sec
        self._clock = clock
        self._misses = 0
        self._next_probe_at = 0.0
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        return self._misses >= self._limit

    def allow(self) -> bool:
        """Whether the caller may wait for an acknowledgement; who may must call `succeeded` or `missed` afterwards."""
        if not self.is_open:
            return True
        with self._lock:
            now = self._clock()
            if now < self._next_probe_at:
                return False
            self._next_probe_at = now + self._probe_sec
            return True

    def succeeded(self) -> None:
        self._misses = 0

    def missed(self) -> None:
        with self._lock:
            self._misses += 1
            # From the end of the miss: a probe takes as long as the accept timeout, and is not to be the next at once.
            self._next_probe_at = self._clock() + self._probe_sec
