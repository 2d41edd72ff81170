"""Logs the progress of a worker, and detects a client that is silent for good."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition
from django.db import close_old_connections

from consumers.registry import Handled, Received
from coupons.errors import DATABASE_DOWN, RetryLater, one_line
from coupons.messaging.log import read_log
from coupons.messaging.topics import partition_holders, partition_lags

logger = logging.getLogger(__name__)
REPORT_SEC = 5.0
CHECK_INTERVAL_SEC = 10.0
SILENT_SEC = 60.0
"""Longer than any request of the client waits for an answer. At least supervisor.HEALTHY_SEC, so that a worker that
ends as silent is restarted at once, however often."""

Backlog = tuple[int, int]  # partition, first unread offset


class Progress:
    """Logs rows/s, lag and the last offset, at most every 5 seconds."""

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
    """Returns how many messages of its partitions the worker has not read, by the log ends in the client's cache."""
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


class ConsumerSilent(Exception):
    """Messages wait for this client. Another client can read them, and this one gets none."""


class SilenceWatch:
    """Detects a client that is silent for good: messages wait in partitions that no other member holds, and it gets
    none. librdkafka gets into that state in more ways than are known, and reports no error (docs/decisions/0006). Only
    a new client helps, so the worker ends and is started again.

    The worker calls `reset` when it gets a message, and `check` when it does not.
    """

    def __init__(self, group: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._group = group
        self._clock = clock
        self._check_at = clock() + CHECK_INTERVAL_SEC
        self._waiting_since: dict[Backlog, float] = {}

    def reset(self) -> None:
        """Starts anew: the worker got a message, or has a reason not to ask for one."""
        self._check_at = self._clock() + CHECK_INTERVAL_SEC
        self._waiting_since.clear()

    def check(self, consumer: Consumer) -> None:
        """Checks once per CHECK_INTERVAL_SEC. Raises ConsumerSilent when the same messages wait for SILENT_SEC."""
        now = self._clock()
        if now < self._check_at:
            return
        self._check_at = now + CHECK_INTERVAL_SEC
        try:
            waiting = dict(self._waiting_for(consumer))
            self._waiting_since = {backlog: self._waiting_since.get(backlog, now) for backlog in waiting}
            for (partition, offset), since in self._waiting_since.items():
                # The backlog may hold no message: a transaction's end has an offset, and no client returns it.
                if now - since >= SILENT_SEC and any(read_log({partition: (offset, waiting[partition, offset])})):
                    raise ConsumerSilent(f"partition {partition}, offset {offset}: unread for {now - since:.0f} s")
        except (RetryLater, KafkaException, *DATABASE_DOWN) as error:
            self._waiting_since.clear()  # an outage explains the silence
            logger.info("consumer.silence_not_checked error=%s", one_line(error))

    def _waiting_for(self, consumer: Consumer) -> Iterator[tuple[Backlog, int]]:
        """Yields the backlog of each partition that this member holds, or no member, and where the partition ends."""
        close_old_connections()  # outside requests Django never drops a connection that the server has closed
        unread = {number: lag for number, lag in partition_lags().items() if lag.lag}
        if not unread:
            return
        holders, me = partition_holders(self._group), consumer.memberid()
        for number, lag in unread.items():
            if holders.get(number, me) == me:
                yield (number, lag.next_offset), lag.end
