"""The button Export on a campaign's page: asks what the file shall have and why, and sends it (redemption/export.py).

Its address ends as the API's does, so that the web server gives it a thread of the exports (front/django_threads.py).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from django import forms
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.urls import URLPattern, path

from coupons.admin.forms import ConfirmationForm
from coupons.admin.pages import OperatorAdmin, actor_of
from coupons.api.export import WITHIN_SEC, file_response
from coupons.redemption.coupon_life import CouponStatus
from coupons.redemption.export import CouponExport, Selection

NAME = "coupons_campaign_export"


class ExportForm(ConfirmationForm):
    status = forms.ChoiceField(choices=[("", "every status"), *((each, each) for each in CouponStatus)], required=False)


def export_urls(campaigns: OperatorAdmin) -> Sequence[URLPattern]:
    view = campaigns.admin_site.admin_view(partial(export_view, campaigns))
    return [path("<path:object_id>/coupons.csv", view, name=NAME)]


def export_view(campaigns: OperatorAdmin, request: HttpRequest, object_id: str) -> HttpResponseBase:
    """Needs the right to see coupons. The codes are in the file for people who may see codes."""
    campaign = campaigns.get_object(request, unquote(object_id))
    if not request.user.has_perm("coupons.view_coupon") or not campaigns.has_view_permission(request, campaign):
        raise PermissionDenied
    if campaign is None:
        raise Http404("There is no such campaign.")
    form = ExportForm(request)
    with_codes = request.user.has_perm("coupons.see_code")
    if not form.is_valid():
        context: dict[str, Any] = {"form": form, "campaign": campaign, "with_codes": with_codes}
        return campaigns.show_page(request, "campaign/export.html", title=f"Export: {campaign.name}", **context)
    status = form.cleaned_data["status"]
    export = CouponExport(
        campaign=campaign,
        selection=Selection(with_codes=with_codes, status=CouponStatus(status) if status else None),
        actor=actor_of(request),
        reason=form.cleaned_data["reason"],
        within_sec=WITHIN_SEC,
    )
    return file_response(campaign, export)
