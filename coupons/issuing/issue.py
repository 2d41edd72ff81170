"""Writes tickets as coupons: the only writer of Coupon. A batch is one transaction. Returns the refused tickets.

Issues only what the gate holds, so a forged or late message mints nothing. The transaction commits only if no rebuild
began since the gate answered, so a rebuild never misses a coupon. PostgreSQL's own constraints back both rules.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from django.db import DataError, IntegrityError, transaction
from django.db.models import QuerySet

from coupons.admission import ticket_store
from coupons.errors import StateStale, one_line
from coupons.issuing.erased import erased_users
from coupons.issuing.insert_coupons import IssuableTicket, insert_coupons
from coupons.models import GIVEN_UP, HELD_CODES, Campaign, Coupon, FailCode, FailEventHistory
from coupons.runtime.id_sequences import is_id_taken

TicketT = TypeVar("TicketT", bound=IssuableTicket)
# All writers use this order, so that two batches with the same tickets or campaigns do not lock crosswise.
_WRITING_ORDER: Callable[[IssuableTicket], tuple[UUID, int]] = attrgetter("campaign_id", "sequence")


class Refusal(NamedTuple, Generic[TicketT]):
    ticket: TicketT
    code: FailCode
    reason: str


@dataclass(slots=True)
class IssueResult(Generic[TicketT]):
    """The result of a batch. Each ticket is in exactly one of the four lists.

    `duplicates` have their row, also under a pseudonym when their user was erased since. `given_up` lists tickets whose
    failed event an operator gave up: they need no further event. `held` lists all users
    whose ticket the gate held, by campaign: each has a coupon or a FAIL row once the caller commits.
    """

    written: list[TicketT] = field(default_factory=list)
    duplicates: list[TicketT] = field(default_factory=list)
    given_up: list[TicketT] = field(default_factory=list)
    refused: list[Refusal[TicketT]] = field(default_factory=list)
    held: dict[UUID, list[str]] = field(default_factory=lambda: defaultdict(list))
    epochs: dict[UUID, int] = field(default_factory=dict)
    code_keys: dict[UUID, str] = field(default_factory=dict)


def issue_coupons(tickets: Sequence[TicketT]) -> IssueResult[TicketT]:
    """Writes the coupons of these tickets. Must run inside the caller's transaction, which also writes the FAIL rows.

    Idempotent: a ticket whose coupon exists is a duplicate. Raises RetryLater (the gate did not answer, a rebuild
    began, or a campaign's code key is not known here) or django.db.OperationalError: the caller rolls back, keeps its
    offset and repeats the batch. Raises IntegrityError when PostgreSQL chose an id that is taken
    (runtime/id_sequences.py). After the commit the caller calls `settle_tickets`.
    """
    of_campaign: dict[UUID, list[TicketT]] = defaultdict(list)
    for ticket in tickets:
        of_campaign[ticket.campaign_id].append(ticket)
    opened = {campaign.pk: campaign for campaign in _opened(of_campaign.keys())}
    epochs = {campaign_id: campaign.epoch for campaign_id, campaign in opened.items() if campaign.is_loaded}
    code_keys = {campaign_id: opened[campaign_id].code_key for campaign_id in epochs}
    result: IssueResult[TicketT] = IssueResult(epochs=epochs, code_keys=code_keys)
    known = {campaign_id: group for campaign_id, group in of_campaign.items() if campaign_id in result.epochs}
    held, unheld = _ask_gate(known, result)
    candidates, repeats = _first_of_each(held)
    for campaign_id in opened.keys() - known.keys():  # unloaded: whatever was promised has its row
        unheld += _without_given_up(of_campaign[campaign_id], result)
    for campaign_id in of_campaign.keys() - opened.keys():
        reason = "there is no such campaign, or it was never opened"
        result.refused += [Refusal(ticket, FailCode.UNKNOWN_CAMPAIGN, reason) for ticket in of_campaign[campaign_id]]
    _write(candidates, result)
    _sort_given_up(result)
    _sort_repeats(repeats, result)
    _sort_unheld(unheld, result)
    _sort_erased(result)
    if result.written:
        _check_epochs(result)
    return result


def settle_tickets(result: IssueResult[TicketT]) -> None:
    """Removes committed tickets from pending. Raises RetryLater: then the caller repeats the whole batch."""
    # Crash before this => the coupons are there, the offset is not; the redelivery finds duplicates and settles them.
    ticket_store.settle(epochs=result.epochs, users=result.held)


def _opened(campaign_ids: Collection[UUID]) -> QuerySet[Campaign]:
    return Campaign.objects.filter(pk__in=campaign_ids, epoch__gt=0).only("epoch", "unloaded_at", "code_key")


def _ask_gate(known: Mapping[UUID, list[TicketT]], result: IssueResult[TicketT]) -> tuple[list[TicketT], list[TicketT]]:
    held: list[TicketT] = []
    unheld: list[TicketT] = []
    users = {campaign_id: [ticket.user_id for ticket in group] for campaign_id, group in known.items()}
    for campaign_id, sequences in ticket_store.held_sequences(epochs=result.epochs, users=users).items():
        for ticket, sequence in zip(known[campaign_id], sequences, strict=True):
            if sequence == ticket.sequence:
                held.append(ticket)
                result.held[campaign_id].append(ticket.user_id)
            else:
                unheld.append(ticket)
    return held, unheld


def _first_of_each(held: list[TicketT]) -> tuple[list[TicketT], list[TicketT]]:
    """Returns the first message of each user's ticket, and the repeats in the same batch."""
    first: dict[tuple[UUID, str], TicketT] = {}
    repeats = [ticket for ticket in held if first.setdefault(_user_key(ticket), ticket) is not ticket]
    return list(first.values()), repeats


def _user_key(ticket: IssuableTicket) -> tuple[UUID, str]:
    return ticket.campaign_id, ticket.user_id


def _write(tickets: list[TicketT], result: IssueResult[TicketT]) -> None:
    """Writes all in one statement. If PostgreSQL refuses it, leaves out tickets that exist already (another process may
    write the same tickets at this moment), or else halves it until each refused ticket stands alone, with its reason.

    The result is the same as one by one in this order: a part is written exactly when each of its tickets would be. But
    one refused ticket among many costs a few statements per halving, not one per neighbour.

    Halves come last because the first one holds rows of campaigns while the second inserts more. A process that has
    inserted the same tickets and waits for such a row is in a deadlock with it; PostgreSQL breaks it, and the batch is
    tried again.
    """
    refusal = _insert(tickets, result.code_keys)
    if refusal is None:
        result.written += tickets
        return
    fresh = _without_existing(tickets, result)
    if len(fresh) < len(tickets):
        _write(fresh, result)
    elif len(tickets) == 1:
        result.refused.append(Refusal(tickets[0], *refusal))
    else:
        in_order, half = sorted(tickets, key=_WRITING_ORDER), len(tickets) // 2
        _write(in_order[:half], result)
        _write(in_order[half:], result)


def _insert(tickets: Sequence[IssuableTicket], code_keys: Mapping[UUID, str]) -> tuple[FailCode, str] | None:
    """Inserts all or none. Returns the reason if none."""
    if not tickets:
        return None
    try:
        with transaction.atomic():
            insert_coupons(sorted(tickets, key=_WRITING_ORDER), code_keys=code_keys)
    except IntegrityError as error:
        if is_id_taken(error):
            raise  # a fault of the table, not of these tickets
        return _refusal_of(error)
    except (DataError, ValueError) as error:  # a NUL byte is a ValueError under psycopg2
        return FailCode.DATABASE_REFUSED, _without_detail(error)
    return None


def _refusal_of(error: IntegrityError) -> tuple[FailCode, str]:
    constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
    reason = one_line(error)  # its detail names the user and the sequence
    if constraint in ("coupon_one_per_user", "coupon_one_per_sequence"):
        return FailCode.CONFLICT, reason
    if constraint == "campaign_issued_within_quantity":
        return FailCode.QUANTITY_EXCEEDED, reason
    return FailCode.DATABASE_REFUSED, _without_detail(error)


def _without_detail(error: Exception) -> str:
    """Returns PostgreSQL's message alone: its detail may be the row, with the coupon's code."""
    return getattr(getattr(error.__cause__, "diag", None), "message_primary", None) or one_line(error)


def _without_existing(tickets: list[TicketT], result: IssueResult[TicketT]) -> list[TicketT]:
    """Returns tickets of users without a coupon. One equal to the coupon is a duplicate, another is a conflict."""
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


def _sort_given_up(result: IssueResult[TicketT]) -> None:
    """Moves tickets that an operator gave up out of `refused`: the database refuses those, too (migration 0008)."""
    refused = [refusal.ticket for refusal in result.refused if refusal.code.holds_ticket]
    if not refused:
        return
    stay = {id(ticket) for ticket in _without_given_up(refused, result)}
    moved = {id(ticket) for ticket in refused} - stay
    result.refused = [refusal for refusal in result.refused if id(refusal.ticket) not in moved]


def _without_given_up(tickets: Collection[TicketT], result: IssueResult[TicketT]) -> list[TicketT]:
    """Returns the tickets that no operator gave up; those that one did go to `given_up`."""
    events = FailEventHistory.objects.filter(GIVEN_UP, error_code__in=HELD_CODES).filter(
        campaign_id__in={ticket.campaign_id for ticket in tickets}, user_id__in={ticket.user_id for ticket in tickets}
    )
    given_up = set(events.values_list("campaign_id", "user_id", "sequence"))
    left: list[TicketT] = []
    for ticket in tickets:
        is_given_up = (*_user_key(ticket), ticket.sequence) in given_up
        (result.given_up if is_given_up else left).append(ticket)
    return left


def _sort_repeats(repeats: list[TicketT], result: IssueResult[TicketT]) -> None:
    """Gives each repeat the result of its first message. Only a repeat of a ticket with a coupon is a duplicate."""
    refused = {_user_key(refusal.ticket): refusal for refusal in result.refused}
    given_up = {_user_key(ticket) for ticket in result.given_up}
    for ticket in repeats:
        if (refusal := refused.get(_user_key(ticket))) is not None:
            result.refused.append(Refusal(ticket, refusal.code, refusal.reason))
        elif _user_key(ticket) in given_up:
            result.given_up.append(ticket)
        else:
            result.duplicates.append(ticket)


def _sort_unheld(tickets: list[TicketT], result: IssueResult[TicketT]) -> None:
    """Sorts tickets that the gate does not hold: duplicates if their coupon exists, else late or forged."""
    existing = _existing_sequences(tickets) if tickets else {}
    for ticket in tickets:
        if existing.get((ticket.campaign_id, ticket.user_id)) == ticket.sequence:
            result.duplicates.append(ticket)
        else:
            reason = "the gate does not hold this ticket: it came too late, or was never admitted"
            result.refused.append(Refusal(ticket, FailCode.NOT_ADMITTED, reason))


def _sort_erased(result: IssueResult[TicketT]) -> None:
    """Moves tickets of users who were erased out of `refused`: their rows are there, under a pseudonym, and a failed
    event would name the user again.

    Looks after the refusal: the pseudonym's row, which may be its reason, is committed together with what is read here.
    """
    if not result.refused:
        return
    erased = erased_users({refusal.ticket.campaign_id for refusal in result.refused})
    refused, result.refused = result.refused, []
    for refusal in refused:
        users = erased.get(refusal.ticket.campaign_id)
        if users is not None and refusal.ticket.user_id in users:
            result.duplicates.append(refusal.ticket)
        else:
            result.refused.append(refusal)


def _existing_sequences(tickets: Sequence[IssuableTicket]) -> dict[tuple[UUID, str], int]:
    campaigns = {ticket.campaign_id for ticket in tickets}
    users = {ticket.user_id for ticket in tickets}
    rows = Coupon.objects.filter(campaign_id__in=campaigns, user_id__in=users)
    return {(row[0], row[1]): row[2] for row in rows.values_list("campaign_id", "user_id", "sequence")}


def _check_epochs(result: IssueResult[TicketT]) -> None:
    """Raises StateStale if an epoch has risen. The trigger has locked the campaigns' rows by now, so an epoch that is
    unchanged cannot rise before the commit."""
    for campaign in _opened({ticket.campaign_id for ticket in result.written}):
        campaign_id = campaign.pk
        if campaign.epoch != result.epochs[campaign_id]:
            message = f"campaign {campaign_id}: a rebuild began while the batch was written"
            raise StateStale(message, campaign_id=campaign_id, reason="epoch")
