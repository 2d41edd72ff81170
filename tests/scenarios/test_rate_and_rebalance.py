"""The pace of the consumer, and its partitions when others come and go."""

import time

from django.utils import timezone

from coupons.models import Coupon
from tests.support.group import assert_admission_went_on
from tests.support.matrix import Row
from tests.support.promises import apply_all, assert_kept, issued
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import hold, wait_until

SMALL_BATCHES = ("--solo", "--batch-size", "5")


def test_the_database_gets_no_more_than_the_max_rate(service: Service) -> None:
    """200 at 50 a second, of which the first second's may come at once.

    The consumer waited with a full bucket, and all is counted from before the first ticket: a process that stands still
    makes rows later, never earlier, so no pause of this machine can break the bound.
    """
    rate = 50
    campaign = service.campaign(500)
    consumer = service.consumer("--solo", "--max-rate", str(rate), "--batch-size", "200")
    hold(1.5, lambda: not issued(campaign), "nothing to write yet, so the bucket fills")

    began_at = timezone.now()
    promises = apply_all(campaign, range(200))

    assert_kept(campaign, promises)
    for count, issued_at in enumerate(
        Coupon.objects.order_by("issued_at").values_list("issued_at", flat=True), start=1
    ):
        elapsed_sec = (issued_at - began_at).total_seconds()
        assert count <= rate * (1 + elapsed_sec) + 1, f"{count} rows {elapsed_sec} s after the first ticket"
    assert consumer.output.count("consumer.assigned") == 1, "a slow pace costs no membership"


def test_consumers_that_start_and_stop_every_two_seconds_lose_nothing(service: Service) -> None:
    """Two at a time, of which the older one ends as soon as the newer one has partitions, four times."""
    oldest = service.manage("run_coupon_consumer", *SMALL_BATCHES)
    service.web(**LONG_TIMEOUTS)
    oldest.says("consumer.assigned")
    row = Row.begin(service, 17, users=50)
    wait_until(lambda: issued(row.campaign) > 20, what="the first one works")

    with row.fault("consumers: one starts and one stops every 2 s, 4 times"):
        second = service.manage("run_coupon_consumer", *SMALL_BATCHES)
        wait_until(
            lambda: (
                len(oldest.partitions) == len(second.partitions) == 2
                and oldest.partitions.isdisjoint(second.partitions)
            ),
            what=lambda: f"two partitions each: {oldest.partitions} {second.partitions}",
        )
        both = [oldest, second]
        for turn in range(4):
            before = issued(row.campaign)
            both.append(service.manage("run_coupon_consumer", *SMALL_BATCHES))
            leaving = both.pop(0)
            started = time.monotonic()
            assert leaving.stop() == 0
            both[-1].says("consumer.assigned")
            hold(2 - (time.monotonic() - started), lambda: True, "a turn lasts 2 s")
            row.crowd.wait_for_promises(f"turn {turn}", users=10)
            wait_until(lambda before=before: issued(row.campaign) > before, what="they work")  # type: ignore[misc]
    row.wait_for_promises(users=30)

    assert both.pop(0).stop() == 0
    wait_until(lambda: both[0].partitions == {0, 1, 2, 3}, what="the last one takes over all")
    row.holds()
    assert_admission_went_on(row.crowd)
    row.write()
