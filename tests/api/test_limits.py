"""How often: users and addresses are held back beyond their limits, and nobody loses a place by it."""

from ipaddress import ip_network

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, RequestFactory

from coupons.api.client_address import client_address
from coupons.api.throttling import Buckets
from coupons.models import Campaign
from couponsite.env import networks
from tests.support.clocks import Clock
from tests.support.http import Api, assert_problem, json_of
from tests.support.issuer import Issuer
from tests.support.service import Service


@pytest.fixture(autouse=True)
def low_limits(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no time passes in which a bucket would fill."""
    still, take = Buckets(capacity=1_000, clock=Clock()), Buckets.take
    monkeypatch.setattr(Buckets, "take", lambda _, *key, limit: take(still, *key, limit=limit))
    settings.LIMIT_USER_PER_MINUTE, settings.LIMIT_USER_CAMPAIGN_PER_MINUTE = 6, 3
    settings.LIMIT_ADDRESS_PER_MINUTE, settings.LIMIT_ADDRESS_CAMPAIGN_PER_MINUTE = 12, 8


@pytest.fixture
def campaign(service: Service) -> Campaign:
    return service.campaign(100)


class From:
    """Requests of one user from one address, through a proxy at 127.0.0.1."""

    def __init__(self, issuer: Issuer, user: str, address: str = "", *, authorization: str = "") -> None:
        headers = {"authorization": authorization or issuer.bearer(user)}
        if address:
            headers["x-forwarded-for"] = address
        self._client = Client(headers=headers)

    def apply(self, campaign: Campaign) -> object:
        return self._client.post(f"/api/v1/campaigns/{campaign.pk}/apply", "", content_type="application/json")


def statuses(caller: From, campaign: Campaign, times: int) -> list[int]:
    return [caller.apply(campaign).status_code for _ in range(times)]  # type: ignore[attr-defined]


def test_beyond_the_limit_a_user_learns_when_to_return(campaign: Campaign, issuer: Issuer) -> None:
    anna = Api(issuer.bearer("anna"))
    answers = [anna.apply(campaign, "anna") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [202, 200, 200, 429]
    document = assert_problem(answers[3], 429, "too-many-requests")
    assert "3 requests a minute" in document["detail"]
    assert answers[3]["Retry-After"] == "20", "a token every 20 s"
    assert answers[0]["RateLimit-Policy"] == '"user and campaign";q=3;w=60'
    assert [answer["RateLimit"] for answer in answers] == [
        '"user and campaign";r=2;t=0',
        '"user and campaign";r=1;t=0',
        '"user and campaign";r=0;t=20',
        '"user and campaign";r=0;t=20',
    ]


@pytest.mark.attack("hammering the button", "51 requests of one user", "429; the place stays")
def test_who_hammers_the_button_keeps_the_place(campaign: Campaign, issuer: Issuer, settings: LazySettings) -> None:
    anna = Api(issuer.bearer("anna"))
    first = anna.apply(campaign, "anna")
    for _ in range(50):
        anna.apply(campaign, "anna")
    assert anna.apply(campaign, "anna").status_code == 429

    settings.LIMITS = False
    later = anna.apply(campaign, "anna")

    assert (first.status_code, later.status_code) == (202, 200)
    assert json_of(later)["sequence"] == json_of(first)["sequence"] == 1


def test_the_limits_of_one_user_are_nobody_else_s(campaign: Campaign, issuer: Issuer) -> None:
    assert statuses(From(issuer, "anna"), campaign, 4)[-1] == 429
    assert statuses(From(issuer, "ben"), campaign, 1) == [202]


def test_a_user_is_limited_over_all_campaigns_too(campaign: Campaign, service: Service, issuer: Issuer) -> None:
    others = [service.campaign(10) for _ in range(3)]

    seen = [status for each in (campaign, *others) for status in statuses(From(issuer, "anna"), each, 2)]

    assert seen == [202, 200] * 3 + [429, 429]


def test_services_have_no_limit_unless_one_is_set(campaign: Campaign, issuer: Issuer, settings: LazySettings) -> None:
    service = Api()
    assert {service.apply(campaign, "1").status_code for _ in range(30)} == {202, 200}
    assert "RateLimit" not in service.apply(campaign, "1")

    settings.LIMIT_SERVICE_PER_MINUTE = 5
    assert [service.apply(campaign, "1").status_code for _ in range(6)] == [200] * 5 + [429]


def test_all_limits_are_off_by_one_switch(campaign: Campaign, issuer: Issuer, settings: LazySettings) -> None:
    settings.LIMITS = False
    settings.LIMIT_SERVICE_PER_MINUTE = 1

    assert statuses(From(issuer, "anna", "8.8.8.8"), campaign, 30) == [202] + [200] * 29
    assert Api().apply(campaign, "1").status_code == 202
    assert Api().apply(campaign, "1").status_code == 200


def test_many_users_of_one_address_share_its_limit(campaign: Campaign, issuer: Issuer, settings: LazySettings) -> None:
    settings.TRUSTED_PROXIES = [ip_network("127.0.0.1")]

    crowd = [statuses(From(issuer, f"user-{number}", "8.8.8.8"), campaign, 1)[0] for number in range(10)]

    assert crowd == [202] * 8 + [429] * 2
    assert statuses(From(issuer, "user-8", "8.8.4.4"), campaign, 1) == [202]


@pytest.mark.attack("a spoofed address", "X-Forwarded-For of an undeclared proxy", "counts for nothing")
def test_an_address_that_somebody_only_claims_is_not_believed(campaign: Campaign, issuer: Issuer) -> None:
    """The default trusts no proxy: a new address in each request helps nobody past their own limit."""
    seen = [statuses(From(issuer, "anna", f"8.8.8.{number}"), campaign, 1)[0] for number in range(5)]

    assert seen == [202, 200, 200, 429, 429]


@pytest.mark.attack("a spoofed address behind a proxy", "an entry before the proxy's own", "the proxy's entry counts")
def test_an_address_before_the_proxy_s_own_is_ignored(
    campaign: Campaign, issuer: Issuer, settings: LazySettings
) -> None:
    settings.TRUSTED_PROXIES = [ip_network("127.0.0.1")]

    crowd = [
        statuses(From(issuer, f"user-{number}", f"9.9.9.{number}, 8.8.8.8"), campaign, 1)[0] for number in range(10)
    ]

    assert crowd == [202] * 8 + [429] * 2


def test_a_whole_64_of_ipv6_is_one_address(campaign: Campaign, issuer: Issuer, settings: LazySettings) -> None:
    settings.TRUSTED_PROXIES = [ip_network("127.0.0.1")]

    crowd = [
        statuses(From(issuer, f"user-{number}", f"2600:1f18:0:1::{number:x}"), campaign, 1)[0] for number in range(10)
    ]

    assert crowd == [202] * 8 + [429] * 2


@pytest.mark.attack("guessing credentials", "14 wrong keys from one address", "401, then 429")
def test_who_guesses_credentials_is_held_back_by_address(
    campaign: Campaign, issuer: Issuer, settings: LazySettings
) -> None:
    settings.TRUSTED_PROXIES = [ip_network("127.0.0.1")]
    guesser = From(issuer, "", "8.8.8.8", authorization="Bearer wrong")

    assert statuses(guesser, campaign, 14) == [401] * 12 + [429] * 2


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("10.0.0.7", "", "10.0.0.7"),
        ("10.0.0.7", "8.8.8.8", "8.8.8.8"),
        ("10.0.0.7", "1.1.1.1, 8.8.8.8", "8.8.8.8"),
        ("10.0.0.7", "1.1.1.1, 8.8.8.8, 10.0.0.9", "8.8.8.8"),
        ("10.0.0.7", "10.0.0.8, 10.0.0.9", "10.0.0.8"),
        ("10.0.0.7", "8.8.8.8, nonsense", "10.0.0.7"),
        ("10.0.0.7", ",", "10.0.0.7"),
        ("9.9.9.9", "8.8.8.8", "9.9.9.9"),
        ("::ffff:10.0.0.7", "8.8.8.8", "8.8.8.8"),
        ("", "8.8.8.8", "None"),
        ("unix:", "8.8.8.8", "None"),
    ],
)
def test_whose_address_it_is(peer: str, forwarded: str, found: str, settings: LazySettings) -> None:
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.0/24")]
    request = RequestFactory().get("/", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded)

    assert str(client_address(request)) == found


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "10.0.0.1, 0.0.0.0/1", "not-an-address", "10.0.0.1/8"])
def test_proxies_that_are_everybody_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETWORKS", text)

    with pytest.raises(ImproperlyConfigured, match="NETWORKS"):
        networks("NETWORKS")


def test_who_has_no_credentials_is_held_back_by_address_too(
    campaign: Campaign, issuer: Issuer, settings: LazySettings
) -> None:
    settings.TRUSTED_PROXIES = [ip_network("127.0.0.1")]
    address = f"/api/v1/campaigns/{campaign.pk}"

    answers = [Client(headers={"x-forwarded-for": "8.8.8.8"}).get(address).status_code for _ in range(14)]

    assert answers == [401] * 12 + [429] * 2


def test_forbidden_requests_count_towards_the_limit(campaign: Campaign, issuer: Issuer) -> None:
    anna = Api(issuer.bearer("anna"))

    assert [anna.act(campaign, "close").status_code for _ in range(4)] == [403, 403, 403, 429]
