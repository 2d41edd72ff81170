"""A limit of how many requests wait: what cannot be served soon is answered 503 at once, before Django.

granian has a queue of its own before its threads, without a limit but the number of connections and without a time: a
request that waited ten seconds looks like any other. So bin/web gives it more threads than may run Django. Each request
has a thread at once; here it gets one of the places, waits in line for one, or is refused. A place goes from hand to
hand in the order of arrival: else a newcomer could take it before one who waits is awake.

Applications have a line of their own. They wait for Redis and Kafka alone, each of which takes many at a time for the
price of one (coupons/admission/together.py), so more of them run at once; and none of them needs a connection of
PostgreSQL, of which there are few. What is not the API has its lines too: a load balancer and a Prometheus server get
their answers, and operators can pause a campaign, while users stand in line.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from django.conf import settings
from django.core.cache import close_caches
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper

from coupons.api.problem_responses import body_of, outages
from coupons.problems import CONTENT_TYPE, RETRY_SOON_SEC, Code, Problem
from coupons.telemetry import QUEUE_REFUSALS, QUEUE_SECONDS
from couponsite.middleware import API_PREFIX

APPLY_SUFFIX = "/apply"
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
SIDE_PLACES, SIDE_WAITING = 2, 4
"""Of the probes and of the pages (the operators' and the documents), each."""
SPARE_THREADS = 4
"""For those who are refused: what they cost is a fraction of a millisecond."""
_PROBLEM = Problem(
    Code.UNAVAILABLE,
    "Too many requests at this moment. Repeat the same request after Retry-After.",
    RETRY_SOON_SEC,  # longer would let newcomers in before who was here first (decision 0019)
)
_BODY = body_of(_PROBLEM.document())


def threads_needed(*, applications: int, places: int, waiting: int) -> int:
    """How many threads the server must have, so that each request meets a line at once. bin/web says it in shell."""
    return applications + places + 2 * waiting + 2 * (SIDE_PLACES + SIDE_WAITING) + SPARE_THREADS


class Place:
    """The right to run Django, with the database connections that go with it.

    Django keeps its connections by thread, and there are many more threads than places here: each that once had a place
    would hold a connection of PostgreSQL for ever.
    """

    def __init__(self) -> None:
        self._connections: Sequence[BaseDatabaseWrapper] = ()

    def take(self) -> None:
        for connection in self._connections:
            connections[connection.alias] = connection
            connection.close_if_unusable_or_obsolete()

    def leave(self) -> None:
        self._connections = connections.all(initialized_only=True)
        for connection in self._connections:
            connection.close_if_unusable_or_obsolete()
            if not connection.allow_thread_sharing:
                connection.inc_thread_sharing()  # one thread at a time has it, which is all that psycopg2 asks for
            del connections[connection.alias]


class Refusal(StrEnum):
    FULL = "full"
    LATE = "late"


class _Waiting:
    """One who waits; the lock is released when the place is theirs."""

    def __init__(self) -> None:
        self.place: Place | None = None
        self.called = threading.Lock()
        self.called.acquire()


class Line:
    """So many places, and at most so many who wait for one, none longer than the time-out; first come, first served."""

    def __init__(self, name: str, *, places: int, waiting: int, timeout_sec: float) -> None:
        self.name = name
        self._free = [Place() for _ in range(places)]
        self._most = waiting
        self._timeout_sec = timeout_sec
        self._waiting: deque[_Waiting] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def enter(self) -> Place | Refusal:
        with self._lock:
            if self._free:
                return self._free.pop()
            if len(self._waiting) >= self._most:
                return Refusal.FULL
            mine = _Waiting()
            self._waiting.append(mine)
        with QUEUE_SECONDS.labels(self.name).time():
            mine.called.acquire(timeout=self._timeout_sec)
        with self._lock:
            if mine.place is None:
                self._waiting.remove(mine)
                return Refusal.LATE
        return mine.place

    def leave(self, place: Place) -> None:
        with self._lock:
            if not self._waiting:
                self._free.append(place)
                return
            first = self._waiting.popleft()
            first.place = place
        first.called.release()


class QueueLimit:
    """Around Django's WSGI application. Answers are given to the server whole: none of this service's is a stream."""

    def __init__(
        self, application: WSGIApplication, *, applications: Line, api: Line, probes: Line, pages: Line
    ) -> None:
        self._application = application
        self._applications, self._api, self._probes, self._pages = applications, api, probes, pages

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        line = self._line(environ["PATH_INFO"], environ["REQUEST_METHOD"])
        place = line.enter()
        if isinstance(place, Refusal):
            return _refuse(start_response, line, place)
        try:
            if line is self._applications:  # they ask no database, so there is no connection to hand on
                return _whole(self._application(environ, start_response))
            place.take()
            try:
                return _whole(self._application(environ, start_response))
            finally:
                place.leave()
        finally:
            line.leave(place)

    def _line(self, path: str, method: str) -> Line:
        """By the method too: `GET .../tickets/apply` looks at the ticket of a user of that name, in PostgreSQL."""
        if path.startswith(API_PREFIX):
            return self._applications if method == "POST" and path.endswith(APPLY_SUFFIX) else self._api
        return self._probes if path in PROBES else self._pages


def limit_queue(application: WSGIApplication) -> QueueLimit:
    """As the settings say. Around the only application of this process, since it takes Django's signals over."""
    _leave_connections_to_places()

    def line(name: str, places: int, waiting: int) -> Line:
        return Line(name, places=places, waiting=waiting, timeout_sec=settings.WEB_QUEUE_TIMEOUT_MS / 1000)

    return QueueLimit(
        application,
        applications=line("applications", settings.WEB_APPLICATIONS, settings.WEB_QUEUE),
        api=line("api", settings.WEB_THREADS, settings.WEB_QUEUE),
        probes=line("probes", SIDE_PLACES, SIDE_WAITING),
        pages=line("pages", SIDE_PLACES, SIDE_WAITING),
    )


def _leave_connections_to_places() -> None:
    """Django looks three times a request for connections to close, and for caches, which here have nothing to close
    (decision 0023 has the price). Each place does it for its own connections."""
    request_started.disconnect(reset_queries)
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    request_finished.disconnect(close_caches)


def _whole(answer: Iterable[bytes]) -> list[bytes]:
    try:
        return list(answer)
    finally:
        close: Callable[[], Any] | None = getattr(answer, "close", None)
        if close is not None:
            close()


def _refuse(start_response: StartResponse, line: Line, why: Refusal) -> list[bytes]:
    QUEUE_REFUSALS.labels(line.name, why).inc()
    outages.log("overload", f"the line of the {line.name} is {why}")
    headers = [
        ("Content-Type", CONTENT_TYPE),
        ("Content-Length", str(len(_BODY))),
        *_PROBLEM.headers().items(),
        ("Cache-Control", "no-store"),
    ]
    start_response(f"{_PROBLEM.status} Service Unavailable", headers)
    return [_BODY]
