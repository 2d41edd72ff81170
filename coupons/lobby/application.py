"""The WSGI layer: a request that a closed door answers, and every other one that goes on to Django untouched."""

import time
from collections.abc import Iterable
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from rest_framework.exceptions import ParseError, ValidationError

from coupons.api.authentication import caller_of_header
from coupons.api.parsers import read_json
from coupons.api.serializers import read_user_id, user_id_of_plain_body
from coupons.callers.caller import Caller, NotKnown
from coupons.errors import RetryLater
from coupons.lobby.heads import Heads
from coupons.lobby.knowledge import PREFIX, SUFFIX, Door, Knowledge
from coupons.models import Scope

MAX_BODY = 1_024  # a good body has a hundred bytes; what is longer goes on
APPLY = Scope.APPLY.value


class Lobby:
    """Answers applications to campaigns that admit nobody, as the view would; `application` answers all else.

    Nothing is said to anybody whose credentials have not been checked (decision 0020). Bodies have been read before: it
    stands inside of couponsite.bodies.WholeBodies, and understands none that is not a BytesIO.
    """

    def __init__(self, application: WSGIApplication, knowledge: Knowledge) -> None:
        self._application = application
        self._heads = Heads()
        self._knowledge = knowledge

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        door = self._knowledge.doors.get(path)
        if door is not None and (answer := self._refuse(door, environ, start_response)) is not None:
            self._knowledge.note(path)
            self._knowledge.said.append(door.outcome)
            return answer
        if path.startswith(PREFIX) and path.endswith(SUFFIX):
            start_response = self._listening(path, start_response)
        return self._application(environ, start_response)

    def _refuse(self, door: Door, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes] | None:
        """None = this is not for the lobby to say."""
        now = time.monotonic()
        if now >= door.until or environ["REQUEST_METHOD"] != "POST" or environ.get("QUERY_STRING"):
            return None
        caller = _caller(environ.get("HTTP_AUTHORIZATION", ""))
        if caller is None or APPLY not in caller.scopes or not caller.may_touch(door.campaign_id):
            return None
        head = self._heads.find(environ)
        user_id = _user_id(environ, caller)
        if head is None or user_id is None or not caller.may_act_for(user_id) or user_id in door.winners.filter:
            return None
        start_response(door.status_line, head.around(door.length, door.retry_after()))
        return [door.body]

    def _listening(self, path: str, start_response: StartResponse) -> StartResponse:
        """Hears of the campaigns by which Django refuses somebody."""

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            if status[:3] in {"409", "410"}:
                self._knowledge.note(path)
            return start_response(status, headers, *exc_info)

        return start


def _caller(authorization: str) -> Caller | None:
    try:
        return caller_of_header(authorization.encode("latin-1"))
    except (NotKnown, RetryLater):
        return None


def _user_id(environ: WSGIEnvironment, caller: Caller) -> str | None:
    """The applicant of a good body, which stays where it is: Django may have to read it."""
    whole = environ["wsgi.input"]
    if not isinstance(whole, BytesIO):
        return None
    body = whole.getvalue()
    if len(body) > MAX_BODY or str(len(body)) != environ.get("CONTENT_LENGTH"):
        return None
    try:
        return user_id_of_plain_body(body) or read_user_id(read_json(body), own=caller.user_id)
    except (ParseError, ValidationError):
        return None
