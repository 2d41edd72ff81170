"""The campaigns' pages: create, edit, open, pause, resume and close, always through lifecycle, and show live counts."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from coupons.admin import live_state
from coupons.admin.campaign_coupons import read_coupon_panel
from coupons.admin.campaign_form import EDITABLE, SALE, CampaignForm
from coupons.admin.export import NAME, export_urls
from coupons.admin.forms import ConfirmationForm
from coupons.admin.live_state import LiveState
from coupons.admin.pages import OperatorAdmin, OperatorChangeList, actor_of, badge, errors_as_messages, moment, number
from coupons.campaigns import lifecycle
from coupons.errors import PushDidNotArrive
from coupons.models import Campaign, CampaignState

# The buttons on a campaign's page. lifecycle checks the state under the row's lock.
BUTTONS = {
    CampaignState.DRAFT: {"open_campaigns": "Open …"},
    CampaignState.OPEN: {"pause_campaigns": "Pause …", "close_campaigns": "Close …"},
    CampaignState.PAUSED: {"resume_campaigns": "Resume …", "close_campaigns": "Close …"},
    CampaignState.CLOSED: {},
}


class Step(NamedTuple):
    """One of the four steps of a campaign's life, and what its page says."""

    change: Callable[..., Campaign]
    verb: str
    done: str
    effect: str


OPEN = Step(
    lifecycle.open_campaign, "Open", "opened", "An opened campaign admits users as soon as its window has begun."
)
PAUSE = Step(
    lifecycle.pause_campaign,
    "Pause",
    "paused",
    "A paused campaign admits no users until you resume it. Users who are already admitted still get their coupons.",
)
RESUME = Step(lifecycle.resume_campaign, "Resume", "resumed", "A resumed campaign admits users again.")
CLOSE = Step(
    lifecycle.close_campaign,
    "Close for good",
    "closed",
    "A closed campaign cannot be opened again and admits no more users. Users who are already admitted still get their "
    "coupons.",
)
_STATE_KINDS = {CampaignState.DRAFT: "plain", CampaignState.OPEN: "good", CampaignState.PAUSED: "warn"}


class CampaignChangeList(OperatorChangeList):
    """Reads from Redis the campaigns of the page that is shown, and no others."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        seen = live_state.read_live_states(self.result_list)
        for campaign in self.result_list:
            campaign.live = seen[campaign.pk]


@admin.register(Campaign)
class CampaignAdmin(OperatorAdmin):
    acting_form = CampaignForm
    changelist = CampaignChangeList
    actions = ("open_campaigns", "pause_campaigns", "resume_campaigns", "close_campaigns")
    final_actions = ("close_campaigns",)
    list_display = (
        "name", "state_badge", "redis", "window", "admitted", "pending", "issued", "open_events",
    )  # fmt: skip
    list_filter = ("state",)
    list_per_page = 25
    list_max_show_all = 50
    lookups = ("state__exact",)
    search_fields = ("name__icontains", "id__exact")
    search_help_text = "A part of the name, or the complete id"
    sortable_by = ("name", "state_badge", "window")
    readonly_fields = ("id", "revision", "created_at", "updated_at")

    # --- permissions ----------------------------------------------------------------------------------
    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("coupons.operate_campaign")

    def has_change_permission(self, request: HttpRequest, obj: Campaign | None = None) -> bool:
        """Also of a closed campaign: its coupons may become valid for longer (get_readonly_fields)."""
        return self.has_operate_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Campaign | None = None) -> bool:
        return self.has_operate_permission(request) or super().has_view_permission(request, obj)

    # --- export ---------------------------------------------------------------------------------------
    def get_urls(self) -> list[Any]:
        return [*export_urls(self), *super().get_urls()]

    # --- create and edit ------------------------------------------------------------------------------
    def get_fieldsets(self, request: HttpRequest, obj: Campaign | None = None) -> Any:
        if obj is None:
            return [(None, {"fields": (*EDITABLE, "reason")})]
        can_change = self.has_change_permission(request, obj)
        fields = (*EDITABLE, "reason", "shown_revision") if can_change else EDITABLE
        return [(None, {"fields": fields}), ("Record", {"fields": self.readonly_fields})]

    def get_readonly_fields(self, request: HttpRequest, obj: Campaign | None = None) -> Any:
        closed = obj is not None and obj.state == CampaignState.CLOSED
        return (*self.readonly_fields, *SALE) if closed else self.readonly_fields

    def response_post_save_add(self, request: HttpRequest, obj: Campaign) -> HttpResponseRedirect:
        """Redirects to the new campaign's page, where it can be opened."""
        if self.has_view_permission(request, obj):
            return HttpResponseRedirect(reverse("admin:coupons_campaign_change", args=[obj.pk]))
        return super().response_post_save_add(request, obj)

    # --- actions --------------------------------------------------------------------------------------
    def buttons(self, row: Campaign) -> dict[str, str]:
        return BUTTONS[CampaignState(row.state)]

    @admin.action(permissions=["operate"], description="Open the selected campaigns …")
    def open_campaigns(self, request: HttpRequest, chosen: QuerySet[Campaign]) -> HttpResponse | None:
        return self._take_step(request, chosen, OPEN)

    @admin.action(permissions=["operate"], description="Pause the selected campaigns …")
    def pause_campaigns(self, request: HttpRequest, chosen: QuerySet[Campaign]) -> HttpResponse | None:
        return self._take_step(request, chosen, PAUSE)

    @admin.action(permissions=["operate"], description="Resume the selected campaigns …")
    def resume_campaigns(self, request: HttpRequest, chosen: QuerySet[Campaign]) -> HttpResponse | None:
        return self._take_step(request, chosen, RESUME)

    @admin.action(permissions=["operate"], description="Close the selected campaigns …")
    def close_campaigns(self, request: HttpRequest, chosen: QuerySet[Campaign]) -> HttpResponse | None:
        return self._take_step(request, chosen, CLOSE)

    def _take_step(self, request: HttpRequest, chosen: QuerySet[Campaign], step: Step) -> HttpResponse | None:
        """Asks, then changes each campaign by itself: a refusal for one does not stop the others."""
        rows, form = self.take(request, chosen), ConfirmationForm(request)
        if not form.is_valid():
            seen = live_state.read_live_states(rows)
            campaigns = [(campaign, seen[campaign.pk]) for campaign in rows]
            what = f"{step.verb}: {_named(rows)}?"
            return self.show_page(
                request, "campaign/step.html", title=what, form=form, rows=rows, campaigns=campaigns, step=step
            )
        reason = form.cleaned_data["reason"]
        for campaign in rows:
            with errors_as_messages(request, about=campaign.name):
                try:
                    step.change(campaign_id=campaign.pk, actor=actor_of(request), reason=reason)
                except PushDidNotArrive as error:
                    messages.warning(request, f"{campaign.name} is {step.done}. {error}")
                else:
                    messages.success(request, f"{campaign.name} is {step.done}.")
        return None

    # --- display --------------------------------------------------------------------------------------
    def panel(self, request: HttpRequest, row: Campaign) -> dict[str, Any]:
        return {
            "live": live_state.read_live_states([row])[row.pk],
            "state_badge": self.state_badge(row),
            "export_url": reverse(f"admin:{NAME}", args=[row.pk]),
            "coupons": read_coupon_panel(row, asked="count" in request.GET),
        }

    @admin.display(description="state", ordering="state")
    def state_badge(self, campaign: Campaign) -> SafeString:
        return badge(campaign.state, _STATE_KINDS.get(CampaignState(campaign.state), "plain"))

    @admin.display(description=f"window ({settings.TIME_ZONE})", ordering="opens_at")
    def window(self, campaign: Campaign) -> SafeString:
        closes_at = moment(campaign.closes_at) if campaign.closes_at else "no end"
        return format_html("{}<br>{}", moment(campaign.opens_at), closes_at)

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


def _named(campaigns: Sequence[Campaign]) -> str:
    return campaigns[0].name if len(campaigns) == 1 else f"{len(campaigns)} campaigns"


def _live(campaign: Any) -> LiveState:
    seen: LiveState = campaign.live
    return seen
