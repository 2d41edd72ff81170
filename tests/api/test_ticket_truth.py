"""Whatever is down, and whatever a process has not heard of yet: who was promised a coupon is never told 404."""

from collections.abc import Iterator

import pytest
from django.conf import LazySettings

from coupons.admission import campaign_store
from coupons.admission.campaign_cache import campaign_cache
from coupons.campaigns.lifecycle import open_campaign
from coupons.models import Campaign
from coupons.recovery.rebuild import rebuild_campaigns
from tests.support.http import Api, assert_problem, json_of
from tests.support.promises import apply_all, issued
from tests.support.service import Service
from tests.support.tickets import admit, rebuild
from tests.support.waiting import wait_until


def issue_one(service: Service) -> Campaign:
    campaign = service.campaign(10)
    apply_all(campaign, ["42"])
    service.consumer("--solo").says("consumer.assigned")
    wait_until(lambda: issued(campaign) == 1 and campaign_store.describe(campaign_id=campaign.pk, epoch=1).pending == 0)
    return campaign


@pytest.fixture
def not_refreshed(settings: LazySettings) -> Iterator[None]:
    """What this process knows of campaigns stays as it is, for as long as the test lasts."""
    settings.CAMPAIGN_CACHE_REFRESH_MS = 600_000
    campaign_cache.reset()
    yield
    campaign_cache.reset()


def cached_epoch(campaign: Campaign) -> int:
    known = campaign_cache().look_up(campaign.pk, wait_sec=20)
    assert known is not None
    return known.epoch


@pytest.mark.usefixtures("not_refreshed")
def test_a_campaign_cached_as_a_draft_still_asks_the_gate(api: Api, service: Service) -> None:
    """Another process has opened it and promised a coupon since."""
    campaign = service.campaign(10, opened=False)
    assert cached_epoch(campaign) == 0
    campaign = open_campaign(campaign_id=campaign.pk, actor="test")
    admit(campaign, "42")
    assert cached_epoch(campaign) == 0

    assert json_of(api.ticket(campaign)) == {"status": "pending", "sequence": 1}


@pytest.mark.usefixtures("not_refreshed")
def test_a_process_that_missed_a_rebuild_asks_again(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    apply_all(campaign, ["42"])
    rebuild(campaign)
    assert cached_epoch(campaign) == 1

    assert json_of(api.ticket(campaign)) == {"status": "pending", "sequence": 1}


def test_an_issued_ticket_is_known_while_redis_is_down(api: Api, service: Service) -> None:
    campaign = issue_one(service)
    apply_all(campaign, ["pending"])
    service.stack("kill", "redis")

    assert json_of(api.ticket(campaign, "42"))["status"] == "issued"
    assert_problem(api.ticket(campaign, "stranger"), 503, "unavailable")


def test_a_pending_ticket_is_known_while_postgresql_is_down(api: Api, service: Service) -> None:
    campaign = issue_one(service)
    service.stack("pause", "postgres")
    apply_all(campaign, ["pending"])

    assert json_of(api.ticket(campaign, "pending")) == {"status": "pending", "sequence": 2}
    for user in ("42", "stranger"):
        assert_problem(api.ticket(campaign, user), 503, "unavailable")


def test_a_ticket_is_503_and_not_404_during_a_rebuild(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    apply_all(campaign, ["42"])

    def look(seconds: float) -> None:
        for user in ("42", "stranger"):
            assert_problem(api.ticket(campaign, user), 503, "unavailable")

    assert rebuild_campaigns(campaign_ids=[campaign.pk], sleep=look) is not None
    assert json_of(api.ticket(campaign)) == {"status": "pending", "sequence": 1}
