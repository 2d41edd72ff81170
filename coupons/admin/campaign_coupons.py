"""What a campaign's page says of its coupons: how long they are good, and how many are in each status."""

from collections.abc import Mapping
from typing import NamedTuple

from django.utils.timezone import get_current_timezone_name

from coupons.admin.pages import moment
from coupons.models import Campaign
from coupons.redemption.coupon_life import CouponStatus
from coupons.redemption.status_counts import CountTookTooLong, count_by_status

COUNTED_AT_ONCE = 50_000
"""Coupons that are counted whenever the page is shown: half a second. More are counted when somebody asks."""


class CouponPanel(NamedTuple):
    """`counts` is None if the coupons were not counted; `too_many` says that it took too long."""

    validity: str
    counts: Mapping[CouponStatus, int] | None = None
    too_many: bool = False


def read_coupon_panel(campaign: Campaign, *, asked: bool) -> CouponPanel:
    validity = describe_validity(campaign)
    if not asked and campaign.issued_count > COUNTED_AT_ONCE:
        return CouponPanel(validity)
    try:
        return CouponPanel(validity, count_by_status(campaign))
    except CountTookTooLong:
        return CouponPanel(validity, too_many=True)


def describe_validity(campaign: Campaign) -> str:
    zone = get_current_timezone_name()
    begins = f"from {moment(campaign.valid_from)} ({zone})" if campaign.valid_from else "from when they are issued"
    ends = "without an end"
    if campaign.valid_until:
        ends = f"until {moment(campaign.valid_until)} ({zone})"
    if campaign.valid_days:
        ends = f"for {campaign.valid_days:,} times 24 hours after each was issued"
    return f"Coupons are good {begins}, {ends}."
