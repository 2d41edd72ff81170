"""Puts right the number of coupons that a campaign's row says."""

import logging
from uuid import UUID

from django.db import transaction
from django.db.models import Count

from coupons.models import Campaign

logger = logging.getLogger(__name__)


def recount(campaign_id: UUID) -> None:
    """Set issued_count right if rows were deleted, or written while the trigger was off: it would refuse good ones.

    Not while there are more coupons than the quantity, which the database could not store: that is raised first.
    """
    counted, coupons = _counts(campaign_id)
    if counted == coupons:
        return
    with transaction.atomic():
        # The trigger takes this lock too, so what counts next has seen every insert or waits for it.
        campaign = Campaign.objects.select_for_update(no_key=True).get(pk=campaign_id)
        counted, coupons = _counts(campaign_id)
        if coupons > campaign.quantity:
            return
        Campaign.objects.filter(pk=campaign_id).update(issued_count=coupons)
    logger.error("rebuild.recounted campaign=%s issued_count=%d coupons=%d", campaign_id, counted, coupons)


def _counts(campaign_id: UUID) -> tuple[int, int]:
    """issued_count, and the number of coupons, of one moment."""
    return (
        Campaign.objects.filter(pk=campaign_id).annotate(rows=Count("coupons")).values_list("issued_count", "rows")[0]
    )
