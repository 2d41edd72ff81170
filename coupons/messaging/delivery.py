"""A message on its way to the log, as its producer hears of it."""

import threading
from collections.abc import Callable

from coupons.errors import LogUnavailable
from coupons.positions import Position


class Delivery:
    """Acknowledged, refused, or neither yet. One thread tells, others wait.

    A `concurrent.futures.Future` does the same and makes a condition and a list for each; every winner needs one.
    """

    __slots__ = ("_error", "_on_told", "_position", "_told")

    def __init__(self, on_told: Callable[["Delivery"], None] | None = None) -> None:
        self._told = threading.Lock()
        self._told.acquire()
        self._error: LogUnavailable | None = None
        self._position: Position | None = None
        self._on_told = on_told

    def acknowledged(self, position: Position | None) -> None:
        """None: the broker has it, and did not say where (an idempotent producer's second try)."""
        self._position = position
        self._tell()

    def refused(self, error: LogUnavailable) -> None:
        self._error = error
        self._tell()

    def result(self, timeout_sec: float) -> Position | None:
        """Where the message lies, None when nobody said. Raises LogUnavailable when it was not acknowledged within
        `timeout_sec`; it may be later, or be in the log already."""
        if not self._told.acquire(timeout=max(timeout_sec, 0)):
            raise LogUnavailable("no answer")
        self._told.release()  # for the next who asks
        if self._error is not None:
            raise self._error
        return self._position

    def _tell(self) -> None:
        self._told.release()
        if self._on_told is not None:
            self._on_told(self)
