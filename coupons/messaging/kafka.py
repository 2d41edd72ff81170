"""What every Kafka client of this program shares: its settings, why it cannot reach its broker, and whether it ever
will again."""

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from confluent_kafka import KafkaError, Message
from django.conf import settings

Header = tuple[str, str | bytes | None]
Headers = Sequence[Header]

logger = logging.getLogger(__name__)
librdkafka_log = logging.getLogger("coupons.librdkafka")
# What a call that was in vain ends with: they tell that nobody answered, and never why.
NO_ANSWER_CODES = (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN)
CONNECTION_FAILURE = re.compile(r"FAIL \[.*?\] \[thrd:.*?\]: (.*)", re.DOTALL)
FAILURE_VALID_SEC = 30.0
REPEAT_INTERVAL_SEC = 10.0
MAX_LINES = 1_000
# The beginning anew, where it happens, takes milliseconds.
LOST_AFTER_SEC = 2.0
# Who named a broker, as STATISTICS.md has it. The others are no servers: a group's coordinator, the client's own queue.
BROKER_SOURCES = ("learned", "configured")


def is_fatal(error: KafkaError) -> bool:
    """Whether the client is of no use any more. Its own fatal error has code _FATAL, and then fatal() is False."""
    return error.fatal() or error.code() == KafkaError._FATAL


def headers_of(message: Message) -> Headers:
    """librdkafka gives a list, or None; the client's types also allow a dictionary."""
    found = message.headers() or ()
    return list(found.items()) if isinstance(found, dict) else found


class ConnectionLog(logging.Filter):
    """Reads what librdkafka logs (at `poll`): remembers what the last connection failed of, and lets lines that differ
    in numbers alone pass once per interval. A broker that is not reached gives ten a second, of each client."""

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
    """The error, and where it only says that nobody answered, what the last connection failed of: a certificate, a
    password. A client that nobody else polls must be polled before."""
    reason = connection_log.last_failure() if error.code() in NO_ANSWER_CODES else ""
    return f"{error.str()} ({reason})" if reason else error.str()


def client_config(**more: Any) -> dict[str, Any]:
    """Settings shared by producer, consumers and administrator; COUPON_KAFKA_CLIENT_CONFIG adds TLS and SASL."""
    return {
        "bootstrap.servers": settings.KAFKA_BOOTSTRAP_SERVERS,
        "client.id": "coupons",
        # A broker that was restarted is to be found again in a second, not after librdkafka's default of 10 s.
        "reconnect.backoff.max.ms": 1_000,
        # Notice a broker that is cut off without a reset; default: never.
        "socket.keepalive.enable": True,
        # An answer that was lost on a link that stays. By default a client waits a minute for it, in silence: a group's
        # member for who coordinates it, an idempotent producer for its id.
        "socket.timeout.ms": 10_000,
        "logger": librdkafka_log,
        **settings.KAFKA_CLIENT_CONFIG,
        **more,
    }


class BrokersLost(Exception):
    """A client that connects to nobody any more: only a new one helps."""


class KnownBrokers:
    """The brokers that one client knows; `update` gets each of its statistics. `are_lost` when they have named none for
    LOST_AFTER_SEC, by the client's own clock (a busy process may read them late).

    librdkafka drops a broker that metadata no longer name. When it was the last one it is to begin again with
    bootstrap.servers, and sometimes does not: such a client is connected to no broker for ever, and no error says so
    (docs/decisions/0006).
    """

    def __init__(self) -> None:
        self.are_lost = False
        self._none_since_us: int | None = None

    def update(self, statistics: Mapping[str, Any]) -> None:
        if any(broker.get("source") in BROKER_SOURCES for broker in statistics.get("brokers", {}).values()):
            self._none_since_us, self.are_lost = None, False
            return
        now_us = int(statistics.get("ts", 0))
        if self._none_since_us is None:
            self._none_since_us = now_us
        self.are_lost = now_us - self._none_since_us >= LOST_AFTER_SEC * 1_000_000

    def on_statistics(self, document: str) -> None:
        """librdkafka's `stats_cb`. Never raises: that would come out of poll()."""
        try:
            self.update(json.loads(document))
        except (ValueError, TypeError, AttributeError):
            logger.exception("kafka.statistics_unreadable")
