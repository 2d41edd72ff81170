"""What this process knows of the services' API keys: read from Redis every two seconds, good for five.

No request asks PostgreSQL, nor Redis. Knowledge older than the lease, counted from before it was asked for, is none:
then a service is answered 503, since its key may have been revoked meanwhile. PostgreSQL being down changes nothing.
"""

import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings

from coupons.admission.keys import API_KEYS
from coupons.admission.scripts import run
from coupons.errors import GateUnavailable, RetryLater
from coupons.runtime.process_local import ProcessLocal

logger = logging.getLogger(__name__)
FIRST_READ_SEC = 1.0


class KeysUnknown(RetryLater):
    """Redis has not told this process for a while which API keys are good."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    id: int
    prefix: str
    scopes: frozenset[str]
    campaigns: frozenset[UUID] | None
    expires_at: float | None


class KeySnapshot:
    """Use `key_snapshot()` for the process's own one."""

    def __init__(self) -> None:
        self._keys: dict[str, KnownKey] = {}
        self._document: bytes | None = None
        self._redis_ahead_sec = 0.0  # of the monotonic clock
        self._good_until = 0.0
        self._asked = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_current, name="api-keys", daemon=True)
        self._thread.start()

    def find(self, digest: str) -> KnownKey | None:
        """The key, or None when there is no such one. Raises KeysUnknown."""
        if time.monotonic() >= self._good_until:
            self.wait_until_asked()
            if time.monotonic() >= self._good_until:
                raise KeysUnknown("the API keys are not known here at this moment")
        return self._keys.get(digest)

    def wait_until_asked(self) -> None:
        """In a process that has just started: until Redis was asked once, FIRST_READ_SEC at most. Called before it
        serves, so that no event loop waits here."""
        self._asked.wait(FIRST_READ_SEC)

    def has_expired(self, key: KnownKey) -> bool:
        """By Redis's time: this host's own may be wrong."""
        return key.expires_at is not None and key.expires_at <= time.monotonic() + self._redis_ahead_sec

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _keep_current(self) -> None:
        trouble = ""
        while not self._stop.is_set():
            asked_at = time.monotonic()
            try:
                self._read(asked_at)
                if trouble:
                    logger.info("api_keys.known_again")
                trouble = ""
            except GateUnavailable as error:
                if not trouble:
                    logger.warning("api_keys.not_read error=%s", " ".join(str(error).split()))
                trouble = str(error)
            except Exception:  # this thread must not end: its process would refuse every service from then on
                logger.exception("api_keys.defect")
            self._asked.set()
            self._stop.wait(settings.API_KEYS_REFRESH_MS / 1000)

    def _read(self, asked_at: float) -> None:
        status, _, *values = run("read_api_keys", [API_KEYS], [])
        if status != b"CURRENT":
            raise GateUnavailable("no snapshot since Redis started; the keeper makes it from PostgreSQL")
        document, now_sec = values
        self._redis_ahead_sec = int(now_sec) - time.monotonic()
        if document != self._document:
            self._keys = _parse(document)
            self._document = document
        self._good_until = asked_at + settings.API_KEYS_LEASE_MS / 1000


def _parse(document: bytes) -> dict[str, KnownKey]:
    rows: list[dict[str, Any]] = json.loads(document)
    return {
        row["digest"]: KnownKey(
            id=row["id"],
            prefix=row["prefix"],
            scopes=frozenset(row["scopes"]),
            campaigns=None if row["campaigns"] is None else frozenset(map(UUID, row["campaigns"])),
            expires_at=row["expires_at"],
        )
        for row in rows
    }


key_snapshot: ProcessLocal[KeySnapshot] = ProcessLocal(KeySnapshot, close=KeySnapshot.close)
