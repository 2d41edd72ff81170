"""Records failed events when messages cannot become coupons, and gives them up when an operator decides so.

Only `record_failures` creates FailEventHistory rows; retry.py retries them.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from coupons import audit
from coupons.errors import OperatorError, RetryLater, one_line
from coupons.issuing.retry import retry_delay_sec
from coupons.models import MAX_USER_ID_LENGTH, Campaign, Coupon, EventStatus, FailCode, FailEventHistory
from coupons.runtime.clock import from_now
from coupons.runtime.text import compose

logger = logging.getLogger(__name__)
MAX_ERROR_TEXT = 2_000


@dataclass(frozen=True, slots=True)
class Failure:
    """One message that failed. `named` holds its campaign_id, user_id and sequence, unchecked."""

    code: FailCode
    reason: str
    payload: bytes
    topic: str
    partition: int
    offset: int
    named: dict[str, Any]

    @property
    def payload_hash(self) -> str:
        return sha256(self.payload).hexdigest()

    @property
    def message(self) -> tuple[str, int, int, str]:
        """Identifies the message, as the table's unique constraint does."""
        return self.topic, self.partition, self.offset, self.payload_hash


class RecordedMeanwhile(RetryLater):
    """Another process has just recorded one of these messages. The caller rolls back and finds it on the next try."""


def record_failures(failures: Sequence[Failure]) -> int:
    """Writes a FAIL row for each message that has none yet. Returns how many. The caller commits before the offset.

    Avoids ON CONFLICT: only the same message again is a redelivery, and any other conflict is an error. Raises
    RecordedMeanwhile or IntegrityError; then the caller must roll back.
    """
    fresh = _unrecorded(failures)
    known = _known_campaigns(fresh)
    try:
        FailEventHistory.objects.bulk_create([_row(failure, known) for failure in fresh])
    except IntegrityError as error:
        if "failevent_one_per_message" in str(error):
            raise RecordedMeanwhile(one_line(error)) from error
        raise
    return len(fresh)


def _unrecorded(failures: Sequence[Failure]) -> list[Failure]:
    """Returns one failure per message, without those that an earlier delivery has recorded."""
    fresh = {failure.message: failure for failure in failures}
    for topic, partition in {message[:2] for message in fresh}:
        offsets = [message[2] for message in fresh if message[:2] == (topic, partition)]
        recorded = FailEventHistory.objects.filter(topic=topic, partition=partition, offset__in=offsets)
        for message in recorded.values_list("topic", "partition", "offset", "payload_hash"):
            fresh.pop(message, None)
    return list(fresh.values())


def _row(failure: Failure, known: set[UUID]) -> FailEventHistory:
    campaign_id = _uuid(failure.named.get("campaign_id"))
    return FailEventHistory(
        campaign_id=campaign_id if campaign_id in known else None,
        campaign_ref=_text(failure.named.get("campaign_id"), 200),
        user_id=_text(failure.named.get("user_id"), MAX_USER_ID_LENGTH),
        sequence=_sequence(failure.named.get("sequence")),
        payload=failure.payload,
        payload_hash=failure.payload_hash,
        error_code=failure.code,
        error_message=_text(failure.reason, MAX_ERROR_TEXT),
        next_attempt_at=from_now(retry_delay_sec(0)) if failure.code.retried_by_itself else None,
        topic=failure.topic,
        partition=failure.partition,
        offset=failure.offset,
    )


def _known_campaigns(failures: Sequence[Failure]) -> set[UUID]:
    named = {_uuid(failure.named.get("campaign_id")) for failure in failures} - {None}
    return set(Campaign.objects.filter(pk__in=named).values_list("pk", flat=True)) if named else set()


def _uuid(value: object) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def _text(value: object, limit: int) -> str:
    """Returns what a column can store: PostgreSQL's text allows no NUL, and UTF-8 no lone surrogates."""
    text = "" if value is None else str(value)
    return text.replace("\x00", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()[:limit]


def _sequence(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None


def give_up_events(*, event_ids: Sequence[int], actor: str, reason: str) -> int:
    """Gives up failed events. Returns how many. Skips rows that are not FAIL, and those whose ticket has its coupon.

    Raises OperatorError without a reason.
    """
    if not reason.strip():
        raise OperatorError("reason: say why these events are given up.")
    still_failing = FailEventHistory.objects.filter(event_status=EventStatus.FAIL, given_up_at__isnull=True)
    with transaction.atomic():
        chosen = still_failing.filter(pk__in=event_ids).select_for_update(no_key=True).defer("payload").order_by("pk")
        campaigns = {event.campaign_id for event in chosen} - {None}
        # The trigger on the coupon table locks these rows too, then looks for given-up tickets (migration 0008). So
        # either it sees this decision, or the coupon is committed and the query below finds it.
        list(Campaign.objects.filter(pk__in=campaigns).select_for_update(no_key=True).order_by("pk"))
        coupon = Coupon.objects.filter(
            campaign=OuterRef("campaign"), user_id=OuterRef("user_id"), sequence=OuterRef("sequence")
        )
        events = list(chosen.filter(~Exists(coupon)))
        FailEventHistory.objects.filter(pk__in=[event.pk for event in events]).update(
            given_up_at=Now(),
            given_up_by=actor,
            given_up_reason=compose(reason),
            next_attempt_at=None,
            updated_at=Now(),
        )
        audit.record_all(actor=actor, rows=events, what="Given up", reason=reason)
    logger.info("retry.given_up count=%d actor=%s", len(events), actor)
    return len(events)
