"""How fast and how soon: --max-rate, and the delays between tries."""

import pytest
from django.conf import LazySettings

from consumers.pace import Backoff, RateLimit
from coupons.issuing.retry import MAX_DELAY_SEC, retry_delay_sec
from tests.support.clocks import Clock


def test_without_a_rate_all_that_is_wanted_may_be_taken() -> None:
    limit = RateLimit(0, clock=Clock())
    limit.take(1_000_000)

    assert limit.allowance(500) == 500
    assert limit.wait_sec() == 0.0


def test_a_rate_gives_nothing_before_time_has_passed() -> None:
    assert RateLimit(10, clock=Clock()).allowance(500) == 0


def test_a_rate_gives_what_has_come_together_since() -> None:
    clock = Clock()
    limit = RateLimit(10, clock=clock)
    clock.advance(0.55)

    assert limit.allowance(500) == 5
    assert limit.allowance(3) == 3


def test_what_was_taken_is_gone() -> None:
    clock = Clock()
    limit = RateLimit(10, clock=clock)
    clock.advance(0.55)
    limit.take(limit.allowance(500))

    assert limit.allowance(500) == 0
    assert limit.wait_sec() == pytest.approx(0.05)


def test_an_idle_hour_saves_one_second_of_messages() -> None:
    clock = Clock()
    limit = RateLimit(10, clock=clock)
    clock.advance(3_600)

    assert limit.allowance(500) == 10


def test_a_full_bucket_gains_nothing_during_a_poll() -> None:
    clock = Clock()
    limit = RateLimit(10, clock=clock)
    clock.advance(1)
    allowed = limit.allowance(500)
    clock.advance(0.5)
    limit.take(allowed)

    assert limit.allowance(500) == 0


def test_a_rate_below_one_lets_messages_through() -> None:
    clock = Clock()
    limit = RateLimit(0.25, clock=clock)
    clock.advance(3.9)
    assert limit.allowance(500) == 0
    clock.advance(0.2)

    assert limit.allowance(500) == 1


def test_over_a_minute_the_rate_holds() -> None:
    clock = Clock()
    limit = RateLimit(7, clock=clock)
    taken = 0
    for _ in range(600):
        clock.advance(0.1)
        allowed = limit.allowance(100)
        limit.take(allowed)
        taken += allowed

    assert taken == pytest.approx(7 * 60, abs=1)


def test_delays_double_up_to_the_cap_with_jitter() -> None:
    backoff = Backoff(first_sec=1, cap_sec=5)

    for least, greatest in [(0.5, 1), (1, 2), (2, 4), (2.5, 5), (2.5, 5)]:
        assert least <= backoff.next_delay_sec() <= greatest


def test_a_reset_starts_the_delays_anew() -> None:
    backoff = Backoff(first_sec=1, cap_sec=60)
    for _ in range(5):
        backoff.next_delay_sec()
    backoff.reset()

    assert backoff.next_delay_sec() <= 1


@pytest.mark.parametrize(
    ("attempts", "longest"), [(0, 60), (1, 120), (4, 960), (9, MAX_DELAY_SEC), (900, MAX_DELAY_SEC)]
)
def test_the_retry_delay_doubles_up_to_six_hours(settings: LazySettings, attempts: int, longest: float) -> None:
    settings.RETRY_BASE_DELAY_SEC = 60

    assert longest / 2 <= retry_delay_sec(attempts) <= longest
