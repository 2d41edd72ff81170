"""The lobby in front of Django's test client: it knows at each application what Redis says at that moment."""

import math
from collections.abc import Iterable
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse, HttpResponseBase
from django.http.response import ResponseHeaders
from django.test.client import ClientHandler

from coupons.lobby.application import Lobby
from coupons.lobby.knowledge import PREFIX, SUFFIX, Knowledge
from couponsite.bodies import WholeBodies
from tests.support.waiting import wait_until


class StillKnowledge(Knowledge):
    """It looks only when it is told to (`know_now`), and what it has seen then is good for ever."""

    def _keep_current(self) -> None:
        self._stop.wait()


def know_now(knowledge: Knowledge, path: str) -> None:
    """What Redis says now of the campaign of an application, with its winners if it refuses."""
    knowledge.note(path)
    knowledge.refresh()
    wait_until(lambda: not knowledge.loading, what="the winners to be loaded")
    knowledge.refresh()
    for door in knowledge.doors.values():
        door.until = math.inf


class LobbyHandler(ClientHandler):
    """Django's test client calls this; `answered` counts what the lobby said by itself."""

    def __init__(self, knowledge: Knowledge) -> None:
        super().__init__(enforce_csrf_checks=False)
        self.knowledge = knowledge
        self.answered = 0

    def __call__(self, environ: dict[str, Any]) -> Any:
        path = environ["PATH_INFO"]
        if path.startswith(PREFIX) and path.endswith(SUFFIX):
            know_now(self.knowledge, path)
        passed_on: list[HttpResponseBase] = []
        answer = HttpResponse()
        environ.setdefault("wsgi.input", BytesIO())
        lobby = Lobby(self._on_to_django(passed_on), self.knowledge)
        body = WholeBodies(lobby, most_bytes=settings.DATA_UPLOAD_MAX_MEMORY_SIZE)(environ, _starting(answer))
        if passed_on:
            return passed_on[0]
        self.answered += 1
        answer.content = b"".join(body)
        answer.wsgi_request = WSGIRequest(environ)  # type: ignore[attr-defined]
        return answer

    def _on_to_django(self, answers: list[HttpResponseBase]) -> WSGIApplication:
        django = super().__call__

        def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            answer = django(environ)
            answers.append(answer)
            start_response(f"{answer.status_code} {answer.reason_phrase}", list(answer.items()))
            return []

        return application


def _starting(answer: HttpResponse) -> StartResponse:
    def start(status: str, headers: list[tuple[str, str]], exc_info: object = None, /) -> Any:
        answer.status_code = int(status[:3])
        answer.headers = ResponseHeaders(dict(headers))

    return start
