"""Waits for the topic before a worker starts, and stops the worker when its parent process dies."""

import logging
import os
import sys
import threading
import time
from typing import NoReturn

from consumers.pace import Backoff
from coupons.errors import LogUnavailable, OperatorError, RetryLater
from coupons.messaging.topics import partition_count

logger = logging.getLogger(__name__)
PARENT_WATCH_SEC = 0.5
STOP_TIMEOUT_SEC = 30
"""A worker whose parent was killed may finish its batch; then its partitions go to others."""
MISSING_TOPIC_SEC = 10.0
"""A broker that has just started answers before it knows its topics; that took three seconds on a busy machine."""
EXIT_HANGS = 71


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


def exit_immediately(exit_code: int) -> NoReturn:
    """Ends a process in which a thread hangs, after flushing its output. All its work must be committed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def stop_when_parent_dies(parent_pid: int, stop: threading.Event) -> None:
    """A killed parent passes no stop on, so its children notice: they finish their batch and leave the group."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            if stop.wait(PARENT_WATCH_SEC):
                return
        logger.warning("consumer.parent_gone pid=%d", parent_pid)
        stop.set()
        time.sleep(STOP_TIMEOUT_SEC)
        # No parent is left to kill a worker that hangs, and the worker would hold its partitions.
        logger.error("consumer.not_finished after=%ds", STOP_TIMEOUT_SEC)
        os._exit(EXIT_HANGS)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
