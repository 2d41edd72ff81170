"""Loads the rows that a history is checked against from the database."""

from collections.abc import Iterable
from uuid import UUID

from django.db.models import F, Q

from coupons.issuing.ticket_rows import failed_tickets, issued_tickets
from coupons.models import Campaign, Coupon, EventStatus, FailEventHistory, Redemption, RedemptionState
from faults.verdict import CampaignRows, RedemptionRow


def load_rows(campaign_ids: Iterable[str | UUID]) -> list[CampaignRows]:
    """Loads the rows of each campaign that exists. Raises database errors."""
    campaigns = Campaign.objects.filter(pk__in=[each for each in map(str, campaign_ids) if _is_uuid(each)])
    return [
        CampaignRows(
            campaign_id=str(campaign.pk),
            quantity=campaign.quantity,
            epoch=campaign.epoch,
            coupons=list(issued_tickets(campaign.pk)),
            failed=list(failed_tickets(campaign.pk)),
            succeeded=list(_succeeded(campaign.pk)),
            codes=dict(Coupon.objects.filter(campaign=campaign).values_list("user_id", "code")),
            redemptions=list(_redemptions(campaign)),
        )
        for campaign in campaigns
    ]


def _succeeded(campaign_id: UUID) -> Iterable[tuple[str, int]]:
    events = FailEventHistory.objects.filter(campaign_id=campaign_id, event_status=EventStatus.SUCCESS)
    for user_id, sequence in events.values_list("user_id", "sequence"):
        if user_id and sequence is not None:
            yield user_id, sequence


def _redemptions(campaign: Campaign) -> Iterable[RedemptionRow]:
    early = Q(state=RedemptionState.LAPSED, ended_at__lt=F("hold_until"))
    rows = Redemption.objects.filter(coupon__campaign=campaign).annotate(early=early)
    for redemption_id, *values in rows.values_list("pk", "coupon__user_id", "order_ref", "state", "early"):
        yield RedemptionRow(str(redemption_id), *values)


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
