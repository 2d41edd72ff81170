"""Operators' actions in the soak, while any server may be down, and their events in the history."""

import time
from contextlib import suppress
from uuid import UUID

from coupons.admission.keys import campaign_keys
from coupons.admission.scripts import admission_redis
from coupons.campaigns.lifecycle import change_campaign, resume_campaign
from coupons.errors import DATABASE_DOWN, OperatorError, PushDidNotArrive, RetryLater
from coupons.models import Campaign
from faults.history import QUANTITY_CHANGED, Event, HistoryWriter
from faults.soak.retrying import retry_until_true


def change_quantity(campaign: Campaign | None, *, by: int, history: HistoryWriter) -> None:
    """Changes the quantity and records whether it was changed.

    The event lasts until Redis and the row agree: until then it is unknown which quantity is in force.
    """
    if campaign is None:
        return
    began, before = time.monotonic(), campaign.quantity
    after = max(before + by, 1)
    with suppress(OperatorError, PushDidNotArrive, RetryLater, *DATABASE_DOWN):
        change_campaign(campaign_id=campaign.pk, changes={"quantity": after}, actor="soak")
    quantity = retry_until_true(lambda: quantity_of(campaign.pk))
    retry_until_true(lambda: redis_quantity(campaign.pk) == quantity)
    history.event(
        Event(
            what=QUANTITY_CHANGED,
            start=began,
            end=time.monotonic(),
            campaign_id=str(campaign.pk),
            details={"before": before, "after": after, "failed": quantity != after},
        )
    )


def resume(campaign_id: UUID) -> bool:
    try:
        resume_campaign(campaign_id=campaign_id, actor="soak")
    except PushDidNotArrive:
        return True
    except OperatorError:
        return True  # it is open: the pause was not made
    return True


def quantity_of(campaign_id: UUID) -> int:
    return Campaign.objects.values_list("quantity", flat=True).get(pk=campaign_id)


def redis_quantity(campaign_id: UUID) -> int:
    return int(admission_redis().hget(campaign_keys(campaign_id).campaign, "quantity") or 0)
