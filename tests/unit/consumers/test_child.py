"""What a worker process takes for a missing topic."""

import threading
from collections.abc import Iterator

import pytest

from consumers import child
from consumers.child import MISSING_TOPIC_SEC, wait_for_topic
from coupons.errors import LogUnavailable, OperatorError
from tests.support.clocks import Clock, SteppedEvent


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("consumers.child.time.monotonic", made)
    return made


@pytest.fixture
def stop(clock: Clock) -> threading.Event:
    return SteppedEvent(clock)


def kafka_says(monkeypatch: pytest.MonkeyPatch, *answers: int | Exception | None) -> None:
    """In turn, the last one for ever."""
    said: Iterator[int | Exception | None] = iter(answers)

    def partition_count() -> int | None:
        answer = next(said, answers[-1])
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(child, "partition_count", partition_count)


def test_a_fresh_broker_may_learn_of_the_topic_late(stop: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka_says(monkeypatch, LogUnavailable("down"), None, None, None, 8)

    assert wait_for_topic("coupon_create", stop, patient=False)


def test_a_topic_that_stays_missing_is_an_operators_to_make(
    clock: Clock, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka_says(monkeypatch, None)
    began = clock()

    with pytest.raises(OperatorError, match="create_topic"):
        wait_for_topic("coupon_create", stop, patient=False)

    assert clock() - began >= MISSING_TOPIC_SEC


def test_a_patient_child_waits_for_it(stop: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka_says(monkeypatch, *[None] * 50, 8)

    assert wait_for_topic("coupon_create", stop, patient=True)
