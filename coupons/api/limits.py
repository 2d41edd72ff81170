"""How often a user and an address may ask: 429 beyond that, before anybody else is asked anything.

Counted in this process alone, so with N processes it is up to N times the setting: enough against a script, and no
load on the Redis that admits, in which a million invented users would take the winners' memory. A place that somebody
has is in no danger: a 429 is said before the gate is asked, and the next request finds the place as it was.
"""

import math
from collections.abc import Hashable

from django.conf import settings
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from coupons.api.authentication import authenticate
from coupons.api.client_address import client_address, counted_as
from coupons.callers.buckets import Buckets, Taken
from coupons.callers.caller import Caller
from coupons.telemetry import LIMITED

_buckets = Buckets(capacity=settings.LIMIT_MEMORY)


class TooMany(Throttled):
    """`policy` names the limit that was reached."""

    def __init__(self, policy: str, taken: Taken) -> None:
        super().__init__(wait=taken.wait_sec)
        self.detail = f"More than {taken.limit} requests a minute for this {policy}."  # type: ignore[assignment]


class LimitedView(APIView):
    """Every view of the API: its callers are counted once they are known, strangers by their address."""

    def perform_authentication(self, request: Request) -> None:
        """With wrong credentials it raises, without any the permissions do. DRF would ask its one authenticator through
        three properties; it still does where it has to say who is not let in."""
        try:
            request.user = authenticate(request)  # type: ignore[assignment]
        except AuthenticationFailed:
            _note(request, *_take_for_address(request, campaign=""))
            raise

    def check_permissions(self, request: Request) -> None:
        """Counted before what they may do: who asks in vain asks all the same."""
        self._count(request)
        super().check_permissions(request)

    def _count(self, request: Request) -> None:
        caller: object = request.user
        if not isinstance(caller, Caller):
            _note(request, *_take_for_address(request, campaign=""))
            return
        if not settings.LIMITS:
            return
        campaign = str(self.kwargs.get("campaign_id", ""))
        if caller.user_id is None:
            if settings.LIMIT_SERVICE_PER_MINUTE:
                _note(request, ("service", _take(("service", caller.name), settings.LIMIT_SERVICE_PER_MINUTE)))
            return
        taken = [("user", _take(("user", caller.user_id), settings.LIMIT_USER_PER_MINUTE))]
        if campaign:
            one = ("user", caller.user_id, campaign)
            taken.append(("user and campaign", _take(one, settings.LIMIT_USER_CAMPAIGN_PER_MINUTE)))
        _note(request, *taken, *_take_for_address(request, campaign=campaign))

    def finalize_response(self, request: Request, response: Response, *args: object, **kwargs: object) -> Response:
        finished = super().finalize_response(request, response, *args, **kwargs)
        finished["Cache-Control"] = "no-store"  # each answer is one caller's
        noted: tuple[str, Taken] | None = getattr(request, "limit_noted", None)
        if noted is not None:
            policy, taken = noted
            name = f'"{policy}"'
            finished["RateLimit-Policy"] = f"{name};q={taken.limit};w=60"
            finished["RateLimit"] = f"{name};r={taken.left};t={math.ceil(taken.wait_sec)}"
        return finished


def _take_for_address(request: Request, *, campaign: str) -> list[tuple[str, Taken]]:
    whole = counted_as(client_address(request)) if settings.LIMITS else None
    if whole is None:
        return []
    taken = [("address", _take(("address", whole), settings.LIMIT_ADDRESS_PER_MINUTE))]
    if campaign:
        one = ("address", whole, campaign)
        taken.append(("address and campaign", _take(one, settings.LIMIT_ADDRESS_CAMPAIGN_PER_MINUTE)))
    return taken


def _take(key: Hashable, limit: int) -> Taken:
    return _buckets.take(key, limit=limit)


def _note(request: Request, *taken: tuple[str, Taken]) -> None:
    """Keeps the scarcest for the answer's headers; raises when one of them has none left."""
    if not taken:
        return
    scarcest = min(taken, key=lambda each: (each[1].allowed, each[1].left / each[1].limit, -each[1].wait_sec))
    request.limit_noted = scarcest  # type: ignore[attr-defined]
    if not scarcest[1].allowed:
        LIMITED.labels(scarcest[0]).inc()
        raise TooMany(*scarcest)


def forget_all() -> None:
    """For tests."""
    _buckets.clear()
