"""Campaigns in the admin: what an operator does there goes through lifecycle, and what it says is shown."""

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from coupons.admin.campaigns import BUTTONS
from coupons.admission import campaign_store
from coupons.campaigns import lifecycle
from coupons.campaigns.redis_sync import push_change
from coupons.errors import OperatorError, PushDidNotArrive
from coupons.models import Campaign, CampaignState
from tests.support.gate import admit_user
from tests.support.operators import (
    CAMPAIGNS,
    OPERATE,
    VIEW,
    campaign_page,
    confirm,
    history_of,
    messages_of,
    press,
    run_action,
    sign_in,
    text_of,
    values_of,
)
from tests.support.service import Service

ADD = "admin:coupons_campaign_add"
CHANGES = {
    "open_campaigns": lifecycle.open_campaign,
    "pause_campaigns": lifecycle.pause_campaign,
    "resume_campaigns": lifecycle.resume_campaign,
    "close_campaigns": lifecycle.close_campaign,
}


@pytest.fixture
def operator(service: Service) -> Client:
    return sign_in(*OPERATE)


def state_of(campaign: Campaign) -> str:
    return Campaign.objects.get(pk=campaign.pk).state


def admit(campaign: Campaign, *users: str) -> None:
    for user in users:
        admit_user(campaign_id=campaign.pk, epoch=campaign.epoch, user_id=user)


def test_a_new_campaign_is_a_draft_that_can_be_opened(operator: Client) -> None:
    page = operator.post(
        reverse(ADD), {"name": "Ten sharp", "quantity": 100, "reason": "spring", "_save": "Save"}, follow=True
    )

    campaign = Campaign.objects.get()
    assert (campaign.name, campaign.quantity, campaign.state) == ("Ten sharp", 100, CampaignState.DRAFT)
    assert page.context["original"] == campaign
    assert page.context["buttons"] == {"open_campaigns": "Open …"}
    assert history_of(campaign) == ["Created as a draft with quantity 100: spring"]


def test_a_window_ending_before_it_begins_is_a_field_error(operator: Client) -> None:
    times = {"opens_at_0": "2030-01-02", "opens_at_1": "10:00", "closes_at_0": "2030-01-01", "closes_at_1": "10:00"}

    page = operator.post(reverse(ADD), {"name": "Ten", "quantity": 1, "reason": "x", **times})

    assert page.context["adminform"].form.errors == {
        "closes_at": ["The closing time must be later than the opening time."]
    }
    assert not Campaign.objects.exists()


def test_a_button_opens_the_campaign_in_postgresql_and_redis(service: Service, operator: Client) -> None:
    campaign = service.campaign(opened=False)

    page = confirm(operator, campaign, "open_campaigns")

    assert state_of(campaign) == CampaignState.OPEN
    assert campaign_store.describe(campaign_id=campaign.pk, epoch=1).settings.state == "open"
    assert messages_of(page) == ["success: test is opened."]
    assert history_of(campaign) == ["Opened: because"]


@pytest.mark.parametrize(("step", "state"), [("pause", "paused"), ("resume", "open")])
def test_a_button_pauses_and_resumes(service: Service, operator: Client, step: str, state: str) -> None:
    campaign = service.campaign()
    if step == "resume":
        lifecycle.pause_campaign(campaign_id=campaign.pk, actor="test")

    confirm(operator, campaign, f"{step}_campaigns")

    assert campaign_store.describe(campaign_id=campaign.pk, epoch=1).settings.state == state == state_of(campaign)


def test_closing_asks_first_and_changes_nothing_until_it_is_confirmed(service: Service, operator: Client) -> None:
    campaign = service.campaign()

    page = press(operator, campaign, "close_campaigns")

    assert "Close for good: test?" in text_of(page)
    assert state_of(campaign) == CampaignState.OPEN


def test_the_confirmation_closes_it_for_good(service: Service, operator: Client) -> None:
    campaign = service.campaign()

    page = confirm(operator, campaign, "close_campaigns")

    assert state_of(campaign) == CampaignState.CLOSED
    assert page.context["buttons"] == {}
    assert history_of(campaign) == ["Closed: because"]


def test_no_step_is_taken_by_a_get(service: Service, operator: Client) -> None:
    campaign = service.campaign()

    operator.get(reverse(CAMPAIGNS), {"action": "pause_campaigns", "_selected_action": str(campaign.pk), "reason": "x"})

    assert state_of(campaign) == CampaignState.OPEN


def test_no_step_is_taken_without_the_csrf_token(service: Service, operator: Client) -> None:
    campaign = service.campaign()
    operator.handler.enforce_csrf_checks = True

    assert press(operator, campaign, "pause_campaigns").status_code == 403
    assert state_of(campaign) == CampaignState.OPEN


@pytest.mark.parametrize("state", CampaignState)
@pytest.mark.parametrize("name", CHANGES)
def test_a_step_is_offered_exactly_where_lifecycle_allows_it(service: Service, name: str, state: str) -> None:
    campaign = service.campaign()
    Campaign.objects.filter(pk=campaign.pk).update(state=state)
    try:
        CHANGES[name](campaign_id=campaign.pk, actor="test", reason="because")
        allowed = True
    except PushDidNotArrive:
        allowed = True  # a draft that was loaded before: only this test makes one
    except OperatorError:
        allowed = False

    assert (name in BUTTONS[CampaignState(state)]) is allowed


def test_an_action_of_the_list_takes_each_campaign_by_itself(service: Service, operator: Client) -> None:
    draft, opened = service.campaign(opened=False), service.campaign()

    page = run_action(operator, CAMPAIGNS, "pause_campaigns", draft, opened, confirmed="yes")

    assert (state_of(draft), state_of(opened)) == (CampaignState.DRAFT, CampaignState.PAUSED)
    assert sorted(messages_of(page)) == [
        "error: test: Cannot pause a campaign that is draft; it must be open.",
        "success: test is paused.",
    ]


def test_the_list_s_close_action_asks_first_too(service: Service, operator: Client) -> None:
    campaign = service.campaign()

    page = run_action(operator, CAMPAIGNS, "close_campaigns", campaign)

    assert "Close for good: test?" in text_of(page)
    assert state_of(campaign) == CampaignState.OPEN


def test_a_raised_quantity_reaches_redis_and_the_history(service: Service, operator: Client) -> None:
    campaign = service.campaign(10)

    operator.post(campaign_page(campaign), values_of(operator, campaign, quantity=25))

    assert campaign_store.describe(campaign_id=campaign.pk, epoch=1).settings.quantity == 25
    assert Campaign.objects.get().quantity == 25
    assert history_of(campaign) == ["Changed quantity from 10 to 25: it was wrong"]


def test_lowering_below_the_admitted_is_a_field_error(service: Service, operator: Client) -> None:
    campaign = service.campaign(10)
    admit(campaign, "a", "b", "c")

    page = operator.post(campaign_page(campaign), values_of(operator, campaign, quantity=2))

    (error,) = page.context["adminform"].form.errors["quantity"]
    assert "3 users are already in" in error
    assert Campaign.objects.get().quantity == 10
    assert history_of(campaign) == []


def test_who_saves_an_outdated_page_overwrites_nothing(service: Service, operator: Client) -> None:
    campaign = service.campaign(10)
    outdated = values_of(operator, campaign, name="renamed")
    lifecycle.change_campaign(campaign_id=campaign.pk, changes={"quantity": 50}, actor="somebody else")

    page = operator.post(campaign_page(campaign), outdated)

    assert "This campaign was changed after you opened this page" in text_of(page)
    assert (Campaign.objects.get().quantity, Campaign.objects.get().name) == (50, "test")


def test_saving_commits_before_redis_hears_of_it(
    service: Service, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A raise must be in PostgreSQL first; inside a transaction of the page it would not be."""
    campaign = service.campaign(10)
    nested: list[bool] = []

    def push(changed: Campaign) -> None:
        nested.append(connection.in_atomic_block)
        push_change(changed)

    monkeypatch.setattr("coupons.campaigns.lifecycle.push_change", push)
    operator.post(campaign_page(campaign), values_of(operator, campaign, quantity=25))

    assert nested == [False]


def test_a_failed_push_warns_and_saves_the_change(service: Service, operator: Client) -> None:
    campaign = service.campaign()
    service.stack("stop", "redis")

    page = confirm(operator, campaign, "pause_campaigns")

    assert state_of(campaign) == CampaignState.PAUSED
    (message,) = messages_of(page)
    assert message.startswith("warning: test is paused. Saved, but Redis has not heard of it yet")
    assert page.context["live"].redis == "does not answer"
    assert text_of(page).count("No users are admitted while Redis does not answer") == 1


def test_a_quantity_cannot_be_lowered_while_redis_does_not_answer(service: Service, operator: Client) -> None:
    campaign = service.campaign(10)
    values = values_of(operator, campaign, quantity=5)
    service.stack("stop", "redis")

    page = operator.post(campaign_page(campaign), values)

    assert "Nothing is lost. Try again" in text_of(page)
    assert Campaign.objects.get().quantity == 10


def test_a_viewer_sees_counts_and_no_controls(service: Service) -> None:
    campaign = service.campaign(10)
    admit(campaign, "a", "b")
    viewer = sign_in(*VIEW)

    page = viewer.get(campaign_page(campaign))

    assert "Admitted 2 Remaining 8 Pending 2 Issued 0" in text_of(page)
    assert page.context["buttons"] == {}
    assert "_save" not in page.content.decode()
    assert viewer.get(reverse(CAMPAIGNS)).context["action_form"] is None


@pytest.mark.parametrize("step", CHANGES)
def test_who_may_only_look_cannot_take_a_step(service: Service, step: str) -> None:
    campaign = service.campaign(opened=False)
    viewer = sign_in(*VIEW)

    assert press(viewer, campaign, step).status_code == 403
    assert confirm(viewer, campaign, step).status_code == 403
    assert state_of(campaign) == CampaignState.DRAFT


def test_nobody_deletes_a_campaign(service: Service) -> None:
    campaign = service.campaign(opened=False)
    superuser = Client()
    superuser.force_login(User.objects.create_superuser("root"))

    deleted = superuser.post(reverse("admin:coupons_campaign_delete", args=[campaign.pk]), {"post": "yes"})

    assert deleted.status_code == 403
    assert Campaign.objects.filter(pk=campaign.pk).exists()
