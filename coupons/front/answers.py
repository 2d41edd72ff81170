"""Builds the front's answers, byte for byte equal to Django's (tests/scenarios/test_one_contract.py compares both)."""

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

from django.conf import settings

from coupons.api import problem_responses
from coupons.api.problem_responses import body_of
from coupons.api.problems import CONTENT_TYPE, RETRY_SOON_SEC, Code, Problem
from coupons.front.request import Send
from coupons.metrics import QUEUE_REFUSALS

Header = tuple[bytes, bytes]
JSON = (b"content-type", b"application/json")
PROBLEM = (b"content-type", CONTENT_TYPE.encode())
NO_STORE = (b"cache-control", b"no-store")
ALLOW = (b"allow", b"POST, OPTIONS")
RETRY_EXPORT_SEC = 5


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


def refuse_export(line: str, reason: str) -> Answer:
    """As `refuse_overload`; but the places of exports are free again after seconds, not after a moment."""
    refuse_overload(line, reason)
    detail = "Other exports are being sent, and few may be at once. Repeat the same request after Retry-After."
    return refused(Problem(Code.UNAVAILABLE, detail, RETRY_EXPORT_SEC))


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
    """Returns the headers that Django's middleware and the API's add to every answer of the view."""
    headers = [
        NO_STORE,
        ALLOW,
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", settings.SECURE_REFERRER_POLICY.encode()),
        (b"cross-origin-opener-policy", settings.SECURE_CROSS_ORIGIN_OPENER_POLICY.encode()),
    ]
    if is_secure and settings.SECURE_HSTS_SECONDS:
        parts = [
            f"max-age={settings.SECURE_HSTS_SECONDS}",
            *(["includeSubDomains"] if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS else []),
            *(["preload"] if settings.SECURE_HSTS_PRELOAD else []),
        ]
        headers.append((b"strict-transport-security", "; ".join(parts).encode()))
    return (*headers, *_cors_headers(origin))


def _cors_headers(origin: bytes | None) -> Iterable[Header]:
    if not settings.CORS_ALLOWED_ORIGINS:
        return
    yield b"vary", b"origin"
    if origin is not None and origin.decode("latin-1") in settings.CORS_ALLOWED_ORIGINS:
        yield b"access-control-allow-origin", origin
        yield b"access-control-expose-headers", ", ".join(settings.CORS_EXPOSE_HEADERS).encode()
