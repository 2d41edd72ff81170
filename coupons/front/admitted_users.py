"""Remembers which users may hold a ticket, in a Bloom filter per campaign: 2 bytes a user, no false negatives."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from rbloom import Bloom

from coupons.admission.campaign_store import TicketsVersion
from coupons.admission.ticket_store import scan_tickets
from coupons.errors import GateUnavailable

logger = logging.getLogger(__name__)
FALSE_POSITIVE_RATE = 0.0005  # the lowest at 2 bytes a user; a false positive only costs a call to the gate
MIN_CAPACITY = 1_000  # 2 KB, so that the filter of a small campaign has practically no false positives
IDLE_SEC = 10.0
"""Only a filter that was not used for this long is evicted. Campaigns that do not fit together would otherwise be read
again and again, and each reading keeps Redis busy."""


@dataclass(frozen=True, slots=True)
class AdmittedUsers:
    """`version` was read before the tickets were, so the filter is complete if Redis still has this version."""

    version: TicketsVersion
    filter: Bloom


def capacity_for(version: TicketsVersion) -> int:
    return max(version.admitted, MIN_CAPACITY)


def load_admitted_users(campaign_id: UUID, version: TicketsVersion) -> AdmittedUsers:
    """Raises GateUnavailable."""
    found = Bloom(capacity_for(version), FALSE_POSITIVE_RATE)
    for user_id, _ in scan_tickets(campaign_id):
        found.add(user_id)
    return AdmittedUsers(version, found)


class AdmittedUsersLoader:
    """Loads filters in its own thread, one campaign after the other: a million tickets take seconds.

    `capacity` limits the users in all filters together. The least recently used filter makes room for a new one; a
    campaign that does not fit beside those in use is not loaded.
    """

    def __init__(self, *, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._loaded: dict[UUID, AdmittedUsers] = {}
        self._last_used_at: dict[UUID, float] = {}
        self._requested: dict[UUID, TicketsVersion] = {}
        self._too_many: dict[UUID, TicketsVersion] = {}  # logged once, though requested twenty times a second
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._load_requested, name="admitted-users", daemon=True)
        self._thread.start()

    def find(self, campaign_id: UUID, version: TicketsVersion) -> AdmittedUsers | None:
        """Returns the users of this version. If they are not loaded yet, returns None and loads them soon."""
        self._last_used_at[campaign_id] = self._clock()
        users = self._loaded.get(campaign_id)
        if users is not None and users.version == version:
            return users
        if self._requested.get(campaign_id) != version:
            self._requested[campaign_id] = version
            self._wake.set()
        return None

    @property
    def is_loading(self) -> bool:
        return bool(self._requested)

    def close(self) -> None:
        self._stopped = True
        self._wake.set()
        self._thread.join(timeout=5)

    def _load_requested(self) -> None:
        while not self._stopped:
            self._wake.wait()
            self._wake.clear()
            for campaign_id, version in list(self._requested.items()):
                try:
                    self._load(campaign_id, version)
                except GateUnavailable as error:
                    logger.warning("admitted_users.not_loaded campaign=%s error=%s", campaign_id, error)
                except Exception:  # without this thread the process could not answer refusals from memory any more
                    logger.exception("admitted_users.defect campaign=%s", campaign_id)
                if self._requested.get(campaign_id) == version:
                    self._requested.pop(campaign_id, None)

    def _load(self, campaign_id: UUID, version: TicketsVersion) -> None:
        self._loaded.pop(campaign_id, None)
        while (
            sum(capacity_for(each.version) for each in self._loaded.values()) + capacity_for(version) > self._capacity
        ):
            oldest = min(self._loaded, key=self._last_used_at.__getitem__, default=None)
            if oldest is None or self._clock() - self._last_used_at[oldest] < IDLE_SEC:
                if self._too_many.get(campaign_id) != version:
                    logger.warning("admitted_users.too_many campaign=%s admitted=%d", campaign_id, version.admitted)
                self._too_many[campaign_id] = version
                return
            del self._loaded[oldest]
        self._loaded[campaign_id] = load_admitted_users(campaign_id, version)
