"""The headers of an answer, which Django itself is asked for: once for each way in which clients ask."""

from functools import lru_cache
from io import BytesIO
from typing import NamedTuple
from wsgiref.types import WSGIEnvironment

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from coupons.api.limits import LimitedView
from coupons.api.problem_responses import problem_response
from coupons.problems import Code, Problem

Headers = tuple[tuple[str, str], ...]


class Head(NamedTuple):
    """The headers of a refusal in their order, without Retry-After (the first) and the length (in the middle)."""

    before: Headers
    after: Headers

    def around(self, length: str, first: dict[str, str]) -> list[tuple[str, str]]:
        return [*first.items(), *self.before, ("Content-Length", length), *self.after]


REMEMBERED = 1_024
ANY_PATH = "/api/v1/campaigns/any/apply"
# What the middleware and DRF look at before a view runs. Whoever adds a middleware that looks at more adds it here;
# tests/api/test_lobby.py compares the answers.
_ASKED_BY = (
    "HTTP_HOST",
    "HTTP_ACCEPT",
    "CONTENT_TYPE",
    "HTTP_ORIGIN",
    "wsgi.url_scheme",
    "SERVER_NAME",
    "SERVER_PORT",
    "HTTP_X_FORWARDED_PROTO",
)


class _RefusalView(LimitedView):
    """The view of an application whose caller, limits and campaign have been seen to: it reads the body and refuses."""

    def perform_authentication(self, request: Request) -> None:
        pass

    def check_permissions(self, request: Request) -> None:
        pass

    def post(self, request: Request) -> Response:
        code = Code.SOLD_OUT if request.data == {} else Code.INVALID
        return problem_response(Problem(code))  # type: ignore[return-value]


class _Refuser(WSGIHandler):
    """Django with all of its middleware and one view."""

    def _get_response(self, request: WSGIRequest) -> HttpResponseBase:
        return _RefusalView.as_view()(request)


class Heads:
    """Make it after Django is set up."""

    def __init__(self) -> None:
        self._django = _Refuser()
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._ask)

    def find(self, environ: WSGIEnvironment) -> Head | None:
        """None when Django would not let this request come so far: a wrong host, media type, scheme."""
        return self._remembered(*map(environ.get, _ASKED_BY))

    def _ask(self, *values: str | None) -> Head | None:
        body = b"{}"
        environ: WSGIEnvironment = {
            name: value for name, value in zip(_ASKED_BY, values, strict=True) if value is not None
        }
        environ |= {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": ANY_PATH,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": BytesIO(body),
        }
        response = self._django.get_response(WSGIRequest(environ))
        if response.status_code != Problem(Code.SOLD_OUT).status:
            return None
        headers = tuple(response.items())
        length = [name.lower() for name, _ in headers].index("content-length")
        return Head(headers[:length], headers[length + 1 :])
