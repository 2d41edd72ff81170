"""What this process knows of the campaigns that admit nobody, and for how long it may say so without asking.

One thread asks Redis every COUPON_LOBBY_REFRESH_MS about the campaigns that refused somebody lately, all of them in one
round trip, whatever the traffic. An answer is good for COUPON_LOBBY_LEASE_MS, counted from before it was asked for.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from http import HTTPStatus
from uuid import UUID

from django.conf import settings

from coupons.admission.directory import directory
from coupons.admission.gate import Outcome
from coupons.admission.newcomer import Newcomer, newcomers
from coupons.api.problem_responses import body_of
from coupons.api.refusals import refusal
from coupons.errors import GateUnavailable
from coupons.lobby.winners import Winners, WinnersLoader, contents_of
from coupons.per_process import PerProcess
from coupons.telemetry import APPLIES, LOBBY_REFUSALS

logger = logging.getLogger(__name__)
PREFIX, SUFFIX = "/api/v1/campaigns/", "/apply"
MAX_WATCHED = 256
WATCH_SEC = 10.0  # so long after its last refusal a campaign is still asked about
# Clocks of two machines differ: the first second of a campaign is the gate's alone.
OPENING_MARGIN_MS = 1_000


class Door:
    """A campaign that admits nobody until `until` (monotonic) but those who may be its winners; and what is said."""

    def __init__(
        self, campaign_id: UUID, newcomer: Newcomer, outcome: Outcome, winners: Winners, asked_at: float, until: float
    ) -> None:
        self.campaign_id = campaign_id
        self.outcome = outcome
        self.winners = winners
        self.until = until
        self._opens_at_ms = newcomer.opens_at_ms
        # Redis's time when this process's monotonic clock is 0. It was read after `asked_at`, so this is early rather
        # than late: who is told to come a moment too early waits for the opening, too late would cost a whole second.
        self._redis_ms_at_0 = newcomer.now_ms - asked_at * 1000
        problem = refusal(outcome, newcomer.opens_at_ms, newcomer.now_ms)
        self.status_line = f"{problem.status} {HTTPStatus(problem.status).phrase}"
        self.body = body_of(problem.document())
        self.length = str(len(self.body))
        self._is_final = problem.retry_after_sec is None

    def retry_after(self) -> dict[str, str]:
        """The header, anew for each answer: until the opening it is less and less."""
        if self._is_final:
            return {}
        now_ms = round(self._redis_ms_at_0 + time.monotonic() * 1000)
        return refusal(self.outcome, self._opens_at_ms, now_ms).headers()


class Knowledge:
    """Use `knowledge()` for the process's own one. `doors` has the closed ones by the path of an application.

    `said` takes the outcome of every answer that the lobby gives; the thread counts them for the metrics.
    """

    def __init__(self) -> None:
        self.doors: dict[str, Door] = {}
        self.said: deque[Outcome] = deque()
        self._asked: set[str] = set()
        self._watched: dict[UUID, float] = {}  # campaign -> monotonic time of its last refusal
        self._winners = WinnersLoader(capacity=settings.LOBBY_WINNERS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_current, name="lobby", daemon=True)
        self._thread.start()

    def note(self, path: str) -> None:
        """An application at this path was refused."""
        if len(self._asked) < MAX_WATCHED:
            self._asked.add(path)

    def refresh(self) -> None:
        """One look at Redis. Raises GateUnavailable; what was known is good until its lease ends."""
        asked, self._asked = self._asked, set()
        self._watch(tuple(asked), time.monotonic())
        known = {campaign_id: directory().epoch(campaign_id) for campaign_id in self._watched}
        epochs = {campaign_id: epoch for campaign_id, epoch in known.items() if epoch}
        asked_at = time.monotonic()
        self._winners.asked_for(epochs, asked_at)
        answers = newcomers(epochs) if epochs else {}
        doors = (self._door(campaign_id, newcomer, asked_at) for campaign_id, newcomer in answers.items())
        self.doors = {f"{PREFIX}{door.campaign_id}{SUFFIX}": door for door in doors if door is not None}

    @property
    def loading(self) -> bool:
        """Whether winners of a closed door are still being read."""
        return self._winners.busy

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        self._winners.close()
        self._count()

    def _watch(self, asked: Iterable[str], now: float) -> None:
        for path in asked:
            try:
                campaign_id = UUID(path[len(PREFIX) : -len(SUFFIX)])
            except ValueError:
                continue
            if campaign_id in self._watched or len(self._watched) < MAX_WATCHED:
                self._watched[campaign_id] = now
        self._watched = {id_: since for id_, since in self._watched.items() if now - since < WATCH_SEC}

    def _door(self, campaign_id: UUID, newcomer: Newcomer, asked_at: float) -> Door | None:
        if newcomer.refusal is None:
            return None
        lease_sec = settings.LOBBY_LEASE_MS / 1000
        if newcomer.refusal is Outcome.NOT_OPEN:
            lease_sec = min(lease_sec, (newcomer.opens_at_ms - OPENING_MARGIN_MS - newcomer.now_ms) / 1000)
        winners = self._winners.find(campaign_id, contents_of(newcomer))
        if winners is None or lease_sec <= 0:
            return None
        return Door(campaign_id, newcomer, newcomer.refusal, winners, asked_at, asked_at + lease_sec)

    def _count(self) -> None:
        """A counter's lock for each answer would cost more than the answer."""
        counts = Counter(self.said.popleft() for _ in range(len(self.said)))
        for outcome, count in counts.items():
            APPLIES.labels(outcome.lower()).inc(count)
        LOBBY_REFUSALS.inc(counts.total())

    def _keep_current(self) -> None:
        trouble = False
        while not self._stop.wait(settings.LOBBY_REFRESH_MS / 1000):
            self._count()
            try:
                self.refresh()
                trouble = False
            except GateUnavailable as error:
                if not trouble:
                    logger.warning("lobby.not_current error=%s", " ".join(str(error).split()))
                trouble = True
            except Exception:  # this thread must not end: its process would refuse nobody quickly any more
                logger.exception("lobby.defect")


knowledge: PerProcess[Knowledge] = PerProcess(Knowledge, close=Knowledge.close)
