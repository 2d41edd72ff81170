"""The pace of the consumer, and its partitions when others come and go."""

import time

from django.db.models import Max, Min

from coupons.models import Coupon, FailEventHistory
from tests.support.promises import apply_all, assert_kept, issued
from tests.support.service import Service
from tests.support.waiting import wait_until


def test_the_database_gets_no_more_than_the_max_rate(service: Service) -> None:
    """200 at 50 a second, of which the first second's may come at once: three seconds at least, however fast it is."""
    campaign = service.campaign(500)
    promises = apply_all(campaign, range(200))

    consumer = service.consumer("--solo", "--max-rate", "50", "--batch-size", "200")

    started = time.monotonic()
    counts = []
    while issued(campaign) < 200:
        counts.append((time.monotonic() - started, issued(campaign)))
        assert time.monotonic() - started < 30
    first, last = Coupon.objects.aggregate(Min("issued_at"), Max("issued_at")).values()
    assert (last - first).total_seconds() > 2.5
    assert all(count <= 50 * (at_sec + 1) + 60 for at_sec, count in counts), "no burst in between"
    assert_kept(campaign, promises)
    assert consumer.output.count("consumer.assigned") == 1, "a slow pace costs no membership"


def test_two_consumers_share_the_partitions_and_a_rebalance_loses_nothing(service: Service) -> None:
    campaign = service.campaign(1_000)
    first = service.consumer("--solo", "--max-rate", "60", "--batch-size", "10")
    promises = apply_all(campaign, range(300))
    wait_until(lambda: issued(campaign) > 20, what="the first one works")

    second = service.consumer("--solo", "--max-rate", "60", "--batch-size", "10")
    wait_until(
        lambda: len(first.partitions) == len(second.partitions) == 2 and first.partitions.isdisjoint(second.partitions),
        what=lambda: f"two partitions each: {first.partitions} {second.partitions}",
    )
    before = issued(campaign)
    promises |= apply_all(campaign, range(300, 400))
    wait_until(lambda: issued(campaign) > before + 50, what="both work")

    assert first.stop() == 0
    wait_until(lambda: second.partitions == {0, 1, 2, 3}, what="the second one takes over all")
    promises |= apply_all(campaign, range(400, 420))
    assert_kept(campaign, promises)
    assert not list(FailEventHistory.objects.values_list("error_code", "error_message")[:3])


def test_two_groups_that_write_the_same_tickets_at_once_make_one_coupon_each(service: Service) -> None:
    """Every insert is a race between two processes; the loser finds duplicates, not failures."""
    campaign = service.campaign(1_000)
    service.consumer("--solo", "--batch-size", "20")
    service.consumer("--solo", "--batch-size", "30", COUPON_CONSUMER_GROUP="others")

    promises = apply_all(campaign, range(600))

    assert_kept(campaign, promises)
    assert not list(FailEventHistory.objects.values_list("error_code", "error_message")[:3])
