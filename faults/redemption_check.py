"""Proves from a history and the database that each coupon was used at most once at a time, and every answer was kept.

A history shows only when a request began and when its answer arrived; PostgreSQL decided at one unknown moment in
between, and a request without an answer may take effect even later. From that follow these checks of each coupon:

- Every redemption, hold and confirmation that was told is there at the end, or a return of it was sent, answered or
  not. A hold may have lapsed when its time was over. A return that was told has happened.
- An order's redemption lives for certain from the arrival of its answer until the first return of it is sent, or, of a
  hold, until its time may be over. No other order was told of a success in that time, nor lived for certain, too.
- An order of a coupon has one redemption, whoever repeats its requests, and a redemption has one order. An answer is
  about the coupon, the order and the user that the request names; a code is its coupon's.
- What was returned stays returned: no success is told to a request that began after that.
- A refusal needs a reason that somebody has asked for: another order that may live then for `already-redeemed` and
  `held`, a return for `order-returned`, the passing of time for `hold-ended`.
- Every redemption of these coupons in the database, and the state it is in, was asked for.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from faults.history import Action, Checkout, History
from faults.verdict import CampaignRows, CampaignVerdict, Kind, RedemptionRow

SLACK_SEC = 0.1  # a hold lasts by PostgreSQL's clock, and these times are of a monotonic one
USES = frozenset({Action.REDEEM, Action.HOLD})
FOREVER = float("inf")
IN_FORCE = "in force: "
"""Events of this name tell from when to when a fault was certainly there."""
NOT_NEEDED = ("consumer", "keeper", "clock of keeper", "group:", "rebuild", "relay")
AFTERMATH_SEC = 10.0
"""A web server starts meanwhile; a synchronous standby finds its primary again, and commits wait for that."""


def check_redemptions(checkouts: Sequence[Checkout], rows: CampaignRows, verdict: CampaignVerdict) -> None:
    """Adds what it finds in one campaign to the verdict."""
    coupons: dict[str, _Coupon] = {}
    for checkout in sorted(checkouts, key=lambda each: each.end):
        coupon = coupons.setdefault(checkout.user_id, _Coupon(checkout.user_id, rows.codes.get(checkout.user_id, "")))
        coupon.see(checkout)
    for row in rows.redemptions:
        if row.user_id in coupons:
            coupons[row.user_id].rows.append(row)
    for coupon in coupons.values():
        coupon.check(verdict)
    verdict.redeemed += sum(len(order.told) for coupon in coupons.values() for order in coupon.orders.values())
    _check_ids(coupons.values(), verdict)


def answered_without(history: History, parts: Iterable[str]) -> tuple[int, int]:
    """Counts the shops' requests that were sent and ended while these parts were disturbed, and nothing that a checkout
    needs: those that were answered, and all."""
    of_them = tuple(f"{prefix}{part}:" for part in parts for prefix in ("", "link to "))
    faults = [event for event in history.events if ":" in event.what]
    down = [event for event in faults if event.what.startswith(tuple(f"{IN_FORCE}{part}" for part in of_them))]
    others = [event for event in faults if not event.what.removeprefix(IN_FORCE).startswith((*of_them, *NOT_NEEDED))]
    asked = [
        each
        for each in history.checkouts
        if each.was_sent
        and any(event.start <= each.start and each.end <= event.end for event in down)
        and not any(event.start < each.end and each.start < event.end + AFTERMATH_SEC for event in others)
    ]
    return sum(0 < each.status < 500 for each in asked), len(asked)


@dataclass(slots=True)
class _Order:
    """The requests of one order for one coupon, in the order of their answers."""

    ref: str
    asked: list[Checkout] = field(default_factory=list)

    @property
    def told(self) -> list[Checkout]:
        """Its redemptions, holds and confirmations that were told."""
        return [each for each in self.asked if each.succeeded and each.action is not Action.RETURN]

    def may(self, *actions: Action, before: float = FOREVER) -> list[Checkout]:
        """The requests that have taken effect or may have, and began before."""
        return [each for each in self.asked if each.action in actions and each.may_have_effect and each.start < before]

    @property
    def returned_at(self) -> float:
        """When a return of it had been told."""
        return min((each.end for each in self.may(Action.RETURN) if each.succeeded), default=FOREVER)

    @property
    def certain_lives(self) -> list[tuple[float, float]]:
        first_return = min((each.start for each in self.may(Action.RETURN)), default=FOREVER)
        lives = [(each.end, min(first_return, _lasts_until(each))) for each in self.told]
        return [(since, until) for since, until in lives if since < until]

    @property
    def earliest_end_of_hold(self) -> float:
        return min((each.start + (each.hold_sec or 0) for each in self.may(Action.HOLD)), default=-FOREVER)


def _lasts_until(told: Checkout) -> float:
    """A redemption, until somebody returns it. A repeated hold ends when the first one does, which may be at once."""
    if told.body.get("status") == "redeemed":
        return FOREVER
    return told.start + (told.hold_sec or 0) - SLACK_SEC if told.status == 201 else -FOREVER


@dataclass(slots=True)
class _Coupon:
    user_id: str
    code: str
    orders: dict[str, _Order] = field(default_factory=dict)
    codes: set[str] = field(default_factory=set)
    rows: list[RedemptionRow] = field(default_factory=list)

    def see(self, checkout: Checkout) -> None:
        if checkout.action is Action.LOOK_UP:
            self.codes.add(str(checkout.body.get("coupon_code")))
        elif checkout.was_sent:
            self.orders.setdefault(checkout.order_ref, _Order(checkout.order_ref)).asked.append(checkout)

    def check(self, verdict: CampaignVerdict) -> None:
        if self.codes - {self.code}:
            verdict.found(Kind.OTHERS_COUPON, f"{self.user_id}: the code that was looked up is not the coupon's")
        for order in self.orders.values():
            for each in order.asked:
                self._check_answer(order, each, verdict)
            self._check_end(order, verdict)
        self._check_lives(verdict)
        self._check_rows(verdict)

    def _check_answer(self, order: _Order, each: Checkout, verdict: CampaignVerdict) -> None:
        what = f"{self.user_id}, order {order.ref}: {each.action} {each.status} {each.code}".rstrip()
        if each.succeeded:
            named = (each.body.get("user_id"), each.body.get("order_ref"), each.body.get("campaign"))
            other = each.redemption_id not in ("", each.body.get("id"))
            foreign = each.claimed_by not in ("", self.user_id)
            if named != (self.user_id, order.ref, each.campaign_id) or other or foreign:
                verdict.found(Kind.OTHERS_COUPON, f"{what}, of {named}")
            if each.action is not Action.RETURN and order.returned_at < each.start:
                verdict.found(Kind.REVIVED, what)
        elif 400 <= each.status < 500 and each.status != 429 and not self._has_reason(order, each):
            verdict.found(Kind.REFUSED_WRONGLY, what)

    def _has_reason(self, order: _Order, each: Checkout) -> bool:
        others = [other for other in self.orders.values() if other is not order and other.returned_at > each.start]
        match each.status, each.code:
            case 403, "not-yours":
                return each.claimed_by not in ("", self.user_id)
            case 409, "already-redeemed":
                return any(other.may(Action.REDEEM, Action.CONFIRM, before=each.end) for other in others)
            case 409, "held":
                return any(other.may(Action.HOLD, before=each.end) for other in others)
            case 409, "order-returned":
                return bool(order.may(Action.RETURN, before=each.end))
            case 409, "hold-ended":
                return each.end > order.earliest_end_of_hold - SLACK_SEC
        return False

    def _check_end(self, order: _Order, verdict: CampaignVerdict) -> None:
        states = {row.state for row in self.rows if row.order_ref == order.ref}
        what = f"{self.user_id}, order {order.ref}: {', '.join(sorted(states)) or 'nothing'} in the end"
        if order.returned_at < FOREVER:
            if states != {"returned"}:
                verdict.found(Kind.RETURN_LOST, what)
            return
        allowed = {"returned"} if order.may(Action.RETURN) else set()
        told = {each.body.get("status") for each in order.told}
        allowed |= {"redeemed"} if "redeemed" in told else {"redeemed", "held", "lapsed"}
        if told and (not states or not states <= allowed):
            verdict.found(Kind.REDEMPTION_LOST, f"{what}, told {', '.join(sorted(map(str, told)))}")

    def _check_lives(self, verdict: CampaignVerdict) -> None:
        for one, other in combinations(self.orders.values(), 2):
            if _meet(one, other) or _meet(other, one):
                verdict.found(Kind.TWICE_LIVE, f"{self.user_id}: orders {one.ref} and {other.ref}")

    def _check_rows(self, verdict: CampaignVerdict) -> None:
        live = [row.order_ref for row in self.rows if row.state in ("held", "redeemed")]
        if len(live) > 1:
            verdict.found(Kind.TWICE_LIVE, f"{self.user_id}: orders {' and '.join(live)} in the end")
        for row in self.rows:
            order = self.orders.get(row.order_ref, _Order(row.order_ref))
            asked = {
                "held": order.may(Action.HOLD),
                "lapsed": order.may(Action.HOLD) and not row.early,
                "redeemed": order.may(Action.REDEEM, Action.CONFIRM),
                "returned": order.may(Action.RETURN),
            }
            if not asked[row.state] or not order.may(*USES):
                verdict.found(Kind.UNASKED, f"{self.user_id}, order {row.order_ref}: {row.state}")


def _meet(one: _Order, other: _Order) -> bool:
    """Whether the other order was told of a success, or lived, in a time in which the one lived for certain."""
    for since, until in one.certain_lives:
        if any(since <= each.start and each.end <= until for each in other.told):
            return True
        if any(max(since, begun) < min(until, ended) for begun, ended in other.certain_lives):
            return True
    return False


def _check_ids(coupons: Iterable[_Coupon], verdict: CampaignVerdict) -> None:
    """Each id is of one order of one coupon, in every answer and in the database."""
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    owners: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for coupon in coupons:
        told = [(order.ref, str(each.body.get("id"))) for order in coupon.orders.values() for each in order.told]
        for ref, redemption_id in [*told, *((row.order_ref, row.id) for row in coupon.rows)]:
            ids[coupon.user_id, ref].add(redemption_id)
            owners[redemption_id].add((coupon.user_id, ref))
    for (user_id, ref), found in ids.items():
        if len(found) > 1:
            verdict.found(Kind.TWO_IDS, f"{user_id}, order {ref}: {', '.join(sorted(found))}")
    for redemption_id, uses in owners.items():
        if len(uses) > 1:
            verdict.found(Kind.TWO_IDS, f"{redemption_id}: {', '.join(map(str, sorted(uses)))}")
