"""POST .../apply, line by line of docs/api.md."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.utils.dateparse import parse_datetime

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import close_campaign, pause_campaign, resume_campaign
from tests.support.http import Api, assert_problem, json_of
from tests.support.service import Service


def test_an_admitted_user_gets_202_and_the_ticket_s_address(api: Api, service: Service) -> None:
    campaign = service.campaign(10)

    answer = api.apply(campaign, "auth0|a.b@example.test")

    status_url = f"/api/v1/campaigns/{campaign.pk}/tickets/auth0%7Ca.b@example.test"
    assert answer.status_code == 202
    assert answer["Location"] == status_url
    assert json_of(answer) == {"status": "pending", "sequence": 1, "status_url": status_url}
    assert json_of(api.get(status_url.removeprefix("/api/v1/")))["sequence"] == 1


def test_the_same_user_again_gets_200_with_the_same_body(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    first = api.apply(campaign)
    api.apply(campaign, "another")

    again = api.apply(campaign)

    assert (first.status_code, again.status_code) == (202, 200)
    assert json_of(again) == json_of(first)
    assert again["Location"] == first["Location"]


def test_a_repeat_keeps_its_place_in_any_later_state(api: Api, service: Service) -> None:
    campaign = service.campaign(1)
    api.apply(campaign)
    assert_problem(api.apply(campaign, "late"), 409, "sold-out")

    pause_campaign(campaign_id=campaign.pk, actor="test")
    assert api.apply(campaign).status_code == 200
    close_campaign(campaign_id=campaign.pk, actor="test")
    assert json_of(api.apply(campaign))["sequence"] == 1


def test_sold_out_is_409_and_says_nothing_of_coming_back(api: Api, service: Service) -> None:
    campaign = service.campaign(1)
    api.apply(campaign, "first")

    answer = api.apply(campaign, "second")

    assert_problem(answer, 409, "sold-out")
    assert "Retry-After" not in answer


@pytest.mark.parametrize("opened", [True, False], ids=["open", "draft"])
def test_not_open_says_when_and_brings_everybody_back_then(api: Api, service: Service, opened: bool) -> None:
    opens_at = datetime.now(UTC) + timedelta(seconds=300.25)
    campaign = service.campaign(10, opened=opened, opens_at=opens_at)

    for user in range(20):
        before = datetime.now(UTC)
        answer = api.apply(campaign, str(user))
        after = datetime.now(UTC)

        said = parse_datetime(assert_problem(answer, 409, "not-open")["opens_at"])
        assert said is not None
        assert abs(said - opens_at) < timedelta(milliseconds=1)
        waited = timedelta(seconds=int(answer["Retry-After"]))
        assert opens_at - timedelta(milliseconds=101) <= after + waited
        assert before + waited <= opens_at + timedelta(milliseconds=901)


def test_long_before_opening_users_return_in_an_hour(api: Api, service: Service) -> None:
    campaign = service.campaign(10, opens_at=datetime.now(UTC) + timedelta(days=30))

    assert api.apply(campaign)["Retry-After"] == "3600"


def test_who_comes_a_moment_before_the_opening_waits_for_it(
    api: Api, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some seconds instead of a tenth of one, so that who is stopped on the way here is not too late to be early."""
    monkeypatch.setattr("coupons.api.accept.EARLY_MS", 10_000)
    monkeypatch.setattr("coupons.front.apply.EARLY_MS", 10_000)
    monkeypatch.setattr("coupons.front.closed_campaigns.OPENING_MARGIN_MS", 10_000)
    opens_at = datetime.now(UTC) + timedelta(seconds=2.5)
    campaign = service.campaign(10, opens_at=opens_at)

    assert api.apply(campaign).status_code == 202
    assert datetime.now(UTC) >= opens_at - timedelta(milliseconds=1)


def test_a_draft_whose_time_has_come_is_not_open_either(api: Api, service: Service) -> None:
    answer = api.apply(service.campaign(10, opened=False))

    assert_problem(answer, 409, "not-open")
    assert answer["Retry-After"] == "1"


def test_paused_asks_to_come_back_and_resumed_admits(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    pause_campaign(campaign_id=campaign.pk, actor="test")

    answer = api.apply(campaign)

    assert_problem(answer, 409, "paused")
    assert answer["Retry-After"] == "1"
    resume_campaign(campaign_id=campaign.pk, actor="test")
    assert api.apply(campaign).status_code == 202


def test_closed_is_410(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    close_campaign(campaign_id=campaign.pk, actor="test")

    answer = api.apply(campaign)

    assert_problem(answer, 410, "closed")
    assert "Retry-After" not in answer


def test_a_campaign_past_its_window_is_closed(api: Api, service: Service) -> None:
    campaign = service.campaign(10, closes_at=datetime.now(UTC) + timedelta(hours=1))
    admission_redis().hset(campaign_keys(campaign.pk).campaign, "closes_at_ms", 1)

    assert_problem(api.apply(campaign), 410, "closed")


def test_an_unknown_campaign_is_404(api: Api) -> None:
    assert_problem(api.apply(uuid4()), 404, "not-found")


def test_an_id_that_is_no_uuid_is_404_too(api: Api, service: Service) -> None:
    campaign = service.campaign(10)

    for text in ("1", "not-a-uuid", campaign.pk.hex, f"{{{campaign.pk}}}", f"urn:uuid:{campaign.pk}"):
        assert_problem(api.apply(text), 404, "not-found")


def test_an_address_where_nothing_is_answers_with_a_problem(api: Api) -> None:
    assert_problem(api.get("nothing/here"), 404, "not-found")


def test_a_state_that_is_not_current_is_503(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    admission_redis().delete(campaign_keys(campaign.pk).campaign)

    answer = api.apply(campaign)

    assert_problem(answer, 503, "unavailable")
    assert answer["Retry-After"] == "1"
    assert not admission_redis().exists(*campaign_keys(campaign.pk))
