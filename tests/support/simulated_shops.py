"""Histories of a correct checkout: shops ask for one campaign's coupons at random, and some answers are lost.

Each request takes effect at one moment between its start and its end, or later if nobody heard its answer.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from faults.history import NO_ANSWER, NO_CONNECTION, Action, Checkout, History, Request
from faults.verdict import CampaignRows, RedemptionRow

CAMPAIGN = "c"
USERS = ("a", "b", "d")
MAX_ATTEMPTS = 3


@dataclass(slots=True)
class Use:
    """A redemption."""

    id: str
    state: str
    hold_until: float = 0.0


@dataclass(slots=True)
class SimulatedCoupon:
    """What redeem.py does, in a few lines."""

    user_id: str
    uses: dict[str, Use] = field(default_factory=dict)
    ids: Callable[[], str] = lambda: ""

    def decide(self, action: Action, order: str, claimed_by: str, hold_sec: float, now: float) -> tuple[int, Any]:
        use = self.uses.get(order)
        if action in (Action.REDEEM, Action.HOLD):
            return self._redeem(use, order, claimed_by, hold_sec, now)
        assert use is not None
        if action is Action.RETURN:
            use.state = "returned"
        elif use.state == "returned":
            return 409, "order-returned"
        elif use.state != "redeemed" and not self._is_held(use, now):
            return 409, "hold-ended"
        else:
            use.state = "redeemed"
        return 200, use

    def _redeem(self, use: Use | None, order: str, claimed_by: str, hold_sec: float, now: float) -> tuple[int, Any]:
        if claimed_by != self.user_id:
            return 403, "not-yours"
        if use is not None and (use.state == "redeemed" or self._is_held(use, now)):
            use.state = use.state if hold_sec else "redeemed"
            return 200, use
        live = next((each for each in self.uses.values() if each.state in ("held", "redeemed")), None)
        if live is not None and (live.state == "redeemed" or self._is_held(live, now)):
            return 409, "already-redeemed" if live.state == "redeemed" else "held"
        if use is not None and use.state == "returned":
            return 409, "order-returned"
        if live is not None:
            live.state = "lapsed"
        use = self.uses.setdefault(order, Use(self.ids(), ""))
        use.state, use.hold_until = ("held", now + hold_sec) if hold_sec else ("redeemed", 0.0)
        return 201, use

    def _is_held(self, use: Use, now: float) -> bool:
        return use.state == "held" and use.hold_until > now


class ShopSimulation:
    """`run()` once: the history, and the rows in the end."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 1_000.0
        asked = [Request(campaign_id=CAMPAIGN, user_id=user, start=1, end=2, status=202, sequence=number)
                 for number, user in enumerate(USERS, 1)]  # fmt: skip
        self.history = History(asked, [])
        numbers = itertools.count(1)
        self.coupons = {user: SimulatedCoupon(user, ids=lambda: f"id-{next(numbers)}") for user in USERS}
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def run(self) -> tuple[History, CampaignRows]:
        for user in USERS:
            self._end(Action.LOOK_UP, user, "", self.now, 200, {"coupon_code": f"code of {user}"})
        for number in range(self.random.randint(4, 25)):
            when, user = self.random.uniform(0, 3), self.random.choice(USERS)
            what = self.random.choice([Action.REDEEM, Action.REDEEM, Action.HOLD])
            self._after(when, lambda what=what, user=user, number=number: self._ask(what, user, f"o{number}"))  # type: ignore[misc]
            if self.random.random() < 0.2:  # twice at the same time
                self._after(when, lambda what=what, user=user, number=number: self._ask(what, user, f"o{number}"))  # type: ignore[misc]
        while self._queue:
            self.now, _, act = heapq.heappop(self._queue)
            act()
        return self.history, self._rows()

    def _after(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._numbers), act))

    def _ask(self, action: Action, user: str, order: str, attempt: int = 1, *, redemption_id: str = "") -> None:
        start, fate = self.now, self.random.random()
        claimed = f"{user}-thief" if action is Action.REDEEM and self.random.random() < 0.05 else user
        asked: dict[str, Any] = {
            "claimed_by": claimed,
            "hold_sec": self.random.choice([0.3, 5]) if action is Action.HOLD else None,
        }
        asked["redemption_id"] = redemption_id

        def decide() -> tuple[int, Any]:
            return self.coupons[user].decide(action, order, claimed, asked["hold_sec"] or 0, self.now)

        def end(status: int, body: dict[str, Any]) -> None:
            self._end(action, user, order, start, status, body, **asked)
            if status in (NO_ANSWER, 503) and attempt < MAX_ATTEMPTS:
                again = lambda: self._ask(action, user, order, attempt + 1, redemption_id=redemption_id)  # noqa: E731
                self._after(self.random.uniform(0.05, 0.5), again)
            elif status in (200, 201):
                self._go_on(action, user, order, body["id"])

        def answer() -> None:
            status, told = decide()
            body = {"code": told} if isinstance(told, str) else self._body(user, order, told)
            self._after(self.random.choice([0.001, 0.1, 0.6]), lambda: end(status, body))

        if fate < 0.05:
            end(NO_ANSWER, {"code": NO_CONNECTION})
        elif fate < 0.1:  # a server was down
            self._after(0.1, lambda: end(503, {"code": "unavailable"}))
        elif fate < 0.3:  # the answer is lost, and the request takes effect: before or after the client gave up
            self._after(self.random.uniform(0.001, 0.9), decide)
            self._after(0.3, lambda: end(NO_ANSWER, {"code": "timeout"}))
        else:
            self._after(self.random.uniform(0.001, 0.1), answer)

    def _go_on(self, action: Action, user: str, order: str, redemption_id: str) -> None:
        if action is Action.HOLD:
            follow = self.random.choice([Action.CONFIRM, Action.REDEEM, Action.RETURN, None])
        else:
            follow = self.random.choice([Action.RETURN, Action.REDEEM, None]) if action is not Action.RETURN else None
        if action is Action.RETURN and self.random.random() < 0.3:
            follow = self.random.choice([Action.REDEEM, Action.RETURN])
        if follow is not None:
            wait_sec = self.random.choice([0.01, 0.4, 1.0])
            self._after(wait_sec, lambda: self._ask(follow, user, order, redemption_id=redemption_id))

    def _body(self, user: str, order: str, use: Use) -> dict[str, Any]:
        return {"id": use.id, "status": use.state, "order_ref": order, "user_id": user, "campaign": CAMPAIGN}

    def _end(
        self, action: Action, user: str, order: str, start: float, status: int, body: dict[str, Any], **more: Any
    ) -> None:
        self.history.checkouts.append(
            Checkout(action=action, campaign_id=CAMPAIGN, user_id=user, order_ref=order, start=start, end=self.now,
                     status=status, body=body, **more)
        )  # fmt: skip

    def _rows(self) -> CampaignRows:
        """Once all is quiet."""
        return CampaignRows(
            campaign_id=CAMPAIGN,
            quantity=len(USERS),
            coupons=[(user, number) for number, user in enumerate(USERS, 1)],
            codes={user: f"code of {user}" for user in USERS},
            redemptions=[
                RedemptionRow(use.id, user, order, use.state)
                for user, coupon in self.coupons.items()
                for order, use in coupon.uses.items()
            ],
        )
