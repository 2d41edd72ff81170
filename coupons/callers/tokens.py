"""A user's token (JWT, RFC 7519): its signature, whom it is for and how long, and the user it names. No database."""

import jwt
from django.conf import settings

from coupons.callers.caller import Caller, NotKnown
from coupons.callers.token_keys import token_keys
from coupons.messaging.messages import is_user_id
from coupons.models import Scope

MAX_TOKEN_BYTES = 8 * 1024
USERS_SCOPES = frozenset({Scope.APPLY.value, Scope.READ.value})


def caller_of_token(token: str) -> Caller:
    """The user whom the token names. Raises NotKnown, whose text says which of the checks it failed."""
    keys = token_keys()
    if keys is None:
        raise NotKnown("User tokens (JWT) are not taken here: COUPON_JWT_KEYS_DIR is not set. Use a service's API key.")
    if len(token) > MAX_TOKEN_BYTES:
        raise NotKnown(f"The token is longer than {MAX_TOKEN_BYTES} bytes.")
    claim = settings.JWT_USER_CLAIM
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        key = keys.find(kid) if isinstance(kid, str) else None
        if key is None:
            raise NotKnown("The token's header names no key (kid) that is known here.")
        claims = jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm],
            audience=settings.JWT_AUDIENCE,
            issuer=settings.JWT_ISSUER,
            leeway=settings.JWT_LEEWAY_SEC,
            options={"require": ["exp", "iss", "aud", claim]},
        )
    except jwt.PyJWTError as error:
        raise NotKnown(f"The token is not good: {_reason(error)}.") from error
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        # what a forged header or claim can make a parser raise is the caller's fault, never a 500
        raise NotKnown("The token is not good: it cannot be read.") from error
    user_id = claims[claim]
    if not is_user_id(user_id):
        raise NotKnown(f"The token's claim {claim!r} is no user id.")
    return Caller(name="user", scopes=USERS_SCOPES, user_id=user_id)


def _reason(error: jwt.PyJWTError) -> str:
    """Our own words for each kind: the library's may repeat what the token says."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"the claim {error.claim} is missing"
    reasons: dict[type[jwt.PyJWTError], str] = {
        jwt.ExpiredSignatureError: "it has expired",
        jwt.ImmatureSignatureError: "it is not valid yet",
        jwt.InvalidAudienceError: "it is for another audience",
        jwt.InvalidIssuerError: "it is from another issuer",
        jwt.InvalidAlgorithmError: "its algorithm is not the one of its key",
        jwt.InvalidSignatureError: "its signature is wrong",
    }
    return next((text for kind, text in reasons.items() if isinstance(error, kind)), "it cannot be read")
