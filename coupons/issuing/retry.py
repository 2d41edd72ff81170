"""Retries failed events: FAIL -> PROCESSING -> SUCCESS, or back to FAIL with what it said. It never adds one.

A run claims a batch of due rows (SKIP LOCKED, so two runs share the work), gives each a lease, and tries them in one
transaction; if that fails as a whole, in one of its own for each. A run that is killed leaves rows in PROCESSING; when
their lease ends the next run takes them up again.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from coupons import audit
from coupons.errors import DATABASE_DOWN, OperatorError, RetryLater, StateStale
from coupons.failpoints import RETRY_CLAIMED, RETRY_COMMITTED, RETRY_ISSUED, RETRY_SETTLED, failpoint
from coupons.issuing.finish import ClaimedEvent, Outcome, claim_events, finish_events, release_events
from coupons.issuing.issue import Issued, issue_coupons, settle_tickets
from coupons.models import EventStatus, FailCode, FailEventHistory

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RetryReport:
    """What a run did, in rows."""

    succeeded: int = 0
    failed: int = 0
    lost: int = 0  # another run had taken the row over meanwhile

    def __str__(self) -> str:
        return f"{self.succeeded} succeeded, {self.failed} failed again, {self.lost} taken over by another run"


class _EventTicket(NamedTuple):
    """The ticket that a claimed event names."""

    campaign_id: UUID
    user_id: str
    sequence: int
    event: ClaimedEvent


@dataclass(frozen=True, slots=True)
class _Run:
    """Who retries and, if a person wants it, why; what came of it; and when to stop."""

    actor: str
    report: RetryReport
    decided: str | None = None
    stop: Callable[[], bool] = lambda: False
    stale: dict[UUID, StateStale] = field(default_factory=dict)
    """Campaigns of which nothing can be issued now. The rest of the run leaves their rows alone."""

    def end(self) -> RetryReport:
        """Raises StateStale if there was any."""
        if self.stale:
            campaign_id, error = next(iter(self.stale.items()))
            message = "; ".join(str(each) for each in self.stale.values())
            raise StateStale(f"{message}. Of the others: {self.report}", campaign_id=campaign_id, reason=error.reason)
        return self.report


class _TakenOver(Exception):
    """Some of the rows are another run's by now: nothing of the transaction may stay."""


def retry_due_events(*, limit: int, actor: str, stop: Callable[[], bool] = lambda: False) -> RetryReport:
    """Retry at most `limit` rows that are due, or until `stop` says so after a batch.

    Raises RetryLater or OperationalError when a part is down; of these StateStale at the end, when all other campaigns'
    rows were tried. What was claimed and not tried is due again at once, or, if that could not be written, when its
    lease ends.
    """
    run = _Run(actor, report := RetryReport(), stop=stop)
    while not stop() and (done := report.succeeded + report.failed + report.lost) < limit:
        due = FailEventHistory.objects.filter(next_attempt_at__lte=Now()).exclude(campaign__in=run.stale)
        due = due.order_by("next_attempt_at")
        events = _claim(due, min(settings.RETRY_BATCH_SIZE, limit - done))
        if not events:
            break
        _retry_all(events, run)
    return run.end()


def retry_events_now(*, event_ids: Sequence[int], actor: str, reason: str = "") -> RetryReport:
    """A person's decision to retry these rows whatever their due time; each that was tried notes who wanted it and why.

    Rows that are SUCCESS, given up or being retried are left alone. Raises as `retry_due_events` does.
    """
    run = _Run(actor, RetryReport(), decided=reason)
    chosen = FailEventHistory.objects.filter(pk__in=event_ids, event_status=EventStatus.FAIL).order_by("pk")
    events = _claim(chosen, len(event_ids))
    if events:
        _retry_all(events, run)
    return run.end()


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


def _claim(chosen: QuerySet[FailEventHistory], count: int) -> list[ClaimedEvent]:
    """Take rows for this run, in a transaction of its own."""
    with transaction.atomic():
        events = claim_events(chosen.filter(given_up_at__isnull=True)[:count])
    # Crash here => the rows are PROCESSING until the lease ends, then due again.
    failpoint(RETRY_CLAIMED)
    return events


def _retry_all(events: Sequence[ClaimedEvent], run: _Run) -> None:
    try:
        try:
            _retry_current(events, run)
        except DATABASE_DOWN:
            raise
        except (_TakenOver, DatabaseError) as error:
            logger.info("retry.one_by_one count=%d error=%s", len(events), _one_line(error))
            _retry_one_by_one(events, run)
    except (RetryLater, *DATABASE_DOWN):
        _release(events)
        raise


def _retry_one_by_one(events: Sequence[ClaimedEvent], run: _Run) -> None:
    """So that what is wrong with one row costs no other."""
    for number, event in enumerate(events):
        if run.stop():
            _release(events[number:])
            return
        try:
            _retry_current([event], run)
        except _TakenOver:
            run.report.lost += 1
        except DATABASE_DOWN:
            raise
        except DatabaseError as error:
            # Such as a constraint that is checked at the commit: PostgreSQL refuses this very row.
            _retry([event], run, refused=_one_line(error))


def _retry_current(events: Sequence[ClaimedEvent], run: _Run) -> None:
    """Without the rows of campaigns whose state in Redis is not current, which cost no other campaign's: they are given
    back, due as before, and what is wrong is kept for the end of the run."""
    while events:
        try:
            _retry(events, run)
        except StateStale as error:
            others = [event for event in events if event.campaign_id != error.campaign_id]
            stale = [event for event in events if event.campaign_id == error.campaign_id]
            logger.warning("retry.left_alone count=%d error=%s", len(stale), _one_line(error))
            run.stale[error.campaign_id] = error
            _release(stale)
            events = others
        else:
            return


def _retry(events: Sequence[ClaimedEvent], run: _Run, *, refused: str = "") -> None:
    """All in one transaction. Raises _TakenOver, or DatabaseError, when nothing of it was done.

    `refused` is why PostgreSQL did not take the coupon of these events: they are not issued, and fail again.
    """
    started_at = timezone.now()
    with transaction.atomic():
        if refused:
            result, outcomes = None, [Outcome(event, FailCode.DATABASE_REFUSED, refused) for event in events]
        else:
            result, outcomes = _issue(events)
        failpoint(RETRY_ISSUED)
        if finish_events(outcomes, started_at=started_at, actor=run.actor) < len(events):
            raise _TakenOver(f"{len(events)} rows were claimed, and some are another run's now")
        if run.decided is not None:
            _note_decision(outcomes, run.actor, run.decided)
    # Crash here => the rows are done; tickets that are pending still are settled by the relay, which finds the rows.
    failpoint(RETRY_COMMITTED)
    if result is not None:
        with suppress(StateStale):  # whoever mends the campaign reads the rows, and finds nothing pending
            settle_tickets(result)
    failpoint(RETRY_SETTLED)
    if logger.isEnabledFor(logging.INFO):
        for event, code, _ in outcomes:
            logger.info("retry.tried event=%d attempt=%d outcome=%s", event.pk, event.attempts, code or "SUCCESS")
    failed = sum(outcome.code is not None for outcome in outcomes)
    run.report.failed += failed
    run.report.succeeded += len(events) - failed


def _issue(events: Sequence[ClaimedEvent]) -> tuple[Issued[_EventTicket], list[Outcome]]:
    """What issuing says of each event now."""
    tickets = [
        _EventTicket(event.campaign_id, event.user_id, event.sequence, event)
        for event in events
        if event.campaign_id is not None and event.user_id and event.sequence is not None
    ]
    result = issue_coupons(tickets)
    refused = {refusal.ticket.event.pk: refusal for refusal in result.refused}
    named = {ticket.event.pk for ticket in tickets}
    outcomes = []
    for event in events:
        if event.pk not in named:
            reason = "The message names no ticket, so there is nothing to issue."
            outcomes.append(Outcome(event, FailCode(event.error_code), reason))
        elif refusal := refused.get(event.pk):
            outcomes.append(Outcome(event, refusal.code, refusal.reason))
        else:
            outcomes.append(Outcome(event, None, ""))
    return result, outcomes


def _note_decision(outcomes: Sequence[Outcome], actor: str, reason: str) -> None:
    rows = FailEventHistory.objects.defer("payload").in_bulk([outcome.event.pk for outcome in outcomes])
    for code, same in groupby(sorted(outcomes, key=_code), key=_code):
        what = f"Retried now: {f'{code} again' if code else 'issued'}"
        audit.record_all(actor=actor, rows=[rows[outcome.event.pk] for outcome in same], what=what, reason=reason)


def _code(outcome: Outcome) -> str:
    return outcome.code or ""


def _release(events: Sequence[ClaimedEvent]) -> None:
    """Give the rows back untried, if PostgreSQL can still be told so. Else the lease ends."""
    try:
        release_events(events)
    except DATABASE_DOWN as error:
        logger.warning("retry.not_released count=%d error=%s", len(events), _one_line(error))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
