"""Nothing happens by accident: each action asks and names its rows, Enter saves, edits are not dropped."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from coupons.campaigns import lifecycle
from coupons.models import Campaign, CampaignState
from tests.support.failed_events import held
from tests.support.operators import (
    CAMPAIGNS,
    EVENTS,
    OPERATE,
    buttons_on,
    campaign_page,
    confirm,
    event_page,
    form_on,
    press,
    run_action,
    sign_in,
    text_of,
    values_of,
)
from tests.support.service import Service

UNSAVED = "Nothing was done: this page has edits that are not saved."


@pytest.fixture
def operator(service: Service) -> Client:
    return sign_in(*OPERATE)


def test_enter_in_a_field_of_a_campaign_saves(service: Service, operator: Client) -> None:
    page = operator.get(campaign_page(service.campaign()))

    assert buttons_on(page)[0] == "_save=Save"
    assert "action=pause_campaigns" in buttons_on(page)


def test_no_reason_stands_beside_a_button_that_acts(service: Service, operator: Client) -> None:
    """Enter in such a field would press the button."""
    campaign = service.campaign()
    for page in (operator.get(reverse(CAMPAIGNS)), operator.get(event_page(held(campaign, "42")))):
        assert 'name="reason"' not in page.content.decode()


def test_an_action_on_eight_campaigns_asks_and_names_each(service: Service, operator: Client) -> None:
    campaigns = [service.campaign() for _ in range(8)]
    for number, campaign in enumerate(campaigns):
        lifecycle.change_campaign(campaign_id=campaign.pk, changes={"name": f"sale {number}"}, actor="test")

    asked = run_action(operator, CAMPAIGNS, "pause_campaigns", *campaigns)

    assert "Pause: 8 campaigns?" in text_of(asked)
    assert all(f"sale {number}" in text_of(asked) for number in range(8))
    assert set(Campaign.objects.values_list("state", flat=True)) == {CampaignState.OPEN}
    operator.post(reverse(CAMPAIGNS), form_on(asked, reason="all of them"))
    assert set(Campaign.objects.values_list("state", flat=True)) == {CampaignState.PAUSED}


@pytest.mark.parametrize("action", ["open", "pause", "resume", "close"])
def test_each_step_of_a_campaign_asks_first(service: Service, operator: Client, action: str) -> None:
    campaign = service.campaign(opened=action != "open")
    if action == "resume":
        lifecycle.pause_campaign(campaign_id=campaign.pk, actor="test")
    before = Campaign.objects.get().state

    asked = press(operator, campaign, f"{action}_campaigns")

    assert "test?" in text_of(asked)
    assert Campaign.objects.get().state == before


def test_a_retry_asks_and_names_the_events(service: Service, operator: Client) -> None:
    event = held(service.campaign(), "user-42")

    asked = run_action(operator, EVENTS, "retry_selected", event)

    assert "user-42" in text_of(asked)
    event.refresh_from_db()
    assert event.attempts == 0


@pytest.mark.parametrize("action", ["pause_campaigns", "close_campaigns"])
def test_a_button_beside_unsaved_edits_does_nothing(service: Service, operator: Client, action: str) -> None:
    campaign = service.campaign(10)
    edited = values_of(operator, campaign, quantity=25, action=action)

    page = operator.post(campaign_page(campaign), edited)

    assert UNSAVED in text_of(page)
    assert page.context["adminform"].form["quantity"].value() == "25"
    assert (Campaign.objects.get().quantity, Campaign.objects.get().state) == (10, CampaignState.OPEN)


def test_a_page_without_edits_passes_its_reason_on(service: Service, operator: Client) -> None:
    campaign = service.campaign()
    shown = form_on(operator.get(campaign_page(campaign)), reason="it rains", action="pause_campaigns")

    asked = operator.post(campaign_page(campaign), shown)

    assert form_on(asked)["reason"] == ["it rains"]


def test_an_outdated_page_without_edits_can_still_pause(service: Service, operator: Client) -> None:
    campaign = service.campaign()
    shown = form_on(operator.get(campaign_page(campaign)), action="pause_campaigns")
    lifecycle.pause_campaign(campaign_id=campaign.pk, actor="somebody else")
    lifecycle.resume_campaign(campaign_id=campaign.pk, actor="somebody else")

    assert "Pause: test?" in text_of(operator.post(campaign_page(campaign), shown))


def test_a_refused_save_shows_what_is_stored(service: Service, operator: Client) -> None:
    campaign = service.campaign(10)

    page = operator.post(campaign_page(campaign), values_of(operator, campaign, name="never saved", quantity=0))

    assert page.context["live"].redis == "current"
    assert page.context["subtitle"] == "test"
    assert str(page.context["original"]) == "test"
    assert page.context["adminform"].form["name"].value() == "never saved"


def test_a_save_refused_by_the_gate_raises_no_alarm(service: Service, operator: Client) -> None:
    campaign = service.campaign(10)
    outdated = values_of(operator, campaign, name="never saved", quantity=7)
    lifecycle.change_campaign(campaign_id=campaign.pk, changes={"quantity": 50}, actor="somebody else")

    page = operator.post(campaign_page(campaign), outdated)

    assert (page.context["live"].redis, page.context["live"].quantity) == ("current", 50)
    assert "never saved" not in page.context["subtitle"]


def test_a_user_s_refused_page_shows_the_stored_name(admin_client: Client) -> None:
    user = User.objects.create_user("kim")
    address = reverse("admin:auth_user_change", args=[user.pk])

    page = admin_client.post(address, form_on(admin_client.get(address), username="lee", reason=""))

    assert page.context["subtitle"] == str(page.context["original"]) == "kim"


def test_the_confirmed_step_returns_to_the_page(service: Service, operator: Client) -> None:
    campaign = service.campaign()

    page = confirm(operator, campaign, "pause_campaigns")

    assert page.redirect_chain == [(campaign_page(campaign), 302)]
