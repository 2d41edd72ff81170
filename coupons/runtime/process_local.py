"""One object per process, made on first use: for clients with threads of their own, which do not survive a fork."""

import os
import threading
from collections.abc import Callable
from multiprocessing.util import Finalize
from typing import Generic, TypeVar

T = TypeVar("T")


class ProcessLocal(Generic[T]):
    """`ProcessLocal(make)()` is this process's object. A forked child makes its own and never touches its parent's.

    `close` is called at the process's normal end. `reset()` closes and forgets the object; `replace(it)` does that
    beside the caller, and only if it is still the one: of many threads that found it broken, one makes the next.
    `forget()` closes nothing, as other threads may be using it: it ends with their last reference.
    """

    def __init__(self, make: Callable[[], T], *, close: Callable[[T], object]) -> None:
        self._make = make
        self._close = close
        self._made: T | None = None
        self._ends_with_process = False
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget_parents)

    def __call__(self) -> T:
        made = self._made
        if made is None:
            with self._lock:
                made = self._made
                if made is None:
                    made = self._made = self._make()
                    self._end_with_process()
        return made

    def _end_with_process(self) -> None:
        # Not atexit: a worker of a pre-forking server ends as a multiprocessing child, which runs multiprocessing's
        # finalizers and no atexit handlers. In a main process both run.
        if not self._ends_with_process:
            Finalize(None, self.reset, exitpriority=0)
            self._ends_with_process = True

    def reset(self) -> None:
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            self._close(made)

    def replace(self, broken: T) -> T:
        with self._lock:
            mine = self._made is broken
            if mine:
                self._made = None
        if mine:
            threading.Thread(target=self._close, args=(broken,), name="close-broken", daemon=True).start()
        return self()

    def forget(self) -> None:
        with self._lock:
            self._made = None

    def _forget_parents(self) -> None:
        # Also a new lock: another thread of the parent may have held the old one while it forked.
        self._lock = threading.Lock()
        self._made = None
        self._ends_with_process = False
