"""The seed's test, through HTTP: 1,000 users on 32 threads, exactly 100 coupons. And its twin, which oversells."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from coupons.admission.scripts import admission_redis
from coupons.models import Coupon
from faults.ledgers import reconcile
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

USERS, QUANTITY, THREADS = 1_000, 100, 32


def test_1000_users_on_32_threads_get_exactly_100_coupons(service: Service) -> None:
    service.web(COUPON_WEB_WORKERS="2", **LONG_TIMEOUTS)
    service.consumer()
    campaign = service.campaign(QUANTITY)

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda user: service.apply(campaign, str(user)), range(USERS)))

    assert Counter(answer.status for answer in answers) == {202: QUANTITY, 409: USERS - QUANTITY}
    winners = {str(user): answer.json()["sequence"] for user, answer in enumerate(answers) if answer.status == 202}
    wait_until(lambda: Coupon.objects.filter(campaign=campaign).count() == QUANTITY, what="100 rows")
    rows = dict(Coupon.objects.filter(campaign=campaign).values_list("user_id", "sequence"))
    assert rows == winners
    assert sorted(rows.values()) == list(range(1, QUANTITY + 1))
    wait_until(lambda: all(ledger.pending == 0 for ledger in reconcile()), what="nothing pending")
    assert all(ledger.closes for ledger in reconcile())


def test_the_naive_check_then_act_oversells_on_the_same_servers(service: Service) -> None:
    """The twin: GET the count, compare, INCR. Between the two commands other threads are let in as well."""
    redis = admission_redis()
    together = threading.Barrier(THREADS)

    def apply(user: int) -> bool:
        if user < THREADS:
            together.wait()  # the first wave starts at once, as at 10:00 sharp
        if int(redis.get("naive") or 0) >= 10:
            return False
        redis.incr("naive")
        return True

    with ThreadPoolExecutor(THREADS) as pool:
        admitted = sum(pool.map(apply, range(USERS)))

    assert admitted > 10


def test_one_user_50_times_at_once_gets_one_coupon(service: Service) -> None:
    service.web(COUPON_WEB_WORKERS="2", **LONG_TIMEOUTS)
    service.consumer()
    campaign = service.campaign(QUANTITY)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: service.apply(campaign, "42"), range(50)))

    assert Counter(answer.status for answer in answers) == {202: 1, 200: 49}
    assert {answer.json()["sequence"] for answer in answers} == {1}
    wait_until(lambda: service.ticket(campaign, "42").json()["status"] == "issued", what="the coupon")
    assert Coupon.objects.filter(campaign=campaign).count() == 1


def test_naive_check_then_act_gives_one_user_two_places(service: Service) -> None:
    """The twin: is the user in? No: INCR, and remember. Between the two the user's second click asks the same."""
    redis = admission_redis()
    together = threading.Barrier(THREADS)

    def apply(user: int) -> int | None:
        together.wait()
        if redis.hget("naive", str(user)):
            return None
        sequence = int(redis.incr("naive-sequence"))
        redis.hset("naive", str(user), sequence)
        return sequence

    def places_of(user: int) -> int:
        with ThreadPoolExecutor(THREADS) as pool:
            return len({sequence for sequence in pool.map(apply, [user] * THREADS) if sequence})

    assert any(places_of(user) > 1 for user in range(20)), "on a busy machine the threads may run one after another"
