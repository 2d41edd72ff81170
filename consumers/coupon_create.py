"""The handler of topic coupon_create: tickets become coupons, what cannot becomes a FAIL row, in one transaction."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import close_old_connections, connection, transaction

from consumers.registry import Handled, Received, handles
from coupons.errors import DATABASE_DOWN
from coupons.failpoints import (
    CONSUMER_COMMITTED,
    CONSUMER_FAILURES_RECORDED,
    CONSUMER_INSERTED,
    CONSUMER_SETTLED,
    failpoint,
)
from coupons.issuing.failures import Failure, record_failures
from coupons.issuing.issue import Issued, Refusal, issue_coupons, settle_tickets
from coupons.messaging.messages import InvalidMessage
from coupons.messaging.signing import open_place
from coupons.models import FailCode


class _ReceivedTicket(NamedTuple):
    """A ticket's place together with the message that carried it."""

    campaign_id: UUID
    user_id: str
    sequence: int
    message: Received


@handles(settings.TOPIC, group=settings.CONSUMER_GROUP)
def save_coupons(messages: Sequence[Received]) -> Handled:
    """Issue the tickets of a batch and record what cannot be issued. Idempotent: a redelivery changes nothing."""
    close_old_connections()  # outside requests nobody else drops a connection that the server has closed
    tickets, failures = _open_all(messages)
    try:
        issued = _write(tickets, failures)
    except DATABASE_DOWN:
        # The next try must not meet the same session: one that began read-only stays so when the server no longer is.
        connection.close()
        raise
    # Crash here => committed, but pending in Redis and not committed in Kafka: the redelivery settles it.
    failpoint(CONSUMER_COMMITTED)
    settle_tickets(issued)
    failpoint(CONSUMER_SETTLED)
    return Handled(done=len(issued.written), duplicates=len(issued.duplicates), failed=len(failures))


def _write(tickets: list[_ReceivedTicket], failures: list[Failure]) -> Issued[_ReceivedTicket]:
    """All or nothing. Adds to `failures` what was refused, and records them."""
    with transaction.atomic():
        issued = issue_coupons(tickets)
        failpoint(CONSUMER_INSERTED)
        failures += [_refused(refusal) for refusal in issued.refused]
        if failures:
            record_failures(failures)
            failpoint(CONSUMER_FAILURES_RECORDED)
    return issued


def _open_all(messages: Sequence[Received]) -> tuple[list[_ReceivedTicket], list[Failure]]:
    tickets, failures = [], []
    for message in messages:
        try:
            tickets.append(_ReceivedTicket(*open_place(message.payload, message.headers), message))
        except InvalidMessage as error:
            failures.append(_failure(message, error.code, str(error), error.named))
    return tickets, failures


def _refused(refusal: Refusal[_ReceivedTicket]) -> Failure:
    received = refusal.ticket
    named = {
        "campaign_id": str(received.campaign_id),
        "user_id": received.user_id,
        "sequence": received.sequence,
    }
    return _failure(received.message, refusal.code, refusal.reason, named)


def _failure(message: Received, code: FailCode, reason: str, named: dict[str, Any]) -> Failure:
    return Failure(
        code=code,
        reason=reason,
        payload=message.payload,
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        named=named,
    )
