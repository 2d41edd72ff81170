"""The campaigns' pages: create, edit, open, pause, resume and close, always through lifecycle, and show live counts."""

from typing import Any, cast
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST

from coupons.admin import live_state
from coupons.admin.campaign_columns import CampaignChangeList, CampaignColumns
from coupons.admin.campaign_form import EDITABLE, CampaignForm
from coupons.admin.pages import OperatorAdmin, actor_of, campaign_url, database_down
from coupons.admin.reasons import ReasonActionForm, ReasonField, read_reason
from coupons.admin.transitions import TRANSITIONS, Transition, run_transition, transitions_for
from coupons.campaigns import lifecycle
from coupons.campaigns.lifecycle import CampaignChanges
from coupons.errors import DATABASE_DOWN, OperatorError, PushDidNotArrive, RetryLater
from coupons.models import Campaign, CampaignState

MAX_AT_ONCE = 100


class CloseForm(forms.Form):
    reason = ReasonField(rows=4)


def transition_action(name: str) -> Any:
    """Makes the list's action for one transition. Closing is final, so it asks for confirmation."""

    def act(page: "CampaignAdmin", request: HttpRequest, chosen: QuerySet[Campaign]) -> HttpResponse | None:
        campaigns = list(chosen[: MAX_AT_ONCE + 1])
        if len(campaigns) > MAX_AT_ONCE:
            messages.error(request, f"Select at most {MAX_AT_ONCE} campaigns. Nothing was changed.")
        elif name == "close":
            return page.confirm_close(request, campaigns)
        elif reason := read_reason(request):
            run_transition(request, TRANSITIONS[name], campaigns, reason)
        return None

    act.__name__ = f"{name}_campaigns"
    description = f"{TRANSITIONS[name].label} the selected campaigns{' …' if name == 'close' else ''}"
    return admin.action(act, permissions=["operate"], description=description)


@admin.register(Campaign)
class CampaignAdmin(CampaignColumns, OperatorAdmin[Campaign]):
    form = CampaignForm
    action_form = ReasonActionForm
    actions = tuple(transition_action(name) for name in TRANSITIONS)
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
    readonly_fields = ("id", "revision_text", "created", "updated")
    change_form_template = "admin/coupons/campaign/change_form.html"

    def get_urls(self) -> list[URLPattern]:
        """Puts the transitions' URLs before Django's, which match any path as an object's id."""
        wrap = self.admin_site.admin_view
        transitions = [
            path(
                f"<uuid:campaign_id>/{name}/",
                wrap(self.transition_view),
                {"name": name},
                f"coupons_campaign_{name}",
            )
            for name in TRANSITIONS
            if name != "close"
        ]
        return [
            *transitions,
            path("close/", wrap(self.close_view), name="coupons_campaign_close"),
            *super().get_urls(),
        ]

    # --- permissions ----------------------------------------------------------------------------------
    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("coupons.operate_campaign")

    def has_change_permission(self, request: HttpRequest, obj: Campaign | None = None) -> bool:
        """Operators may edit a campaign until it is closed."""
        return self.has_operate_permission(request) and (obj is None or obj.state != CampaignState.CLOSED)

    def has_view_permission(self, request: HttpRequest, obj: Campaign | None = None) -> bool:
        return self.has_operate_permission(request) or super().has_view_permission(request, obj)

    # --- create and edit ------------------------------------------------------------------------------
    @method_decorator(csrf_protect)
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Runs Django's view without a transaction: lifecycle must commit before it pushes the change to Redis.

        When lifecycle refuses, the view builds the form again with the refusal as its error.
        """
        try:
            return self._changeform(request, object_id, form_url, extra_context)
        except OperatorError as error:
            refusal = str(error)
        except RetryLater as error:
            refusal = f"Nothing was changed: {error}. Try again in a few seconds."
        except DATABASE_DOWN as error:
            refusal = database_down(error)
        request.META[_REFUSAL] = refusal
        return self._changeform(request, object_id, form_url, extra_context)

    def _changeform(self, *args: Any) -> HttpResponse:
        return cast("HttpResponse", super()._changeform_view(*args))  # type: ignore[misc]  # not in the stubs

    def get_form(
        self, request: HttpRequest, obj: Campaign | None = None, change: bool = False, **kwargs: Any
    ) -> type[CampaignForm]:
        if obj is not None and not self.has_change_permission(request, obj):
            return cast("type[CampaignForm]", super().get_form(request, obj, change, **kwargs))
        refusal = request.META.get(_REFUSAL, "")
        return type("CampaignForm", (CampaignForm,), {"refusal": refusal, "adding": obj is None})

    def get_fieldsets(self, request: HttpRequest, obj: Campaign | None = None) -> Any:
        if obj is None:
            return [(None, {"fields": (*EDITABLE, "reason")})]
        if not self.has_change_permission(request, obj):
            return [(None, {"fields": ("name", "quantity", "opens", "closes")}), _record_fieldset()]
        return [(None, {"fields": (*EDITABLE, "reason", "revision")}), _record_fieldset()]

    def save_model(self, request: HttpRequest, obj: Campaign, form: Any, change: bool) -> None:
        """Saves through lifecycle, never directly. changeform_view shows the errors that it raises."""
        actor, reason = actor_of(request), form.cleaned_data["reason"]
        if not change:
            values = {field: form.cleaned_data[field] for field in EDITABLE}
            obj.pk = lifecycle.create_campaign(**values, actor=actor, reason=reason).pk
        elif form.changes:
            try:
                changes = cast("CampaignChanges", form.changes)
                lifecycle.change_campaign(campaign_id=obj.pk, changes=changes, actor=actor, reason=reason)
            except PushDidNotArrive as error:
                messages.warning(request, str(error))
        obj.refresh_from_db()

    def response_post_save_add(self, request: HttpRequest, obj: Campaign) -> HttpResponseRedirect:
        """Redirects to the new campaign's page, where it can be opened."""
        if self.has_view_permission(request, obj):
            return HttpResponseRedirect(campaign_url(obj.pk))
        return super().response_post_save_add(request, obj)

    # --- transitions ----------------------------------------------------------------------------------
    @method_decorator(require_POST)
    def transition_view(self, request: HttpRequest, campaign_id: UUID, name: str) -> HttpResponse:
        if not self.has_operate_permission(request):
            raise PermissionDenied
        if reason := read_reason(request):
            run_transition(request, TRANSITIONS[name], Campaign.objects.filter(pk=campaign_id), reason)
        return HttpResponseRedirect(campaign_url(campaign_id))

    def close_view(self, request: HttpRequest) -> HttpResponse:
        """GET asks for confirmation, POST closes the campaigns `ids` for the given `reason`."""
        if not self.has_operate_permission(request):
            raise PermissionDenied
        given = (request.POST if request.method == "POST" else request.GET).getlist("ids")
        campaigns = list(Campaign.objects.filter(pk__in=_uuids(given[:MAX_AT_ONCE])))
        form = CloseForm(request.POST) if request.method == "POST" else CloseForm()
        if campaigns and not form.is_valid():
            return self.confirm_close(request, campaigns, form)
        run_transition(request, TRANSITIONS["close"], campaigns, form.cleaned_data["reason"] if campaigns else "")
        if len(campaigns) == 1:
            return HttpResponseRedirect(campaign_url(campaigns[0].pk))
        return HttpResponseRedirect(reverse("admin:coupons_campaign_changelist"))

    def confirm_close(
        self, request: HttpRequest, campaigns: list[Campaign], form: CloseForm | None = None
    ) -> HttpResponse:
        seen = live_state.read_live_states(campaigns)
        context = {
            **self.admin_site.each_context(request),
            "title": "Close for good?",
            "form": form or CloseForm(initial={"reason": request.POST.get("reason", "")}),
            "opts": self.opts,
            "media": self.media,
            "rows": [(campaign, seen[campaign.pk]) for campaign in campaigns],
        }
        return TemplateResponse(request, "admin/coupons/campaign/close.html", context)

    # --- display --------------------------------------------------------------------------------------
    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        campaign = context.get("original")
        if campaign is not None:
            context["live"] = live_state.read_live_states([campaign])[campaign.pk]
            may = self.has_operate_permission(request)
            context["transitions"] = (
                [(transition, _transition_url(transition, campaign)) for transition in transitions_for(campaign)]
                if may
                else []
            )
            context["state_badge"] = self.state_badge(campaign)
        return super().render_change_form(request, context, *args, **kwargs)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return CampaignChangeList


_REFUSAL = "coupons.refusal"  # the key in request.META by which changeform_view hands the refusal to get_form


def _record_fieldset() -> tuple[str, dict[str, Any]]:
    return "Record", {"fields": ("id", "revision_text", "created", "updated")}


def _transition_url(transition: Transition, campaign: Campaign) -> str:
    """Returns the URL of the transition's button. Closing leads to a confirmation page."""
    if transition.name == "close":
        return f"{reverse('admin:coupons_campaign_close')}?ids={campaign.pk}"
    return reverse(f"admin:coupons_campaign_{transition.name}", args=[campaign.pk])


def _uuids(texts: list[str]) -> list[UUID]:
    found = []
    for text in texts:
        try:
            found.append(UUID(text))
        except ValueError:
            continue
    return found
