"""Circuit breakers: while Redis, Kafka or PostgreSQL hangs, requests do not wait for it, except one probe a second.

Eight threads that wait half a second each give sixteen answers a second, and the queue behind them grows. Only calls
without an answer count: a part that refuses at once makes no request wait.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

from django.conf import settings
from redis.exceptions import TimeoutError as RedisTimeoutError

from coupons.errors import DATABASE_DOWN, DatabaseUnavailable, GateUnavailable, LogUnavailable, StateStale, Unconfirmed
from coupons.metrics import BREAKER_REFUSALS, PUBLISH_SECONDS
from coupons.runtime.db_timeouts import NoAnswer, answers_within

ONE_STALL_SEC = 0.05


class Breaker:
    """Opens after `failures` misses in a row that span `span_sec`; then `allow()` lets one caller through every
    `probe_sec`. The callers of one round trip miss at the same moment: that is one miss, and may be over by then.

    A call that ends quickly with an error is neither a miss nor a success, as no request waited for it.

    Thread-safe. One success closes it. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        part: str,
        *,
        failures: int = 2,
        span_sec: float = 0.25,
        probe_sec: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._part = part
        self._limit = failures
        self._span_sec = span_sec
        self._probe_sec = probe_sec
        self._clock = clock
        self._misses = 0
        self._first_at = 0.0
        self._missed_at = -inf
        self.is_open = False
        self._next_probe_at = 0.0
        self._lock = threading.Lock()

    def allow(self) -> bool:
        """Whether the caller may wait for an answer. After True it must call `succeeded` or `missed`."""
        if not self.is_open:
            return True
        with self._lock:
            now = self._clock()
            if now >= self._next_probe_at:
                self._next_probe_at = now + self._probe_sec
                return True
        BREAKER_REFUSALS.labels(self._part).inc()
        return False

    def has_missed_within(self, seconds: float) -> bool:
        return self._clock() - self._missed_at < seconds

    def succeeded(self) -> None:
        self._misses, self.is_open = 0, False

    def missed(self) -> None:
        with self._lock:
            now = self._clock()
            # Counts from the end of the miss: a probe lasts the accept timeout, and the next must not follow at once.
            self._next_probe_at = now + self._probe_sec
            if now - self._missed_at < ONE_STALL_SEC:
                return
            self._missed_at = now
            if not self._misses:
                self._first_at = now
            self._misses += 1
            self.is_open = self._misses >= self._limit and now - self._first_at >= self._span_sec


kafka_breaker, redis_breaker, postgresql_breaker = Breaker("kafka"), Breaker("redis"), Breaker("postgresql")


@contextmanager
def asking_redis() -> Iterator[None]:
    """Guards calls of the gate. Raises GateUnavailable at once while Redis hangs."""
    if not redis_breaker.allow():
        raise GateUnavailable("Redis has not answered for a while; not waiting for it")
    try:
        yield
    except GateUnavailable as error:
        if isinstance(error.__cause__, RedisTimeoutError):
            redis_breaker.missed()
        raise
    except (StateStale, Unconfirmed):  # Redis has answered: its state is stale, or Kafka failed
        redis_breaker.succeeded()
        raise
    redis_breaker.succeeded()


@contextmanager
def confirming() -> Iterator[None]:
    """Guards the call that confirms a ticket. Raises Unconfirmed, as the user keeps the place, or StateStale.

    A machine, and its clock, may have been paused since the admission, and a rebuild without this ticket may have run
    meanwhile: the deadline does not show it (decision 0026).
    """
    try:
        with asking_redis():
            yield
    except GateUnavailable as error:
        raise Unconfirmed(f"Redis has not confirmed in time ({error})") from error


@contextmanager
def asking_kafka() -> Iterator[None]:
    """Guards publishing and the wait for the acknowledgement. Raises Unconfirmed: at once while Kafka hangs, and when
    none came in time."""
    if not kafka_breaker.allow():
        raise Unconfirmed("Kafka has not acknowledged for a while; not waiting for it")
    started = time.monotonic()
    try:
        yield
    except (TimeoutError, LogUnavailable) as error:
        kafka_breaker.missed()
        raise Unconfirmed(f"Kafka has not acknowledged in time ({error})") from error
    kafka_breaker.succeeded()
    PUBLISH_SECONDS.observe(time.monotonic() - started)


@contextmanager
def asking_postgresql() -> Iterator[None]:
    """Guards reads, within `API_DATABASE_TIMEOUT_MS`. Raises DatabaseUnavailable at once while PostgreSQL hangs,
    or a database error."""
    if not postgresql_breaker.allow():
        raise DatabaseUnavailable("PostgreSQL has not answered for a while; not waiting for it")
    try:
        with answers_within(settings.API_DATABASE_TIMEOUT_MS / 1000):
            yield
    except DATABASE_DOWN as error:
        if isinstance(error.__cause__, NoAnswer):
            postgresql_breaker.missed()
        raise
    postgresql_breaker.succeeded()
