"""Caches which campaigns exist, and their epochs, so that the apply path never asks PostgreSQL.

A refresher reads what has changed every CAMPAIGN_CACHE_REFRESH_MS, so that an epoch which a rebuild raised is known
everywhere before the rebuild goes on (a rebuild waits longer than that). It looks up an unknown campaign at once: many
waiting requests, one query. What is known stays known while PostgreSQL is down; what is not known then cannot be told,
and the caller gets `CampaignCacheUnavailable`.
"""

import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from coupons.errors import RetryLater
from coupons.models import Campaign, CampaignState
from coupons.runtime.clock import from_now
from coupons.runtime.process_local import ProcessLocal
from coupons.runtime.refresher import Refresher

COMMIT_LAG_SEC = 30
"""A row's updated_at is the start of its transaction, which may commit so much later."""


class CampaignCacheUnavailable(RetryLater):
    """PostgreSQL did not answer in time, so it is unknown whether this campaign exists."""


@dataclass(frozen=True, slots=True)
class CachedCampaign:
    """A campaign that exists. Epoch 0 = a draft that was never loaded into Redis. An unloaded one has left Redis: it is
    closed, and PostgreSQL alone has its tickets."""

    epoch: int
    opens_at: datetime
    closes_at: datetime | None
    state: str
    is_unloaded: bool

    @property
    def is_loaded(self) -> bool:
        return self.epoch > 0 and not self.is_unloaded

    def admits_at(self, moment: datetime) -> bool:
        is_over = self.closes_at is not None and self.closes_at <= moment
        return self.state == CampaignState.OPEN and self.opens_at <= moment and not is_over


class CampaignCache:
    def __init__(self) -> None:
        self._known: dict[UUID, CachedCampaign] = {}
        self._wanted: dict[UUID, Future[CachedCampaign | None]] = {}
        self._read_at: float | None = None  # monotonic time at which the last complete read began
        self._reading_since: float | None = None
        self._lock = threading.Lock()
        self._refresher = Refresher(
            "campaign_cache",
            self._refresh,
            interval_sec=settings.CAMPAIGN_CACHE_REFRESH_MS / 1000,
            answer_sec=settings.BACKGROUND_ANSWER_TIMEOUT_MS / 1000,
        )

    def look_up(self, campaign_id: UUID, *, wait_sec: float, newer_than: int | None = None) -> CachedCampaign | None:
        """Returns the campaign, or None if there is none.

        `newer_than` is an epoch that is known to be outdated. Raises CampaignCacheUnavailable when PostgreSQL has not
        answered within `wait_sec`.
        """
        known = self.known(campaign_id)
        if known is not None and (newer_than is None or known.epoch > newer_than):
            return known
        try:
            return self.ask(campaign_id).result(timeout=max(wait_sec, 0))
        except FutureTimeout:
            raise CampaignCacheUnavailable(f"campaign {campaign_id}: PostgreSQL did not answer in time") from None

    def known(self, campaign_id: UUID) -> CachedCampaign | None:
        """Returns the campaign if it is cached; never waits for PostgreSQL."""
        return self._known.get(campaign_id)

    def ask(self, campaign_id: UUID) -> Future[CachedCampaign | None]:
        """Returns the answer of the next query, which starts at once. Other callers share it: do not cancel it. Raises
        CampaignCacheUnavailable when PostgreSQL hangs."""
        reading_since = self._reading_since
        if reading_since is not None and time.monotonic() - reading_since > settings.API_DATABASE_TIMEOUT_MS / 1000:
            # the query under way will not be answered soon: no request waits for it
            raise CampaignCacheUnavailable(f"campaign {campaign_id}: PostgreSQL does not answer")
        with self._lock:
            answer = self._wanted.setdefault(campaign_id, Future())
        self._refresher.wake()
        return answer

    def loaded(self) -> dict[UUID, int]:
        """Returns the epochs of the campaigns that are in Redis, the latest opening first."""
        return {campaign_id: campaign.epoch for campaign_id, campaign in self._latest_first() if campaign.is_loaded}

    def admitting(self) -> dict[UUID, int]:
        """Returns the epochs of the campaigns that are open at this moment, by this host's clock, the latest opening
        first."""
        now = timezone.now()
        return {campaign_id: known.epoch for campaign_id, known in self._latest_first() if known.admits_at(now)}

    def wait_until_read(self, timeout_sec: float) -> bool:
        """Whether PostgreSQL has been read at all; waits for the first attempt."""
        self._refresher.wait_for_first(timeout_sec)
        return self._read_at is not None

    def close(self) -> None:
        self._refresher.close()

    def _latest_first(self) -> list[tuple[UUID, CachedCampaign]]:
        return sorted(self._known.copy().items(), key=lambda item: item[1].opens_at, reverse=True)

    def _refresh(self) -> None:
        with self._lock:
            wanted, self._wanted = self._wanted, {}
        self._reading_since = time.monotonic()
        try:
            self._read(wanted)
        except Exception as error:
            for answer in wanted.values():
                if not answer.done():
                    answer.set_exception(CampaignCacheUnavailable(str(error)))
            raise
        finally:
            self._reading_since = None

    def _read(self, wanted: dict[UUID, Future[CachedCampaign | None]]) -> None:
        asked_at = time.monotonic()
        changed = Q()  # all of them: at first, and after an outage
        if self._read_at is not None and asked_at - self._read_at < COMMIT_LAG_SEC:
            # Looks back by a transaction's time, that since the last read, and as much again for this read.
            changed = Q(id__in=list(wanted)) | Q(updated_at__gt=from_now(-3 * COMMIT_LAG_SEC))
        rows = Campaign.objects.filter(changed).values_list(
            "id", "epoch", "opens_at", "closes_at", "state", "unloaded_at"
        )
        for campaign_id, epoch, opens_at, closes_at, state, unloaded_at in rows:
            self._remember(
                campaign_id, CachedCampaign(epoch, opens_at, closes_at, state, is_unloaded=unloaded_at is not None)
            )
        self._read_at = asked_at
        for campaign_id, answer in wanted.items():
            answer.set_result(self._known.get(campaign_id))

    def _remember(self, campaign_id: UUID, known: CachedCampaign) -> None:
        before = self._known.get(campaign_id)
        if before is None or before.epoch <= known.epoch:  # a replica of PostgreSQL may lag; an epoch never falls
            self._known[campaign_id] = known


campaign_cache = ProcessLocal(CampaignCache, close=CampaignCache.close)
