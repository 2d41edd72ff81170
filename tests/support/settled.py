"""A campaign that is closed, and whose tickets all have their rows."""

from coupons.admission import ticket_store
from coupons.campaigns.lifecycle import close_campaign
from coupons.issuing.failed_events import give_up_events
from coupons.models import Campaign, FailEventHistory
from tests.support import failed_events
from tests.support.service import Service
from tests.support.tickets import admit, consume, received


def settled_campaign(service: Service) -> Campaign:
    """User a has the first coupon, user b the second; user gone had the third ticket, and was given up."""
    campaign = service.campaign(10)
    for user, sequence in zip("ab", admit(campaign, "a", "b"), strict=True):
        consume(received(campaign, user, sequence, offset=sequence))
    event = failed_events.held(campaign, "gone", offset=FailEventHistory.objects.count())
    ticket_store.settle(epochs={campaign.pk: campaign.epoch}, users={campaign.pk: ["gone"]})
    assert give_up_events(event_ids=[event.pk], actor="test", reason="refunded") == 1
    close_campaign(campaign_id=campaign.pk, actor="test")
    campaign.refresh_from_db()
    return campaign
