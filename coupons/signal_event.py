"""An event that a signal handler may set.

`threading.Event` has a lock that is not reentrant. A handler runs in the main thread, between two steps of whatever
that is doing: within `wait` it may hold that lock, and `set` would wait for it for ever.
"""

import threading
from contextlib import suppress
from queue import Empty, SimpleQueue


class SignalEvent(threading.Event):
    """`SimpleQueue.put` is made for this: it may interrupt a `get` of its own thread."""

    def __init__(self) -> None:
        super().__init__()
        self._is_set = False
        self._wake: SimpleQueue[None] = SimpleQueue()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._wake.put(None)

    def clear(self) -> None:
        self._is_set = False
        with suppress(Empty):
            while True:
                self._wake.get_nowait()

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            with suppress(Empty):
                self._wake.get(timeout=timeout)
                self._wake.put(None)  # for whoever waits as well
        return self._is_set
