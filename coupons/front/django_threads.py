"""Runs Django on threads, and limits how many requests wait for a thread and for how long.

The probes, the pages and the checkout have separate threads, so that load balancers get answers, operators can pause a
campaign and customers can pay while all other threads of the API are busy. So have the exports, which take seconds to
minutes each, whoever asks for them.
"""

from collections.abc import Iterable
from typing import Any, cast
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from a2wsgi import WSGIMiddleware
from django.conf import settings

from coupons.api.health import PROBES
from coupons.front.answers import NO_STORE, Answer, refuse_export, refuse_overload, send_answer
from coupons.front.client_stream import ClientStream
from coupons.front.overload import Line
from coupons.front.request import Request, Send

SIDE_THREADS, SIDE_WAITING = 2, 4
"""For the probes, the same for the pages, and for the exports."""
CHECKOUT = ("/api/v1/redemptions", "/api/v1/coupons/")
CHECKOUT_THREADS, CHECKOUT_WAITING = 16, 128
"""A redemption waits for PostgreSQL's commit most of the time."""
EXPORTS = "/coupons.csv"
"""Their addresses end so: the API's (coupons/api/urls.py) and the admin's (coupons/admin/export.py)."""
CLIENT = "coupons.client"


class DjangoThreads:
    def __init__(self, django: WSGIApplication) -> None:
        self._api = _ThreadPool("api", django, threads=settings.WEB_THREADS, waiting=settings.WEB_QUEUE)
        self._checkout = _ThreadPool("checkout", django, threads=CHECKOUT_THREADS, waiting=CHECKOUT_WAITING)
        self._probes = _ThreadPool("probes", django, threads=SIDE_THREADS, waiting=SIDE_WAITING)
        self._pages = _ThreadPool("pages", django, threads=SIDE_THREADS, waiting=SIDE_WAITING)
        self._exports = _ExportThreads("exports", django, threads=SIDE_THREADS, waiting=SIDE_WAITING)

    async def __call__(self, request: Request, send: Send) -> None:
        """Expects that the request's body has been read."""
        if request.path.startswith(CHECKOUT):
            await self._checkout(request, send)
        elif request.path.endswith(EXPORTS):
            await self._exports(request, send)
        elif request.path.startswith("/api/v1/"):
            await self._api(request, send)
        elif request.path in PROBES:
            await self._probes(request, send)
        else:
            await self._pages(request, send)


class _ThreadPool:
    """Serves first come, first served. Answers 503 when too many requests wait, or one has waited for too long."""

    def __init__(self, name: str, django: WSGIApplication, *, threads: int, waiting: int) -> None:
        self._name = name
        # a2wsgi is small and well kept, and its threads live on with their connections to PostgreSQL.
        self._django: Any = WSGIMiddleware(cast("Any", _hide_scope(django)), workers=threads)
        wait_sec = settings.WEB_QUEUE_TIMEOUT_MS / 1000
        self._line = Line(name, places=threads, wait_sec=wait_sec, max_waiting=waiting)

    async def __call__(self, request: Request, send: Send) -> None:
        refusal = await self._line.enter()
        if refusal:
            await send_answer(send, self._refuse(refusal), NO_STORE)
            return
        try:
            await self._run(_django_scope(request), request, send)
        finally:
            self._line.leave()

    def _refuse(self, reason: str) -> Answer:
        return refuse_overload(self._name, reason)

    async def _run(self, scope: Any, request: Request, send: Send) -> None:
        await self._django(scope, request.replay_body, send)


class _ExportThreads(_ThreadPool):
    """Stops an answer whose client has gone: its thread and its connection to PostgreSQL are for the next one."""

    def _refuse(self, reason: str) -> Answer:
        return refuse_export(self._name, reason)

    async def _run(self, scope: Any, request: Request, send: Send) -> None:
        client = ClientStream(request.receive, send)
        try:
            await self._django({**scope, CLIENT: client}, request.replay_body, client.send)
        finally:
            client.close()


def _hide_scope(django: WSGIApplication) -> WSGIApplication:
    """Removes the ASGI scope that a2wsgi adds: Django's debug page would show the credentials in it."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        client: ClientStream | None = environ.pop("asgi.scope", {}).get(CLIENT)
        answer = django(environ, start_response)
        return answer if client is None else client.chunks_of(answer)

    return application


def _django_scope(request: Request) -> Any:
    """Gives a chunked body a length, as Django reads as many bytes as Content-Length says."""
    if b"transfer-encoding" not in request.headers:
        return request.scope
    headers = [each for each in request.scope["headers"] if each[0] not in (b"transfer-encoding", b"content-length")]
    length = str(len(request.whole_body)).encode()
    return {**request.scope, "headers": [*headers, (b"content-length", length)]}
