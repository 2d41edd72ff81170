"""What became of a user's application, from Redis and PostgreSQL together."""

from functools import lru_cache
from typing import Any
from urllib.parse import quote
from uuid import UUID

from django.conf import settings
from django.urls import reverse

from coupons.admission import ticket_store
from coupons.admission.campaign_cache import CachedCampaign, campaign_cache
from coupons.admission.gate import EpochAhead, Held
from coupons.api.circuit_breakers import asking_postgresql, asking_redis
from coupons.errors import DATABASE_DOWN, DatabaseUnavailable, RetryLater, StateStale
from coupons.models import HELD_CODES, Coupon, EventStatus, FailEventHistory

LEFT_AS_IT_IS = "!$&'()*+,;=/~:@"
"""In a path, by RFC 3986 and Django's `reverse`."""


@lru_cache(maxsize=1_024)
def _before_user(campaign_id: str) -> str:
    return reverse("ticket", args=[campaign_id, "-"]).removesuffix("-")


def ticket_path(campaign_id: str, user_id: str) -> str:
    """Where a user's ticket is: `reverse`, with the part that all users of a campaign share worked out once."""
    return _before_user(campaign_id) + quote(user_id, safe=LEFT_AS_IT_IS)


def find_ticket(*, campaign_id: UUID, user_id: str) -> dict[str, Any] | None:
    """The ticket's document, or None only when current Redis and PostgreSQL both lack it.

    Raises RetryLater or a database error when one of them could not be asked and the other alone does not tell.
    """
    held, unknown = _held(campaign_id, user_id)
    try:
        with asking_postgresql():
            written = _written(campaign_id, user_id)
    except (DatabaseUnavailable, *DATABASE_DOWN):
        if held is not None and held.pending:
            return _pending(held)  # as far as anybody can see: still on its way
        raise
    if written is not None:
        return written
    if held is not None:
        return _pending(held)
    if unknown is not None:
        raise unknown
    return None


def _held(campaign_id: UUID, user_id: str) -> tuple[Held | None, RetryLater | None]:
    """The gate's ticket, and why it could not tell if it could not. Asked first: a ticket leaves pending only after
    its row is committed, so whoever is not found here as pending is found in PostgreSQL afterwards."""
    try:
        known = campaign_cache().look_up(campaign_id, wait_sec=_look_up_timeout_sec())
        if known is None:
            return None, None
        with asking_redis():
            tickets = _ask_gate(campaign_id, known, user_id)
    except RetryLater as error:
        return None, error
    return tickets.get(user_id), None


def _look_up_timeout_sec() -> float:
    return float(settings.API_DATABASE_TIMEOUT_MS / 1000)


def _ask_gate(campaign_id: UUID, known: CachedCampaign, user_id: str) -> dict[str, Held]:
    try:
        return ticket_store.held_tickets(campaign_id=campaign_id, epoch=known.epoch, user_ids=[user_id])
    except EpochAhead:  # also one that was a draft when this process looked
        newer = campaign_cache().look_up(campaign_id, wait_sec=_look_up_timeout_sec(), newer_than=known.epoch) or known
        return ticket_store.held_tickets(campaign_id=campaign_id, epoch=newer.epoch, user_ids=[user_id])
    except StateStale:
        if known.epoch == 0:  # a draft: Redis has nothing of it
            return {}
        raise


def _written(campaign_id: UUID, user_id: str) -> dict[str, Any] | None:
    coupon = Coupon.objects.filter(campaign_id=campaign_id, user_id=user_id).first()
    if coupon is not None:
        issued_at = coupon.issued_at.isoformat()
        return {"status": "issued", "sequence": coupon.sequence, "code": coupon.code, "issued_at": issued_at}
    given_up = FailEventHistory.objects.filter(
        campaign_id=campaign_id, user_id=user_id, given_up_at__isnull=False, error_code__in=HELD_CODES
    ).exclude(event_status=EventStatus.SUCCESS)
    event = given_up.first()
    return None if event is None else {"status": "failed", "sequence": event.sequence}


def _pending(held: Held) -> dict[str, Any]:
    return {"status": "pending", "sequence": held.sequence}
