"""Writes tickets as coupons: the only writer of Coupon. A batch is one transaction; what cannot be written is told.

Only what the gate holds is issued, so a forged or late message mints nothing; and the transaction commits only if no
mend began since the gate was asked, so a mend never misses a coupon. PostgreSQL's own constraints stand behind both.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Generic, TypeVar
from uuid import UUID

from django.db import DataError, IntegrityError, transaction

from coupons.admission import gate
from coupons.errors import StateStale
from coupons.issuing.insert import insert_coupons
from coupons.issuing.tickets import IssuableTicket
from coupons.models import Campaign, Coupon, FailCode

TicketT = TypeVar("TicketT", bound=IssuableTicket)
# So few are not worth halving.
ONE_BY_ONE = 8
# The same for everybody, so that two batches with the same tickets or campaigns lock in one order.
_WRITING_ORDER: Callable[[IssuableTicket], tuple[UUID, int]] = attrgetter("campaign_id", "sequence")
_CAMPAIGN: Callable[[IssuableTicket], UUID] = attrgetter("campaign_id")


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
    of_campaign: dict[UUID, list[TicketT]] = defaultdict(list)
    for campaign_id, group in groupby(tickets, key=_CAMPAIGN):
        of_campaign[campaign_id] += group
    result: Issued[TicketT] = Issued(epochs=_epochs(of_campaign.keys()))
    known = {campaign_id: group for campaign_id, group in of_campaign.items() if campaign_id in result.epochs}
    candidates, strangers = _ask_gate(known, result)
    for campaign_id in of_campaign.keys() - known.keys():
        reason = "there is no such campaign, or it was never opened"
        result.refused += [Refusal(ticket, FailCode.UNKNOWN_CAMPAIGN, reason) for ticket in of_campaign[campaign_id]]
    _write(candidates, result)
    _sort_strangers(strangers, result)
    if result.written:
        _check_epochs(result)
    return result


def settle_tickets(result: Issued[TicketT]) -> None:
    """Take off pending what the transaction committed. Raises RetryLater: then the caller repeats the whole batch."""
    # Crash before this => the coupons are there, the offset is not; the redelivery finds duplicates and settles them.
    gate.settle_all(epochs=result.epochs, users=result.held)


def _epochs(campaign_ids: Collection[UUID]) -> dict[UUID, int]:
    return dict(Campaign.objects.filter(pk__in=campaign_ids, epoch__gt=0).values_list("pk", "epoch"))


def _ask_gate(known: Mapping[UUID, list[TicketT]], result: Issued[TicketT]) -> tuple[list[TicketT], list[TicketT]]:
    """Those that the gate holds, one message of each, and those that it does not."""
    candidates: list[TicketT] = []
    strangers: list[TicketT] = []
    users = {campaign_id: [ticket.user_id for ticket in group] for campaign_id, group in known.items()}
    for campaign_id, sequences in gate.held_sequences(epochs=result.epochs, users=users).items():
        group = known[campaign_id]
        held = [ticket for ticket, sequence in zip(group, sequences, strict=True) if sequence == ticket.sequence]
        if len(held) < len(group):
            asked = zip(group, sequences, strict=True)
            strangers += [ticket for ticket, sequence in asked if sequence != ticket.sequence]
        if held:
            result.held[campaign_id] = [ticket.user_id for ticket in held]
            candidates += _first_of_each(held, result)
    return candidates, strangers


def _first_of_each(held: list[TicketT], result: Issued[TicketT]) -> list[TicketT]:
    """One message of each ticket; a second one in the same batch is a duplicate of what is being written."""
    first: dict[str, TicketT] = {}
    for ticket in held:
        if first.setdefault(ticket.user_id, ticket) is not ticket:
            result.duplicates.append(ticket)
    return list(first.values())


def _write(tickets: list[TicketT], result: Issued[TicketT]) -> None:
    """All in one statement; if PostgreSQL refuses it, without those that are there already, as often as there are some
    (another process may write the same tickets at this moment); what it refuses then, part by part.

    Part by part comes last because it holds campaigns' rows while it inserts more. Who has inserted the same tickets
    and waits for such a row is in a deadlock with it; PostgreSQL breaks it, and the batch is tried again.
    """
    while tickets:
        if _insert(tickets) is None:
            result.written += tickets
            return
        fresh = _without_existing(tickets, result)
        if len(fresh) == len(tickets):
            _write_parts(sorted(fresh, key=_WRITING_ORDER), result)
            return
        tickets = fresh


def _write_parts(tickets: list[TicketT], result: Issued[TicketT]) -> None:
    """Halve what was refused as a whole until the refused ones are found: each alone is told its own reason.

    It ends as one by one in this order would: a part is written exactly when each of it would be. But one refused
    ticket among many costs a statement for each halving and not one for each of its neighbours.
    """
    size = len(tickets) // 2 if len(tickets) > ONE_BY_ONE else 1
    for start in range(0, len(tickets), size):
        part = tickets[start : start + size]
        refusal = _insert(part)
        if refusal is None:
            result.written += part
        elif len(part) > 1:
            _write_parts(part, result)
        elif refusal[0] is not FailCode.CONFLICT or _without_existing(part, result):
            # Else another process wrote this very ticket since we looked, and it is sorted in as a duplicate now.
            result.refused.append(Refusal(part[0], *refusal))


def _insert(tickets: Sequence[IssuableTicket]) -> tuple[FailCode, str] | None:
    """Insert all or none; why not, if none."""
    try:
        with transaction.atomic():
            insert_coupons(sorted(tickets, key=_WRITING_ORDER))
    except IntegrityError as error:
        return _refusal_of(error)
    except (DataError, ValueError) as error:  # a NUL byte is a ValueError under psycopg2
        return FailCode.DATABASE_REFUSED, str(error).strip()
    return None


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
    written_to = {campaign_id for campaign_id, _ in groupby(result.written, key=_CAMPAIGN)}
    for campaign_id, epoch in _epochs(written_to).items():
        if epoch != result.epochs[campaign_id]:
            message = f"campaign {campaign_id}: a mend began while the batch was written"
            raise StateStale(message, campaign_id=campaign_id, reason="epoch")
