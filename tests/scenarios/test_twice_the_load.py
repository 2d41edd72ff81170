"""More requests than a web process can take: those that can be are served, all others hear 503 soon, and nothing grows.

How fast it is then, `make bench ARGS="--only waits"` measures."""

import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import urllib3
from django.db import connection, transaction

from coupons.front.django_threads import SIDE_THREADS
from coupons.models import Campaign, Coupon
from harness import max_threads, pss_mib
from tests.support.service import Service
from tests.support.timeouts import web_timeouts
from tests.support.waiting import wait_until

THREADS, WAITING = 2, 8
CROWD = 32
LIMITS = {
    "COUPON_WEB_WORKERS": "1",
    "COUPON_WEB_THREADS": str(THREADS),
    # How many are served is asked here, not how soon a part answers on a busy machine.
    **web_timeouts(accept_ms=4_000, redis_ms=3_000),
}


@pytest.mark.attack(
    "twice the load",
    "600 at a time, of a Redis that stands still for a second",
    "202, or 503 with Retry-After; who was promised a coupon has it; threads and memory stay bounded",
)
def test_a_crowd_beyond_the_limit_is_refused_without_growth(service: Service) -> None:
    consumer = service.manage("run_coupon_consumer", "--solo")
    web = service.web(**LIMITS)
    consumer.says("consumer.assigned")
    campaign = service.campaign(2_000)
    storm(service, campaign, "warm", 100)
    before, threads = pss_mib(web.pid), max_threads(web.pid)

    with ThreadPoolExecutor(1) as pool:
        service.stack("pause", "redis")
        crowd = pool.submit(storm, service, campaign, "u", 600, at_once=600)
        time.sleep(1.0)
        service.stack("resume", "redis")
        answers = crowd.result()

    told = statuses(answers)
    assert set(told) <= {202, 503}, told
    refused = [answer for answer in answers.values() if answer.status == 503]
    assert {answer.headers["Retry-After"] for answer in refused} <= {"1"}
    assert pss_mib(web.pid) < before + 32
    assert max_threads(web.pid) == threads, "waiting takes no thread"
    again = {user: service.apply(campaign, user).status for user in answers if answers[user].status == 503}
    assert set(again.values()) <= {200, 202}, "after the storm the service answers as ever"
    wait_until(lambda: Coupon.objects.filter(user_id__startswith="u").count() == 600, what="all promised are issued")


def test_operators_are_served_while_waiting_users_are_refused(service: Service) -> None:
    service.web(**LIMITS)
    campaign = service.campaign(1_000)
    wait_until(lambda: service.apply(campaign, "u").status in (200, 202), what="the ticket")
    before = connections_open()

    with ThreadPoolExecutor(CROWD) as pool, transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE coupons_coupon IN ACCESS EXCLUSIVE MODE")
        crowd = [pool.submit(service.ticket, campaign, "u") for _ in range(CROWD)]
        probes = [service.get(path).status for path in ("/healthz", "/readyz", "/metrics", "/admin/login/")]
        told = Counter(each.result().status for each in crowd)

    assert set(told) == {200, 503}
    counted = re.findall(
        r'coupon_queue_refusals_total\{line="api",reason="\w+"\} (\S+)', service.get("/metrics").data.decode()
    )
    assert sum(map(float, counted)) == told[503] >= CROWD - THREADS - WAITING, "each is counted"
    assert probes == [200] * 4
    assert connections_open() - before <= THREADS + 2 * SIDE_THREADS


def storm(
    service: Service, campaign: Campaign, name: str, users: int, *, at_once: int = CROWD
) -> dict[str, urllib3.BaseHTTPResponse]:
    """What each user was told, nobody repeating."""
    names = [f"{name}{number}" for number in range(users)]
    with ThreadPoolExecutor(at_once) as pool:
        return dict(zip(names, pool.map(lambda user: service.apply(campaign, user), names), strict=True))


def statuses(answers: dict[str, urllib3.BaseHTTPResponse]) -> Counter[int]:
    return Counter(answer.status for answer in answers.values())


def connections_open() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
        )
        return int(cursor.fetchone()[0])
