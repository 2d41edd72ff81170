"""Coupons as rows with codes as the product makes them, and what orders did with them; PostgreSQL alone is asked."""

from typing import Any

from coupons.campaigns.lifecycle import create_campaign
from coupons.models import Campaign, Coupon, CouponEvent, Redemption
from coupons.redemption.codes import derive_code
from coupons.redemption.redeem import redeem


def coupon_in(campaign: Campaign, user_id: str = "42", sequence: int = 1, **values: Any) -> Coupon:
    code = derive_code(b"test", campaign_id=campaign.pk, sequence=sequence, user_id=user_id)
    return Coupon.objects.create(
        **{"campaign": campaign, "user_id": user_id, "sequence": sequence, "code": code, **values}
    )


def new_coupon(user_id: str = "42", **terms: Any) -> Coupon:
    """The first coupon of a campaign of its own."""
    return coupon_in(create_campaign(name="test", quantity=10, actor="test", **terms), user_id)


def use(coupon: Coupon, order_ref: str = "1001", *, hold_sec: int | None = None) -> Redemption:
    result = redeem(
        code=coupon.code,
        order_ref=order_ref,
        user_id=None,
        hold_sec=hold_sec,
        actor="api:shop",
        may_touch=lambda _: True,
    )
    return Redemption.objects.get(pk=result.use.id)


def kinds(coupon: Coupon) -> list[str]:
    return list(CouponEvent.objects.filter(coupon=coupon).order_by("id").values_list("kind", flat=True))
