"""The keeper: one round does what the parts allow, and says once what they do not."""

import logging
import threading
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.db.models.functions import Now

from coupons.admission import campaign_store
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.campaigns.redis_sync import settings_of
from coupons.models import Campaign, CampaignState
from coupons.recovery.keeper import Keeper
from coupons.recovery.stale import stale_campaigns
from tests.support.gate import in_redis
from tests.support.service import Service
from tests.support.tickets import admit, publish
from tests.support.topic import ticket_holders

pytestmark = pytest.mark.usefixtures("no_promise_is_open")


def a_keeper() -> Keeper:
    return Keeper(interval_sec=1, stop=threading.Event())


def make_stale(campaign: Campaign) -> None:
    admission_redis().hset(campaign_keys(campaign.pk).campaign, "run_id", "0")


def make_missing(campaign: Campaign) -> None:
    assert admission_redis().delete(campaign_keys(campaign.pk).campaign) == 1


def test_a_round_rebuilds_and_pushes(service: Service) -> None:
    stale, behind = service.campaign(10), service.campaign(10)
    admit(stale, "a")
    make_stale(stale)
    Campaign.objects.filter(pk=behind.pk).update(quantity=20, revision=9)

    assert a_keeper().round()

    assert stale_campaigns() == []
    assert in_redis(behind).quantity == 20


def test_only_an_abandoned_opening_is_loaded(service: Service, settings: LazySettings) -> None:
    """PostgreSQL has its first epoch, Redis nothing yet: that looks as if Redis had lost it."""
    campaign = service.campaign(10, opened=False)
    settings.REDIS_SOCKET_TIMEOUT_MS = 60_000  # so long an opener may be about to load it, whoever stands still
    Campaign.objects.filter(pk=campaign.pk).update(state=CampaignState.OPEN, epoch=1, updated_at=Now())

    assert a_keeper().round()
    campaign.refresh_from_db()
    assert campaign.epoch == 1
    assert campaign_store.load(campaign_id=campaign.pk, epoch=1, settings=settings_of(campaign)), "nobody else has"

    make_missing(campaign)
    settings.REDIS_SOCKET_TIMEOUT_MS = 500  # a rebuild waits so long, too
    Campaign.objects.filter(pk=campaign.pk).update(updated_at=Now() - timedelta(minutes=5))
    assert a_keeper().round()
    campaign.refresh_from_db()
    assert campaign.epoch == 2, "it was rebuilt"
    assert in_redis(campaign).quantity == 10


def test_a_campaign_rebuilt_meanwhile_is_not_rebuilt_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's rebuild_admission, say, which ends between the keeper's look and its lock."""
    campaign = service.campaign(10)
    monkeypatch.setattr("coupons.recovery.keeper.stale_campaigns", lambda **_: [campaign.pk])

    assert a_keeper().round()

    campaign.refresh_from_db()
    assert campaign.epoch == 1


def test_a_failed_rebuild_does_not_stop_other_pushes(service: Service, settings: LazySettings) -> None:
    behind, stale = service.campaign(10), service.campaign(10)
    make_stale(stale)
    Campaign.objects.filter(pk=behind.pk).update(quantity=20, revision=9)
    settings.TOPIC = "coupon_create_not_there"  # without a topic no rebuild can end

    assert not a_keeper().round()

    assert in_redis(behind).quantity == 20


def test_a_rebuild_waiting_for_a_key_is_logged_once(
    service: Service, settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    """After the first refusal the keeper only looks: no lock, which an operator's rebuild needs, and no higher
    epoch."""
    keeper, keys = a_keeper(), settings.MESSAGE_KEYS
    campaign, other = service.campaign(10), service.campaign(10)
    settings.MESSAGE_KEYS = {"former-0a0b0c0d": b"x" * 32}
    publish(campaign, "a", *admit(campaign, "a"))
    settings.MESSAGE_KEYS = keys
    admission_redis().flushall()
    Campaign.objects.update(updated_at=Now() - timedelta(seconds=5))

    with caplog.at_level(logging.INFO, logger="coupons.recovery.keeper"):
        assert not keeper.round()
        make_stale(other)
        assert not keeper.round()
        campaign.refresh_from_db()
        assert campaign.epoch == 2
        assert stale_campaigns() == [campaign.pk], "the other was rebuilt"
        settings.MESSAGE_KEYS = {**keys, "former-0a0b0c0d": b"x" * 32}
        assert keeper.round()

    said = [record.message.split(" error=")[0] for record in caplog.records if "step=rebuild" in record.message]
    assert said == ["keeper.waiting step=rebuild", "keeper.recovered step=rebuild"]
    assert ticket_holders(campaign) == {"a": 1}


def test_an_outage_and_its_end_are_logged_once(
    service: Service, settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    keeper, topic = a_keeper(), settings.TOPIC
    service.campaign(10)
    settings.TOPIC = "coupon_create_not_there"
    with caplog.at_level(logging.INFO, logger="coupons.recovery.keeper"):
        keeper.round()
        keeper.round()
        settings.TOPIC = topic
        keeper.round()

    said = [record.message.split(" error=")[0] for record in caplog.records if "step=relay" in record.message]
    assert said == ["keeper.waiting step=relay", "keeper.recovered step=relay"]
