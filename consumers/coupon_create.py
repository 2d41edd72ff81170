"""Handles topic coupon_create: writes each ticket as a coupon or as a FAIL row, in one transaction."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import close_old_connections, connection, transaction

from consumers.offsets import spans
from consumers.registry import Handled, Received, handles
from coupons.errors import DATABASE_DOWN
from coupons.issuing.failed_events import Failure, record_failures
from coupons.issuing.issue import IssueResult, Refusal, issue_coupons, settle_tickets
from coupons.messaging import read_offsets
from coupons.messaging.messages import InvalidMessage
from coupons.messaging.signing import UnknownKey, open_message
from coupons.models import FailCode
from coupons.runtime.failpoints import (
    CONSUMER_COMMITTED,
    CONSUMER_FAILURES_RECORDED,
    CONSUMER_INSERTED,
    CONSUMER_SETTLED,
    failpoint,
)
from coupons.runtime.heartbeats import CONSUMER, Pulse
from coupons.runtime.id_sequences import heals_id_sequences


@handles(
    settings.TOPIC,
    group=settings.CONSUMER_GROUP,
    start_at=read_offsets.start_offsets,
    beat=Pulse(CONSUMER).try_to_beat,
)
def save_coupons(messages: Sequence[Received]) -> Handled:
    """Issues the tickets of a batch, and records those that cannot be issued. Idempotent on redelivery."""
    close_old_connections()  # outside requests Django never drops a connection that the server has closed
    try:
        issued, failed = _write(messages)
    except DATABASE_DOWN:
        # The next try needs a new session: one that began read-only stays read-only when the server no longer is.
        connection.close()
        raise
    # Crash here => committed, but pending in Redis and not committed in Kafka: the redelivery settles it.
    failpoint(CONSUMER_COMMITTED)
    settle_tickets(issued)
    failpoint(CONSUMER_SETTLED)
    duplicates = len(issued.duplicates) + len(issued.given_up)
    return Handled(done=len(issued.written), duplicates=duplicates, failed=failed)


class TicketMessage(NamedTuple):
    """A message and the ticket in it. `unverified` is set where the message is signed with an unknown key.

    Such a message may be a promise under a former key, and a forger gains nothing: a ticket that the gate holds is its
    user's coupon, however it arrived.
    """

    campaign_id: UUID
    user_id: str
    sequence: int
    message: Received
    unverified: UnknownKey | None


def decode_batch(messages: Sequence[Received]) -> tuple[list[TicketMessage], list[Failure]]:
    tickets: list[TicketMessage] = []
    failures: list[Failure] = []
    for message in messages:
        unverified = None
        try:
            ticket = open_message(message.payload, message.headers)
        except InvalidMessage as error:
            if not (isinstance(error, UnknownKey) and error.ticket is not None):
                failures.append(_failure(message, error.code, str(error), error.named))
                continue
            ticket, unverified = error.ticket, error
        tickets.append(TicketMessage(ticket.campaign_id, ticket.user_id, ticket.sequence, message, unverified))
    return tickets, failures


@heals_id_sequences
def _write(messages: Sequence[Received]) -> tuple[IssueResult[TicketMessage], int]:
    """Writes all or nothing: coupons, failed events, and the offset up to which each partition was read. Also returns
    how many failures are new."""
    tickets, failures = decode_batch(messages)
    failed = 0
    with transaction.atomic():
        issued = issue_coupons(tickets)
        failpoint(CONSUMER_INSERTED)
        failures += map(_refused, issued.refused)
        if failures:
            failed = record_failures(failures)
            failpoint(CONSUMER_FAILURES_RECORDED)
        read_offsets.advance(spans(messages))
    return issued, failed


def _refused(refusal: Refusal[TicketMessage]) -> Failure:
    ticket, code, reason = refusal
    if ticket.unverified is not None and not code.holds_ticket:
        return _failure(ticket.message, ticket.unverified.code, str(ticket.unverified), {})
    named = {"campaign_id": str(ticket.campaign_id), "user_id": ticket.user_id, "sequence": ticket.sequence}
    return _failure(ticket.message, code, reason, named)


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
