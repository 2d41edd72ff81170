"""Waiting for a condition with a deadline: the only place of the tests that sleeps."""

import time
from collections.abc import Callable
from typing import Literal, TypeVar

from coupons.errors import DATABASE_DOWN, RetryLater

T = TypeVar("T")
STEP_SEC = 0.05


def wait_until(
    condition: Callable[[], T | Literal[False] | None], *, within_sec: float = 20.0, what: str | Callable[[], str] = ""
) -> T:
    """The condition's first true value; AssertionError with its last one when the deadline passes.

    A condition that could not be looked at, since a server did not answer in time, is looked at again.
    `what` says what was waited for; a function is called at the deadline, for what is known only then.
    """
    deadline = time.monotonic() + within_sec
    while True:
        try:
            value = condition()
        except (RetryLater, *DATABASE_DOWN) as error:
            last = repr(error)
        else:
            if value:
                return value
            last = repr(value)
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {within_sec} s: {text or condition} (last: {last})")
        time.sleep(STEP_SEC)


def hold(seconds: float, condition: Callable[[], bool], what: str) -> None:
    """The condition stays true for so long; AssertionError as soon as it does not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            raise AssertionError(f"did not hold for {seconds} s: {what}")
        time.sleep(STEP_SEC)
