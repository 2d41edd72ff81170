"""Reads what PostgreSQL holds of a campaign's tickets: coupons and failed events, in chunks, never all rows at once."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet

from coupons.models import HELD_CODES, Coupon, EventStatus, FailEventHistory

CHUNK = 10_000


class TicketRow(NamedTuple):
    user_id: str
    sequence: int


def issued_tickets(campaign_id: UUID) -> Iterator[TicketRow]:
    yield from _stream(Coupon.objects.filter(campaign_id=campaign_id).values_list("user_id", "sequence"))


def failed_tickets(campaign_id: UUID, user_ids: Sequence[str] | None = None) -> Iterator[TicketRow]:
    """Yields the tickets that failed events hold. The gate had them, and they have no coupon, for good if given up."""
    events = FailEventHistory.objects.exclude(event_status=EventStatus.SUCCESS).filter(
        campaign_id=campaign_id, error_code__in=HELD_CODES, sequence__isnull=False
    )
    if user_ids is not None:
        events = events.filter(user_id__in=user_ids)
    yield from _stream(events.order_by().values_list("user_id", "sequence"))


def refused_payloads(campaign_id: UUID) -> set[str]:
    """Returns the hashes of the messages that were refused because the gate did not hold their tickets.

    No user was promised these tickets. The hashed bytes name the epoch, since the same user may get the same sequence
    in a later one.
    """
    events = FailEventHistory.objects.exclude(event_status=EventStatus.SUCCESS).exclude(error_code__in=HELD_CODES)
    return set(events.filter(campaign_id=campaign_id).values_list("payload_hash", flat=True))


def written_sequences(campaign_id: UUID, user_ids: Sequence[str]) -> dict[str, int]:
    """Returns the sequence of each of these users' coupons, or of the failed event that holds the ticket."""
    written = {row.user_id: row.sequence for row in failed_tickets(campaign_id, user_ids)}
    coupons = Coupon.objects.filter(campaign_id=campaign_id, user_id__in=user_ids)
    written.update(coupons.values_list("user_id", "sequence"))
    return written


def _stream(rows: QuerySet[Any, Any]) -> Iterator[TicketRow]:
    """Yields rows without the ORM's work for each, and without COPY, whose waits have no limit (db_timeouts.py)."""
    sql, values = rows.query.sql_with_params()
    # Inside a transaction the server-side cursor needs no WITH HOLD, which would first store the whole result.
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(sql, values)
        while batch := cursor.fetchmany(CHUNK):
            yield from map(TicketRow._make, batch)
