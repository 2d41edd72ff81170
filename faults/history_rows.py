"""The rows that a history is checked against, from the database."""

from collections.abc import Iterable
from uuid import UUID

from coupons.models import Campaign
from coupons.reconciliation.rows import event_rows, failed_tickets, issued_tickets
from faults.verdict import CampaignRows


def load_rows(campaign_ids: Iterable[str | UUID]) -> list[CampaignRows]:
    """Of each campaign that there is. Raises database errors."""
    campaigns = Campaign.objects.filter(pk__in=[each for each in map(str, campaign_ids) if _is_uuid(each)])
    return [
        CampaignRows(
            campaign_id=str(campaign.pk),
            quantity=campaign.quantity,
            epoch=campaign.epoch,
            coupons=list(issued_tickets(campaign.pk)),
            failed=list(failed_tickets(campaign.pk)),
            succeeded=[(event.user_id, event.sequence) for event in event_rows(campaign.pk) if not event.open],
        )
        for campaign in campaigns
    ]


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
