"""Who gets in: API keys of COUPON_API_KEYS, and nobody else."""

import pytest
from django.conf import LazySettings

from coupons.models import Campaign
from tests.support.http import Api, assert_problem
from tests.support.service import Service


@pytest.fixture
def campaign(service: Service) -> Campaign:
    return service.campaign(10)


STRANGERS = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer wrong",
    "Bearer test-ke",
    "Bearer test-key2",
    "Bearer test-key test-key",
    "Bearer Test-Key",
    "Basic dGVzdC1rZXk6",
    "test-key",
    "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiI0MiJ9.",
    "Bearer t\u00e9st-key",
]


@pytest.mark.attack("no credentials, wrong credentials", "12 headers", "401 everywhere")
def test_without_a_known_key_nobody_gets_in(campaign: Campaign) -> None:
    for authorization in STRANGERS:
        api = Api(authorization)
        for answer in (api.apply(campaign), api.ticket(campaign), api.campaign(campaign), api.post("campaigns", {})):
            assert_problem(answer, 401, "unauthenticated")
            assert answer["WWW-Authenticate"].startswith("Bearer")


def test_no_key_configured_means_that_nobody_gets_in(campaign: Campaign, settings: LazySettings) -> None:
    settings.API_KEYS = []

    for authorization in ("Bearer test-key", "Bearer", "Bearer None", ""):
        assert_problem(Api(authorization).apply(campaign), 401, "unauthenticated")


def test_each_key_is_good_in_any_case_of_the_scheme(campaign: Campaign, settings: LazySettings) -> None:
    settings.API_KEYS = ["one", "two"]

    assert Api("Bearer one").apply(campaign, "1").status_code == 202
    assert Api("bearer two").apply(campaign, "2").status_code == 202
    assert_problem(Api("Bearer one,two").apply(campaign), 401, "unauthenticated")


def test_who_may_not_in_is_not_told_what_there_is(campaign: Campaign) -> None:
    stranger = Api("Bearer wrong")

    assert stranger.campaign(campaign).content == stranger.campaign("nothing").content
