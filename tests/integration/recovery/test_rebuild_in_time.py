"""A rebuild beside everything else that goes on: its wait, its order, one at a time, and what it leaves when it
fails."""

from dataclasses import replace

import pytest
from django.conf import LazySettings
from django.db import connections

from coupons.admission import campaign_store, ticket_store
from coupons.admission.campaign_store import CampaignSettings
from coupons.admission.keys import campaign_keys
from coupons.admission.rebuild import BuiltState, begin_rebuild, finish_rebuild
from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import pause_campaign
from coupons.errors import GateUnavailable, LogUnavailable, PushDidNotArrive, StateStale
from coupons.models import Campaign, Coupon
from coupons.recovery.locks import Work
from coupons.recovery.rebuild import promise_window_sec, rebuild_campaigns
from coupons.recovery.stale import stale_campaigns
from tests.support.gate import admit_user
from tests.support.service import Service
from tests.support.tickets import (
    admit,
    held,
    issue,
    publish,
    rebuild,
    ticket,
)


def test_it_reads_the_topic_after_the_last_possible_promise(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    admission_redis().delete(*campaign_keys(campaign.pk))
    waits: list[float] = []

    def promised_meanwhile(seconds: float) -> None:
        waits.append(seconds)
        publish(campaign, "a", 1)

    rebuild_campaigns(campaign_ids=[campaign.pk], sleep=promised_meanwhile)

    assert waits == [promise_window_sec()]
    assert sequences_of(campaign, "a") == {"a": 1}


def sequences_of(campaign: Campaign, *users: str) -> dict[str, int]:
    return {user: one.sequence for user, one in held(campaign, *users).items()}


def test_the_window_covers_accept_timeout_socket_timeout_and_replica_lag(settings: LazySettings) -> None:
    settings.ACCEPT_TIMEOUT_MS, settings.REDIS_SOCKET_TIMEOUT_MS, settings.REDIS_REPLICA_LAG_MS = 1_000, 500, 250

    assert promise_window_sec() == 2.75


def test_during_a_rebuild_nothing_is_admitted_issued_or_lost(service: Service) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    seen: list[str] = []

    def meanwhile(seconds: float) -> None:
        campaign.refresh_from_db()
        for epoch in (1, 2):
            with pytest.raises(StateStale):
                admit_user(campaign_id=campaign.pk, epoch=epoch, user_id="b")
        with pytest.raises(StateStale):
            issue(ticket(campaign, "a", 1))
        with pytest.raises(PushDidNotArrive):
            pause_campaign(campaign_id=campaign.pk, actor="test")
        seen.append("all")

    rebuild_campaigns(campaign_ids=[campaign.pk], sleep=meanwhile)

    assert seen == ["all"]
    assert campaign_store.describe(campaign_id=campaign.pk, epoch=2).settings.state == "paused"
    assert not Coupon.objects.exists()


def test_a_second_rebuilder_s_token_wins_over_a_first(service: Service) -> None:
    campaign = service.campaign()
    settings = CampaignSettings(1, "open", 10, 0, None)
    first = begin_rebuild(campaign_id=campaign.pk, token="first")
    second = begin_rebuild(campaign_id=campaign.pk, token="second")

    with pytest.raises(StateStale, match="NOT_THE_REBUILDER"):
        finish_rebuild(first, epoch=2, settings=settings, state=BuiltState({"wrong": 1}, {}, 1))
    finish_rebuild(second, epoch=2, settings=settings, state=BuiltState({"right": 1}, {}, 1))

    assert set(ticket_store.held_tickets(campaign_id=campaign.pk, epoch=2, user_ids=["right", "wrong"])) == {"right"}
    assert not list(admission_redis().scan_iter("*building*"))


def test_a_state_built_before_a_restart_is_not_swapped_in(service: Service) -> None:
    campaign = service.campaign()
    rebuilding = begin_rebuild(campaign_id=campaign.pk, token="t")
    elsewhere = replace(rebuilding, run_id="0" * 40)

    with pytest.raises(StateStale, match="INCOMPLETE"):
        finish_rebuild(elsewhere, epoch=2, settings=CampaignSettings(1, "open", 10, 0, None), state=BuiltState())
    assert not list(admission_redis().scan_iter("*building*"))


def test_a_build_that_does_not_fit_leaves_nothing(service: Service) -> None:
    """Each further try would take a piece more of a Redis that is nearly full."""
    campaign = service.campaign(20_000)
    rebuilding = begin_rebuild(campaign_id=campaign.pk, token="t")
    state = BuiltState({f"user-{number}": number for number in range(1, 20_001)}, {}, 20_000)
    redis = admission_redis()
    redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 600_000)
    try:
        with pytest.raises(GateUnavailable):
            finish_rebuild(rebuilding, epoch=2, settings=CampaignSettings(1, "open", 20_000, 0, None), state=state)
        assert not list(redis.scan_iter("*building*"))
    finally:
        redis.config_set("maxmemory", 0)

    finish_rebuild(rebuilding, epoch=2, settings=CampaignSettings(1, "open", 20_000, 0, None), state=state)
    assert redis.ttl(campaign_keys(campaign.pk).tickets) == -1, "what was taken over stays"


def test_one_rebuilder_at_a_time(service: Service) -> None:
    campaign = service.campaign()
    other = connections.create_connection("default")
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", [0x636F7570, Work.REBUILD])
    try:
        assert rebuild(campaign) is None
        assert campaign_store.describe(campaign_id=campaign.pk, epoch=1).epoch == 1, "nothing was touched"
    finally:
        other.close()


def test_without_the_topic_no_rebuild_begins(service: Service, settings: LazySettings) -> None:
    campaign = service.campaign()
    settings.TOPIC = "coupon_create_not_there"

    with pytest.raises(LogUnavailable, match="Kafka has no topic coupon_create_not_there"):
        rebuild(campaign)
    assert campaign_store.describe(campaign_id=campaign.pk, epoch=1).epoch == 1


def test_a_topic_lost_during_a_rebuild_keeps_the_campaign_closed(service: Service, settings: LazySettings) -> None:
    campaign = service.campaign()
    admit(campaign, "a")
    topic = settings.TOPIC

    def lose_the_topic(seconds: float) -> None:
        settings.TOPIC = "coupon_create_not_there"

    with pytest.raises(LogUnavailable):
        rebuild_campaigns(campaign_ids=[campaign.pk], sleep=lose_the_topic)
    assert stale_campaigns() == [campaign.pk]
    settings.TOPIC = topic
    rebuild(campaign)

    assert sequences_of(campaign, "a") == {"a": 1}


def test_several_campaigns_are_rebuilt_in_one_pass(service: Service) -> None:
    campaigns = [service.campaign() for _ in range(3)]
    for campaign in campaigns:
        admit(campaign, "a")
    reports = rebuild(*campaigns)

    assert reports is not None
    assert {report.campaign_id for report in reports} == {campaign.pk for campaign in campaigns}
    assert [(report.tickets, report.pending) for report in reports] == [(1, 1)] * 3
