"""The ledger of a campaign: tickets = issued + failed + pending, compared user by user, and each difference named.

Redis is read first and PostgreSQL after it. A ticket leaves pending only after its row is committed, so whoever Redis
does not show as pending must have a row; and a coupon that Redis did not show yet is looked up in Redis once more. So
a campaign under load gives no false alarm.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db.models import Count

from coupons.admission import gate
from coupons.admission.gate import Held
from coupons.admission.rebuild import held_by_scan
from coupons.ledger.rows import TicketRow, failed_tickets, issued_tickets
from coupons.models import Campaign

EXAMPLES = 10


class Kind(StrEnum):
    """What can be wrong between the gate and the database."""

    LOST = "lost"
    NEVER_ADMITTED = "never-admitted"
    OTHER_SEQUENCE = "other-sequence"
    SEQUENCE_TWICE = "sequence-twice"
    BEYOND_QUANTITY = "beyond-quantity"
    COUNT_WRONG = "count-wrong"
    STALE_PENDING = "stale-pending"
    FAILED_WITHOUT_TICKET = "failed-without-ticket"


# What each means for a person, and the way out.
EXPLANATIONS = {
    Kind.LOST: "a ticket that is not pending and has neither coupon nor failed event; `rebuild_admission ID` makes it "
    "pending again, and the keeper publishes it",
    Kind.NEVER_ADMITTED: "a coupon without a ticket: somebody wrote to the table; `rebuild_admission ID` takes it in",
    Kind.OTHER_SEQUENCE: "ticket and coupon of the user differ in the sequence; `rebuild_admission ID` takes the "
    "coupon's",
    Kind.SEQUENCE_TWICE: "one sequence was given to two users; only one of them can be issued. Look at both",
    Kind.BEYOND_QUANTITY: "more coupons than the quantity: the trigger or the CHECK of the database is gone",
    Kind.COUNT_WRONG: "campaign.issued_count is not the number of coupons: rows were deleted, or the trigger is gone",
    Kind.FAILED_WITHOUT_TICKET: "an open failed event whose ticket the gate does not hold (any more); "
    "`rebuild_admission ID` takes it in",
    Kind.STALE_PENDING: "pending although the row is there; heals by itself: the keeper settles it",
}
HEALS_BY_ITSELF = frozenset({Kind.STALE_PENDING})


@dataclass(slots=True)
class Difference:
    kind: Kind
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)


@dataclass(slots=True)
class Ledger:
    """One campaign's ledger, in tickets."""

    campaign_id: UUID
    name: str
    quantity: int
    tickets: int = 0
    issued: int = 0
    failed: int = 0
    pending: int = 0
    first_sequence: int | None = None
    last_sequence: int | None = None
    differences: dict[Kind, Difference] = field(default_factory=dict)

    @property
    def closes(self) -> bool:
        """Whether every ticket is accounted for. A difference that heals by itself leaves none unaccounted."""
        balanced = self.tickets == self.issued + self.failed + self.pending
        return balanced and HEALS_BY_ITSELF.issuperset(self.differences)

    def found(self, kind: Kind, example: str) -> None:
        self.differences.setdefault(kind, Difference(kind)).add(example)

    def document(self) -> dict[str, Any]:
        return {
            "campaign_id": str(self.campaign_id),
            "name": self.name,
            "quantity": self.quantity,
            "tickets": self.tickets,
            "issued": self.issued,
            "failed": self.failed,
            "pending": self.pending,
            "first_sequence": self.first_sequence,
            "last_sequence": self.last_sequence,
            "closes": self.closes,
            "differences": [
                {
                    "kind": str(found.kind),
                    "count": found.count,
                    "examples": found.examples,
                    "meaning": EXPLANATIONS[found.kind],
                    "heals_by_itself": found.kind in HEALS_BY_ITSELF,
                }
                for found in self.differences.values()
            ],
        }


def reconcile(*, campaign_ids: Iterable[UUID] | None = None) -> Iterator[Ledger]:
    """The ledgers of all loaded campaigns, or of these. Raises RetryLater (Redis down, or a state that is not current)
    and database errors: then nobody could look, which is no verdict."""
    campaigns = Campaign.objects.filter(epoch__gt=0).order_by("created_at")
    if campaign_ids is not None:
        campaigns = campaigns.filter(pk__in=list(campaign_ids))
    for campaign in campaigns:
        yield reconcile_campaign(campaign)


def reconcile_campaign(campaign: Campaign) -> Ledger:
    """The ledger of one campaign; one that was never opened holds nothing, and closes. Raises as `reconcile` does."""
    ledger = Ledger(campaign.pk, campaign.name, campaign.quantity)
    if campaign.epoch > 0:
        _compare(campaign, ledger)
    return ledger


def _compare(campaign: Campaign, ledger: Ledger) -> None:
    gate.describe(campaign_id=campaign.pk, epoch=campaign.epoch)  # raises unless the state is current
    seen = {ticket.user_id: ticket for ticket in held_by_scan(campaign.pk)}
    ledger.tickets = len(seen)
    _check_sequences(seen, ledger)
    rows = _match_rows(campaign, seen, ledger)
    for user_id in rows.unaccounted:
        if seen[user_id].pending:
            ledger.pending += 1
        else:
            ledger.found(Kind.LOST, f"{user_id} #{seen[user_id].sequence}")
    _look_again(campaign, rows, ledger)
    _check_counts(campaign, ledger)


@dataclass(slots=True)
class _Rows:
    """What PostgreSQL has beside the tickets that Redis showed: users without a row, rows without a ticket, and users
    that were pending although their row is there."""

    unaccounted: set[str]
    coupons_without_ticket: list[TicketRow] = field(default_factory=list)
    failed_without_ticket: list[TicketRow] = field(default_factory=list)
    written_while_pending: list[str] = field(default_factory=list)


def _match_rows(campaign: Campaign, seen: Mapping[str, Held], ledger: Ledger) -> _Rows:
    rows = _Rows(unaccounted=set(seen))
    for row in issued_tickets(campaign.pk):
        ticket = seen.get(row.user_id)
        if ticket is None:
            rows.coupons_without_ticket.append(row)
            continue
        ledger.issued += 1
        rows.unaccounted.discard(row.user_id)
        if ticket.sequence != row.sequence:
            ledger.found(Kind.OTHER_SEQUENCE, f"{row.user_id} ticket #{ticket.sequence}, coupon #{row.sequence}")
        if ticket.pending:
            rows.written_while_pending.append(row.user_id)
    for row in failed_tickets(campaign.pk):
        ticket = seen.get(row.user_id)
        if ticket is None or ticket.sequence != row.sequence:
            rows.failed_without_ticket.append(row)
        elif row.user_id in rows.unaccounted:
            ledger.failed += 1
            rows.unaccounted.discard(row.user_id)
            if ticket.pending:
                rows.written_while_pending.append(row.user_id)
    return rows


def _check_sequences(seen: Mapping[str, Held], ledger: Ledger) -> None:
    users: dict[int, str] = {}
    for user_id, ticket in seen.items():
        other = users.setdefault(ticket.sequence, user_id)
        if other != user_id:
            ledger.found(Kind.SEQUENCE_TWICE, f"#{ticket.sequence} of {other} and {user_id}")
    if users:
        ledger.first_sequence, ledger.last_sequence = min(users), max(users)


def _look_again(campaign: Campaign, rows: _Rows, ledger: Ledger) -> None:
    """Ask the gate once more about what may have changed between reading Redis and reading PostgreSQL."""
    without_ticket = [*rows.coupons_without_ticket, *rows.failed_without_ticket]
    users = [row.user_id for row in without_ticket] + rows.written_while_pending
    now = gate.held_tickets(campaign_id=campaign.pk, epoch=campaign.epoch, user_ids=users)

    def is_held(row: TicketRow) -> bool:
        return row.user_id in now and now[row.user_id].sequence == row.sequence

    admitted_since = [row for row in without_ticket if is_held(row)]
    ledger.tickets += len(admitted_since)
    ledger.issued += len([row for row in rows.coupons_without_ticket if is_held(row)])
    ledger.failed += len([row for row in rows.failed_without_ticket if is_held(row)])
    for kind, suspects in (
        (Kind.NEVER_ADMITTED, rows.coupons_without_ticket),
        (Kind.FAILED_WITHOUT_TICKET, rows.failed_without_ticket),
    ):
        for row in suspects:
            if not is_held(row):
                ledger.found(kind, f"{row.user_id} #{row.sequence}")
    for user_id in rows.written_while_pending:
        if user_id in now and now[user_id].pending:
            ledger.found(Kind.STALE_PENDING, f"{user_id} #{now[user_id].sequence}")


def _check_counts(campaign: Campaign, ledger: Ledger) -> None:
    # One statement, so that count and rows are of the same moment.
    counted = Campaign.objects.filter(pk=campaign.pk).annotate(rows=Count("coupons")).get()
    if counted.issued_count != counted.rows:
        ledger.found(Kind.COUNT_WRONG, f"issued_count {counted.issued_count}, coupons {counted.rows}")
    if counted.rows > counted.quantity:
        ledger.found(Kind.BEYOND_QUANTITY, f"{counted.rows} coupons, quantity {counted.quantity}")
