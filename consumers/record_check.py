"""Compares the group's offsets with the handler's own record of what was read, and seeks back to the record."""

import logging
from collections.abc import Callable, Collection

from confluent_kafka import Consumer, KafkaException, TopicPartition

from consumers import offsets
from consumers.offsets import Partition, numbers
from consumers.pace import Backoff
from consumers.registry import Handler
from coupons.errors import DATABASE_DOWN, RetryLater, one_line

logger = logging.getLogger(__name__)
INTERVAL_SEC = 10.0


class RecordCheck:
    """Checks partitions when they are assigned, and all of them every ten seconds.

    The handler refuses a batch that begins beyond its record, so no check has to pause a partition (partitions that
    were paused in the callback of their assignment sometimes stayed silent for ever). But a quiet partition brings no
    batch, and its record moves back when PostgreSQL is restored from an older copy.
    """

    def __init__(self, consumer: Consumer, handler: Handler, *, clock: Callable[[], float]) -> None:
        self._consumer = consumer
        self._handler = handler
        self._clock = clock
        self._backoff = Backoff(first_sec=0.2, cap_sec=10)
        self._pending: set[Partition] = set()
        self._retry_at = 0.0
        self._all_at = clock() + INTERVAL_SEC

    def add(self, assigned: Collection[Partition]) -> None:
        self._pending.update(assigned)

    def forget(self, revoked: Collection[Partition]) -> None:
        self._pending.difference_update(revoked)

    def run_if_due(self, assigned: Collection[Partition]) -> None:
        now = self._clock()
        if now >= self._all_at:
            self._all_at = now + INTERVAL_SEC
            self._pending.update(assigned)
        if now >= self._retry_at:
            self.run()

    def run(self) -> None:
        """Checks what has not been checked. Tries again later while the record or the broker cannot be reached."""
        if self._handler.start_at is None or not self._pending:
            return
        partitions = [TopicPartition(*each) for each in sorted(self._pending)]
        try:
            committed = offsets.committed(self._consumer, partitions)
            for partition, offset in self._handler.start_at(committed).items():
                self._consumer.seek(TopicPartition(self._handler.topic, partition, offset))
                logger.error(
                    "consumer.offset_was_moved partition=%d group=%s read=%d", partition, committed[partition], offset
                )
        except (RetryLater, KafkaException, *DATABASE_DOWN) as error:
            # librdkafka refuses a seek for a moment after an assignment; the other errors are outages.
            self._retry_at = self._clock() + self._backoff.next_delay_sec()
            logger.info("consumer.offsets_not_checked partitions=%s error=%s", numbers(partitions), one_line(error))
            return
        self._pending.clear()
        self._backoff.reset()
