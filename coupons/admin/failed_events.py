"""Shows failed events, their errors and attempts. An operator retries an event or gives it up; rows are read-only."""

import re
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from coupons.admin import jobs
from coupons.admin.decisions import MAX_AT_ONCE, give_up, open_to_decision, retry_now
from coupons.admin.filters import CampaignFilter, StatusFilter
from coupons.admin.pages import NOTHING, IndexedChangeList, ReadOnlyAdmin, badge, campaign_link, moment_column
from coupons.admin.payloads import readable_payload
from coupons.admin.reasons import ReasonActionForm, ReasonField, read_reason
from coupons.models import EventStatus, FailCode, FailEventHistory
from coupons.runtime.text import make_visible

MAX_SHOWN = 100  # attempts on an event's page, events on the page that confirms giving up
_POSITION = re.compile(r"(?:(?P<topic>[\w.-]+)\[)?(?P<partition>\d{1,9})\]?@(?P<offset>\d{1,18})")


class ReasonForm(forms.Form):
    ids = forms.CharField(widget=forms.HiddenInput)
    reason = ReasonField(rows=4)

    @property
    def event_ids(self) -> list[int]:
        return [int(text) for text in re.findall(r"\d{1,18}", str(self["ids"].value() or ""))][:MAX_AT_ONCE]


class FailedEventChangeList(IndexedChangeList):
    """Does not load the long columns: a payload may be a megabyte."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        found: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        return found.defer("payload", "error_message", "given_up_reason")


@admin.register(FailEventHistory)
class FailedEventAdmin(ReadOnlyAdmin[FailEventHistory]):
    action_form = ReasonActionForm
    actions = ("retry_selected", "give_up_selected")
    list_display = (
        "position", "status", "code", "campaign_name", "user", "sequence", "failed",
    )  # fmt: skip
    list_filter = (StatusFilter, "error_code", CampaignFilter)
    list_select_related = ("campaign",)
    lookups = (CampaignFilter.parameter_name, StatusFilter.parameter_name, "error_code__exact")
    ordering = ("-id",)
    search_fields = ("user_id__exact",)  # only shows the search field; get_search_results searches
    search_help_text = f"A complete user id, or a message's position: 3@1234 or {settings.TOPIC}[3]@1234"
    fieldsets = (
        (None, {"fields": ("status", "code", "error_text", "campaign_name", "user", "sequence", "attempts")}),
        ("Message", {"fields": ("position", "campaign_ref_text", "payload_hash", "failed", "changed")}),
    )
    failed = moment_column("created_at", "failed at")
    changed = moment_column("updated_at", "last changed")
    change_form_template = "admin/coupons/faileventhistory/change_form.html"

    def get_urls(self) -> list[URLPattern]:
        """Puts the decisions' URLs before Django's, which match any path as an object's id."""
        wrap = self.admin_site.admin_view
        return [
            path("<int:event_id>/retry/", wrap(self.retry_view), name="coupons_faileventhistory_retry"),
            path("give-up/", wrap(self.give_up_view), name="coupons_faileventhistory_give_up"),
            *super().get_urls(),
        ]

    # --- permissions ------------------------------------------------------------------------------------
    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("coupons.retry_failed_event")

    def has_give_up_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("coupons.give_up_failed_event")

    def has_view_permission(self, request: HttpRequest, obj: FailEventHistory | None = None) -> bool:
        decides = self.has_retry_permission(request) or self.has_give_up_permission(request)
        return decides or super().has_view_permission(request, obj)

    # --- decisions --------------------------------------------------------------------------------------
    @admin.action(permissions=["retry"], description="Retry the selected events now")
    def retry_selected(self, request: HttpRequest, chosen: QuerySet[FailEventHistory]) -> None:
        if reason := read_reason(request):
            retry_now(request, _selected_ids(request, chosen), reason)

    @admin.action(permissions=["give_up"], description="Give up the selected events, with a reason …")
    def give_up_selected(self, request: HttpRequest, chosen: QuerySet[FailEventHistory]) -> HttpResponse:
        ids = ",".join(str(event_id) for event_id in _selected_ids(request, chosen))
        return self._confirm_give_up(
            request, ReasonForm(initial={"ids": ids, "reason": request.POST.get("reason", "")})
        )

    @method_decorator(require_POST)
    def retry_view(self, request: HttpRequest, event_id: int) -> HttpResponse:
        if not self.has_retry_permission(request):
            raise PermissionDenied
        if reason := read_reason(request):
            retry_now(request, [event_id], reason)
        return HttpResponseRedirect(reverse("admin:coupons_faileventhistory_change", args=[event_id]))

    def give_up_view(self, request: HttpRequest) -> HttpResponse:
        """GET asks for the reason, POST gives up the events `ids`."""
        if not self.has_give_up_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return self._confirm_give_up(request, ReasonForm(initial={"ids": request.GET.get("ids", "")}))
        form = ReasonForm(request.POST)
        if not form.is_valid():
            return self._confirm_give_up(request, form)
        ids = form.event_ids
        give_up(request, ids, form.cleaned_data["reason"])
        if len(ids) == 1:
            return HttpResponseRedirect(reverse("admin:coupons_faileventhistory_change", args=ids))
        return HttpResponseRedirect(reverse("admin:coupons_faileventhistory_changelist"))

    def _confirm_give_up(self, request: HttpRequest, form: ReasonForm) -> HttpResponse:
        ids = open_to_decision(form.event_ids)
        events = FailEventHistory.objects.filter(pk__in=ids).defer("payload").select_related("campaign")
        context = {
            **self.admin_site.each_context(request),
            "title": "Give up?",
            "opts": self.opts,
            "media": self.media,
            "form": form,
            "count": len(ids),
            "not_shown": max(len(ids) - MAX_SHOWN, 0),
            "promised": events.filter(error_code__in=[code for code in FailCode if code.holds_ticket]).count(),
            "events": [(event, self.user(event)) for event in events.order_by("-pk")[:MAX_SHOWN]],
        }
        return TemplateResponse(request, "admin/coupons/faileventhistory/give_up.html", context)

    # --- display ----------------------------------------------------------------------------------------
    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FailedEventChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Compares exactly, so that an index serves the search. A term may be both a position and a user id."""
        term = search_term.strip()
        if not term:
            return queryset, False
        found = Q(user_id=term)
        if match := _POSITION.fullmatch(term):
            topic = match["topic"] or settings.TOPIC
            found |= Q(topic=topic, partition=int(match["partition"]), offset=int(match["offset"]))
        return queryset.filter(found), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        extra = {"job_warnings": jobs.warnings(now=timezone.now())}
        return super().changelist_view(request, {**(extra_context or {}), **extra})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        event = context["original"]
        decidable = event.event_status == EventStatus.FAIL and event.given_up_at is None
        context["payload"] = readable_payload(bytes(event.payload))
        context["attempts"] = event.tried.order_by("-pk")[:MAX_SHOWN]
        context["given_up_reason"] = make_visible(event.given_up_reason)
        context["may_retry"] = decidable and self.has_retry_permission(request)
        context["may_give_up"] = decidable and self.has_give_up_permission(request)
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display
    def position(self, event: FailEventHistory) -> str:
        """Writes the position as the search accepts it, without the name of the configured topic."""
        place = f"{event.partition}@{event.offset}"
        return place if event.topic == settings.TOPIC else f"{event.topic}[{event.partition}]@{event.offset}"

    @admin.display(description="error code")
    def code(self, event: FailEventHistory) -> str:
        return event.error_code

    @admin.display
    def status(self, event: FailEventHistory) -> SafeString:
        if event.event_status == EventStatus.SUCCESS:
            return badge("SUCCESS", "good")
        if event.event_status == EventStatus.PROCESSING:
            return badge("PROCESSING", "plain")
        if event.given_up_at is not None:
            return badge("FAIL, given up", "plain")
        if event.next_attempt_at is None:
            return badge("FAIL, needs a decision", "bad")
        due = timezone.localtime(event.next_attempt_at)
        return badge(f"FAIL, retry {due:%m-%d %H:%M}", "warn")

    @admin.display(description="campaign")
    def campaign_name(self, event: FailEventHistory) -> SafeString | str:
        return campaign_link(event.campaign)

    @admin.display
    def user(self, event: FailEventHistory) -> str:
        return make_visible(event.user_id) or NOTHING

    @admin.display(description="error")
    def error_text(self, event: FailEventHistory) -> str:
        return make_visible(event.error_message)

    @admin.display(description="campaign id in the message")
    def campaign_ref_text(self, event: FailEventHistory) -> str:
        return make_visible(event.campaign_ref) or NOTHING


def _selected_ids(request: HttpRequest, chosen: QuerySet[FailEventHistory]) -> list[int]:
    ids = list(chosen.values_list("pk", flat=True)[: MAX_AT_ONCE + 1])
    if len(ids) > MAX_AT_ONCE:
        messages.info(
            request, f"Only the first {MAX_AT_ONCE} of the selected events were used. Repeat the action for the others."
        )
    return ids[:MAX_AT_ONCE]
