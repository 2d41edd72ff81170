"""Which service has this API key, and what it may do."""

from functools import lru_cache
from hashlib import sha256

from django.conf import settings

from coupons.auth.api_keys import MARK, digest_of
from coupons.auth.caller import Caller, NotKnown
from coupons.auth.last_used import last_used
from coupons.auth.snapshot import key_snapshot
from coupons.models import Scope

ALL_SCOPES = frozenset(Scope.values)


def caller_of_key(key: bytes) -> Caller:
    """Raises NotKnown, or KeysUnknown when this process cannot tell at this moment."""
    named = _named_in_settings(key)
    if named is not None:
        return named
    known = key_snapshot().find(digest_of(key)) if key.startswith(f"{MARK}_".encode()) else None
    if known is None:
        raise NotKnown("This API key is not known.")
    if key_snapshot().has_expired(known):
        raise NotKnown("This API key has expired.")
    last_used().note(known.id)
    return Caller(name=f"key-{known.prefix}", scopes=known.scopes, campaigns=known.campaigns)


def _named_in_settings(key: bytes) -> Caller | None:
    # Found by its digest, of which nobody can choose a part: neither a key nor its place in the list shows in time.
    return _callers_of(tuple(settings.API_KEYS)).get(sha256(key).digest())


@lru_cache(maxsize=1)
def _callers_of(keys: tuple[str, ...]) -> dict[bytes, Caller]:
    """With all scopes, by their digest; the name is a fingerprint."""
    digests = [sha256(key.encode()).digest() for key in keys]
    return {each: Caller(name=f"key-{sha256(each).hexdigest()[:8]}", scopes=ALL_SCOPES) for each in digests}
