"""One at a time, among all hosts: advisory locks of PostgreSQL, which end with the connection that holds them."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from django.db import connection

NAMESPACE = 0x636F7570  # "coup": keeps clear of other programs' locks in the same database


class Work(IntEnum):
    MEND = 1
    RELAY = 2


@contextmanager
def only_one(work: Work) -> Iterator[bool]:
    """True inside when nobody else does this work. A session lock: it needs a connection of its own all along, so a
    pooler in transaction mode must not stand between."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [NAMESPACE, work])
        row = cursor.fetchone()
    mine = bool(row and row[0])
    try:
        yield mine
    finally:
        # Crash or a lost connection before this => the server has ended the lock with the session.
        if mine and connection.connection is not None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [NAMESPACE, work])
