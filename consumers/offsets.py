"""Commits the group's offsets, and compares them with the handler's own record of what was read."""

import logging
from collections.abc import Callable, Collection, Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumers.registry import Handler, Received
from coupons.errors import DATABASE_DOWN, RetryLater, one_line
from coupons.messaging.kafka import is_fatal

logger = logging.getLogger(__name__)
CHECK_INTERVAL_SEC = 10.0
RETRY_SEC = 1.0
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


def spans(messages: Iterable[Received]) -> dict[int, tuple[int, int]]:
    """Returns, for each partition of a batch, its first offset and the one after its last."""
    found: dict[int, tuple[int, int]] = {}
    for message in messages:
        first, after = found.get(message.partition, (message.offset, message.offset))
        found[message.partition] = min(first, message.offset), max(after, message.offset + 1)
    return found


class GroupOffsets:
    """The group's offsets of one worker's partitions.

    Checks them when partitions are assigned, and every ten seconds. The handler refuses a batch that begins beyond its
    record, so no check has to pause a partition (partitions that were paused in the callback of their assignment
    sometimes stayed silent for ever). But a quiet partition brings no batch, and its record moves back when PostgreSQL
    is restored from an older copy.
    """

    def __init__(self, consumer: Consumer, handler: Handler, *, clock: Callable[[], float]) -> None:
        self._consumer = consumer
        self._handler = handler
        self._clock = clock
        self._sent: dict[int, int] = {}  # for partitions that are still assigned
        self._check_at = 0.0

    def commit(self, batch: Iterable[Received]) -> None:
        """Sends a commit; `on_commit` gets its result. The synchronous form hung after a broker's restart."""
        offsets = {partition: after for partition, (_, after) in spans(batch).items()}
        self._sent.update(offsets)
        self._send(offsets)

    def assigned(self) -> None:
        self._check_at = 0.0

    def revoked(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            self._sent.pop(partition, None)

    def check_if_due(self, partitions: Collection[int]) -> None:
        """Seeks to the record where the group's offset is beyond it, and repeats commits that were lost, as in a broker
        that hung: a quiet partition would show a lag for ever. Tries again later while a part is down."""
        if not partitions or self._clock() < self._check_at:
            return
        try:
            committed = self._committed(partitions)
            for partition, offset in (self._handler.start_at(committed) if self._handler.start_at else {}).items():
                self._consumer.seek(TopicPartition(self._handler.topic, partition, offset))
                logger.error(
                    "consumer.offset_was_moved partition=%d group=%s read=%d", partition, committed[partition], offset
                )
        except (RetryLater, KafkaException, *DATABASE_DOWN) as error:
            # librdkafka refuses a seek for a moment after an assignment; the other errors are outages.
            self._check_at = self._clock() + RETRY_SEC
            logger.info("consumer.offsets_not_checked partitions=%s error=%s", numbers(partitions), one_line(error))
            return
        self._check_at = self._clock() + CHECK_INTERVAL_SEC
        lost = {partition: offset for partition, offset in self._sent.items() if committed.get(partition) != offset}
        if lost:
            self._send(lost)

    def _committed(self, partitions: Iterable[int]) -> dict[int, int | None]:
        """Returns the group's offset of each partition, None where it has none. Raises KafkaException."""
        asked = [TopicPartition(self._handler.topic, partition) for partition in sorted(partitions)]
        found = self._consumer.committed(asked, timeout=COMMITTED_TIMEOUT_SEC)
        for each in found:
            if each.error is not None:
                raise KafkaException(each.error)
        return {each.partition: each.offset if each.offset >= 0 else None for each in found}

    def _send(self, offsets: dict[int, int]) -> None:
        topic = self._handler.topic
        self._consumer.commit(offsets=[TopicPartition(topic, *each) for each in offsets.items()], asynchronous=True)


def on_commit(error: KafkaError | None, offsets: list[TopicPartition]) -> None:
    """The client calls this from poll(). A later commit, a check or a redelivery makes up for one that failed."""
    if not offsets:  # sent by `wake`
        return
    errors = [error] if error is not None else [offset.error for offset in offsets if offset.error is not None]
    for cause in errors[:1]:
        if is_fatal(cause):
            raise KafkaException(cause)  # the worker's poll() raises it
        outcome = "redelivered" if cause.code() in REDELIVERED else "later"
        logger.warning("consumer.offset_not_committed outcome=%s error=%s", outcome, cause.str())


def wake(consumer: Consumer) -> None:
    """Wakes librdkafka's own thread with an empty commit. Calls that wait for that thread, such as `assignment`, would
    hold the interpreter's lock meanwhile, without a time-out."""
    consumer.commit(offsets=[], asynchronous=True)


def numbers(partitions: Collection[int]) -> str:
    """For a log."""
    return ",".join(map(str, sorted(partitions))) or "none"
