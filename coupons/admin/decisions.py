"""Retry now and give up: an operator's decisions, the outcome as a message and in each event's history."""

from collections.abc import Sequence

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest

from coupons.admin.pages import actor_of, audit, errors_as_messages
from coupons.errors import DATABASE_DOWN, RetryLater
from coupons.issuing.retry import RetryReport, give_up_events, retry_events_now
from coupons.models import EventStatus, FailEventHistory

MAX_AT_ONCE = 500  # a retry takes a few milliseconds, and the operator waits for all of them


def undecided(event_ids: Sequence[int]) -> list[int]:
    """Those that may be retried or given up: not SUCCESS, not given up, not being retried at this moment."""
    events = FailEventHistory.objects.filter(pk__in=event_ids, event_status=EventStatus.FAIL)
    return list(events.filter(given_up_at__isnull=True).order_by("pk").values_list("pk", flat=True))


def retry_now(request: HttpRequest, event_ids: Sequence[int]) -> None:
    with errors_as_messages(request, about="Retry"):
        chosen = undecided(event_ids)
        attempts = _attempts(chosen)
        try:
            report = retry_events_now(event_ids=chosen, actor=actor_of(request))
        except (RetryLater, *DATABASE_DOWN):
            _audit_tried(request, attempts)
            raise
        _audit_tried(request, attempts)
        _say_retried(request, report, left_alone=len(event_ids) - report.succeeded - report.failed)


def give_up(request: HttpRequest, event_ids: Sequence[int], reason: str) -> None:
    with errors_as_messages(request, about="Give up"):
        # One transaction: no event is given up without a line in its history.
        with transaction.atomic():
            chosen = list(
                FailEventHistory.objects.select_for_update(no_key=True)
                .defer("payload")
                .filter(pk__in=undecided(event_ids), event_status=EventStatus.FAIL, given_up_at__isnull=True)
                .order_by("pk")
            )
            ids = [event.pk for event in chosen]
            given_up = give_up_events(event_ids=ids, actor=actor_of(request), reason=reason)
            audit(request, chosen, f"Given up: {reason}")
        if given_up:
            messages.success(request, f"Given up: {_events(given_up)}.")
        _say_left_alone(request, len(event_ids) - given_up)


def _attempts(event_ids: Sequence[int]) -> dict[int, int]:
    return dict(FailEventHistory.objects.filter(pk__in=event_ids).values_list("pk", "attempts"))


def _audit_tried(request: HttpRequest, attempts_before: dict[int, int]) -> None:
    """A line for each event that was tried, by its outcome; what a broken-off run gave back untried gets none."""
    outcomes: dict[str, list[FailEventHistory]] = {}
    for event in FailEventHistory.objects.filter(pk__in=attempts_before).defer("payload"):
        if event.attempts > attempts_before[event.pk]:
            outcome = "issued" if event.event_status == EventStatus.SUCCESS else f"{event.error_code} again"
            outcomes.setdefault(outcome, []).append(event)
    for outcome, events in outcomes.items():
        audit(request, events, f"Retried now: {outcome}.")


def _say_retried(request: HttpRequest, report: RetryReport, *, left_alone: int) -> None:
    if report.succeeded:
        messages.success(request, f"Retried: {_events(report.succeeded)} succeeded.")
    if report.failed:
        messages.warning(request, f"Retried: {_events(report.failed)} failed again; each shows why.")
    _say_left_alone(request, left_alone)


def _say_left_alone(request: HttpRequest, count: int) -> None:
    if count:
        messages.info(
            request, f"Left alone: {_events(count)} that succeeded, were given up or are being retried already."
        )


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"
