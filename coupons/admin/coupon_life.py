"""Reads a coupon's redemptions and events for its page, and those redemptions that an action is about."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.timezone import get_current_timezone_name

from coupons.admin.pages import badge
from coupons.models import LIVE, Coupon, CouponEvent, Redemption, RedemptionState

MAX_SHOWN = 200  # of each kind: a shop may hold a coupon and let it go any number of times
_KINDS = {RedemptionState.HELD: "warn", RedemptionState.REDEEMED: "good"}


class Life(NamedTuple):
    """Oldest first. `more` says that only the newest ones are shown."""

    uses: Sequence[Redemption]
    events: Sequence[CouponEvent]
    more: bool
    zone: str


def read_life(coupon: Coupon) -> Life:
    uses, more_uses = _newest(_with_end(Redemption.objects.filter(coupon=coupon)).order_by("-created_at", "-pk"))
    events, more_events = _newest(
        CouponEvent.objects.filter(coupon=coupon).select_related("redemption").order_by("-pk")
    )
    for use in uses:
        use.badge = _badge(use)
    return Life(uses, events, more_uses or more_events, get_current_timezone_name())


def live_uses(coupons: Sequence[Coupon]) -> list[Redemption]:
    """Returns those that an operator may return: redemptions, and holds whose time is not over."""
    live = _with_end(Redemption.objects.filter(LIVE, coupon__in=coupons)).select_related("coupon__campaign")
    return [use for use in live.order_by("coupon_id") if not use.is_over]


def named_uses(request: HttpRequest, coupons: Sequence[Coupon]) -> list[Redemption]:
    """Returns the redemptions that the confirmed page named, with a message if there are none. Another order may have
    redeemed a coupon since the page was shown: that one must stay."""
    named = set(request.POST.getlist("redemption"))
    of_these = Redemption.objects.filter(coupon__in=coupons).select_related("coupon").order_by("coupon_id")
    found = [use for use in of_these if str(use.pk) in named]
    if not found:
        messages.error(request, "Nothing was done: no redemption was named. Open the coupon's page and press Return.")
    return found


def _with_end(uses: QuerySet[Redemption]) -> QuerySet[Redemption, Any]:
    """Adds `is_over`: a hold ends by PostgreSQL's clock, whatever its row still says."""
    return uses.annotate(is_over=Q(state=RedemptionState.HELD, hold_until__lte=Now()))


def _newest(rows: QuerySet[Any]) -> tuple[list[Any], bool]:
    found = list(rows[: MAX_SHOWN + 1])
    return found[:MAX_SHOWN][::-1], len(found) > MAX_SHOWN


def _badge(use: Any) -> SafeString:
    if use.is_over:
        return badge("hold ended", "plain")
    return badge(use.state, _KINDS.get(RedemptionState(use.state), "plain"))
