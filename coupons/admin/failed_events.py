"""Shows failed events, their errors and attempts. An operator retries an event or gives it up; rows are read-only."""

import json
import re
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from coupons.admin import jobs
from coupons.admin.filters import CampaignFilter, StatusFilter
from coupons.admin.forms import ConfirmationForm
from coupons.admin.pages import NOTHING, ReadOnly, ReadOnlyAdmin, actor_of, badge, campaign_link, errors_as_messages
from coupons.issuing.failed_events import give_up_events
from coupons.issuing.retry import retry_events_now
from coupons.models import EventStatus, FailAttempt, FailCode, FailEventHistory
from coupons.runtime.text import make_visible

MAX_TEXT_SHOWN = 64 * 1024  # characters
_POSITION = re.compile(r"(?:(?P<topic>[\w.-]+)\[)?(?P<partition>\d{1,9})\]?@(?P<offset>\d{1,18})")


class Attempts(ReadOnly, admin.TabularInline):  # type: ignore[type-arg]  # takes no parameters at runtime
    """Whoever may see the event may see its attempts."""

    model = FailAttempt
    fields = readonly_fields = ("started_at", "finished_at", "actor", "outcome", "error_message")
    ordering = ("-pk",)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    @admin.display
    def outcome(self, attempt: FailAttempt) -> SafeString:
        return badge(attempt.error_code, "bad") if attempt.error_code else badge("issued", "good")


@admin.register(FailEventHistory)
class FailedEventAdmin(ReadOnlyAdmin):
    actions = ("retry_selected", "give_up_selected")
    final_actions = ("give_up_selected",)
    max_at_once = 500  # a retry takes a few milliseconds, and the operator waits for all of them
    inlines = (Attempts,)
    list_display = ("position", "status", "code", "campaign_name", "user_id", "sequence", "created_at")
    list_filter = (StatusFilter, "error_code", CampaignFilter)
    list_select_related = ("campaign",)
    lookups = (CampaignFilter.parameter_name, StatusFilter.parameter_name, "error_code__exact")
    ordering = ("-id",)
    search_fields = ("user_id__exact",)
    search_help_text = f"A complete user id, or a message's position: 3@1234 or {settings.TOPIC}[3]@1234"
    fieldsets = (
        (None, {"fields": ("status", "code", "error_message", "campaign_name", "user_id", "sequence", "attempts")}),
        ("Given up", {"fields": ("given_up_at", "given_up_by", "given_up_reason")}),
        ("Message", {"fields": ("position", "campaign_ref", "payload_hash", "created_at", "updated_at")}),
        ("Payload", {"fields": ("as_json", "as_received")}),
    )

    # --- permissions ------------------------------------------------------------------------------------
    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("coupons.retry_failed_event")

    def has_give_up_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("coupons.give_up_failed_event")

    def has_view_permission(self, request: HttpRequest, obj: FailEventHistory | None = None) -> bool:
        decides = self.has_retry_permission(request) or self.has_give_up_permission(request)
        return decides or super().has_view_permission(request, obj)

    # --- actions ----------------------------------------------------------------------------------------
    def buttons(self, row: FailEventHistory) -> dict[str, str]:
        return {"retry_selected": "Retry now …", "give_up_selected": "Give up …"} if _is_open(row) else {}

    @admin.action(permissions=["retry"], description="Retry the selected events …")
    def retry_selected(self, request: HttpRequest, chosen: QuerySet[FailEventHistory]) -> HttpResponse | None:
        events, form = self.take(request, chosen), ConfirmationForm(request)
        if not form.is_valid():
            rows = [event for event in events if _is_open(event)]
            return self.show_page(request, "faileventhistory/retry.html", title="Retry?", form=form, rows=rows)
        with errors_as_messages(request, about="Retry"):
            reason = form.cleaned_data["reason"]
            report = retry_events_now(event_ids=_ids(events), actor=actor_of(request), reason=reason)
            if report.succeeded:
                messages.success(request, f"Retried: {_count(report.succeeded)} succeeded.")
            if report.failed:
                text = f"Retried: {_count(report.failed)} failed again. Each event's page shows the error."
                messages.warning(request, text)
            _report_skipped(request, events, done=report.succeeded + report.failed)
        return None

    @admin.action(permissions=["give_up"], description="Give up the selected events …")
    def give_up_selected(self, request: HttpRequest, chosen: QuerySet[FailEventHistory]) -> HttpResponse | None:
        events, form = self.take(request, chosen), ConfirmationForm(request)
        if not form.is_valid():
            rows = [event for event in events if _is_open(event)]
            promised = sum(FailCode(event.error_code).holds_ticket for event in rows)
            return self.show_page(
                request, "faileventhistory/give_up.html", title="Give up?", form=form, rows=rows, promised=promised
            )
        with errors_as_messages(request, about="Give up"):
            reason = form.cleaned_data["reason"]
            given_up = give_up_events(event_ids=_ids(events), actor=actor_of(request), reason=reason)
            if given_up:
                messages.success(request, f"Given up: {_count(given_up)}.")
            _report_skipped(request, events, done=given_up)
        return None

    # --- display ----------------------------------------------------------------------------------------
    def get_queryset(self, request: HttpRequest) -> QuerySet[FailEventHistory]:
        """Leaves the long columns in the database until they are shown: a payload may be a megabyte."""
        return super().get_queryset(request).defer("payload", "error_message", "given_up_reason")

    def matches(self, term: str) -> Q:
        """Compares exactly, so that an index serves the search. A term may be both a position and a user id."""
        found = Q(user_id=term)
        if match := _POSITION.fullmatch(term):
            topic = match["topic"] or settings.TOPIC
            found |= Q(topic=topic, partition=int(match["partition"]), offset=int(match["offset"]))
        return found

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        jobs.show_warnings(request)
        return super().changelist_view(request, extra_context)

    @admin.display
    def position(self, event: FailEventHistory) -> str:
        """Writes the position as the search accepts it, without the name of the configured topic."""
        place = f"{event.partition}@{event.offset}"
        return place if event.topic == settings.TOPIC else f"{event.topic}[{event.partition}]@{event.offset}"

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

    @admin.display(description="error code")
    def code(self, event: FailEventHistory) -> str:
        return event.error_code

    @admin.display(description="campaign")
    def campaign_name(self, event: FailEventHistory) -> SafeString | str:
        return campaign_link(event.campaign)

    @admin.display(description="as JSON")
    def as_json(self, event: FailEventHistory) -> SafeString | str:
        try:
            document = json.loads(bytes(event.payload).decode())
            return _preformatted(json.dumps(document, indent=2, ensure_ascii=False))
        except (ValueError, RecursionError):
            return NOTHING

    @admin.display(description="as received")
    def as_received(self, event: FailEventHistory) -> SafeString:
        r"""Also shows what JSON hides, such as a duplicate key; bytes that are not UTF-8 appear as \xff."""
        return _preformatted(bytes(event.payload).decode(errors="backslashreplace"))


def _preformatted(text: str) -> SafeString:
    left = len(text) - MAX_TEXT_SHOWN
    more = f"\n… {left:,} more characters" if left > 0 else ""
    # JSON's escapes can make lone surrogates, which no page can hold.
    return format_html('<pre class="coupon-payload">{}{}</pre>', make_visible(text[:MAX_TEXT_SHOWN]), more)


def _is_open(event: FailEventHistory) -> bool:
    """Returns whether it can be retried or given up: not SUCCESS, not given up, not being retried now."""
    return event.event_status == EventStatus.FAIL and event.given_up_at is None


def _ids(events: Sequence[FailEventHistory]) -> list[int]:
    return [event.pk for event in events]


def _report_skipped(request: HttpRequest, events: Sequence[FailEventHistory], *, done: int) -> None:
    """`events` lacks the selected ones that the list's filter leaves out by now, since they have succeeded."""
    selected = max(len(request.POST.getlist(ACTION_CHECKBOX_NAME)), len(events))
    if skipped := selected - done:
        text = f"Skipped: {_count(skipped)} that already succeeded, were given up or are being retried now."
        messages.info(request, text)


def _count(events: int) -> str:
    return f"{events:,} event{'' if events == 1 else 's'}"
