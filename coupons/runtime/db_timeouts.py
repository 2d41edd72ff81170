"""No wait for PostgreSQL without an end, on this side of the connection.

statement_timeout and lock_timeout are the server's. A server that was stopped, or a network that swallows everything,
keeps neither, and libpq waits for an answer for ever: connect_timeout is for the connection alone, and TCP keepalives
are answered by the kernel of a host whose server hangs. psycopg2 hands its waits to a function of ours instead
(`set_wait_callback`, made for coroutine libraries): each wait ends after `DB_ANSWER_TIMEOUT_MS`, earlier inside
`answers_within`, later inside `answers_may_take`. psycopg2 then closes the connection, as after any other loss of one;
`close_old_connections()` lets Django make a new one. The server notices within a second
(client_connection_check_interval) and ends the statement.
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


_EVENTS = {POLL_READ: select.POLLIN, POLL_WRITE: select.POLLOUT}
_thread = threading.local()


def limit_waits() -> None:
    """From now on, for every connection of this process."""
    set_wait_callback(_wait)


@contextmanager
def unlimited_waits() -> Iterator[None]:
    """For COPY, which psycopg2 refuses beside a wait callback, and for statements that take minutes.

    Of all threads, so for programs that have one only.
    """
    set_wait_callback(None)
    try:
        yield
    finally:
        limit_waits()


@contextmanager
def answers_within(seconds: float) -> Iterator[None]:
    """All that this thread asks PostgreSQL inside must be answered by then, else django.db.OperationalError.

    What the statement did is unknown then, as after any lost connection: for reading.
    """
    before = getattr(_thread, "deadline", inf)
    _thread.deadline = min(before, time.monotonic() + seconds)
    try:
        yield
    finally:
        _thread.deadline = before


@contextmanager
def answers_may_take(seconds: float) -> Iterator[None]:
    """This thread waits so long for each answer inside, for statements over millions of rows.

    `statement_timeout` of the session is the caller's to raise.
    """
    before = getattr(_thread, "answer_sec", None)
    _thread.answer_sec = seconds
    try:
        yield
    finally:
        _thread.answer_sec = before


def _wait(connection: Connection) -> None:
    connecting = connection.status == STATUS_SETUP
    limit_sec = settings.DB_CONNECT_TIMEOUT_SEC if connecting else _answer_sec()
    deadline = min(time.monotonic() + limit_sec, getattr(_thread, "deadline", inf))
    while (state := connection.poll()) != POLL_OK:
        if not _is_ready(connection.fileno(), _EVENTS[state], deadline - time.monotonic()):
            raise NoAnswer("PostgreSQL did not answer in time")


def _answer_sec() -> float:
    longer: float | None = getattr(_thread, "answer_sec", None)
    return longer or settings.DB_ANSWER_TIMEOUT_MS / 1000


def _is_ready(descriptor: int, event: int, wait_sec: float) -> bool:
    waiting = select.poll()  # not select(): a descriptor may be above 1,024
    waiting.register(descriptor, event)
    return bool(waiting.poll(max(wait_sec, 0) * 1000))
