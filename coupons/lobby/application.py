"""The WSGI layer: a request that a closed door answers, and every other one that goes on to Django untouched."""

import time
from collections.abc import Iterable
from http import HTTPStatus
from io import BytesIO
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from rest_framework.exceptions import ParseError, ValidationError

from coupons.api.authentication import caller_of_header
from coupons.api.parsers import read_json
from coupons.api.problem_responses import body_of
from coupons.api.refusals import refusal
from coupons.api.serializers import read_user_id
from coupons.callers.caller import Caller, NotKnown
from coupons.errors import RetryLater
from coupons.lobby.heads import Heads
from coupons.lobby.knowledge import Door, Knowledge
from coupons.models import Scope
from coupons.telemetry import LOBBY_REFUSALS, answered

PREFIX, SUFFIX = "/api/v1/campaigns/", "/apply"
MAX_BODY = 1_024  # a good body has a hundred bytes; what is longer goes on
_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Lobby:
    """Answers applications to campaigns that admit nobody, as the view would; `application` answers all else.

    Nothing is said to anybody whose credentials have not been checked (decision 0020).
    """

    def __init__(self, application: WSGIApplication, knowledge: Knowledge) -> None:
        self._application = application
        self._heads = Heads()
        self._knowledge = knowledge

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if not (path.startswith(PREFIX) and path.endswith(SUFFIX)):
            return self._application(environ, start_response)
        campaign = path[len(PREFIX) : -len(SUFFIX)]
        door = self._knowledge.doors.get(campaign)
        if door is not None:
            answer = self._refuse(door, environ, start_response)
            if answer is not None:
                self._knowledge.note(campaign)
                return answer
        return self._application(environ, self._listening(campaign, start_response))

    def _refuse(self, door: Door, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes] | None:
        """None = this is not for the lobby to say."""
        started = time.monotonic()
        if started >= door.until or environ["REQUEST_METHOD"] != "POST" or environ.get("QUERY_STRING"):
            return None
        caller = _caller(environ.get("HTTP_AUTHORIZATION", ""))
        if caller is None or Scope.APPLY not in caller.scopes or not caller.may_touch(door.campaign_id):
            return None
        head = self._heads.find(environ)
        user_id = _user_id(environ, caller)
        if head is None or user_id is None or not caller.may_act_for(user_id) or user_id in door.winners:
            return None
        problem = refusal(door.outcome, door.opens_at_ms, door.redis_now_ms(started))
        body = body_of(problem.document())
        start_response(_LINES[problem.status], head.around(len(body), problem.headers()))
        applies, seconds = answered(door.outcome.lower())
        applies.inc()
        LOBBY_REFUSALS.inc()
        seconds.observe(time.monotonic() - started)
        return [body]

    def _listening(self, campaign: str, start_response: StartResponse) -> StartResponse:
        """Hears of the campaigns by which Django refuses somebody."""

        def start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> object:
            if status[:3] in {"409", "410"}:
                self._knowledge.note(campaign)
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)  # type: ignore[arg-type]

        return start  # type: ignore[return-value]


def _caller(authorization: str) -> Caller | None:
    try:
        return caller_of_header(authorization.encode("latin-1"))
    except (NotKnown, RetryLater):
        return None


def _user_id(environ: WSGIEnvironment, caller: Caller) -> str | None:
    """The applicant of a good body. What was read of a bad one is put back for Django."""
    length = environ.get("CONTENT_LENGTH", "")
    if not (length.isdecimal() and 0 < int(length) <= MAX_BODY):
        return None
    body = environ["wsgi.input"].read(int(length))
    environ["wsgi.input"] = BytesIO(body)
    if len(body) != int(length):
        return None
    try:
        return read_user_id(read_json(body), own=caller.user_id)
    except (ParseError, ValidationError):
        return None
