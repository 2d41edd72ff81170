"""Retries an action while other faults take servers down."""

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg2
from confluent_kafka import KafkaException
from django.db import connection
from redis.exceptions import RedisError

from coupons.errors import DATABASE_DOWN, RetryLater

T = TypeVar("T")
DOWN = (RetryLater, RedisError, KafkaException, psycopg2.Error, *DATABASE_DOWN)
SETTLE_SEC = 60.0


def retry_until_true(attempt: Callable[[], T]) -> T:
    """Calls `attempt` until it returns a true value, and ignores servers that are down. Raises TimeoutError after
    SETTLE_SEC, with the last error as its cause."""
    deadline = time.monotonic() + SETTLE_SEC
    while True:
        error: Exception | None = None
        try:
            if value := attempt():
                return value
        except DOWN as raised:
            error = raised
        connection.close()
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {SETTLE_SEC:.0f} s") from error
        time.sleep(0.2)
