"""The start of a worker's process."""

import logging
import threading
import time

from consumers.pace import Backoff
from coupons.errors import LogUnavailable, OperatorError, RetryLater
from coupons.messaging.topics import partition_count

logger = logging.getLogger(__name__)
MISSING_TOPIC_SEC = 10.0
"""A broker that has just started answers before it knows its topics; that took three seconds on a busy machine."""


def wait_for_topic(topic: str, stop: threading.Event, *, patient: bool) -> bool:
    """Waits until Kafka answers and has the topic. Returns False when stopped before.

    Raises OperatorError when the topic stays missing for MISSING_TOPIC_SEC; a patient child goes on waiting.
    """
    backoff, missing_since = Backoff(first_sec=0.5, cap_sec=10), 0.0
    while not stop.is_set():
        try:
            if partition_count() is not None:
                return True
            missing = f"Kafka has no topic {topic}. Make it: manage.py create_topic"
            missing_since = missing_since or time.monotonic()
            if not patient and time.monotonic() - missing_since >= MISSING_TOPIC_SEC:
                raise OperatorError(missing)
            raise LogUnavailable(missing)
        except RetryLater as error:
            delay_sec = backoff.next_delay_sec()
            logger.warning("consumer.waiting_for_kafka retry_in=%.1fs error=%s", delay_sec, error)
            stop.wait(delay_sec)
    return False
