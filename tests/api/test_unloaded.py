"""What users of an unloaded campaign are answered, by the view and by the front: PostgreSQL alone has their tickets."""

import pytest
from django.test import Client
from prometheus_client import REGISTRY

from coupons.reconciliation.unload import unload_campaigns
from tests.support.http import Api, assert_problem, json_of
from tests.support.service import Service
from tests.support.settled import settled_campaign

pytestmark = pytest.mark.usefixtures("long_timeouts")


def test_an_unloaded_campaign_is_closed_and_its_tickets_known(api: Api, service: Service) -> None:
    """Also while Redis is down, which has nothing to say about it."""
    campaign = settled_campaign(service)
    issued = json_of(api.ticket(campaign, "a"))
    assert_problem(api.apply(campaign, "c"), 410, "closed")

    report = unload_campaigns(campaign_ids=[campaign.pk], actor="test")  # waits until all processes know
    assert report.refused == {}
    service.stack("stop", "redis")

    before = closed_applies()
    for user in ("a", "c", "gone"):
        assert_problem(api.apply(campaign, user), 410, "closed")
    assert closed_applies() >= before + 3
    assert json_of(api.ticket(campaign, "a")) == issued
    assert issued["status"] == "issued"
    assert json_of(api.ticket(campaign, "gone")) == {"status": "failed", "sequence": 3}
    assert_problem(api.ticket(campaign, "c"), 404, "not-found")
    document = json_of(api.campaign(campaign))
    assert (document["state"], document["issued"], document["remaining"]) == ("closed", 2, None)


def closed_applies() -> float:
    return REGISTRY.get_sample_value("coupon_applies_total", {"outcome": "closed"}) or 0


def test_an_unloaded_campaign_is_not_reported_stale(service: Service) -> None:
    campaign = settled_campaign(service)
    unload_campaigns(campaign_ids=[campaign.pk], actor="test", sleep=lambda seconds: None)
    text = Client().get("/metrics").content.decode()

    assert f'coupon_stale{{campaign="{campaign.pk}"}}' not in text
    assert 'coupon_scrape_error{part="redis"} 0.0' in text
