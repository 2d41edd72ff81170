"""The admin while PostgreSQL is down: a page that says so, and one line in the log."""

import logging

import pytest
from django.test import Client
from django.urls import reverse

from coupons.models import Campaign, CampaignState
from tests.support.coupons import coupon_in
from tests.support.operators import CAMPAIGNS, COUPONS, OPERATE, campaign_page, confirm, press, sign_in, text_of
from tests.support.service import Service


@pytest.fixture
def operator(service: Service) -> Client:
    client = sign_in(*OPERATE)
    client.raise_request_exception = False
    return client


def test_each_page_says_that_postgresql_is_down(
    service: Service, operator: Client, caplog: pytest.LogCaptureFixture
) -> None:
    campaign = service.campaign()
    coupon = coupon_in(campaign)
    service.stack("stop", "postgres")
    caplog.clear()

    pages = [
        operator.get(reverse("admin:index")),
        operator.get(reverse(CAMPAIGNS)),
        press(operator, campaign, "pause_campaigns"),
        operator.get(reverse("admin:coupons_coupon_change", args=[coupon.pk])),
        confirm(operator, coupon, "revoke_coupons"),
        operator.post(reverse(COUPONS), {"search": coupon.code}),
        Client(raise_request_exception=False).post(reverse("admin:login"), {"username": "op", "password": "x"}),
    ]

    for page in pages:
        assert page.status_code == 503
        assert "PostgreSQL does not answer" in text_of(page)
        assert int(page["Retry-After"]) >= 1
    assert coupon.code not in caplog.text
    logged = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage().split(" ")[0] for record in logged] == ["admin.unavailable"] * len(pages)
    assert [record for record in logged if record.exc_info] == []
    assert all("\n" not in record.getMessage() for record in logged)


def test_the_admin_works_again_once_postgresql_is_back(service: Service, operator: Client) -> None:
    campaign = service.campaign()
    service.stack("stop", "postgres")
    assert operator.get(campaign_page(campaign)).status_code == 503
    service.stack("start", "postgres")

    assert operator.get(campaign_page(campaign)).status_code == 200
    assert Campaign.objects.get().state == CampaignState.OPEN


def test_a_defect_is_still_a_500_with_its_traceback(
    service: Service, operator: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr("coupons.admin.live_state.read_live_states", fail)

    assert operator.get(reverse(CAMPAIGNS)).status_code == 500
    assert any(record.exc_info for record in caplog.records if record.name == "django.request")
