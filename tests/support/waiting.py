"""Waiting for a condition with a deadline: the only place of the tests that sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
STEP_SEC = 0.05


def wait_until(condition: Callable[[], T], *, within_sec: float = 20.0, what: str = "") -> T:
    """The condition's first true value; AssertionError with its last one when the deadline passes."""
    deadline = time.monotonic() + within_sec
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_sec} s: {what or condition} (last: {value!r})")
        time.sleep(STEP_SEC)


def hold(seconds: float, condition: Callable[[], bool], what: str) -> None:
    """The condition stays true for so long; AssertionError as soon as it does not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            raise AssertionError(f"did not hold for {seconds} s: {what}")
        time.sleep(STEP_SEC)
