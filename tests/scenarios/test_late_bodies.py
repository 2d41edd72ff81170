"""Bodies that come later than the head of their request, over connections that clients keep: every request is answered.

granian ends a connection by itself when an answer is given and nobody reads the body (coupons/front/front.py).
"""

import json
import select
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from coupons.models import Campaign
from tests.support.issuer import AUDIENCE, ISSUER, Issuer
from tests.support.service import HEADERS, Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

LATE_SEC = 0.1
JSON = {"Content-Type": "application/json"}


@contextmanager
def kept_connection(service: Service) -> Iterator[HTTPConnection]:
    address = urlsplit(service.url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=10)
    connection.connect()
    connection.auto_open = 0  # one that has ended is not silently replaced
    try:
        yield connection
    finally:
        connection.close()


def post_late(connection: HTTPConnection, path: str, body: bytes, headers: dict[str, str]) -> HTTPResponse:
    """The body comes when the server had time to answer without it, and has not."""
    send_head(connection, path, headers | {"Content-Length": str(len(body))})
    answered, _, _ = select.select([connection.sock], [], [], LATE_SEC)
    assert not answered, "an answer without the body"
    connection.send(body)
    return connection.getresponse()


def send_head(connection: HTTPConnection, path: str, headers: dict[str, str]) -> None:
    connection.putrequest("POST", path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()


def path_of(campaign: Campaign) -> str:
    return f"/api/v1/campaigns/{campaign.pk}/apply"


def body_of(user_id: str) -> bytes:
    return json.dumps({"user_id": user_id}).encode()


def test_a_connection_outlives_every_refusal(service: Service) -> None:
    service.web(COUPON_WEB_WORKERS="1", **LONG_TIMEOUTS)
    path, body = path_of(service.campaign(10)), body_of("u")
    asked = [
        (path, JSON, 401),
        (path, JSON | {"Authorization": "Bearer wrong"}, 401),
        (path.replace("apply", "no-such-thing"), HEADERS, 404),
        (path, HEADERS | {"Content-Type": "text/plain"}, 415),
        (f"/api/v1/campaigns/{service.campaign(10).pk}", HEADERS, 405),
        ("/healthz", JSON, 403),
        ("/static/no-such-file", JSON, 404),
        (path, HEADERS, 202),
    ]

    with kept_connection(service) as connection:
        for where, headers, status in asked:
            answer = post_late(connection, where, body, headers)
            answer.read()
            assert (where, answer.status) == (where, status)


def test_a_closed_campaign_refuses_before_the_body(service: Service, tmp_path: Path) -> None:
    """The token says who it is, and what the body says changes nothing."""
    issuer = Issuer(tmp_path)
    issuer.add("now", "ES256")
    keys = {"COUPON_JWT_KEYS_DIR": str(tmp_path), "COUPON_JWT_ISSUER": ISSUER, "COUPON_JWT_AUDIENCE": AUDIENCE}
    service.web(COUPON_WEB_WORKERS="1", **LONG_TIMEOUTS, **keys)
    campaign = service.campaign(1)
    assert service.apply(campaign, "winner").status == 202
    headers = JSON | {"Authorization": issuer.bearer("anna"), "Content-Length": "2"}

    def refused_early() -> bool:
        with kept_connection(service) as connection:
            send_head(connection, path_of(campaign), headers)
            answered, _, _ = select.select([connection.sock], [], [], LATE_SEC)
            connection.send(b"{}")
            first = connection.getresponse()
            first.read()
            send_head(connection, path_of(campaign), headers)
            connection.send(b"{}")
            again = connection.getresponse()
            again.read()
            assert (first.status, again.status) == (409, 409)
        return bool(answered)

    wait_until(refused_early, what="the refusal comes without the body")


def test_bodies_that_do_not_come_take_nobodys_place(service: Service) -> None:
    service.web(COUPON_WEB_WORKERS="1", COUPON_WEB_THREADS="1", **LONG_TIMEOUTS)
    campaign = service.campaign(10)

    with ExitStack() as open_connections:
        for _ in range(10):
            slow = open_connections.enter_context(kept_connection(service))
            send_head(slow, path_of(campaign), HEADERS | {"Content-Length": "20"})
            manages = open_connections.enter_context(kept_connection(service))
            send_head(manages, f"/api/v1/campaigns/{campaign.pk}/pause", HEADERS | {"Content-Length": "20"})
        told = [service.apply(campaign, f"u{number}").status for number in range(3)]
        told.append(service.ticket(campaign, "u0").status)

    assert told == [202, 202, 202, 200]


def test_a_body_that_does_not_come_is_not_waited_for(service: Service) -> None:
    service.web(COUPON_WEB_WORKERS="1", **LONG_TIMEOUTS)
    path = path_of(service.campaign(10))

    with kept_connection(service) as connection:
        send_head(connection, path, HEADERS | {"Content-Length": "20"})
        answer = connection.getresponse()

        assert (answer.status, answer.headers["Connection"]) == (400, "close")
        assert "not received" in json.load(answer)["detail"]


def test_an_unread_body_ends_the_connection(service: Service) -> None:
    service.web(COUPON_WEB_WORKERS="1", **LONG_TIMEOUTS)

    with kept_connection(service) as connection:
        send_head(connection, path_of(service.campaign(10)), JSON | {"Content-Length": str(64 * 1024 + 1)})
        answer = connection.getresponse()
        answer.read()

    assert answer.status == 413
    assert answer.headers["Connection"] == "close"
