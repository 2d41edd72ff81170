"""The columns of the campaign list: values from PostgreSQL, and counts from Redis for the campaigns on this page."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime

from coupons.admin import live_state
from coupons.admin.live_state import LiveState
from coupons.admin.pages import OperatorChangeList, badge, number
from coupons.models import Campaign, CampaignState

_STATE_KINDS = {CampaignState.DRAFT: "plain", CampaignState.OPEN: "good", CampaignState.PAUSED: "warn"}


class CampaignChangeList(OperatorChangeList):
    """Reads from Redis the campaigns of the page that is shown, and no others."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        seen = live_state.read_live_states(self.result_list)
        for campaign in self.result_list:
            campaign.live = seen[campaign.pk]


class CampaignColumns:
    """Columns and read-only fields of the campaigns' pages."""

    @admin.display(description="state", ordering="state")
    def state_badge(self, campaign: Campaign) -> SafeString:
        return badge(campaign.state, _STATE_KINDS.get(CampaignState(campaign.state), "plain"))

    @admin.display(description=f"window ({settings.TIME_ZONE})", ordering="opens_at")
    def window(self, campaign: Campaign) -> SafeString:
        closes_at = localize(localtime(campaign.closes_at)) if campaign.closes_at else "no end"
        return format_html("{}<br>{}", localize(localtime(campaign.opens_at)), closes_at)

    @admin.display
    def admitted(self, campaign: Campaign) -> SafeString:
        seen = _live(campaign)
        return format_html(
            "{} of {}<br>{} remaining", number(seen.admitted), number(seen.quantity), number(seen.remaining)
        )

    @admin.display
    def pending(self, campaign: Campaign) -> str:
        return number(_live(campaign).pending)

    @admin.display
    def issued(self, campaign: Campaign) -> str:
        return number(campaign.issued_count)

    @admin.display(description="failed")
    def open_events(self, campaign: Campaign) -> SafeString | str:
        seen = _live(campaign)
        if not seen.open_events:
            return "0"
        url = reverse("admin:coupons_faileventhistory_changelist")
        return format_html(
            '<a href="{}?campaign__id__exact={}">{}</a>', url, campaign.pk, badge(seen.open_events_text, "bad")
        )

    @admin.display(description="Redis")
    def redis(self, campaign: Campaign) -> SafeString:
        seen = _live(campaign)
        return badge(seen.redis, seen.kind)


def _live(campaign: Any) -> LiveState:
    seen: LiveState = campaign.live
    return seen
