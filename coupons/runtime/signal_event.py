"""An event that a signal handler may set.

`threading.Event` has a non-reentrant lock. A handler interrupts the main thread anywhere: if that is inside `wait`, the
thread may hold the lock, and the handler's `set` would wait for it for ever.
"""

import threading
import time
from math import inf

LOOK_INTERVAL_SEC = 0.05


class SignalEvent(threading.Event):
    """Needs no lock: a thread that waits looks every 50 ms."""

    def __init__(self) -> None:
        super().__init__()
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        deadline = inf if timeout is None else time.monotonic() + timeout
        while not self._is_set and (left_sec := deadline - time.monotonic()) > 0:
            time.sleep(min(left_sec, LOOK_INTERVAL_SEC))
        return self._is_set
