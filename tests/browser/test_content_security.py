"""Every page under the Content-Security-Policy, in a real browser: nothing is blocked, and what was put in is."""

from hashlib import sha256
from typing import Any

import pytest
from django.urls import reverse

from coupons.auth.api_keys import create_api_key
from coupons.models import FailCode, FailEventHistory
from tests.support.coupons import coupon_in, use
from tests.support.operators import campaign_page, event_page
from tests.support.service import Service
from tests.support.webdriver import Browser, browser, log_in

pytestmark = pytest.mark.system


def pages_of_the_admin(service: Service) -> list[str]:
    campaign = service.campaign(100)
    payload = b'{"a":1}'
    event = FailEventHistory.objects.create(
        error_code=FailCode.DATABASE_REFUSED,
        error_message="why",
        topic="t",
        partition=0,
        offset=1,
        payload=payload,
        payload_hash=sha256(payload).hexdigest(),
    )
    key, _ = create_api_key(name="shop", scopes=["read"], actor="test")
    coupon = coupon_in(campaign)
    use(coupon, hold_sec=600)
    lists = [f"coupons_{name}" for name in ("campaign", "coupon", "faileventhistory", "jobrun", "apikey", "auditentry")]
    return [
        reverse("admin:index"),
        *(reverse(f"admin:{name}_changelist") for name in [*lists, "auth_user", "auth_group"]),
        reverse("admin:coupons_campaign_add"),
        campaign_page(campaign),
        reverse("admin:coupons_campaign_history", args=[campaign.pk]),
        event_page(event),
        reverse("admin:coupons_coupon_change", args=[coupon.pk]),
        reverse("admin:coupons_coupon_history", args=[coupon.pk]),
        reverse("admin:coupons_apikey_add"),
        reverse("admin:coupons_apikey_change", args=[key.pk]),
        reverse("admin:auth_user_add"),
        reverse("admin:password_change"),
    ]


def complaints(page: Browser, address: str) -> list[str]:
    page.open(address)
    page.text("body")
    return [text for text in page.console() if "favicon.ico" not in text]


def test_no_page_of_the_admin_needs_what_the_policy_forbids(service: Service, live_server: Any) -> None:
    with browser() as page:
        assert complaints(page, f"{live_server.url}/admin/login/") == []
        log_in(page, live_server.url)
        for path in pages_of_the_admin(service):
            assert (path, complaints(page, live_server.url + path)) == (path, [])
            if page.count(".coupon-danger"):  # leads to a page that asks first
                page.submit(".coupon-danger")
                page.text("#id_reason")
                assert [text for text in page.console() if "favicon.ico" not in text] == [], path


def test_the_page_about_the_api_needs_nothing_inline(service: Service, live_server: Any) -> None:
    with browser() as page:
        assert complaints(page, f"{live_server.url}/api/docs/") == []
        assert "Coupons" in page.text("#api .info .title")
        assert complaints(page, f"{live_server.url}/api/docs/problems") == []


def test_a_script_that_got_into_a_page_would_not_run(service: Service, live_server: Any) -> None:
    """The twin of the two above: what they would have seen."""
    with browser() as page:
        page.open(f"{live_server.url}/admin/login/")
        page.evaluate(
            "(() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
            " document.body.append(s); })()"
        )

        assert page.evaluate("window.ran") is None
        (complaint,) = (text for text in page.console() if "favicon.ico" not in text)
        assert "Content Security Policy" in complaint
