"""Accepts an application: Redis admits it, Kafka acknowledges its message, Redis confirms its ticket.

202 means all three; without one of them nothing is promised. The answer to a repeat is a promise too: if the ticket is
not on its way, the repeat publishes and waits like a first application. A time-out never gives a place back.

Each step waits in the request's thread. The front (coupons/front/apply.py) does the same in an event loop.
"""

import random
import time
from uuid import UUID

from django.conf import settings

from coupons.admission import gate
from coupons.admission.admit import admit
from coupons.admission.gate import Admission, Held
from coupons.api.circuit_breakers import asking_kafka, asking_redis
from coupons.api.problems import EARLY_MS
from coupons.errors import GateUnavailable, Unconfirmed
from coupons.messaging.messages import Ticket
from coupons.messaging.positions import Position
from coupons.messaging.producer import publisher
from coupons.metrics import PUBLISH_SECONDS
from coupons.runtime.clock import moment_of
from coupons.runtime.failpoints import WEB_ACKNOWLEDGED, WEB_ADMITTED, WEB_CONFIRMED, WEB_PRODUCED, failpoint


def accept(*, campaign_id: UUID, user_id: str, trace: str) -> Admission | None:
    """Admits and publishes; None = no such campaign. A ticket in the admission is a promise.

    Raises RetryLater when nothing may be promised. After `Unconfirmed` the user keeps the place; after any other
    RetryLater it is unknown whether there is one. Repeating is safe after both.
    """
    deadline = time.monotonic() + settings.ACCEPT_TIMEOUT_MS / 1000
    with asking_redis():
        admission = admit(campaign_id=campaign_id, user_id=user_id, deadline=deadline)
        if admission is not None and 0 < admission.opens_in_ms <= EARLY_MS:
            time.sleep(admission.opens_in_ms / 1000)  # holds nothing: crash here => the user repeats
            admission = admit(campaign_id=campaign_id, user_id=user_id, deadline=deadline)
    if admission is None or admission.ticket is None:
        return admission
    if not admission.ticket.on_its_way:
        # Crash here => there was no answer; the ticket is pending and unpublished, and the relay publishes it.
        failpoint(WEB_ADMITTED)
        ticket = ticket_of(campaign_id, admission.ticket, epoch=admission.epoch, trace=trace)
        position = _publish(ticket, deadline)
        failpoint(WEB_ACKNOWLEDGED)
        _confirm(campaign_id, admission.epoch, admission.ticket, position)
        # Crash here => there was no answer; the ticket is published, and its coupon is issued.
        failpoint(WEB_CONFIRMED)
    if time.monotonic() > deadline:
        raise Unconfirmed(f"campaign {campaign_id}: answered too late")
    return admission


def ticket_of(campaign_id: UUID, held: Held, *, epoch: int, trace: str) -> Ticket:
    """Makes the message of an admitted user. It gets a random trace when the caller sends none."""
    return Ticket(
        campaign_id=campaign_id,
        user_id=held.user_id,
        sequence=held.sequence,
        admitted_at=moment_of(int(held.score or time.time() * 1000)),
        trace=trace or f"{random.getrandbits(128):032x}",
        epoch=epoch,
    )


def _publish(ticket: Ticket, deadline: float) -> Position | None:
    """Returns the message's position once Kafka has it, None when Kafka does not tell it. Raises Unconfirmed."""
    started = time.monotonic()
    if started > deadline:
        # The caller has stopped waiting: its repeat or the relay publishes, in the epoch of that time.
        raise Unconfirmed(f"campaign {ticket.campaign_id}: Redis answered too late")
    with asking_kafka():
        delivered = publisher().publish(ticket)
        failpoint(WEB_PRODUCED)
        position = delivered.result(deadline - time.monotonic())
    PUBLISH_SECONDS.observe(time.monotonic() - started)
    return position


def _confirm(campaign_id: UUID, epoch: int, held: Held, position: Position | None) -> None:
    """Returns if the gate still holds the ticket in the epoch that its message carries. Raises RetryLater otherwise.

    A machine, and its clock, may be paused at any line above. A rebuild without this ticket may have run meanwhile, and
    the deadline does not show it (decision 0026).
    """
    try:
        with asking_redis():
            is_held = gate.confirm(campaign_id=campaign_id, epoch=epoch, held=held, position=position)
    except GateUnavailable as error:
        raise Unconfirmed(f"Redis has not confirmed in time ({error})") from error
    if not is_held:
        raise Unconfirmed(f"campaign {campaign_id}: the gate does not hold the ticket any more")
