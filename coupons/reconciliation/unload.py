"""Unloads campaigns: a closed one whose every ticket has its row leaves Redis for good, and PostgreSQL answers for it.

The order is the proof. The lock keeps rebuilds away, and nothing else makes the keys. A closed campaign admits nobody,
so once no ticket of it is pending, none will be. The row is marked next, in a new epoch: whoever has read the former
one (a rebuilder that stood still, a consumer between gate and commit) can write nothing any more. The keys go last,
when every process knows that it need not ask for them.
"""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from coupons import audit
from coupons.admission import campaign_store
from coupons.campaigns.redis_sync import is_in_sync
from coupons.errors import OperatorError, StateStale
from coupons.models import LOADED, Campaign, CampaignState, EventStatus, FailEventHistory
from coupons.reconciliation.differences import Kind
from coupons.reconciliation.ledger import Ledger
from coupons.reconciliation.reconcile import Reconciliation
from coupons.recovery.locks import Work, work_lock
from coupons.recovery.stale import SLACK_SEC
from coupons.runtime.clock import from_now

logger = logging.getLogger(__name__)
STAYS = frozenset({Kind.GAP})
"""A rebuild's holes in the sequences are no reason to wait: they stay for good."""


@dataclass(slots=True)
class UnloadReport:
    """`refused` has the reason of each campaign that stays loaded."""

    unloaded: list[Campaign] = field(default_factory=list)
    refused: dict[UUID, str] = field(default_factory=dict)


def closed_for_days(days: int) -> list[UUID]:
    """Returns the loaded campaigns that were closed so long ago, the oldest first."""
    closed = Campaign.objects.filter(LOADED, state=CampaignState.CLOSED, closed_at__lte=from_now(-days * 86_400))
    return list(closed.order_by("closed_at").values_list("pk", flat=True))


def unload_campaigns(
    *, campaign_ids: Collection[UUID], actor: str, reason: str = "", sleep: Callable[[float], None] = time.sleep
) -> UnloadReport:
    """Unloads these campaigns, apart from those that still need Redis. One that is unloaded already loses keys that a
    process left when it was killed, or that an older copy of Redis has brought back.

    Raises OperatorError while a rebuild is at work, RetryLater and database errors.
    """
    report = UnloadReport()
    with work_lock(Work.REBUILD) as acquired:
        if not acquired:
            raise OperatorError("A rebuild is at work (most likely the keeper's); try again in a few seconds.")
        campaigns = {campaign.pk: campaign for campaign in Campaign.objects.filter(pk__in=campaign_ids)}
        for campaign_id in campaign_ids:
            if campaign_id not in campaigns:
                report.refused[campaign_id] = "there is no such campaign."
            elif campaigns[campaign_id].state != CampaignState.CLOSED:
                report.refused[campaign_id] = f"it is {campaigns[campaign_id].state}; close it first."
        report.unloaded = [each for each in campaigns.values() if each.unloaded_at is not None]
        loaded = [pk for pk, campaign in campaigns.items() if campaign.is_loaded and pk not in report.refused]
        if loaded:
            _mark_settled(loaded, report, actor=actor, reason=reason)
        if report.unloaded:
            # Crash here => the keys stay in Redis, and nobody asks for them; the next unload removes them.
            sleep(settings.CAMPAIGN_CACHE_REFRESH_MS / 1000 + SLACK_SEC)
            campaign_store.remove(campaign.pk for campaign in report.unloaded)
    return report


def _mark_settled(campaign_ids: Collection[UUID], report: UnloadReport, *, actor: str, reason: str) -> None:
    """Marks those of the campaigns that need Redis no more. Reads the topic once for all of them."""
    with Reconciliation(campaign_ids=campaign_ids) as looking:
        for campaign in looking.campaigns:
            try:
                why_not = _obstacle(campaign, looking.ledger_of(campaign))
            except StateStale as error:
                why_not = f"Redis's state of it is not current ({error.reason}); the keeper rebuilds it first."
            if not why_not and not _mark(campaign, actor=actor, reason=reason):
                why_not = "a rebuild or a change began meanwhile; try again."
            if why_not:
                report.refused[campaign.pk] = why_not
            else:
                report.unloaded.append(campaign)


def _obstacle(campaign: Campaign, ledger: Ledger) -> str:
    """Returns why the campaign still needs Redis; nothing if it does not."""
    if not ledger.closes or not STAYS.issuperset(ledger.differences):
        found = ", ".join(ledger.differences) or "the numbers do not agree"
        return f"its ledger does not close ({found}): see `manage.py reconcile_campaigns {campaign.pk}`."
    if ledger.pending or ledger.unread:
        return f"{ledger.pending} tickets are pending, {ledger.unread} messages are not read: the consumers come first."
    waiting = FailEventHistory.objects.filter(campaign=campaign, given_up_at__isnull=True)
    if count := waiting.exclude(event_status=EventStatus.SUCCESS).count():
        return f"{count} failed events wait: retry them, or give them up in the admin."
    description = campaign_store.describe(campaign_id=campaign.pk, epoch=campaign.epoch)
    if description.pending or not is_in_sync(campaign, description):
        return "Redis has not heard yet that it is closed; the keeper tells it."
    return ""


def _mark(campaign: Campaign, *, actor: str, reason: str) -> bool:
    with transaction.atomic(durable=True):
        same = Campaign.objects.filter(LOADED, pk=campaign.pk, epoch=campaign.epoch, revision=campaign.revision)
        if not same.update(unloaded_at=Now(), epoch=F("epoch") + 1, updated_at=Now()):
            return False
        audit.record(actor=actor, row=campaign, what="Unloaded from Redis", reason=reason)
    logger.info("campaign.unloaded id=%s revision=%d actor=%s", campaign.pk, campaign.revision, actor)
    return True
