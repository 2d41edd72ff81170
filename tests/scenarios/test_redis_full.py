"""Row 11: Redis takes no more writes, or no more connections: 503, and no ticket is half written."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from coupons.admission import campaign_store
from coupons.admission.scripts import admission_redis
from coupons.models import Campaign
from faults.visits import Habits
from tests.support.held_tickets import (
    assert_no_hole,
    assert_only_promised_or,
    held_tickets,
    nobody_is_promised_anything,
    pending_users,
)
from tests.support.matrix import Row
from tests.support.service import Service
from tests.support.timeouts import RELAY_SOON
from tests.support.waiting import wait_until

THREADS, CONNECTIONS, READERS = 200, 4, 8


def test_a_full_redis_admits_nobody_and_promises_are_issued(service: Service) -> None:
    service.webs(**RELAY_SOON)
    keeper = service.keeper(**RELAY_SOON)
    row = Row.begin(service, 11, name="memory", users=50)
    crowd, campaign = row.crowd, row.campaign

    with row.fault("redis: maxmemory below what is used"):
        with no_memory():
            crowd.wait_for_answers(503, "unavailable", times=5)
            assert crowd.promises(campaign.pk).keys() <= pending_users(campaign), "to be settled by a full Redis"
            service.consumer("--solo")
            wait_until(lambda: not pending_users(campaign), what="what was promised is issued and settled")
            nobody_is_promised_anything(crowd, while_told="unavailable")
        assert_whole(campaign)
    row.wait_for_promises(users=50)

    assert_whole_at_the_end(row)
    assert "rebuild." not in keeper.output
    row.write()


def test_200_threads_share_four_slow_connections_to_redis(service: Service) -> None:
    """Of the view: who applies takes a connection, as who looks at a ticket does. Some are promised something
    meanwhile; who finds no connection is told so at once. (The front has two connections of its own.)"""
    service.manage("run_coupon_consumer", "--solo")
    keeper = service.keeper(**RELAY_SOON)
    proxy = service.proxy("redis")  # for the web server alone
    threads = {"COUPON_WEB_THREADS": str(THREADS), "COUPON_REDIS_MAX_CONNECTIONS": str(CONNECTIONS)}
    service.web(COUPON_FRONT="false", **threads, **RELAY_SOON)
    habits = Habits(users_per_sec=400, connections=THREADS, max_wait_sec=0.5)
    row = Row.begin(service, 11, name="pool", users=50, habits=habits)

    with row.fault(f"redis: 100 ms away, {THREADS} threads and {CONNECTIONS} connections"):
        proxy.delay(50)
        with looked_at(service, row.campaign):
            row.crowd.wait_for_answers(503, "unavailable", times=50)
            row.crowd.wait_for_promises("meanwhile", users=20)
        proxy.let_pass()
    row.wait_for_promises(users=50)

    assert_whole_at_the_end(row)
    assert "rebuild." not in keeper.output
    row.write()


@contextmanager
def looked_at(service: Service, campaign: Campaign) -> Iterator[None]:
    """READERS clients look at a ticket again and again."""
    ended = Event()

    def look() -> None:
        while not ended.wait(0.01):
            service.ticket(campaign, "nobody")

    with ThreadPoolExecutor(READERS) as pool:
        looking = [pool.submit(look) for _ in range(READERS)]
        try:
            yield
        finally:
            ended.set()
    for each in looking:
        each.result()


@contextmanager
def no_memory() -> Iterator[None]:
    admission_redis().config_set("maxmemory", 1)
    try:
        yield
    finally:
        admission_redis().config_set("maxmemory", 0)


def assert_whole(campaign: Campaign) -> None:
    """Redis counts as many tickets as there are, and as many pending ones: else the state is stale, which raises."""
    described = campaign_store.describe(campaign_id=campaign.pk, epoch=1)
    assert pending_users(campaign) <= held_tickets(campaign).keys()
    assert described.next_sequence == described.admitted + 1
    assert_no_hole(campaign)


def assert_whole_at_the_end(row: Row) -> None:
    row.holds()
    assert_whole(row.campaign)
    assert_only_promised_or(row.crowd, "unavailable", "unconfirmed")
