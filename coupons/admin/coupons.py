"""Shows and searches issued coupons, by user or code; read-only.

A code is worth money: users with the permission `see_code` see it, others see its last characters.
"""

from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.safestring import SafeString

from coupons.admin.filters import CampaignFilter
from coupons.admin.pages import ReadOnlyAdmin, campaign_link
from coupons.models import Coupon


@admin.register(Coupon)
class CouponAdmin(ReadOnlyAdmin):
    list_display = ("code", "user_id", "campaign_name", "sequence", "issued_at")  # get_list_display hides the code
    list_filter = (CampaignFilter,)
    list_select_related = ("campaign",)
    lookups = (CampaignFilter.parameter_name,)
    search_fields = ("user_id__exact", "code__exact")
    search_help_text = "A complete user id or a complete code"
    fields = ("code", "user_id", "campaign_name", "sequence", "issued_at")

    def get_list_display(self, request: HttpRequest) -> Any:
        return _visible_columns(request, self.list_display)

    def get_fields(self, request: HttpRequest, obj: Coupon | None = None) -> Any:
        return _visible_columns(request, self.fields)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Sorts newest first; within one campaign the last admitted first. An index serves each order."""
        if request.GET.get(CampaignFilter.parameter_name):
            return ("campaign_id", "-sequence")
        return ("-id",)

    def matches(self, term: str) -> Q:
        """Compares exactly, so that two indexes serve the search. A code may be typed in lower case."""
        return Q(user_id=term) | Q(code=term.upper())

    @admin.display(description="code")
    def end_of_code(self, coupon: Coupon) -> str:
        return f"…{coupon.code[-4:]}"

    @admin.display(description="campaign")
    def campaign_name(self, coupon: Coupon) -> SafeString | str:
        return campaign_link(coupon.campaign)


def _visible_columns(request: HttpRequest, columns: tuple[str, ...]) -> tuple[str, ...]:
    if request.user.has_perm("coupons.see_code"):
        return columns
    return tuple("end_of_code" if column == "code" else column for column in columns)
