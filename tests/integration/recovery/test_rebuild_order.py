"""Campaigns that users wait for are rebuilt first."""

import logging
from datetime import timedelta
from uuid import UUID

import pytest
from django.db.models.functions import Now

from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import close_campaign, pause_campaign
from coupons.models import Campaign
from coupons.recovery.rebuild import rebuild_campaigns
from coupons.recovery.stale import stale_campaigns
from tests.support.service import Service
from tests.support.tickets import insert_coupons


def test_what_can_admit_is_rebuilt_before_what_is_over(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """After a loss of Redis: closed campaigns may have millions of tickets, and their part begins when the others are
    open again."""
    everyone = closed, later, paused, sold_out, first = [service.campaign(1) for _ in range(5)]
    for campaign, opened_at in {later: 1, first: 2}.items():
        Campaign.objects.filter(pk=campaign.pk).update(opens_at=Now() - timedelta(hours=opened_at))
    pause_campaign(campaign_id=paused.pk, actor="test")
    close_campaign(campaign_id=closed.pk, actor="test")
    insert_coupons(sold_out, [("a", 1)])
    admission_redis().flushall()
    stale: list[set[UUID]] = []

    with caplog.at_level(logging.INFO, logger="coupons.recovery.rebuild"):
        rebuild_campaigns(
            campaign_ids=[each.pk for each in everyone],
            sleep=lambda seconds: stale.append({*stale_campaigns()}),
        )

    done = [record.getMessage() for record in caplog.records if record.getMessage().startswith("rebuild.done")]
    order = [
        next(campaign for campaign in (closed, later, paused, sold_out, first) if str(campaign.pk) in line)
        for line in done
    ]
    assert order[:2] == [first, later]
    assert {*order[2:4]} == {paused, sold_out}
    assert order[4:] == [closed]
    assert stale == [{each.pk for each in everyone}, {closed.pk}]
