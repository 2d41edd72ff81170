"""Builds the front's answers, byte for byte equal to Django's (tests/scenarios/test_one_contract.py compares both)."""

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import NamedTuple
from uuid import UUID

from django.conf import settings

from coupons.admission.gate import Held, Outcome
from coupons.api import problem_responses
from coupons.api.problem_responses import body_of
from coupons.api.problems import CONTENT_TYPE, RETRY_SOON_SEC, Code, Problem
from coupons.api.tickets import applied
from coupons.front.request import Send
from coupons.metrics import QUEUE_REFUSALS

Header = tuple[bytes, bytes]
JSON = (b"content-type", b"application/json")
PROBLEM = (b"content-type", CONTENT_TYPE.encode())
NO_STORE = (b"cache-control", b"no-store")
ALLOW = (b"allow", b"POST, OPTIONS")


class Answer(NamedTuple):
    """`headers` are specific to this answer, its content type included; `common_headers` come on top."""

    status: int
    headers: list[Header]
    body: bytes


async def send_answer(send: Send, answer: Answer) -> None:
    headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def accepted(campaign_id: UUID, outcome: Outcome, ticket: Held) -> Answer:
    document = applied(str(campaign_id), ticket)
    status = 202 if outcome is Outcome.ADMITTED else 200
    return Answer(status, [JSON, (b"location", document["status_url"].encode())], body_of(document))


def refused(problem: Problem) -> Answer:
    return Answer(problem.status, problem_headers(problem), body_of(problem.document()))


OVERLOADED = Problem(
    Code.UNAVAILABLE,
    "Too many requests at this moment. Repeat the same request after Retry-After.",
    RETRY_SOON_SEC,  # a longer wait would favour users who come later (decision 0029)
)


def refuse_overload(line: str, reason: str) -> Answer:
    """Returns a 503 and counts it. `reason` is `full` (the line is) or `late` (the request waited too long)."""
    QUEUE_REFUSALS.labels(line, reason).inc()
    problem_responses.outages.log("overload", f"the line of the {line} is {reason}")
    return overload_answer()


@cache
def overload_answer() -> Answer:
    return refused(OVERLOADED)


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
