"""A quantity is raised in PostgreSQL first and lowered in Redis first; and what happens when one of them is away."""

import logging

import pytest
from django.db import IntegrityError, transaction

from coupons.admission import gate
from coupons.admission.gate import CampaignSettings, Outcome
from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import change_campaign, open_campaign, pause_campaign
from coupons.campaigns.push import push_again, settings_of
from coupons.errors import GateUnavailable, OperatorError, PushDidNotArrive
from coupons.models import Campaign
from tests.support.service import Service
from tests.support.tickets import admit


def in_redis(campaign: Campaign) -> CampaignSettings:
    campaign.refresh_from_db()
    return gate.describe(campaign_id=campaign.pk, epoch=campaign.epoch).settings


def change_quantity(campaign: Campaign, quantity: int) -> Campaign:
    return change_campaign(campaign_id=campaign.pk, changes={"quantity": quantity}, actor="test")


def lower_in_redis_only(campaign: Campaign, quantity: int) -> None:
    """A lower that was half done: the process ended before PostgreSQL committed."""
    campaign.quantity = quantity
    campaign.revision += 1
    gate.push(campaign_id=campaign.pk, epoch=campaign.epoch, settings=settings_of(campaign))
    campaign.refresh_from_db()


def test_a_raise_is_in_both_when_it_returns(service: Service) -> None:
    campaign = service.campaign(1)
    admit(campaign, "a")
    change_quantity(campaign, 2)

    assert Campaign.objects.get().quantity == in_redis(campaign).quantity == 2
    assert admit(campaign, "b") == [2]


def test_while_redis_is_away_a_raise_is_saved_and_said_not_to_have_arrived(service: Service) -> None:
    campaign = service.campaign(1)
    service.stack("pause", "redis")

    with pytest.raises(PushDidNotArrive, match=r"Saved, but Redis has not heard of it yet .*The keeper pushes it"):
        change_quantity(campaign, 2)
    assert Campaign.objects.get().quantity == 2

    service.stack("resume", "redis")
    push_again(campaign.pk)
    assert in_redis(campaign).quantity == 2


def test_while_redis_is_away_a_lower_changes_nothing(service: Service) -> None:
    campaign = service.campaign(10)
    service.stack("pause", "redis")

    with pytest.raises(GateUnavailable):
        change_quantity(campaign, 5)
    assert Campaign.objects.get().quantity == 10


def test_a_lower_is_in_both_when_it_returns(service: Service) -> None:
    campaign = service.campaign(10)
    change_quantity(campaign, 5)

    assert Campaign.objects.get().quantity == in_redis(campaign).quantity == 5


def test_a_lower_never_goes_below_those_who_are_in_and_says_what_is_possible(service: Service) -> None:
    campaign = service.campaign(10)
    admit(campaign, "a", "b", "c")

    with pytest.raises(OperatorError, match=r"3 users are already in.*The least possible now is 3"):
        change_quantity(campaign, 2)
    assert Campaign.objects.get().quantity == in_redis(campaign).quantity == 10


def test_a_lower_to_those_who_are_in_is_sold_out(service: Service) -> None:
    campaign = service.campaign(10)
    admit(campaign, "a", "b")
    change_quantity(campaign, 2)

    assert gate.admit(campaign_id=campaign.pk, epoch=1, user_id="c").outcome is Outcome.SOLD_OUT


def test_a_lower_that_was_half_done_is_undone_by_the_next_push(service: Service) -> None:
    campaign = service.campaign(10)
    lower_in_redis_only(campaign, 5)
    assert in_redis(campaign).quantity == 5

    assert push_again(campaign.pk)

    assert in_redis(campaign).quantity == Campaign.objects.get().quantity == 10
    assert in_redis(campaign).revision == Campaign.objects.get().revision


def test_a_lower_after_a_half_done_one_is_refused_rather_than_lost(service: Service) -> None:
    campaign = service.campaign(10)
    lower_in_redis_only(campaign, 5)

    with pytest.raises(OperatorError, match=r"Another change .* try again"):
        change_quantity(campaign, 7)
    assert Campaign.objects.get().quantity == 10


def test_a_push_of_what_redis_has_already_does_nothing(service: Service) -> None:
    campaign = service.campaign()

    assert not push_again(campaign.pk)
    assert Campaign.objects.get().revision == campaign.revision


def test_a_draft_is_never_pushed(service: Service) -> None:
    assert not push_again(service.campaign(opened=False).pk)


def test_a_pause_that_did_not_arrive_is_pushed_again(service: Service) -> None:
    campaign = service.campaign()
    service.stack("pause", "redis")
    with pytest.raises(PushDidNotArrive):
        pause_campaign(campaign_id=campaign.pk, actor="test")
    service.stack("resume", "redis")

    push_again(campaign.pk)

    assert gate.admit(campaign_id=campaign.pk, epoch=1, user_id="a").outcome is Outcome.PAUSED


def test_an_opening_while_redis_is_away_is_saved_and_stale_until_it_is_mended(service: Service) -> None:
    campaign = service.campaign(opened=False)
    service.stack("pause", "redis")

    with pytest.raises(PushDidNotArrive, match="Opened, but Redis did not answer"):
        open_campaign(campaign_id=campaign.pk, actor="test")
    assert Campaign.objects.get().epoch == 1


def test_nothing_is_loaded_a_second_time_over_a_state_that_was_lost(service: Service) -> None:
    campaign = service.campaign()
    admission_redis().flushall()

    with pytest.raises(OperatorError, match="must be draft"):
        open_campaign(campaign_id=campaign.pk, actor="test")
    assert admission_redis().dbsize() == 0


def test_postgresql_itself_refuses_a_quantity_below_what_is_issued(service: Service) -> None:
    campaign = service.campaign(10)
    Campaign.objects.filter(pk=campaign.pk).update(issued_count=3)

    with pytest.raises(IntegrityError, match="campaign_issued_within_quantity"), transaction.atomic():
        Campaign.objects.filter(pk=campaign.pk).update(quantity=2)


def test_a_pause_arrives_although_a_half_done_lower_has_used_up_its_revision(service: Service) -> None:
    campaign = service.campaign(10)
    lower_in_redis_only(campaign, 5)

    pause_campaign(campaign_id=campaign.pk, actor="test")

    assert (in_redis(campaign).state, in_redis(campaign).quantity) == ("paused", 10)


def test_a_change_that_did_not_arrive_is_logged_with_its_actor_all_the_same(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    campaign = service.campaign(1)
    service.stack("pause", "redis")

    with caplog.at_level(logging.INFO, logger="coupons.campaigns"), pytest.raises(PushDidNotArrive):
        change_campaign(campaign_id=campaign.pk, changes={"quantity": 2}, actor="kim")

    assert "actor=kim" in caplog.text
