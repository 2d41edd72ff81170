"""The front before Django's test client: it knows at each application what Redis says at that moment."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import UUID

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from django.http.response import ResponseHeaders
from django.test import override_settings
from django.test.client import ClientHandler

from coupons.front.answers import Answer, refused
from coupons.front.apply import ApplyHandler
from coupons.front.closed_campaigns import ClosedCampaign, ClosedCampaigns
from coupons.front.request import PREFIX, SUFFIX, BodyRefused, Message, Request
from tests.support.waiting import wait_until

T = TypeVar("T")
FOR_EVER_MS = 3_600_000


class StillCampaigns(ClosedCampaigns):
    """It looks only when it is told to (`look`), and what it has seen then is good for as long as a test lasts."""

    def __init__(self) -> None:
        with override_settings(REFUSAL_REFRESH_MS=FOR_EVER_MS, REFUSAL_LEASE_MS=FOR_EVER_MS):
            super().__init__()
        self.refused: list[UUID] = []  # the campaigns of the applications that it has refused from memory

    def look(self, campaign_id: UUID) -> None:
        """At this campaign, and at its admitted users if it is closed."""
        self.note_refusal(campaign_id)
        self.refresh()
        wait_until(lambda: not self._users.is_loading, what="the admitted users to be loaded")
        self.refresh()

    def refuse(self, closed: ClosedCampaign) -> Answer:
        self.refused.append(closed.campaign_id)
        return super().refuse(closed)


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class FrontHandler(ClientHandler):
    """Django's test client calls this; `answered` counts what the front said by itself."""

    def __init__(self, closed: StillCampaigns) -> None:
        super().__init__(enforce_csrf_checks=False)
        self.closed = closed
        self.looks = True
        self.answered = 0
        self._loop = Loop()
        self._apply_handler = self._loop.run(_make(closed))

    def close(self) -> None:
        self._loop.run(self._apply_handler.close())
        self._loop.close()

    def __call__(self, environ: dict[str, Any]) -> Any:
        request = _request(environ)
        if self.looks and request.path.startswith(PREFIX) and request.path.endswith(SUFFIX):
            self._look(request.path[len(PREFIX) : -len(SUFFIX)])
        try:
            said = self._loop.run(self._apply_handler.answer(request))
        except BodyRefused as error:  # Front answers so (coupons/front/front.py)
            said = refused(error.problem)
        if said is None:
            return super().__call__(environ)
        self.answered += 1
        answer = HttpResponse(said.body, status=said.status)
        answer.headers = ResponseHeaders({name.decode(): value.decode() for name, value in said.headers})
        answer.headers["Content-Length"] = str(len(said.body))
        answer.wsgi_request = WSGIRequest(environ)  # type: ignore[attr-defined]
        return answer

    def _look(self, text: str) -> None:
        try:
            campaign_id = UUID(text)
        except ValueError:
            return
        self.closed.look(campaign_id)


async def _make(closed: ClosedCampaigns) -> ApplyHandler:
    return ApplyHandler(closed)


def _request(environ: dict[str, Any]) -> Request:
    """What an ASGI server would make of the same request. The body stays for Django to read."""
    source = environ.get("wsgi.input")
    body = b""
    if source is not None:
        body = source.read()
        environ["wsgi.input"] = type(source)(body) if body else source
    headers = [
        (name.removeprefix("HTTP_").replace("_", "-").lower().encode(), value.encode("latin-1"))
        for name, value in environ.items()
        if name.startswith("HTTP_") and value
    ]
    headers += [
        (name.replace("_", "-").lower().encode(), str(environ[name]).encode())
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH")
        if environ.get(name)
    ]
    if "HTTP_HOST" not in environ:
        headers.append((b"host", str(environ["SERVER_NAME"]).encode()))
    scope = {
        "type": "http",
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace"),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "headers": headers,
        "http_version": "1.1",
        "scheme": environ["wsgi.url_scheme"],
        "client": (environ["REMOTE_ADDR"], 1),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(scope, receive)
