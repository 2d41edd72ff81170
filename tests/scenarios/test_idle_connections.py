"""Row 40: connections that nothing used for a while are dropped on the way, without a word. The first users after the
silence are served as any others."""

import time

from coupons.models import Coupon
from coupons.runtime.redis_connections import MAX_IDLE_SEC
from faults.visits import Habits
from tests.support.held_tickets import assert_only_promised_or
from tests.support.matrix import Row
from tests.support.service import Service
from tests.support.waiting import wait_until

FORGOTTEN_AFTER_SEC = MAX_IDLE_SEC + 5
USERS = 200


def test_the_first_users_after_a_silence_are_served(service: Service) -> None:
    links = [service.proxy(part) for part in ("redis", "kafka", "postgres")]
    service.webs()
    consumer = service.manage("run_coupon_consumer", "--solo")
    consumer.says("consumer.assigned")
    campaign, other = service.campaign(20_000), service.campaign(10)
    assert service.apply(other, "before").status == 202, "so that every connection was used"
    for link in links:
        link.forget_silent(FORGOTTEN_AFTER_SEC)

    time.sleep(FORGOTTEN_AFTER_SEC + 5)
    crowd = service.crowd(campaign, habits=Habits(users_per_sec=USERS))
    row = Row(40, crowd)
    with row.fault("redis, kafka, postgres: what was silent is dropped without a reset"):
        crowd.wait_for_promises("from the first second on", users=USERS)
    row.wait_for_promises(users=USERS)
    assert service.ticket(other, "before").status == 200

    wait_until(
        lambda: Coupon.objects.filter(campaign=campaign).count() > 2 * USERS,
        what="coupons, written by a consumer that was idle as well",
    )
    row.holds()
    assert_only_promised_or(crowd)
    row.write()
