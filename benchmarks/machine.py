"""What a figure was measured on: machine and versions, without names of hosts or folders."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

from benchmarks import vegeta_load
from benchmarks.services import CHECKOUT
from coupons.admission.scripts import admission_redis

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
            "wrk": wrk_version(),
            "vegeta": vegeta_load.version(),
            "commit": commit(),
        },
        "settings": {
            "web_workers": os.environ.get("COUPON_WEB_WORKERS", "bin/web's default"),
            "web_threads": os.environ.get("COUPON_WEB_THREADS", "bin/web's default"),
            "topic_partitions": settings.TOPIC_PARTITIONS,
            "consumer_batch_size": settings.CONSUMER_BATCH_SIZE,
            "producer_linger_ms": settings.PRODUCER_LINGER_MS,
        },
    }


def describe_machine() -> dict[str, Any]:
    """Asks no server."""
    memory_kib = int(Path("/proc/meminfo").read_text().split(maxsplit=2)[1])
    return {
        "cpus": os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gib": round(memory_kib / 1024**2, 1),
        "kernel": platform.release(),
        "load_average_at_start": os.getloadavg(),
    }


def commit() -> str:
    """What is checked out, and whether files differ from it."""
    head = _said(["git", "-C", str(CHECKOUT), "rev-parse", "--short=12", "HEAD"]) or "unknown"
    changed = _said(["git", "-C", str(CHECKOUT), "status", "--porcelain", "--untracked-files=no"])
    return f"{head} with changes" if changed else head


def wrk_version() -> str:
    found = re.match(r"wrk (?:debian/)?(\S+)", _said(["wrk", "-v"]))
    return found[1] if found else "none"


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _cpu_model() -> str:
    names = (
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    )
    return next(names, platform.machine())
