"""The button Export on a campaign's page."""

from typing import Any

from django.test import Client
from django.urls import reverse

from coupons.models import AuditEntry, Campaign, Coupon
from tests.api.test_export import campaign_of, rows_of
from tests.support.operators import campaign_page, form_on, history_of, sign_in, text_of
from tests.support.service import Service


def export_page(campaign: Campaign) -> str:
    return reverse("admin:coupons_campaign_export", args=[campaign.pk])


def send(client: Client, campaign: Campaign, **typed: Any) -> Any:
    form = form_on(client.get(export_page(campaign)), **typed)
    return client.post(export_page(campaign), form)


def test_the_button_leads_to_a_page_that_asks_why_and_sends_the_file(service: Service) -> None:
    campaign = campaign_of(service, "a", "b")
    client = sign_in("view_campaign", "view_coupon", "see_code")
    assert f'href="{export_page(campaign)}"' in client.get(campaign_page(campaign)).content.decode()

    refused = send(client, campaign, reason=" ")
    assert "Give a reason" in text_of(refused)
    assert history_of(campaign) == []

    answer = send(client, campaign, reason="the shop asks", status="unused")
    rows = rows_of(answer.getvalue())
    assert [row["code"] for row in rows] == list(Coupon.objects.order_by("sequence").values_list("code", flat=True))
    assert answer["Content-Disposition"] == f'attachment; filename="coupons-{campaign.pk}.csv"'
    assert history_of(campaign) == ["Exported the coupons, with codes, status unused: the shop asks"]


def test_codes_need_the_right_to_see_them(service: Service) -> None:
    campaign = campaign_of(service, "a")
    client = sign_in("view_campaign", "view_coupon")
    assert "without their codes" in text_of(client.get(export_page(campaign)))

    rows = rows_of(send(client, campaign, reason="a list").getvalue())

    assert [(row["user_id"], row["code"]) for row in rows] == [("a", "")]
    assert history_of(campaign) == ["Exported the coupons, without codes: a list"]


def test_who_may_not_see_coupons_has_no_button_and_gets_none(service: Service) -> None:
    campaign = campaign_of(service, "a")
    client = sign_in("view_campaign", "operate_campaign")

    assert "Export" not in text_of(client.get(campaign_page(campaign)))
    assert client.get(export_page(campaign)).status_code == 403
    assert client.post(export_page(campaign), {"confirmed": "yes", "reason": "x"}).status_code == 403
    assert not AuditEntry.objects.filter(what__startswith="Exported").exists()


def test_a_campaign_that_is_not_there_is_404(service: Service) -> None:
    client = sign_in("view_campaign", "view_coupon")
    page = reverse("admin:coupons_campaign_export", args=["0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10"])

    assert client.get(page).status_code == 404
