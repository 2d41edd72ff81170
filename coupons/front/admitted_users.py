"""Who may hold a ticket of a campaign: a Bloom filter, 2 bytes a winner, that never says no of a winner."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from rbloom import Bloom

from coupons.admission.newcomer import Newcomer
from coupons.admission.scan import scan_tickets
from coupons.errors import GateUnavailable

logger = logging.getLogger(__name__)
WRONGLY_TAKEN_FOR_WINNERS = 0.0005  # by arithmetic the fewest for 2 bytes; these go on to the view, which knows better
LEAST_CAPACITY = 1_000  # 2 KB: a small campaign takes nobody for a winner who is none
KEPT_SEC = 3_600.0
"""So long after the last refusal winners are kept, if nobody else needs the room: a crowd that comes back an hour later
must not wait until a million tickets have been read again."""
MOST_IDLE = 256
"""So many campaigns are kept so at most: a small one takes 2 KB, and all are looked through twenty times a second."""

Contents = tuple[int, int, int]  # epoch, revision, admitted: within an epoch tickets are only added


def contents_of(newcomer: Newcomer) -> Contents:
    return newcomer.epoch, newcomer.revision, newcomer.admitted


@dataclass(frozen=True, slots=True)
class AdmittedUsers:
    """`contents` as Redis said it before the tickets were read: complete only if it says the same afterwards."""

    contents: Contents
    filter: Bloom


def filter_for(winners: int) -> Bloom:
    return Bloom(max(winners, LEAST_CAPACITY), WRONGLY_TAKEN_FOR_WINNERS)


def load_winners(campaign_id: UUID, contents: Contents) -> AdmittedUsers:
    """Raises GateUnavailable."""
    _, _, admitted = contents
    found = filter_for(admitted)
    for user_id, _ in scan_tickets(campaign_id):
        found.add(user_id)
    return AdmittedUsers(contents, found)


class AdmittedUsersLoader:
    """Loads in a thread of its own, one campaign after the other: a million tickets take seconds.

    `capacity` is how many winners it holds at most, of all campaigns together. What does not fit takes the room of the
    campaign that nobody has asked for the longest, or, if all are asked for, is not loaded.
    """

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._loaded: dict[UUID, AdmittedUsers] = {}
        self._idle_since: dict[UUID, float] = {}  # loaded, and asked for by nobody since then
        self._wanted: dict[UUID, Contents] = {}
        self._too_many: dict[UUID, Contents] = {}  # what was said in the log
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._load_wanted, name="lobby-winners", daemon=True)
        self._thread.start()

    def find(self, campaign_id: UUID, contents: Contents) -> AdmittedUsers | None:
        """The winners, if they were loaded from these contents; else they are loaded soon."""
        winners = self._loaded.get(campaign_id)
        if winners is not None and winners.contents == contents:
            return winners
        if self._wanted.get(campaign_id) != contents:
            self._wanted[campaign_id] = contents
            self._wake.set()
        return None

    @property
    def busy(self) -> bool:
        return bool(self._wanted)

    def asked_for(self, campaigns: Mapping[UUID, object], now: float) -> None:
        """For these and no others somebody has asked lately. Call it again and again: time passes in between."""
        idle = set(self._loaded) - set(campaigns)
        self._idle_since = {id_: self._idle_since.get(id_, now) for id_ in idle}
        longest_first = sorted(idle, key=self._idle_since.__getitem__)
        too_long = {id_ for id_ in idle if now - self._idle_since[id_] >= KEPT_SEC}
        for campaign_id in too_long.union(longest_first[:-MOST_IDLE]):
            self._loaded.pop(campaign_id, None)
        for campaign_id in set(self._wanted) - set(campaigns):
            self._wanted.pop(campaign_id, None)
        for campaign_id in set(self._too_many) - set(campaigns):
            self._too_many.pop(campaign_id, None)

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
                    logger.warning("lobby.winners_not_loaded campaign=%s error=%s", campaign_id, error)
                except Exception:  # this thread must not end: its process would refuse nobody quickly any more
                    logger.exception("lobby.winners_defect campaign=%s", campaign_id)
                if self._wanted.get(campaign_id) == contents:
                    self._wanted.pop(campaign_id, None)

    def _load(self, campaign_id: UUID, contents: Contents) -> None:
        if not self._make_room(campaign_id, contents[2]):
            if self._too_many.get(campaign_id) != contents:
                logger.warning(
                    "lobby.too_many_winners campaign=%s winners=%d held=%d", campaign_id, contents[2], self._held()
                )
            self._too_many[campaign_id] = contents
            return
        self._loaded.pop(campaign_id, None)
        self._loaded[campaign_id] = load_winners(campaign_id, contents)

    def _make_room(self, campaign_id: UUID, winners: int) -> bool:
        """False: not enough of what is held is idle; then nothing is forgotten."""
        loaded, idle_since = self._loaded.copy(), self._idle_since
        counts = {id_: each.contents[2] for id_, each in loaded.items() if id_ != campaign_id}
        excess = sum(counts.values()) + winners - self._capacity
        leave = []
        for id_ in sorted(idle_since.keys() & counts.keys(), key=idle_since.__getitem__):
            if excess <= 0:
                break
            leave.append(id_)
            excess -= counts[id_]
        if excess > 0:
            return False
        for id_ in leave:
            self._loaded.pop(id_, None)
        return True

    def _held(self) -> int:
        return sum(each.contents[2] for each in self._loaded.copy().values())
