"""Lets one process at a time do a piece of work, on all hosts: advisory locks of PostgreSQL, each held by a transaction
on a connection of its own.

A lock of the session would stay with a pooler's session and be given to whoever comes next; a transaction keeps its
session behind a pooler, too. It holds back no vacuum, since it has no snapshot between two statements.

The lock ends with its transaction: at once when its process dies, and WORK_LOCK_IDLE_MS after its process has stopped
(SIGSTOP, a host that hangs), because the thread that keeps the transaction alive stops too. Another process takes the
work over. One that goes on later does no harm: only the rebuilder that began last swaps its state in, and a message
that is relayed twice is a duplicate.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from coupons.errors import DATABASE_DOWN, one_line

logger = logging.getLogger(__name__)
NAMESPACE = 0x636F7570  # "coup": differs from other programs' locks in the same database
LOCK_HOLDER_SQL = """
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid::bigint = %s AND objid::bigint = %s AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Work(IntEnum):
    REBUILD = 1
    RELAY = 2


@contextmanager
def work_lock(work: Work) -> Iterator[bool]:
    """Yields True when no other process does this work. Raises a database error when PostgreSQL does not answer."""
    session = connections.create_connection("default")
    try:
        session.set_autocommit(False)
        if not _lock(session, work):
            yield False
            return
        with _keep_alive(session):
            yield True
    finally:
        # Crash before this => the server ends the transaction with the connection, as soon as it notices.
        with suppress(*DATABASE_DOWN):
            session.rollback()
        with suppress(*DATABASE_DOWN):
            session.close()


def _lock(session: BaseDatabaseWrapper, work: Work) -> bool:
    with session.cursor() as cursor:
        idle_ms = str(settings.WORK_LOCK_IDLE_MS)
        cursor.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, true)", [idle_ms])
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [NAMESPACE, work])
        if cursor.fetchone() == (True,):
            return True
        cursor.execute(LOCK_HOLDER_SQL, [NAMESPACE, work])
        held_by = cursor.fetchone()
    logger.info("lock.held work=%s by_backend=%s", work.name.lower(), held_by[0] if held_by else "none any more")
    return False


@contextmanager
def _keep_alive(session: BaseDatabaseWrapper) -> Iterator[None]:
    done = threading.Event()

    def keep_alive() -> None:
        try:
            while not done.wait(settings.WORK_LOCK_IDLE_MS / 1000 / 4):
                with session.cursor() as cursor:
                    cursor.execute("SELECT 1")
        except DATABASE_DOWN as error:
            logger.warning("lock.lost error=%s", one_line(error))

    session.inc_thread_sharing()
    thread = threading.Thread(target=keep_alive, name="work-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()  # only one thread at a time may use the connection
        session.dec_thread_sharing()
