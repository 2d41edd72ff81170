"""Partitions are added to a topic that is in use: everyone uses them in seconds, and no promise waits for minutes."""

import pytest
from django.conf import LazySettings

from coupons.messaging.topics import partition_lags, repair_topic
from tests.support.matrix import MANY
from tests.support.promises import assert_history_holds
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

SOON_SEC = 30.0  # a client learns of them in five seconds; without that in five minutes


def published_to_all() -> bool:
    return all(lag.end > 0 for lag in partition_lags().values())


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_added_partitions_are_used_within_seconds(service: Service, settings: LazySettings, protocol: str) -> None:
    consumer = service.consumer("--solo", COUPON_CONSUMER_GROUP_PROTOCOL=protocol)
    service.web(**LONG_TIMEOUTS)
    keeper = service.keeper()
    campaign = service.campaign(20_000)
    crowd = service.crowd(campaign, habits=MANY)
    crowd.wait_for_promises("before", users=30)

    settings.TOPIC_PARTITIONS = 6
    assert repair_topic() == ["partitions were 4, are 6"]
    wait_until(lambda: consumer.partitions == {*range(6)}, within_sec=SOON_SEC, what="the consumer reads all six")
    wait_until(
        lambda: all(lag.end > 0 for lag in partition_lags().values()),
        within_sec=SOON_SEC,
        what="web publishes to all six",
    )
    crowd.wait_for_promises("after", users=30)

    assert_history_holds(crowd, campaigns=[campaign])
    assert "log.cut" not in keeper.output
