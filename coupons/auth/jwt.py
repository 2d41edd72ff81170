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
MAX_NUMBER = 2**53 - 1
"""Of a user id that is a number: beyond it, programs on a token's way round, and two users would become one."""

PAGE = "docs/deploy/security.md#tokens-of-common-issuers"
NO_KID = (
    "The token's header names no key (kid), and COUPON_JWT_KEYS_DIR does not have exactly one key that could be meant: "
    f"see {PAGE}."
)
UNKNOWN_KID = f"The token's header names no key (kid) that COUPON_JWT_KEYS_DIR has: see {PAGE}."
UNREADABLE = f"it cannot be read: see {PAGE}"
IDS = "docs/api.md#who-is-calling"
CLOCK = "docs/runbook.md#a-hosts-clock-is-wrong if it should not have"
EXPIRED = f"it has expired: get a new one, or see {CLOCK}"
NOT_YET = f"it is not valid yet: see {CLOCK.replace(' have', ' be so')}"


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
        raise NotKnown(f"The token is longer than {MAX_TOKEN_BYTES} bytes: see {PAGE}.")
    try:
        kid = _kid_of(token.partition(".")[0])
        key = keys.find(kid)
        if key is None:
            raise NotKnown(NO_KID if kid is None else UNKNOWN_KID)
        verified = _verify(token, key)
    except jwt.PyJWTError as error:
        raise NotKnown(f"The token is not good: {_reason(error)}.") from error
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        # a forged header or claim may make a parser raise these: the caller's fault, never a 500
        raise NotKnown(f"The token is not good: {UNREADABLE}.") from error
    now = time.time()  # the cache may have verified it a while ago
    if now >= verified.until:
        raise NotKnown(f"The token is not good: {EXPIRED}.")
    if now < verified.not_before:
        raise NotKnown(f"The token is not good: {NOT_YET}.")
    return verified.caller


@lru_cache(maxsize=256)
def _kid_of(header: str) -> object:
    """Reads the kid from the unverified header, for the look-up alone. All tokens of a key have the same header."""
    return jwt.get_unverified_header(f"{header}..").get("kid")


@lru_cache(maxsize=VERIFIED_TOKENS)
def _verify(token: str, key: jwt.PyJWK) -> Verified:
    """Caches valid tokens only, each with the key object that verified it: a key that was read again verifies again."""
    claim, leeway_sec = settings.JWT_USER_CLAIM, settings.JWT_LEEWAY_SEC
    audience, issuer = settings.JWT_AUDIENCE, settings.JWT_ISSUER  # None: the issuer's tokens have no such claim
    claims = jwt.decode(
        token,
        key,
        algorithms=[key.algorithm_name],
        audience=audience,  # with None, PyJWT refuses a token that has one
        issuer=issuer,
        leeway=leeway_sec,
        options={
            "require": ["exp", claim, *(["iss"] if issuer else []), *(["aud"] if audience else [])],
            "verify_sub": False,  # PyJWT takes texts alone; `_user_id_of` is stricter for them
        },
    )
    if issuer is None and claims.get("iss") is not None:
        raise NotKnown("The token has an issuer (iss), and COUPON_JWT_ISSUER=none takes tokens without one.")
    if claims.get("token_type") == "refresh":  # of simplejwt; it outlives an access token by far
        raise NotKnown(f"This is a refresh token, which only its issuer takes: see {PAGE}.")
    user_id = _user_id_of(claims[claim])
    if user_id is None:
        raise NotKnown(f"The token's claim {claim!r} (COUPON_JWT_USER_CLAIM) is no user id: see {IDS}.")
    return Verified(
        Caller(name="user", scopes=USERS_SCOPES, user_id=user_id),
        not_before=int(claims.get("nbf", 0)) - leeway_sec,
        until=int(claims["exp"]) + leeway_sec,
    )


def _user_id_of(claim: object) -> str | None:
    """Also of a whole number, whose digits are the user id: simplejwt and others sign one."""
    if type(claim) is int and 0 <= claim <= MAX_NUMBER:
        return str(claim)
    return claim if isinstance(claim, str) and is_user_id(claim) else None


def _reason(error: jwt.PyJWTError) -> str:
    """Describes each kind of error in our own words, as PyJWT's texts may repeat the token's content."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        setting = SETTING_OF_CLAIM.get(error.claim, "COUPON_JWT_USER_CLAIM")
        return f"the claim {error.claim} is missing: see {setting or 'the claims'} in {PAGE}"
    return next((text for kind, text in REASONS.items() if isinstance(error, kind)), UNREADABLE)


SETTING_OF_CLAIM = {"aud": "COUPON_JWT_AUDIENCE", "iss": "COUPON_JWT_ISSUER", "exp": ""}
REASONS: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: EXPIRED,
    jwt.ImmatureSignatureError: NOT_YET,
    jwt.InvalidAudienceError: "it is for another audience than COUPON_JWT_AUDIENCE",
    jwt.InvalidIssuerError: "it is from another issuer than COUPON_JWT_ISSUER",
    jwt.InvalidAlgorithmError: "its algorithm is not the one of its key in COUPON_JWT_KEYS_DIR",
    jwt.InvalidSignatureError: "its signature is wrong: COUPON_JWT_KEYS_DIR has another key of its name",
}
