"""The view that sends all coupons of a campaign as a CSV file, row by row (redemption/export.py)."""

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from rest_framework.exceptions import PermissionDenied
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request

from coupons.api.circuit_breakers import asking_postgresql
from coupons.api.redemption_serializers import read_since, read_status
from coupons.api.throttling import LimitedView
from coupons.api.views import get_campaign
from coupons.models import Campaign, Scope
from coupons.redemption.coupon_life import CouponStatus
from coupons.redemption.export import CouponExport, Selection

CSV = "text/csv; charset=utf-8"
WITHIN_SEC = 600
"""A client that takes longer is cut off: while it reads, PostgreSQL cannot clean up what has changed since."""


class CouponsFileView(LimitedView):
    """GET: the campaign's coupons as CSV; with codes for a service that may redeem."""

    scopes = {"GET": "read"}

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        """There is nothing to choose: the file is CSV, as its address says, and all else is JSON."""
        return JSONRenderer(), JSONRenderer.media_type

    def get(self, request: Request, campaign_id: str) -> HttpResponseBase:
        selection = self._selection(request)
        with asking_postgresql():
            campaign = get_campaign(campaign_id, self.caller)
            export = CouponExport(
                campaign=campaign, selection=selection, actor=self.caller.actor, within_sec=WITHIN_SEC
            )
        return file_response(campaign, export)

    def head(self, request: Request, campaign_id: str) -> HttpResponseBase:
        """Exports nothing, and the audit has nothing to keep."""
        self._selection(request)
        with asking_postgresql():
            get_campaign(campaign_id, self.caller)
        return HttpResponse(content_type=CSV)

    def _selection(self, request: Request) -> Selection:
        if self.caller.user_id is not None:
            raise PermissionDenied("Only a service may export the coupons of a campaign.")
        status = read_status(request)
        return Selection(
            with_codes=Scope.REDEEM in self.caller.scopes,
            status=None if status is None else CouponStatus(status),
            since=read_since(request),
        )


def file_response(campaign: Campaign, export: CouponExport) -> StreamingHttpResponse:
    """Django closes the export when the answer has ended, or its client has gone."""
    headers = {"Content-Disposition": f'attachment; filename="coupons-{campaign.pk}.csv"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(export, content_type=CSV, headers=headers)
