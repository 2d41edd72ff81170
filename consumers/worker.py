"""One worker process: polls a batch, passes it to the handler, then commits its offsets. The order carries the promise.

When a part is down the worker keeps the batch, pauses its partitions and goes on polling, to stay in the group.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumers.config import LINGER_SEC
from consumers.offsets import GroupOffsets, numbers, spans, wake
from consumers.pace import Backoff, RateLimit
from consumers.registry import Handled, Handler, Received
from consumers.watch import Progress, SilenceWatch
from coupons.errors import DATABASE_DOWN, MessagesSkipped, RetryLater, one_line
from coupons.messaging.kafka import BrokersLost, ClientStatistics, headers_of, is_fatal

logger = logging.getLogger(__name__)
MAX_WAIT_SEC = 0.5
IDLE_POLL_SEC = 0.005  # between two polls while no message waits
WAKE_INTERVAL_SEC = 1.0
# Leaving takes milliseconds. When the broker hangs, librdkafka waits a minute and more for it to confirm commits.
LEAVE_TIMEOUT_SEC = 10.0


class PoisonFlood(Exception):
    """Too many messages could not be written: their producer or this program has a defect."""


class Worker:
    """Runs one handler until `stop` is set. Subscribes `consumer`, which must be new.

    `has_left` is False when the broker did not let the consumer go in time. Then a thread still waits for the broker,
    and only the end of the process ends it.
    """

    def __init__(
        self,
        *,
        consumer: Consumer,
        statistics: ClientStatistics,
        handler: Handler,
        stop: threading.Event,
        batch_size: int,
        max_rate: float,
        poison_limit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._consumer = consumer
        self._statistics = statistics
        self._silence = SilenceWatch(handler.group, clock=clock)
        self._handler = handler
        self._stop = stop
        self._batch_size = batch_size
        self._rate = RateLimit(max_rate, clock=clock)
        self._poison_limit = poison_limit
        self._clock = clock
        self._backoff = Backoff(first_sec=0.2, cap_sec=10)
        self._progress = Progress(clock=clock)
        self._kept: list[Received] = []  # the batch to try again
        self._retry_at = 0.0
        self._wake_at = 0.0
        self._assigned: set[int] = set()
        self._offsets = GroupOffsets(consumer, handler, clock=clock)
        self._failed_beyond_written = 0
        self.has_left = True

    def run(self) -> None:
        """Runs until stopped, finishes the batch in hand, then leaves the group.

        Raises KafkaException, BrokersLost and ConsumerSilent when the client cannot go on, PoisonFlood, and any error
        of the handler other than "retry later".
        """
        self._consumer.subscribe(
            [self._handler.topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )
        try:
            while not self._stop.is_set():
                self._step()
        finally:
            # Crash before this => the group notices at the session time-out, and delivers uncommitted messages again.
            self._leave()

    def _leave(self) -> None:
        """Closes the consumer. Raises what close() raises, which includes an error of a callback."""
        leaving = ThreadPoolExecutor(1, "leave").submit(self._consumer.close)
        try:
            leaving.result(LEAVE_TIMEOUT_SEC)
        except TimeoutError:
            self.has_left = False
            logger.warning("consumer.leave_timed_out after=%ds outcome=redelivered", LEAVE_TIMEOUT_SEC)

    def _step(self) -> None:
        if self._statistics.has_lost_brokers:
            # The next process gets the batch in hand again.
            raise BrokersLost("the Kafka client has lost its brokers and would be silent for ever")
        self._handler.beat()
        if self._kept:
            self._silence.reset()
            self._wait_or_retry()
        else:
            self._offsets.check_if_due(self._assigned)
            batch = self._next_batch()
            if batch:
                # The call that returned this batch may have assigned partitions.
                self._offsets.check_if_due(self._assigned)
                self._silence.reset()
                self._handle(batch)
            else:
                self._silence.check(self._consumer)
        self._progress.report_if_due(self._consumer)

    def _next_batch(self) -> list[Received]:
        allowed = self._rate.allowance(self._batch_size)
        if allowed == 0:
            # Short against max.poll.interval.ms, so the worker stays in the group without polling.
            self._silence.reset()
            self._stop.wait(min(self._rate.wait_sec(), MAX_WAIT_SEC))
            return []
        first = self._poll()
        if first is None:
            return []
        messages = [first]
        if allowed > 1:
            messages += self._consumer.consume(allowed - 1, 0)
        if len(messages) < allowed:
            self._stop.wait(LINGER_SEC)
            messages += self._consumer.consume(allowed - len(messages), 0)
        batch = [received for message in messages if (received := self._to_received(message)) is not None]
        self._rate.take(len(batch))
        return batch

    def _poll(self) -> Message | None:
        """Returns the next message, or None after a moment.

        Never waits in librdkafka, which waits by the wall clock (its issue 2145): when the clock is set back by an
        hour, `poll` returns an hour later, and Python handles no signal until then.
        """
        message = self._consumer.poll(0)
        if message is None:
            if self._clock() >= self._wake_at:
                self._wake_at = self._clock() + WAKE_INTERVAL_SEC
                wake(self._consumer)  # librdkafka's own thread may wait as long, and it sends the heartbeats
            self._stop.wait(IDLE_POLL_SEC)
        return message

    def _to_received(self, message: Message) -> Received | None:
        error = message.error()
        if error is not None:
            _raise_if_fatal(error)
            return None
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if topic is None or partition is None or offset is None or partition not in self._assigned:
            return None  # revoked within the same call: the new owner reads it
        return Received(topic, partition, offset, message.value() or b"", headers_of(message))

    def _handle(self, batch: list[Received]) -> None:
        try:
            handled = self._handler.handle(batch)
        except MessagesSkipped as error:
            self._rewind(batch, error)
            return
        except (RetryLater, *DATABASE_DOWN) as error:
            self._keep(batch, error)
            return
        # Crash here => the batch is in the database and is delivered again; the handler finds duplicates.
        self._offsets.commit(batch)
        self._progress.add(handled, batch)
        self._count_failed(handled)
        if self._kept:
            self._resume()

    def _keep(self, batch: list[Received], error: Exception) -> None:
        """Pauses all partitions and tries the same batch again later. A pause discards prefetched messages, so it is
        for outages, not for the rate limit."""
        delay_sec = self._backoff.next_delay_sec()
        self._retry_at = self._clock() + delay_sec
        if not self._kept:
            self._consumer.pause(self._topic_partitions())
        self._kept = batch
        logger.warning("consumer.waiting messages=%d retry_in=%.1fs error=%s", len(batch), delay_sec, one_line(error))

    def _rewind(self, batch: list[Received], skipped: MessagesSkipped) -> None:
        """Drops the batch and reads again from the end of the handler's record. Raises KafkaException."""
        logger.error("consumer.goes_back error=%s", one_line(skipped))
        for partition, (first, _) in spans(batch).items():
            offset = skipped.next_offsets.get(partition, first)
            self._consumer.seek(TopicPartition(self._handler.topic, partition, offset))
        if self._kept:
            self._resume()
        self._stop.wait(MAX_WAIT_SEC)  # no busy loop while the cause persists

    def _wait_or_retry(self) -> None:
        # All partitions are paused: this returns events of the group and no messages. It comes before each try, since a
        # try may take long, and the group waits for a poll.
        message = self._poll()
        if message is not None:
            self._to_received(message)  # raises if the error is fatal
        if self._kept and self._clock() >= self._retry_at:  # a revocation may have taken it
            self._handle(self._kept)

    def _resume(self) -> None:
        self._kept = []
        self._backoff.reset()
        self._consumer.resume(self._topic_partitions())
        logger.info("consumer.resumed")

    def _count_failed(self, handled: Handled) -> None:
        """Each written message offsets one failed message: a few good ones in between do not hide a flood."""
        written = handled.done + handled.duplicates
        self._failed_beyond_written = max(self._failed_beyond_written + handled.failed - written, 0)
        if self._failed_beyond_written > self._poison_limit:
            raise PoisonFlood(
                f"{self._failed_beyond_written} more messages of topic {self._handler.topic} became failed events than "
                f"could be written. Look at them in the admin; COUPON_CONSUMER_POISON_LIMIT is the limit."
            )

    def _on_assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        consumer.incremental_assign(list(partitions))  # before the pause below, which has no effect otherwise
        new = {each.partition for each in partitions}
        self._assigned |= new
        self._offsets.assigned()
        if self._kept:
            consumer.pause(list(partitions))
        else:
            # librdkafka keeps a pause when a partition is revoked: one that was revoked while paused, and comes back,
            # would be silent for ever.
            consumer.resume(list(partitions))
        logger.info("consumer.assigned partitions=%s", numbers(new))

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        gone = {each.partition for each in partitions}
        self._assigned -= gone
        self._offsets.revoked(gone)
        # The new owner gets these messages. The broker would accept a commit from here, and rewind the new owner.
        kept = [message for message in self._kept if message.partition not in gone]
        consumer.incremental_unassign(list(partitions))
        if self._kept and not kept:
            self._resume()
        self._kept = kept
        logger.info("consumer.revoked partitions=%s", numbers(gone))

    def _topic_partitions(self) -> list[TopicPartition]:
        return [TopicPartition(self._handler.topic, partition) for partition in self._assigned]


def _raise_if_fatal(error: KafkaError) -> None:
    # The consumer reports its own fatal error once; after that poll() is silent for ever.
    if is_fatal(error) or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise KafkaException(error)
    if error.code() != KafkaError._PARTITION_EOF:
        logger.warning("consumer.kafka_error error=%s", error.str())
