"""The breaker: nobody waits for a broker that hangs, but one a second who looks."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from coupons.breaker import Breaker
from tests.support.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=3, probe_sec=1.0, clock=clock)


def miss(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.missed()


def test_it_lets_everybody_through_before_enough_misses(breaker: Breaker) -> None:
    miss(breaker, 2)

    assert not breaker.is_open
    assert all(breaker.allow() for _ in range(10))


def test_it_opens_after_so_many_misses_in_a_row(breaker: Breaker) -> None:
    miss(breaker, 3)

    assert breaker.is_open
    assert not breaker.allow()


def test_a_success_in_between_starts_the_count_anew(breaker: Breaker) -> None:
    miss(breaker, 2)
    breaker.succeeded()
    miss(breaker, 2)

    assert not breaker.is_open


def test_open_it_lets_one_probe_through_each_interval(breaker: Breaker, clock: Clock) -> None:
    miss(breaker, 3)

    allowed = []
    for _ in range(30):
        clock.advance(0.1)
        allowed.append(breaker.allow())

    assert sum(allowed) in (2, 3)
    assert allowed[9] or allowed[10], "the first one after a second"


def test_a_probe_that_misses_leaves_it_open(breaker: Breaker, clock: Clock) -> None:
    miss(breaker, 3)
    clock.advance(1.0)
    assert breaker.allow()
    breaker.missed()

    assert breaker.is_open
    assert not breaker.allow()


def test_a_probe_that_succeeds_closes_it_for_all(breaker: Breaker, clock: Clock) -> None:
    miss(breaker, 3)
    clock.advance(1.0)
    assert breaker.allow()
    breaker.succeeded()

    assert all(breaker.allow() for _ in range(10))


def test_of_many_threads_at_once_one_is_the_probe(breaker: Breaker, clock: Clock) -> None:
    miss(breaker, 3)
    clock.advance(1.0)

    with ThreadPoolExecutor(16) as pool:
        allowed = list(pool.map(lambda _: breaker.allow(), range(200)))

    assert sum(allowed) == 1
