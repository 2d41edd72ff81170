"""The database rows that a history is checked against, and the findings of the check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

EXAMPLES = 5


class Inconclusive(Exception):
    """The history and the rows do not fit together, or prove nothing."""


class Kind(StrEnum):
    """The kinds of violations; MEANINGS explains them."""

    LOST = "lost"
    OTHER_SEQUENCE = "other-sequence"
    CHANGED = "promise-changed"
    WITHOUT_SEQUENCE = "promise-without-sequence"
    REFUSED_AFTER_PROMISE = "refused-after-promise"
    SEQUENCE_TWICE = "sequence-twice"
    TWO_COUPONS = "two-coupons"
    BEYOND_QUANTITY = "beyond-quantity"
    OUT_OF_ORDER = "out-of-order"
    SOLD_OUT_EARLY = "sold-out-early"
    SUCCESS_WITHOUT_COUPON = "success-without-coupon"
    # Of redemptions.
    REDEMPTION_LOST = "redemption-lost"
    RETURN_LOST = "return-lost"
    TWICE_LIVE = "redeemed-twice"
    TWO_IDS = "two-ids"
    OTHERS_COUPON = "others-coupon"
    REVIVED = "revived"
    REFUSED_WRONGLY = "refused-wrongly"
    UNASKED = "unasked"


MEANINGS = {
    Kind.LOST: "a promised ticket has neither a coupon nor an open failed event",
    Kind.OTHER_SEQUENCE: "the row has another sequence than the promise",
    Kind.CHANGED: "one user was promised different sequences",
    Kind.WITHOUT_SEQUENCE: "a 2xx answer names no sequence",
    Kind.REFUSED_AFTER_PROMISE: "a request that began after the promise had arrived was refused",
    Kind.SEQUENCE_TWICE: "one sequence for two users",
    Kind.TWO_COUPONS: "one user has several coupons",
    Kind.BEYOND_QUANTITY: "more coupons and failed tickets than the quantity",
    Kind.OUT_OF_ORDER: "a user who first asked after another user's promise had arrived has a smaller sequence",
    Kind.SOLD_OUT_EARLY: "an answer was sold out while fewer tickets than the quantity can have been held",
    Kind.SUCCESS_WITHOUT_COUPON: "a failed event ended in SUCCESS but its user has no coupon with its sequence",
    Kind.REDEMPTION_LOST: "a redemption or hold that was told is gone, though no return was asked for",
    Kind.RETURN_LOST: "a return that was told has not happened",
    Kind.TWICE_LIVE: "two orders used one coupon at the same time",
    Kind.TWO_IDS: "one order of a coupon has two redemptions, or one redemption two orders",
    Kind.OTHERS_COUPON: "an answer is about another coupon or order than was asked for, or redeems another user's",
    Kind.REVIVED: "a redemption lives although its return had been told before",
    Kind.REFUSED_WRONGLY: "a shop was refused, and nothing that was asked for can be the reason",
    Kind.UNASKED: "a redemption is in a state that nobody has asked for",
}


@dataclass(slots=True)
class Finding:
    kind: Kind
    campaign_id: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.kind} x {self.count} in campaign {self.campaign_id}: {MEANINGS[self.kind]}", *self.examples]
        return "\n    ".join(lines)


class RedemptionRow(NamedTuple):
    """`user_id` is whose coupon it is; `early` says that a hold was ended before its time."""

    id: str
    user_id: str
    order_ref: str
    state: str
    early: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignRows:
    """A campaign's rows in the database, as (user id, sequence). `failed` are the open events with a ticket,
    `succeeded` those that ended in SUCCESS. `codes` are the coupons', by user."""

    campaign_id: str
    quantity: int
    epoch: int = 1
    coupons: Sequence[tuple[str, int]] = ()
    failed: Sequence[tuple[str, int]] = ()
    succeeded: Sequence[tuple[str, int]] = ()
    codes: Mapping[str, str] = field(default_factory=dict)
    redemptions: Sequence[RedemptionRow] = ()


@dataclass(slots=True)
class CampaignVerdict:
    """The result of checking one campaign: counts and findings."""

    campaign_id: str
    requests: int = 0
    promised: int = 0
    sold_out: int = 0
    untracked: int = 0
    redeemed: int = 0
    findings: dict[Kind, Finding] = field(default_factory=dict)

    def found(self, kind: Kind, example: str) -> None:
        finding = self.findings.setdefault(kind, Finding(kind, self.campaign_id))
        finding.count += 1
        if len(finding.examples) < EXAMPLES:
            finding.examples.append(example)

    def __str__(self) -> str:
        told = f", {self.redeemed} redemptions told" if self.redeemed else ""
        head = (
            f"campaign {self.campaign_id}: {self.requests} requests, {self.promised} users promised, "
            f"{self.sold_out} answers sold out, {self.untracked} untracked tickets{told}: "
            f"{'DOES NOT HOLD' if self.findings else 'holds'}"
        )
        return "\n  ".join([head, *map(str, self.findings.values())])


@dataclass(frozen=True, slots=True)
class Verdict:
    campaigns: list[CampaignVerdict]

    @property
    def findings(self) -> list[Finding]:
        return [finding for campaign in self.campaigns for finding in campaign.findings.values()]

    @property
    def holds(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        return "\n".join(map(str, self.campaigns))
