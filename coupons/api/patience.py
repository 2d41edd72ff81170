"""How long a request waits for a part: each behind a breaker, so that a part that hangs does not hold all threads.

Eight threads that wait half a second each are sixteen answers a second; behind them the queue grows, and admission with
it. Only calls without an answer count: a part that refuses at once costs nobody a wait.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from redis.exceptions import TimeoutError as RedisTimeoutError

from coupons.api.breaker import Breaker
from coupons.errors import DATABASE_DOWN, DatabaseUnavailable, GateUnavailable, StateStale, Unconfirmed
from coupons.metrics import BREAKER_REFUSALS
from coupons.runtime.db_timeouts import NoAnswer, answers_within

SPAN_SEC = 0.25


def _breaker() -> Breaker:
    probe_sec = settings.BREAKER_PROBE_MS / 1000
    return Breaker(failures=settings.BREAKER_FAILURES, span_sec=SPAN_SEC, probe_sec=probe_sec)


kafka_breaker, redis_breaker, postgresql_breaker = _breaker(), _breaker(), _breaker()


@contextmanager
def asking_redis() -> Iterator[None]:
    """Around calls of the gate. Raises GateUnavailable at once while Redis hangs."""
    if not redis_breaker.allow():
        BREAKER_REFUSALS.labels("redis").inc()
        raise GateUnavailable("Redis has not answered for a while; not waiting for it")
    try:
        yield
    except GateUnavailable as error:
        if isinstance(error.__cause__, RedisTimeoutError):
            redis_breaker.missed()
        raise
    except (StateStale, Unconfirmed):  # it has answered; what is wrong is its state, or Kafka
        redis_breaker.succeeded()
        raise
    redis_breaker.succeeded()


@contextmanager
def asking_postgresql() -> Iterator[None]:
    """Around reads, within COUPON_API_DATABASE_TIMEOUT_MS. Raises DatabaseUnavailable at once while PostgreSQL hangs,
    or a database error."""
    if not postgresql_breaker.allow():
        BREAKER_REFUSALS.labels("postgresql").inc()
        raise DatabaseUnavailable("PostgreSQL has not answered for a while; not waiting for it")
    try:
        with answers_within(settings.API_DATABASE_TIMEOUT_MS / 1000):
            yield
    except DATABASE_DOWN as error:
        if isinstance(error.__cause__, NoAnswer):
            postgresql_breaker.missed()
        raise
    postgresql_breaker.succeeded()
