"""A refresher: reads again and again, at once when it is woken, and goes on after any error."""

import threading
from collections.abc import Callable, Iterator

import pytest
from django.db import OperationalError

from coupons.runtime.refresher import Refresher
from tests.support.waiting import wait_until

Make = Callable[..., Refresher]
pytestmark = pytest.mark.usefixtures("transactional_db")


@pytest.fixture
def refresher() -> Iterator[Make]:
    made: list[Refresher] = []

    def make(read: Callable[[], object], *, interval_sec: float = 0.01) -> Refresher:
        made.append(Refresher("test_refresher", read, interval_sec=interval_sec, answer_sec=5))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Failing:
    """Counts the reads; raises `error` while there is one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.reads = 0

    def __call__(self) -> None:
        self.reads += 1
        if self.error is not None:
            raise self.error


def test_it_reads_at_once_and_again_and_again(refresher: Make) -> None:
    read = Failing()
    refresher(read)

    wait_until(lambda: read.reads >= 3, what="three reads")


def test_a_wake_makes_it_read_at_once(refresher: Make) -> None:
    read = Failing()
    rare = refresher(read, interval_sec=3_600)
    assert rare.wait_for_first(20)

    rare.wake()

    wait_until(lambda: read.reads == 2, what="the second read, an hour early")


@pytest.mark.parametrize("error", [OperationalError("the server is gone"), ValueError("a defect")])
def test_an_error_does_not_end_it(refresher: Make, error: Exception) -> None:
    read = Failing(error)
    refresher(read)
    wait_until(lambda: read.reads >= 3, what="it goes on")


def test_an_outage_is_logged_once_and_its_end_too(refresher: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "coupons")
    read = Failing(OperationalError("the server\nis gone"))
    refresher(read)
    wait_until(lambda: read.reads >= 3, what="it goes on")

    read.error = None

    wait_until(lambda: "test_refresher.available" in caplog.text, what="the end of the outage in the log")
    assert caplog.text.count("test_refresher.unavailable error=the server is gone") == 1


def test_it_ends_when_it_is_closed(refresher: Make) -> None:
    read = Failing()
    rare = refresher(read, interval_sec=3_600)

    rare.close()

    assert "test_refresher" not in [thread.name for thread in threading.enumerate()]
