"""Writes tickets as coupons: the only writer of Coupon. A batch is one transaction; what cannot be written is told.

Only what the gate holds is issued, so a forged or late message mints nothing; and the transaction commits only if no
mend began since the gate was asked, so a mend never misses a coupon. PostgreSQL's own constraints stand behind both.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from uuid import UUID

from django.db import DataError, IntegrityError, transaction

from coupons.admission import gate
from coupons.admission.gate import Held
from coupons.errors import StateStale
from coupons.issuing.insert import insert_coupons
from coupons.issuing.tickets import IssuableTicket
from coupons.models import Campaign, Coupon, FailCode

TicketT = TypeVar("TicketT", bound=IssuableTicket)


@dataclass(frozen=True, slots=True)
class Refusal(Generic[TicketT]):
    """A ticket that could not be written, and why."""

    ticket: TicketT
    code: FailCode
    reason: str


@dataclass(slots=True)
class Issued(Generic[TicketT]):
    """What became of a batch: every ticket of it is in exactly one of the lists.

    `held` are all that the gate held, by campaign: each of them is a coupon or a FAIL row once the caller commits.
    """

    written: list[TicketT] = field(default_factory=list)
    duplicates: list[TicketT] = field(default_factory=list)
    refused: list[Refusal[TicketT]] = field(default_factory=list)
    held: dict[UUID, list[str]] = field(default_factory=lambda: defaultdict(list))
    epochs: dict[UUID, int] = field(default_factory=dict)


def issue_coupons(tickets: Sequence[TicketT]) -> Issued[TicketT]:
    """Write the coupons of these tickets. Must run inside the caller's transaction, which also holds the FAIL rows.

    Idempotent: a ticket whose coupon exists is a duplicate. Raises RetryLater (the gate could not tell, or a mend
    began) and django.db.OperationalError: then the caller rolls back, keeps its offset and does the same again.
    After the commit the caller calls `settle_tickets`.
    """
    result: Issued[TicketT] = Issued(epochs=_epochs({ticket.campaign_id for ticket in tickets}))
    held = _ask_gate(tickets, result.epochs)
    candidates: list[TicketT] = []
    strangers: list[TicketT] = []
    for ticket in tickets:
        if ticket.campaign_id not in result.epochs:
            reason = "there is no such campaign, or it was never opened"
            result.refused.append(Refusal(ticket, FailCode.UNKNOWN_CAMPAIGN, reason))
        elif _holds(held, ticket):
            candidates.append(ticket)
            result.held[ticket.campaign_id].append(ticket.user_id)
        else:
            strangers.append(ticket)
    _write(_first_of_each(candidates, result), result)
    _sort_strangers(strangers, result)
    if result.written:
        _check_epochs(result)
    return result


def settle_tickets(result: Issued[TicketT]) -> None:
    """Take off pending what the transaction committed. Raises RetryLater: then the caller repeats the whole batch."""
    # Crash before this => the coupons are there, the offset is not; the redelivery finds duplicates and settles them.
    for campaign_id, users in result.held.items():
        gate.settle(campaign_id=campaign_id, epoch=result.epochs[campaign_id], user_ids=users)


def _epochs(campaign_ids: set[UUID]) -> dict[UUID, int]:
    return dict(Campaign.objects.filter(pk__in=campaign_ids, epoch__gt=0).values_list("pk", "epoch"))


def _ask_gate(tickets: Sequence[IssuableTicket], epochs: dict[UUID, int]) -> dict[UUID, dict[str, Held]]:
    users: dict[UUID, list[str]] = defaultdict(list)
    for ticket in tickets:
        if ticket.campaign_id in epochs:
            users[ticket.campaign_id].append(ticket.user_id)
    return {
        campaign_id: gate.held_tickets(campaign_id=campaign_id, epoch=epochs[campaign_id], user_ids=user_ids)
        for campaign_id, user_ids in users.items()
    }


def _holds(held: dict[UUID, dict[str, Held]], ticket: IssuableTicket) -> bool:
    found = held[ticket.campaign_id].get(ticket.user_id)
    return found is not None and found.sequence == ticket.sequence


def _first_of_each(candidates: list[TicketT], result: Issued[TicketT]) -> list[TicketT]:
    """One message of each ticket; a second one in the same batch is a duplicate of what is being written."""
    first: dict[tuple[UUID, str], TicketT] = {}
    for ticket in candidates:
        if first.setdefault((ticket.campaign_id, ticket.user_id), ticket) is not ticket:
            result.duplicates.append(ticket)
    return list(first.values())


def _write(tickets: list[TicketT], result: Issued[TicketT]) -> None:
    """All in one statement; if PostgreSQL refuses it, without those that are there already; then one by one."""
    if not tickets:
        return
    if _insert(tickets) is None:
        result.written += tickets
        return
    fresh = _without_existing(tickets, result)
    if fresh and _insert(fresh) is None:
        result.written += fresh
        return
    for ticket in sorted(fresh, key=_writing_order):
        refusal = _insert([ticket])
        if refusal is None:
            result.written.append(ticket)
        elif refusal[0] is not FailCode.CONFLICT or _without_existing([ticket], result):
            # Else another process wrote this very ticket since we looked, and it is sorted in as a duplicate now.
            result.refused.append(Refusal(ticket, *refusal))


def _insert(tickets: Sequence[IssuableTicket]) -> tuple[FailCode, str] | None:
    """Insert all or none; why not, if none."""
    try:
        with transaction.atomic():
            insert_coupons(sorted(tickets, key=_writing_order))
    except IntegrityError as error:
        return _refusal_of(error)
    except (DataError, ValueError) as error:  # a NUL byte is a ValueError under psycopg2
        return FailCode.DATABASE_REFUSED, str(error).strip()
    return None


def _writing_order(ticket: IssuableTicket) -> tuple[UUID, int]:
    """The same for everybody, so that two batches with the same tickets or campaigns lock in one order."""
    return ticket.campaign_id, ticket.sequence


def _refusal_of(error: IntegrityError) -> tuple[FailCode, str]:
    constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
    reason = " ".join(str(error).split())
    if constraint in ("coupon_one_per_user", "coupon_one_per_sequence"):
        return FailCode.CONFLICT, reason
    if constraint == "campaign_issued_within_quantity":
        return FailCode.QUANTITY_EXCEEDED, reason
    return FailCode.DATABASE_REFUSED, reason


def _without_existing(tickets: list[TicketT], result: Issued[TicketT]) -> list[TicketT]:
    """Sort out what is there already: the same ticket is a duplicate, another one of the user a conflict."""
    existing = _existing_sequences(tickets)
    fresh = []
    for ticket in tickets:
        sequence = existing.get((ticket.campaign_id, ticket.user_id))
        if sequence is None:
            fresh.append(ticket)
        elif sequence == ticket.sequence:
            result.duplicates.append(ticket)
        else:
            reason = f"the user has the coupon of sequence {sequence}"
            result.refused.append(Refusal(ticket, FailCode.CONFLICT, reason))
    return fresh


def _sort_strangers(tickets: list[TicketT], result: Issued[TicketT]) -> None:
    """Tickets that the gate does not hold: duplicates if their coupon exists, else late or forged."""
    existing = _existing_sequences(tickets) if tickets else {}
    for ticket in tickets:
        if existing.get((ticket.campaign_id, ticket.user_id)) == ticket.sequence:
            result.duplicates.append(ticket)
        else:
            reason = "the gate does not hold this ticket: it came too late, or was never admitted"
            result.refused.append(Refusal(ticket, FailCode.NOT_ADMITTED, reason))


def _existing_sequences(tickets: Sequence[IssuableTicket]) -> dict[tuple[UUID, str], int]:
    campaigns = {ticket.campaign_id for ticket in tickets}
    users = {ticket.user_id for ticket in tickets}
    rows = Coupon.objects.filter(campaign_id__in=campaigns, user_id__in=users)
    return {(row[0], row[1]): row[2] for row in rows.values_list("campaign_id", "user_id", "sequence")}


def _check_epochs(result: Issued[TicketT]) -> None:
    """The trigger holds the campaigns' rows by now: an epoch that is still the same cannot rise before the commit."""
    written_to = {ticket.campaign_id for ticket in result.written}
    for campaign_id, epoch in _epochs(written_to).items():
        if epoch != result.epochs[campaign_id]:
            raise StateStale(f"campaign {campaign_id}: a mend began while the batch was written", reason="epoch")
