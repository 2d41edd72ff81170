"""Accepting an application: admitted by Redis, acknowledged by Kafka, confirmed by Redis. Else nothing is promised.

202 means all three. A repeat is a promise too, so it is answered only if the ticket is on its way; otherwise it
publishes and waits as the first time did. No place is ever given back because of a time-out.
"""

import random
import time
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings

from coupons.admission import gate
from coupons.admission.admit import admit
from coupons.admission.gate import Admission, Held, Outcome
from coupons.admission.together import Wake
from coupons.api.patience import asking_redis, kafka_breaker
from coupons.api.refusals import EARLY_MS
from coupons.clock import moment_of
from coupons.errors import GateUnavailable, LogUnavailable, Unconfirmed
from coupons.failpoints import WEB_ACKNOWLEDGED, WEB_ADMITTED, WEB_CONFIRMED, WEB_PRODUCED, failpoint
from coupons.messaging.delivery import Delivery
from coupons.messaging.messages import Ticket
from coupons.messaging.producer import publisher
from coupons.positions import Position
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
    message = _Message(campaign_id, trace, deadline)
    with asking_redis():
        admission = admit(campaign_id=campaign_id, user_id=user_id, deadline=deadline, follow=message.follow)
        if admission is not None and 0 < admission.opens_in_ms <= EARLY_MS:
            time.sleep(admission.opens_in_ms / 1000)  # nothing is held: crash here => the user repeats
            admission = admit(campaign_id=campaign_id, user_id=user_id, deadline=deadline, follow=message.follow)
    if admission is None:
        return None
    if admission.ticket is not None:
        if not admission.ticket.on_its_way:
            _confirm(campaign_id, admission.epoch, admission.ticket, message.acknowledged(), deadline)
        if time.monotonic() > deadline:
            raise Unconfirmed(f"campaign {campaign_id}: answered too late")
    return Acceptance(admission.outcome, admission.ticket, admission.opens_at_ms, admission.now_ms)


def _confirm(campaign_id: UUID, epoch: int, held: Held, position: Position | None, deadline: float) -> None:
    """Returns when the gate still holds the ticket, in the epoch that its message carries. Raises RetryLater otherwise.

    A machine may be paused at any line above, and its clock with it: then the campaign may have been rebuilt without
    this ticket, and the deadline does not tell (decision 0026).
    """
    wait_sec = deadline - time.monotonic()
    try:
        with asking_redis():
            is_held = gate.confirm(
                campaign_id=campaign_id, epoch=epoch, held=held, position=position, wait_sec=wait_sec
            )
    except GateUnavailable as error:
        raise Unconfirmed(f"Redis has not confirmed in time ({error})") from error
    if not is_held:
        raise Unconfirmed(f"campaign {campaign_id}: the gate does not hold the ticket any more")
    # Crash here => nobody was answered; the ticket is published, and its coupon is issued.
    failpoint(WEB_CONFIRMED)


class _Message:
    """An application's message to the log: published by the thread that asked the gate, with those of all others for
    whom it asked; its own thread is woken by the acknowledgement alone (coupons/admission/together.py)."""

    __slots__ = ("_campaign_id", "_deadline", "_delivery", "_started", "_trace")

    def __init__(self, campaign_id: UUID, trace: str, deadline: float) -> None:
        self._campaign_id, self._trace, self._deadline = campaign_id, trace, deadline
        self._delivery: Delivery | None = None
        self._started = 0.0

    def follow(self, admission: Admission, wake: Wake) -> bool:
        """Publish what is not on its way. Raises Unconfirmed when that is not to be waited for."""
        held = admission.ticket
        if held is None or held.on_its_way:
            return False
        # Crash here => nobody was answered; the ticket is pending and unpublished, and the relay publishes it.
        failpoint(WEB_ADMITTED)
        self._started = time.monotonic()
        if self._started > self._deadline:
            raise self._too_late()
        if not kafka_breaker.allow():
            BREAKER_REFUSALS.labels("kafka").inc()
            raise Unconfirmed("Kafka has not acknowledged for a while; not waiting for it")
        ticket = Ticket(
            campaign_id=self._campaign_id,
            user_id=held.user_id,
            sequence=held.sequence,
            admitted_at=moment_of(int(held.score or time.time() * 1000)),
            trace=self._trace or f"{random.getrandbits(128):032x}",
            epoch=admission.epoch,
        )

        def told(delivery: Delivery) -> None:
            self._delivery = delivery  # before the caller is woken, who may be so before `publish` returns
            wake()

        self._delivery = publisher().publish(ticket, told)
        failpoint(WEB_PRODUCED)
        return True

    def acknowledged(self) -> Position | None:
        """Where it lies, once Kafka has it; None when Kafka did not say. Raises Unconfirmed when it has not by the
        deadline."""
        if self._delivery is None:
            raise self._too_late()
        try:
            position = self._delivery.result(self._deadline - time.monotonic())
        except LogUnavailable as error:
            kafka_breaker.missed()
            raise Unconfirmed(f"Kafka has not acknowledged in time ({error})") from error
        failpoint(WEB_ACKNOWLEDGED)
        kafka_breaker.succeeded()
        PUBLISH_SECONDS.observe(time.monotonic() - self._started)
        return position

    def _too_late(self) -> Unconfirmed:
        """Nothing is published for who does not wait any more: the repeat or the relay does it, in today's epoch."""
        return Unconfirmed(f"campaign {self._campaign_id}: Redis answered too late")
