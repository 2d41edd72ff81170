"""Caches the services' API keys, so that no request asks PostgreSQL for them.

A refresher reads them every two seconds. While PostgreSQL is down, the last read keys stay valid for an hour
(docs/decisions/0014-who-is-calling.md). The keys of COUPON_API_KEYS need no PostgreSQL.
"""

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from math import inf
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from coupons.auth.api_keys import MARK, digest_of
from coupons.auth.caller import Caller, NotKnown
from coupons.auth.revocations import share_revoked_keys
from coupons.errors import GateUnavailable, RetryLater
from coupons.models import ApiKey, Scope
from coupons.runtime.process_local import ProcessLocal
from coupons.runtime.refresher import Refresher

logger = logging.getLogger(__name__)
REFRESH_SEC = 2.0
"""Every process refuses a revoked key within this time."""
LEASE_SEC = 3_600.0
"""A known key stays valid for this time after the last read, so that an outage of PostgreSQL stops no sale. The limit
is needed because a process that does not reach PostgreSQL misses revocations."""
MISS_LEASE_SEC = 10.0
"""Only a read younger than this can refuse an unknown key. After that the key may be new: "repeat", not "wrong"."""
ANSWER_SEC = 5.0
FIRST_READ_SEC = 1.0
"""A new process waits at most this long for its first read. While PostgreSQL hangs, it then serves without one."""
REVOKED_LATELY = timedelta(days=1)
USE_EVERY = timedelta(minutes=1)
"""Each key's last use is stored once a minute at most, and is that precise."""
NOT_A_KEY = (
    "This API key is not known: it is none of COUPON_API_KEYS, and `manage.py create_api_key` has not made it here, or "
    "it was revoked."
)
ALL_SCOPES = frozenset(Scope.values)


class KeysUnknown(RetryLater):
    """This process could not read from PostgreSQL whether the API key is valid."""


@dataclass(frozen=True, slots=True)
class CachedApiKey:
    """`good_until` is a monotonic time."""

    id: int
    caller: Caller
    good_until: float


def caller_of_key(key: bytes) -> Caller:
    """Raises NotKnown, or KeysUnknown when a repeat may succeed."""
    # Looks up the digest, no part of which a caller can choose: the time taken reveals neither a key nor its place.
    digest = digest_of(key)
    named = _callers_of(tuple(settings.API_KEYS)).get(digest)
    if named is not None:
        return named
    if not key.startswith(f"{MARK}_".encode()):
        raise NotKnown(NOT_A_KEY)
    return api_key_cache().caller_of(digest)


@lru_cache(maxsize=1)
def _callers_of(keys: tuple[str, ...]) -> dict[str, Caller]:
    """Maps digests to callers with all scopes, each named by a fingerprint of its key."""
    digests = [digest_of(key.encode()) for key in keys]
    return {each: Caller(name=f"key-{digest_of(bytes.fromhex(each))[:8]}", scopes=ALL_SCOPES) for each in digests}


class ApiKeyCache:
    """Caches the keys in one process. Use `api_key_cache()` for this process's instance."""

    def __init__(self) -> None:
        self._keys: dict[str, CachedApiKey] = {}
        self._revoked: set[str] = set()
        self._used: set[int] = set()
        self._read_at = -inf
        self._refresher = Refresher("api_keys", self._refresh, interval_sec=REFRESH_SEC, answer_sec=ANSWER_SEC)
        self._refresher.wait_for_first(FIRST_READ_SEC)

    def caller_of(self, digest: str) -> Caller:
        """Raises as caller_of_key does."""
        now = time.monotonic()
        age_sec = now - self._read_at
        found = self._keys.get(digest)
        if found is None and (age_sec < MISS_LEASE_SEC or digest in self._revoked):
            raise NotKnown(NOT_A_KEY)
        if found is None or age_sec >= LEASE_SEC:
            raise KeysUnknown("PostgreSQL has not said for a while which API keys are good")
        if now >= found.good_until:
            raise NotKnown("This API key has expired; `manage.py create_api_key` makes another.")
        self._used.add(found.id)
        return found.caller

    def close(self) -> None:
        self._refresher.close()

    def _refresh(self) -> None:
        self._read()
        self._share_revocations()
        self._write_uses()

    def _read(self) -> None:
        asked_at = time.monotonic()
        keys = {}
        for row in _rows(all_revoked=self._read_at == -inf):
            if row.revoked_at is not None:
                self._revoked.add(row.digest)
            elif row.digest not in self._revoked:  # a copy of PostgreSQL may lag; a revocation is final
                keys[row.digest] = _cached(row, asked_at)
        self._keys = keys
        self._read_at = asked_at  # the time before the read, set after the keys: never later than their state

    def _share_revocations(self) -> None:
        """Refuses also what others have seen revoked, so that no process believes an older copy of PostgreSQL."""
        with suppress(GateUnavailable):  # Redis hears of it at a later refresh
            self._revoked |= share_revoked_keys(self._revoked)
        regained = self._keys.keys() & self._revoked
        if regained:
            prefixes = ",".join(self._keys[digest].caller.name for digest in regained)
            logger.warning("api_keys.revoked_before keys=%s: `manage.py revoke_after_restore` says more", prefixes)
            self._keys = {digest: key for digest, key in self._keys.items() if digest not in regained}

    def _write_uses(self) -> None:
        """Writes each key's last use at most once a minute, across all processes. A use that could not be written is
        written when PostgreSQL is back, with the time of the write."""
        used = self._used.copy()
        if used:
            long_ago = Q(last_used_at__isnull=True) | Q(last_used_at__lt=Now() - USE_EVERY)
            ApiKey.objects.filter(long_ago, pk__in=used).update(last_used_at=Now())
            self._used -= used  # a use since the copy was in the same second


def _rows(*, all_revoked: bool) -> Iterable[Any]:
    """Reads the valid keys and those that were revoked, at least lately, with PostgreSQL's time."""
    good = Q(expires_at__isnull=True) | Q(expires_at__gt=Now())
    known = Q(revoked_at__isnull=True) | Q(revoked_at__gt=Now() - REVOKED_LATELY)
    wanted = good & known if not all_revoked else good | Q(revoked_at__isnull=False)
    return ApiKey.objects.filter(wanted).annotate(now=Now())


def _cached(row: Any, asked_at: float) -> CachedApiKey:
    """Reads the remaining time by PostgreSQL's clock, as this host's may be wrong; it runs on the monotonic clock."""
    expires_at: datetime | None = row.expires_at
    campaigns: list[UUID] | None = row.campaigns
    return CachedApiKey(
        id=row.pk,
        caller=Caller(
            name=f"key-{row.prefix}",
            scopes=frozenset(row.scopes),
            campaigns=None if campaigns is None else frozenset(campaigns),
        ),
        good_until=inf if expires_at is None else asked_at + (expires_at - row.now).total_seconds(),
    )


api_key_cache: ProcessLocal[ApiKeyCache] = ProcessLocal(ApiKeyCache, close=ApiKeyCache.close)
