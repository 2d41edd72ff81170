"""Creates a database and a topic for the benchmarks, and removes them from the stack afterwards."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import django
import psycopg2
import psycopg2.extensions

from harness import without_interrupts

DATABASE = "coupons_bench"
OLDER_DATABASE = f"{DATABASE}_older"
LOCK = 7_205_751


@contextmanager
def sandbox() -> Iterator[psycopg2.extensions.connection]:
    """Sets up Django on a database and a topic of its own, and removes them afterwards.

    Yields a connection to the stack's usual database. It holds the lock that prevents a second run. Exits with the
    reason where the benchmarks cannot run.
    """
    url = os.environ.get("DATABASE_URL", "")
    if not url:
        sys.exit("bench: DATABASE_URL is not set: use `make bench`, or `bin/stack exec -- ...`.")
    server = psycopg2.connect(url)
    server.autocommit = True
    with server.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        if cursor.fetchone() != (True,):
            sys.exit("bench: other benchmarks are running on this stack. Wait until they have ended.")
    drop_databases(server)
    create_database(server, DATABASE)
    topic = f"coupon_bench_{int(time.time())}"
    os.environ |= {
        "DATABASE_URL": with_path(url, DATABASE),
        "COUPON_TOPIC": topic,
        "COUPON_CONSUMER_GROUP": topic,
        "COUPON_LOG_LEVEL": "WARNING",
        "DJANGO_SETTINGS_MODULE": "couponsite.settings",
    }
    django.setup()
    from benchmarks.workload import create_stores, remove_stores  # models can only be imported after django.setup()

    try:
        create_stores()
        yield server
    finally:
        with without_interrupts():
            remove_stores()
            drop_databases(server)
            server.close()


def create_database(server: psycopg2.extensions.connection, name: str) -> None:
    server.cursor().execute(f"CREATE DATABASE {name} TEMPLATE template0")


def drop_databases(server: psycopg2.extensions.connection) -> None:
    for name in (DATABASE, OLDER_DATABASE):
        server.cursor().execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def with_path(url: str, path: object) -> str:
    """The URL with another path: the name of a database, or a number in Redis."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{path}"))
