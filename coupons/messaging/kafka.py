"""Shared by all Kafka clients of this program: settings, the cause of a failed connection, and statistics."""

import json
import logging
import re
import threading
import time
from collections.abc import Sequence
from math import inf
from typing import Any

from confluent_kafka import KafkaError, Message
from django.conf import settings

Header = tuple[str, str | bytes | None]
Headers = Sequence[Header]

logger = logging.getLogger(__name__)
librdkafka_log = logging.getLogger("coupons.librdkafka")
# These codes report that no broker answered, and not why.
NO_ANSWER_CODES = (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN)
CONNECTION_FAILURE = re.compile(r"FAIL \[.*?\] \[thrd:.*?\]: (.*)", re.DOTALL)
FAILURE_VALID_SEC = 30.0
REPEAT_INTERVAL_SEC = 10.0
MAX_LINES = 1_000
# A client that does start again with bootstrap.servers takes milliseconds.
LOST_AFTER_SEC = 2.0
# Sources of real brokers, by librdkafka's STATISTICS.md. Others are a group's coordinator or the client's own queue.
BROKER_SOURCES = ("learned", "configured")


def is_fatal(error: KafkaError) -> bool:
    """Returns whether the client is of no more use. Its own fatal error has code _FATAL, and then fatal() is False."""
    return error.fatal() or error.code() == KafkaError._FATAL


def headers_of(message: Message) -> Headers:
    """Returns a message's headers. The client returns a list or None; its types also allow a dictionary."""
    found = message.headers() or ()
    return list(found.items()) if isinstance(found, dict) else found


class ConnectionLog(logging.Filter):
    """Filters what librdkafka logs (at `poll`): remembers why the last connection failed, and passes lines that differ
    only in numbers once per interval. A client that cannot reach its broker logs ten lines a second."""

    def __init__(self) -> None:
        super().__init__()
        self._failure, self._failed_at = "", 0.0
        self._passed_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        line, now = record.getMessage(), time.monotonic()
        if failed := CONNECTION_FAILURE.match(line):
            self._failure, self._failed_at = failed[1], now
        if len(self._passed_at) > MAX_LINES:
            self._passed_at.clear()
        kind = re.sub(r"\d+", "", line)
        if now - self._passed_at.get(kind, -inf) < REPEAT_INTERVAL_SEC:
            return False
        self._passed_at[kind] = now
        return True

    def last_failure(self) -> str:
        return self._failure if time.monotonic() - self._failed_at < FAILURE_VALID_SEC else ""


connection_log = ConnectionLog()
librdkafka_log.addFilter(connection_log)


def describe_error(error: KafkaError) -> str:
    """Returns the error's text. Where it only says that no broker answered, adds why the last connection failed: a
    certificate, a password. A client without a polling thread must be polled before."""
    reason = connection_log.last_failure() if error.code() in NO_ANSWER_CODES else ""
    return f"{error.str()} ({reason})" if reason else error.str()


def client_config(**more: Any) -> dict[str, Any]:
    """Settings shared by producer, consumers and administrator; COUPON_KAFKA_CLIENT_CONFIG adds TLS and SASL."""
    return {
        "bootstrap.servers": settings.KAFKA_BOOTSTRAP_SERVERS,
        "client.id": "coupons",
        # Reconnect to a restarted broker within a second, not after librdkafka's default of 10 s.
        "reconnect.backoff.max.ms": 1_000,
        # Notice a broker that is cut off without a reset; default: never.
        "socket.keepalive.enable": True,
        # Close a connection before a balancer drops it without a word, as it does after a minute or more of silence.
        "connections.max.idle.ms": 20_000,
        # Limits the wait for an answer that was lost on a link that stays up. By default a client waits a minute in
        # silence: a group's member for its coordinator, an idempotent producer for its id.
        "socket.timeout.ms": 10_000,
        # Nobody makes the topic by asking for it, as a broker with auto.create.topics.enable (Kafka's default) would:
        # with one partition and its own settings. librdkafka's list calls it a consumer's; producers and
        # administrators, whose default is true, obey it too (tried with 2.16).
        "allow.auto.create.topics": False,
        # Learn of partitions that are added to the topic in seconds. By default five minutes.
        "topic.metadata.refresh.interval.ms": 5_000,
        "logger": librdkafka_log,
        **settings.KAFKA_CLIENT_CONFIG,
        **more,
    }


class BrokersLost(Exception):
    """The client does not connect to any broker again: only a new client helps."""


class ClientStatistics:
    """What the statistics of one client tell: that a producer has its id, and that the client has lost its brokers.

    `has_lost_brokers` becomes true when the statistics name no broker for LOST_AFTER_SEC, by the client's own clock (a
    busy process may read them late). librdkafka drops a broker that the metadata no longer name. After the last one it
    should start again with bootstrap.servers, and sometimes does not: such a client stays without a broker for ever,
    and reports no error (docs/decisions/0006).
    """

    def __init__(self) -> None:
        self.has_producer_id = threading.Event()
        self.has_lost_brokers = False
        self._none_since_us: int | None = None

    def read(self, document: str) -> None:
        """Serves as librdkafka's `stats_cb`. Never raises: poll() would raise the error."""
        try:
            statistics = json.loads(document)
            if statistics.get("eos", {}).get("idemp_state") == "Assigned":
                self.has_producer_id.set()
            now_us = int(statistics.get("ts", 0))
            if any(broker.get("source") in BROKER_SOURCES for broker in statistics.get("brokers", {}).values()):
                self._none_since_us = None
            elif self._none_since_us is None:
                self._none_since_us = now_us
            none_for_us = 0 if self._none_since_us is None else now_us - self._none_since_us
            self.has_lost_brokers = none_for_us >= LOST_AFTER_SEC * 1_000_000
        except (ValueError, TypeError, AttributeError):
            logger.exception("kafka.statistics_unreadable")
