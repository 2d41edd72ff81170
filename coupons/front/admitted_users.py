"""Remembers which users may hold a ticket, in a Bloom filter per campaign: 2 bytes a user, no false negatives."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from rbloom import Bloom

from coupons.admission.campaign_store import RefusalState
from coupons.admission.scan import scan_tickets
from coupons.errors import GateUnavailable

logger = logging.getLogger(__name__)
FALSE_POSITIVE_RATE = 0.0005  # the lowest at 2 bytes a user; a false positive only costs a call to the gate
MIN_CAPACITY = 1_000  # 2 KB, so that the filter of a small campaign has practically no false positives
IDLE_SEC = 10.0
"""A filter that was not used for this long may be evicted, the least recently used one first."""


class TicketsVersion(NamedTuple):
    """Identifies one set of tickets: within an epoch tickets are only added."""

    epoch: int
    revision: int
    admitted: int


def version_of(state: RefusalState) -> TicketsVersion:
    return TicketsVersion(state.epoch, state.revision, state.admitted)


@dataclass(frozen=True, slots=True)
class AdmittedUsers:
    """`version` was read before the tickets were, so the filter is complete if Redis still has this version."""

    version: TicketsVersion
    filter: Bloom


def new_filter(capacity: int) -> Bloom:
    return Bloom(max(capacity, MIN_CAPACITY), FALSE_POSITIVE_RATE)


def load_admitted_users(campaign_id: UUID, version: TicketsVersion) -> AdmittedUsers:
    """Raises GateUnavailable."""
    found = new_filter(version.admitted)
    for user_id, _ in scan_tickets(campaign_id):
        found.add(user_id)
    return AdmittedUsers(version, found)


class AdmittedUsersLoader:
    """Loads filters in its own thread, one campaign after the other: a million tickets take seconds.

    `capacity` limits the users in all filters together; a small campaign counts as MIN_CAPACITY. A campaign that does
    not fit beside those in use is not loaded.
    """

    def __init__(self, *, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._loaded: dict[UUID, AdmittedUsers] = {}
        self._last_used_at: dict[UUID, float] = {}
        self._requested: dict[UUID, TicketsVersion] = {}
        self._logged_too_large: dict[UUID, TicketsVersion] = {}  # one warning for each version
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
        sizes = {id_: size_of(each.version) for id_, each in self._loaded.items() if id_ != campaign_id}
        excess = sum(sizes.values()) + size_of(version) - self._capacity
        idle_since = self._clock() - IDLE_SEC
        idle = sorted(
            (id_ for id_ in sizes if self._last_used_at[id_] < idle_since), key=self._last_used_at.__getitem__
        )
        if excess > sum(sizes[id_] for id_ in idle):
            if self._logged_too_large.get(campaign_id) != version:  # requested again twenty times a second
                logger.warning("admitted_users.too_many campaign=%s admitted=%d", campaign_id, version.admitted)
            self._logged_too_large[campaign_id] = version
            return
        self._logged_too_large.pop(campaign_id, None)
        for id_ in idle:
            if excess <= 0:
                break
            excess -= sizes[id_]
            del self._loaded[id_], self._last_used_at[id_]
        self._loaded.pop(campaign_id, None)
        self._loaded[campaign_id] = load_admitted_users(campaign_id, version)


def size_of(version: TicketsVersion) -> int:
    return max(version.admitted, MIN_CAPACITY)
