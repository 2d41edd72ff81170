"""An event that a signal handler may set.

`threading.Event` has a non-reentrant lock. A handler interrupts the main thread anywhere: if that is inside `wait`, the
thread may hold the lock, and the handler's `set` would wait for it for ever.
"""

import os
import select
import threading
from contextlib import suppress
from math import ceil


class SignalEvent(threading.Event):
    """Wakes waiting threads through a pipe.

    `SimpleQueue`, whose `put` a handler may call, does not work: in CPython 3.11 its `get` never returns, despite a
    time-out, if the thread stands still at the wrong moment.
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
        with suppress(BlockingIOError):  # the pipe is full, so it wakes every waiter anyway
            os.write(self._write, b"1")

    def clear(self) -> None:
        self._is_set = False
        with suppress(BlockingIOError):
            while True:
                os.read(self._read, 4096)

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            waiting = select.poll()  # local, as several threads may wait
            waiting.register(self._read, select.POLLIN)
            waiting.poll(None if timeout is None else ceil(max(timeout, 0) * 1000))
        return self._is_set
