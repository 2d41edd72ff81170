"""Lists coupons with their status, computed by PostgreSQL: the same rules as in coupon_life.py."""

from datetime import timedelta
from typing import Any

from django.db.models import (
    Case,
    CharField,
    DateTimeField,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    QuerySet,
    Value,
    When,
)
from django.db.models.functions import Coalesce, Now

from coupons.models import Coupon, CouponEvent, EventKind, Redemption, RedemptionState
from coupons.redemption.coupon_life import CouponStatus

_DAYS_AFTER_ISSUE = ExpressionWrapper(
    F("issued_at") + F("campaign__valid_days") * Value(timedelta(days=1)), output_field=DateTimeField()
)


def with_status(coupons: QuerySet[Coupon]) -> QuerySet[Coupon, Any]:
    """Adds `status` and `valid_until`, as of the statement's time."""
    of_this = Redemption.objects.filter(coupon=OuterRef("pk"))
    revoked = CouponEvent.objects.filter(coupon=OuterRef("pk"), kind=EventKind.REVOKED)
    status = Case(
        When(Exists(revoked), then=Value(CouponStatus.REVOKED)),
        When(Exists(of_this.filter(state=RedemptionState.REDEEMED)), then=Value(CouponStatus.REDEEMED)),
        When(Exists(of_this.filter(state=RedemptionState.HELD, hold_until__gt=Now())), then=Value(CouponStatus.HELD)),
        When(valid_until__lte=Now(), then=Value(CouponStatus.EXPIRED)),
        default=Value(CouponStatus.UNUSED),
        output_field=CharField(),
    )
    ends = Coalesce("campaign__valid_until", _DAYS_AFTER_ISSUE)
    return coupons.annotate(valid_until=ends).annotate(status=status)


def list_coupons(coupons: QuerySet[Coupon], *, status: str | None) -> QuerySet[Coupon, Any]:
    """Selects coupons of this status, or all; newest first."""
    listed: QuerySet[Any, Any] = with_status(coupons)
    if status is not None:
        listed = listed.filter(status=status)
    return listed.order_by("-issued_at", "-pk")
