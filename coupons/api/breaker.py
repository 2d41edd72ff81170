"""A circuit breaker: while a part hangs, nobody waits for it but a probe a second."""

import threading
import time
from collections.abc import Callable


class Breaker:
    """Opens after `failures` misses in a row that span `span_sec`; then `allow()` lets one caller through every
    `probe_sec`. Callers that waited side by side miss in one moment: that is one stall, and may be over by then.

    A call that ended quickly, with whatever error, is neither a miss nor a success: it cost nobody a wait.

    Thread-safe. One success closes it. `clock` is monotonic, in seconds.
    """

    def __init__(
        self, *, failures: int, span_sec: float, probe_sec: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._span_sec = span_sec
        self._probe_sec = probe_sec
        self._clock = clock
        self._misses = 0
        self._first_at = 0.0
        self.is_open = False
        self._next_probe_at = 0.0
        self._lock = threading.Lock()

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
        self._misses, self.is_open = 0, False

    def missed(self) -> None:
        with self._lock:
            now = self._clock()
            if not self._misses:
                self._first_at = now
            self._misses += 1
            self.is_open = self._misses >= self._limit and now - self._first_at >= self._span_sec
            # From the end of the miss: a probe takes as long as the accept timeout, and is not to be the next at once.
            self._next_probe_at = now + self._probe_sec
