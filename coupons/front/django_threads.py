"""Django on its threads: how many run it, how many wait for that, and how long.

Operators, load balancers and the metrics have threads of their own: a campaign can be paused while the API's are all
taken.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, cast
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from a2wsgi import WSGIMiddleware
from django.conf import settings

from coupons.front.answers import NO_STORE, refuse_overload, send_answer
from coupons.front.request import Message, Request, Send
from coupons.metrics import QUEUE_SECONDS

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
SIDE_THREADS, SIDE_WAITING = 2, 4
"""Of the probes and of the pages, each."""


class DjangoThreads:
    """The API's `COUPON_WEB_THREADS`, and a few for probes and pages."""

    def __init__(self, django: WSGIApplication) -> None:
        self._api = _ThreadPool("api", django, threads=settings.WEB_THREADS, waiting=settings.WEB_QUEUE)
        self._probes = _ThreadPool("probes", django, threads=SIDE_THREADS, waiting=SIDE_WAITING)
        self._pages = _ThreadPool("pages", django, threads=SIDE_THREADS, waiting=SIDE_WAITING)

    async def __call__(self, request: Request, send: Send) -> None:
        """The request's body has been read."""
        if request.path.startswith("/api/v1/"):
            await self._api(request, send)
        elif request.path in PROBES:
            await self._probes(request, send)
        else:
            await self._pages(request, send)


class _ThreadPool:
    """First come, first served; who would wait behind too many, or has waited for too long, is told 503."""

    def __init__(self, name: str, django: WSGIApplication, *, threads: int, waiting: int) -> None:
        self._name = name
        # a2wsgi: well kept, small, and its threads stay, with their connections to PostgreSQL.
        self._django: Any = WSGIMiddleware(cast("Any", _hide_scope(django)), workers=threads)
        self._free = asyncio.Semaphore(threads)
        self._max_waiting = waiting
        self._waiting = 0

    async def __call__(self, request: Request, send: Send) -> None:
        refusal = await self._acquire_thread()
        if refusal:
            busy = refuse_overload(self._name, refusal)
            await send_answer(send, busy._replace(headers=[*busy.headers, NO_STORE]))
            return
        try:
            await self._django(
                _django_scope(request),
                request.replay_body,
                _add_connection_close(send) if request.is_too_long else send,
            )
        finally:
            self._free.release()

    async def _acquire_thread(self) -> str:
        """Empty when there is one, which is to be released; else why not."""
        if not self._free.locked():
            await self._free.acquire()
            return ""
        if self._waiting >= self._max_waiting:
            return "full"
        self._waiting += 1
        try:
            with QUEUE_SECONDS.labels(self._name).time():
                async with asyncio.timeout(settings.WEB_QUEUE_TIMEOUT_MS / 1000):
                    await self._free.acquire()
        except TimeoutError:
            return "late"
        finally:
            self._waiting -= 1
        return ""


def _hide_scope(django: WSGIApplication) -> WSGIApplication:
    """a2wsgi adds the ASGI scope to the environment: Django's page for developers would show the credentials in it."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.pop("asgi.scope", None)
        return django(environ, start_response)

    return application


def _django_scope(request: Request) -> Any:
    """For Django, which reads as much as the length says: a chunked body has one now."""
    if b"transfer-encoding" not in request.headers:
        return request.scope
    headers = [each for each in request.scope["headers"] if each[0] not in (b"transfer-encoding", b"content-length")]
    length = str(len(request.whole_body)).encode()
    return {**request.scope, "headers": [*headers, (b"content-length", length)]}


def _add_connection_close(send: Send) -> Send:
    """The rest of the body is not read, so the server ends the connection: the client is told."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return sending
