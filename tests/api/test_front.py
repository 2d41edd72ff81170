"""What the front says of campaigns that admit nobody, what it leaves to Django, and that nobody can tell the two apart.

tests/scenarios/test_one_contract.py asks both for every answer that there is, on real servers.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.conf import LazySettings
from django.test import Client

from coupons.admission.campaign_store import refusal_states
from coupons.auth.api_key_cache import api_key_cache
from coupons.auth.api_keys import create_api_key
from coupons.campaigns.lifecycle import close_campaign, pause_campaign
from coupons.front.answers import common_headers
from coupons.front.closed_campaigns import OPENING_MARGIN_MS
from coupons.front.request import MAX_BODY_BYTES, PREFIX, SUFFIX
from coupons.models import Campaign, Scope
from tests.support.front import FrontHandler, StillCampaigns
from tests.support.http import Api
from tests.support.issuer import Issuer
from tests.support.service import API_KEY, Service

Asked = Callable[[Client, str], Any]


@pytest.fixture
def closed(service: Service) -> Iterator[StillCampaigns]:
    made = StillCampaigns()
    yield made
    made.close()


@pytest.fixture
def handler(closed: StillCampaigns) -> Iterator[FrontHandler]:
    made = FrontHandler(closed)
    yield made
    made.close()


@pytest.fixture
def sold_out(service: Service) -> Campaign:
    campaign = service.campaign(1)
    assert Api().apply(campaign, "winner").status_code == 202
    assert Api().apply(campaign, "late").status_code == 409
    return campaign


def clients(handler: FrontHandler, **headers: str) -> tuple[Client, Client]:
    """The one behind the front, and Django's own."""
    own = {"authorization": f"Bearer {API_KEY}", **headers}
    front, django = Client(headers=own), Client(headers=own)
    front.handler = handler
    return front, django


def apply(client: Client, campaign: str, body: object = None, **more: Any) -> Any:
    more = {"content_type": "application/json", **more}
    return client.post(path_of(campaign), body or {"user_id": "stranger"}, **more)


def path_of(campaign: Campaign | str) -> str:
    return f"{PREFIX}{campaign.pk if isinstance(campaign, Campaign) else campaign}{SUFFIX}"


def what(answer: Any) -> tuple[int, dict[str, str], bytes]:
    """All of an answer but what differs each time."""
    headers = {name.lower(): value for name, value in answer.items()}
    if "ratelimit" in headers:
        headers["ratelimit"] = "so many left"  # one less, each time
    if "retry-after" in headers:
        headers["retry-after"] = "some"
    return answer.status_code, headers, answer.content


# --- what it says ---


def _pause(campaign: Campaign) -> None:
    pause_campaign(campaign_id=campaign.pk, actor="test")


def _close(campaign: Campaign) -> None:
    close_campaign(campaign_id=campaign.pk, actor="test")


@pytest.mark.parametrize("change", [lambda _: None, _pause, _close], ids=["sold out", "paused", "closed"])
def test_the_front_answers_byte_for_byte_as_the_view(
    handler: FrontHandler, sold_out: Campaign, change: Callable[[Campaign], None]
) -> None:
    change(sold_out)
    front, django = clients(handler)

    by_front, by_view = apply(front, str(sold_out.pk)), apply(django, str(sold_out.pk))

    assert handler.answered == 1
    assert what(by_front) == what(by_view)


def test_not_open_is_the_same_too(handler: FrontHandler, service: Service) -> None:
    campaign = service.campaign(1, opens_at=datetime.now(UTC) + timedelta(seconds=300))
    front, django = clients(handler)

    before, by_view = time.monotonic(), apply(django, str(campaign.pk))
    by_front, after = apply(front, str(campaign.pk)), time.monotonic()

    assert handler.answered == 1
    assert what(by_front) == what(by_view)
    assert 0 <= int(by_view["Retry-After"]) - int(by_front["Retry-After"]) <= math.ceil(after - before)


def test_a_user_with_a_token_is_refused_by_the_front(handler: FrontHandler, sold_out: Campaign, issuer: Issuer) -> None:
    front, django = clients(handler, authorization=issuer.bearer("anna"))

    by_front, by_view = apply(front, str(sold_out.pk), "{}"), apply(django, str(sold_out.pk), "{}")

    assert handler.answered == 1
    assert what(by_front) == what(by_view)


def test_https_behind_a_proxy_and_origins_get_their_own_headers(
    handler: FrontHandler, sold_out: Campaign, settings: LazySettings
) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.SECURE_HSTS_SECONDS = 60
    settings.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *settings.MIDDLEWARE]
    settings.CORS_ALLOWED_ORIGINS = ["https://shop.example"]
    common_headers.cache_clear()  # of a process whose settings do not change
    for headers in [
        {"x-forwarded-proto": "https"},
        {"origin": "https://shop.example"},
        {"origin": "https://x.example"},
    ]:
        front, django = clients(handler, **headers)
        assert what(apply(front, str(sold_out.pk))) == what(apply(django, str(sold_out.pk)))

    common_headers.cache_clear()
    assert handler.answered == 3


def test_a_winner_of_a_closed_campaign_is_told_so(handler: FrontHandler, sold_out: Campaign) -> None:
    front, django = clients(handler)

    by_front, by_view = (apply(client, str(sold_out.pk), {"user_id": "winner"}) for client in (front, django))

    assert handler.answered == 1
    assert by_front.status_code == 200
    assert what(by_front) == what(by_view)


# --- what it leaves to Django ---


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        pytest.param(lambda client, id_: apply(client, id_, {"user_id": "a b"}), 400, id="a bad user id"),
        pytest.param(lambda client, id_: apply(client, id_, {"user_id": 7}), 400, id="a number"),
        pytest.param(lambda client, id_: apply(client, id_, "{"), 400, id="no JSON"),
        pytest.param(lambda client, id_: apply(client, id_, "[]"), 400, id="no object"),
        pytest.param(lambda client, id_: apply(client, id_, '{"user_id":"1","user_id":"2"}'), 400, id="given twice"),
        pytest.param(
            lambda client, id_: apply(client, id_, {"user_id": "1", "more": "x" * MAX_BODY_BYTES}),
            409,
            id="a long body",
        ),
        pytest.param(
            lambda client, id_: apply(client, id_, "user_id=1", content_type="text/plain"), 415, id="no JSON type"
        ),
        pytest.param(lambda client, id_: apply(client, id_, headers={"accept": "text/html"}), 406, id="wants HTML"),
        pytest.param(lambda client, id_: apply(client, id_, headers={"host": "evil.example"}), 400, id="another host"),
        pytest.param(lambda client, id_: apply(client, f"{id_}%3Fa=1"), 404, id="a question mark in the id"),
        pytest.param(lambda client, id_: apply(client, id_, query_params={"a": "1"}), 409, id="a query"),
        pytest.param(lambda client, id_: apply(client, id_.upper()), 409, id="upper case"),
        pytest.param(lambda client, id_: client.get(f"/api/v1/campaigns/{id_}/apply"), 405, id="GET"),
        pytest.param(lambda client, id_: client.options(f"/api/v1/campaigns/{id_}/apply"), 200, id="OPTIONS"),
        pytest.param(lambda client, id_: apply(client, id_, headers={"authorization": ""}), 401, id="no credentials"),
        pytest.param(lambda client, id_: apply(client, id_, headers={"authorization": "Bearer x"}), 401, id="wrong"),
        pytest.param(lambda client, id_: apply(client, id_, headers={"authorization": "Basic x"}), 401, id="no bearer"),
    ],
)
def test_whatever_is_no_plain_application_goes_on_to_django_untouched(
    handler: FrontHandler, sold_out: Campaign, asked: Asked, status: int
) -> None:
    front, django = clients(handler)
    assert apply(front, str(sold_out.pk)).status_code == 409
    assert handler.answered == 1

    by_front, by_view = asked(front, str(sold_out.pk)), asked(django, str(sold_out.pk))

    assert handler.answered == 1
    assert by_front.status_code == status
    assert what(by_front) == what(by_view)


def test_a_key_that_may_not_apply_is_left_to_django(
    handler: FrontHandler, sold_out: Campaign, service: Service
) -> None:
    others = [{"scopes": [Scope.READ]}, {"scopes": Scope.values, "campaign_ids": [service.campaign(1).pk]}]
    answers = []
    for scopes in others:
        _, key = create_api_key(name="shop", actor="test", **scopes)  # type: ignore[arg-type]
        api_key_cache.reset()
        front, _ = clients(handler, authorization=f"Bearer {key}")
        answers.append(apply(front, str(sold_out.pk)).status_code)

    assert answers == [403, 404]
    assert handler.answered == 0


@pytest.mark.attack(
    "who has won, from two answers",
    "a stranger's and a winner's id, with no credentials, wrong ones, another's",
    "alike",
)
def test_nobody_without_credentials_learns_who_has_won(
    handler: FrontHandler, sold_out: Campaign, issuer: Issuer
) -> None:
    annas = issuer.bearer("anna")
    for authorization in ("", "Bearer wrong", "Bearer a.b.c", annas):
        front, _ = clients(handler, authorization=authorization)
        answers = [what(apply(front, str(sold_out.pk), {"user_id": user})) for user in ("winner", "stranger")]

        assert answers[0] == answers[1]
        # Who has a token of his own is refused before anybody looks whom the body names.
        assert answers[0][0] == (409 if authorization == annas else 401)


def test_within_the_margin_before_the_opening_the_gate_is_asked(
    handler: FrontHandler, closed: StillCampaigns, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an hour here instead of a second, so that no slow machine comes near its ends."""
    assert OPENING_MARGIN_MS == 1_000
    monkeypatch.setattr("coupons.front.closed_campaigns.OPENING_MARGIN_MS", 1_800_000)
    soon = service.campaign(1, opens_at=datetime.now(UTC) + timedelta(minutes=15))
    later = service.campaign(1, opens_at=datetime.now(UTC) + timedelta(days=1))
    front, django = clients(handler)
    for campaign in (soon, later):
        apply(django, str(campaign.pk))

    answers = [json.loads(apply(front, str(campaign.pk)).content)["code"] for campaign in (soon, later)]

    assert answers == ["not-open", "not-open"]
    assert closed.refused == [later.pk]


# --- what it knows ---


def test_a_lease_that_has_ended_is_no_knowledge(
    handler: FrontHandler, closed: StillCampaigns, sold_out: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed.look(sold_out.pk)
    found = closed.find(sold_out.pk, "stranger")
    assert found is not None

    found.until = time.monotonic()

    assert closed.find(sold_out.pk, "stranger") is None
    handler.looks = False
    front, _ = clients(handler)
    assert apply(front, str(sold_out.pk)).status_code == 409


@pytest.mark.usefixtures("issuer")
def test_only_the_gate_s_refusals_are_cached(
    handler: FrontHandler, closed: StillCampaigns, sold_out: Campaign, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler.looks = False
    noted: set[UUID] = set()
    monkeypatch.setattr(closed, "note_refusal", noted.add)
    front, _ = clients(handler)
    open_one = service.campaign(1)

    apply(front, str(open_one.pk))
    apply(front, "00000000-0000-4000-8000-000000000000")
    apply(front, str(sold_out.pk), headers={"authorization": "Bearer wrong"})
    assert noted == set()
    apply(front, str(sold_out.pk))

    assert noted == {sold_out.pk}


def test_the_list_is_bounded_and_forgets(
    closed: StillCampaigns, sold_out: Campaign, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coupons.front.closed_campaigns.MAX_WATCHED", 1)
    paused = service.campaign(1)
    _pause(paused)
    assert Api().apply(paused, "late").status_code == 409
    for campaign in (sold_out, paused):
        closed.look(campaign.pk)
    assert [closed.is_closed(campaign.pk) for campaign in (sold_out, paused)] == [True, False]

    with monkeypatch.context() as later:
        later.setattr("coupons.front.closed_campaigns.WATCH_SEC", 0.0)
        closed.refresh()
    assert not closed.is_closed(sold_out.pk)

    closed.look(paused.pk)
    assert closed.is_closed(paused.pk), "there is room for another"


def test_winners_beyond_the_capacity_are_left_to_the_gate(
    service: Service, sold_out: Campaign, settings: LazySettings
) -> None:
    settings.REFUSAL_USERS = 0
    closed = StillCampaigns()
    try:
        closed.look(sold_out.pk)
        assert closed.find(sold_out.pk, "stranger") is None
    finally:
        closed.close()


def test_many_campaigns_are_one_round_trip(service: Service, sold_out: Campaign) -> None:
    found = refusal_states({sold_out.pk: 1, service.campaign(1).pk: 1, service.campaign(1, opened=False).pk: 1})

    assert [each.refusal for each in found.values()] == ["SOLD_OUT", None]
