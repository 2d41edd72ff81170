"""A campaign's failed events as the ledger reads them."""

from collections.abc import Iterator
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now

from coupons.issuing.ticket_rows import batches
from coupons.models import HELD_CODES, EventStatus, FailEventHistory
from coupons.reconciliation.books import EventRow


def event_rows(campaign_id: UUID) -> Iterator[EventRow]:
    """Every failed event of the campaign that names a ticket, also those that ended well."""
    events = FailEventHistory.objects.filter(campaign_id=campaign_id, sequence__isnull=False).exclude(user_id="")
    lease_ended = Q(event_status=EventStatus.PROCESSING, next_attempt_at__lt=Now())
    rows = events.order_by().annotate(stuck=lease_ended)
    for batch in batches(rows.values_list("user_id", "sequence", "event_status", "error_code", "stuck")):
        for user_id, sequence, status, code, stuck in batch:
            yield EventRow(user_id, sequence, status != EventStatus.SUCCESS, code in HELD_CODES, stuck)
