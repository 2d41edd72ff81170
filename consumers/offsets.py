"""Computes the offsets of a batch, and commits them."""

import logging
from collections.abc import Callable, Collection, Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumers.registry import Received
from coupons.messaging.kafka import is_fatal

logger = logging.getLogger(__name__)
RESEND_AFTER_SEC = 2.0  # longer than a broker takes to confirm, so a healthy one gets each commit once
COMMITTED_TIMEOUT_SEC = 2.0  # a signal may wait this long: Python runs no handler during a librdkafka call

# After a rebalance another member owns the partition: the commit is void, and that member gets the messages again.
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
# The offsets that the broker has confirmed to this process.
confirmed: dict[Partition, int] = {}


def spans(messages: Iterable[Received]) -> dict[Partition, tuple[int, int]]:
    """Returns, for each partition of a batch, its first offset and the one after its last."""
    found: dict[Partition, tuple[int, int]] = {}
    for topic, partition, offset, _, _ in messages:
        first, after = found.get((topic, partition), (offset, offset))
        found[topic, partition] = min(first, offset), max(after, offset + 1)
    return found


def next_offsets(messages: Iterable[Received]) -> list[TopicPartition]:
    return [TopicPartition(*partition, after) for partition, (_, after) in spans(messages).items()]


def first_offsets(messages: Iterable[Received]) -> list[TopicPartition]:
    return [TopicPartition(*partition, first) for partition, (first, _) in spans(messages).items()]


def committed(consumer: Consumer, partitions: list[TopicPartition]) -> dict[int, int | None]:
    """Returns the group's offset of each partition, None where it has none. Raises KafkaException."""
    found = consumer.committed(partitions, timeout=COMMITTED_TIMEOUT_SEC)
    for each in found:
        if each.error is not None:
            raise KafkaException(each.error)
    return {each.partition: each.offset if each.offset >= 0 else None for each in found}


def numbers(partitions: Iterable[TopicPartition]) -> str:
    """For a log."""
    return ",".join(str(number) for number in sorted(partition.partition for partition in partitions)) or "none"


class Commits:
    """Sends the commits of one worker without waiting. Kafka delivers uncommitted messages again.

    Never uses the synchronous form, which has no time-out: it waited for ever after a broker's restart.
    """

    def __init__(self, consumer: Consumer, *, clock: Callable[[], float]) -> None:
        self._consumer = consumer
        self._clock = clock
        self._sent: dict[Partition, int] = {}  # for partitions that are still assigned
        self._sent_at = 0.0

    def send(self, offsets: list[TopicPartition]) -> None:
        """`on_commit` gets the result."""
        self._consumer.commit(offsets=offsets, asynchronous=True)
        self._sent_at = self._clock()
        self._sent.update({(each.topic, each.partition): each.offset for each in offsets})

    def resend_lost(self) -> None:
        """Repeats commits that were lost, as in a broker that hung: a quiet partition would show a lag for ever."""
        lost = [TopicPartition(*each, offset) for each, offset in self._sent.items() if confirmed.get(each) != offset]
        if lost and self._clock() - self._sent_at > RESEND_AFTER_SEC:
            self.send(lost)

    def forget(self, partitions: Collection[Partition]) -> None:
        """Drops partitions that were revoked."""
        for partition in partitions:
            self._sent.pop(partition, None)


def wake(consumer: Consumer) -> None:
    """Wakes librdkafka's own thread with an empty commit. Calls that wait for that thread, such as `assignment`, would
    hold the interpreter's lock meanwhile, without a time-out."""
    consumer.commit(offsets=[], asynchronous=True)


def on_commit(error: KafkaError | None, offsets: list[TopicPartition]) -> None:
    """The client calls this from poll(). A later commit or a redelivery makes up for one that failed; an idle worker
    repeats unconfirmed ones."""
    if not offsets:  # sent by `wake`
        return
    if error is None:
        confirmed.update({(each.topic, each.partition): each.offset for each in offsets if each.error is None})
    errors = [error] if error is not None else [offset.error for offset in offsets if offset.error is not None]
    for cause in errors[:1]:
        if is_fatal(cause):
            raise KafkaException(cause)  # the worker's poll() raises it
        outcome = "redelivered" if cause.code() in REDELIVERED else "later"
        logger.warning("consumer.offset_not_committed outcome=%s error=%s", outcome, cause.str())
