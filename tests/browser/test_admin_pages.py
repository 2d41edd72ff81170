"""The admin in a real browser, as a person uses it. `make test-system` installs chromium and its driver."""

import re
from typing import Any

import pytest

from coupons.models import Campaign, CampaignState
from tests.support.operators import campaign_page
from tests.support.service import Service
from tests.support.webdriver import browser, log_in

pytestmark = pytest.mark.system


def test_an_operator_opens_and_closes_a_campaign_in_a_browser(service: Service, live_server: Any) -> None:
    campaign = service.campaign(100, opened=False)
    with browser() as page:
        log_in(page, live_server.url)
        page.open(live_server.url + campaign_page(campaign))
        page.submit(".coupon-buttons button[value='open_campaigns']")
        page.type_into("#id_reason", "it is ten")
        page.submit("input[value='Open']")

        assert page.text(".messagelist .success") == "Test is opened."
        assert re.search(r"Admitted\s+0\s+Remaining\s+100", page.text(".coupon-panel"))
        assert page.text(".coupon-panel-head .coupon-badge") == "open"

        page.submit(".coupon-buttons .coupon-danger")
        page.type_into("#id_reason", "all are gone")
        page.submit("input.coupon-danger")

        assert page.text(".messagelist .success") == "Test is closed."
        assert page.count(".coupon-buttons") == 0
    assert Campaign.objects.get().state == CampaignState.CLOSED


def test_the_pages_are_styled_and_fit_a_screen_of_1440(service: Service, live_server: Any) -> None:
    service.campaign(1_000_000)
    with browser() as page:
        log_in(page, live_server.url)
        page.open(f"{live_server.url}/admin/coupons/campaign/")

        assert page.evaluate("getComputedStyle(document.querySelector('.coupon-good')).borderRadius") == "4px"
        assert page.evaluate("document.querySelector('.results').scrollWidth") <= page.evaluate(
            "document.querySelector('.results').clientWidth"
        )
