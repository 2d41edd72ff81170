"""Failed events as rows, without a message that failed."""

from hashlib import sha256
from typing import Any

from coupons.models import Campaign, FailCode, FailEventHistory
from tests.support.gate import admit_user


def failed(offset: int = 0, payload: bytes = b"{}", **values: Any) -> FailEventHistory:
    row = {
        "error_code": FailCode.DATABASE_REFUSED,
        "error_message": "why",
        "topic": "coupon_create",
        "partition": 3,
        "offset": offset,
        "payload": payload,
        "payload_hash": sha256(payload).hexdigest(),
    }
    return FailEventHistory.objects.create(**{**row, **values})


def held(campaign: Campaign, user: str, offset: int = 0) -> FailEventHistory:
    """A failed event of a ticket that the gate holds: a retry issues the coupon."""
    ticket = admit_user(campaign_id=campaign.pk, epoch=campaign.epoch, user_id=user).ticket
    assert ticket is not None
    return failed(offset, campaign=campaign, user_id=user, sequence=ticket.sequence)
