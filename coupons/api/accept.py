"""Accepts an application: Redis admits it, Kafka acknowledges its message, Redis confirms its ticket.

202 means all three; without one of them nothing is promised. The answer to a repeat is a promise too: if the ticket is
not on its way, the repeat publishes and waits like a first application. A time-out never gives a place back.

`accept` waits in the request's thread. The front (coupons/front/apply.py) takes the same steps in an event loop, with
the same calls of the gate, message, checks and answer from here.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from rest_framework.exceptions import APIException

from coupons.admission import scripts
from coupons.admission.campaign_cache import CachedCampaign, campaign_cache
from coupons.admission.gate import Admission, EpochAhead, Held, Outcome, admit_call, confirm_call
from coupons.api.circuit_breakers import asking_kafka, asking_redis, confirming
from coupons.api.problems import EARLY_MS
from coupons.api.tickets import applied
from coupons.errors import RetryLater, Unconfirmed
from coupons.messaging.messages import Ticket
from coupons.messaging.positions import Position
from coupons.messaging.producer import publisher
from coupons.metrics import GATE_SECONDS, apply_metrics
from coupons.runtime.clock import moment_of
from coupons.runtime.failpoints import WEB_ACKNOWLEDGED, WEB_ADMITTED, WEB_CONFIRMED, WEB_PRODUCED, failpoint


class Application(NamedTuple):
    """One user's application to one campaign; `deadline` is a monotonic time."""

    campaign_id: UUID
    known: CachedCampaign
    user_id: str
    trace: str
    deadline: float

    @property
    def left_sec(self) -> float:
        return self.deadline - time.monotonic()

    def check_in_time(self, late: str) -> None:
        """Raises Unconfirmed once the client has stopped waiting: its repeat, or the relay, publishes in the epoch that
        is current then."""
        if self.left_sec < 0:
            raise Unconfirmed(f"campaign {self.campaign_id}: {late}")


def accept(*, campaign_id: UUID, user_id: str, trace: str) -> Admission | None:
    """Admits and publishes; None = no such campaign. A ticket in the admission is a promise.

    Raises RetryLater when nothing may be promised. After `Unconfirmed` the user keeps the place; after any other
    RetryLater it is unknown whether there is one. Repeating is safe after both.
    """
    deadline = time.monotonic() + settings.ACCEPT_TIMEOUT_MS / 1000
    known = campaign_cache().look_up(campaign_id, wait_sec=deadline - time.monotonic())
    if known is None:
        return None
    if known.is_unloaded:
        return Admission(Outcome.CLOSED, known.epoch)
    application = Application(campaign_id, known, user_id, trace, deadline)
    with asking_redis():
        admission = admit(application)
        if 0 < admission.opens_in_ms <= EARLY_MS:
            time.sleep(admission.opens_in_ms / 1000)  # holds nothing: crash here => the user repeats
            admission = admit(application)
    held = admission.ticket
    if held is None:
        return admission
    if not held.on_its_way:
        # Crash here => there was no answer; the ticket is pending and unpublished, and the relay publishes it.
        failpoint(WEB_ADMITTED)
        position = _publish(application, held, admission.epoch)
        failpoint(WEB_ACKNOWLEDGED)
        with confirming():
            scripts.ask(confirm_call(campaign_id, admission.epoch, held, position))
        # Crash here => there was no answer; the ticket is published, and its coupon is issued.
        failpoint(WEB_CONFIRMED)
    application.check_in_time("answered too late")
    return admission


def admit(application: Application) -> Admission:
    """Returns the gate's decision. Raises RetryLater: the user may have been admitted or not; a repeat tells."""
    known = application.known
    try:
        return _ask_gate(application, known)
    except EpochAhead:
        newer = campaign_cache().look_up(application.campaign_id, wait_sec=application.left_sec, newer_than=known.epoch)
        if newer is None:
            raise
        return _ask_gate(application, newer)


def _ask_gate(application: Application, known: CachedCampaign) -> Admission:
    with GATE_SECONDS.time():
        return scripts.ask(admit_call(application.campaign_id, known, application.user_id))


def _publish(application: Application, held: Held, epoch: int) -> Position | None:
    """Returns the message's position once Kafka has it, None when Kafka does not tell it. Raises Unconfirmed."""
    application.check_in_time("Redis answered too late")
    with asking_kafka():
        delivered = publisher().publish(ticket_of(application.campaign_id, held, epoch=epoch, trace=application.trace))
        failpoint(WEB_PRODUCED)
        return delivered.result(application.left_sec)


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


def promise(campaign_id: UUID, outcome: Outcome, ticket: Held) -> tuple[dict[str, Any], int, dict[str, str]]:
    document = applied(str(campaign_id), ticket)
    return document, 202 if outcome is Outcome.ADMITTED else 200, {"Location": document["status_url"]}


OUTCOME_OF_STATUS = {403: "forbidden", 404: "unknown_campaign"}


@dataclass(slots=True)
class Counted:
    outcome: str = "error"


@contextmanager
def counted_application() -> Iterator[Counted]:
    """Counts one application in the metrics, by the outcome that the caller sets, the RetryLater that is raised, or the
    refusal of a request that is wrong; `error` is a defect."""
    counted, started = Counted(), time.monotonic()
    try:
        yield counted
    except RetryLater as error:
        counted.outcome = type(error).__name__.lower()
        raise
    except APIException as error:
        counted.outcome = OUTCOME_OF_STATUS.get(error.status_code, "invalid")
        raise
    finally:
        applies, seconds = apply_metrics(counted.outcome)
        applies.inc()
        seconds.observe(time.monotonic() - started)
