"""Tokens that this process has verified, so that a user who asks again costs one look-up and no signature.

Only good tokens are remembered: invented ones take no memory. A token is good again as long as it has not expired and
its key is the very one that verified it; after any change in the folder of keys each is verified anew.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256

from coupons.auth.caller import Caller
from coupons.auth.jwt_keys import TokenKey


@dataclass(frozen=True, slots=True)
class Seen:
    """`until` in seconds since 1970, the leeway included."""

    caller: Caller
    kid: str
    key: TokenKey
    until: float


class SeenTokens:
    """By digest, so that no list of good tokens lies in memory; the least recently used are forgotten first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def find(self, token: str) -> Seen | None:
        digest = _digest(token)
        with self._lock:
            found = self._seen.get(digest)
            if found is not None:
                self._seen.move_to_end(digest)
        return found

    def remember(self, token: str, seen: Seen) -> None:
        digest = _digest(token)
        with self._lock:
            self._seen[digest] = seen
            self._seen.move_to_end(digest)
            if len(self._seen) > self._capacity:
                self._seen.popitem(last=False)


def _digest(token: str) -> bytes:
    return sha256(token.encode("latin-1")).digest()
