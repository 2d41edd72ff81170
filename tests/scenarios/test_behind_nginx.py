"""docs/deploy/nginx.conf before the real web server: TLS, slow clients, bodies, claimed addresses, closed doors."""

import itertools
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import urllib3

from coupons.models import AuditEntry, Campaign
from tests.support.nginx import INSIDE, NAME, Front, address_of_our_own
from tests.support.raw_http import END, ask, chunks, head
from tests.support.service import HEADERS, Service
from tests.support.slow_clients import SlowClient
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.upstream import Upstream
from tests.support.waiting import wait_until

pytestmark = pytest.mark.system
PUBLIC, ANOTHER = "192.88.99.77", "192.88.99.78"  # global, and nobody's: once the 6to4 relays' (RFC 7526)
ADDRESS_LIMIT = 12
BELOW = {"COUPON_PATH_PREFIX": "/coupons", "COUPON_HTTPS": "true"}


@pytest.fixture
def front(service: Service, tmp_path: Path) -> Front:
    """nginx before one web worker that trusts it."""
    service.web(
        COUPON_WEB_WORKERS="1",
        COUPON_TRUSTED_PROXIES="127.0.0.1",
        COUPON_LIMIT_ADDRESS_PER_MINUTE=str(ADDRESS_LIMIT),
    )
    return started(service, Front(tmp_path, service.url.removeprefix("http://")))


def started(service: Service, front: Front) -> Front:
    process = service.start("nginx", front.command)
    wait_until(front.answers, what=lambda: process.output)
    return front


def apply(front: Front, campaign: Campaign, user: str) -> urllib3.BaseHTTPResponse:
    body = json.dumps({"user_id": user})
    return front.request("POST", f"/api/v1/campaigns/{campaign.pk}/apply", headers=HEADERS, body=body)


def problem(answer: urllib3.BaseHTTPResponse) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json", answer.data
    document = json.loads(answer.data)
    assert document["status"] == answer.status
    return answer.status, document["code"]


def test_nginx_takes_the_file_and_warns_of_nothing(tmp_path: Path) -> None:
    done = Front(tmp_path, "127.0.0.1:8000").test()

    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_applications_are_accepted_by_https_only(service: Service, front: Front) -> None:
    campaign = service.campaign(10)

    answers = [apply(front, campaign, "anna") for _ in range(2)]

    assert [answer.status for answer in answers] == [202, 200]
    assert answers[0].headers.getlist("Strict-Transport-Security") == ["max-age=31536000"]
    plain = urllib3.request("GET", f"http://127.0.0.1:{front.http_port}/api/v1/x?y", redirect=False)
    assert (plain.status, plain.headers["Location"]) == (308, f"https://{NAME}:{front.https_port}/api/v1/x?y")
    with pytest.raises(ssl.SSLError, match="unrecognized name"):
        front.connect(name="another.example.test")


@pytest.mark.attack("slow clients", "60 that send a header, or a handshake, byte by byte", "cut; all others are served")
def test_a_slow_client_is_cut_while_others_are_served(service: Service, front: Front) -> None:
    campaign = service.campaign(100)
    header = itertools.chain(
        b"GET /api/v1/campaigns HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", itertools.repeat(ord("x"))
    )
    with ExitStack() as closing:
        slow = [SlowClient(front.connect, part) for part in itertools.tee(header, 40)]
        # the head of a TLS record that announces 512 bytes, and then the bytes one at a time
        handshake = itertools.chain(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", itertools.repeat(0, 400))
        slow += [SlowClient(lambda: _plain(front), part) for part in itertools.tee(handshake, 20)]
        for client in slow:
            closing.callback(client.close)

        first = apply(front, campaign, "0").status
        assert not any(client.cut for client in slow), "they are there while others are served"
        others = [apply(front, campaign, str(user)).status for user in range(1, 20)]

        assert [first, *others] == [202] * 20
        wait_until(lambda: all(client.cut for client in slow), within_sec=30, what=lambda: f"{_left(slow)} are not cut")


def _plain(front: Front) -> socket.socket:
    return socket.create_connection(("127.0.0.1", front.https_port), timeout=20)


def _left(slow: list[SlowClient]) -> int:
    return sum(not client.cut for client in slow)


@pytest.mark.attack("a body that never ends", "a header that announces 1,000 bytes, and 10 of them", "408 or cut")
def test_a_body_that_does_not_come_is_not_waited_for(service: Service, front: Front) -> None:
    campaign = service.campaign(10)
    with front.connect(timeout=30) as connection:
        head = f"POST /api/v1/campaigns/{campaign.pk}/apply HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(f"{head}0123456789".encode())

        assert connection.recv(4096).split(b"\r\n")[0] in (b"HTTP/1.1 408 Request Time-out", b"")


def test_proxy_and_service_take_bodies_of_equal_size(service: Service, front: Front) -> None:
    url = f"/api/v1/campaigns/{service.campaign(10).pk}/apply"

    too_large = front.request("POST", url, headers=HEADERS, body=b"x" * (64 * 1024 + 1))
    largest = front.request("POST", url, headers=HEADERS, body=b"x" * 64 * 1024)

    assert problem(too_large) == (413, "too-large"), "whoever says it"
    assert problem(largest) == (400, "invalid"), "the service has read it"


@pytest.mark.parametrize("buffers", [True, False])
def test_a_body_in_chunks_is_read_through_the_proxy(service: Service, tmp_path: Path, buffers: bool) -> None:
    """By default nginx gathers them and says their length; else it hands them on as they come."""
    service.web(COUPON_WEB_WORKERS="1", **LONG_TIMEOUTS)
    front = started(service, Front(tmp_path, service.url.removeprefix("http://"), buffers=buffers))
    campaign = service.campaign(10)
    path = f"/api/v1/campaigns/{campaign.pk}"
    chunked = "Transfer-Encoding: chunked"

    changed = ask(front.connect(), head("PATCH", path, chunked), chunks(b'{"quant', b'ity":500}') + END)
    cut = ask(front.connect(), head("PATCH", path, chunked), chunks(b'{"quant'), cut=True)
    nothing = ask(front.connect(), head("PATCH", path, chunked), END)

    campaign.refresh_from_db()
    assert (changed.status, campaign.quantity) == (200, 500)
    assert cut.status in (0, 400)
    # Where nginx gathers nothing it still says the length of a body that ended before it had asked the service.
    assert nothing.status in ((400,) if buffers else (400, 411))
    assert AuditEntry.objects.filter(object_id=campaign.pk, what__startswith="Changed").count() == 1


@pytest.mark.attack(
    "a spoofed address, through nginx", "another X-Forwarded-For with each request", "the connection's address counts"
)
def test_a_claimed_address_does_not_change_whose_limit_it_is(service: Service, front: Front) -> None:
    url = f"/api/v1/campaigns/{service.campaign(10).pk}"

    def statuses(source: str, count: int) -> list[int]:
        """Without credentials: those are counted by address."""
        return [
            front.request(
                "GET",
                url,
                source=source,
                headers={
                    "X-Forwarded-For": f"8.8.8.{number}",
                    "X_Forwarded_For": f"8.8.4.{number}",  # WSGI would read it as the same header
                    "Forwarded": f"for=9.9.9.{number}",
                    "X-Real-IP": f"9.9.8.{number}",
                },
            ).status
            for number in range(count)
        ]

    with address_of_our_own(PUBLIC), address_of_our_own(ANOTHER):
        began = time.monotonic()
        told = statuses(PUBLIC, ADDRESS_LIMIT + 3)
        let_in_since = int((time.monotonic() - began) * ADDRESS_LIMIT / 60)  # none, if it took less than 5 s
        assert told[:ADDRESS_LIMIT] == [401] * ADDRESS_LIMIT
        assert set(told[ADDRESS_LIMIT:]) <= {401, 429}
        assert told.count(429) >= 3 - let_in_since
        assert statuses(ANOTHER, 1) == [401]


@pytest.mark.attack("an oversize body, at the proxy", "64 KiB and one byte", "413; the service hears nothing of it")
def test_the_proxy_drops_oversize_bodies_and_claimed_headers(service: Service, tmp_path: Path) -> None:
    claims = {"X-Forwarded-For": "8.8.8.8", "X_Forwarded_For": "8.8.8.8", "Forwarded": "for=8.8.8.8"}
    more = {"X-Forwarded-Host": "evil.example.test", "X-Forwarded-Proto": "http", "Authorization": "Bearer x"}
    with Upstream(answers=True) as upstream:
        front = started(service, Front(tmp_path, upstream.address))

        too_large = front.request("POST", "/api/v1/campaigns/x/apply", body=b"x" * (64 * 1024 + 1))
        assert problem(too_large) == (413, "too-large")
        assert upstream.seen == 0

        answer = front.request("GET", "/api/v1/campaigns", headers=claims | more)
        assert answer.status == 204
        assert answer.headers.getlist("Strict-Transport-Security") == ["max-age=31536000"], "once"
    assert {name: value for name, value in upstream.headers.items() if "orward" in name or name in ("Host", *more)} == {
        "Host": NAME,
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": "https",
        "Authorization": "Bearer x",
    }


@pytest.mark.parametrize("answered_by", ["front", "view"])
@pytest.mark.parametrize("takes_off", [True, False], ids=["prefix taken off", "prefix passed on"])
def test_every_address_leads_back_below_the_path(
    service: Service, tmp_path: Path, takes_off: bool, answered_by: str
) -> None:
    service.web(COUPON_TRUSTED_PROXIES="127.0.0.1", COUPON_FRONT=str(answered_by == "front"), **BELOW)
    front = Front(tmp_path, service.url.removeprefix("http://"), prefix="/coupons", takes_off=takes_off)
    started(service, front)
    campaign = service.campaign(1)

    def follow(url: str) -> urllib3.BaseHTTPResponse:
        assert url.startswith("/coupons/"), url
        answer = front.request("GET", url.partition("#")[0], source=INSIDE, headers=HEADERS)
        if "Location" in answer.headers:
            return follow(answer.headers["Location"])
        assert answer.status == 200, url
        return answer

    url = f"/coupons/api/v1/campaigns/{campaign.pk}/apply"
    won = front.request("POST", url, headers=HEADERS, body=json.dumps({"user_id": "a|b"}))
    assert won.status == 202
    assert json.loads(follow(json.loads(won.data)["status_url"]).data)["sequence"] == 1
    lost = front.request("POST", url, headers=HEADERS, body=json.dumps({"user_id": "b"}))
    made = front.request("POST", "/coupons/api/v1/campaigns", headers=HEADERS, body='{"name":"x","quantity":1}')
    follow(made.headers["Location"])
    for refused in (lost, front.request("GET", "/coupons/api/nothing"), front.request("GET", "/coupons/")):
        follow(json.loads(refused.data)["type"])
    assert json.loads(follow("/coupons/api/schema/").data)["servers"] == [{"url": "/coupons"}]
    for page in ("/coupons/api/docs/", "/coupons/admin/"):
        for found in re.findall(r'(?:src|href|action|data-schema)="([^"#]+)"', follow(page).data.decode()):
            follow(found)
    assert front.request("GET", "/coupons/metrics").status == 404
    follow("/coupons/metrics")


CLOSED = ["/metrics", "/readyz", "/healthz", "/admin/", "/admin/login/", "/", "/nothing"]
DISGUISED = [
    "//metrics",
    "/./metrics",
    "/%6detrics",
    "/api/../metrics",
    "/api/..%2fmetrics",
    "/static/%2e%2e/readyz",
    "/metrics/",
    "/metrics;x",
    "/Metrics",
    "//admin/login/",
    "/api/..//admin/login/",
    "/ADMIN/login/",
]


@pytest.mark.attack("/metrics and /admin/ from outside", "7 addresses, and 12 disguises of them", "404 for each")
def test_what_operators_see_is_for_their_network_alone(service: Service, front: Front) -> None:
    for path in CLOSED:
        assert problem(front.request("GET", path)) == (404, "not-found"), path
    for path in DISGUISED:
        assert raw(front, path) == 404, path
    assert raw(front, "/api/schema/") == 200

    assert {path: front.request("GET", path, source=INSIDE).status for path in CLOSED} == {
        "/metrics": 200,
        "/readyz": 200,
        "/healthz": 200,
        "/admin/": 302,
        "/admin/login/": 200,
        "/": 404,
        "/nothing": 404,
    }


def raw(front: Front, path: str) -> int:
    """A path just as it is: clients tidy it up."""
    with front.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        return int(connection.recv(64).split(b" ")[1])


def test_without_the_service_it_answers_503_with_retry_after(service: Service, tmp_path: Path) -> None:
    front = started(service, Front(tmp_path, "127.0.0.1:1"))

    answer = front.request("POST", "/api/v1/campaigns/x/apply", body=b"{}")

    assert problem(answer) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


@pytest.fixture
def hanging_up() -> Iterator[tuple[Upstream, Upstream]]:
    with Upstream(answers=False) as one, Upstream(answers=False) as other:
        yield one, other


def test_a_request_possibly_done_is_not_sent_again(
    service: Service, tmp_path: Path, hanging_up: tuple[Upstream, Upstream]
) -> None:
    one, other = hanging_up
    front = started(service, Front(tmp_path, one.address, other.address))

    assert problem(front.request("POST", "/api/v1/campaigns/x/apply", body=b"{}")) == (503, "unavailable")
    assert one.seen + other.seen == 1
    front.request("GET", "/api/v1/campaigns")
    assert one.seen + other.seen == 3, "a GET is tried at both"


def test_a_post_that_reached_no_host_goes_to_the_next(service: Service, tmp_path: Path) -> None:
    with Upstream(answers=True) as good:
        front = started(service, Front(tmp_path, "127.0.0.1:1", good.address))

        assert [front.request("POST", "/api/v1/campaigns/x/apply", body=b"{}").status for _ in range(4)] == [204] * 4


@pytest.mark.attack(
    "a flood from one address", "1,000 requests on one connection", "429 beyond the burst; others go on"
)
def test_a_flood_is_stopped_before_the_service(service: Service, tmp_path: Path) -> None:
    with Upstream(answers=True) as upstream:
        front = started(service, Front(tmp_path, upstream.address))
        with front.connect() as connection:
            requests = [f"GET /api/v1/campaigns HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()] * 999
            last = f"GET /api/v1/campaigns HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode()
            connection.sendall(b"".join([*requests, last]))
            answers = b"".join(iter(lambda: connection.recv(65_536), b""))

        held_back = answers.count(b"HTTP/1.1 429")
        assert answers.count(b"HTTP/1.1 204") == upstream.seen == 1_000 - held_back
        assert held_back > 0
        assert answers.count(b"Retry-After: 1") == held_back
        assert front.request("GET", "/api/v1/campaigns", source=INSIDE).status == 204, "one's own network goes on"


def test_one_address_has_a_hundred_connections_and_no_more(service: Service, tmp_path: Path) -> None:
    with Upstream(answers=True) as upstream, ExitStack() as closing:
        front = started(service, Front(tmp_path, upstream.address))
        head = f"POST /api/v1/campaigns/x/apply HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 10\r\n\r\n".encode()

        def one_more() -> urllib3.BaseHTTPResponse | None:
            """Connections that send no body are cut after 5 s, so a slow machine may need more than a hundred."""
            connection = closing.enter_context(front.connect())
            connection.sendall(head)
            last = front.request("GET", "/api/v1/campaigns")
            return last if last.status == 429 else None

        for _ in range(95):
            closing.enter_context(front.connect()).sendall(head)
        assert front.request("GET", "/api/v1/campaigns").status == 204
        answer = wait_until(one_more)

        assert problem(answer) == (429, "too-many-requests")
        assert front.request("GET", "/api/v1/campaigns", source=INSIDE).status == 204
