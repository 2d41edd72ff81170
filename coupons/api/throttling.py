"""Limits the requests of a user and of an address, and answers 429 beyond that, before any other part is called.

Each process counts for itself, so N processes allow up to N times the setting. That is enough against a script, and
puts no load on the Redis that admits, where a million invented users would take the winners' memory. A 429 does not
endanger a user's place: it precedes the call of the gate, and the next request finds the place unchanged.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, NoReturn, cast

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
    """Holds what one limit says of a request: `left` more are allowed now, or one more in `wait_sec`."""

    policy: str
    allowed: bool
    limit: int
    left: int
    wait_sec: float

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Policy": f'"{self.policy}";q={self.limit};w=60',
            "RateLimit": f'"{self.policy}";r={self.left};t={math.ceil(self.wait_sec)}',
        }

    def check(self) -> None:
        """Raises Throttled if the limit was reached. Its text names the limit; DRF's own does not."""
        if not self.allowed:
            LIMITED.labels(self.policy).inc()
            error = Throttled(wait=self.wait_sec)
            error.detail = f"More than {self.limit} requests a minute for this {self.policy}."  # type: ignore[assignment]
            raise error


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
        self._filled: OrderedDict[tuple[str, ...], tuple[float, float]] = OrderedDict()  # key -> tokens, as of when

    def take(self, policy: str, *names: str, limit: int) -> Taken:
        """Takes one token from the bucket of this key, if it has one. Each policy has keys of its own."""
        key, rate = (policy, *names), limit / 60
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
        return Taken(policy, allowed, limit, math.floor(tokens), wait_sec)


buckets = Buckets(capacity=settings.LIMIT_MEMORY)


def count_caller(caller: Caller, *, campaign: str, address: Callable[[], Address | None]) -> Taken | None:
    """Counts a known caller's request, and returns the scarcest of the limits; None = no limit applies.

    `campaign` is empty when the request names none.
    """
    if not settings.LIMITS:
        return None
    user = caller.user_id
    if user is None:
        per_minute = settings.LIMIT_SERVICE_PER_MINUTE
        return buckets.take("service", caller.name, limit=per_minute) if per_minute else None
    taken = [buckets.take("user", user, limit=settings.LIMIT_USER_PER_MINUTE)]
    if campaign:
        per_minute = settings.LIMIT_USER_CAMPAIGN_PER_MINUTE
        taken.append(buckets.take("user and campaign", user, campaign, limit=per_minute))
    return _scarcest([*taken, *_take_for_address(address(), campaign=campaign)])


def count_stranger(address: Address | None) -> Taken | None:
    return _scarcest(_take_for_address(address, campaign="")) if settings.LIMITS else None


def _take_for_address(address: Address | None, *, campaign: str) -> list[Taken]:
    whole = counted_as(address)
    if whole is None:
        return []
    taken = [buckets.take("address", whole, limit=settings.LIMIT_ADDRESS_PER_MINUTE)]
    if campaign:
        per_minute = settings.LIMIT_ADDRESS_CAMPAIGN_PER_MINUTE
        taken.append(buckets.take("address and campaign", whole, campaign, limit=per_minute))
    return taken


def _scarcest(taken: list[Taken]) -> Taken | None:
    return min(taken, key=lambda each: (each.allowed, each.left / each.limit, -each.wait_sec), default=None)


class CallerThrottle(BaseThrottle):
    """Counts a known caller by user, address and campaign, any other by address."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Raises Throttled with a text that names the limit; DRF's own does not."""
        caller: object = request.user
        if isinstance(caller, Caller):
            campaign = str(view.kwargs.get("campaign_id", ""))
            taken = count_caller(caller, campaign=campaign, address=lambda: client_address(request))
        else:
            taken = count_stranger(client_address(request))
        if isinstance(view, LimitedView):
            view.taken = taken
        if taken is not None:
            taken.check()
        return True


class LimitedView(APIView):
    """Limits every view of the API. DRF counts only requests that may go on; this class counts refused ones too."""

    throttle_classes = [CallerThrottle]
    taken: Taken | None = None

    @property
    def caller(self) -> Caller:
        """Is there when a method of the view is called: HasScope lets no other request through."""
        return cast("Caller", self.request.user)

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
        if self.taken is not None:
            for name, value in self.taken.headers().items():
                finished[name] = value
        return finished
