"""What this process knows of the campaigns that admit nobody, and for how long it may say so without asking.

One thread asks Redis every COUPON_REFUSAL_REFRESH_MS about the campaigns that refused somebody lately, all of them in
one round trip, whatever the traffic. An answer is good for COUPON_REFUSAL_LEASE_MS, counted from before it was asked
for.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from uuid import UUID

from django.conf import settings

from coupons.admission.campaign_cache import campaign_cache
from coupons.admission.gate import Outcome
from coupons.admission.refusal_state import RefusalState, refusal_states
from coupons.api.refusals import refusal
from coupons.errors import GateUnavailable
from coupons.front.admitted_users import AdmittedUsers, AdmittedUsersLoader, contents_of
from coupons.front.answers import Answer, headers_of, refused
from coupons.metrics import APPLIES, CACHED_REFUSALS
from coupons.runtime.process_local import ProcessLocal

logger = logging.getLogger(__name__)
MAX_WATCHED = 256
WATCH_SEC = 10.0  # so long after its last refusal a campaign is still asked about
# Clocks of two machines differ: the first second of a campaign is the gate's alone.
OPENING_MARGIN_MS = 1_000


class ClosedCampaign:
    """A campaign that admits nobody until `until` (monotonic) but users who `may_be_in` already; and what is said."""

    def __init__(
        self,
        campaign_id: UUID,
        state: RefusalState,
        outcome: Outcome,
        users: AdmittedUsers,
        asked_at: float,
        until: float,
    ) -> None:
        self.campaign_id = campaign_id
        self.outcome = outcome
        self.until = until
        self._users = users
        self._opens_at_ms = state.opens_at_ms
        # Redis's time when this process's monotonic clock is 0. It was read after `asked_at`, so this is early rather
        # than late: who is told to come a moment too early waits for the opening, too late would cost a whole second.
        self._redis_ms_at_0 = state.now_ms - asked_at * 1000
        problem = refusal(outcome, state.opens_at_ms, state.now_ms)
        self._answer = refused(problem)
        self._is_final = problem.retry_after_sec is None

    def may_be_in(self, user_id: str) -> bool:
        return user_id in self._users.filter

    def answer(self) -> Answer:
        """With a Retry-After of its own each time: until the opening it is less and less."""
        if self._is_final:
            return self._answer
        now_ms = round(self._redis_ms_at_0 + time.monotonic() * 1000)
        return self._answer._replace(headers=headers_of(refusal(self.outcome, self._opens_at_ms, now_ms)))


class ClosedCampaigns:
    """Use `closed_campaigns()` for the process's own. Without arguments it looks as often as the settings say."""

    def __init__(self, *, refresh_ms: int | None = None, lease_ms: int | None = None) -> None:
        self._refresh_sec = (refresh_ms or settings.REFUSAL_REFRESH_MS) / 1000
        self._lease_sec = (lease_ms or settings.REFUSAL_LEASE_MS) / 1000
        self._closed: dict[UUID, ClosedCampaign] = {}
        self._said: deque[Outcome] = deque()
        self._refused: set[UUID] = set()
        self._watched: dict[UUID, float] = {}  # campaign -> monotonic time of its last refusal
        self._users = AdmittedUsersLoader(capacity=settings.REFUSAL_USERS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_current, name="closed-campaigns", daemon=True)
        self._thread.start()

    def find(self, campaign_id: UUID, user_id: str) -> ClosedCampaign | None:
        """The campaign, if it admits nobody now and this user can have no place in it."""
        closed = self._current(campaign_id)
        return None if closed is None or closed.may_be_in(user_id) else closed

    def is_known(self, campaign_id: UUID) -> bool:
        """Whether it admits nobody now but users who are in."""
        return self._current(campaign_id) is not None

    def _current(self, campaign_id: UUID) -> ClosedCampaign | None:
        closed = self._closed.get(campaign_id)
        return closed if closed is not None and time.monotonic() < closed.until else None

    def refuse(self, closed: ClosedCampaign) -> Answer:
        """What to say to one user. The thread counts it for the metrics: a counter costs more than the answer."""
        self.note(closed.campaign_id)
        self._said.append(closed.outcome)
        return closed.answer()

    def note(self, campaign_id: UUID) -> None:
        """Somebody was refused by this campaign: whether it is closed to all is worth knowing."""
        if len(self._refused) < MAX_WATCHED:
            self._refused.add(campaign_id)

    def refresh(self) -> None:
        """One look at Redis. Raises GateUnavailable; what was known is good until its lease ends."""
        refused_by, self._refused = self._refused, set()
        self._watch(tuple(refused_by), time.monotonic())
        known = {campaign_id: campaign_cache().epoch(campaign_id) for campaign_id in self._watched}
        epochs = {campaign_id: epoch for campaign_id, epoch in known.items() if epoch}
        asked_at = time.monotonic()
        answers = refusal_states(epochs) if epochs else {}
        closed = (self._closed_by(campaign_id, state, asked_at) for campaign_id, state in answers.items())
        self._closed = {each.campaign_id: each for each in closed if each is not None}

    @property
    def loading(self) -> bool:
        """Whether admitted users are still being read."""
        return self._users.busy

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        self._users.close()
        self._count()

    def _watch(self, refused_by: Iterable[UUID], now: float) -> None:
        for campaign_id in refused_by:
            if campaign_id in self._watched or len(self._watched) < MAX_WATCHED:
                self._watched[campaign_id] = now
        self._watched = {id_: since for id_, since in self._watched.items() if now - since < WATCH_SEC}

    def _closed_by(self, campaign_id: UUID, state: RefusalState, asked_at: float) -> ClosedCampaign | None:
        if state.refusal is None:
            return None
        lease_sec = self._lease_sec
        if state.refusal is Outcome.NOT_OPEN:
            lease_sec = min(lease_sec, (state.opens_at_ms - OPENING_MARGIN_MS - state.now_ms) / 1000)
        users = self._users.find(campaign_id, contents_of(state))
        if users is None or lease_sec <= 0:
            return None
        return ClosedCampaign(campaign_id, state, state.refusal, users, asked_at, asked_at + lease_sec)

    def _count(self) -> None:
        counts = Counter(self._said.popleft() for _ in range(len(self._said)))
        for outcome, count in counts.items():
            APPLIES.labels(outcome.lower()).inc(count)
        CACHED_REFUSALS.inc(counts.total())

    def _keep_current(self) -> None:
        trouble = False
        while not self._stop.wait(self._refresh_sec):
            self._count()
            try:
                self.refresh()
                trouble = False
            except GateUnavailable as error:
                if not trouble:
                    logger.warning("closed_campaigns.not_current error=%s", " ".join(str(error).split()))
                trouble = True
            except Exception:  # this thread must not end: its process would refuse nobody quickly any more
                logger.exception("closed_campaigns.defect")


closed_campaigns: ProcessLocal[ClosedCampaigns] = ProcessLocal(ClosedCampaigns, close=ClosedCampaigns.close)
