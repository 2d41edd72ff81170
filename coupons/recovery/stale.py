"""Finds the campaigns whose state in Redis is not the current one."""

import logging
from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import F
from django.db.models.functions import Now

from coupons.admission import campaign_store, gate
from coupons.errors import StateStale
from coupons.models import Campaign

logger = logging.getLogger(__name__)
SLACK_SEC = 1.0


def stale_campaigns(*, spare_opening: bool = False) -> list[UUID]:
    """Loaded campaigns whose state in Redis is not the current one. Raises GateUnavailable.

    `spare_opening`: not those that were opened a moment ago and that Redis has not heard of. Whoever opens one commits
    to PostgreSQL first; a rebuild that comes between would close for seconds what is about to open.
    """
    opening = timedelta(seconds=settings.REDIS_SOCKET_TIMEOUT_MS / 1000 + SLACK_SEC if spare_opening else 0)
    stale = []
    loaded = Campaign.objects.filter(epoch__gt=0).annotate(unchanged_for=Now() - F("updated_at"))
    rows = loaded.values_list("pk", "epoch", "mended_epoch", "unchanged_for")
    for campaign_id, epoch, mended_epoch, unchanged_for in rows:
        error = _why_stale(campaign_id, epoch, mended_epoch)
        if error is None or (epoch == 1 and error.reason == "missing" and timedelta() <= unchanged_for < opening):
            continue  # negative when PostgreSQL's clock has stepped back: it may have been open for long
        logger.warning("rebuild.stale reason=%s", error)
        stale.append(campaign_id)
    return stale


def _why_stale(campaign_id: UUID, epoch: int, mended_epoch: int) -> StateStale | None:
    try:
        campaign_store.describe(campaign_id=campaign_id, epoch=epoch)
    except StateStale as error:
        # One whose epoch has risen was rebuilt since it was read.
        return None if isinstance(error, gate.EpochAhead) and _has_risen(campaign_id, epoch) else error
    if 1 < epoch != mended_epoch:
        note_rebuilt(campaign_id, epoch)  # its rebuilder died after the swap
    return None


def still_stale(campaign_ids: Iterable[UUID]) -> list[UUID]:
    rows = Campaign.objects.filter(pk__in=list(campaign_ids)).values_list("pk", "epoch", "mended_epoch")
    return [campaign_id for campaign_id, *epochs in rows if _why_stale(campaign_id, *epochs)]


def note_rebuilt(campaign_id: UUID, epoch: int) -> None:
    Campaign.objects.filter(pk=campaign_id, epoch=epoch).update(mended_epoch=epoch)


def _has_risen(campaign_id: UUID, epoch: int) -> bool:
    """An epoch rises in PostgreSQL first. Where it has not, PostgreSQL is an older copy: a dump was restored."""
    return Campaign.objects.filter(pk=campaign_id, epoch__gt=epoch).exists()
