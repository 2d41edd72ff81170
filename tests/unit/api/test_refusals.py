"""When a refusal brings people back: at the opening, spread over less than a second, and never late."""

from uuid import UUID

import pytest
from rbloom import Bloom

from coupons.admission.campaign_store import RefusalState, TicketsVersion
from coupons.admission.gate import Outcome
from coupons.api.problems import EARLY_MS, FARTHEST_RETRY_SEC, refusal, retry_after
from coupons.front.admitted_users import AdmittedUsers
from coupons.front.closed_campaigns import ClosedCampaign
from tests.support.clocks import Clock

OPENS_AT_MS = 1_796_000_000_123
CAMPAIGN = UUID("0198c2a4-6f3e-7a51-9c0e-5d1f0b1c2d3e")


def told_sec(wait_ms: int) -> int:
    """What somebody is told who asks so long before the opening."""
    told = refusal(Outcome.NOT_OPEN, OPENS_AT_MS, OPENS_AT_MS - wait_ms).retry_after_sec
    assert told is not None
    return told


@pytest.mark.parametrize(
    ("wait_ms", "told"),
    [
        (1, 1),
        (100, 1),
        (1_100, 1),
        (1_101, 2),
        (59_900, 60),
        (60_000, 60),
        (60_100, 60),
        (60_101, 61),
        (3_600_100, 3_600),
        (3_600_101, 3_600),
        (30 * 86_400_000, 3_600),
    ],
)
def test_retry_after_rounds_up_just_before_the_opening(wait_ms: int, told: int) -> None:
    assert told_sec(wait_ms) == told


def test_obeying_retry_after_returns_within_a_second_of_opening() -> None:
    """Whenever they ask, to the millisecond, in the two seconds before the opening and around an hour before it; who is
    back at most EARLY_MS before it is not refused again."""
    for wait_ms in [*range(EARLY_MS + 1, 2_000), *range(3_599_000, 3_602_000)]:
        refused, left_ms = 0, wait_ms
        while left_ms > EARLY_MS:
            refused += 1
            left_ms -= told_sec(left_ms) * 1_000
        assert -1_000 < left_ms <= EARLY_MS
        assert refused == (1 if wait_ms <= FARTHEST_RETRY_SEC * 1_000 + EARLY_MS else 2)


def test_a_crowd_is_back_as_spread_as_it_asked() -> None:
    back_at_ms = {told_sec(60_000 + each) * 1_000 - 60_000 - each for each in range(0, 1_000, 10)}

    assert len(back_at_ms) == 100
    assert (min(back_at_ms), max(back_at_ms)) == (-EARLY_MS, 1_000 - EARLY_MS - 10)


def test_paused_asks_to_come_back_in_a_second() -> None:
    assert refusal(Outcome.PAUSED, None, None).retry_after_sec == 1


@pytest.mark.parametrize("outcome", [Outcome.SOLD_OUT, Outcome.CLOSED])
def test_what_is_final_says_nothing_of_coming_back(outcome: Outcome) -> None:
    assert refusal(outcome, None, None).retry_after_sec is None


def test_an_overdue_draft_asks_to_retry_in_a_second() -> None:
    assert refusal(Outcome.NOT_OPEN, OPENS_AT_MS, None).retry_after_sec == told_sec(-5_000) == 1


def test_a_cached_refusal_counts_from_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of a second ago it was another whole second."""
    clock = Clock()
    monkeypatch.setattr("coupons.front.closed_campaigns.time.monotonic", clock)
    state = RefusalState(TicketsVersion(1, 1, 0), OPENS_AT_MS - 60_150, Outcome.NOT_OPEN, OPENS_AT_MS)
    users = AdmittedUsers(state.version, Bloom(1_000, 0.0005))
    closed = ClosedCampaign(CAMPAIGN, state, Outcome.NOT_OPEN, users, clock(), clock() + 60)
    at_once = dict(closed.answer().headers)

    clock.now += 0.1

    assert (at_once[b"retry-after"], dict(closed.answer().headers)[b"retry-after"]) == (b"61", b"60")
    assert told_sec(60_050) == 60


@pytest.mark.parametrize(("seconds", "told"), [(0, 1), (0.2, 1), (1.0, 1), (1.001, 2), (20.0, 20), (59.2, 60)])
def test_retry_after_is_the_fewest_sufficient_whole_seconds(seconds: float, told: int) -> None:
    assert retry_after(seconds) == told
