"""Three brokers beside the test's stack, whose one broker nobody asks meanwhile."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import PartitionMetadata  # type: ignore[attr-defined]  # re-exported without __all__
from django.conf import LazySettings, settings
from stack_parts import settings as stack_settings
from stack_parts.home import Home
from stack_parts.kafka import Kafka

from coupons.messaging import topics
from coupons.messaging.producer import publishers
from tests.support.own_topic import on_another_cluster


class ThreeBrokers:
    """A context in which they run. They are numbered from 1, as Kafka numbers them."""

    def __init__(self, folder: Path) -> None:
        self._home = Home(folder)
        self._home.set_brokers(3)
        self._brokers = {
            number: Kafka(self._home, number=number) for number in range(1, len(stack_settings.BROKERS) + 1)
        }

    def __enter__(self) -> Self:
        self.start(*self._brokers)
        return self

    def __exit__(self, *_: object) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda broker: broker.stop(), self._brokers.values()))

    @contextmanager
    def of_this_process(self, own_settings: LazySettings, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """This process and those that it starts use them; all run again in the end."""
        own = self._home.settings_of(self._home.state())
        for name in ("KAFKA_BOOTSTRAP_SERVERS", "COUPON_TOPIC_REPLICATION", "COUPON_TOPIC_MIN_INSYNC_REPLICAS"):
            patch.setenv(name, own[name])
        before = (
            own_settings.KAFKA_BOOTSTRAP_SERVERS,
            own_settings.TOPIC_REPLICATION,
            own_settings.TOPIC_MIN_INSYNC_REPLICAS,
        )
        _use(own_settings, own["KAFKA_BOOTSTRAP_SERVERS"], 3, 2)
        with on_another_cluster():
            try:
                yield
            finally:
                _use(own_settings, *before)

    def start(self, *numbers: int) -> None:
        """Resumes those that hang. At once: a controller needs another one."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda number: self._brokers[number].start(), numbers))

    def start_all(self) -> None:
        self.start(*self._brokers)

    def stop(self, number: int) -> None:
        self._brokers[number].stop()

    def kill(self, number: int) -> None:
        self._brokers[number].kill()

    def pause(self, number: int) -> None:
        self._brokers[number].pause()

    def are_in_sync(self) -> bool:
        return all(len(partition.isrs) == 3 for partition in _partitions().values())

    def leader(self, partition: int) -> int:
        """-1 for none, also while the broker that was asked hangs."""
        try:
            return int(_partitions()[partition].leader)
        except KafkaException:
            topics.administrator.reset()
            return -1


def _partitions() -> dict[int, PartitionMetadata]:
    """Of the test's topic."""
    found = topics.administrator().list_topics(settings.TOPIC, timeout=10).topics[settings.TOPIC]
    return dict(found.partitions)


def _use(own_settings: LazySettings, servers: str, replication: int, in_sync: int) -> None:
    own_settings.KAFKA_BOOTSTRAP_SERVERS = servers
    own_settings.TOPIC_REPLICATION = replication
    own_settings.TOPIC_MIN_INSYNC_REPLICAS = in_sync
    publishers.reset()
    topics.administrator.reset()
