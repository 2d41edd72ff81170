"""What clients expect of HTTP beside the bodies: HEAD, OPTIONS, slashes, caches, other origins."""

import pytest
from django.conf import LazySettings
from django.test import Client

from coupons.models import Campaign
from tests.support.http import Api, assert_problem
from tests.support.service import Service


@pytest.fixture
def campaign(service: Service) -> Campaign:
    return service.campaign(10)


def test_head_is_get_without_its_body(api: Api, campaign: Campaign) -> None:
    for path in ("campaigns", f"campaigns/{campaign.pk}"):
        answer, wanted = api.request("HEAD", path), api.get(path)

        assert (answer.status_code, answer.content) == (200, b"")
        assert answer["Content-Type"] == wanted["Content-Type"]


def test_options_names_the_methods(api: Api, campaign: Campaign) -> None:
    answer = api.request("OPTIONS", f"campaigns/{campaign.pk}/apply")

    assert (answer.status_code, answer["Allow"]) == (200, "POST, OPTIONS")


def test_a_trailing_slash_is_another_address_and_no_redirect(api: Api, campaign: Campaign) -> None:
    assert_problem(api.post(f"campaigns/{campaign.pk}/apply/", {"user_id": "1"}), 404, "not-found")
    assert_problem(api.get("campaigns/"), 404, "not-found")


def test_no_cache_may_store_an_answer(api: Api, campaign: Campaign) -> None:
    answers = [
        api.apply(campaign, "1"),
        api.apply(campaign, "1"),
        api.ticket(campaign, "1"),
        api.ticket(campaign, "2"),
        api.apply(campaign, ""),
        api.get("nothing"),
        Api("").campaign(campaign),
        api.request("DELETE", f"campaigns/{campaign.pk}"),
    ]

    assert {answer.status_code for answer in answers} == {202, 200, 404, 400, 401, 405}
    assert {answer["Cache-Control"] for answer in answers} == {"no-store"}


def preflight(origin: str) -> dict[str, str]:
    answer = Client().options(
        "/api/v1/campaigns",
        headers={"origin": origin, "access-control-request-method": "POST", "authorization": "Bearer x"},
    )
    return {name.lower(): value for name, value in answer.items() if name.lower().startswith("access-control")}


def test_other_origins_may_not_call(api: Api) -> None:
    assert preflight("https://shop.example") == {}


def test_origins_that_are_named_may(api: Api, settings: LazySettings) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://shop.example"]
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "corsheaders"]
    settings.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *settings.MIDDLEWARE]

    allowed = preflight("https://shop.example")
    assert allowed["access-control-allow-origin"] == "https://shop.example"
    assert "access-control-allow-credentials" not in allowed
    assert preflight("https://evil.example") == {}
