"""A coupon's page in a real browser: found by its code, returned, revoked; by clumsy hands, too."""

from pathlib import Path
from typing import Any

import pytest

from coupons.models import AuditEntry, Campaign, Coupon, CouponEvent
from coupons.redemption.redeem import return_redemption
from tests.support.coupons import coupon_in, kinds, use
from tests.support.operators import campaign_page
from tests.support.service import Service
from tests.support.waiting import wait_until
from tests.support.webdriver import Browser, browser, log_in

pytestmark = pytest.mark.system


@pytest.fixture
def coupon(service: Service) -> Coupon:
    """Used by three orders, of a user with a long id."""
    made = coupon_in(service.campaign(10, valid_days=30, metadata={"value": 5000}), f"kim+shop|{'x' * 90}@example.test")
    for number in (1, 2):
        returned = use(made, f"2026-{number:04d}", hold_sec=600 if number == 1 else None)
        return_redemption(
            redemption_id=returned.pk, reason="the parcel came back", actor="api:shop", may_touch=lambda _: True
        )
    use(made, "2026-0003-" + "y" * 118)
    return made


def find(page: Browser, url: str, code: str) -> None:
    page.open(f"{url}/admin/coupons/coupon/")
    page.type_into("#searchbar", code)
    page.submit("#changelist-search input[type=submit]")


def fits(page: Browser) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def test_an_operator_finds_returns_and_revokes_a_coupon(coupon: Coupon, live_server: Any, tmp_path: Path) -> None:
    with browser() as page:
        log_in(page, live_server.url)
        find(page, live_server.url, coupon.code.lower().replace("-", " "))

        assert page.address == f"{live_server.url}/admin/coupons/coupon/{coupon.pk}/change/"
        assert coupon.code in page.text("#coupon_form")
        assert page.text(".field-state .coupon-badge") == "redeemed"
        assert page.count("#redemptions tbody tr") == 3
        assert page.count("#events tbody tr") == 6
        page.screenshot(tmp_path / "coupon.png")
        assert fits(page)

        page.submit("button[value=revoke_coupons]")
        assert "Return these redemptions first" in page.text(".coupon-alarm")
        page.back()
        page.submit("button[value=return_redemptions]")
        page.type_into("#id_reason", "sent back")
        page.screenshot(tmp_path / "return.png")
        assert fits(page)
        page.submit("input[value=Return]")
        assert "is returned. It can be redeemed again." in page.text(".messagelist .success")

        page.submit("button[value=revoke_coupons]")
        page.type_into("#id_reason", "fraud")
        page.double_click("input[value=Revoke]")
        assert "is revoked" in page.text(".messagelist .success")
        page.reload()
        assert page.text(".field-state .coupon-badge") == "revoked"
        assert page.count(".coupon-buttons") == 0
    wait_until(lambda: kinds(coupon)[-2:] == ["returned", "revoked"])
    assert list(AuditEntry.objects.filter(kind="coupons.coupon").order_by("pk").values_list("reason", flat=True)) == [
        "sent back",
        "fraud",
    ]


def test_back_and_f5_after_revoking_revokes_nothing_more(service: Service, live_server: Any) -> None:
    coupon = coupon_in(service.campaign(10))
    with browser() as page:
        log_in(page, live_server.url)
        page.open(f"{live_server.url}/admin/coupons/coupon/{coupon.pk}/change/")
        page.submit("button[value=revoke_coupons]")
        page.type_into("#id_reason", "fraud")
        page.press_enter("#id_reason")
        assert CouponEvent.objects.count() == 0, "Enter in the reason is one more line"
        page.submit("input[value=Revoke]")

        page.back()
        page.reload()

        assert "The selected coupons are already revoked." in page.text("#content")
        assert page.count("input[value=Revoke]") == 0
    assert kinds(coupon) == ["revoked"]


def test_list_and_campaign_fit_a_screen_of_1440(coupon: Coupon, live_server: Any, tmp_path: Path) -> None:
    with browser() as page:
        log_in(page, live_server.url)
        page.open(f"{live_server.url}/admin/coupons/coupon/")
        page.screenshot(tmp_path / "list.png")
        assert page.evaluate("document.querySelector('.results').scrollWidth") <= page.evaluate(
            "document.querySelector('.results').clientWidth"
        )
        page.open(live_server.url + campaign_page(Campaign.objects.get()))
        page.screenshot(tmp_path / "campaign.png")
        assert "Redeemed" in page.text("#coupons-by-status")
        assert fits(page)
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        page.screenshot(tmp_path / "campaign-form.png")
