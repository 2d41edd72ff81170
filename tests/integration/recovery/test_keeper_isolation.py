"""A campaign that fails for a reason of its own stops no other one, and is logged once."""

import logging
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.db.models.functions import Now

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.errors import GateUnavailable
from coupons.models import Campaign, PartitionOffset
from coupons.recovery.rebuild import rebuild_campaigns
from tests.integration.recovery.test_keeper import a_keeper, make_stale
from tests.support.gate import damage_keys, in_redis
from tests.support.service import Service
from tests.support.tickets import admit, messages_in_topic, pending_users, publish, publish_and_mark
from tests.support.topic import ticket_holders

pytestmark = pytest.mark.usefixtures("no_promise_is_open")


def lines(caplog: pytest.LogCaptureFixture, campaign: Campaign) -> list[str]:
    said = [record.getMessage() for record in caplog.records if str(campaign.pk) in record.getMessage()]
    return [line.split(" error=")[0] for line in said if line.startswith("keeper.")]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_damaged_campaign_stops_no_other(
    service: Service, settings: LazySettings, caplog: pytest.LogCaptureFixture, place: int
) -> None:
    """Whichever of them it is. The others are rebuilt, pushed and relayed."""
    campaigns = [service.campaign(10) for _ in range(3)]
    damaged = campaigns.pop(place)
    stale, behind = campaigns
    settings.RELAY_AFTER_MS = 0
    admit(stale, "a")
    admit(behind, "b")
    damage_keys(damaged)
    make_stale(stale)
    Campaign.objects.filter(pk=behind.pk).update(quantity=20, revision=9)
    keeper = a_keeper()

    with caplog.at_level(logging.INFO, logger="coupons.recovery.keeper"):
        assert not keeper.round()
        assert not keeper.round()
        assert ticket_holders(stale) == {"a": 1}
        assert in_redis(behind).quantity == 20
        assert messages_in_topic() == 2
        assert lines(caplog, damaged) == [
            f"keeper.campaign_failed step={step} campaign={damaged.pk}" for step in ("rebuild", "push", "relay")
        ]
        admission_redis().delete(campaign_keys(damaged.pk).campaign)
        Campaign.objects.update(updated_at=Now() - timedelta(minutes=5))
        assert keeper.round()

    assert in_redis(damaged).quantity == 10, "it was rebuilt"
    assert len(lines(caplog, damaged)) == 6


def test_a_damaged_row_stops_no_other_rebuild(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    damaged, good = service.campaign(10), service.campaign(10)
    for campaign in (damaged, good):
        publish(campaign, "a", *admit(campaign, "a"))
        make_stale(campaign)
    Campaign.objects.filter(pk=damaged.pk).update(log_ends={"first": "last"})

    with caplog.at_level(logging.INFO, logger="coupons.recovery.keeper"):
        assert not a_keeper().round()

    assert ticket_holders(good) == {"a": 1}
    assert pending_users(good) == ["a"]
    assert lines(caplog, damaged) == [f"keeper.campaign_failed step=rebuild campaign={damaged.pk}"]


def test_a_cut_log_is_published_again_beside_a_damaged_campaign(service: Service, settings: LazySettings) -> None:
    damaged, good = service.campaign(10), service.campaign(10)
    position = publish_and_mark(good, "a", *admit(good, "a"))
    damage_keys(damaged)
    PartitionOffset.objects.create(
        topic=settings.TOPIC, partition=position.partition, next_offset=0, end_offset=position.offset + 100
    )
    settings.RELAY_AFTER_MS = 0

    assert not a_keeper().round()

    assert messages_in_topic() == 2
    damaged.refresh_from_db()
    assert damaged.epoch > 1, "it is stale: a rebuild forgets its positions, too"
    before = damaged.epoch
    assert not a_keeper().round()
    damaged.refresh_from_db()
    assert damaged.epoch == before, "the cut was seen once"


def test_a_rebuild_of_one_campaign_still_raises_its_error(service: Service) -> None:
    damaged = service.campaign(10)
    damage_keys(damaged)

    with pytest.raises(GateUnavailable, match="WRONGTYPE"):
        rebuild_campaigns(campaign_ids=[damaged.pk])


def test_an_outage_is_no_campaign_s(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    campaign = service.campaign(10)
    service.stack("stop", "redis")

    with caplog.at_level(logging.INFO, logger="coupons.recovery.keeper"):
        assert not a_keeper().round()

    assert lines(caplog, campaign) == []
    assert any("keeper.waiting step=push" in record.getMessage() for record in caplog.records)
