"""Retries failed events: FAIL -> PROCESSING -> SUCCESS, or back to FAIL with the new error. Never creates events.

A run handles one event at a time. It claims the next due row (SKIP LOCKED, so two runs share the work) and gives it a
lease. Then one transaction issues the coupon and finishes the row; it writes SUCCESS only if it sees the coupon. A
killed run leaves one row in PROCESSING; when the lease ends, the next run takes the row over.
"""

import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from coupons import audit
from coupons.admission.scripts import is_refusal
from coupons.errors import DATABASE_DOWN, GateUnavailable, RetryLater, StateStale, one_line
from coupons.issuing.issue import IssueResult, issue_coupons, settle_tickets
from coupons.models import Coupon, EventStatus, FailAttempt, FailCode, FailEventHistory
from coupons.runtime.clock import from_now
from coupons.runtime.failpoints import RETRY_CLAIMED, RETRY_COMMITTED, RETRY_ISSUED, RETRY_SETTLED, failpoint
from coupons.runtime.id_sequences import heals_id_sequences

logger = logging.getLogger(__name__)
MAX_DELAY_SEC = 6 * 3600


@dataclass(slots=True)
class RetryReport:
    """The result of a run, in rows."""

    succeeded: int = 0
    failed: int = 0
    lost: int = 0  # another run had taken the row over meanwhile

    @property
    def tried(self) -> int:
        return self.succeeded + self.failed + self.lost

    def __str__(self) -> str:
        return f"{self.succeeded} succeeded, {self.failed} failed again, {self.lost} taken over by another run"


class _Ticket(NamedTuple):
    campaign_id: UUID
    user_id: str
    sequence: int


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result of one attempt. Without a code the coupon exists. The caller settles `issued` after the commit."""

    code: FailCode | None
    reason: str = ""
    issued: IssueResult[_Ticket] | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """A run: its actor, the reason if an operator started it, and its report."""

    actor: str
    reason: str | None = None
    report: RetryReport = field(default_factory=RetryReport)
    stale: dict[UUID, StateStale] = field(default_factory=dict)
    """Campaigns whose coupons cannot be issued now. The rest of the run skips their rows."""

    def end(self) -> RetryReport:
        """Returns the report. Raises StateStale if a campaign was stale."""
        if self.stale:
            campaign_id, error = next(iter(self.stale.items()))
            message = "; ".join(str(each) for each in self.stale.values())
            raise StateStale(f"{message}. Of the others: {self.report}", campaign_id=campaign_id, reason=error.reason)
        return self.report


def retry_due_events(*, limit: int, actor: str, stop: Callable[[], bool] = lambda: False) -> RetryReport:
    """Retries at most `limit` due rows, or until `stop` returns True.

    Raises RetryLater or OperationalError when a part is down; StateStale comes last, after the rows of all other
    campaigns. A row that was claimed and not tried is due again at once, or, if that cannot be written, when its lease
    ends.
    """
    run = _Run(actor)
    while run.report.tried < limit and not stop():
        due = FailEventHistory.objects.filter(next_attempt_at__lte=Now()).exclude(campaign__in=run.stale)
        event = _claim(due.order_by("next_attempt_at"))
        if event is None:
            break
        _retry(event, run)
    return run.end()


def retry_events_now(*, event_ids: Sequence[int], actor: str, reason: str = "") -> RetryReport:
    """Retries these rows at an operator's request, whatever their due time. The audit records actor and reason.

    Skips rows that are SUCCESS, given up or being retried. Raises as `retry_due_events` does.
    """
    run = _Run(actor, reason=reason)
    for pk in sorted(event_ids):
        chosen = FailEventHistory.objects.filter(pk=pk, event_status=EventStatus.FAIL)
        event = _claim(chosen.exclude(campaign__in=run.stale))
        if event is not None:
            _retry(event, run)
    return run.end()


def _claim(chosen: QuerySet[FailEventHistory]) -> FailEventHistory | None:
    """Claims the first free row for this run, in a transaction of its own. Returns None when no row is free.

    `attempts` of the returned event counts this attempt, and its `next_attempt_at` is when it was due.
    """
    with transaction.atomic():
        free = chosen.filter(given_up_at__isnull=True).defer("payload").select_for_update(skip_locked=True, no_key=True)
        event = free.first()
        if event is None:
            return None
        FailEventHistory.objects.filter(pk=event.pk).update(
            event_status=EventStatus.PROCESSING,
            attempts=F("attempts") + 1,
            next_attempt_at=from_now(settings.RETRY_LEASE_SEC),
            updated_at=Now(),
        )
        event.attempts += 1
    # Crash here => the row is PROCESSING until the lease ends, then due again.
    failpoint(RETRY_CLAIMED)
    return event


def _claimed_row(event: FailEventHistory) -> QuerySet[FailEventHistory]:
    """Selects the row unless another run has taken it over, which raises the number of attempts."""
    return FailEventHistory.objects.filter(pk=event.pk, event_status=EventStatus.PROCESSING, attempts=event.attempts)


def _retry(event: FailEventHistory, run: _Run) -> None:
    try:
        try:
            _try(event, run)
        except DATABASE_DOWN:
            raise
        except DatabaseError as error:
            # PostgreSQL refuses this row, for example by a constraint that it checks at the commit.
            _try(event, run, refused=one_line(error))
    except StateStale as error:
        logger.warning("retry.left_alone event=%d error=%s", event.pk, one_line(error))
        run.stale[error.campaign_id] = error
        _release(event)
    except GateUnavailable as error:
        _release(event)
        if event.campaign_id is None or not is_refusal(error):
            raise
        # Redis refuses the keys of this campaign alone: the events of the others must not wait behind its own.
        logger.warning("retry.left_alone event=%d error=%s", event.pk, one_line(error))
        message = f"campaign {event.campaign_id}: {error}"
        run.stale[event.campaign_id] = StateStale(message, campaign_id=event.campaign_id, reason="refused")
    except (RetryLater, *DATABASE_DOWN):
        _release(event)
        raise


@heals_id_sequences
def _try(event: FailEventHistory, run: _Run, *, refused: str = "") -> None:
    """Issues and finishes in one transaction. `refused` is why PostgreSQL refused the coupon: the event fails again."""
    started_at = timezone.now()
    with transaction.atomic():
        if not _claimed_row(event).select_for_update(no_key=True).exists():
            run.report.lost += 1
            return
        outcome = _Outcome(FailCode.DATABASE_REFUSED, refused) if refused else _issue(event)
        failpoint(RETRY_ISSUED)
        _finish(event, outcome)
        FailAttempt.objects.create(
            event=event,
            started_at=started_at,
            actor=run.actor,
            error_code=outcome.code or "",
            error_message=outcome.reason,
        )
        if run.reason is not None:
            what = f"Retried now: {f'{outcome.code} again' if outcome.code else 'issued'}"
            audit.record(actor=run.actor, row=event, what=what, reason=run.reason)
    # Crash here => the row is done; the relay finds it and settles a ticket that is still pending.
    failpoint(RETRY_COMMITTED)
    if outcome.issued is not None:
        with suppress(StateStale):  # the rebuild reads the rows, and finds nothing pending
            settle_tickets(outcome.issued)
    failpoint(RETRY_SETTLED)
    pk, attempt = event.pk, event.attempts
    logger.info("retry.tried event=%d attempt=%d outcome=%s", pk, attempt, outcome.code or EventStatus.SUCCESS)
    run.report.failed += outcome.code is not None
    run.report.succeeded += outcome.code is None


def _issue(event: FailEventHistory) -> _Outcome:
    known_as = FailCode(event.error_code)
    if event.campaign_id is None or not event.user_id or event.sequence is None:
        return _Outcome(known_as, "The message names no ticket, so there is nothing to issue.")
    ticket = _Ticket(event.campaign_id, event.user_id, event.sequence)
    issued = issue_coupons([ticket])
    if Coupon.objects.filter(**ticket._asdict()).exists():
        return _Outcome(None, issued=issued)
    for refusal in issued.refused:
        return _Outcome(refusal.code, refusal.reason, issued)
    return _Outcome(known_as, "An operator gave up another failed event of this ticket.", issued)


def _finish(event: FailEventHistory, outcome: _Outcome) -> None:
    attempts, code = event.attempts, outcome.code
    again = code is not None and code.retried_by_itself and attempts < settings.RETRY_MAX_ATTEMPTS
    _claimed_row(event).update(
        event_status=EventStatus.SUCCESS if code is None else EventStatus.FAIL,
        error_code=event.error_code if code is None else code,
        next_attempt_at=from_now(retry_delay_sec(attempts)) if again else None,
        updated_at=Now(),
    )


def _release(event: FailEventHistory) -> None:
    """Returns the row untried, due as before. If PostgreSQL does not answer, the lease ends instead."""
    try:
        _claimed_row(event).update(
            event_status=EventStatus.FAIL,
            attempts=F("attempts") - 1,
            next_attempt_at=event.next_attempt_at,
            updated_at=Now(),
        )
    except DATABASE_DOWN as error:
        logger.warning("retry.not_released event=%d error=%s", event.pk, one_line(error))


def retry_delay_sec(attempts: int) -> float:
    """Doubles with each attempt up to 6 hours, with jitter of up to half, so that a crowd of retries spreads out."""
    delay = min(settings.RETRY_BASE_DELAY_SEC * 2**attempts, MAX_DELAY_SEC)
    return random.uniform(delay / 2, delay)
