"""Limits every wait for PostgreSQL on the client's side of the connection.

A stopped server, or a network that drops all packets, enforces no statement_timeout, and libpq waits for ever:
connect_timeout covers only the connection, and the kernel of a host whose server hangs answers keepalives. So psycopg2
delegates its waits to the function below (`set_wait_callback`, made for coroutine libraries): each wait ends after
DB_ANSWER_TIMEOUT_MS, earlier inside `answers_within`, later inside `answers_may_take`. psycopg2 then closes the
connection, as after any other loss of one; `close_old_connections()` lets Django make a new one. The server notices
within a second (client_connection_check_interval) and ends the statement.
"""

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

from django.conf import settings
from psycopg2 import OperationalError
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE, STATUS_SETUP, set_wait_callback
from psycopg2.extensions import connection as Connection  # noqa: N812  a class


class NoAnswer(OperationalError):
    """The wait ended before PostgreSQL answered; the connection is closed. The cause of Django's own error."""


class _Limits(threading.local):
    deadline = inf  # monotonic
    answer_sec: float | None = None  # None: DB_ANSWER_TIMEOUT_MS


_EVENTS = {POLL_READ: select.POLLIN, POLL_WRITE: select.POLLOUT}
_limits = _Limits()


def limit_waits() -> None:
    """Applies to every connection of this process from now on."""
    set_wait_callback(_wait)


@contextmanager
def answers_within(seconds: float) -> Iterator[None]:
    """Gives all statements of this thread inside the block one deadline; raises django.db.OperationalError after it.

    The effect of the last statement is then unknown, as after any lost connection, so use it only for reading.
    """
    before = _limits.deadline
    _limits.deadline = min(before, time.monotonic() + seconds)
    try:
        yield
    finally:
        _limits.deadline = before


@contextmanager
def answers_may_take(seconds: float) -> Iterator[None]:
    """This thread waits so long for each answer inside, for statements over millions of rows.

    `statement_timeout` of the session is the caller's to raise.
    """
    before = _limits.answer_sec
    _limits.answer_sec = seconds
    try:
        yield
    finally:
        _limits.answer_sec = before


def _wait(connection: Connection) -> None:
    limit_sec = _limits.answer_sec or settings.DB_ANSWER_TIMEOUT_MS / 1000
    if connection.status == STATUS_SETUP:
        limit_sec = settings.DB_CONNECT_TIMEOUT_SEC
    deadline = min(time.monotonic() + limit_sec, _limits.deadline)
    while (state := connection.poll()) != POLL_OK:
        waiting = select.poll()  # not select(): a descriptor may be above 1,024
        waiting.register(connection.fileno(), _EVENTS[state])
        if not waiting.poll(max(deadline - time.monotonic(), 0) * 1000):
            raise NoAnswer("PostgreSQL did not answer in time")
