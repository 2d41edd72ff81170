"""An operator's decision that failed events are not to be tried again. It returns no place."""

import logging
from collections.abc import Sequence

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from coupons import audit
from coupons.errors import OperatorError
from coupons.models import Campaign, Coupon, EventStatus, FailEventHistory

logger = logging.getLogger(__name__)


def give_up_events(*, event_ids: Sequence[int], actor: str, reason: str) -> int:
    """Returns how many. Left alone are rows that are not FAIL, and those whose ticket has its coupon after all.

    Raises OperatorError without a reason.
    """
    if not reason.strip():
        raise OperatorError("reason: say why these events are given up.")
    still_failing = FailEventHistory.objects.filter(event_status=EventStatus.FAIL, given_up_at__isnull=True)
    with transaction.atomic():
        chosen = still_failing.filter(pk__in=event_ids).select_for_update(no_key=True).defer("payload").order_by("pk")
        campaigns = {event.campaign_id for event in chosen} - {None}
        # The trigger on the coupon table takes these rows too, then looks for given-up tickets (migration 0008). So
        # either it sees this decision, or the coupon is committed and seen below.
        list(Campaign.objects.filter(pk__in=campaigns).select_for_update(no_key=True).order_by("pk"))
        coupon = Coupon.objects.filter(
            campaign=OuterRef("campaign"), user_id=OuterRef("user_id"), sequence=OuterRef("sequence")
        )
        events = list(chosen.filter(~Exists(coupon)))
        FailEventHistory.objects.filter(pk__in=[event.pk for event in events]).update(
            given_up_at=Now(), given_up_by=actor, given_up_reason=reason, next_attempt_at=None, updated_at=Now()
        )
        audit.record_all(actor=actor, rows=events, what="Given up", reason=reason)
    logger.info("retry.given_up count=%d actor=%s", len(events), actor)
    return len(events)
