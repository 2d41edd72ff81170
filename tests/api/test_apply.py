"""POST .../apply, line by line of DESIGN section 7."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from django.utils.dateparse import parse_datetime

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import close_campaign, pause_campaign, resume_campaign
from tests.support.http import Api, assert_problem, json_of
from tests.support.service import Service


def test_an_admitted_user_gets_202_with_the_address_of_the_ticket(api: Api, service: Service) -> None:
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


def test_a_repeat_keeps_its_place_whatever_became_of_the_campaign_since(api: Api, service: Service) -> None:
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


def test_not_open_says_when_and_spreads_the_crowd(api: Api, service: Service) -> None:
    opens_at = datetime.now(UTC) + timedelta(seconds=300)
    campaign = service.campaign(10, opens_at=opens_at)

    answers = [api.apply(campaign, str(user)) for user in range(20)]

    said = parse_datetime(assert_problem(answers[0], 409, "not-open")["opens_at"])
    assert said is not None
    assert abs(said - opens_at) < timedelta(milliseconds=1)
    waits = {int(answer["Retry-After"]) for answer in answers}
    assert min(waits) >= 295
    assert max(waits) <= 365
    assert len(waits) > 3, "everybody would come back at the same moment"


def test_not_open_by_far_asks_to_come_back_within_about_an_hour(api: Api, service: Service) -> None:
    campaign = service.campaign(10, opens_at=datetime.now(UTC) + timedelta(days=30))

    assert 3600 <= int(api.apply(campaign)["Retry-After"]) <= 4400


def test_a_draft_is_not_open_and_says_when(api: Api, service: Service) -> None:
    opens_at = datetime.now(UTC) + timedelta(seconds=60)
    campaign = service.campaign(10, opened=False, opens_at=opens_at)

    answer = api.apply(campaign)

    assert parse_datetime(assert_problem(answer, 409, "not-open")["opens_at"])
    assert 55 <= int(answer["Retry-After"]) <= 75


def test_a_draft_whose_time_has_come_is_not_open_either(api: Api, service: Service) -> None:
    answer = api.apply(service.campaign(10, opened=False))

    assert_problem(answer, 409, "not-open")
    assert int(answer["Retry-After"]) >= 1


def test_paused_asks_to_come_back_and_resumed_admits(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    pause_campaign(campaign_id=campaign.pk, actor="test")

    answer = api.apply(campaign)

    assert_problem(answer, 409, "paused")
    assert 1 <= int(answer["Retry-After"]) <= 10
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


def test_a_state_that_is_not_current_is_503_and_takes_no_place(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    admission_redis().delete(campaign_keys(campaign.pk).campaign)

    answer = api.apply(campaign)

    assert_problem(answer, 503, "unavailable")
    assert int(answer["Retry-After"]) >= 1
    assert not admission_redis().exists(*campaign_keys(campaign.pk))
