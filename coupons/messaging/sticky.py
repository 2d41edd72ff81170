"""Which partition the next messages go to: one for a while, then the next one.

librdkafka sends one produce request a partition. Spread by key, sixteen waiting users over eight partitions are sixteen
requests of one message; kept together they are one request, and the broker spends a third of the time on each
(docs/decisions/0012). librdkafka's own sticky partitioning is for messages without a key only. Nothing depends on the
partition of a key: two messages of one ticket may meet in two consumers, and the database lets one of them through.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

STAY_SEC = 0.05
BY_KEY = -1  # librdkafka's RD_KAFKA_PARTITION_UA: its partitioner decides


class StickyPartitions:
    """Learns the partitions from librdkafka's statistics; what it does not know yet goes by the key.

    Written by the thread that polls, read by those that publish: one reference is exchanged at a time.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._usable: dict[str, list[int]] = {}
        # Each process begins elsewhere, so that several of them are not all at one partition.
        self._shift = random.randrange(2**16)

    def learn(self, statistics: Mapping[str, Any]) -> None:
        """Take over which partitions exist and have a leader, from one document of `statistics.interval.ms`."""
        self._usable = {
            name: [number for number in map(int, topic["partitions"]) if _is_usable(number, topic["partitions"])]
            for name, topic in statistics.get("topics", {}).items()
        }

    def current(self, topic: str) -> int:
        """The partition for a message that is produced now, or BY_KEY."""
        usable = self._usable.get(topic)
        if not usable:
            return BY_KEY
        return usable[(int(self._clock() / STAY_SEC) + self._shift) % len(usable)]


def _is_usable(number: int, partitions: Mapping[str, Any]) -> bool:
    partition = partitions[str(number)]
    return number >= 0 and partition["leader"] >= 0 and not partition["unknown"]
