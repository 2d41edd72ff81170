"""Describes the machine and the versions of a measurement, without names of hosts or folders."""

import os
import platform
import subprocess
from importlib.metadata import version
from typing import Any

from django.conf import settings
from django.db import connection

from benchmarks.load import VEGETA
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
            "wrk": version_of_wrk(),
            "vegeta": version_of_vegeta(),
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


def version_of_wrk() -> str:
    said = _output_of(["wrk", "-v"]).split()
    return said[1].removeprefix("debian/") if said else "none"


def version_of_vegeta() -> str:
    """The version that bin/stack installed: a vegeta built by `go install` does not know its version."""
    stamp = VEGETA.with_name("vegeta.version")
    return stamp.read_text().strip() if stamp.exists() else "none"


def commit() -> str:
    """The commit that is checked out, and whether tracked files have changes."""
    described = ["describe", "--always", "--exclude=*", "--abbrev=12", "--dirty= with changes"]
    return _output_of(["git", "-C", str(CHECKOUT), *described]) or "unknown"


def _output_of(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
