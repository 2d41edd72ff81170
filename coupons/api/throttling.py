"""Limits the requests of a user and of an address, and answers 429 beyond that, before any other part is called.

Each process counts for itself, so N processes allow up to N times the setting. That is enough against a script, and
puts no load on the Redis that admits, where a million invented users would take the winners' memory. A 429 does not
endanger a user's place: it precedes the call of the gate, and the next request finds the place unchanged.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple, NoReturn

from django.conf import settings
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from coupons.api.client_address import Address, client_address, counted_as
from coupons.auth.caller import Caller
from coupons.metrics import LIMITED


class Taken(NamedTuple):
    """Holds the requests left after this one, and the seconds until one more is allowed (0 = now)."""

    allowed: bool
    limit: int
    left: int
    wait_sec: float


class Buckets:
    """Allows `limit` requests a minute for each key: all at once after a quiet minute, then one every 60/limit seconds.

    A crowd of invented users must not fill the memory: a key is one small record, and the least recently used go first.
    DRF's own throttles pickle a list of times into a cache at every request, and the `limits` package keeps every key
    until a timer passes.

    Holds `capacity` keys. An evicted key starts again with a full bucket; to evict others, an attacker needs `capacity`
    names, each with a request that another limit counts.
    """

    def __init__(self, *, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._filled: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # key -> tokens, and when it had them

    def __len__(self) -> int:
        return len(self._filled)

    def take(self, key: Hashable, *, limit: int) -> Taken:
        """Takes one token from the key's bucket, if it has one."""
        rate = limit / 60
        with self._lock:
            now = self._clock()
            tokens, at = self._filled.pop(key, (float(limit), now))
            tokens = min(float(limit), tokens + (now - at) * rate)
            allowed = tokens >= 1
            if allowed:
                tokens -= 1
            self._filled[key] = (tokens, now)
            if len(self._filled) > self._capacity:
                self._filled.popitem(last=False)
        wait_sec = 0.0 if tokens >= 1 else (1 - tokens) / rate
        return Taken(allowed, limit, math.floor(tokens), wait_sec)

    def clear(self) -> None:
        with self._lock:
            self._filled.clear()


_buckets = Buckets(capacity=settings.LIMIT_MEMORY)


class TooMany(Throttled):
    """`policy` names the limit that was reached."""

    def __init__(self, policy: str, taken: Taken) -> None:
        super().__init__(wait=taken.wait_sec)
        self.detail = f"More than {taken.limit} requests a minute for this {policy}."  # type: ignore[assignment]


class Noted(NamedTuple):
    """Holds the scarcest of the limits that counted a request."""

    policy: str
    taken: Taken

    def headers(self) -> dict[str, str]:
        name = f'"{self.policy}"'
        return {
            "RateLimit-Policy": f"{name};q={self.taken.limit};w=60",
            "RateLimit": f"{name};r={self.taken.left};t={math.ceil(self.taken.wait_sec)}",
        }

    def too_many(self) -> TooMany | None:
        """Returns the exception to raise, if the limit was reached."""
        if self.taken.allowed:
            return None
        LIMITED.labels(self.policy).inc()
        return TooMany(*self)


def count_caller(caller: Caller, *, campaign: str, address: Callable[[], Address | None]) -> Noted | None:
    """Counts a known caller's request; None = no limit applies. `campaign` is empty when the request names none."""
    if not settings.LIMITS:
        return None
    if caller.user_id is None:
        if not settings.LIMIT_SERVICE_PER_MINUTE:
            return None
        return Noted("service", _take(("service", caller.name), settings.LIMIT_SERVICE_PER_MINUTE))
    taken = [Noted("user", _take(("user", caller.user_id), settings.LIMIT_USER_PER_MINUTE))]
    if campaign:
        one = ("user", caller.user_id, campaign)
        taken.append(Noted("user and campaign", _take(one, settings.LIMIT_USER_CAMPAIGN_PER_MINUTE)))
    return _scarcest([*taken, *_take_for_address(address(), campaign=campaign)])


def count_stranger(address: Address | None) -> Noted | None:
    """Counts a request without valid credentials."""
    return _scarcest(_take_for_address(address, campaign="")) if settings.LIMITS else None


class CallerThrottle(BaseThrottle):
    """Counts a known caller by user, address and campaign, any other by address."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Raises TooMany, which names the limit; DRF's own exception does not."""
        caller: object = request.user
        if isinstance(caller, Caller):
            campaign = str(view.kwargs.get("campaign_id", ""))
            noted = count_caller(caller, campaign=campaign, address=lambda: client_address(request))
        else:
            noted = count_stranger(client_address(request))
        request.limit_noted = noted  # type: ignore[attr-defined]  # for the answer's headers
        if noted is not None and (too_many := noted.too_many()) is not None:
            raise too_many
        return True


class LimitedView(APIView):
    """Limits every view of the API. DRF counts only requests that may go on; this class counts refused ones too."""

    throttle_classes = [CallerThrottle]

    def perform_authentication(self, request: Request) -> None:
        try:
            super().perform_authentication(request)
        except AuthenticationFailed:
            self.check_throttles(request)
            raise

    def permission_denied(self, request: Request, message: str | None = None, code: str | None = None) -> NoReturn:
        self.check_throttles(request)
        super().permission_denied(request, message, code)

    def finalize_response(self, request: Request, response: Response, *args: object, **kwargs: object) -> Response:
        finished = super().finalize_response(request, response, *args, **kwargs)
        finished["Cache-Control"] = "no-store"  # each answer is one caller's
        noted: Noted | None = getattr(request, "limit_noted", None)
        if noted is not None:
            for name, value in noted.headers().items():
                finished[name] = value
        return finished


def _take_for_address(address: Address | None, *, campaign: str) -> list[Noted]:
    whole = counted_as(address)
    if whole is None:
        return []
    taken = [Noted("address", _take(("address", whole), settings.LIMIT_ADDRESS_PER_MINUTE))]
    if campaign:
        one = ("address", whole, campaign)
        taken.append(Noted("address and campaign", _take(one, settings.LIMIT_ADDRESS_CAMPAIGN_PER_MINUTE)))
    return taken


def _scarcest(taken: list[Noted]) -> Noted | None:
    return min(
        taken,
        key=lambda each: (each.taken.allowed, each.taken.left / each.taken.limit, -each.taken.wait_sec),
        default=None,
    )


def _take(key: Hashable, limit: int) -> Taken:
    return _buckets.take(key, limit=limit)


def forget_all() -> None:
    """For tests."""
    _buckets.clear()
