"""Every problem this API answers with (RFC 9457): its code, status and texts, buildable without a request."""

import math
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from coupons.admission.gate import Outcome
from coupons.runtime.clock import moment_of

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
    LENGTH_REQUIRED = "length-required"
    TOO_LARGE = "too-large"
    TOO_MANY_REQUESTS = "too-many-requests"
    UNAVAILABLE = "unavailable"
    UNCONFIRMED = "unconfirmed"
    INTERNAL = "internal"


DOCUMENT = "/api/docs/problems"


class Kind(NamedTuple):
    """What is the same in every problem of one code. `advice` says what a client does about it."""

    status: int
    title: str
    advice: str


KINDS: dict[Code, Kind] = {
    Code.SOLD_OUT: Kind(
        409, "All coupons are taken", "Final, unless the quantity is raised. A user who has a place is never told this."
    ),
    Code.NOT_OPEN: Kind(
        409,
        "The campaign is not open yet",
        "Ask again after `Retry-After`, which is within a second of the opening, or at `opens_at`, to the millisecond.",
    ),
    Code.PAUSED: Kind(
        409, "The campaign is paused", "Also for a moment while a change is on its way. Ask again after `Retry-After`."
    ),
    Code.CLOSED: Kind(410, "The campaign is closed", "Final. Who has a place gets the coupon."),
    Code.NOT_FOUND: Kind(404, "Not found", "Nothing is there, or nothing that these credentials may see."),
    Code.UNAUTHENTICATED: Kind(
        401, "Credentials are missing or wrong", "`detail` says what is wrong. Get a new token or another key."
    ),
    Code.FORBIDDEN: Kind(
        403, "These credentials do not allow this", "Another user's id, or a scope that the key has not."
    ),
    Code.INVALID: Kind(
        400, "The request is not valid", "`errors` names the fields. The same request will be refused again."
    ),
    Code.CONFLICT: Kind(409, "The campaign's state does not allow this", "`detail` says what to do instead."),
    Code.METHOD_NOT_ALLOWED: Kind(405, "Method not allowed", "`Allow` lists the methods of this address."),
    Code.NOT_ACCEPTABLE: Kind(406, "Only JSON can be sent back", "Accept `application/json`."),
    Code.UNSUPPORTED_MEDIA_TYPE: Kind(415, "Only JSON is understood", "Send `Content-Type: application/json`."),
    Code.LENGTH_REQUIRED: Kind(
        411,
        "The body's length is not known",
        "Send `Content-Length`. Chunks are read too, of JSON alone, and if they end within five seconds.",
    ),
    Code.TOO_LARGE: Kind(413, "The body is too large", "64 KiB at most; a good body has a hundred bytes."),
    Code.TOO_MANY_REQUESTS: Kind(
        429, "Too many requests", "Ask again after `Retry-After`. A place that the user has is in no danger."
    ),
    Code.UNAVAILABLE: Kind(
        503,
        "The service cannot tell right now; repeating is safe",
        "Repeat the same request after `Retry-After`. The user may have got a place: the repeat tells.",
    ),
    Code.UNCONFIRMED: Kind(
        503,
        "Your place is kept but not confirmed yet; repeat to get it",
        "Repeat the same request after `Retry-After`, and get the same place.",
    ),
    Code.INTERNAL: Kind(
        500, "Something went wrong on our side", "A defect. Repeating an application is safe all the same."
    ),
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
        return KINDS[self.code].status

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "type": f"{DOCUMENT}#{self.code}",
            "title": KINDS[self.code].title,
            "status": self.status,
            "code": str(self.code),
        }
        if self.detail:
            document["detail"] = self.detail
        return document | (self.extra or {})

    def headers(self) -> dict[str, str]:
        return {} if self.retry_after_sec is None else {"Retry-After": str(self.retry_after_sec)}


RETRY_SOON_SEC = 1
"""The shortest Retry-After that makes a client wait at all, for whatever may be over by then.

No Retry-After is longer than it has to be, and none is random: who obeys would lose to who does not. A crowd is spread
all the same, as its users are back so long after they asked, each at a fraction of a second of their own.
"""


def retry_after(seconds: float) -> int:
    """The whole seconds after which `seconds` have passed."""
    return max(RETRY_SOON_SEC, math.ceil(seconds))


FARTHEST_RETRY_SEC = 3600
"""A campaign may be moved forward meanwhile. Whoever is back before the opening is told the rest of the way."""
EARLY_MS = 100
"""Who comes so little before the opening is not sent away for a whole second, but waits for it (accept.py).

Retry-After counts on it: rounded up from this moment on, it brings everybody back from 100 ms before the opening to
900 ms after it, and the way there and back (or a clock that is a little slow) does not make it later than a second.
"""


def refusal(outcome: Outcome, opens_at_ms: int | None, now_ms: int | None) -> Problem:
    """What a refusal of the gate is to its user. `now_ms` is Redis's time; both numbers matter for NOT_OPEN alone."""
    if outcome is Outcome.SOLD_OUT:
        return Problem(Code.SOLD_OUT)
    if outcome is Outcome.CLOSED:
        return Problem(Code.CLOSED)
    if outcome is Outcome.PAUSED:
        return Problem(Code.PAUSED, "Admission goes on later.", RETRY_SOON_SEC)
    opens_at_ms = opens_at_ms or 0
    wait_ms = opens_at_ms - (now_ms or time.time() * 1000)
    opens_at = moment_of(opens_at_ms).isoformat()
    return Problem(
        Code.NOT_OPEN,
        f"It opens at {opens_at}.",
        min(retry_after((wait_ms - EARLY_MS) / 1000), FARTHEST_RETRY_SEC),
        {"opens_at": opens_at},
    )
