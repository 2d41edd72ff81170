"""Closed campaigns at real web servers: the view's bytes, no winner refused, nothing refused on old knowledge."""

import json
import re
import socket
from collections.abc import Callable
from threading import Thread

from django.db import connection

from coupons.campaigns.lifecycle import change_campaign, close_campaign, pause_campaign
from coupons.models import Campaign
from tests.support.service import API_KEY, Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

ROUNDS = 12


def refused_without_the_gate(service: Service) -> int:
    found = re.search(r"^coupon_cached_refusals_total (\S+)$", service.get("/metrics").data.decode(), re.MULTILINE)
    assert found
    return int(float(found[1]))


def raw_answer(url: str, campaign: Campaign, user_id: str) -> str:
    """All that the server sends, but what is of a moment and the order of the headers."""
    body = json.dumps({"user_id": user_id})
    lines = [
        f"POST /api/v1/campaigns/{campaign.pk}/apply HTTP/1.1",
        "Host: 127.0.0.1:8000",
        "Connection: close",
        f"Authorization: Bearer {API_KEY}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall("\r\n".join([*lines, "", body]).encode())
        received = b""
        while chunk := client.recv(65_536):
            received += chunk
    head, _, said = re.sub(r"(?im)^(date|retry-after): .*$", r"\1:", received.decode()).partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    return "\r\n".join([first, *sorted(line.lower() for line in lines), "", said])


def _pause(campaign: Campaign) -> None:
    pause_campaign(campaign_id=campaign.pk, actor="test")


def _close(campaign: Campaign) -> None:
    close_campaign(campaign_id=campaign.pk, actor="test")


def test_clients_cannot_tell_the_front_from_the_view(service: Service) -> None:
    service.web(COUPON_FRONT="0", COUPON_WEB_WORKERS="1", **LONG_TIMEOUTS)
    without = service.url
    service.web(COUPON_WEB_WORKERS="1", COUPON_METRICS_DIR="", **LONG_TIMEOUTS)
    changes: list[Callable[[Campaign], None]] = [lambda _: None, _pause, _close]
    for change in changes:
        campaign = service.campaign(1)
        assert service.apply(campaign, "winner").status == 202
        change(campaign)
        by_front = ask_until_the_gate_is_not_asked(service, campaign)
        assert by_front == raw_answer(without, campaign, "stranger")
        assert service.apply(campaign, "winner").status == 200


def test_a_winner_of_a_raise_is_never_told_sold_out(service: Service) -> None:
    service.web(COUPON_WEB_WORKERS="1", **LONG_TIMEOUTS)
    here = service.url
    service.web(COUPON_WEB_WORKERS="1", **LONG_TIMEOUTS)
    there = service.url
    campaign = service.campaign(1)
    assert service.apply(campaign, "0").status == 202
    for number in range(1, ROUNDS + 1):
        ask_until_the_gate_is_not_asked(service, campaign)
        raising = Thread(target=raise_to, args=(campaign, number + 1))
        raising.start()
        user = f"winner-{number}"
        # 200: the place was his by an earlier try that a busy machine answered too late.
        wait_until(lambda user=user: status(raw_answer(here, campaign, user)) in (200, 202))  # type: ignore[misc]
        assert status(raw_answer(there, campaign, user)) == 200
        raising.join()


def ask_until_the_gate_is_not_asked(service: Service, campaign: Campaign) -> str:
    """Its answer."""
    before = refused_without_the_gate(service)

    def answer() -> str | None:
        said = raw_answer(service.url, campaign, "stranger")
        return said if refused_without_the_gate(service) > before else None

    return wait_until(answer)


def raise_to(campaign: Campaign, quantity: int) -> None:
    change_campaign(campaign_id=campaign.pk, changes={"quantity": quantity}, actor="test")
    connection.close()


def status(answer: str) -> int:
    return int(answer.split()[1])
