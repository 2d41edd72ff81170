"""Creates a database, a topic and a consumer group for the benchmarks, and removes them from the stack afterwards."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import django
import psycopg2
import psycopg2.extensions
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # re-exported without __all__
from psycopg2 import sql

from benchmarks import BLOG_COUNT

DATABASE = "coupons_bench"
OLDER_DATABASE = f"{DATABASE}_older"
LOCK = 7_205_751


class NotReady(Exception):
    """The benchmarks cannot run here. The text has the reason and what to do."""


@contextmanager
def sandbox() -> Iterator[psycopg2.extensions.connection]:
    """Sets up Django on a database and a topic of its own, and removes them afterwards. Raises NotReady.

    Yields a connection to the stack's usual database. It holds the lock that prevents a second run.
    """
    server, environment = prepare()
    os.environ.update(environment)
    django.setup()
    try:
        set_up()
        yield server
    finally:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not stop the clean-up
        clear(server)
        signal.signal(signal.SIGINT, before)


def prepare() -> tuple[psycopg2.extensions.connection, dict[str, str]]:
    """Creates an empty database, and returns the environment in which the product uses it. The connection holds a
    lock."""
    url = os.environ.get("DATABASE_URL", "")
    if not url:
        raise NotReady("DATABASE_URL is not set: use `make bench`, or `bin/stack exec -- ...`.")
    server = psycopg2.connect(url)
    server.autocommit = True
    with server.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        if cursor.fetchone() != (True,):
            raise NotReady("Other benchmarks are running on this stack. Wait until they have ended.")
    drop_databases(server)
    create_database(server, DATABASE)
    topic = f"coupon_bench_{int(time.time())}"
    return server, {
        "DATABASE_URL": urlunsplit(urlsplit(url)._replace(path=f"/{DATABASE}")),
        "COUPON_TOPIC": topic,
        "COUPON_CONSUMER_GROUP": topic,
        "COUPON_LOG_LEVEL": "WARNING",
        "DJANGO_SETTINGS_MODULE": "couponsite.settings",
    }


def create_database(server: psycopg2.extensions.connection, name: str) -> None:
    with server.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))


def drop_databases(server: psycopg2.extensions.connection) -> None:
    with server.cursor() as cursor:
        for name in (DATABASE, OLDER_DATABASE):
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def set_up() -> None:
    """Creates the tables and the topic; needs Django to be set up."""
    from django.core.management import call_command

    from coupons.messaging.topics import create_topic

    call_command("migrate", verbosity=0)
    create_topic()


def clear(server: psycopg2.extensions.connection) -> None:
    """Removes the campaigns' keys, the topic with its group, and the databases."""
    from django.conf import settings
    from django.db import connection

    from coupons.admission.scripts import admission_redis
    from coupons.messaging.producer import publishers

    delete_campaign_keys()
    admission_redis().delete(BLOG_COUNT)
    connection.close()
    publishers.reset()
    delete_topic(settings.TOPIC)
    drop_databases(server)
    server.close()


def delete_campaign_keys() -> None:
    """Deletes the Redis keys of every campaign in the current database."""
    from coupons.admission.keys import campaign_keys
    from coupons.admission.scripts import admission_redis
    from coupons.models import Campaign

    pipeline = admission_redis().pipeline(transaction=False)
    for campaign_id in Campaign.objects.values_list("pk", flat=True):
        pipeline.unlink(*campaign_keys(campaign_id))
    pipeline.execute()


def delete_topic(topic: str) -> None:
    """Deletes a topic and its consumer group, which has the same name."""
    from coupons.messaging.topics import administrator

    administrator().delete_consumer_groups([topic])[topic].exception()
    administrator().delete_topics([topic])[topic].result()


@contextmanager
def spare_topic(name: str) -> Iterator[str]:
    """Creates another topic, for messages that the product's consumer must not read, and deletes it afterwards."""
    from django.conf import settings

    from coupons.messaging.topics import administrator

    topic = f"{settings.TOPIC}_{name}"
    administrator().create_topics([NewTopic(topic, num_partitions=settings.TOPIC_PARTITIONS)])[topic].result()
    try:
        yield topic
    finally:
        delete_topic(topic)
