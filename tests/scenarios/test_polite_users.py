"""Who obeys Retry-After does not lose to who does not: before an opening, and while a campaign is paused."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from coupons.campaigns.lifecycle import pause_campaign, resume_campaign
from coupons.models import Campaign
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

POLITE, NEWCOMERS = 20, 30
OPENS_IN_SEC = 6.0
LATER_SEC = 1.0
EARLY_SEC = 0.1


@dataclass(slots=True)
class Visit:
    """One request. `due`: what it was told, counted from when it was asked, by the monotonic clock."""

    asked: float
    status: int = 0
    answered: float = 0.0
    retry_after_sec: float | None = None

    @property
    def due(self) -> float | None:
        return None if self.retry_after_sec is None else self.asked + self.retry_after_sec


@dataclass(slots=True)
class Polite:
    """A user who asks, waits as long as told, and asks again until told nothing of coming back."""

    service: Service
    campaign: Campaign
    name: str
    visits: list[Visit] = field(default_factory=list)

    def run(self, begin_at: float) -> None:
        _wait_until(begin_at)
        while True:
            visit = Visit(time.monotonic())
            self.visits.append(visit)
            answer = self.service.apply(self.campaign, self.name)
            visit.answered = time.monotonic()
            told = answer.headers.get("Retry-After")
            visit.retry_after_sec = None if told is None else float(told)
            visit.status = answer.status
            if visit.retry_after_sec is None:
                return
            _wait_until(visit.answered + visit.retry_after_sec)

    def was_refused(self) -> bool:
        return any(visit.due is not None for visit in self.visits)

    def is_back(self, by: float) -> bool:
        """Whether this user has been answered again, if what was told last has passed by then."""
        last = self.visits[-1]
        return last.status != 0 and (last.due is None or last.due > by)


@contextmanager
def polite_users(service: Service, campaign: Campaign) -> Iterator[list[Polite]]:
    """Who ask over one second, each at another fraction of it."""
    users = [Polite(service, campaign, f"polite-{number}") for number in range(POLITE)]
    now = time.monotonic()
    with ThreadPoolExecutor(POLITE) as pool:
        asking = [pool.submit(user.run, now + number / POLITE) for number, user in enumerate(users)]
        wait_until(lambda: all(user.was_refused() for user in users))
        yield users
        for each in asking:
            each.result()


def newcomers(service: Service, campaign: Campaign, polite: list[Polite], at: float) -> list[int]:
    """They come at this time; should the machine stand still meanwhile, after those who were due before it."""
    _wait_until(at)
    wait_until(lambda: all(user.is_back(by=at) for user in polite))
    with ThreadPoolExecutor(NEWCOMERS) as pool:
        return list(pool.map(lambda number: service.apply(campaign, f"new-{number}").status, range(NEWCOMERS)))


def _wait_until(moment: float) -> None:
    """As a user waits: to the millisecond."""
    threading.Event().wait(max(moment - time.monotonic(), 0))


def test_early_users_who_obey_retry_after_get_in_first(service: Service) -> None:
    service.web(**LONG_TIMEOUTS)
    earliest = time.monotonic() + OPENS_IN_SEC
    campaign = service.campaign(POLITE, opens_at=datetime.now(UTC) + timedelta(seconds=OPENS_IN_SEC))
    latest = time.monotonic() + OPENS_IN_SEC

    with polite_users(service, campaign) as polite:
        late = newcomers(service, campaign, polite, earliest + LATER_SEC)

    for user in polite:
        for visit in user.visits:
            if visit.status == 409 and visit.retry_after_sec is not None and visit.due is not None:
                assert visit.due <= latest + LATER_SEC, "told to be back later than a second after the opening"
                assert visit.answered + visit.retry_after_sec >= earliest - EARLY_SEC, "told to be back too early"
    assert [user.visits[-1].status in (200, 202) for user in polite] == [True] * POLITE
    assert late == [409] * NEWCOMERS


def test_users_who_obey_a_pause_get_in_first(service: Service) -> None:
    service.web(**LONG_TIMEOUTS)
    campaign = service.campaign(POLITE)
    pause_campaign(campaign_id=campaign.pk, actor="test")

    with polite_users(service, campaign) as polite:
        resume_campaign(campaign_id=campaign.pk, actor="test")
        late = newcomers(service, campaign, polite, time.monotonic() + LATER_SEC)

    assert [user.visits[-1].status in (200, 202) for user in polite] == [True] * POLITE
    assert late == [409] * NEWCOMERS
