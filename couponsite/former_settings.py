"""Variables that were settings once. One that is still set has no effect, and the start says so (coupons.W013)."""

from collections.abc import Iterable

_OPTION = "an option of run_coupon_consumer"
_FIXED = "fixed in the code"
_STATEMENT = "derived from COUPON_DB_STATEMENT_TIMEOUT_MS"
_DELIVERY = "derived from COUPON_DELIVERY_TIMEOUT_MS"
_ACCEPT = "derived from COUPON_ACCEPT_TIMEOUT_MS"

FORMER = {
    "COUPON_API_DATABASE_TIMEOUT_MS": _ACCEPT,
    "COUPON_API_KEYS_LEASE_MS": _FIXED,
    "COUPON_API_KEYS_REFRESH_MS": _FIXED,
    "COUPON_API_KEYS_USE_SEC": _FIXED,
    "COUPON_BREAKER_FAILURES": _FIXED,
    "COUPON_BREAKER_PROBE_MS": _FIXED,
    "COUPON_CONSUMER_BATCH_SIZE": f"{_OPTION}, --batch-size",
    "COUPON_CONSUMER_CONCURRENCY": f"{_OPTION}, --concurrency",
    "COUPON_CONSUMER_MAX_DEATHS": _FIXED,
    "COUPON_CONSUMER_MAX_RATE": f"{_OPTION}, --max-rate",
    "COUPON_CONSUMER_NICE": "a matter of the service manager (Nice=)",
    "COUPON_CONSUMER_STOP_TIMEOUT_SEC": _FIXED,
    "COUPON_DB_ANSWER_TIMEOUT_MS": _STATEMENT,
    "COUPON_DB_CONNECT_TIMEOUT_SEC": "a parameter of DATABASE_URL, connect_timeout",
    "COUPON_DB_IDLE_TRANSACTION_TIMEOUT_MS": _STATEMENT,
    "COUPON_DB_LOCK_TIMEOUT_MS": _STATEMENT,
    "COUPON_DIRECTORY_ANSWER_TIMEOUT_MS": _FIXED,
    "COUPON_DIRECTORY_REFRESH_MS": _FIXED,
    "COUPON_HEALTH_TIMEOUT_MS": _ACCEPT,
    "COUPON_JWT_LEEWAY_SEC": _FIXED,
    "COUPON_KAFKA_REQUEST_TIMEOUT_MS": _DELIVERY,
    "COUPON_KEEPER_INTERVAL_MS": "an option of run_keeper, --interval-ms",
    "COUPON_LIMIT_MEMORY": _FIXED,
    "COUPON_LOBBY": "COUPON_FRONT",
    "COUPON_LOBBY_LEASE_MS": _FIXED,
    "COUPON_LOBBY_REFRESH_MS": _FIXED,
    "COUPON_LOBBY_WINNERS": _FIXED,
    "COUPON_METRICS_TIMEOUT_MS": _FIXED,
    "COUPON_PRODUCER_LINGER_MS": _FIXED,
    "COUPON_REFUSAL_LEASE_MS": _FIXED,
    "COUPON_REFUSAL_REFRESH_MS": _FIXED,
    "COUPON_REFUSAL_USERS": _FIXED,
    "COUPON_RELAY_AFTER_MS": f"{_ACCEPT} and COUPON_DELIVERY_TIMEOUT_MS",
    "COUPON_RETRY_BATCH_SIZE": "gone, a retry takes one event a transaction",
    "COUPON_RETRY_LEASE_SEC": _FIXED,
    "COUPON_TOPIC_SILENCE_MS": _DELIVERY,
    "COUPON_WARM_UP_TIMEOUT_MS": _DELIVERY,
    "COUPON_WEB_APPLICATIONS": _FIXED,
    "COUPON_WEB_QUEUE": "derived from COUPON_WEB_THREADS",
    "COUPON_WEB_QUEUE_TIMEOUT_MS": _ACCEPT,
    "COUPON_WEB_STOP_TIMEOUT_SEC": _FIXED,
    "COUPON_WORK_LOCK_IDLE_MS": _STATEMENT,
}


def former_among(names: Iterable[str]) -> dict[str, str]:
    """Name -> what it is now, of those that are set."""
    return {name: FORMER[name] for name in sorted(FORMER.keys() & set(names))}
