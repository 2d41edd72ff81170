"""What the lobby says, what it leaves to Django, and that nobody can tell the two apart."""

import json
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client

from coupons.admission.newcomer import newcomers
from coupons.callers.api_keys import create_api_key
from coupons.callers.snapshot import key_snapshot
from coupons.campaigns.lifecycle import close_campaign, pause_campaign
from coupons.lobby.application import MAX_BODY
from coupons.lobby.heads import Heads
from coupons.lobby.knowledge import MAX_WATCHED, OPENING_MARGIN_MS, PREFIX, SUFFIX, Knowledge
from coupons.models import Campaign, Scope
from tests.support.http import Api
from tests.support.issuer import Issuer
from tests.support.lobby import LobbyHandler, StillKnowledge, know_now
from tests.support.service import API_KEY, Service

Asked = Callable[[Client, str], Any]
ASKS_AGAIN = "the user who has the only coupon"


@pytest.fixture
def knowledge(service: Service) -> Iterator[Knowledge]:
    made = StillKnowledge()
    yield made
    made.close()


@pytest.fixture
def handler(knowledge: Knowledge) -> LobbyHandler:
    return LobbyHandler(knowledge)


@pytest.fixture
def sold_out(service: Service) -> Campaign:
    campaign = service.campaign(1)
    assert Api().apply(campaign, "winner").status_code == 202
    assert Api().apply(campaign, "late").status_code == 409
    return campaign


def clients(handler: LobbyHandler, **headers: str) -> tuple[Client, Client]:
    """The one behind the lobby, and Django's own."""
    own = {"authorization": f"Bearer {API_KEY}", **headers}
    lobby, django = Client(headers=own), Client(headers=own)
    lobby.handler = handler
    return lobby, django


def apply(client: Client, campaign: str, body: object = None, **more: Any) -> Any:
    more = {"content_type": "application/json", **more}
    return client.post(path_of(campaign), body or {"user_id": "stranger"}, **more)


def path_of(campaign: Campaign | str) -> str:
    return f"{PREFIX}{campaign.pk if isinstance(campaign, Campaign) else campaign}{SUFFIX}"


def what(answer: Any) -> tuple[int, dict[str, str], bytes]:
    """All of an answer but what differs each time."""
    headers = {name: value for name, value in answer.items() if not name.startswith("RateLimit")}
    if "Retry-After" in headers:
        headers["Retry-After"] = "some"
    return answer.status_code, headers, answer.content


# --- what it says ---


def _pause(campaign: Campaign) -> None:
    pause_campaign(campaign_id=campaign.pk, actor="test")


def _close(campaign: Campaign) -> None:
    close_campaign(campaign_id=campaign.pk, actor="test")


@pytest.mark.parametrize("change", [lambda _: None, _pause, _close], ids=["sold out", "paused", "closed"])
def test_the_lobby_answers_byte_for_byte_as_the_view(
    handler: LobbyHandler, sold_out: Campaign, change: Callable[[Campaign], None]
) -> None:
    change(sold_out)
    lobby, django = clients(handler)

    by_lobby, by_view = apply(lobby, str(sold_out.pk)), apply(django, str(sold_out.pk))

    assert handler.answered == 1
    assert what(by_lobby) == what(by_view)
    assert list(by_lobby.headers) == list(by_view.headers)


def test_not_open_is_the_same_too(handler: LobbyHandler, service: Service) -> None:
    campaign = service.campaign(1, opens_at=datetime.now(UTC) + timedelta(seconds=300))
    lobby, django = clients(handler)

    before, by_view = time.monotonic(), apply(django, str(campaign.pk))
    by_lobby, after = apply(lobby, str(campaign.pk)), time.monotonic()

    assert handler.answered == 1
    assert what(by_lobby) == what(by_view)
    assert 0 <= int(by_view["Retry-After"]) - int(by_lobby["Retry-After"]) <= math.ceil(after - before)


def test_a_user_with_a_token_is_refused_by_the_lobby(handler: LobbyHandler, sold_out: Campaign, issuer: Issuer) -> None:
    lobby, django = clients(handler, authorization=issuer.bearer("anna"))

    by_lobby, by_view = apply(lobby, str(sold_out.pk), "{}"), apply(django, str(sold_out.pk), "{}")

    assert handler.answered == 1
    assert what(by_lobby) == what(by_view)


def test_https_behind_a_proxy_and_origins_get_their_own_headers(
    handler: LobbyHandler, sold_out: Campaign, settings: LazySettings
) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.SECURE_HSTS_SECONDS = 60
    settings.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *settings.MIDDLEWARE]
    settings.CORS_ALLOWED_ORIGINS = ["https://shop.example"]
    for headers in [
        {"x-forwarded-proto": "https"},
        {"origin": "https://shop.example"},
        {"origin": "https://x.example"},
    ]:
        lobby, django = clients(handler, **headers)
        assert what(apply(lobby, str(sold_out.pk))) == what(apply(django, str(sold_out.pk)))

    assert handler.answered == 3


# --- what it leaves to Django ---


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        pytest.param(lambda client, id_: apply(client, id_, {"user_id": "winner"}), 200, id="a winner"),
        pytest.param(lambda client, id_: apply(client, id_, {"user_id": "a b"}), 400, id="a bad user id"),
        pytest.param(lambda client, id_: apply(client, id_, {"user_id": 7}), 400, id="a number"),
        pytest.param(lambda client, id_: apply(client, id_, "{"), 400, id="no JSON"),
        pytest.param(lambda client, id_: apply(client, id_, "[]"), 400, id="no object"),
        pytest.param(lambda client, id_: apply(client, id_, '{"user_id":"1","user_id":"2"}'), 400, id="given twice"),
        pytest.param(
            lambda client, id_: apply(client, id_, {"user_id": "1", "more": "x" * MAX_BODY}), 409, id="a long body"
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
    handler: LobbyHandler, sold_out: Campaign, asked: Asked, status: int
) -> None:
    lobby, django = clients(handler)
    assert apply(lobby, str(sold_out.pk)).status_code == 409
    assert handler.answered == 1

    by_lobby, by_view = asked(lobby, str(sold_out.pk)), asked(django, str(sold_out.pk))

    assert handler.answered == 1
    assert by_lobby.status_code == status
    assert what(by_lobby) == what(by_view)


def test_a_key_without_the_scope_or_for_another_campaign_is_left_to_django(
    handler: LobbyHandler, sold_out: Campaign, service: Service
) -> None:
    others = [{"scopes": [Scope.READ]}, {"scopes": Scope.values, "campaign_ids": [service.campaign(1).pk]}]
    answers = []
    for scopes in others:
        _, key = create_api_key(name="shop", actor="test", **scopes)  # type: ignore[arg-type]
        key_snapshot.reset()
        lobby, _ = clients(handler, authorization=f"Bearer {key}")
        answers.append(apply(lobby, str(sold_out.pk)).status_code)

    assert answers == [403, 404]
    assert handler.answered == 0


@pytest.mark.attack(
    "who has won, from two answers",
    "a stranger's and a winner's id, with no credentials, wrong ones, another's",
    "alike",
)
def test_nobody_without_credentials_learns_who_has_won(
    handler: LobbyHandler, sold_out: Campaign, issuer: Issuer
) -> None:
    for authorization in ("", "Bearer wrong", "Bearer a.b.c", issuer.bearer("anna")):
        lobby, _ = clients(handler, authorization=authorization)
        answers = [what(apply(lobby, str(sold_out.pk), {"user_id": user})) for user in ("winner", "stranger")]

        assert answers[0] == answers[1]
        assert answers[0][0] in (401, 403)
    assert handler.answered == 0


def test_within_the_margin_before_the_opening_the_gate_is_asked(
    handler: LobbyHandler, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an hour here instead of a second, so that no slow machine comes near its ends."""
    assert OPENING_MARGIN_MS == 1_000
    monkeypatch.setattr("coupons.lobby.knowledge.OPENING_MARGIN_MS", 1_800_000)
    soon = service.campaign(1, opens_at=datetime.now(UTC) + timedelta(minutes=15))
    later = service.campaign(1, opens_at=datetime.now(UTC) + timedelta(days=1))
    lobby, django = clients(handler)
    for campaign in (soon, later):
        apply(django, str(campaign.pk))

    answers = [json.loads(apply(lobby, str(campaign.pk)).content)["code"] for campaign in (soon, later)]

    assert answers == ["not-open", "not-open"]
    assert handler.answered == 1


# --- what it knows ---


def test_a_lease_that_has_ended_is_no_knowledge(
    handler: LobbyHandler, sold_out: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    lobby, _ = clients(handler)
    know_now(handler.knowledge, path_of(sold_out))
    monkeypatch.setattr("tests.support.lobby.know_now", lambda *_: None)
    assert apply(lobby, str(sold_out.pk)).status_code == 409
    assert handler.answered == 1

    handler.knowledge.doors[path_of(sold_out)].until = time.monotonic()

    assert apply(lobby, str(sold_out.pk)).status_code == 409
    assert handler.answered == 1


@pytest.mark.usefixtures("issuer")
def test_only_a_refusal_by_django_puts_a_campaign_on_the_list(
    handler: LobbyHandler, sold_out: Campaign, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.lobby.know_now", lambda *_: None)
    asked: set[str] = set()
    monkeypatch.setattr(handler.knowledge, "note", asked.add)
    lobby, _ = clients(handler)
    open_one = service.campaign(1)

    apply(lobby, str(open_one.pk))
    apply(lobby, "00000000-0000-4000-8000-000000000000")
    apply(lobby, str(sold_out.pk), headers={"authorization": "Bearer wrong"})
    assert asked == set()
    apply(lobby, str(sold_out.pk))

    assert asked == {path_of(sold_out)}


def test_the_list_is_bounded_and_forgets(
    knowledge: Knowledge, sold_out: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    know_now(knowledge, path_of(sold_out))
    for number in range(3):
        for each in range(MAX_WATCHED):
            knowledge.note(path_of(f"00000000-0000-4000-8{number:03}-{each:012}"))
        knowledge.refresh()
    assert len(knowledge._watched) == MAX_WATCHED
    assert path_of(sold_out) in knowledge.doors

    monkeypatch.setattr("coupons.lobby.knowledge.WATCH_SEC", 0.0)
    knowledge.refresh()

    assert knowledge._watched == {}
    assert knowledge.doors == {}


def test_winners_beyond_the_capacity_are_left_to_the_view(
    service: Service, sold_out: Campaign, settings: LazySettings
) -> None:
    settings.LOBBY_WINNERS = 0
    knowledge = StillKnowledge()
    try:
        know_now(knowledge, path_of(sold_out))
        assert knowledge.doors == {}
    finally:
        knowledge.close()


def test_many_campaigns_are_one_round_trip(service: Service, sold_out: Campaign) -> None:
    found = newcomers({sold_out.pk: 1, service.campaign(1).pk: 1, service.campaign(1, opened=False).pk: 1})

    assert [each.refusal for each in found.values()] == ["SOLD_OUT", None]


def test_django_is_asked_for_headers_once_for_each_way_of_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    heads, asked = Heads(), []
    django = heads._django.get_response
    monkeypatch.setattr(heads._django, "get_response", lambda request: asked.append(request) or django(request))  # type: ignore[func-returns-value]
    environ = {
        "HTTP_HOST": "localhost", "CONTENT_TYPE": "application/json", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
    }  # fmt: skip

    found = [
        heads.find(environ | {"HTTP_ACCEPT": accept}) for accept in ("*/*", "*/*", "application/json", "text/html")
    ]

    assert found[0] == found[1] == found[2]
    assert found[3] is None
    assert len(asked) == 3
