"""Builds the front's answers, byte for byte equal to Django's (tests/scenarios/test_one_contract.py compares both)."""

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from io import BytesIO
from typing import Any, NamedTuple

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.middleware.security import SecurityMiddleware

from coupons.api import problem_responses
from coupons.api.problem_responses import body_of
from coupons.api.problems import CONTENT_TYPE, RETRY_SOON_SEC, Code, Problem
from coupons.front.request import PREFIX, Send
from coupons.metrics import QUEUE_REFUSALS

Header = tuple[bytes, bytes]
JSON = (b"content-type", b"application/json")
PROBLEM = (b"content-type", CONTENT_TYPE.encode())
NO_STORE = (b"cache-control", b"no-store")


class Answer(NamedTuple):
    """`headers` are specific to this answer, its content type included; `common_headers` come on top."""

    status: int
    headers: list[Header]
    body: bytes


async def send_answer(send: Send, answer: Answer, *more_headers: Header) -> None:
    headers = [*answer.headers, *more_headers, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def promised(document: dict[str, Any], status: int, headers: Mapping[str, str]) -> Answer:
    return Answer(status, [JSON, *encode_headers(headers)], body_of(document))


def refused(problem: Problem) -> Answer:
    return Answer(problem.status, problem_headers(problem), body_of(problem.document()))


def refuse_overload(line: str, reason: str) -> Answer:
    """Returns a 503 and counts it. `reason` is `full` (the line is) or `late` (the request waited too long)."""
    QUEUE_REFUSALS.labels(line, reason).inc()
    problem_responses.outages.log("overload", f"the line of the {line} is {reason}")
    return _overloaded()


@cache
def _overloaded() -> Answer:
    detail = "Too many requests at this moment. Repeat the same request after Retry-After."
    return refused(Problem(Code.UNAVAILABLE, detail, RETRY_SOON_SEC))  # a longer wait would favour latecomers (0029)


def problem_headers(problem: Problem) -> list[Header]:
    return [PROBLEM, *encode_headers(problem.headers())]


def encode_headers(headers: Mapping[str, str]) -> Iterable[Header]:
    return ((name.lower().encode(), value.encode()) for name, value in headers.items())


@lru_cache(maxsize=1_024)
def common_headers(origin: bytes | None, *, is_secure: bool) -> tuple[Header, ...]:
    """Returns the headers that every answer of the view has. Django's middleware makes them, once for each origin."""

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers={"Cache-Control": "no-store", "Allow": "POST, OPTIONS"})

    answer: Any = SecurityMiddleware(view)
    if settings.CORS_ALLOWED_ORIGINS:
        answer = CorsMiddleware(answer)
    scheme = "https" if is_secure else "http"
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": PREFIX, "wsgi.url_scheme": scheme, "wsgi.input": BytesIO()}
    if origin is not None:
        environ["HTTP_ORIGIN"] = origin.decode("latin-1")
    headers = dict(answer(WSGIRequest(environ)).items())
    del headers["Content-Type"]  # each answer has its own
    return tuple(encode_headers(headers))
