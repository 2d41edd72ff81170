"""A user's token (JWT, RFC 7519): its signature, whom it is for and how long, and the user it names. No database."""

import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from functools import lru_cache

import jwt
from django.conf import settings
from jwt.algorithms import HMACAlgorithm

from coupons.auth.caller import Caller, NotKnown
from coupons.auth.jwt_keys import TokenKeys, token_keys
from coupons.auth.seen_tokens import Seen, SeenTokens
from coupons.messaging.messages import is_user_id
from coupons.models import Scope

MAX_TOKEN_BYTES = 8 * 1024
USERS_SCOPES = frozenset({Scope.APPLY.value, Scope.READ.value})


class _QuickJWS(jwt.PyJWS):
    """PyJWT looks at each character of a token in Python, a third of the price of RS256; here it does so only where a
    segment does not come out of the codec as it went in, to say what is wrong. Should a later version call this method
    otherwise, its own is used."""

    @staticmethod
    def _decode_base64url_segment(segment: bytes, name: str) -> bytes:
        with suppress(ValueError):
            decoded = urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
            if urlsafe_b64encode(decoded).rstrip(b"=") == segment:
                return decoded
        return jwt.PyJWS._decode_base64url_segment(segment, name)


class _CheckedSecret(HMACAlgorithm):
    """PyJWT asks of a secret, at each token, whether it is a public key in disguise. Here that was asked when its file
    was read (jwt_keys.py)."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()

    def sign(self, msg: bytes, key: bytes) -> bytes:
        return hmac.digest(key, msg, "sha256")


_jwt = jwt.PyJWT()
_jwt._jws = _QuickJWS(options=_jwt._get_sig_options())
_jwt._jws.unregister_algorithm("HS256")
_jwt._jws.register_algorithm("HS256", _CheckedSecret(HMACAlgorithm.SHA256))
SEEN_TOKENS = 20_000
"""Of each process: some 10 MB when they are all there."""
_seen = SeenTokens(SEEN_TOKENS)


def caller_of_token(token: str) -> Caller:
    """The user whom the token names. Raises NotKnown, whose text says which of the checks it failed."""
    keys = token_keys()
    if keys is None:
        raise NotKnown("User tokens (JWT) are not taken here: COUPON_JWT_KEYS_DIR is not set. Use a service's API key.")
    if len(token) > MAX_TOKEN_BYTES:
        raise NotKnown(f"The token is longer than {MAX_TOKEN_BYTES} bytes.")
    seen = _seen.find(token)
    if seen is None or keys.find(seen.kid) is not seen.key or time.time() >= seen.until:
        seen = _verify(token, keys)
        _seen.remember(token, seen)
    return seen.caller


def _verify(token: str, keys: TokenKeys) -> Seen:
    claim = settings.JWT_USER_CLAIM
    try:
        kid = _kid_of(token.partition(".")[0])
        key = keys.find(kid) if isinstance(kid, str) else None
        if key is None:
            raise NotKnown("The token's header names no key (kid) that is known here.")
        claims = _jwt.decode(
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
    caller = Caller(name="user", scopes=USERS_SCOPES, user_id=user_id)
    return Seen(caller, str(kid), key, until=int(claims["exp"]) + settings.JWT_LEEWAY_SEC)


@lru_cache(maxsize=256)
def _kid_of(header: str) -> object:
    """The key that the header names, to be looked up and not believed.

    All tokens of an issuer's key have the same header, and reading it is a fifth of the price of a token.
    """
    return jwt.get_unverified_header(f"{header}..").get("kid")


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
