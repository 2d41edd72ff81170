"""Keeps what a process knows of PostgreSQL current, in a thread with a connection of its own."""

import logging
import threading
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError, connection

from coupons.errors import one_line
from coupons.runtime.db_timeouts import answers_within

logger = logging.getLogger(__name__)


class Refresher:
    """Calls `read` at once, then every `interval_sec`, and as soon as possible after `wake()`.

    An error of PostgreSQL's is logged once, until `read` succeeds again. No exception ends the thread: its process
    would never hear of a change again.
    """

    def __init__(self, name: str, read: Callable[[], object], *, interval_sec: float, answer_sec: float) -> None:
        self._name = name
        self._read = read
        self._interval_sec = interval_sec
        self._answer_sec = answer_sec
        self._is_down = False
        self._is_closed = False
        self._wake = threading.Event()
        self._has_tried = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def wait_for_first(self, timeout_sec: float) -> bool:
        """Whether the first `read` has ended by then, in whatever way."""
        return self._has_tried.wait(timeout_sec)

    def close(self) -> None:
        self._is_closed = True
        self._wake.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._is_closed:
            self._refresh()
            self._has_tried.set()
            self._wake.wait(self._interval_sec)
            self._wake.clear()  # before the next read, which then sees what it was woken for
        connection.close()

    def _refresh(self) -> None:
        try:
            with answers_within(self._answer_sec):
                self._read()
        except (DatabaseError, InterfaceError) as error:
            if not self._is_down:
                logger.warning("%s.unavailable error=%s", self._name, one_line(error))
            self._is_down = True
            connection.close()  # the next read makes a new one
        except Exception:
            logger.exception("%s.defect", self._name)
            connection.close()
        else:
            if self._is_down:
                logger.info("%s.available", self._name)
            self._is_down = False
