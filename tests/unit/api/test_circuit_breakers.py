"""The breaker: nobody waits for a broker that hangs, but one a second who looks."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from coupons.api.circuit_breakers import Breaker
from tests.support.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("test", failures=3, span_sec=0.2, probe_sec=1.0, clock=clock)


@pytest.fixture
def opened(breaker: Breaker, clock: Clock) -> Breaker:
    miss(breaker, clock, 3)
    return breaker


def miss(breaker: Breaker, clock: Clock, times: int) -> None:
    """A tenth of a second from one to the next."""
    for number in range(times):
        clock.advance(0.1 if number else 0)
        breaker.missed()


def test_it_lets_everybody_through_before_enough_misses(breaker: Breaker, clock: Clock) -> None:
    miss(breaker, clock, 2)

    assert not breaker.is_open
    assert all(breaker.allow() for _ in range(10))


def test_it_opens_after_so_many_misses_in_a_row(opened: Breaker) -> None:
    assert opened.is_open
    assert not opened.allow()


def test_a_hundred_misses_of_one_moment_are_one_stall(breaker: Breaker, clock: Clock) -> None:
    for _ in range(100):
        breaker.missed()
    assert not breaker.is_open, "who waits side by side misses together"

    miss(breaker, clock, 1)
    assert not breaker.is_open
    for _ in range(2):
        clock.advance(0.1)
        breaker.missed()
    assert breaker.is_open, "and who came later missed too"


def test_a_success_in_between_starts_the_count_anew(breaker: Breaker, clock: Clock) -> None:
    miss(breaker, clock, 2)
    breaker.succeeded()
    miss(breaker, clock, 2)

    assert not breaker.is_open


def test_open_it_lets_one_probe_through_each_interval(opened: Breaker, clock: Clock) -> None:
    allowed = []
    for _ in range(30):
        clock.advance(0.1)
        allowed.append(opened.allow())

    assert sum(allowed) in (2, 3)
    assert allowed[9] or allowed[10], "the first one after a second"


def test_a_probe_that_misses_leaves_it_open(opened: Breaker, clock: Clock) -> None:
    clock.advance(1.0)
    assert opened.allow()
    opened.missed()

    assert opened.is_open
    assert not opened.allow()


def test_a_probe_that_succeeds_closes_it_for_all(opened: Breaker, clock: Clock) -> None:
    clock.advance(1.0)
    assert opened.allow()
    opened.succeeded()

    assert all(opened.allow() for _ in range(10))


def test_of_many_threads_at_once_one_is_the_probe(opened: Breaker, clock: Clock) -> None:
    clock.advance(1.0)

    with ThreadPoolExecutor(16) as pool:
        allowed = list(pool.map(lambda _: opened.allow(), range(200)))

    assert sum(allowed) == 1
