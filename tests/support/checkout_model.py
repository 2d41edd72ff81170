"""A model of the checkout: what each request is answered, and what the coupon is after it, without a database."""

from dataclasses import dataclass, field
from uuid import UUID

Answer = tuple[int, str]
"""The status, and the redemption's state or the problem's code."""
GONE = {"revoked", "expired"}


@dataclass
class Use:
    """An order's use of a coupon, as its row says; `id` as the API told it."""

    id: str
    state: str
    hold_is_over: bool = False

    @property
    def is_held(self) -> bool:
        return self.state == "held" and not self.hold_is_over


@dataclass
class Terms:
    """A campaign's, shared by its coupons: which of them are over or not yet there is known without a clock."""

    until_is_over: bool = False
    has_days: bool = False
    is_early: bool = False


@dataclass
class Life:
    """One coupon."""

    user_id: str
    code: str
    campaign_id: UUID
    terms: Terms
    is_old: bool = False
    """Issued so long ago that its campaign's days are over, if it has any."""
    is_revoked: bool = False
    uses: dict[str, Use] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)

    @property
    def is_expired(self) -> bool:
        return self.terms.until_is_over or (self.terms.has_days and self.is_old)

    @property
    def status(self) -> str:
        if self.is_revoked:
            return "revoked"
        for use in self.uses.values():
            if use.is_held or use.state == "redeemed":
                return use.state
        return "expired" if self.is_expired else "unused"

    def obstacles(self, user_id: str | None) -> list[str]:
        found = {
            "not-yours": user_id not in (None, self.user_id),
            "revoked": self.is_revoked,
            "already-redeemed": self.status == "redeemed",
            "expired": self.is_expired,
            "not-valid-yet": self.terms.is_early,
            "held": self.status == "held",
        }
        return [name for name, is_there in found.items() if is_there]

    def redeem(self, order: str, user_id: str | None, *, hold: bool) -> Answer:
        use = self.uses.get(order)
        if use is not None and user_id in (None, self.user_id):
            if use.state == "redeemed" or (use.is_held and hold):
                return 200, use.state
            if use.is_held:
                return self._move(use, "redeemed")
        if obstacles := self.obstacles(user_id):
            return refusal(obstacles[0])
        if use is not None and use.state == "returned":
            return 409, "order-returned"
        for other in self.uses.values():
            if other.state == "held":  # its time is over, also if it is this order's own
                self._move(other, "lapsed")
        use = self.uses.setdefault(order, Use("", ""))
        use.hold_is_over = False
        self._move(use, "held" if hold else "redeemed")
        return 201, use.state

    def confirm(self, use: Use) -> Answer:
        if use.state == "redeemed":
            return 200, "redeemed"
        if use.state == "returned":
            return 409, "order-returned"
        return self._move(use, "redeemed") if use.is_held else (409, "hold-ended")

    def give_back(self, use: Use) -> Answer:
        return (200, "returned") if use.state == "returned" else self._move(use, "returned")

    def revoke(self) -> Answer:
        if not self.is_revoked:
            if self.status == "redeemed":
                return 409, "already-redeemed"
            for use in self.uses.values():
                if use.state == "held":
                    self._move(use, "returned")
            self.is_revoked = True
            self.events.append("revoked")
        return 200, "revoked"

    def tidy(self) -> int:
        """How many holds have lapsed by it."""
        over = [use for use in self.uses.values() if use.state == "held" and use.hold_is_over]
        for use in over:
            self._move(use, "lapsed")
        return len(over)

    def _move(self, use: Use, state: str) -> Answer:
        use.state = state
        self.events.append(state)
        return 200, state


def refusal(obstacle: str) -> Answer:
    return (410 if obstacle in GONE else 403 if obstacle == "not-yours" else 409), obstacle
