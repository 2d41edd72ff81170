"""Defines every metric of the processes, with its meaning. Names follow the Prometheus conventions.

The processes keep the values in PROMETHEUS_MULTIPROC_DIR (bin/web sets it), and /metrics sums them up; those of the
whole service (pending, lag, issued, failed) are read at the scrape (coupons/api/service_metrics.py).
"""

import os
from functools import cache

from prometheus_client import Counter, Histogram

ARE_SHARED = "PROMETHEUS_MULTIPROC_DIR" in os.environ
"""prometheus_client decides by the same variable, and when it is imported."""

APPLIES = Counter("coupon_applies_total", "Applications answered, by outcome", ["outcome"])
APPLY_SECONDS = Histogram(
    "coupon_apply_duration_seconds",
    "From the start of an application's Redis call to its answer, by outcome, without cached refusals",
    ["outcome"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0),
)


@cache
def apply_metrics(outcome: str) -> tuple[Counter, Histogram]:
    """Returns both metrics of this outcome, cached because `labels()` takes a lock each time."""
    return APPLIES.labels(outcome), APPLY_SECONDS.labels(outcome)


CACHED_REFUSALS = Counter(
    "coupon_cached_refusals_total", "Applications of coupon_applies_total that were refused without a call to Redis"
)
LIMITED = Counter("coupon_limited_total", "Requests answered with 429, by the limit they reached", ["limit"])
GATE_SECONDS = Histogram(
    "coupon_gate_duration_seconds",
    "One admission script, from the call to the reply",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5),
)
PUBLISH_SECONDS = Histogram(
    "coupon_publish_duration_seconds",
    "From producing a message to Kafka's acknowledgement",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
BREAKER_REFUSALS = Counter(
    "coupon_breaker_refusals_total", "Calls that a circuit breaker refused because a part hangs", ["part"]
)
QUEUE_REFUSALS = Counter(
    "coupon_queue_refusals_total",
    "Requests answered with 503 before any work, because the line was full or the wait too long",
    ["line", "reason"],
)
QUEUE_SECONDS = Histogram(
    "coupon_queue_wait_seconds",
    "Waits of the requests that found no free place or thread, served or not",
    ["line"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
