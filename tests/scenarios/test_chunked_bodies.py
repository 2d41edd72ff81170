"""Bodies in chunks, or of another length than was said: read to the end or refused, and never taken for empty."""

import socket
import time
from pathlib import Path

import pytest

from coupons.front.request import BODY_TIMEOUT_SEC
from coupons.models import AuditEntry, Campaign, CampaignState
from tests.support.issuer import AUDIENCE, ISSUER, Issuer
from tests.support.process import Process
from tests.support.raw_http import END, Answer, ask, chunks, connect, document, head, read_answer
from tests.support.service import HEADERS, PYTHON, Service
from tests.support.slow_clients import SlowClient
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

CHUNKED = "Transfer-Encoding: chunked"
MORE = document(quantity=500)


@pytest.fixture
def campaign(service: Service) -> Campaign:
    service.web(**LONG_TIMEOUTS)
    return service.campaign(10)


def path_of(campaign: Campaign) -> str:
    return f"/api/v1/campaigns/{campaign.pk}"


def changes_of(campaign: Campaign) -> list[str]:
    return list(
        AuditEntry.objects.filter(object_id=campaign.pk, what__startswith="Changed").values_list("what", flat=True)
    )


def assert_unchanged(campaign: Campaign) -> None:
    revision = campaign.revision
    campaign.refresh_from_db()
    assert (campaign.quantity, campaign.revision, changes_of(campaign)) == (10, revision, [])


MADE = {
    "one chunk": ([CHUNKED], [chunks(MORE) + END]),
    "a chunk a byte": ([CHUNKED], [chunks(*(bytes([byte]) for byte in MORE)) + END]),
    "late": ([CHUNKED], [b"", chunks(MORE[:5]), chunks(MORE[5:]), END]),
    "trailers": ([CHUNKED, "Trailer: X-Sum"], [chunks(MORE) + b"0\r\nX-Sum: 7\r\n\r\n"]),
    "an extension": ([CHUNKED], [b"%x;name=value\r\n%s\r\n" % (len(MORE), MORE) + END]),
    "another case": (["transfer-encoding: Chunked"], [chunks(MORE) + END]),
    "100-continue": ([CHUNKED, "Expect: 100-continue"], [b"", chunks(MORE) + END]),
    "a length that lies beside it": ([CHUNKED, "Content-Length: 0"], [chunks(MORE) + END]),
    "length, 100-continue": ([f"Content-Length: {len(MORE)}", "Expect: 100-continue"], [b"", MORE]),
}


def test_a_change_in_chunks_is_made(service: Service) -> None:
    service.web(**LONG_TIMEOUTS)
    campaigns = {how: service.campaign(10) for how in MADE}

    for how, (lines, (first, *later)) in MADE.items():
        answer = ask(service.url, head("PATCH", path_of(campaigns[how]), *lines) + first, *later)
        assert (how, answer.status) == (how, 200), answer

    for how, campaign in campaigns.items():
        campaign.refresh_from_db()
        changed = ["Changed quantity from 10 to 500"]
        assert (how, campaign.quantity, changes_of(campaign)) == (how, 500, changed)


def test_every_address_of_the_api_reads_chunks(service: Service, campaign: Campaign) -> None:
    """And keeps the connection."""
    with connect(service.url) as connection:

        def status(path: str, **members: object) -> int:
            connection.sendall(head("POST", path, CHUNKED) + chunks(document(**members)) + END)
            answer = read_answer(connection)
            assert not answer.closed
            return answer.status

        assert status(f"{path_of(campaign)}/apply", user_id="anna") == 202
        assert status(f"{path_of(campaign)}/apply", user_id="anna") == 200
        assert status("/api/v1/campaigns", name="Spring", quantity=3) == 201
        assert Campaign.objects.filter(name="Spring", quantity=3).exists()
        for step, state in (
            ("pause", CampaignState.PAUSED),
            ("resume", CampaignState.OPEN),
            ("close", CampaignState.CLOSED),
        ):
            assert status(f"{path_of(campaign)}/{step}") == 200
            campaign.refresh_from_db()
            assert campaign.state == state


def test_a_token_with_another_user_id_is_refused_in_chunks(service: Service, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    issuer.add("now", "ES256")
    keys = {"COUPON_JWT_KEYS_DIR": str(tmp_path), "COUPON_JWT_ISSUER": ISSUER, "COUPON_JWT_AUDIENCE": AUDIENCE}
    service.web(**LONG_TIMEOUTS, **keys)
    path = f"{path_of(service.campaign(10))}/apply"
    annas = HEADERS | {"Authorization": issuer.bearer("anna")}

    def told(lines: list[str], *pieces: bytes, version: str = "1.1", cut: bool = False) -> Answer:
        return ask(service.url, head("POST", path, *lines, headers=annas, version=version), *pieces, cut=cut)

    bens = document(user_id="ben")
    assert told([CHUNKED], chunks(bens) + END).status == 403
    assert told([f"Content-Length: {len(bens)}"], bens).status == 403
    assert told([], bens, version="1.0").status == 411
    assert told([CHUNKED], b"zz\r\n").status == 400
    assert told([CHUNKED], chunks(bens)[:9], cut=True).status == 400
    assert told([f"Content-Length: {len(bens)}"], cut=True).status == 400
    assert told([CHUNKED], chunks(document(user_id="anna")) + END).status == 202


INVALID, NO_LENGTH, TOO_LARGE = (400, "invalid"), (411, "length-required"), (413, "too-large")
REFUSED: dict[str, tuple[str, bytes, bool, tuple[int, str]]] = {  # header, body, whether the connection is cut then
    "another coding": ("Transfer-Encoding: gzip, chunked", chunks(MORE) + END, False, NO_LENGTH),
    "chunks, cut": (CHUNKED, chunks(MORE[:9]), True, INVALID),
    "a length of one more, cut": (f"Content-Length: {len(MORE) + 1}", MORE, True, INVALID),
    "nothing of it, cut": ("Content-Length: 100", b"", True, INVALID),
    "a length of none": ("Content-Length: 0", MORE, False, INVALID),
    "no length": ("X-No: length", b"", False, INVALID),
    "an empty object": ("Content-Length: 2", b"{}", False, INVALID),
    "an empty object in chunks": (CHUNKED, chunks(b"{}") + END, False, INVALID),
    "half an object in chunks": (CHUNKED, chunks(MORE[:-1]) + END, False, INVALID),
    "a length of one less": (f"Content-Length: {len(MORE) - 1}", MORE, False, INVALID),
    "too many chunks": (CHUNKED, chunks(b" " * 1024) * 65, False, TOO_LARGE),
}


def test_a_body_without_a_change_is_refused_and_not_audited(service: Service, campaign: Campaign) -> None:
    for why, (line, body, cut, expected) in REFUSED.items():
        answer = ask(service.url, head("PATCH", path_of(campaign), line) + body, cut=cut)

        assert (why, answer.status, answer.code) == (why, *expected)
        assert answer.closed or expected == INVALID, why
        assert_unchanged(campaign)


def test_http_1_0_wants_a_length(service: Service, campaign: Campaign) -> None:
    requests = [("POST", f"{path_of(campaign)}/pause"), ("PATCH", path_of(campaign))]

    for method, path in requests:
        without = ask(service.url, head(method, path, version="1.0") + MORE)
        assert (without.status, without.code) == (411, "length-required")
    assert_unchanged(campaign)

    for method, path in requests:
        assert ask(service.url, head(method, path, f"Content-Length: {len(MORE)}", version="1.0") + MORE).status == 200


@pytest.mark.attack("chunks without an end", "40 that send a byte of them, and another", "cut; all others are served")
def test_chunks_without_an_end_are_cut_while_others_are_served(service: Service, campaign: Campaign) -> None:
    """Slow ones, and one that stops."""
    endless = chunks(b" ") * 1_000

    def after_its_head() -> socket.socket:
        connection = connect(service.url)
        connection.sendall(head("POST", f"{path_of(campaign)}/apply", CHUNKED))
        return connection

    slow = [SlowClient(after_its_head, endless) for _ in range(40)]
    try:
        began = time.monotonic()
        with connect(service.url, timeout=BODY_TIMEOUT_SEC + 20) as stopped:
            stopped.sendall(head("PATCH", path_of(campaign), CHUNKED) + chunks(MORE))
            assert [service.apply(campaign, str(user)).status for user in range(5)] == [202] * 5
            answer = read_answer(stopped)
        assert time.monotonic() - began >= BODY_TIMEOUT_SEC
        assert (answer.status, answer.code, answer.closed) == (411, "length-required", True)
        wait_until(lambda: all(client.cut for client in slow), within_sec=60, what="all of them are cut")
    finally:
        for client in slow:
            client.close()
    assert_unchanged(campaign)


def test_an_admin_form_is_read_whole_or_not_at_all(service: Service, campaign: Campaign) -> None:
    request = head("POST", "/admin/login/", CHUNKED, headers={"Content-Type": "application/x-www-form-urlencoded"})
    form = chunks(b"username=a&password=b")

    cut = ask(service.url, request + form, cut=True)

    assert (cut.status, cut.code) == (400, "invalid")
    assert ask(service.url, request + form + END).status == 403, "Django has read it, and misses the form's token"


def test_a_closed_campaign_answers_chunked_applications_too(service: Service) -> None:
    service.web(**LONG_TIMEOUTS)
    campaign = service.campaign(1)
    assert service.apply(campaign, "winner").status == 202

    def apply(user: str) -> Answer:
        request = head("POST", f"{path_of(campaign)}/apply", CHUNKED)
        return ask(service.url, request + chunks(document(user_id=user)) + END)

    def without_the_gate() -> bool:
        assert (apply("stranger").status, apply("winner").status) == (409, 200)
        return "coupon_cached_refusals_total 0.0" not in service.get("/metrics").data.decode()

    wait_until(without_the_gate)


def test_runserver_refuses_chunks_instead_of_losing_them(service: Service) -> None:
    """wsgiref does not read them."""
    campaign = service.campaign(10)
    process = runserver(service)

    kept = [ask(service.url, head("PATCH", path_of(campaign), CHUNKED) + chunks(MORE) + END) for _ in range(2)]
    too_long = ask(service.url, head("PATCH", path_of(campaign), "Content-Length: 70000") + b" " * 70_000)

    assert [(answer.status, answer.code, answer.closed) for answer in kept] == [(411, "length-required", True)] * 2
    assert (too_long.status, too_long.code) == (413, "too-large"), process.output
    assert_unchanged(campaign)
    assert ask(service.url, head("PATCH", path_of(campaign), f"Content-Length: {len(MORE)}") + MORE).status == 200


def runserver(service: Service) -> Process:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    service.url = f"http://127.0.0.1:{port}"
    process = service.start("runserver", [PYTHON, "manage.py", "runserver", "--noreload", str(port)])
    wait_until(lambda: _answers(service), within_sec=40, what=lambda: process.output)
    return process


def _answers(service: Service) -> bool:
    try:
        return ask(service.url, head("GET", "/healthz")).status == 200
    except OSError:
        return False
