"""Operators change a campaign while a crowd applies: no moment at which somebody is admitted who must not be."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from coupons.admission import campaign_store
from coupons.campaigns.lifecycle import change_campaign, open_campaign, pause_campaign, resume_campaign
from coupons.errors import OperatorError
from coupons.models import Campaign
from faults.history import read_history
from faults.visits import Habits
from tests.support.promises import assert_history_holds, change_quantity, issued
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import hold, wait_until

QUANTITY = 20_000
HURRY = Habits(users_per_sec=400, connections=12, max_wait_sec=0.02)


def admitted(campaign: Campaign) -> int:
    return campaign_store.describe(campaign_id=campaign.pk, epoch=1).admitted


def test_raises_and_pauses_under_load_admit_exactly_the_quantity(service: Service) -> None:
    service.web(COUPON_WEB_WORKERS="2", **LONG_TIMEOUTS)
    service.consumer("--solo")
    campaign = service.campaign(50)
    crowd = service.crowd(campaign, habits=HURRY)

    crowd.wait_for_answers(409, "sold-out", times=50)
    assert admitted(campaign) == 50
    change_quantity(crowd, campaign, 10_000)
    crowd.wait_for_promises("after the raise", users=50)

    pause_campaign(campaign_id=campaign.pk, actor="test")
    at_pause = admitted(campaign)
    crowd.wait_for_answers(409, "paused", times=100)
    assert admitted(campaign) == at_pause, "when the pause has returned, no process admits"

    change_quantity(crowd, campaign, at_pause + 70)
    resume_campaign(campaign_id=campaign.pk, actor="test")
    wait_until(lambda: admitted(campaign) == at_pause + 70)
    crowd.wait_for_answers(409, "sold-out", times=50)

    verdict = assert_history_holds(crowd, campaigns=[campaign])[campaign.pk]
    assert set(crowd.answers) == {(202, ""), (200, ""), (409, "sold-out"), (409, "paused")}
    assert issued(campaign) == verdict.promised == at_pause + 70


def test_repeated_lowering_under_load_never_oversells(service: Service) -> None:
    """The other order, PostgreSQL first, would let users in above the new quantity while it travels."""
    service.web(COUPON_WEB_WORKERS="2", **LONG_TIMEOUTS)
    service.consumer("--solo")
    campaign = service.campaign(QUANTITY)
    crowd = service.crowd(campaign, habits=HURRY)
    outcomes = Counter[str]()

    def lower(margin: int) -> int | None:
        """To so many more than are in; None when more than that came in meanwhile, and it was refused."""
        lowered_to = admitted(campaign) + margin
        try:
            change_quantity(crowd, campaign, lowered_to)
        except OperatorError:
            return None
        wait_until(lambda: admitted(campaign) == lowered_to)
        return lowered_to

    crowd.wait_for_promises("at first", users=20)
    margin = 4
    for _ in range(15):
        if lower(margin) is None:
            margin *= 2  # a slow machine lets many in while an operator's change is on its way
            continue
        outcomes["lowered"] += 1
        change_quantity(crowd, campaign, QUANTITY)
    lowered_to = wait_until(lambda: lower(margin), what="the last time")
    crowd.wait_for_answers(409, "sold-out", times=20)

    assert outcomes["lowered"] > 0
    verdict = assert_history_holds(crowd, campaigns=[campaign])[campaign.pk]
    assert issued(campaign) == verdict.promised == lowered_to


def test_admission_starts_at_the_opening_and_stops_at_the_quantity(service: Service) -> None:
    service.web(COUPON_WEB_WORKERS="2", **LONG_TIMEOUTS)
    campaign = service.campaign(80, opens_at=datetime.now(UTC) + timedelta(hours=1))
    crowd = service.crowd(campaign, habits=HURRY)

    crowd.wait_for_answers(409, "not-open")
    before_the_look, opens_at = time.monotonic(), datetime.now(UTC) + timedelta(seconds=1.5)
    # By our monotonic clock it opens somewhere between these two; Redis has whole milliseconds of this machine's clock.
    earliest, latest = before_the_look + 1.499, time.monotonic() + 1.501
    change_campaign(campaign_id=campaign.pk, changes={"opens_at": opens_at}, actor="test")
    latest = max(latest, time.monotonic())  # a machine may have been slower with the change than the opening was far
    wait_until(lambda: crowd.promised == 80, what=lambda: f"the opening: {crowd.answers}")
    crowd.wait_for_answers(409, "sold-out", times=50)
    service.consumer("--solo")
    assert_history_holds(crowd, campaigns=[campaign])

    requests = read_history(crowd.path).requests
    assert min(request.end for request in requests if request.promises) > earliest
    not_open = max(request.start for request in requests if request.code == "not-open")
    assert not_open < latest
    assert sorted(crowd.promises(campaign.pk).values()) == list(range(1, 81))


def test_ten_simultaneous_openings_open_a_campaign_once(service: Service) -> None:
    service.web(COUPON_WEB_WORKERS="2", **LONG_TIMEOUTS)
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
    service.web(COUPON_WEB_WORKERS="2", **LONG_TIMEOUTS)
    campaign = service.campaign(100)

    def raise_to(quantity: int) -> int:
        return service.patch(f"campaigns/{campaign.pk}", {"quantity": quantity}).status

    with ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(raise_to, [200 + 10 * (number % 7) for number in range(40)]))

    assert set(answers) <= {200, 202, 409}, answers
    campaign.refresh_from_db()
    service.keeper(**LONG_TIMEOUTS)
    wait_until(
        lambda: in_redis(campaign) == (campaign.revision, campaign.quantity),
        what=lambda: f"PostgreSQL {campaign.revision, campaign.quantity}, Redis {in_redis(campaign)}",
    )


def in_redis(campaign: Campaign) -> tuple[int, int]:
    settings = campaign_store.describe(campaign_id=campaign.pk, epoch=1).settings
    campaign.refresh_from_db()
    return settings.revision, settings.quantity


def test_open_pause_and_resume_reach_every_process_within_200_ms(service: Service) -> None:
    """No process may answer by the old state later than that: 20 users ask both of them after each step."""
    service.web(COUPON_WEB_WORKERS="2", **LONG_TIMEOUTS)
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
