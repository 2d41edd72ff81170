"""How the consumer reads: the time for a batch, and librdkafka's settings, each with the reason why it is set."""

from collections.abc import Callable
from typing import Any

from django.conf import settings

from consumers.offsets import on_commit
from coupons.messaging.kafka import client_config

LINGER_SEC = 0.05
"""After a batch's first message the worker waits this long for more: low latency when idle, large batches when busy."""


def consumer_config(group: str, on_statistics: Callable[[str], None]) -> dict[str, Any]:
    common = client_config(
        **{
            "group.id": group,
            # The worker commits offsets after the database has committed; nothing else may move them.
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "on_commit": on_commit,
            # Only the statistics show that the client has lost its brokers.
            "statistics.interval.ms": 1_000,
            "stats_cb": on_statistics,
            # A new group starts with the oldest message, which may be a promise.
            "auto.offset.reset": "earliest",
            # Memory: prefetch at most 4 MiB (default 64 MiB), enough for ten large batches.
            "queued.max.messages.kbytes": 4 * 1024,
            # A compressed response grows sixfold in memory; the default, 1 MiB a partition, cost 17 MiB more.
            "fetch.message.max.bytes": 128 * 1024,
            # A broker without new messages answers after this time; leaving can take as long (default 500).
            "fetch.wait.max.ms": 100,
        }
    )
    if settings.CONSUMER_GROUP_PROTOCOL == "consumer":
        # KIP-848: reads a topic that was made anew under it from the start; a classic group skipped messages there.
        return {**common, "group.protocol": "consumer"}
    return {
        **common,
        # Cooperative: a rebalance interrupts only the partitions that move.
        "partition.assignment.strategy": "cooperative-sticky",
        # The group reassigns a killed worker's partitions after 6 s instead of 45 s.
        "session.timeout.ms": 6_000,
        "heartbeat.interval.ms": 2_000,
    }
