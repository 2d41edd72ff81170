"""What only a browser does with a form: it sends a double click twice, F5 again, Enter by the first button."""

from typing import Any

import pytest

from coupons.models import ApiKey, AuditEntry, Campaign, CampaignState
from tests.support.operators import campaign_page
from tests.support.service import Service
from tests.support.waiting import wait_until
from tests.support.webdriver import Browser, browser, log_in

pytestmark = pytest.mark.system


def fill_in_campaign(page: Browser, url: str) -> None:
    page.open(f"{url}/admin/coupons/campaign/add/")
    page.type_into("#id_name", "Ten sharp")
    page.type_into("#id_quantity", "100")
    page.type_into("#id_reason", "spring")


def fill_in_key(page: Browser, url: str) -> None:
    page.open(f"{url}/admin/coupons/apikey/add/")
    page.type_into("#id_name", "shop")
    page.click("input[name=scopes]")
    page.type_into("#id_reason", "a new shop")


def test_a_double_click_on_save_makes_one_campaign(service: Service, live_server: Any) -> None:
    with browser() as page:
        log_in(page, live_server.url)
        fill_in_campaign(page, live_server.url)

        page.double_click("input[name=_save]")

        assert "was added successfully" in page.text(".messagelist")
        assert page.address == live_server.url + campaign_page(Campaign.objects.get())


def test_a_double_click_on_a_new_key_shows_it(service: Service, live_server: Any) -> None:
    with browser() as page:
        log_in(page, live_server.url)
        fill_in_key(page, live_server.url)

        page.double_click("input[name=_save]")

        assert page.text("#api-key").startswith(f"coupon_{ApiKey.objects.get().prefix}_")


def test_f5_on_a_new_key_makes_no_other(service: Service, live_server: Any) -> None:
    with browser() as page:
        log_in(page, live_server.url)
        fill_in_key(page, live_server.url)
        page.submit("input[name=_save]")
        key = page.text("#api-key")

        page.reload()

        assert page.text("#api-key") == key
        assert ApiKey.objects.count() == 1


@pytest.mark.parametrize("typed", ["nothing", "another quantity"])
def test_back_and_save_again_makes_no_other_campaign(service: Service, live_server: Any, typed: str) -> None:
    with browser() as page:
        log_in(page, live_server.url)
        fill_in_campaign(page, live_server.url)
        page.submit("input[name=_save]")
        page.text(".coupon-panel")

        page.back()
        if typed == "another quantity":
            page.type_into("#id_quantity", "200")
        page.submit("input[name=_save]")

        assert "This form had been sent before" in page.text(".messagelist")
        assert Campaign.objects.get().quantity == 100


def test_back_from_a_new_key_makes_no_other(service: Service, live_server: Any) -> None:
    with browser() as page:
        log_in(page, live_server.url)
        fill_in_key(page, live_server.url)
        page.submit("input[name=_save]")
        key = page.text("#api-key")

        page.back()
        page.submit("input[name=_save]")

        assert page.text("#api-key") == key
        assert ApiKey.objects.count() == 1


def test_enter_in_no_field_pauses_a_live_sale(service: Service, live_server: Any) -> None:
    campaign = service.campaign(100)
    with browser() as page:
        log_in(page, live_server.url)
        page.open(live_server.url + campaign_page(campaign))
        fields = page.evaluate(
            "[...document.querySelectorAll('#content :is(input[type=text], input[type=number], textarea)')]"
            ".map(field => '#' + field.id)"
        )
        for field in fields:
            page.open(live_server.url + campaign_page(campaign))
            page.evaluate("document.querySelectorAll('[name=reason]').forEach(each => each.value = 'typing')")

            page.press_enter(field)

            assert "ampaign" in page.text("#content"), field
            assert (field, Campaign.objects.get().state) == (field, CampaignState.OPEN)
    assert {"#id_name", "#id_quantity", "#id_opens_at_0", "#id_reason"} <= set(fields)


def test_a_double_click_on_pause_pauses_once(service: Service, live_server: Any) -> None:
    campaign = service.campaign(100)
    with browser() as page:
        log_in(page, live_server.url)
        page.open(live_server.url + campaign_page(campaign))
        page.submit(".coupon-buttons button[value='pause_campaigns']")
        page.type_into("#id_reason", "stop")

        page.double_click("input[value='Pause']")

        assert "Test is paused." in page.text(".messagelist")
        wait_until(lambda: Campaign.objects.get().state == CampaignState.PAUSED)
        assert AuditEntry.objects.filter(what="Paused").count() == 1


def test_unsaved_edits_survive_a_press_on_pause(service: Service, live_server: Any) -> None:
    campaign = service.campaign(100)
    with browser() as page:
        log_in(page, live_server.url)
        page.open(live_server.url + campaign_page(campaign))
        page.type_into("#id_quantity", "250")

        page.submit(".coupon-buttons button[value='pause_campaigns']")

        assert "this page has edits that are not saved" in page.text(".errornote + .errorlist")
        assert page.evaluate("document.querySelector('#id_quantity').value") == "250"
        assert Campaign.objects.get().state == CampaignState.OPEN
