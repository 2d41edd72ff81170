"""Row 26: the link to a server is slow, silent, reset or cut. Every process of the service goes through a proxy."""

import time
from collections.abc import Callable

import pytest

from coupons.models import Coupon
from faults.crowd import Crowd
from faults.proxy import Proxy
from tests.support.group import assert_membership_kept
from tests.support.held_tickets import (
    assert_no_hole,
    assert_only_promised_or,
    nobody_is_promised_anything,
    promised_newcomers,
)
from tests.support.matrix import Row
from tests.support.promises import issued
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

SUPERVISED = ("--concurrency", "1")
# Each with whether somebody may be promised something meanwhile.
RULES: dict[str, tuple[Callable[[Proxy], object], bool]] = {
    "slow, 100 to 150 ms": (lambda proxy: proxy.delay(50, jitter_ms=25), True),
    "silent": (lambda proxy: proxy.blackhole(), False),
    "reset": (lambda proxy: proxy.reset(), False),
    "cut after 2,000 bytes": (lambda proxy: proxy.cut_after(2_000), True),
}


@pytest.mark.parametrize(("part", "code"), [("redis", "unavailable"), ("kafka", "unconfirmed")])
def test_bad_links_to_redis_or_kafka_break_no_promise(service: Service, part: str, code: str) -> None:
    proxy = service.proxy(part)
    _, consumer, keeper = service.everything(*SUPERVISED)
    row = Row.begin(service, 26, name=part)
    assert proxy.accepted >= 3, "web, consumer and keeper"

    for name, (rule, some_are_promised) in RULES.items():
        with row.fault(f"link to {part}: {name}"):
            rule(proxy)
            if some_are_promised:
                row.crowd.wait_for_promises(f"while it is {name}", users=10)
            else:
                nobody_is_promised_anything(row.crowd, while_told=code)
            proxy.let_pass()
        row.wait_for_promises(users=20)

    row.holds()
    assert_no_hole(row.campaign)
    assert "rebuild." not in keeper.output
    assert_only_promised_or(row.crowd, "unavailable", "unconfirmed")
    assert consumer.stop() == 0
    row.write()


def test_users_are_admitted_over_a_bad_link_to_postgresql(service: Service) -> None:
    """Their coupons come later; the consumer waits and stays in its group."""
    proxy = service.proxy("postgres")
    _, consumer, keeper = service.everything(**LONG_TIMEOUTS)
    row = Row.begin(service, 26, name="postgres")
    assert proxy.accepted >= 3, "web, consumer and keeper"

    for name, (rule, _) in RULES.items():
        with row.fault(f"link to postgres: {name}"):
            rule(proxy)
            if name == "silent":
                users_are_admitted_and_nothing_is_issued(row.crowd, silent_at=time.monotonic())
            row.crowd.wait_for_promises(f"while it is {name}", users=20)
            proxy.let_pass()
        row.wait_for_promises(users=20)
        before = issued(row.campaign)
        wait_until(lambda before=before: issued(row.campaign) > before, within_sec=30, what="coupons are issued again")  # type: ignore[misc]

    row.holds()
    assert_no_hole(row.campaign)
    assert "rebuild." not in keeper.output
    assert_only_promised_or(row.crowd, "unconfirmed")
    assert_membership_kept(consumer)
    assert consumer.stop() == 0
    row.write()


def users_are_admitted_and_nothing_is_issued(crowd: Crowd, *, silent_at: float) -> None:
    """To those who came since; what was on its way to the server when the link fell silent may be written."""
    crowd.wait_for_promises("while the link is silent", users=40)
    came_since = promised_newcomers(crowd, since=silent_at)
    assert came_since
    assert not Coupon.objects.filter(user_id__in=came_since).exists()
