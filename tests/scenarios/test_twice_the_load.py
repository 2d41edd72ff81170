"""More requests than a web process can take: those that have room are served, all others hear 503 at once, and nothing
grows. How fast it is then, `python -m benchmarks --only overload` measures."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3
from django.db import connection

from benchmarks.processes import most_threads, pss_mib
from coupons.models import Campaign, Coupon
from couponsite.overload import SIDE_PLACES, threads_needed
from tests.support.patience import patience
from tests.support.service import Service
from tests.support.waiting import wait_until

PLACES, WAITING = 2, 4
CROWD = 32
LIMITS = {
    "COUPON_WEB_WORKERS": "1",
    "COUPON_WEB_APPLICATIONS": str(PLACES),
    "COUPON_WEB_THREADS": str(PLACES),
    "COUPON_WEB_QUEUE": str(WAITING),
    # How many are served is asked here, not how soon a part answers on a busy machine.
    **patience(accept_ms=4_000, redis_ms=3_000),
    "COUPON_HEALTH_TIMEOUT_MS": "10000",
}


BESIDE = 24
"""Threads of a web process that serve nobody: the server's, librdkafka's, the directory's and the like."""


@pytest.mark.attack(
    "twice the load",
    f"{CROWD} requests at a time, 400 in all, where {PLACES + WAITING} have room",
    "202, or 503 with Retry-After at once; who was promised a coupon has it; threads and memory stay bounded",
)
def test_a_crowd_that_has_no_room_is_refused_and_nothing_grows(service: Service) -> None:
    consumer = service.manage("run_coupon_consumer", "--solo")
    web = service.web(**LIMITS)
    consumer.says("consumer.assigned")
    campaign = service.campaign(1_000)
    warm = storm(service, campaign, "warm", 100)
    before = pss_mib(web.pid)

    answers = storm(service, campaign, "u", 300)
    metrics = service.get("/metrics").data.decode()

    told = Counter(answer.status for answer in answers.values())
    assert set(told) == {202, 503}, told
    refused = [answer for answer in answers.values() if answer.status == 503]
    counted = re.findall(r'coupon_queue_refusals_total\{line="applications",reason="\w+"\} (\S+)', metrics)
    assert sum(float(count) for count in counted) == too_many(warm) + too_many(answers) > 0, "each is counted"
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
    assert pss_mib(web.pid) < before + 32
    assert most_threads(web.pid) <= threads_needed(applications=PLACES, places=PLACES, waiting=WAITING) + BESIDE
    again = {user: service.apply(campaign, user).status for user in answers if answers[user].status == 503}
    assert set(again.values()) <= {200, 202}, "after the storm the service answers as ever"
    wait_until(lambda: Coupon.objects.filter(user_id__startswith="u").count() == 300, what="all promised are issued")


def test_probes_are_answered_while_the_crowd_is_there(service: Service) -> None:
    service.web(**LIMITS)
    campaign = service.campaign(1_000)
    with ThreadPoolExecutor(1) as pool:
        crowd = pool.submit(storm, service, campaign, "u", 400)
        probes = []
        while not crowd.done():
            probes += [service.get(path).status for path in ("/healthz", "/readyz", "/metrics")]

    assert Counter(answer.status for answer in crowd.result().values())[503] > 0, "the crowd had no room"
    assert len(probes) >= 3
    assert set(probes) == {200}


def test_as_many_connections_to_postgresql_as_places_and_not_as_threads(service: Service) -> None:
    service.web(**LIMITS)
    campaign = service.campaign(1_000)
    wait_until(lambda: service.apply(campaign, "u").status in (200, 202), what="the ticket")
    before = connections_open()

    with ThreadPoolExecutor(CROWD) as pool:
        told = Counter(pool.map(lambda _: service.ticket(campaign, "u").status, range(300)))

    assert told[200] > PLACES
    assert connections_open() - before <= PLACES + SIDE_PLACES


def storm(service: Service, campaign: Campaign, name: str, users: int) -> dict[str, urllib3.BaseHTTPResponse]:
    """What each user was told, nobody repeating."""
    names = [f"{name}{number}" for number in range(users)]
    with ThreadPoolExecutor(CROWD) as pool:
        return dict(zip(names, pool.map(lambda user: service.apply(campaign, user), names), strict=True))


def too_many(answers: dict[str, urllib3.BaseHTTPResponse]) -> int:
    """How many were refused for want of room, and not by a part that is slow on a busy machine."""
    refused = [answer.json() for answer in answers.values() if answer.status == 503]
    return sum(problem["code"] == "unavailable" and "Too many" in problem["detail"] for problem in refused)


def connections_open() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
        )
        return int(cursor.fetchone()[0])
