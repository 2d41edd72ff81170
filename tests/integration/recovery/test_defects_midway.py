"""A process dies of a defect between two steps of a rebuild, a push, a relay or a retry: the next run puts it right.

In this process, by an exception; tests/scenarios kills whole processes at the same points.
"""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.db.models.functions import Now

from coupons.admission import campaign_store
from coupons.admission.gate import Outcome
from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import change_campaign, open_campaign, pause_campaign
from coupons.campaigns.redis_sync import is_in_sync
from coupons.issuing.retry import retry_due_events
from coupons.models import Campaign, Coupon, EventStatus, FailEventHistory
from coupons.recovery.keeper import Keeper
from coupons.recovery.relay import relay_pending
from coupons.recovery.stale import stale_campaigns
from coupons.runtime import failpoints
from coupons.runtime.failpoints import InjectedDefect
from faults.ledgers import reconcile
from tests.support.gate import admit_user
from tests.support.service import Service
from tests.support.tickets import (
    admit,
    consume,
    held,
    issued_users,
    messages_in_topic,
    publish_and_mark,
    rebuild,
    received,
)

pytestmark = pytest.mark.usefixtures("no_promise_is_open")


@pytest.fixture(autouse=True)
def _switched_on(service: Service) -> Iterator[None]:
    failpoints.switch_on(service.failpoints)
    yield
    failpoints.switch_on(None)


def look() -> bool:
    return Keeper(interval_sec=1, stop=threading.Event()).round()


def quantity_in_redis(campaign: Campaign) -> int:
    campaign.refresh_from_db()
    return campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch).settings.quantity


@pytest.mark.parametrize(
    ("point", "left_stale"),
    [
        (failpoints.REBUILD_BEGUN, 2),
        (failpoints.REBUILD_EPOCH_RAISED, 2),
        (failpoints.REBUILD_LOG_READ, 2),
        (failpoints.REBUILD_BUILT, 1),  # from here on the defect is about one campaign, and the other one opens
        (failpoints.REBUILD_SWAPPED, 0),
    ],
)
def test_an_interrupted_rebuild_leaves_campaigns_closed_until_the_next(
    service: Service, point: str, left_stale: int
) -> None:
    campaigns = [service.campaign(10) for _ in range(2)]
    for campaign in campaigns:
        consume(received(campaign, "issued", *admit(campaign, "issued")))
        admit(campaign, "logged")
        publish_and_mark(campaign, "logged", 2)
    admission_redis().flushall()
    service.arm(point, "raise")

    with pytest.raises(InjectedDefect, match=point):
        rebuild(*campaigns)

    stale = stale_campaigns()
    assert len(stale) == left_stale
    reports = rebuild(*Campaign.objects.filter(pk__in=stale))
    assert [report.tickets for report in reports or []] == [2] * left_stale
    for campaign in campaigns:
        assert {user: one.sequence for user, one in held(campaign, "issued", "logged").items()} == {
            "issued": 1,
            "logged": 2,
        }
        assert admit(campaign, "later") == [3]


def test_an_opening_that_redis_missed_is_rebuilt(service: Service) -> None:
    campaign = service.campaign(10, opened=False)
    service.arm(failpoints.PUSH_COMMITTED, "raise")
    with pytest.raises(InjectedDefect):
        open_campaign(campaign_id=campaign.pk, actor="test")

    Campaign.objects.filter(pk=campaign.pk).update(updated_at=Now())
    assert not stale_campaigns(skip_opening=True), "its opener may still be about to load it"
    Campaign.objects.filter(pk=campaign.pk).update(updated_at=Now() + timedelta(hours=1))
    assert stale_campaigns(skip_opening=True), "PostgreSQL's clock has stepped back: it may have been open for long"

    Campaign.objects.filter(pk=campaign.pk).update(updated_at=Now() - timedelta(hours=1))
    assert stale_campaigns() == [campaign.pk]
    assert look()
    assert not stale_campaigns(), "nobody has loaded it, so the keeper does"

    campaign.refresh_from_db()
    assert (campaign.state, admit(campaign, "first")) == ("open", [1])


def test_the_keeper_pushes_a_change_that_redis_missed(service: Service) -> None:
    campaign = service.campaign(10)
    service.arm(failpoints.PUSH_COMMITTED, "raise")
    with pytest.raises(InjectedDefect):
        change_campaign(campaign_id=campaign.pk, changes={"quantity": 20}, actor="test")
    assert quantity_in_redis(campaign) == 10
    assert look()
    assert quantity_in_redis(campaign) == 20

    service.arm(failpoints.PUSH_COMMITTED, "raise")
    with pytest.raises(InjectedDefect):
        pause_campaign(campaign_id=campaign.pk, actor="test")
    assert look()
    assert campaign_store.describe(campaign_id=campaign.pk, epoch=1).settings.state == "paused"


def test_a_lower_quantity_that_postgresql_never_heard_of_is_undone(service: Service) -> None:
    campaign = service.campaign(10)
    service.arm(failpoints.PUSH_LOWERED, "raise")
    with pytest.raises(InjectedDefect):
        change_campaign(campaign_id=campaign.pk, changes={"quantity": 5}, actor="test")

    assert quantity_in_redis(campaign) == campaign.quantity == 10
    assert is_in_sync(campaign, campaign_store.describe(campaign_id=campaign.pk, epoch=1))


def test_the_keeper_pushes_a_lower_quantity_that_redis_missed(service: Service) -> None:
    campaign = service.campaign(10)
    admit(campaign, "a")
    service.arm(failpoints.PUSH_COMMITTED, "raise")
    with pytest.raises(InjectedDefect):
        change_campaign(campaign_id=campaign.pk, changes={"quantity": 1}, actor="test")
    assert admit_user(campaign_id=campaign.pk, epoch=1, user_id="b").outcome is Outcome.PAUSED

    assert look()

    assert admit_user(campaign_id=campaign.pk, epoch=1, user_id="b").outcome is Outcome.SOLD_OUT


def test_an_unmarked_relayed_message_makes_no_second_coupon(service: Service, settings: LazySettings) -> None:
    settings.RELAY_AFTER_MS = 0
    campaign = service.campaign(10)
    admit(campaign, "a", "b")
    service.arm(failpoints.RELAY_PUBLISHED, "raise")
    with pytest.raises(InjectedDefect):
        relay_pending()

    report = relay_pending()

    assert report is not None
    assert (report.published, messages_in_topic()) == (2, 4)
    messages = [received(campaign, "a", 1), received(campaign, "b", 2)]
    assert consume(*messages).done == 2
    assert consume(*messages).duplicates == 2
    assert issued_users(campaign) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("point", "issued_already"),
    [
        (failpoints.RETRY_CLAIMED, False),
        (failpoints.RETRY_ISSUED, False),
        (failpoints.RETRY_COMMITTED, True),
        (failpoints.RETRY_SETTLED, True),
    ],
)
def test_a_retry_that_ended_midway_issues_once(
    service: Service, settings: LazySettings, point: str, issued_already: bool
) -> None:
    settings.RETRY_BASE_DELAY_SEC = settings.RETRY_LEASE_SEC = 0
    campaign = service.campaign(10)
    admit(campaign, "a")
    Campaign.objects.update(issued_count=10)
    consume(received(campaign, "a", 1))
    Campaign.objects.update(issued_count=0)
    service.arm(point, "raise")

    with pytest.raises(InjectedDefect):
        retry_due_events(limit=10, actor="test")

    assert Coupon.objects.exists() is issued_already
    event = FailEventHistory.objects.get()
    assert event.event_status == (EventStatus.SUCCESS if issued_already else EventStatus.PROCESSING)
    retry_due_events(limit=10, actor="test")
    relay_pending()
    assert issued_users(campaign) == {"a": 1}
    assert FailEventHistory.objects.get().event_status == EventStatus.SUCCESS
    ledger = next(reconcile(campaign_ids=[campaign.pk]))
    assert ledger.closes, ledger.document()
