"""Accepting an application: admitted by Redis, acknowledged by Kafka, both within one deadline. Else nothing is said.

202 means both. A repeat is a promise too, so it is answered only if the ticket is on its way; otherwise it publishes
and waits as the first time did. No place is ever given back because of a time-out.
"""

import random
import time
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings

from coupons.admission.admit import admit
from coupons.admission.gate import Admission, Held, Outcome
from coupons.admission.marks import published_marks
from coupons.api.patience import asking_redis, kafka_breaker
from coupons.clock import moment_of
from coupons.errors import LogUnavailable, Unconfirmed
from coupons.failpoints import WEB_ACKNOWLEDGED, WEB_ADMITTED, WEB_PRODUCED, failpoint
from coupons.messaging.messages import Ticket
from coupons.messaging.producer import publisher
from coupons.telemetry import BREAKER_REFUSALS, PUBLISH_SECONDS


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What to answer. `ticket` is there for ADMITTED and ALREADY_ADMITTED, and both are promises."""

    outcome: Outcome
    ticket: Held | None
    opens_at_ms: int | None
    now_ms: int | None


def accept(*, campaign_id: UUID, user_id: str, trace: str) -> Acceptance | None:
    """Admit and publish; None = no such campaign. Raises RetryLater when nothing may be promised.

    `Unconfirmed` says that the place is kept; any other RetryLater that nobody knows. Repeating is safe after both.
    """
    deadline = time.monotonic() + settings.ACCEPT_TIMEOUT_MS / 1000
    with asking_redis():
        admission = admit(campaign_id=campaign_id, user_id=user_id, deadline=deadline)
    if admission is None:
        return None
    if admission.ticket is not None and not admission.ticket.on_its_way:
        # Crash here => nobody was answered; the ticket is pending and unpublished, and the relay publishes it.
        failpoint(WEB_ADMITTED)
        _publish(campaign_id, admission, admission.ticket, trace, deadline)
    if admission.ticket is not None and time.monotonic() > deadline:
        raise Unconfirmed(f"campaign {campaign_id}: answered too late")
    return Acceptance(admission.outcome, admission.ticket, admission.opens_at_ms, admission.now_ms)


def _publish(campaign_id: UUID, admission: Admission, held: Held, trace: str, deadline: float) -> None:
    if time.monotonic() > deadline:
        # A mend counts on it that nothing is published after that: who repeats, or the relay, does it in today's epoch.
        raise Unconfirmed(f"campaign {campaign_id}: Redis answered too late")
    if not kafka_breaker.allow():
        BREAKER_REFUSALS.labels("kafka").inc()
        raise Unconfirmed("Kafka has not acknowledged for a while; not waiting for it")
    started = time.monotonic()
    ticket = Ticket(
        campaign_id=campaign_id,
        user_id=held.user_id,
        sequence=held.sequence,
        admitted_at=moment_of(int(held.score or time.time() * 1000)),
        trace=trace or f"{random.getrandbits(128):032x}",
        epoch=admission.epoch,
    )
    delivery = publisher().publish(ticket, published_marks().note(ticket))
    failpoint(WEB_PRODUCED)
    try:
        delivery.result(deadline - time.monotonic())
    except LogUnavailable as error:
        kafka_breaker.missed()
        raise Unconfirmed(f"Kafka has not acknowledged in time ({error})") from error
    failpoint(WEB_ACKNOWLEDGED)
    kafka_breaker.succeeded()
    PUBLISH_SECONDS.observe(time.monotonic() - started)
