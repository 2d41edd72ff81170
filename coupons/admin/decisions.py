"""Runs an operator's decisions on failed events, retry now or give up, and reports the outcome as messages."""

from collections.abc import Sequence

from django.contrib import messages
from django.http import HttpRequest

from coupons.admin.pages import actor_of, errors_as_messages
from coupons.issuing.failed_events import give_up_events
from coupons.issuing.retry import RetryReport, retry_events_now
from coupons.models import EventStatus, FailEventHistory

MAX_AT_ONCE = 500  # a retry takes a few milliseconds, and the operator waits for all of them


def open_to_decision(event_ids: Sequence[int]) -> list[int]:
    """Filters the events that can be retried or given up: not SUCCESS, not given up, not being retried now."""
    events = FailEventHistory.objects.filter(pk__in=event_ids, event_status=EventStatus.FAIL)
    return list(events.filter(given_up_at__isnull=True).order_by("pk").values_list("pk", flat=True))


def retry_now(request: HttpRequest, event_ids: Sequence[int], reason: str) -> None:
    with errors_as_messages(request, about="Retry"):
        report = retry_events_now(event_ids=open_to_decision(event_ids), actor=actor_of(request), reason=reason)
        _report_retried(request, report, skipped=len(event_ids) - report.succeeded - report.failed)


def give_up(request: HttpRequest, event_ids: Sequence[int], reason: str) -> None:
    with errors_as_messages(request, about="Give up"):
        given_up = give_up_events(event_ids=open_to_decision(event_ids), actor=actor_of(request), reason=reason)
        if given_up:
            messages.success(request, f"Given up: {_events(given_up)}.")
        _report_skipped(request, len(event_ids) - given_up)


def _report_retried(request: HttpRequest, report: RetryReport, *, skipped: int) -> None:
    if report.succeeded:
        messages.success(request, f"Retried: {_events(report.succeeded)} succeeded.")
    if report.failed:
        messages.warning(request, f"Retried: {_events(report.failed)} failed again. Each event's page shows the error.")
    _report_skipped(request, skipped)


def _report_skipped(request: HttpRequest, count: int) -> None:
    if count:
        messages.info(
            request, f"Skipped: {_events(count)} that already succeeded, were given up or are being retried now."
        )


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"
