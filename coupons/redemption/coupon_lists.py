"""Lists coupons with their status, computed by PostgreSQL: the same rules as in coupon_life.py.

Two joins, each with one row at most by a unique index, and no subqueries: PostgreSQL chooses how to join by the number
of coupons, from one to a million.
"""

from datetime import timedelta
from typing import Any

from django.db.models import (
    Case,
    CharField,
    DateTimeField,
    ExpressionWrapper,
    F,
    FilteredRelation,
    Q,
    QuerySet,
    Value,
    When,
)
from django.db.models.functions import Coalesce, Now

from coupons.models import LIVE_STATES, Coupon, EventKind, RedemptionState
from coupons.redemption.coupon_life import CouponStatus

_DAYS_AFTER_ISSUE = ExpressionWrapper(
    F("issued_at") + F("campaign__valid_days") * Value(timedelta(days=1)), output_field=DateTimeField()
)


def with_status(coupons: QuerySet[Coupon]) -> QuerySet[Coupon, Any]:
    """Adds `status` and `valid_until`, as of the statement's time, and the relation `live_use`: the redemption or hold
    that is live, as the row says. A hold whose time is over may still be there."""
    status = Case(
        When(revocation__isnull=False, then=Value(CouponStatus.REVOKED)),
        When(live_use__state=RedemptionState.REDEEMED, then=Value(CouponStatus.REDEEMED)),
        When(live_use__state=RedemptionState.HELD, live_use__hold_until__gt=Now(), then=Value(CouponStatus.HELD)),
        When(valid_until__lte=Now(), then=Value(CouponStatus.EXPIRED)),
        default=Value(CouponStatus.UNUSED),
        output_field=CharField(),
    )
    ends = Coalesce("campaign__valid_until", _DAYS_AFTER_ISSUE)
    joined: QuerySet[Any, Any] = coupons.annotate(
        live_use=FilteredRelation("redemptions", condition=Q(redemptions__state__in=LIVE_STATES)),
        revocation=FilteredRelation("events", condition=Q(events__kind=EventKind.REVOKED)),
        valid_until=ends,
    )
    listed: QuerySet[Any, Any] = joined.annotate(status=status)
    return listed


def list_coupons(coupons: QuerySet[Coupon], *, status: str | None) -> QuerySet[Coupon, Any]:
    """Selects coupons of this status, or all; newest first."""
    listed: QuerySet[Any, Any] = with_status(coupons)
    if status is not None:
        listed = listed.filter(status=status)
    return listed.order_by("-issued_at", "-pk")
