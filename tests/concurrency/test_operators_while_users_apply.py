"""Operators change a campaign while a crowd applies: no moment at which somebody is admitted who must not be."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from coupons.admission import gate
from coupons.campaigns.lifecycle import change_campaign, open_campaign, pause_campaign, resume_campaign
from coupons.errors import OperatorError
from coupons.models import Campaign
from tests.support.promises import Promises, assert_kept
from tests.support.service import Service
from tests.support.waiting import hold, wait_until


class Users:
    """Who applied over HTTP, one after the other in each thread, and what they were told."""

    def __init__(self) -> None:
        self.promises: Promises = {}
        self.answers: Counter[int] = Counter()
        self.first_admitted_at: datetime | None = None
        self.lock = threading.Lock()


@contextmanager
def applying(service: Service, campaign: Campaign, threads: int = 12) -> Iterator[Users]:
    users, stop = Users(), threading.Event()

    def apply_on(thread: int) -> None:
        number = 0
        while not stop.is_set():
            user = f"{thread}-{number}"
            number += 1
            answer = service.apply(campaign, user)
            with users.lock:
                users.answers[answer.status] += 1
                if answer.status == 202:
                    users.promises[user] = answer.json()["sequence"]
                    users.first_admitted_at = users.first_admitted_at or datetime.now(UTC)

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(apply_on, thread) for thread in range(threads)]
        try:
            yield users
        finally:
            stop.set()
        for one in running:
            one.result(20)


def admitted(campaign: Campaign) -> int:
    return gate.describe(campaign_id=campaign.pk, epoch=1).admitted


def test_raised_paused_and_resumed_under_load_it_admits_exactly_the_quantity(service: Service) -> None:
    service.web()
    service.consumer()
    campaign = service.campaign(50)

    with applying(service, campaign) as users:
        wait_until(lambda: users.answers[409] > 50, what="50 are in, others are refused")
        assert admitted(campaign) == 50
        change_campaign(campaign_id=campaign.pk, changes={"quantity": 10_000}, actor="test")
        wait_until(lambda: len(users.promises) > 100, what="others are admitted after the raise")

        pause_campaign(campaign_id=campaign.pk, actor="test")
        at_pause, refused = admitted(campaign), users.answers[409]
        wait_until(lambda: users.answers[409] > refused + 100)
        assert admitted(campaign) == at_pause, "when the pause has returned, no process admits"

        change_campaign(campaign_id=campaign.pk, changes={"quantity": at_pause + 70}, actor="test")
        resume_campaign(campaign_id=campaign.pk, actor="test")
        wait_until(lambda: admitted(campaign) == at_pause + 70)
        refused = users.answers[409]
        wait_until(lambda: users.answers[409] > refused + 50, what="and sold out again")

    assert set(users.answers) == {202, 409}
    ledger = assert_kept(campaign, users.promises)
    assert ledger.issued == len(users.promises) == at_pause + 70


def test_lowered_again_and_again_under_load_nobody_is_beyond_the_quantity(service: Service) -> None:
    """The other order, PostgreSQL first, would let users in above the new quantity while it travels."""
    service.web()
    service.consumer("--solo")
    campaign = service.campaign(3_000)
    outcomes = Counter[str]()

    with applying(service, campaign) as users:
        wait_until(lambda: len(users.promises) > 20)
        for _ in range(15):
            try:
                lower = change_campaign(
                    campaign_id=campaign.pk, changes={"quantity": admitted(campaign) + 4}, actor="test"
                )
            except OperatorError:
                outcomes["refused"] += 1
                continue
            outcomes["lowered"] += 1
            wait_until(lambda lower=lower: admitted(campaign) == lower.quantity)  # type: ignore[misc]
            change_campaign(campaign_id=campaign.pk, changes={"quantity": 3_000}, actor="test")
        lower = change_campaign(campaign_id=campaign.pk, changes={"quantity": admitted(campaign) + 50}, actor="test")
        refused = users.answers[409]
        wait_until(lambda: users.answers[409] > refused + 20, what="sold out at the lower quantity")

    assert outcomes["lowered"] > 0
    ledger = assert_kept(campaign, users.promises)
    assert ledger.issued == ledger.quantity == lower.quantity


def test_nobody_is_in_before_the_opening_and_exactly_the_quantity_after_it(service: Service) -> None:
    service.web()
    opens_at = datetime.now(UTC) + timedelta(seconds=1.5)
    campaign = service.campaign(80, opens_at=opens_at)

    with applying(service, campaign) as users:
        wait_until(lambda: datetime.now(UTC) > opens_at - timedelta(milliseconds=100))
        assert users.answers[409] > 20, "they came before the opening"
        wait_until(lambda: len(users.promises) == 80)
        refused = users.answers[409]
        wait_until(lambda: users.answers[409] > refused + 50)

    assert users.first_admitted_at is not None
    assert users.first_admitted_at >= opens_at - timedelta(milliseconds=1), "Redis's clock is this machine's"
    assert users.first_admitted_at - opens_at < timedelta(seconds=2)
    assert sorted(users.promises.values()) == list(range(1, 81))
    service.consumer("--solo")
    assert_kept(campaign, users.promises)


def test_ten_operators_who_open_a_campaign_at_once_open_it_once(service: Service) -> None:
    service.web()
    campaign = service.campaign(10, opened=False)
    together = threading.Barrier(10)

    def open_() -> int:
        together.wait()
        return service.post(f"campaigns/{campaign.pk}/open").status

    with ThreadPoolExecutor(10) as pool:
        answers = Counter(pool.map(lambda _: open_(), range(10)))

    assert answers == {200: 1, 409: 9}
    campaign.refresh_from_db()
    assert (campaign.state, campaign.epoch, campaign.revision) == ("open", 1, 1)
    assert service.apply(campaign, "1").status == 202


def test_two_changes_at_once_are_one_after_the_other(service: Service) -> None:
    """Each raises the revision; Redis ends with the last one, as PostgreSQL has it."""
    service.web()
    campaign = service.campaign(100)

    def raise_to(quantity: int) -> int:
        return service.patch(f"campaigns/{campaign.pk}", {"quantity": quantity}).status

    with ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(raise_to, [200 + 10 * (number % 7) for number in range(40)]))

    assert set(answers) <= {200, 202, 409}, answers
    campaign.refresh_from_db()
    service.keeper()
    wait_until(
        lambda: in_redis(campaign) == (campaign.revision, campaign.quantity),
        within_sec=5,
        what=lambda: f"PostgreSQL {campaign.revision, campaign.quantity}, Redis {in_redis(campaign)}",
    )


def in_redis(campaign: Campaign) -> tuple[int, int]:
    settings = gate.describe(campaign_id=campaign.pk, epoch=1).settings
    campaign.refresh_from_db()
    return settings.revision, settings.quantity


def test_open_pause_and_resume_are_known_to_every_process_within_200_ms(service: Service) -> None:
    """No process may answer by the old state later than that: 20 users ask both of them after each step."""
    service.web()
    campaign = service.campaign(10_000, opened=False)
    assert service.apply(campaign, "early").status == 409

    for number, (step, status) in enumerate(
        [(open_campaign, 202), (pause_campaign, 409), (resume_campaign, 202), (pause_campaign, 409)]
    ):
        step(campaign_id=campaign.pk, actor="test")
        hold(0.2, lambda: True, "the time that the design allows")
        with ThreadPoolExecutor(10) as pool:
            answers = pool.map(lambda user, number=number: service.apply(campaign, f"{number}-{user}"), range(20))
        assert {answer.status for answer in answers} == {status}, step.__name__
