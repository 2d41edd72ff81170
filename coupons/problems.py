"""Every problem this API answers with (RFC 9457): its code, status and texts, buildable without a request."""

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

CONTENT_TYPE = "application/problem+json"


class Code(StrEnum):
    """The stable codes. Clients switch on these; texts may change."""

    SOLD_OUT = "sold-out"
    NOT_OPEN = "not-open"
    PAUSED = "paused"
    CLOSED = "closed"
    NOT_FOUND = "not-found"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    INVALID = "invalid"
    CONFLICT = "conflict"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    NOT_ACCEPTABLE = "not-acceptable"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    TOO_LARGE = "too-large"
    TOO_MANY_REQUESTS = "too-many-requests"
    UNAVAILABLE = "unavailable"
    UNCONFIRMED = "unconfirmed"
    INTERNAL = "internal"


_STATUS_AND_TITLE: dict[Code, tuple[int, str]] = {
    Code.SOLD_OUT: (409, "All coupons are taken"),
    Code.NOT_OPEN: (409, "The campaign is not open yet"),
    Code.PAUSED: (409, "The campaign is paused"),
    Code.CLOSED: (410, "The campaign is closed"),
    Code.NOT_FOUND: (404, "Not found"),
    Code.UNAUTHENTICATED: (401, "Credentials are missing or wrong"),
    Code.FORBIDDEN: (403, "These credentials do not allow this"),
    Code.INVALID: (400, "The request is not valid"),
    Code.CONFLICT: (409, "The campaign's state does not allow this"),
    Code.METHOD_NOT_ALLOWED: (405, "Method not allowed"),
    Code.NOT_ACCEPTABLE: (406, "Only JSON can be sent back"),
    Code.UNSUPPORTED_MEDIA_TYPE: (415, "Only JSON is understood"),
    Code.TOO_LARGE: (413, "The body is too large"),
    Code.TOO_MANY_REQUESTS: (429, "Too many requests"),
    Code.UNAVAILABLE: (503, "The service cannot tell right now; repeating is safe"),
    Code.UNCONFIRMED: (503, "Your place is kept but not confirmed yet; repeat to get it"),
    Code.INTERNAL: (500, "Something went wrong on our side"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document. `retry_after_sec` becomes the Retry-After header; `extra` stands beside the members."""

    code: Code
    detail: str = ""
    retry_after_sec: int | None = None
    extra: dict[str, Any] | None = None

    @property
    def status(self) -> int:
        return _STATUS_AND_TITLE[self.code][0]

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "type": f"urn:coupons:problem:{self.code}",
            "title": _STATUS_AND_TITLE[self.code][1],
            "status": self.status,
            "code": str(self.code),
        }
        if self.detail:
            document["detail"] = self.detail
        return document | (self.extra or {})

    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_sec is None else {"Retry-After": str(self.retry_after_sec)}


def jittered(seconds: float) -> int:
    """Whole seconds, at least 1, up to a fifth (and one) later than asked: a crowd must not come back as one."""
    return max(1, round(seconds + random.uniform(0, seconds / 5 + 1)))
