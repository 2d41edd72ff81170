"""The front and the view, each at a web server of its own: the same answer to every application, of every kind.

Status, body, and each header but Date. What differs for a reason is put aside: the id of the campaign, of which each
server has one, and the seconds until a limit gives more.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from coupons.auth.api_keys import create_api_key
from coupons.campaigns.lifecycle import close_campaign, pause_campaign
from coupons.models import Campaign, Scope
from coupons.reconciliation.unload import unload_campaigns
from tests.support.issuer import AUDIENCE, ISSUER, Issuer
from tests.support.raw_http import document
from tests.support.service import HEADERS, Service
from tests.support.timeouts import LONG_TIMEOUTS, web_timeouts
from tests.support.waiting import wait_until

JSON = {"Content-Type": "application/json"}
KEY = {"Authorization": HEADERS["Authorization"]}
PUBLIC_ADDRESS = "203.0.114.7"
OPENING = timedelta(hours=3)


@dataclass(frozen=True)
class Said:
    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Ask:
    """A request below a campaign's address; `{id}` of the body is the campaign's."""

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: JSON | KEY)
    method: str = "POST"
    path: str = "/api/v1/campaigns/{id}/apply"


def user(name: str, **headers: str) -> Ask:
    return Ask(document(user_id=name), JSON | KEY | {each.replace("_", "-"): value for each, value in headers.items()})


class Twins:
    """Two servers, `ask` both. Each has a campaign of its own with the same past."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service = service
        self.issuer = Issuer(folder)
        self.issuer.add("now", "ES256")
        settings = {
            "COUPON_WEB_WORKERS": "1",
            "COUPON_JWT_KEYS_DIR": str(folder),
            "COUPON_JWT_ISSUER": ISSUER,
            "COUPON_JWT_AUDIENCE": AUDIENCE,
            "COUPON_TRUSTED_PROXIES": "127.0.0.1/32",
            "COUPON_CORS_ORIGINS": "https://shop.example",
            "COUPON_HTTPS": "true",
            "COUPON_LIMIT_USER_CAMPAIGN_PER_MINUTE": "4",
            "COUPON_LIMIT_ADDRESS_CAMPAIGN_PER_MINUTE": "6",
        }
        service.webs(**settings, **self.timeouts)
        view, front = service.addresses
        self._urls = [front, view]

    timeouts = LONG_TIMEOUTS

    def campaigns(self, quantity: int = 10, **values: object) -> list[Campaign]:
        return [self.service.campaign(quantity, **values) for _ in self._urls]  # type: ignore[arg-type]

    def both(self, campaigns: list[Campaign], ask: Ask) -> tuple[Said, Said]:
        front, view = (_say(url, campaign, ask) for url, campaign in zip(self._urls, campaigns, strict=True))
        return front, view

    def agree(self, campaigns: list[Campaign], ask: Ask) -> Said:
        """What both say. A second may end between the two, so they may be asked again."""
        said: list[tuple[Said, Said]] = []

        def same() -> bool:
            said.append(self.both(campaigns, ask))
            return said[-1][0] == said[-1][1]

        front, view = self.both(campaigns, ask)
        if front != view and front.headers.get("retry-after") != view.headers.get("retry-after"):
            wait_until(same, within_sec=5, what=lambda: f"they agree: {said[-1]}")
            front, view = said[-1]
        assert front == view
        return front


class HastyTwins(Twins):
    """With half of the time-outs that users have, as eight of them wait here one after the other."""

    timeouts = web_timeouts(accept_ms=500, redis_ms=250)


def _say(url: str, campaign: Campaign, ask: Ask) -> Said:
    address = urlsplit(url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=30)
    try:
        path = ask.path.replace("{id}", str(campaign.pk)).replace("{ID}", str(campaign.pk).upper())
        headers = {"Host": "localhost"} | ask.headers
        connection.request(ask.method, path, ask.body or None, headers)
        answer = connection.getresponse()
        body = answer.read().decode()
    finally:
        connection.close()
    own_id = re.compile(str(campaign.pk), re.IGNORECASE)
    found = {name.lower(): own_id.sub("{id}", value) for name, value in answer.getheaders()}
    assert len(found) == len(answer.getheaders()), "no header comes twice"
    found.pop("date")
    if "ratelimit" in found:
        found["ratelimit"] = re.sub(r"t=\d+", "t=some", found["ratelimit"])
    return Said(answer.status, found, own_id.sub("{id}", body))


@pytest.fixture
def twins(service: Service, tmp_path: Path) -> Twins:
    return Twins(service, tmp_path)


def test_admitted_again_and_sold_out(twins: Twins) -> None:
    campaigns = twins.campaigns(2)

    assert twins.agree(campaigns, user("a")).status == 202
    assert twins.agree(campaigns, user("a")).status == 200
    assert twins.agree(campaigns, user("auth0|b", x_request_id="trace")).status == 202
    assert twins.agree(campaigns, user("c")).status == 409
    assert twins.agree(campaigns, user("a")).status == 200
    for name in "defgh":  # by now without the gate
        assert '"sold-out"' in twins.agree(campaigns, user(name)).body


def test_paused_closed_not_open_and_a_draft(twins: Twins) -> None:
    paused, closed = twins.campaigns(), twins.campaigns()
    for campaign in paused:
        pause_campaign(campaign_id=campaign.pk, actor="test")
    for campaign in closed:
        close_campaign(campaign_id=campaign.pk, actor="test")
    opens_at = datetime.now(UTC) + OPENING

    for _ in range(3):
        assert '"paused"' in twins.agree(paused, user("a")).body
        assert twins.agree(closed, user("a")).status == 410
        later = twins.agree(twins.campaigns(opens_at=opens_at), user("a"))
        assert '"not-open"' in later.body
        assert int(later.headers["retry-after"]) > 0
    draft = twins.agree(twins.campaigns(opened=False, opens_at=opens_at), user("a"))
    assert '"not-open"' in draft.body

    assert unload_campaigns(campaign_ids=[campaign.pk for campaign in closed], actor="test").refused == {}
    for _ in range(3):
        assert twins.agree(closed, user("a")).status == 410


GOOD = document(user_id="a")
ODD = {
    "no credentials": Ask(GOOD, JSON),
    "a wrong key": Ask(GOOD, JSON | {"Authorization": "Bearer wrong"}),
    "no bearer": Ask(GOOD, JSON | {"Authorization": "Basic eA=="}),
    "a token that is none": Ask(GOOD, JSON | {"Authorization": "Bearer a.b.c"}),
    "no body": Ask(),
    "no JSON": Ask(b"{"),
    "no object": Ask(b"[]"),
    "no user": Ask(b"{}"),
    "a number": Ask(b'{"user_id":7}'),
    "a bad user id": Ask(b'{"user_id":"a b"}'),
    "one dot": Ask(b'{"user_id":"."}'),
    "two dots": Ask(b'{"user_id":".."}'),
    "given twice": Ask(b'{"user_id":"1","user_id":"2"}'),
    "no UTF-8": Ask(b'{"user_id":"\xff"}'),
    "spaces": Ask(b' { "user_id" : "spaces" } '),
    "more members": Ask(b'{"user_id":"more","n":[1,2]}'),
    "an escape": Ask(b'{"user_id":"\\u0061bc"}'),
    "a long body": Ask(document(user_id="long", more="x" * 2_000)),
    "too long a body": Ask(document(user_id="long", more="x" * 70_000)),
    "no media type": Ask(GOOD, KEY),
    "another media type": Ask(b"user_id=1", KEY | {"Content-Type": "text/plain"}),
    "a charset": Ask(document(user_id="charset"), KEY | {"Content-Type": "application/json; charset=utf-8"}),
    "another charset": Ask(document(user_id="ch"), KEY | {"Content-Type": "application/json; charset=latin-1"}),
    "accepts all that axios does": user("axios", accept="application/json, text/plain, */*"),
    "accepts any application": user("any", accept="application/*"),
    "accepts JSON least": user("least", accept="text/html;q=0.9, */*;q=0.1"),
    "wants HTML": user("html", accept="text/html"),
    "wants no JSON": user("nojson", accept="application/json;q=0"),
    "another host": user("host", Host="evil.example"),
    "a host with its port": user("port", Host="localhost:8000"),
    "no host at all": user("nohost", Host=""),
    "a query": Ask(document(user_id="query"), path="/api/v1/campaigns/{id}/apply?a=1"),
    "upper case": Ask(document(user_id="upper"), path="/api/v1/campaigns/{ID}/apply"),
    "no UUID": Ask(GOOD, path="/api/v1/campaigns/7/apply"),
    "no such campaign": Ask(GOOD, path="/api/v1/campaigns/00000000-0000-4000-8000-000000000000/apply"),
    "a slash behind": Ask(GOOD, path="/api/v1/campaigns/{id}/apply/"),
    "bytes that are no UTF-8": Ask(GOOD, path="/api/v1/campaigns/{id}%ff/apply"),
    "GET": Ask(method="GET"),
    "HEAD": Ask(method="HEAD"),
    "OPTIONS": Ask(method="OPTIONS"),
    "PUT": Ask(GOOD, method="PUT"),
    "our origin": user("origin", origin="https://shop.example"),
    "another origin": user("other", origin="https://evil.example"),
    "a preflight": Ask(
        headers={"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}, method="OPTIONS"
    ),
    "over TLS": user("tls", x_forwarded_proto="https", x_forwarded_for=PUBLIC_ADDRESS),
    "an address": user("address", x_forwarded_for=PUBLIC_ADDRESS),
}


def test_whatever_is_odd(twins: Twins) -> None:
    campaigns = twins.campaigns(100)
    told = {name: twins.agree(campaigns, ask).status for name, ask in ODD.items()}

    for campaign in campaigns:
        close_campaign(campaign_id=campaign.pk, actor="test")
    for _ in range(2):  # and without the gate
        closed = {name: twins.agree(campaigns, ask).status for name, ask in ODD.items()}

    assert set(told.values()) >= {200, 202, 400, 401, 404, 405, 406, 413, 415}, told
    assert set(closed.values()) >= {200, 400, 401, 404, 405, 406, 413, 415}, closed
    assert twins.agree(campaigns, user("newcomer")).status == 410


def test_callers_of_every_kind(twins: Twins) -> None:
    campaigns, others = twins.campaigns(), twins.campaigns()
    made = {
        "may apply": create_api_key(name="a", actor="test", scopes=[Scope.APPLY])[1],
        "may only read": create_api_key(name="b", actor="test", scopes=[Scope.READ])[1],
        "for other campaigns": create_api_key(
            name="c", actor="test", scopes=Scope.values, campaign_ids=[each.pk for each in others]
        )[1],
    }

    def ask(bearer: str, body: bytes = GOOD) -> Said:
        return twins.agree(campaigns, Ask(body, JSON | {"Authorization": bearer}))

    for key in made.values():
        each = Ask(GOOD, JSON | {"Authorization": f"Bearer {key}"})
        wait_until(
            lambda each=each: all(said.status not in (401, 503) for said in twins.both(campaigns, each)),  # type: ignore[misc]
            what="both know the key",
        )
    assert ask(f"Bearer {made['may apply']}").status == 200
    assert ask(f"Bearer {made['may only read']}").status == 403
    assert ask(f"Bearer {made['for other campaigns']}").status == 404
    assert ask(twins.issuer.bearer("u1"), b"{}").status == 202
    assert ask(twins.issuer.bearer("u1"), document(user_id="u1")).status == 200
    assert ask(twins.issuer.bearer("u1"), document(user_id="u2")).status == 403
    assert ask(twins.issuer.bearer("u3", exp=1)).status == 401
    assert ask(twins.issuer.bearer("u3", aud="others")).status == 401


def test_limits_of_a_user_and_of_an_address(twins: Twins) -> None:
    campaigns = twins.campaigns()
    told = []
    for number in range(12):
        bearer = twins.issuer.bearer(f"user{number // 6}")
        headers = JSON | {"Authorization": bearer, "X-Forwarded-For": PUBLIC_ADDRESS}
        told.append(twins.agree(campaigns, Ask(b"{}", headers)).status)

    assert told[:6] == [202, 200, 200, 200, 429, 429]
    assert told[-1] == 429, "the address has none left, either"


@pytest.fixture
def hasty(service: Service, tmp_path: Path) -> Twins:
    return HastyTwins(service, tmp_path)


@pytest.mark.parametrize(
    ("part", "verb", "code"),
    [("redis", "stop", "unavailable"), ("redis", "pause", "unavailable"), ("kafka", "pause", "unconfirmed")],
)
def test_a_part_that_is_down_or_hangs(hasty: Twins, service: Service, part: str, verb: str, code: str) -> None:
    campaigns = hasty.campaigns()
    wait_until(lambda: hasty.both(campaigns, user("before"))[0].status == 200, what="both are warm")
    service.stack(verb, part)

    for name in "abcdefgh":  # the first wait, then the breaker is open
        said = hasty.agree(campaigns, user(name))
        assert (said.status, said.headers["retry-after"]) == (503, "1")
        assert f'"{code}"' in said.body
