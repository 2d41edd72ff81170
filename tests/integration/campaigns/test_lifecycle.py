"""What operators do with a campaign: which steps there are, what each refusal says, and what Redis hears."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from coupons.admission import campaign_store
from coupons.admission.gate import Outcome
from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import (
    change_campaign,
    close_campaign,
    create_campaign,
    open_campaign,
    pause_campaign,
    resume_campaign,
)
from coupons.errors import OperatorError
from coupons.models import MAX_QUANTITY, Campaign, CampaignState
from tests.support.gate import admit_user
from tests.support.service import Service

Step = Callable[..., Campaign]
STEPS: dict[str, Step] = {
    "open": open_campaign,
    "pause": pause_campaign,
    "resume": resume_campaign,
    "close": close_campaign,
    "change": lambda **given: change_campaign(**given, changes={"quantity": 7}),
}
ALLOWED = {
    "draft": {"open", "change"},
    "open": {"pause", "close", "change"},
    "paused": {"resume", "close", "change"},
    "closed": set(),
}
WAY_OUT = {
    "open": "must be draft",
    "pause": "must be open",
    "resume": "must be paused",
    "close": "must be open or paused",
    "change": "must be draft or open or paused",
}


def in_state(service: Service, state: str) -> Campaign:
    campaign = service.campaign(opened=state != "draft")
    if state in ("paused", "closed"):
        STEPS["pause" if state == "paused" else "close"](campaign_id=campaign.pk, actor="test")
    return campaign


def outcome(campaign: Campaign, user_id: str = "a") -> Outcome:
    campaign.refresh_from_db()
    return admit_user(campaign_id=campaign.pk, epoch=campaign.epoch, user_id=user_id).outcome


@pytest.mark.django_db
def test_a_new_campaign_is_a_draft_that_nobody_has_loaded() -> None:
    campaign = create_campaign(name="  Winter ", quantity=3, actor="test")

    assert (campaign.name, campaign.state, campaign.epoch, campaign.issued_count) == ("Winter", "draft", 0, 0)
    assert abs(campaign.opens_at - timezone.now()) < timedelta(seconds=5)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"quantity": 0}, f"quantity: 0 is not between 1 and {MAX_QUANTITY:,}"),
        ({"quantity": -1}, "quantity: -1 is not between"),
        ({"quantity": MAX_QUANTITY + 1}, "quantity: 10000001 is not between"),
        ({"name": "  "}, "name: "),
        ({"name": "x" * 201}, "name: .*200"),
        ({"closes_at": timezone.now() - timedelta(hours=1)}, "closes_at: it must be later than opens_at"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_values_are_refused_by_the_field_s_name(values: dict[str, Any], text: str) -> None:
    given: dict[str, Any] = {"name": "x", "quantity": 3, "actor": "test"} | values
    with pytest.raises(OperatorError, match=text):
        create_campaign(**given)
    assert not Campaign.objects.exists()


def test_opening_loads_it_and_users_get_in(service: Service) -> None:
    campaign = open_campaign(campaign_id=service.campaign(opened=False).pk, actor="test")

    assert (campaign.state, campaign.epoch) == ("open", 1)
    assert outcome(campaign) is Outcome.ADMITTED


def test_a_campaign_whose_end_has_passed_cannot_be_opened(service: Service) -> None:
    now = timezone.now()
    campaign = service.campaign(opened=False, opens_at=now - timedelta(hours=2), closes_at=now - timedelta(hours=1))

    with pytest.raises(OperatorError, match=r"closes_at, .* has passed: move it first"):
        open_campaign(campaign_id=campaign.pk, actor="test")
    assert not admission_redis().exists(*campaign_keys(campaign.pk))


def test_pause_resume_and_close_reach_redis_before_returning(service: Service) -> None:
    campaign = service.campaign()
    seen = []
    for step in ("pause", "resume", "close"):
        STEPS[step](campaign_id=campaign.pk, actor="test")
        seen.append(outcome(campaign, user_id=step))

    assert seen == [Outcome.PAUSED, Outcome.ADMITTED, Outcome.CLOSED]


@pytest.mark.parametrize(("state", "step"), [(state, step) for state in ALLOWED for step in STEPS])
def test_each_step_is_refused_from_other_states(service: Service, state: str, step: str) -> None:
    campaign = in_state(service, state)
    before = Campaign.objects.values().get(pk=campaign.pk)

    if step in ALLOWED[state]:
        STEPS[step](campaign_id=campaign.pk, actor="test")
        assert Campaign.objects.get(pk=campaign.pk).revision == before["revision"] + 1
        return
    with pytest.raises(OperatorError, match=f"Cannot {step} a campaign that is {state}; it {WAY_OUT[step]}"):
        STEPS[step](campaign_id=campaign.pk, actor="test")
    assert Campaign.objects.values().get(pk=campaign.pk) == before


@pytest.mark.django_db
@pytest.mark.parametrize("step", STEPS)
def test_a_campaign_that_does_not_exist_is_named(step: str) -> None:
    missing = uuid4()

    with pytest.raises(OperatorError, match=f"There is no campaign {missing}"):
        STEPS[step](campaign_id=missing, actor="test")


def test_a_draft_is_changed_without_redis_hearing_of_it(service: Service) -> None:
    campaign = service.campaign(opened=False)
    change_campaign(campaign_id=campaign.pk, changes={"quantity": 1}, actor="test")

    assert not admission_redis().exists(*campaign_keys(campaign.pk))


def test_a_change_is_all_or_nothing(service: Service) -> None:
    campaign = service.campaign(10)

    with pytest.raises(OperatorError, match="closes_at"):
        change_campaign(
            campaign_id=campaign.pk,
            changes={"quantity": 20, "closes_at": campaign.opens_at - timedelta(hours=1)},
            actor="test",
        )
    campaign.refresh_from_db()
    assert (campaign.quantity, campaign.closes_at, campaign.revision) == (10, None, 1)


def test_a_moved_window_holds_in_redis_when_the_change_returns(service: Service) -> None:
    campaign = service.campaign()
    change_campaign(campaign_id=campaign.pk, changes={"opens_at": timezone.now() + timedelta(hours=1)}, actor="test")

    assert outcome(campaign) is Outcome.NOT_OPEN


def test_one_of_ten_simultaneous_openings_succeeds(service: Service) -> None:
    campaign = service.campaign(opened=False)

    def try_to_open(_: int) -> str:
        try:
            return open_campaign(campaign_id=campaign.pk, actor="test").state
        except OperatorError as error:
            return str(error)
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(try_to_open, range(10)))

    assert answers.count("open") == 1
    assert answers.count("Cannot open a campaign that is open; it must be draft.") == 9


def test_simultaneous_raises_leave_the_last_revision_in_redis(service: Service) -> None:
    campaign = service.campaign(10)

    def raise_to(quantity: int) -> None:
        try:
            change_campaign(campaign_id=campaign.pk, changes={"quantity": quantity}, actor="test")
        except OperatorError as error:
            assert "Another change" in str(error)  # noqa: PT017  a lower one whose turn came too late
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(raise_to, range(11, 27)))

    campaign.refresh_from_db()
    description = campaign_store.describe(campaign_id=campaign.pk, epoch=1)
    assert (description.settings.revision, description.settings.quantity) == (campaign.revision, campaign.quantity)
    assert campaign.state == CampaignState.OPEN
