"""Who may hold a ticket of a campaign: a Bloom filter, 2 bytes a winner, that never says no of a winner."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from rbloom import Bloom

from coupons.admission.refusal_state import RefusalState
from coupons.admission.scan import scan_tickets
from coupons.errors import GateUnavailable

logger = logging.getLogger(__name__)
WRONGLY_TAKEN_FOR_WINNERS = 0.0005  # by arithmetic the fewest for 2 bytes; these go on to the view, which knows better
MIN_CAPACITY = 1_000  # 2 KB: a small campaign takes nobody for a winner who is none
IDLE_SEC = 10.0
"""Of whom nobody has asked for so long makes room for others, who have been asked for longest first."""

Contents = tuple[int, int, int]  # epoch, revision, admitted: within an epoch tickets are only added


def contents_of(state: RefusalState) -> Contents:
    return state.epoch, state.revision, state.admitted


@dataclass(frozen=True, slots=True)
class AdmittedUsers:
    """`contents` as Redis said it before the tickets were read: complete only if it says the same afterwards."""

    contents: Contents
    filter: Bloom


def filter_for(winners: int) -> Bloom:
    return Bloom(max(winners, MIN_CAPACITY), WRONGLY_TAKEN_FOR_WINNERS)


def load_winners(campaign_id: UUID, contents: Contents) -> AdmittedUsers:
    """Raises GateUnavailable."""
    _, _, admitted = contents
    found = filter_for(admitted)
    for user_id, _ in scan_tickets(campaign_id):
        found.add(user_id)
    return AdmittedUsers(contents, found)


class AdmittedUsersLoader:
    """Loads in a thread of its own, one campaign after the other: a million tickets take seconds.

    `capacity` is how many winners it holds at most, of all campaigns together, a small campaign counted as
    MIN_CAPACITY. What does not fit beside the campaigns that are asked for is not loaded.
    """

    def __init__(self, *, capacity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._loaded: dict[UUID, AdmittedUsers] = {}
        self._asked_at: dict[UUID, float] = {}
        self._wanted: dict[UUID, Contents] = {}
        self._too_many: dict[UUID, Contents] = {}  # what was said in the log
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._load_wanted, name="admitted-users", daemon=True)
        self._thread.start()

    def find(self, campaign_id: UUID, contents: Contents) -> AdmittedUsers | None:
        """The winners, if they were loaded from these contents; else they are loaded soon."""
        self._asked_at[campaign_id] = self._clock()
        users = self._loaded.get(campaign_id)
        if users is not None and users.contents == contents:
            return users
        if self._wanted.get(campaign_id) != contents:
            self._wanted[campaign_id] = contents
            self._wake.set()
        return None

    @property
    def busy(self) -> bool:
        return bool(self._wanted)

    def close(self) -> None:
        self._stopped = True
        self._wake.set()
        self._thread.join(timeout=5)

    def _load_wanted(self) -> None:
        while not self._stopped:
            self._wake.wait()
            self._wake.clear()
            for campaign_id, contents in list(self._wanted.items()):
                try:
                    self._load(campaign_id, contents)
                except GateUnavailable as error:
                    logger.warning("admitted_users.not_loaded campaign=%s error=%s", campaign_id, error)
                except Exception:  # this thread must not end: its process would refuse nobody quickly any more
                    logger.exception("admitted_users.defect campaign=%s", campaign_id)
                if self._wanted.get(campaign_id) == contents:
                    self._wanted.pop(campaign_id, None)

    def _load(self, campaign_id: UUID, contents: Contents) -> None:
        held = {id_: room_of(each.contents) for id_, each in self._loaded.items() if id_ != campaign_id}
        excess = sum(held.values()) + room_of(contents) - self._capacity
        latest = self._clock() - IDLE_SEC
        idle = sorted((id_ for id_ in held if self._asked_at[id_] < latest), key=self._asked_at.__getitem__)
        if excess > sum(held[id_] for id_ in idle):
            if self._too_many.get(campaign_id) != contents:  # it is wanted again twenty times a second
                logger.warning("admitted_users.too_many campaign=%s winners=%d", campaign_id, contents[2])
            self._too_many[campaign_id] = contents
            return
        self._too_many.pop(campaign_id, None)
        for id_ in idle:
            if excess <= 0:
                break
            excess -= held[id_]
            del self._loaded[id_], self._asked_at[id_]
        self._loaded.pop(campaign_id, None)
        self._loaded[campaign_id] = load_winners(campaign_id, contents)


def room_of(contents: Contents) -> int:
    return max(contents[2], MIN_CAPACITY)
