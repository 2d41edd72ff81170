"""Who is calling: `Authorization: Bearer ...` with one of the API keys of COUPON_API_KEYS.

No key set means that nobody gets in. A bearer with two dots is a user's JWT, which this version does not take yet.
"""

import hmac
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

if TYPE_CHECKING:  # DRF's views import this module while they are being imported
    from rest_framework.views import APIView

ALL_SCOPES = frozenset({"apply", "read", "manage"})


@dataclass(frozen=True, slots=True)
class Caller:
    """A service with an API key. `name` stands in logs: a fingerprint of the key, never the key."""

    name: str
    scopes: frozenset[str]
    is_authenticated: ClassVar[bool] = True


class BearerAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        scheme, _, token = get_authorization_header(request).partition(b" ")
        if not scheme:
            return None
        if scheme.lower() != b"bearer" or not token.strip():
            raise AuthenticationFailed("Send `Authorization: Bearer <API key>`.")
        if token.count(b".") == 2:
            raise AuthenticationFailed("User tokens (JWT) are not taken by this version; use a service's API key.")
        return _caller_of(token.strip()), None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="coupons"'


class HasScope(BasePermission):
    """Every view names the scope that each of its methods needs, in `scopes`."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        scopes: dict[str, str] = getattr(view, "scopes", {})
        caller: object = request.user
        if not isinstance(caller, Caller):
            return False
        method = "GET" if request.method == "HEAD" else request.method or ""
        if method == "OPTIONS" or not hasattr(view, method.lower()):
            return True  # the view answers it, with 405 for a method that it does not have
        return scopes.get(method) in caller.scopes


def caller_name(request: Request) -> str:
    """Who is calling, for logs and for the record of what was done."""
    caller: object = request.user
    return caller.name if isinstance(caller, Caller) else "nobody"


def _caller_of(token: bytes) -> Caller:
    # Digests of equal length, all of them compared: neither a key's length nor its place in the list shows in time.
    digest = sha256(token).digest()
    matches = [hmac.compare_digest(digest, sha256(key.encode()).digest()) for key in settings.API_KEYS]
    if not any(matches):
        raise AuthenticationFailed("This API key is not known.")
    return Caller(name=f"key-{sha256(digest).hexdigest()[:8]}", scopes=ALL_SCOPES)
