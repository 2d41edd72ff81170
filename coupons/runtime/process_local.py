"""Keeps one object for each process, made on first use: for clients whose threads do not survive a fork."""

import os
import threading
from collections.abc import Callable
from multiprocessing.util import Finalize
from typing import Generic, TypeVar

T = TypeVar("T")


class ProcessLocal(Generic[T]):
    """`ProcessLocal(make)()` returns this process's object. A forked child makes another and never uses its parent's.

    The process calls `close` at its normal end. `reset()` closes and drops the object. `replace(broken)` closes it in
    the background, and only if it is still the current one: of many threads that found it broken, one makes the next.
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
                    if not self._ends_with_process:
                        # Not atexit: a worker of a pre-forking server ends as a multiprocessing child, which runs
                        # multiprocessing's finalizers but no atexit handlers. A main process runs both.
                        Finalize(None, self.reset, exitpriority=0)
                        self._ends_with_process = True
        return made

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

    def _forget_parents(self) -> None:
        # A new lock too: a thread of the parent may have held the old one during the fork.
        self._lock = threading.Lock()
        self._made = None
        self._ends_with_process = False
