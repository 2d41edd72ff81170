"""Defines each problem of this API (RFC 9457): code, status and texts. A problem needs no request."""

import math
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from django.conf import settings

from coupons.admission.gate import Outcome
from coupons.runtime.clock import moment_of

CONTENT_TYPE = "application/problem+json"


class Code(StrEnum):
    """Names the problems. Clients switch on these stable codes; texts may change."""

    SOLD_OUT = "sold-out"
    NOT_OPEN = "not-open"
    PAUSED = "paused"
    CLOSED = "closed"
    NOT_FOUND = "not-found"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    INVALID = "invalid"
    CONFLICT = "conflict"
    KEY_IN_USE = "key-in-use"
    KEY_REUSED = "key-reused"
    NOT_YOURS = "not-yours"
    REVOKED = "revoked"
    ALREADY_REDEEMED = "already-redeemed"
    EXPIRED = "expired"
    NOT_VALID_YET = "not-valid-yet"
    HELD = "held"
    ORDER_RETURNED = "order-returned"
    HOLD_ENDED = "hold-ended"
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
SEND_CREDENTIALS = "Send `Authorization: Bearer <API key or token>`: see docs/api.md#who-is-calling."


class Kind(NamedTuple):
    """Holds what all problems of one code share. `advice` tells a client what to do."""

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
    Code.KEY_IN_USE: Kind(
        409,
        "A request with this Idempotency-Key is being answered",
        "Repeat the same request after `Retry-After`, and get its answer.",
    ),
    Code.KEY_REUSED: Kind(
        422,
        "This Idempotency-Key belongs to another request",
        "Nothing was done. Use a new key for each new campaign, and the same one only for a repeat.",
    ),
    Code.NOT_YOURS: Kind(
        403, "The coupon is another user's", "`user_id` is not the user whom the coupon was issued to."
    ),
    Code.REVOKED: Kind(410, "The coupon was revoked", "Final: this coupon can never be redeemed again."),
    Code.ALREADY_REDEEMED: Kind(
        409, "The coupon is redeemed already", "By another order. It is free again once that redemption is returned."
    ),
    Code.EXPIRED: Kind(410, "The coupon has expired", "`valid_until` says when."),
    Code.NOT_VALID_YET: Kind(409, "The coupon is not valid yet", "`valid_from` says from when on."),
    Code.HELD: Kind(
        409, "Another order holds the coupon", "The hold ends after `Retry-After`, unless that order is confirmed."
    ),
    Code.ORDER_RETURNED: Kind(
        409,
        "This order has given the coupon back",
        "Final, so that a late repeat redeems nothing. For another try of the same basket use a new `order_ref`.",
    ),
    Code.HOLD_ENDED: Kind(
        409, "The hold has ended", "Redeem again for the same order; another order may have been faster."
    ),
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
    """A problem document. `retry_after_sec` becomes the Retry-After header; `extra` adds members."""

    code: Code
    detail: str = ""
    retry_after_sec: int | None = None
    extra: dict[str, Any] | None = None

    @property
    def status(self) -> int:
        return KINDS[self.code].status

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "type": f"{settings.PATH_PREFIX}{DOCUMENT}#{self.code}",
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
"""The shortest Retry-After that makes a client wait at all, for an obstacle that may be gone by then.

No Retry-After is longer than necessary, and none is random: a client that obeys would lose to one that does not. A
crowd spreads all the same, since each client returns the given seconds after its own request.
"""


def retry_after(seconds: float) -> int:
    return max(RETRY_SOON_SEC, math.ceil(seconds))


FARTHEST_RETRY_SEC = 3600
"""An operator may move the opening to an earlier time. A client that returns before it gets the remaining time."""
EARLY_MS = 100
"""An application that arrives this shortly before the opening waits for it (accept.py) and gets no 409.

Retry-After relies on it: rounded up from 100 ms before the opening, it brings every client back between 100 ms before
and 900 ms after the opening. Even with network time, or a slightly slow clock, it returns within a second.
"""


def refusal(outcome: Outcome, opens_at_ms: int | None, now_ms: int | None) -> Problem:
    """Turns a refusal of the gate into a problem. `now_ms` is Redis's time; only NOT_OPEN uses the two numbers."""
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
