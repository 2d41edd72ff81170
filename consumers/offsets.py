"""The offsets that a batch stands for, and committing them."""

import logging
from collections.abc import Callable, Collection, Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumers.registry import Received
from coupons.messaging.kafka import is_fatal

logger = logging.getLogger(__name__)
RESEND_AFTER_SEC = 2.0  # longer than a broker takes to confirm, so that a healthy one is asked once
COMMITTED_TIMEOUT_SEC = 2.0  # a signal waits so long at most: librdkafka's calls hold back Python's handlers

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


Partition = tuple[str, int]  # topic and number
# What the broker has confirmed to this process.
confirmed: dict[Partition, int] = {}


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
    found = consumer.committed(partitions, timeout=COMMITTED_TIMEOUT_SEC)
    for each in found:
        if each.error is not None:
            raise KafkaException(each.error)
    return {each.partition: each.offset if each.offset >= 0 else None for each in found}


class Commits:
    """The commits of one worker, sent without waiting. What is not committed is delivered again.

    Never the synchronous form: it waits without a time-out, and did so for ever after a broker's restart.
    """

    def __init__(self, consumer: Consumer, *, clock: Callable[[], float]) -> None:
        self._consumer = consumer
        self._clock = clock
        self._sent: dict[Partition, int] = {}  # of partitions that are still assigned
        self._sent_at = 0.0

    def send(self, offsets: list[TopicPartition]) -> None:
        """`on_commit` hears how it ended."""
        self._consumer.commit(offsets=offsets, asynchronous=True)
        self._sent_at = self._clock()
        self._sent.update({(each.topic, each.partition): each.offset for each in offsets})

    def resend_lost(self) -> None:
        """A commit that got lost (a broker that hung) would leave its messages unread for ever where no more come."""
        lost = [TopicPartition(*each, offset) for each, offset in self._sent.items() if confirmed.get(each) != offset]
        if lost and self._clock() - self._sent_at > RESEND_AFTER_SEC:
            self.send(lost)

    def forget(self, partitions: Collection[Partition]) -> None:
        """They were revoked."""
        for partition in partitions:
            self._sent.pop(partition, None)


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
