"""A button that is pressed after the session has ended does nothing, and says so where it was pressed."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from coupons.models import Campaign, CampaignState
from tests.support.operators import (
    CAMPAIGNS,
    OPERATE,
    campaign_page,
    form_on,
    messages_of,
    press,
    run_action,
    sign_in,
    text_of,
)
from tests.support.service import Service

LOG_IN = reverse("admin:login")
ADD = reverse("admin:coupons_campaign_add")
PASSWORD = "correct horse battery"
LOGGED_OUT = "error: Nothing was done: you were logged out."


@pytest.fixture
def operator(service: Service) -> Client:
    client = sign_in(*OPERATE)
    user = User.objects.get()
    user.set_password(PASSWORD)
    user.save()
    client.force_login(user)
    return client


def end_session(client: Client) -> None:
    del client.cookies["sessionid"]


def log_in_again(client: Client, log_in: Any) -> Any:
    return client.post(
        log_in.redirect_chain[-1][0], form_on(log_in, "password", username="op", password=PASSWORD), follow=True
    )


@pytest.mark.parametrize("act", ["button", "list", "form", "confirmation", "new campaign"])
def test_each_page_says_that_nothing_was_done(service: Service, operator: Client, act: str) -> None:
    campaign = service.campaign(10)
    page = campaign_page(campaign)
    saved = form_on(operator.get(page), quantity="25", reason="x", _save="Save")
    asked = form_on(press(operator, campaign, "pause_campaigns"), reason="x")
    new = form_on(operator.get(ADD), name="new", quantity="1", reason="x")
    end_session(operator)

    acts: dict[str, Callable[[], tuple[Any, str]]] = {
        "button": lambda: (press(operator, campaign, "pause_campaigns"), page),
        "list": lambda: (run_action(operator, CAMPAIGNS, "pause_campaigns", campaign), reverse(CAMPAIGNS)),
        "form": lambda: (operator.post(page, saved, follow=True), page),
        "confirmation": lambda: (operator.post(page, asked, follow=True), page),
        "new campaign": lambda: (operator.post(ADD, new, follow=True), ADD),
    }
    refused, back = acts[act]()

    assert messages_of(refused) == [LOGGED_OUT]
    assert "Nothing was done: you were logged out." in text_of(refused)
    landed = log_in_again(operator, refused)
    assert landed.redirect_chain == [(back, 302)]
    assert messages_of(landed) == [LOGGED_OUT]
    assert messages_of(operator.get(page)) == []
    unchanged = Campaign.objects.get()
    assert (unchanged.state, unchanged.quantity) == (CampaignState.OPEN, 10)


def test_a_filtered_list_is_found_again_after_the_log_in(service: Service, operator: Client) -> None:
    where = f"{reverse(CAMPAIGNS)}?state__exact=open"
    end_session(operator)

    refused = operator.post(where, {"action": "pause_campaigns", "_selected_action": "x"}, follow=True)

    assert log_in_again(operator, refused).redirect_chain == [(where, 302)]


def test_a_page_from_before_the_last_log_in_says_so(service: Service, operator: Client) -> None:
    """A log-in in another tab has changed the CSRF token."""
    campaign = service.campaign()
    operator.handler.enforce_csrf_checks = True
    shown = form_on(operator.get(campaign_page(campaign)), action="pause_campaigns")
    log_in = Client().get(LOG_IN)
    operator.cookies["csrftoken"] = log_in.cookies["csrftoken"].value

    page = operator.post(campaign_page(campaign), shown, follow=True)

    assert page.redirect_chain == [(campaign_page(campaign), 302)]
    assert "Nothing was done: this page was older than the last log-in." in messages_of(page)[0]


@pytest.mark.parametrize("cookie", ["other", "none"])
def test_an_outdated_token_without_a_session_is_a_log_out(service: Service, operator: Client, cookie: str) -> None:
    campaign = service.campaign()
    operator.handler.enforce_csrf_checks = True
    shown = form_on(operator.get(campaign_page(campaign)), action="pause_campaigns")
    end_session(operator)
    if cookie == "none":
        del operator.cookies["csrftoken"]
    else:
        operator.cookies["csrftoken"] = Client().get(LOG_IN).cookies["csrftoken"].value

    refused = operator.post(campaign_page(campaign), shown, follow=True)

    assert messages_of(refused) == [LOGGED_OUT]
    assert refused.redirect_chain == [(f"{LOG_IN}?next={campaign_page(campaign)}", 302)]


def test_another_site_s_form_is_still_refused(service: Service, operator: Client) -> None:
    operator.handler.enforce_csrf_checks = True
    shown = form_on(operator.get(ADD), name="x", quantity="1", reason="x")

    without = operator.post(ADD, {name: value for name, value in shown.items() if name != "csrfmiddlewaretoken"})
    elsewhere = operator.post(ADD, shown, headers={"origin": "https://elsewhere.example"})

    assert (without.status_code, elsewhere.status_code) == (403, 403)
    assert not Campaign.objects.exists()


def test_who_lost_the_staff_status_is_told_so(service: Service, operator: Client) -> None:
    campaign = service.campaign()
    User.objects.update(is_staff=False)

    refused = press(operator, campaign, "pause_campaigns")

    assert "Nothing was done: your account may not use these pages any more." in text_of(refused)
    assert Campaign.objects.get().state == CampaignState.OPEN


def test_a_new_password_sent_twice_is_not_denied(service: Service, operator: Client) -> None:
    address, second = reverse("admin:password_change"), Client()
    second.cookies["sessionid"] = operator.cookies["sessionid"].value
    form = {"old_password": PASSWORD, "new_password1": "battery staple!", "new_password2": "battery staple!"}
    assert operator.post(address, form).status_code == 302

    told = second.post(address, form, follow=True)

    assert messages_of(told) == [
        "error: You were logged out. If you sent your new password twice, it is changed: log in with it."
    ]


def test_the_log_out_page_is_no_empty_405(service: Service, operator: Client) -> None:
    assert operator.get(reverse("admin:logout"), follow=True).redirect_chain == [(reverse("admin:index"), 302)]
