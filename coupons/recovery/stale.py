"""Finds campaigns whose state in Redis is stale."""

import logging
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.db.models import F
from django.db.models.functions import Now

from coupons.admission.campaign_store import describe_each
from coupons.admission.gate import EpochAhead
from coupons.errors import GateUnavailable, StateStale
from coupons.models import LOADED, Campaign
from coupons.recovery.campaign_failures import CampaignFailures

logger = logging.getLogger(__name__)
SLACK_SEC = 1.0
CampaignT = TypeVar("CampaignT", bound=Campaign)


def stale_campaigns(*, skip_opening: bool = False, failures: CampaignFailures | None = None) -> list[UUID]:
    """Returns loaded campaigns whose state in Redis is stale. Raises GateUnavailable; the caller's `failures` gets the
    campaigns of which Redis refuses to tell it.

    `skip_opening` leaves out those that were opened a moment ago and that Redis does not have yet. Opening commits to
    PostgreSQL first; a rebuild in between would close a campaign for seconds that is about to open.
    """
    opening = timedelta(seconds=settings.REDIS_SOCKET_TIMEOUT_MS / 1000 + SLACK_SEC if skip_opening else 0)
    loaded = Campaign.objects.filter(LOADED).annotate(unchanged_for=Now() - F("updated_at")).defer("log_ends")
    stale = []
    noted = CampaignFailures() if failures is None else failures
    for campaign, error in _not_current(loaded, noted):
        if campaign.epoch == 1 and error.reason == "missing" and timedelta() <= campaign.unchanged_for < opening:
            continue  # negative after PostgreSQL's clock has stepped back: the campaign may have been open for long
        logger.warning("rebuild.stale reason=%s", error)
        stale.append(campaign.pk)
    if failures is None:
        noted.report()
    return stale


def still_stale(campaign_ids: Iterable[UUID], failures: CampaignFailures) -> list[UUID]:
    campaigns = Campaign.objects.filter(LOADED, pk__in=list(campaign_ids)).defer("log_ends")
    return [campaign.pk for campaign, _ in _not_current(campaigns, failures)]


def record_rebuilt(campaign_id: UUID, epoch: int) -> None:
    """Records the end of a rebuild. Crash before this => an older copy of Redis would pass for a newer one; the next
    check records it."""
    Campaign.objects.filter(pk=campaign_id, epoch=epoch).update(mended_epoch=epoch)


def _not_current(campaigns: Iterable[CampaignT], failures: CampaignFailures) -> Iterator[tuple[CampaignT, StateStale]]:
    campaigns = list(campaigns)
    answers = describe_each({campaign.pk: campaign.epoch for campaign in campaigns})
    for campaign in campaigns:
        answer = answers[campaign.pk]
        if isinstance(answer, GateUnavailable):
            failures.errors[campaign.pk] = answer
        elif isinstance(answer, StateStale):
            # A campaign whose epoch has risen was rebuilt since its row was read.
            if not (isinstance(answer, EpochAhead) and _has_risen(campaign)):
                yield campaign, answer
        elif 1 < campaign.epoch != campaign.mended_epoch:
            record_rebuilt(campaign.pk, campaign.epoch)  # its rebuilder died after the swap


def _has_risen(campaign: Campaign) -> bool:
    """Returns whether the epoch has risen in PostgreSQL, where it rises first. If not, a dump was restored there."""
    return Campaign.objects.filter(pk=campaign.pk, epoch__gt=campaign.epoch).exists()
