"""Publishes tickets to the topic. Only Kafka's acknowledgement counts: after a time-out the message may be in the log.

Each process makes its own producer: librdkafka's threads do not survive a fork, and a child's flush() on its parent's
producer would wait for reports that never come.
"""

import logging
import threading
import time
from concurrent.futures import Future
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from django.conf import settings

from coupons.errors import LogUnavailable
from coupons.messaging.kafka import ClientStatistics, client_config, is_fatal
from coupons.messaging.messages import Ticket, encode
from coupons.messaging.positions import Position
from coupons.messaging.signing import sign
from coupons.runtime.process_local import ProcessLocal

logger = logging.getLogger(__name__)
POLL_SEC = 0.1
LINGER_MS = 5
STICKY_PARTITION_MS = 50
"""How long messages, which have no key, go to one partition, so that one request carries them (decision 0012)."""
REPORT_BATCHING_SEC = 0.002
FAILURE_LOG_INTERVAL_SEC = 5.0


class Publisher:
    """A producer, and the thread that polls it so that delivery reports arrive without traffic.

    `is_broken` when it will never deliver again. Its queued messages fail then, and may be in the log all the same.
    """

    def __init__(self) -> None:
        self._stopped = False
        self._statistics = ClientStatistics()
        self.is_broken = False
        self._failed_deliveries = 0
        self._logged_at = -FAILURE_LOG_INTERVAL_SEC
        self._producer = Producer(
            client_config(
                **{
                    "acks": "all",
                    "enable.idempotence": True,
                    "compression.type": "lz4",
                    "linger.ms": LINGER_MS,
                    "sticky.partitioning.linger.ms": STICKY_PARTITION_MS,
                    # Later the producer drops a message and its ticket stays pending: the relay publishes it again.
                    "delivery.timeout.ms": settings.DELIVERY_TIMEOUT_MS,
                    # Below the delivery time-out, so that the producer leaves a hanging broker and tries again.
                    "request.timeout.ms": max(settings.DELIVERY_TIMEOUT_MS // 2, 500),
                    # Only the statistics show when the producer has its id and so can send (`wait_until_ready`),
                    # and when it has lost its brokers.
                    "statistics.interval.ms": 250,
                    "stats_cb": self._statistics.read,
                }
            )
        )
        self._thread = threading.Thread(target=self._poll, name="producer-poll", daemon=True)
        self._thread.start()

    def publish(self, ticket: Ticket) -> Future[Position | None]:
        """Queues the ticket's message. The producer's thread sets the result: the message's position, or None when the
        broker has the message and did not say where (an idempotent producer's second try), or LogUnavailable. Then the
        message may be in the log all the same."""
        delivered: Future[Position | None] = Future()
        try:
            payload = encode(ticket)
            self._producer.produce(
                settings.TOPIC,
                payload,
                headers=sign(payload),
                on_delivery=partial(self._report, delivered),
            )
        except (BufferError, KafkaException) as error:  # BufferError: the queue is full
            if isinstance(error, KafkaException):
                self._mark_broken_if_fatal(error.args[0])
            delivered.set_exception(LogUnavailable(f"Kafka, produce: {error}"))
        return delivered

    def wait_until_ready(self, timeout_sec: float) -> bool:
        """Waits until the broker has given this producer its id. A process calls this before it serves: librdkafka asks
        once a second, so the first message would take longer than the accept timeout."""
        return self._statistics.has_producer_id.wait(timeout_sec)

    def flush(self, timeout_sec: float) -> int:
        """Waits for the reports of what is queued, and returns how many are still missing."""
        return self._producer.flush(timeout_sec)

    def close(self) -> None:
        # Crash or time-out here => the tickets are still marked unpublished in Redis, and the relay publishes them.
        left = self.flush(settings.DELIVERY_TIMEOUT_MS / 1000)
        if left:
            logger.warning("producer.closed_with_messages count=%d", left)
        self._stopped = True
        self._thread.join(timeout=2 * POLL_SEC)

    def _poll(self) -> None:
        while not self._stopped:
            try:
                served = self._producer.poll(POLL_SEC)
            except KafkaException as error:  # poll() raises a fatal error once; reports still arrive after it
                self._mark_broken_if_fatal(error.args[0])
                served = 1
            if self._statistics.has_lost_brokers:
                self._mark_broken("lost_brokers")
            if served:
                # Let more reports arrive: each wake-up of this thread takes the interpreter from a request.
                time.sleep(REPORT_BATCHING_SEC)

    def _mark_broken_if_fatal(self, error: KafkaError) -> None:
        if is_fatal(error):
            self._mark_broken(f"failed_fatally error={error.str()}")

    def _mark_broken(self, how: str) -> None:
        if not self.is_broken:
            logger.error("producer.%s", how)
            self.is_broken = True

    def _report(self, delivered: Future[Position | None], error: KafkaError | None, message: Message) -> None:
        if error is None:
            partition, offset = message.partition(), message.offset()
            delivered.set_result(None if partition is None or offset is None else Position(partition, offset))
            return
        self._mark_broken_if_fatal(error)
        self._failed_deliveries += 1
        if time.monotonic() - self._logged_at > FAILURE_LOG_INTERVAL_SEC:
            logger.warning("producer.refused count=%d error=%s", self._failed_deliveries, error.str())
            self._logged_at, self._failed_deliveries = time.monotonic(), 0
        delivered.set_exception(LogUnavailable(f"Kafka, delivery: {error}"))


publishers = ProcessLocal(Publisher, close=Publisher.close)


def publisher() -> Publisher:
    """Returns this process's publisher. Replaces one that had a fatal error or has lost its brokers."""
    made = publishers()
    return publishers.replace(made) if made.is_broken else made
