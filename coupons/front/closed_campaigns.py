"""Caches which campaigns are closed, so that the front refuses applications without a call to Redis.

A thread asks Redis every REFUSAL_REFRESH_MS about all campaigns that refused an application lately, in one round
trip whatever the traffic. An answer is valid for REFUSAL_LEASE_MS, counted from the moment before the call.
"""

import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from django.conf import settings

from coupons.admission.campaign_cache import campaign_cache
from coupons.admission.campaign_store import RefusalState, refusal_states
from coupons.admission.gate import Outcome
from coupons.api.problems import refusal
from coupons.errors import GateUnavailable, one_line
from coupons.front.admitted_users import AdmittedUsers, AdmittedUsersLoader
from coupons.front.answers import Answer, problem_headers, refused
from coupons.metrics import APPLIES, CACHED_REFUSALS
from coupons.runtime.process_local import ProcessLocal

logger = logging.getLogger(__name__)
MAX_WATCHED = 256
WATCH_SEC = 10.0  # a campaign is watched for this long after its last refusal
# The clocks of two machines differ: from one second before the opening on, only the gate answers.
OPENING_MARGIN_MS = 1_000


@dataclass
class ClosedCampaign:
    """A campaign that refuses every user without a ticket, until `until`. `asked_at` is from before `state` was read;
    both are monotonic times."""

    campaign_id: UUID
    state: RefusalState
    outcome: Outcome
    users: AdmittedUsers
    asked_at: float
    until: float

    def may_hold_ticket(self, user_id: str) -> bool:
        return user_id in self.users.filter

    @cached_property
    def _first_answer(self) -> Answer:
        return refused(refusal(self.outcome, self.state.opens_at_ms, self.state.now_ms))

    def answer(self) -> Answer:
        """Computes Retry-After anew each time, as the opening comes closer."""
        if self.outcome is not Outcome.NOT_OPEN:
            return self._first_answer
        # Redis read its clock after `asked_at`, so this runs ahead rather than behind, and Retry-After is a little
        # short: a user who comes a moment early waits for the opening, while one who comes late loses a whole second.
        now_ms = self.state.now_ms + round((time.monotonic() - self.asked_at) * 1000)
        problem = refusal(self.outcome, self.state.opens_at_ms, now_ms)
        return self._first_answer._replace(headers=problem_headers(problem))


class ClosedCampaigns:
    """Use `closed_campaigns()`, which has one for each process."""

    def __init__(self) -> None:
        self._refresh_sec = settings.REFUSAL_REFRESH_MS / 1000
        self._lease_sec = settings.REFUSAL_LEASE_MS / 1000
        self._closed: dict[UUID, ClosedCampaign] = {}
        self._uncounted: deque[Outcome] = deque()
        self._watched: dict[UUID, float] = {}  # campaign -> monotonic time of its last refusal
        self._users = AdmittedUsersLoader(capacity=settings.REFUSAL_USERS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_current, name="closed-campaigns", daemon=True)
        self._thread.start()

    def find(self, campaign_id: UUID, user_id: str) -> ClosedCampaign | None:
        """Returns the campaign if it is closed now and this user cannot hold a ticket of it."""
        closed = self._current(campaign_id)
        return None if closed is None or closed.may_hold_ticket(user_id) else closed

    def is_closed(self, campaign_id: UUID) -> bool:
        return self._current(campaign_id) is not None

    def _current(self, campaign_id: UUID) -> ClosedCampaign | None:
        closed = self._closed.get(campaign_id)
        return closed if closed is not None and time.monotonic() < closed.until else None

    def refuse(self, closed: ClosedCampaign) -> Answer:
        """Returns the refusal. The thread counts it for the metrics later: a counter costs more than the answer."""
        self.note_refusal(closed.campaign_id)
        self._uncounted.append(closed.outcome)
        return closed.answer()

    def note_refusal(self, campaign_id: UUID) -> None:
        """Notes that the campaign refused a user, so that the next `refresh` looks whether it is closed."""
        if campaign_id in self._watched or len(self._watched) < MAX_WATCHED:
            self._watched[campaign_id] = time.monotonic()

    def refresh(self) -> None:
        """Asks Redis once. Raises GateUnavailable; what is cached stays valid until its lease ends."""
        for campaign_id, refused_at in self._watched.copy().items():  # the event loop adds to it meanwhile
            if time.monotonic() - refused_at > WATCH_SEC:
                self._watched.pop(campaign_id)
        known = {campaign_id: campaign_cache().known(campaign_id) for campaign_id in self._watched.copy()}
        epochs = {
            campaign_id: campaign.epoch for campaign_id, campaign in known.items() if campaign and campaign.is_loaded
        }
        asked_at = time.monotonic()
        answers = refusal_states(epochs) if epochs else {}
        closed = (self._closed_campaign(campaign_id, state, asked_at) for campaign_id, state in answers.items())
        self._closed = {each.campaign_id: each for each in closed if each is not None}

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        self._users.close()
        self._count()

    def _closed_campaign(self, campaign_id: UUID, state: RefusalState, asked_at: float) -> ClosedCampaign | None:
        if state.refusal is None:
            return None
        lease_sec = self._lease_sec
        if state.refusal is Outcome.NOT_OPEN:
            lease_sec = min(lease_sec, (state.opens_at_ms - OPENING_MARGIN_MS - state.now_ms) / 1000)
        users = self._users.find(campaign_id, state.version)
        if users is None or lease_sec <= 0:
            return None
        return ClosedCampaign(campaign_id, state, state.refusal, users, asked_at, asked_at + lease_sec)

    def _count(self) -> None:
        counts = Counter(self._uncounted.popleft() for _ in range(len(self._uncounted)))
        for outcome, count in counts.items():
            APPLIES.labels(outcome.lower()).inc(count)
        CACHED_REFUSALS.inc(counts.total())

    def _keep_current(self) -> None:
        failing = False
        while not self._stop.wait(self._refresh_sec):
            self._count()
            try:
                self.refresh()
                failing = False
            except GateUnavailable as error:
                if not failing:
                    logger.warning("closed_campaigns.not_current error=%s", one_line(error))
                failing = True
            except Exception:  # without this thread the process could not answer refusals from memory any more
                logger.exception("closed_campaigns.defect")


closed_campaigns: ProcessLocal[ClosedCampaigns] = ProcessLocal(ClosedCampaigns, close=ClosedCampaigns.close)
