"""Retries failed events: FAIL -> PROCESSING -> SUCCESS, or back to FAIL with what it said. It never adds one.

A run claims due rows (SKIP LOCKED, so two runs share the work), gives each a lease and then its own transaction. A run
that is killed leaves rows in PROCESSING; when their lease ends the next run takes them up again.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from coupons import audit
from coupons.errors import DATABASE_DOWN, OperatorError, RetryLater
from coupons.failpoints import RETRY_CLAIMED, RETRY_COMMITTED, RETRY_ISSUED, RETRY_SETTLED, failpoint
from coupons.issuing.backoff import retry_delay_sec
from coupons.issuing.database_time import from_now
from coupons.issuing.issue import Issued, issue_coupons, settle_tickets
from coupons.models import EventStatus, FailAttempt, FailCode, FailEventHistory

logger = logging.getLogger(__name__)
CLAIM_SIZE = 100


@dataclass(slots=True)
class RetryReport:
    """What a run did, in rows."""

    succeeded: int = 0
    failed: int = 0
    lost: int = 0  # another run had taken the row over meanwhile

    def __str__(self) -> str:
        return f"{self.succeeded} succeeded, {self.failed} failed again, {self.lost} taken over by another run"


@dataclass(frozen=True, slots=True)
class _EventTicket:
    campaign_id: UUID
    user_id: str
    sequence: int


def retry_due_events(*, limit: int, actor: str, stop: Callable[[], bool] = lambda: False) -> RetryReport:
    """Retry at most `limit` rows that are due, or until `stop` says so after a row.

    Raises RetryLater or OperationalError when a part is down. What was claimed and not tried is due again at once, or,
    if that could not be written, when its lease ends.
    """
    report = RetryReport()
    while not stop() and (done := report.succeeded + report.failed + report.lost) < limit:
        due = FailEventHistory.objects.filter(next_attempt_at__lte=Now()).order_by("next_attempt_at")
        events = _claim(due, min(CLAIM_SIZE, limit - done))
        if not events:
            break
        _retry_all(events, actor, report, stop)
    return report


def retry_events_now(*, event_ids: Sequence[int], actor: str, reason: str = "") -> RetryReport:
    """A person's decision to retry these rows whatever their due time; each that was tried notes who wanted it and why.

    Rows that are SUCCESS, given up or being retried are left alone.
    """
    report = RetryReport()
    chosen = FailEventHistory.objects.filter(pk__in=event_ids, event_status=EventStatus.FAIL).order_by("pk")
    _retry_all(_claim(chosen, len(event_ids)), actor, report, decided=reason)
    return report


def give_up_events(*, event_ids: Sequence[int], actor: str, reason: str) -> int:
    """An operator's decision that these rows are not to be tried again; returns how many. It returns no slot."""
    if not reason.strip():
        raise OperatorError("reason: say why these events are given up.")
    still_failing = FailEventHistory.objects.filter(event_status=EventStatus.FAIL, given_up_at__isnull=True)
    with transaction.atomic():
        chosen = still_failing.filter(pk__in=event_ids).select_for_update(no_key=True).defer("payload").order_by("pk")
        events = list(chosen)
        FailEventHistory.objects.filter(pk__in=[event.pk for event in events]).update(
            given_up_at=Now(), given_up_by=actor, given_up_reason=reason, next_attempt_at=None, updated_at=Now()
        )
        audit.record_all(actor=actor, rows=events, what="Given up", reason=reason)
    logger.info("retry.given_up count=%d actor=%s", len(events), actor)
    return len(events)


def _claim(chosen: QuerySet[FailEventHistory], count: int) -> list[FailEventHistory]:
    """Take rows for this run, in a transaction of its own: from its commit on, no other run takes them."""
    with transaction.atomic():
        events = list(chosen.filter(given_up_at__isnull=True).select_for_update(skip_locked=True)[:count])
        FailEventHistory.objects.filter(pk__in=[event.pk for event in events]).update(
            event_status=EventStatus.PROCESSING,
            attempts=F("attempts") + 1,
            next_attempt_at=from_now(settings.RETRY_LEASE_SEC),
            updated_at=Now(),
        )
    # Crash here => the rows are PROCESSING until the lease ends, then due again.
    failpoint(RETRY_CLAIMED)
    for event in events:
        event.attempts += 1
    return events


def _retry_all(
    events: Sequence[FailEventHistory],
    actor: str,
    report: RetryReport,
    stop: Callable[[], bool] = lambda: False,
    *,
    decided: str | None = None,
) -> None:
    for number, event in enumerate(events):
        if stop():
            _release(events[number:])
            return
        try:
            _retry(event, actor, report, decided)
        except (RetryLater, *DATABASE_DOWN):
            _release(events[number:])
            raise


def _retry(event: FailEventHistory, actor: str, report: RetryReport, decided: str | None) -> None:
    """`decided` is the reason of the person who wants it; None when nobody asked."""
    started_at = timezone.now()
    with transaction.atomic():
        result, code, reason = _issue(event)
        failpoint(RETRY_ISSUED)
        if not _finish(event, code):
            report.lost += 1
            transaction.set_rollback(True)
            return
        FailAttempt.objects.create(
            event=event, started_at=started_at, actor=actor, error_code=code or "", error_message=reason
        )
        if decided is not None:
            outcome = "issued" if code is None else f"{code} again"
            audit.record(actor=actor, row=event, what=f"Retried now: {outcome}", reason=decided)
    # Crash here => the row is done; a ticket that is pending still is settled by the relay, which finds the row.
    failpoint(RETRY_COMMITTED)
    if result is not None:
        settle_tickets(result)
    failpoint(RETRY_SETTLED)
    if code is None:
        report.succeeded += 1
    else:
        report.failed += 1
    logger.info("retry.tried event=%d attempt=%d outcome=%s", event.pk, event.attempts, code or "SUCCESS")


def _issue(event: FailEventHistory) -> tuple[Issued[_EventTicket] | None, FailCode | None, str]:
    """What issuing says of this event now: no code means that the coupon is there."""
    if event.campaign_id is None or not event.user_id or event.sequence is None:
        return None, FailCode(event.error_code), "The message names no ticket, so there is nothing to issue."
    result = issue_coupons([_EventTicket(event.campaign_id, event.user_id, event.sequence)])
    if result.refused:
        return result, result.refused[0].code, result.refused[0].reason
    return result, None, ""


def _finish(event: FailEventHistory, code: FailCode | None) -> bool:
    """Move the row out of PROCESSING if it is still this run's: the attempt number tells. False: it is not."""
    mine = FailEventHistory.objects.filter(pk=event.pk, event_status=EventStatus.PROCESSING, attempts=event.attempts)
    if code is None:
        return mine.update(event_status=EventStatus.SUCCESS, next_attempt_at=None, updated_at=Now()) == 1
    again = code.retried_by_itself and event.attempts < settings.RETRY_MAX_ATTEMPTS
    return (
        mine.update(
            event_status=EventStatus.FAIL,
            error_code=code,
            next_attempt_at=from_now(retry_delay_sec(event.attempts)) if again else None,
            updated_at=Now(),
        )
        == 1
    )


def _release(events: Sequence[FailEventHistory]) -> None:
    """Give the rows back untried, if PostgreSQL can still be told so. Else the lease ends."""
    try:
        for event in events:
            FailEventHistory.objects.filter(
                pk=event.pk, event_status=EventStatus.PROCESSING, attempts=event.attempts
            ).update(
                event_status=EventStatus.FAIL,
                attempts=F("attempts") - 1,
                next_attempt_at=event.next_attempt_at,  # as it was before the claim
                updated_at=Now(),
            )
    except DATABASE_DOWN as error:
        logger.warning("retry.not_released count=%d error=%s", len(events), " ".join(str(error).split()))
