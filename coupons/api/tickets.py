"""Finds a user's ticket in Redis and PostgreSQL."""

from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote
from uuid import UUID

from django.conf import settings
from django.urls import get_resolver

from coupons.admission import ticket_store
from coupons.admission.campaign_cache import campaign_cache
from coupons.admission.gate import EpochAhead, Held
from coupons.api.circuit_breakers import asking_postgresql, asking_redis
from coupons.errors import DATABASE_DOWN, DatabaseUnavailable, RetryLater, StateStale
from coupons.models import HELD_CODES, Coupon, EventStatus, FailEventHistory
from coupons.redemption.coupon_lists import with_status

LEFT_AS_IT_IS = "!$&'()*+,;=/~:@"
"""RFC 3986 and Django's `reverse` do not quote these in a path."""

ISSUED_FIELDS = ("sequence", "code", "issued_at", "campaign__valid_from", "valid_until", "status")


@lru_cache(maxsize=1_024)
def _before_user(campaign_id: str) -> str:
    # Not `reverse`, whose prefix is that of the thread's last request: the front's event loop has none.
    return f"{settings.PATH_PREFIX}/{get_resolver().reverse('ticket', campaign_id, '-')}".removesuffix("-")


def ticket_path(campaign_id: str, user_id: str) -> str:
    """Makes the path of a user's ticket like `reverse`, and caches the part that all users of a campaign share."""
    return _before_user(campaign_id) + quote(user_id, safe=LEFT_AS_IT_IS)


def applied(campaign_id: str, ticket: Held) -> dict[str, Any]:
    return {"status": "pending", "sequence": ticket.sequence, "status_url": ticket_path(campaign_id, ticket.user_id)}


def find_ticket(*, campaign_id: UUID, user_id: str) -> dict[str, Any] | None:
    """Returns the values of a TicketDocument, or None only when a current Redis and PostgreSQL both lack it.

    Raises RetryLater or a database error when one of them does not answer and the other alone does not decide.
    """
    held: Held | None = None
    unknown: RetryLater | None = None
    try:
        # Before PostgreSQL: a ticket leaves pending only after its row is committed, so one that is no longer pending
        # here has its row by then.
        held = _held(campaign_id, user_id)
    except RetryLater as error:
        unknown = error
    try:
        with asking_postgresql():
            written = _written(campaign_id, user_id)
    except (DatabaseUnavailable, *DATABASE_DOWN):
        if held is not None and held.pending:
            return _pending(held)  # by all that is known, it is still on its way
        raise
    if written is not None:
        return written
    if held is not None:
        return _pending(held)
    if unknown is not None:
        raise unknown
    return None


def _held(campaign_id: UUID, user_id: str) -> Held | None:
    """Returns the gate's ticket. Raises RetryLater when the gate does not answer."""
    wait_sec = settings.API_DATABASE_TIMEOUT_MS / 1000
    known = campaign_cache().look_up(campaign_id, wait_sec=wait_sec)
    if known is None or known.is_unloaded:
        return None
    ask = partial(ticket_store.held_tickets, campaign_id=campaign_id, user_ids=[user_id])
    with asking_redis():
        try:
            return ask(epoch=known.epoch).get(user_id)
        except EpochAhead:  # also a campaign that this process knows as a draft
            newer = campaign_cache().look_up(campaign_id, wait_sec=wait_sec, newer_than=known.epoch) or known
            return ask(epoch=newer.epoch).get(user_id)
        except StateStale:
            if known.epoch == 0:  # a draft, which Redis does not have
                return None
            raise


def _written(campaign_id: UUID, user_id: str) -> dict[str, Any] | None:
    coupon = with_status(Coupon.objects.filter(campaign_id=campaign_id, user_id=user_id)).values(*ISSUED_FIELDS).first()
    if coupon is not None:
        return {
            "status": "issued",
            "sequence": coupon["sequence"],
            "code": coupon["code"],
            "issued_at": coupon["issued_at"],
            "valid_from": coupon["campaign__valid_from"],
            "valid_until": coupon["valid_until"],
            "coupon_status": coupon["status"],
        }
    given_up = FailEventHistory.objects.filter(
        campaign_id=campaign_id, user_id=user_id, given_up_at__isnull=False, error_code__in=HELD_CODES
    ).exclude(event_status=EventStatus.SUCCESS)
    event = given_up.first()
    return None if event is None else {"status": "failed", "sequence": event.sequence}


def _pending(held: Held) -> dict[str, Any]:
    return {"status": "pending", "sequence": held.sequence}
