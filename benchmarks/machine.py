"""Describes the machine and the versions of a measurement, without names of hosts or folders."""

import os
import platform
import subprocess
from importlib.metadata import version
from typing import Any

from django.conf import settings
from django.db import connection

from benchmarks import load
from coupons.admission.scripts import admission_redis
from coupons.messaging.producer import LINGER_MS
from harness import CHECKOUT, describe_machine

PACKAGES = ("django", "djangorestframework", "granian", "confluent-kafka", "redis", "django-redis", "psycopg2-binary")


def describe() -> dict[str, Any]:
    redis: Any = admission_redis().info("server")
    connection.ensure_connection()
    return {
        "machine": describe_machine(),
        "versions": {
            "python": platform.python_version(),
            "postgresql": connection.cursor().connection.info.parameter_status("server_version"),
            "redis-server": redis["redis_version"],
            **{name: version(name) for name in PACKAGES},
            "wrk": load.version_of_wrk(),
            "vegeta": load.version_of_vegeta(),
            "commit": commit(),
        },
        "settings": {
            "web_workers": os.environ.get("COUPON_WEB_WORKERS", "bin/web's default"),
            "web_threads": os.environ.get("COUPON_WEB_THREADS", "bin/web's default"),
            "topic_partitions": settings.TOPIC_PARTITIONS,
            "consumer_batch_size": settings.CONSUMER_BATCH_SIZE,
            "producer_linger_ms": LINGER_MS,
        },
    }


def commit() -> str:
    """The commit that is checked out, and whether tracked files have changes."""
    head = _output_of(["git", "-C", str(CHECKOUT), "rev-parse", "--short=12", "HEAD"]) or "unknown"
    changed = _output_of(["git", "-C", str(CHECKOUT), "status", "--porcelain", "--untracked-files=no"])
    return f"{head} with changes" if changed else head


def _output_of(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
