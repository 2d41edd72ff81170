"""Token buckets: what they let through, and that they stay small whoever asks."""

import threading

import pytest

from coupons.api.throttling import Buckets
from tests.support.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_minute_of_requests_at_once_then_the_rate(clock: Clock) -> None:
    buckets = Buckets(capacity=10, clock=clock)

    taken = [buckets.take("a", limit=60) for _ in range(61)]

    assert [each.allowed for each in taken] == [True] * 60 + [False]
    assert [taken[0].left, taken[59].left, taken[60].left] == [59, 0, 0]
    assert taken[60].wait_sec == pytest.approx(1.0)
    clock.now += 0.5
    assert not buckets.take("a", limit=60).allowed
    clock.now += 0.5
    assert buckets.take("a", limit=60).allowed, "who asks in vain loses nothing by it"
    clock.now += 3_600
    assert buckets.take("a", limit=60).left == 59, "no more than a full bucket"


def test_each_key_has_its_own(clock: Clock) -> None:
    buckets = Buckets(capacity=10, clock=clock)
    buckets.take("a", limit=1)

    assert not buckets.take("a", limit=1).allowed
    assert buckets.take("b", limit=1).allowed


@pytest.mark.attack(
    "invented users, to fill the memory", "10,000 names against a capacity of 100", "100 are remembered"
)
def test_a_million_names_take_no_more_memory_than_the_capacity(clock: Clock) -> None:
    buckets = Buckets(capacity=100, clock=clock)
    for number in range(10_000):
        buckets.take(str(number), limit=1)
        buckets.take("busy", limit=1)

    assert not buckets.take("busy", limit=1).allowed, "who asks often is not the one that is forgotten"
    newest_first = map(str, reversed(range(10_000)))
    assert sum(not buckets.take(name, limit=1).allowed for name in newest_first) == 99, "all others are forgotten"


def test_threads_share_one_bucket_exactly(clock: Clock) -> None:
    buckets = Buckets(capacity=10, clock=clock)
    allowed: list[bool] = []

    def ask() -> None:
        allowed.extend(buckets.take("a", limit=500).allowed for _ in range(200))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(allowed) == 500
