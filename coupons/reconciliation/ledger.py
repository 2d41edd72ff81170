"""The ledgers of a campaign, of the topic and of redemptions without a coupon: numbers, differences, verdict."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from coupons.reconciliation.differences import EXPLANATIONS, HEALS_BY_ITSELF, UNRECORDED, Kind, healed_by
from coupons.redemption.coupon_life import CouponStatus

EXAMPLES = 10


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
class TopicLedger:
    """Counts the messages that the topic still has.

    An `unrecorded` message was read by the consumers, names no ticket of a known campaign and left no failed event.
    Its examples are positions, partition@offset.
    """

    messages: int = 0
    unread: int = 0
    unrecorded: Difference = field(default_factory=lambda: Difference(Kind.UNRECORDED))

    @property
    def closes(self) -> bool:
        return self.unrecorded.count == 0

    def document(self) -> dict[str, Any]:
        return {
            "messages": self.messages,
            "unread": self.unread,
            "unrecorded": {
                "count": self.unrecorded.count,
                "examples": self.unrecorded.examples,
                "meaning": UNRECORDED,
            },
            "closes": self.closes,
        }


@dataclass(slots=True)
class Ledger:
    """One campaign's ledger, in tickets. `unread` counts messages of its tickets that wait for a consumer, `statuses`
    the coupons that are issued, as of the moment at which they were counted.

    An unloaded campaign's has the number of its rows, and its tickets were compared with nothing.
    """

    campaign_id: UUID
    name: str
    quantity: int
    tickets: int = 0
    issued: int = 0
    failed: int = 0
    pending: int = 0
    coupons: int = 0
    unread: int = 0
    first_sequence: int | None = None
    last_sequence: int | None = None
    unloaded: bool = False
    statuses: dict[CouponStatus, int] = field(default_factory=lambda: dict.fromkeys(CouponStatus, 0))
    differences: dict[Kind, Difference] = field(default_factory=dict)

    @property
    def closes(self) -> bool:
        """Whether every ticket and every coupon is accounted for. A difference that heals by itself does not count
        against it."""
        balanced = self.tickets == self.issued + self.failed + self.pending
        balanced &= self.issued == sum(self.statuses.values())
        return balanced and HEALS_BY_ITSELF.issuperset(self.differences)

    def found(self, kind: Kind, example: str) -> None:
        self.differences.setdefault(kind, Difference(kind)).add(example)

    def command(self, kind: Kind) -> str:
        """Returns the command that an operator types against this kind; empty when it heals by itself."""
        least_quantity = max(self.tickets, self.coupons)
        return EXPLANATIONS[kind].command.format(id=self.campaign_id, least_quantity=least_quantity)

    def document(self) -> dict[str, Any]:
        return {
            "campaign_id": str(self.campaign_id),
            "name": self.name,
            "quantity": self.quantity,
            "tickets": self.tickets,
            "issued": self.issued,
            "failed": self.failed,
            "pending": self.pending,
            "unread": self.unread,
            "first_sequence": self.first_sequence,
            "last_sequence": self.last_sequence,
            "statuses": self.statuses,
            "closes": self.closes,
            "unloaded": self.unloaded,
            "differences": [_describe(found, self.command(found.kind)) for found in self.differences.values()],
        }


@dataclass(slots=True)
class OrphanLedger:
    """Redemptions and events whose coupon is not there, so that they are of no campaign."""

    differences: dict[Kind, Difference] = field(default_factory=dict)

    @property
    def closes(self) -> bool:
        return not self.differences

    def found(self, kind: Kind, example: str) -> None:
        self.differences.setdefault(kind, Difference(kind)).add(example)

    def command(self, kind: Kind) -> str:
        return EXPLANATIONS[kind].command

    def document(self) -> dict[str, Any]:
        return {
            "differences": [_describe(found, self.command(found.kind)) for found in self.differences.values()],
            "closes": self.closes,
        }


def _describe(found: Difference, command: str) -> dict[str, Any]:
    return {
        "kind": str(found.kind),
        "count": found.count,
        "examples": found.examples,
        "meaning": EXPLANATIONS[found.kind].meaning,
        "heals_by_itself": found.kind in HEALS_BY_ITSELF,
        "heals": healed_by(found.kind) or None,
        "command": command or None,
    }
