"""Verifies users' tokens (JWT, RFC 7519): signature, issuer, audience, time and user id. Needs no database."""

import time
from functools import lru_cache
from typing import NamedTuple

import jwt
from django.conf import settings

from coupons.auth.caller import Caller, NotKnown
from coupons.auth.jwt_keys import token_keys
from coupons.messaging.messages import is_user_id
from coupons.models import Scope

MAX_TOKEN_BYTES = 8 * 1024
USERS_SCOPES = frozenset({Scope.APPLY.value, Scope.READ.value})
VERIFIED_TOKENS = 20_000
"""The number of tokens that each process remembers, in some 20 MB."""


class Verified(NamedTuple):
    """`not_before` and `until` are in seconds since 1970, and include the leeway."""

    caller: Caller
    not_before: float
    until: float


def caller_of_token(token: str) -> Caller:
    """Returns the user whom the token names. Raises NotKnown, whose text names the check that failed."""
    keys = token_keys()
    if keys is None:
        raise NotKnown("User tokens (JWT) are not taken here: COUPON_JWT_KEYS_DIR is not set. Use a service's API key.")
    if len(token) > MAX_TOKEN_BYTES:
        raise NotKnown(f"The token is longer than {MAX_TOKEN_BYTES} bytes.")
    try:
        kid = _kid_of(token.partition(".")[0])
        key = keys.find(kid) if isinstance(kid, str) else None
        if key is None:
            raise NotKnown("The token's header names no key (kid) that is known here.")
        verified = _verify(token, key)
    except jwt.PyJWTError as error:
        raise NotKnown(f"The token is not good: {_reason(error)}.") from error
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        # a forged header or claim may make a parser raise these: the caller's fault, never a 500
        raise NotKnown("The token is not good: it cannot be read.") from error
    now = time.time()  # the cache may have verified it a while ago
    if now >= verified.until:
        raise NotKnown("The token is not good: it has expired.")
    if now < verified.not_before:
        raise NotKnown("The token is not good: it is not valid yet.")
    return verified.caller


@lru_cache(maxsize=256)
def _kid_of(header: str) -> object:
    """Reads the kid from the unverified header, for the look-up alone. All tokens of a key have the same header."""
    return jwt.get_unverified_header(f"{header}..").get("kid")


@lru_cache(maxsize=VERIFIED_TOKENS)
def _verify(token: str, key: jwt.PyJWK) -> Verified:
    """Caches valid tokens only, each with the key object that verified it: a key that was read again verifies again."""
    claim, leeway_sec = settings.JWT_USER_CLAIM, settings.JWT_LEEWAY_SEC
    claims = jwt.decode(
        token,
        key,
        algorithms=[key.algorithm_name],
        audience=settings.JWT_AUDIENCE,
        issuer=settings.JWT_ISSUER,
        leeway=leeway_sec,
        options={"require": ["exp", "iss", "aud", claim]},
    )
    user_id = claims[claim]
    if not is_user_id(user_id):
        raise NotKnown(f"The token's claim {claim!r} is no user id.")
    return Verified(
        Caller(name="user", scopes=USERS_SCOPES, user_id=user_id),
        not_before=int(claims.get("nbf", 0)) - leeway_sec,
        until=int(claims["exp"]) + leeway_sec,
    )


def _reason(error: jwt.PyJWTError) -> str:
    """Describes each kind of error in our own words, as PyJWT's texts may repeat the token's content."""
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
