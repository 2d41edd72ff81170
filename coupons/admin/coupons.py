"""Shows and finds issued coupons with their whole life; an operator revokes a coupon, or returns its redemption.

A code is worth money: users with the permission `see_code` see it and search by it, others see its last characters. It
is typed into a POST (coupon_search.py), so that it stands in no address that a proxy or a browser keeps.
"""

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters

from coupons.admin import coupon_search
from coupons.admin.coupon_life import live_uses, named_uses, read_life
from coupons.admin.filters import CampaignFilter
from coupons.admin.forms import ConfirmationForm
from coupons.admin.pages import (
    IndexedChangeList,
    ReadOnlyAdmin,
    actor_of,
    badge,
    campaign_link,
    errors_as_messages,
    moment,
)
from coupons.errors import OperatorError
from coupons.models import Coupon, Redemption
from coupons.redemption.coupon_life import CouponStatus
from coupons.redemption.coupon_lists import with_status
from coupons.redemption.redeem import NoSuchCoupon, NotRedeemable, return_redemption, revoke_coupon

_IN_USE = (CouponStatus.HELD, CouponStatus.REDEEMED)
_STATUS_KINDS = {
    CouponStatus.UNUSED: "good",
    CouponStatus.HELD: "warn",
    CouponStatus.REDEEMED: "plain",
    CouponStatus.REVOKED: "bad",
    CouponStatus.EXPIRED: "plain",
}
GONE = "It is not in PostgreSQL any more. Nothing was done."


class CouponChangeList(IndexedChangeList):
    """Reads the status of the coupons that are shown, and of no others: the count would join all redemptions."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        shown: QuerySet[Any, Any] = with_status(
            Coupon.objects.filter(pk__in=[coupon.pk for coupon in self.result_list])
        )
        statuses = dict(shown.values_list("pk", "status"))
        for coupon in self.result_list:
            coupon.status = statuses[coupon.pk]


@admin.register(Coupon)
class CouponAdmin(ReadOnlyAdmin):
    changelist = CouponChangeList
    actions = ("return_redemptions", "revoke_coupons")
    final_actions = ("revoke_coupons",)
    change_form_template = "admin/coupons/coupon/change_form.html"
    # The methods below hide the code from whoever may not see it.
    list_display = ("code", "state", "user_id", "campaign_name", "sequence", "issued_at")
    list_filter = (CampaignFilter,)
    list_select_related = ("campaign",)
    lookups = (CampaignFilter.parameter_name,)
    search_fields = ("user_id__exact", "redemptions__order_ref__exact")
    fields = (
        "code", "state", "user_id", "campaign_name", "sequence", "issued_at", "valid_from", "valid_until",
    )  # fmt: skip

    # --- permissions ----------------------------------------------------------------------------------
    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("coupons.revoke_coupon")

    def has_return_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("coupons.return_redemption")

    def has_view_permission(self, request: HttpRequest, obj: Coupon | None = None) -> bool:
        decides = self.has_revoke_permission(request) or self.has_return_permission(request)
        return decides or super().has_view_permission(request, obj)

    # --- list and search --------------------------------------------------------------------------------
    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        return None if found is None else with_status(self.get_queryset(request)).filter(pk=found.pk).first()

    def take(self, request: HttpRequest, chosen: QuerySet[Any]) -> list[Any]:
        return super().take(request, with_status(chosen))

    def get_list_display(self, request: HttpRequest) -> Any:
        return _visible_columns(request, self.list_display)

    def get_fields(self, request: HttpRequest, obj: Coupon | None = None) -> Any:
        return _visible_columns(request, self.fields)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Sorts newest first; within one campaign the last admitted first. An index serves each order."""
        if request.GET.get(CampaignFilter.parameter_name):
            return ("campaign_id", "-sequence")
        return ("-id",)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        listed = super().get_changelist_instance(request)
        listed.search_help_text = coupon_search.help_text(request)
        return listed

    @method_decorator(sensitive_post_parameters(coupon_search.FIELD))
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if coupon_search.FIELD in request.POST and self.has_view_permission(request):
            return coupon_search.search(request)
        return super().changelist_view(request, extra_context)

    def matches(self, term: str) -> Q:
        return coupon_search.matches(term)

    # --- actions ----------------------------------------------------------------------------------------
    def buttons(self, row: Any) -> dict[str, str]:
        offered = {"return_redemptions": "Return …"} if row.status in _IN_USE else {}
        return offered if row.status == CouponStatus.REVOKED else {**offered, "revoke_coupons": "Revoke …"}

    @admin.action(permissions=["return"], description="Return the redemptions of the selected coupons …")
    def return_redemptions(self, request: HttpRequest, chosen: QuerySet[Coupon]) -> HttpResponse | None:
        coupons, form = self.take(request, chosen), ConfirmationForm(request)
        if not form.is_valid():
            rows = [coupon for coupon in coupons if coupon.status in _IN_USE]
            uses = live_uses(rows)
            return self.show_page(request, "coupon/return.html", title="Return?", form=form, rows=rows, uses=uses)
        for use in named_uses(request, coupons):
            with errors_as_messages(request, about=use.coupon):
                self._return(request, use, reason=form.cleaned_data["reason"])
        return None

    def _return(self, request: HttpRequest, use: Redemption, *, reason: str) -> None:
        try:
            result = return_redemption(
                redemption_id=use.pk, reason=reason, actor=actor_of(request), may_touch=lambda _: True, audited=True
            )
        except NoSuchCoupon:
            raise OperatorError(GONE) from None
        if not result.is_new:
            messages.info(request, f"{use.coupon}: order {use.order_ref} had returned it before. Nothing was done.")
            return
        then = "It has expired, so no order can redeem it." if result.life.is_expired else "It can be redeemed again."
        messages.success(request, f"{use.coupon}: the redemption of order {use.order_ref} is returned. {then}")

    @admin.action(permissions=["revoke"], description="Revoke the selected coupons …")
    def revoke_coupons(self, request: HttpRequest, chosen: QuerySet[Coupon]) -> HttpResponse | None:
        coupons, form = self.take(request, chosen), ConfirmationForm(request)
        if not form.is_valid():
            redeemed = [coupon for coupon in coupons if coupon.status == CouponStatus.REDEEMED]
            rows = [coupon for coupon in coupons if coupon.status not in (CouponStatus.REDEEMED, CouponStatus.REVOKED)]
            return self.show_page(
                request, "coupon/revoke.html", title="Revoke?", form=form, rows=rows, uses=live_uses(redeemed)
            )
        for coupon in coupons:
            with errors_as_messages(request, about=coupon):
                self._revoke(request, coupon, reason=form.cleaned_data["reason"])
        return None

    def _revoke(self, request: HttpRequest, coupon: Coupon, *, reason: str) -> None:
        try:
            before = revoke_coupon(code=coupon.code, reason=reason, actor=actor_of(request), may_touch=lambda _: True)
        except NotRedeemable as refusal:
            order = refusal.life.live.order_ref if refusal.life.live else ""
            raise OperatorError(f"Order {order} has redeemed it. Return that redemption first.") from None
        except NoSuchCoupon:
            raise OperatorError(GONE) from None
        if before.is_revoked:
            messages.info(request, f"{coupon} had been revoked before. Nothing was done.")
        else:
            messages.success(request, f"{coupon} is revoked: no order can redeem it any more.")

    # --- display ----------------------------------------------------------------------------------------
    def panel(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        return {"life": read_life(row)}

    @admin.display(description="status")
    def state(self, coupon: Any) -> SafeString:
        status = CouponStatus(coupon.status)
        return badge(status, _STATUS_KINDS[status])

    @admin.display(description="code")
    def end_of_code(self, coupon: Coupon) -> str:
        return f"…{coupon.code[-4:]}"

    @admin.display(description="campaign")
    def campaign_name(self, coupon: Coupon) -> SafeString | str:
        return campaign_link(coupon.campaign)

    @admin.display(description=f"valid from ({settings.TIME_ZONE})")
    def valid_from(self, coupon: Coupon) -> str:
        return moment(coupon.campaign.valid_from) if coupon.campaign.valid_from else "when it was issued"

    @admin.display(description=f"valid until ({settings.TIME_ZONE})")
    def valid_until(self, coupon: Any) -> str:
        return moment(coupon.valid_until) if coupon.valid_until else "no end"


def _visible_columns(request: HttpRequest, columns: tuple[str, ...]) -> tuple[str, ...]:
    if coupon_search.may_see_codes(request):
        return columns
    return tuple("end_of_code" if column == "code" else column for column in columns)
