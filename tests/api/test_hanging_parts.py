"""A part hangs while more users ask than there are threads: few wait for it, and admission goes on where it can.

How long each waits is a time-out (COUPON_ACCEPT_TIMEOUT_MS and others); how many wait decides how long the queue is.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3

from coupons.models import Campaign
from tests.support.promises import assert_kept
from tests.support.service import Service
from tests.support.timeouts import RELAY_SOON, web_timeouts
from tests.support.waiting import wait_until

USERS = 60
EACH = 4
FAILURES = 5
# How few wait for the part is asked here, not how many wait for a thread (coupons/front/django_threads.py).
ROOM_FOR_ALL = {"COUPON_WEB_THREADS": str(USERS)}


def ask_at_once(service: Service, campaign: Campaign, *, look_too: bool) -> tuple[list[int], list[int], float]:
    """All users apply again and again, every second one looks at a ticket instead: the statuses of both, and for how
    many seconds."""

    def one(number: int) -> list[tuple[bool, int]]:
        looks = look_too and number % 2 == 0
        return [
            (looks, (service.ticket(campaign, "1") if looks else service.apply(campaign, f"{number}.{turn}")).status)
            for turn in range(EACH)
        ]

    began = time.monotonic()
    with ThreadPoolExecutor(USERS) as pool:
        answers = [answer for answers in pool.map(one, range(USERS)) for answer in answers]
    looked, applied = ([status for looks, status in answers if looks is kind] for kind in (True, False))
    return applied, looked, time.monotonic() - began


def refused_at_once(service: Service, part: str) -> int:
    """How many calls did not wait for the part, by /metrics."""
    text = urllib3.request("GET", f"{service.url}/metrics", timeout=30).data.decode()
    found = re.search(rf'^coupon_breaker_refusals_total{{part="{part}"}} (\S+)$', text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def may_have_waited(users: int, seconds: float) -> float:
    """Misses of one moment are one stall, so each user may wait twice before it opens; then a probe a second."""
    return FAILURES + 2 * users + seconds + 1


def test_a_hanging_postgresql_holds_up_tickets_and_not_admission(service: Service) -> None:
    service.web(COUPON_WEB_WORKERS="1", **ROOM_FOR_ALL, **web_timeouts(accept_ms=4_000, redis_ms=3_000))
    campaign = service.campaign(1_000)
    first = wait_until(lambda: _accepted(service, campaign, "1"), what="the first one is in")

    service.stack("pause", "postgres")
    applied, looked, seconds = ask_at_once(service, campaign, look_too=True)
    service.stack("resume", "postgres")

    assert set(applied) == {202}
    assert set(looked) == {200}, "as far as anybody can see the ticket is pending"
    assert len(looked) - refused_at_once(service, "postgresql") <= may_have_waited(USERS // 2, seconds)
    service.consumer("--solo")
    wait_until(lambda: service.ticket(campaign, "1").json()["status"] == "issued", within_sec=40, what="asked again")
    assert_kept(campaign, {"1": first})


@pytest.mark.parametrize(("part", "code"), [("redis", "unavailable"), ("kafka", "unconfirmed")])
def test_a_hanging_part_keeps_few_waiting_and_others_get_503(service: Service, part: str, code: str) -> None:
    service.web(COUPON_WEB_WORKERS="1", **ROOM_FOR_ALL, **RELAY_SOON)
    campaign = service.campaign(1_000)
    wait_until(lambda: _accepted(service, campaign, "1"), what="the first one is in")

    service.stack("pause", part)
    applied, _, seconds = ask_at_once(service, campaign, look_too=False)
    last = service.apply(campaign, "2")
    service.stack("resume", part)

    assert set(applied) == {503}
    assert (last.status, last.json()["code"]) == (503, code)
    assert len(applied) + 1 - refused_at_once(service, part) <= may_have_waited(USERS, seconds)
    sequence = wait_until(lambda: _accepted(service, campaign, "2"), within_sec=40, what="a probe closes the breaker")
    service.consumer("--solo")
    service.keeper(**RELAY_SOON)
    assert_kept(campaign, {"2": sequence}, within_sec=60)


def _accepted(service: Service, campaign: Campaign, user: str) -> int | None:
    answer = service.apply(campaign, user)
    return int(answer.json()["sequence"]) if answer.status in (200, 202) else None
