"""Authenticates callers by `Authorization: Bearer ...`: a service's API key, or a user's token (it has two dots).

Without API keys and without a folder of token keys every request is refused. A request for another user's id gets 403
everywhere, before any look-up, so that no answer shows whether that user, a ticket or a campaign exists.
"""

from typing import TYPE_CHECKING

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from coupons.api.problems import SEND_CREDENTIALS
from coupons.auth.api_key_cache import caller_of_key
from coupons.auth.caller import Caller, NotKnown
from coupons.auth.jwt import caller_of_token

if TYPE_CHECKING:  # DRF's views import this module while they are being imported
    from rest_framework.views import APIView


def caller_of_header(authorization: bytes) -> Caller | None:
    """Returns the caller with these credentials, None for an empty header. Raises NotKnown or KeysUnknown (repeat)."""
    scheme, _, credentials = authorization.partition(b" ")
    if not scheme:
        return None
    credentials = credentials.strip()
    if scheme.lower() != b"bearer" or not credentials:
        raise NotKnown(SEND_CREDENTIALS)
    if credentials.count(b".") == 2:
        return caller_of_token(credentials.decode("latin-1"))
    return caller_of_key(credentials)


class BearerAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        """Raises AuthenticationFailed, or KeysUnknown when a repeat may succeed."""
        try:
            caller = caller_of_header(request.META.get("HTTP_AUTHORIZATION", "").encode("latin-1"))
        except NotKnown as error:
            raise AuthenticationFailed(str(error)) from error
        return None if caller is None else (caller, None)

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="coupons"'


class HasScope(BasePermission):
    """Requires the scope that the view's `scopes` names for the method."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        scopes: dict[str, str] = getattr(view, "scopes", {})
        caller: object = request.user
        if not isinstance(caller, Caller):
            return False
        method = "GET" if request.method == "HEAD" else request.method or ""
        if method == "OPTIONS" or not hasattr(view, method.lower()):
            return True  # the view answers it, with 405 for a method that it does not have
        return scopes.get(method) in caller.scopes


def must_act_for(caller: Caller, user_id: str) -> None:
    """Raises 403 for another user than the caller's own."""
    if not caller.may_act_for(user_id):
        raise PermissionDenied("These credentials are for another user.")
