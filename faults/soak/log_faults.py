"""Manipulates the topic and the consumers' group from outside the service. Each function returns when it is done."""

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition
from django.conf import settings

from coupons.messaging.kafka import client_config
from coupons.messaging.topics import partition_lags

JOIN_SEC = 30.0


def join_and_commit_to_the_end() -> Callable[[], object]:
    """Joins the group like a foreign program, and commits the ends of its partitions without reading them.

    Returns the function that leaves the group. Raises KafkaException, and TimeoutError when the group assigns it no
    partition.
    """
    consumer = _group_client()
    taken: list[TopicPartition] = []
    consumer.subscribe([settings.TOPIC], on_assign=lambda _, partitions: taken.extend(partitions))
    try:
        deadline = time.monotonic() + JOIN_SEC
        while not taken:
            consumer.poll(0.2)
            if time.monotonic() > deadline:
                raise TimeoutError(f"the group assigned no partition within {JOIN_SEC:.0f} s")
        ends = [consumer.get_watermark_offsets(each, timeout=5)[1] for each in taken]
        _commit(consumer, {each.partition: end for each, end in zip(taken, ends, strict=True)})
    except BaseException:
        consumer.close()
        raise
    return consumer.close


def set_offsets(*, to_the_end: bool) -> bool:
    """Sets the group's offsets as `kafka-consumer-groups.sh --reset-offsets` does.

    Raises KafkaException while the group has members.
    """
    lags = partition_lags()
    consumer = _group_client()
    try:
        _commit(consumer, {number: lag.end if to_the_end else lag.start for number, lag in lags.items()})
    finally:
        consumer.close()
    return True


def cut_a_log(chance: random.Random) -> Path:
    """Removes the newest segment of a random partition, or its whole log. The broker must not run."""
    data = Path(os.environ["STACK_HOME"]).resolve() / "kafka" / "data"
    return cut_log(chance.choice(sorted(data.glob(f"{settings.TOPIC}-*"))), whole=chance.random() < 0.5)


def cut_log(partition: Path, *, whole: bool) -> Path:
    """Removes files of a log. A segment is its .log, its indexes and the producers' snapshot, named by its first
    offset."""
    if whole:
        shutil.rmtree(partition)
        return partition
    newest = max(partition.glob("*.log"))
    for file in partition.glob(f"{newest.stem}.*"):
        file.unlink()
    return newest


def _group_client() -> Consumer:
    own = {"group.id": settings.CONSUMER_GROUP, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    if settings.CONSUMER_GROUP_PROTOCOL == "consumer":
        own["group.protocol"] = "consumer"
    return Consumer(client_config(**own))


def _commit(consumer: Consumer, offsets: dict[int, int]) -> None:
    asked = [TopicPartition(settings.TOPIC, number, offset) for number, offset in offsets.items()]
    for done in consumer.commit(offsets=asked, asynchronous=False) or []:
        if done.error is not None:
            raise KafkaException(done.error)
