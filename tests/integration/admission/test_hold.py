"""A campaign that refused everybody admits by new settings only when no process remembers the old ones."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings
from django.db.models import F

from coupons.admission.campaign_store import PushResult, refusal_states
from coupons.admission.gate import Outcome
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.campaigns import redis_sync
from coupons.campaigns.lifecycle import change_campaign, pause_campaign, resume_campaign
from coupons.campaigns.redis_sync import push_again
from coupons.models import Campaign
from tests.support.gate import HOUR_MS, Gate
from tests.support.http import Api
from tests.support.service import Service

MakeGate = Callable[..., Gate]
LONG_MS = 60_000


def end_hold(campaign: Campaign | Gate) -> None:
    """As if the time had passed."""
    keys = campaign.keys if isinstance(campaign, Gate) else campaign_keys(campaign.pk)
    assert admission_redis().hget(keys.campaign, "hold_until_ms")
    admission_redis().hset(keys.campaign, "hold_until_ms", 1)


def step_back(place: Gate, by_ms: int) -> None:
    """As if Redis's clock had stepped back since: the hold lies so much later."""
    for field in ("hold_from_ms", "hold_until_ms"):
        assert admission_redis().hincrby(place.keys.campaign, field, by_ms) > by_ms


@pytest.mark.parametrize(
    ("made", "change", "outcome"),
    [
        ({"quantity": 1}, {"quantity": 11}, Outcome.SOLD_OUT),
        ({"state": "paused"}, {"state": "open"}, Outcome.PAUSED),
        ({"opens_in_ms": HOUR_MS}, {"opens_at_ms": 1}, Outcome.NOT_OPEN),
        ({"closes_in_ms": -1}, {"closes_at_ms": None}, Outcome.CLOSED),
    ],
)
def test_users_are_told_not_now_during_the_hold(
    a_gate: MakeGate, made: dict[str, Any], change: dict[str, Any], outcome: Outcome
) -> None:
    place = a_gate(**made)
    place.admit("first")
    assert place.admit("second").outcome is outcome

    assert place.push(2, hold_ms=LONG_MS, **change) is PushResult.ON_HOLD

    assert place.admit("second").outcome is Outcome.PAUSED
    end_hold(place)
    assert place.admit("second").outcome is Outcome.ADMITTED


def test_the_former_refusal_is_not_cached_during_the_hold(a_gate: MakeGate) -> None:
    place = a_gate(quantity=1)
    place.admit("first")
    place.push(2, quantity=2, hold_ms=LONG_MS)

    assert refusal_states({place.campaign_id: place.epoch})[place.campaign_id].refusal is None


def test_a_winner_is_told_so_during_the_hold(a_gate: MakeGate) -> None:
    place = a_gate(quantity=1)
    place.admit("first")
    place.push(2, quantity=2, hold_ms=LONG_MS)

    assert place.admit("first").outcome is Outcome.ALREADY_ADMITTED


def test_a_hold_goes_on_through_a_second_change(a_gate: MakeGate) -> None:
    place = a_gate(quantity=1)
    place.admit("first")
    place.push(2, quantity=2, hold_ms=LONG_MS)

    assert place.push(3, quantity=3, hold_ms=LONG_MS) is PushResult.ON_HOLD
    assert place.admit("second").outcome is Outcome.PAUSED
    end_hold(place)
    assert place.push(4, quantity=4, hold_ms=LONG_MS) is PushResult.PUSHED


@pytest.mark.parametrize("by_ms", [LONG_MS, HOUR_MS])
def test_a_clock_that_steps_back_ends_a_hold(a_gate: MakeGate, by_ms: int) -> None:
    place = a_gate(quantity=1)
    place.admit("first")
    place.push(2, quantity=2, hold_ms=LONG_MS)
    step_back(place, by_ms)

    assert place.push(3, quantity=3, hold_ms=LONG_MS) is PushResult.PUSHED
    assert place.admit("second").outcome is Outcome.ADMITTED


@pytest.mark.parametrize("hold_ms", [0, LONG_MS])
def test_a_campaign_that_admits_goes_on_admitting(a_gate: MakeGate, hold_ms: int) -> None:
    place = a_gate(quantity=1)

    assert place.push(2, quantity=2, hold_ms=hold_ms) is PushResult.PUSHED
    assert place.admit("first").outcome is Outcome.ADMITTED


def test_without_a_hold_a_change_is_in_force_at_once(a_gate: MakeGate) -> None:
    place = a_gate(state="paused")

    assert place.push(2, state="open") is PushResult.PUSHED
    assert place.admit("first").outcome is Outcome.ADMITTED


@pytest.mark.usefixtures("long_timeouts")
def test_a_raise_or_resume_is_done_when_it_returns(service: Service) -> None:
    campaign = service.campaign(1)
    assert [Api().apply(campaign, user).status_code for user in ("1", "2")] == [202, 409]
    change_campaign(campaign_id=campaign.pk, changes={"quantity": 3}, actor="test")
    assert Api().apply(campaign, "2").status_code == 202

    pause_campaign(campaign_id=campaign.pk, actor="test")
    resume_campaign(campaign_id=campaign.pk, actor="test")
    assert Api().apply(campaign, "3").status_code == 202


@pytest.mark.usefixtures("long_timeouts")
def test_a_raise_is_done_after_the_keeper_pushed_first(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looked between the commit and the push of that very change; its push is held as well."""
    campaign = service.campaign(1)
    assert [Api().apply(campaign, user).status_code for user in ("1", "2")] == [202, 409]
    monkeypatch.setattr(redis_sync, "failpoint", lambda point: push_again(campaign.pk))

    change_campaign(campaign_id=campaign.pk, changes={"quantity": 2}, actor="test")

    assert Api().apply(campaign, "2").status_code == 202


@pytest.mark.usefixtures("long_timeouts")
def test_the_keeper_s_push_holds_too(service: Service, settings: LazySettings) -> None:
    campaign = service.campaign(1)
    assert Api().apply(campaign, "1").status_code == 202
    settings.REFUSAL_LEASE_MS = 600_000
    Campaign.objects.filter(pk=campaign.pk).update(quantity=2, revision=F("revision") + 1)  # never arrived in Redis

    assert push_again(campaign.pk)

    assert Api().apply(campaign, "2").status_code == 409
    end_hold(campaign)
    assert Api().apply(campaign, "2").status_code == 202
