"""An event that a signal handler may set.

`threading.Event` has a lock that is not reentrant. A handler runs in the main thread, between two steps of whatever
that is doing: within `wait` it may hold that lock, and `set` would wait for it for ever.
"""

import os
import select
import threading
from contextlib import suppress
from math import ceil


class SignalEvent(threading.Event):
    """A pipe wakes whoever waits.

    `SimpleQueue`, whose `put` a handler may call, is none for it: in CPython 3.11 `get` outlasts its time-out for ever
    when its thread stands still at the wrong moment.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_set = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def __del__(self) -> None:
        os.close(self._read)
        os.close(self._write)

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        with suppress(BlockingIOError):  # it is full, so whoever waits is woken
            os.write(self._write, b"1")

    def clear(self) -> None:
        self._is_set = False
        with suppress(BlockingIOError):
            while True:
                os.read(self._read, 4096)

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            waiting = select.poll()  # one of its own: several threads may wait
            waiting.register(self._read, select.POLLIN)
            waiting.poll(None if timeout is None else ceil(max(timeout, 0) * 1000))
        return self._is_set
