"""What PostgreSQL holds of a campaign's tickets, by user: read in chunks, never all rows at once."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from django.db import transaction

from coupons.models import HELD_CODES, Coupon, EventStatus, FailEventHistory

CHUNK = 10_000


class TicketRow(NamedTuple):
    user_id: str
    sequence: int


def issued_tickets(campaign_id: UUID) -> Iterator[TicketRow]:
    """Every coupon of the campaign."""
    yield from _stream(Coupon.objects.filter(campaign_id=campaign_id).values_list("user_id", "sequence"))


def failed_tickets(campaign_id: UUID, user_ids: Sequence[str] | None = None) -> Iterator[TicketRow]:
    """Every ticket that a failed event holds: the gate had it, and no coupon came of it yet (or ever, if given up)."""
    events = FailEventHistory.objects.exclude(event_status=EventStatus.SUCCESS).filter(
        campaign_id=campaign_id, error_code__in=HELD_CODES, sequence__isnull=False
    )
    if user_ids is not None:
        events = events.filter(user_id__in=user_ids)
    yield from _stream(events.order_by().values_list("user_id", "sequence"))


def written_sequences(campaign_id: UUID, user_ids: Sequence[str]) -> dict[str, int]:
    """Of these users, the sequence of the coupon or of the failed event that holds their ticket."""
    written = {row.user_id: row.sequence for row in failed_tickets(campaign_id, user_ids)}
    coupons = Coupon.objects.filter(campaign_id=campaign_id, user_id__in=user_ids)
    written.update(coupons.values_list("user_id", "sequence"))
    return written


def _stream(rows: object) -> Iterator[TicketRow]:
    # Inside a transaction the server-side cursor needs no WITH HOLD, which would first store the whole result.
    with transaction.atomic():
        for row in rows.iterator(chunk_size=CHUNK):  # type: ignore[attr-defined]
            yield TicketRow(*row)
