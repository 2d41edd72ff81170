"""How every Kafka client of this program is configured."""

import logging
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, Message
from django.conf import settings

Header = tuple[str, str | bytes | None]
Headers = Sequence[Header]

librdkafka_log = logging.getLogger("coupons.librdkafka")


def is_fatal(error: KafkaError) -> bool:
    """Whether the client is of no use any more. Its own fatal error has code _FATAL, and then fatal() is False."""
    return error.fatal() or error.code() == KafkaError._FATAL


def headers_of(message: Message) -> Headers:
    """librdkafka gives a list, or None; the client's types also allow a dictionary."""
    found = message.headers() or ()
    return list(found.items()) if isinstance(found, dict) else found


def client_config(**more: Any) -> dict[str, Any]:
    """Settings shared by producer, consumers and administrator; COUPON_KAFKA_CLIENT_CONFIG adds TLS and SASL."""
    return {
        "bootstrap.servers": settings.KAFKA_BOOTSTRAP_SERVERS,
        "client.id": "coupons",
        # A broker that was restarted is to be found again in a second, not after librdkafka's default of 10 s.
        "reconnect.backoff.max.ms": 1_000,
        # Notice a broker that is cut off without a reset; default: never.
        "socket.keepalive.enable": True,
        "logger": librdkafka_log,
        **settings.KAFKA_CLIENT_CONFIG,
        **more,
    }
