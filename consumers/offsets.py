"""Offsets: which ones a finished batch stands for, and committing them."""

import logging
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumers.registry import Received
from coupons.messaging.kafka import is_fatal

logger = logging.getLogger(__name__)
COMMITTED_SEC = 2.0  # a signal waits so long at most: librdkafka's calls hold back Python's handlers

# After a rebalance the partition is somebody else's: the commit is void and the messages are delivered again there.
REDELIVERED = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError._STATE,
        KafkaError._NO_OFFSET,
        KafkaError._ASSIGNMENT_LOST,
    }
)


# What the broker has confirmed to this process, by topic and partition.
confirmed: dict[tuple[str, int], int] = {}


def next_offsets(messages: Iterable[Received]) -> list[TopicPartition]:
    """Of each partition, the offset after its last message."""
    last: dict[tuple[str, int], int] = {}
    for topic, partition, offset, _, _ in messages:
        if offset >= last.get((topic, partition), 0):
            last[topic, partition] = offset
    return [TopicPartition(topic, partition, offset + 1) for (topic, partition), offset in last.items()]


def first_offsets(messages: Iterable[Received]) -> list[TopicPartition]:
    """Of each partition, the offset of its first message."""
    first: dict[tuple[str, int], int] = {}
    for topic, partition, offset, _, _ in messages:
        first[topic, partition] = min(offset, first.get((topic, partition), offset))
    return [TopicPartition(topic, partition, offset) for (topic, partition), offset in first.items()]


def committed(consumer: Consumer, partitions: list[TopicPartition]) -> dict[int, int | None]:
    """The group's offset of each partition, None where it has none. Raises KafkaException."""
    found = consumer.committed(partitions, timeout=COMMITTED_SEC)
    for each in found:
        if each.error is not None:
            raise KafkaException(each.error)
    return {each.partition: each.offset if each.offset >= 0 else None for each in found}


def commit(consumer: Consumer, offsets: list[TopicPartition]) -> None:
    """Send the commit and go on; `on_commit` hears how it ended. What is not committed is delivered again.

    Never the synchronous form: it waits without a time-out, and did so for ever after a broker's restart.
    """
    consumer.commit(offsets=offsets, asynchronous=True)


def wake(consumer: Consumer) -> None:
    """Have librdkafka's own thread look for work: a commit of nothing. Calls that wait for its answer, as `assignment`
    does, hold the interpreter's lock meanwhile, and without a time-out."""
    consumer.commit(offsets=[], asynchronous=True)


def on_commit(error: KafkaError | None, offsets: list[TopicPartition]) -> None:
    """librdkafka's `on_commit`, called from poll(). A later commit or a redelivery puts right what failed; the worker
    repeats, when it is idle, what is not confirmed."""
    if not offsets:  # what `wake` has sent
        return
    if error is None:
        confirmed.update({(each.topic, each.partition): each.offset for each in offsets if each.error is None})
    errors = [error] if error is not None else [offset.error for offset in offsets if offset.error is not None]
    for cause in errors[:1]:
        if is_fatal(cause):
            raise KafkaException(cause)  # comes out of the worker's poll()
        outcome = "redelivered" if cause.code() in REDELIVERED else "later"
        logger.warning("consumer.offset_not_committed outcome=%s error=%s", outcome, cause.str())
