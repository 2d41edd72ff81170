"""A form that is sent twice acts once: after a double click, F5, or the browser's back button."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.urls import reverse

from coupons.auth.api_keys import create_api_key
from coupons.models import ApiKey, Campaign, CampaignState, GivenAnswer
from tests.support.coupons import coupon_in, use
from tests.support.failed_events import held
from tests.support.operators import (
    CAMPAIGNS,
    OPERATE,
    campaign_page,
    event_page,
    form_on,
    history_of,
    messages_of,
    press,
    run_action,
    sign_in,
    text_of,
)
from tests.support.service import Service

ADD = reverse("admin:coupons_campaign_add")
ADD_KEY = reverse("admin:coupons_apikey_add")
MAKE = (*OPERATE, "view_apikey", "add_apikey", "revoke_apikey")
NOT_AGAIN = "info: This form had been sent before, so nothing was done again."


@pytest.fixture
def operator(service: Service) -> Client:
    return sign_in(*MAKE)


def new_campaign(client: Client, **typed: Any) -> dict[str, Any]:
    return form_on(client.get(ADD), name="Ten", quantity="5", reason="x", **typed)


def new_key(client: Client) -> dict[str, Any]:
    return form_on(client.get(ADD_KEY), name="shop", scopes=["read"], reason="x")


def key_on(page: Any) -> str:
    return str(page.content.decode().partition('id="api-key">')[2].partition("<")[0])


def test_a_form_sent_twice_makes_one_campaign(operator: Client) -> None:
    form = new_campaign(operator)

    first, second = (operator.post(ADD, form, follow=True) for _ in range(2))

    assert second.redirect_chain == first.redirect_chain == [(campaign_page(Campaign.objects.get()), 302)]
    assert messages_of(second) == [*messages_of(first), NOT_AGAIN]


def test_a_double_click_makes_one_campaign_and_shows_it(operator: Client) -> None:
    form, together = new_campaign(operator), threading.Barrier(4)

    def click(client: Client) -> str:
        try:
            together.wait()
            return str(client.post(ADD, form)["Location"])
        finally:
            connection.close()

    clients = [Client() for _ in range(4)]
    for client in clients:
        client.cookies = operator.cookies
    with ThreadPoolExecutor(4) as pool:
        seen = set(pool.map(click, clients))

    assert seen == {campaign_page(Campaign.objects.get())}


def test_f5_on_a_new_key_shows_the_same_key(operator: Client) -> None:
    form = new_key(operator)

    shown = [key_on(operator.post(ADD_KEY, form)) for _ in range(3)]

    assert len(set(shown)) == 1
    assert shown[0].startswith(f"coupon_{ApiKey.objects.get().prefix}_")


def test_a_kept_answer_shows_nobody_the_key(operator: Client) -> None:
    form = new_key(operator)
    key = key_on(operator.post(ADD_KEY, form))
    stranger = sign_in(*MAKE, name="other")

    kept = GivenAnswer.objects.get()

    assert key.encode() not in bytes(kept.answer or b"")
    assert form["form_id"][0] not in str(GivenAnswer.objects.values())
    assert key not in stranger.post(ADD_KEY, form).content.decode()


def test_the_back_button_and_other_values_do_nothing(operator: Client) -> None:
    form = new_campaign(operator)
    operator.post(ADD, form)

    page = operator.post(ADD, {**form, "quantity": "500"}, follow=True)

    assert Campaign.objects.get().quantity == 5
    assert page.context["original"] == Campaign.objects.get()
    assert "had been sent before, with other values. Nothing was done" in messages_of(page)[-1]


def test_a_new_form_makes_a_new_campaign(operator: Client) -> None:
    for _ in range(2):
        operator.post(ADD, new_campaign(operator))

    assert Campaign.objects.count() == 2
    digests = set(GivenAnswer.objects.values_list("request", flat=True))
    assert len(digests) == 2, "nobody can guess a form's values, a password say, by its hash"


def test_a_refused_form_can_be_corrected_and_sent(operator: Client) -> None:
    form = new_campaign(operator)
    refused = operator.post(ADD, {**form, "quantity": "0"})
    assert "Ensure this value is greater than or equal to 1" in text_of(refused)

    operator.post(ADD, form)

    assert Campaign.objects.get().quantity == 5
    assert GivenAnswer.objects.count() == 1


def test_a_confirmation_sent_twice_acts_once(service: Service, operator: Client) -> None:
    campaign = service.campaign()
    asked = form_on(press(operator, campaign, "pause_campaigns"), reason="stop")

    pages = [operator.post(campaign_page(campaign), asked, follow=True) for _ in range(2)]

    assert history_of(campaign) == ["Paused: stop"]
    assert messages_of(pages[1]) == ["success: test is paused.", NOT_AGAIN]


def test_a_form_older_than_a_day_does_nothing(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    form, now = new_campaign(operator), time.time()
    monkeypatch.setattr("django.core.signing.time.time", lambda: now + 24 * 3600 + 60)

    page = operator.post(ADD, form, follow=True)

    assert "this page was opened more than a day ago" in messages_of(page)[0]
    assert not Campaign.objects.exists()


def test_answers_are_kept_for_a_day_only(operator: Client) -> None:
    operator.post(ADD, new_campaign(operator))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE coupons_givenanswer SET at = at - interval '25 hours'")

    operator.post(ADD, new_campaign(operator))

    assert GivenAnswer.objects.count() == 1


def test_an_outcome_that_is_not_known_is_said(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process was killed after it took the id."""
    monkeypatch.setattr("coupons.admin.one_time.WAIT_SEC", 0.1)
    form = new_campaign(operator)
    operator.post(ADD, form, follow=True)
    Campaign.objects.all().delete()
    GivenAnswer.objects.update(answer=None)

    page = operator.post(ADD, form, follow=True)

    assert "what became of it is not known" in messages_of(page)[0]
    assert not Campaign.objects.exists()


def test_each_form_carries_an_id_of_its_own(service: Service, operator: Client) -> None:
    campaign, (key, _) = service.campaign(), create_api_key(name="shop", scopes=["read"], actor="test")
    event = held(campaign, "42")
    coupon, other = coupon_in(campaign), coupon_in(campaign, "43", 2)
    use(coupon)
    root = Client()
    user = User.objects.create_superuser("root")
    root.force_login(user)
    group = Group.objects.create(name="g")
    addresses = [
        ADD, ADD_KEY, campaign_page(campaign), reverse("admin:auth_user_add"), reverse("admin:auth_group_add"),
        reverse("admin:auth_user_change", args=[user.pk]), reverse("admin:auth_group_change", args=[group.pk]),
        reverse("admin:auth_user_password_change", args=[user.pk]),
    ]  # fmt: skip
    asking = [
        press(root, campaign, "pause_campaigns"),
        press(root, key, "revoke_keys"),
        press(root, event, "retry_selected"),
        press(root, event, "give_up_selected"),
        run_action(root, CAMPAIGNS, "close_campaigns", campaign),
        press(root, coupon, "return_redemptions"),
        press(root, other, "revoke_coupons"),
    ]

    ids = [form_on(page)["form_id"] for page in [*map(root.get, addresses), *asking]]

    assert len({each for (each,) in ids}) == len(addresses) + len(asking)
    assert root.get(event_page(event)).status_code == 200
    assert Campaign.objects.get().state == CampaignState.OPEN
