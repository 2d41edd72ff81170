"""Reads where a coupon is in its life, and says whether it may be redeemed: the one answer of check and redemption.

    unused -> held -> redeemed -> unused (returned); revoked is final; expired is computed, never stored

All times are of PostgreSQL's clock, read in the statement that reads the state.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db import connection

from coupons.models import LIVE_STATES, RedemptionState


class CouponStatus(StrEnum):
    UNUSED = "unused"
    HELD = "held"
    REDEEMED = "redeemed"
    REVOKED = "revoked"
    EXPIRED = "expired"


class Obstacle(StrEnum):
    """Why a coupon cannot be redeemed, in the order in which a client is told. The API uses them as problem codes."""

    NOT_YOURS = "not-yours"
    REVOKED = "revoked"
    ALREADY_REDEEMED = "already-redeemed"
    EXPIRED = "expired"
    NOT_VALID_YET = "not-valid-yet"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class OrderUse:
    """A row of Redemption."""

    id: UUID
    order_ref: str
    state: RedemptionState
    hold_until: datetime | None
    redeemed_at: datetime | None


@dataclass(frozen=True, slots=True)
class CouponLife:
    """A coupon, its campaign's part in it, and its uses: the live one, and the one that was asked about.

    `live` may be a hold whose time is over (`holds_at` decides); then it stands in nobody's way.
    """

    now: datetime
    id: int
    campaign_id: UUID
    user_id: str
    sequence: int
    code: str
    issued_at: datetime
    valid_from: datetime | None
    valid_until: datetime | None
    metadata: dict[str, Any]
    is_revoked: bool
    live: OrderUse | None
    asked: OrderUse | None

    @property
    def status(self) -> CouponStatus:
        if self.is_revoked:
            return CouponStatus.REVOKED
        if self.live is not None and self.live.state == RedemptionState.REDEEMED:
            return CouponStatus.REDEEMED
        if self.live is not None and self.is_held_by(self.live):
            return CouponStatus.HELD
        return CouponStatus.EXPIRED if self.is_expired else CouponStatus.UNUSED

    @property
    def is_expired(self) -> bool:
        return self.valid_until is not None and self.valid_until <= self.now

    def is_held_by(self, use: OrderUse) -> bool:
        """Whether this hold has not lapsed: it ends by the clock, whatever the row still says."""
        return use.state == RedemptionState.HELD and use.hold_until is not None and use.hold_until > self.now

    def obstacles(self, *, user_id: str | None) -> list[Obstacle]:
        """Returns why another order, of this user if one is named, cannot redeem the coupon now."""
        found = {
            Obstacle.NOT_YOURS: user_id is not None and user_id != self.user_id,
            Obstacle.REVOKED: self.is_revoked,
            Obstacle.ALREADY_REDEEMED: self.status is CouponStatus.REDEEMED,
            Obstacle.EXPIRED: self.is_expired,
            Obstacle.NOT_VALID_YET: self.valid_from is not None and self.valid_from > self.now,
            Obstacle.HELD: self.status is CouponStatus.HELD,
        }
        return [obstacle for obstacle, is_there in found.items() if is_there]


_READ = """
    SELECT clock_timestamp(), coupon.id, coupon.campaign_id, coupon.user_id, coupon.sequence, coupon.code,
        coupon.issued_at, campaign.valid_from, campaign.valid_until, campaign.valid_days, campaign.metadata,
        EXISTS (SELECT FROM coupons_couponevent WHERE coupon_id = coupon.id AND kind = 'revoked'),
        used.id, used.order_ref, used.state, used.hold_until, used.redeemed_at
    FROM coupons_coupon AS coupon
    JOIN coupons_campaign AS campaign ON campaign.id = coupon.campaign_id
    LEFT JOIN coupons_redemption AS used
        ON used.coupon_id = coupon.id AND (used.state IN ('held', 'redeemed') OR {asked})
    WHERE {coupon}
"""
_OF_CODE = _READ.format(asked="used.order_ref = %s", coupon="coupon.code = %s")
_OF_REDEMPTION = _READ.format(
    asked="used.id = %s", coupon="coupon.id = (SELECT coupon_id FROM coupons_redemption WHERE id = %s)"
)


def life_of_code(code: str, *, order_ref: str = "") -> CouponLife | None:
    """Returns the life of the coupon with this code, as stored; `asked` is the use of this order. None = no coupon."""
    return _read(_OF_CODE, [order_ref, code], lambda use: use.order_ref == order_ref)


def life_of_redemption(redemption_id: UUID) -> CouponLife | None:
    """`asked` is this redemption."""
    return _read(_OF_REDEMPTION, [redemption_id, redemption_id], lambda use: use.id == redemption_id)


def _read(sql: str, values: list[Any], is_asked: Callable[[OrderUse], bool]) -> CouponLife | None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows = cursor.fetchall()
    if not rows:
        return None
    now, pk, campaign_id, user_id, sequence, code, issued_at, valid_from, until, days, metadata, revoked = rows[0][:12]
    uses = [OrderUse(row[12], row[13], RedemptionState(row[14]), *row[15:]) for row in rows if row[12] is not None]
    return CouponLife(
        now=now,
        id=pk,
        campaign_id=campaign_id,
        user_id=user_id,
        sequence=sequence,
        code=code,
        issued_at=issued_at,
        valid_from=valid_from,
        valid_until=until if days is None else issued_at + timedelta(days=days),
        metadata=json.loads(metadata),
        is_revoked=revoked,
        live=next((use for use in uses if use.state in LIVE_STATES), None),
        asked=next((use for use in uses if is_asked(use)), None),
    )
