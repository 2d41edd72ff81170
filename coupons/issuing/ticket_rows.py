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
    """Every coupon of the campaign."""
    for batch in issued_ticket_batches(campaign_id):
        yield from map(TicketRow._make, batch)


def issued_ticket_batches(campaign_id: UUID) -> Iterator[list[tuple[str, int]]]:
    """The same, CHUNK at a time."""
    yield from batches(Coupon.objects.filter(campaign_id=campaign_id).values_list("user_id", "sequence"))


def failed_tickets(campaign_id: UUID, user_ids: Sequence[str] | None = None) -> Iterator[TicketRow]:
    """Every ticket that a failed event holds: the gate had it, and no coupon came of it yet (or ever, if given up)."""
    events = FailEventHistory.objects.exclude(event_status=EventStatus.SUCCESS).filter(
        campaign_id=campaign_id, error_code__in=HELD_CODES, sequence__isnull=False
    )
    if user_ids is not None:
        events = events.filter(user_id__in=user_ids)
    yield from _stream(events.order_by().values_list("user_id", "sequence"))


def refused_payloads(campaign_id: UUID) -> set[str]:
    """The hash of each message that was refused because the gate did not hold its ticket: nobody was promised it.

    By its bytes, which name the epoch: the same user may get the same sequence in a later one.
    """
    events = FailEventHistory.objects.exclude(event_status=EventStatus.SUCCESS).exclude(error_code__in=HELD_CODES)
    return set(events.filter(campaign_id=campaign_id).values_list("payload_hash", flat=True))


def written_sequences(campaign_id: UUID, user_ids: Sequence[str]) -> dict[str, int]:
    """Of these users, the sequence of the coupon or of the failed event that holds their ticket."""
    written = {row.user_id: row.sequence for row in failed_tickets(campaign_id, user_ids)}
    coupons = Coupon.objects.filter(campaign_id=campaign_id, user_id__in=user_ids)
    written.update(coupons.values_list("user_id", "sequence"))
    return written


def _stream(rows: QuerySet[Any, Any]) -> Iterator[TicketRow]:
    for batch in batches(rows):
        yield from map(TicketRow._make, batch)


def batches(rows: QuerySet[Any, Any]) -> Iterator[list[tuple[Any, ...]]]:
    """Without the ORM's work for each row, and without COPY, beside which no wait has an end (db_timeouts.py)."""
    sql, values = rows.query.sql_with_params()
    # Inside a transaction the server-side cursor needs no WITH HOLD, which would first store the whole result.
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(sql, values)
        while batch := cursor.fetchmany(CHUNK):
            yield batch
