"""Log lines that say how the worker gets on: rows/s, lag and the last offset, at most every 5 seconds."""

import logging
import time
from collections.abc import Callable, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from consumers.registry import Handled, Received

logger = logging.getLogger(__name__)
REPORT_SEC = 5.0


class Progress:
    """Counts since the last line. `clock` is monotonic, in seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_at = clock()
        self._done = self._duplicates = self._failed = 0
        self._last: Received | None = None

    def add(self, handled: Handled, batch: Sequence[Received]) -> None:
        self._done += handled.done
        self._duplicates += handled.duplicates
        self._failed += handled.failed
        self._last = batch[-1]

    def report_if_due(self, consumer: Consumer) -> None:
        elapsed_sec = self._clock() - self._started_at
        if elapsed_sec < REPORT_SEC:
            return
        if self._last is not None:
            logger.info(
                "consumer.progress rows=%d rows_per_s=%.0f duplicates=%d failed=%d lag=%s last=%s[%d]@%d",
                self._done,
                self._done / elapsed_sec,
                self._duplicates,
                self._failed,
                _lag(consumer),
                self._last.topic,
                self._last.partition,
                self._last.offset,
            )
        self._started_at = self._clock()
        self._done = self._duplicates = self._failed = 0
        self._last = None


def _lag(consumer: Consumer) -> str:
    """Messages of this worker's partitions that it has not read, by what the client last heard of the log's end."""
    try:
        positions: list[TopicPartition] = consumer.position(consumer.assignment())
        behind = 0
        for position in positions:
            _, end = consumer.get_watermark_offsets(position, cached=True)
            if position.offset >= 0 and end >= 0:
                behind += max(end - position.offset, 0)
    except KafkaException:
        return "unknown"
    return str(behind)
