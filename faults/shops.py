"""Shops during faults: they redeem, hold, confirm and return users' coupons, and repeat until the answer is final.

Often several orders, or one order several times, ask for the same coupon at the same time. Every request goes into the
history, which redemption_check.py judges.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from faults.client import Client, Exchange, Message
from faults.history import Action, Checkout, HistoryWriter
from faults.http_client import get_request, json_request
from faults.tally import Tally
from faults.visits import Habits, wait_for

REGULARS = 12
"""The first users are everybody's customers, so that shops meet at their coupons."""
PAUSE_SEC = 0.25
LOOK_UP_SEC = 10.0
HOLD_SEC = (1, 2, 20)
Coupon = tuple[str, str]  # campaign, user


class Shops:
    """`run` lets one of them work; all share the codes that they have looked up."""

    def __init__(
        self,
        client: Callable[[int], Client],
        tally: Tally,
        history: HistoryWriter,
        habits: Habits,
        *,
        api_key: str,
        name: str,
    ) -> None:
        self.client, self.tally, self.history, self.habits = client, tally, history, habits
        self.api_key = api_key
        self.name = name
        self.codes: dict[Coupon, str] = {}

    async def run(self, number: int, closing: asyncio.Event, stop_now: asyncio.Event) -> None:
        """Ends once `closing` is set and the order in hand has its final answers, or `stop_now` is set."""
        shop = _Shop(self, number, stop_now)
        while not closing.is_set():
            if self.tally.promised_users:
                await shop.serve()
            await wait_for(closing, PAUSE_SEC)
        shop.close()


class _Shop:
    def __init__(self, shops: Shops, number: int, stop_now: asyncio.Event) -> None:
        self._shops = shops
        self._stop_now = stop_now
        self._random = random.Random(f"{shops.habits.seed}.shop.{number}")
        self._clients = [shops.client(number), shops.client(number + 1)]
        self._orders = (f"{shops.name}shop{number}-{order}" for order in itertools.count())

    def close(self) -> None:
        for client in self._clients:
            client.close()

    async def serve(self) -> None:
        """One customer with a coupon. What the shop does was decided by chance."""
        coupon, order = self._choose(), next(self._orders)
        if not await self._look_up(coupon):
            return
        ways = {self._redeem: 4, self._twice: 2, self._rivals: 2, self._hold: 4, self._foreign: 1}
        [checkout] = self._random.choices(list(ways), list(ways.values()))
        redemption_id = await checkout(coupon, order)
        if redemption_id and self._random.random() < 0.2:
            await self._ask(Action.REDEEM, coupon, order)  # as after an answer that was lost
        if redemption_id and self._random.random() < 0.7:
            await self._ask(Action.RETURN, coupon, order, redemption_id=redemption_id)
            if self._random.random() < 0.2:
                again = self._random.choice([Action.REDEEM, Action.RETURN])
                await self._ask(again, coupon, order, redemption_id=redemption_id)

    def _choose(self) -> Coupon:
        users = self._shops.tally.promised_users
        return self._random.choice(users[:REGULARS] if self._random.random() < 0.4 else users[-200:])

    # --- what happens at the checkout; each returns the redemption's id, if it got one ---

    async def _redeem(self, coupon: Coupon, order: str) -> str:
        return await self._ask(Action.REDEEM, coupon, order)

    async def _twice(self, coupon: Coupon, order: str) -> str:
        """The customer has clicked twice."""
        first, second = await asyncio.gather(
            self._ask(Action.REDEEM, coupon, order), self._ask(Action.REDEEM, coupon, order, client=1)
        )
        return first or second

    async def _rivals(self, coupon: Coupon, order: str) -> str:
        """Two baskets of one customer, in two windows."""
        first, _ = await asyncio.gather(
            self._ask(Action.REDEEM, coupon, order), self._ask(Action.REDEEM, coupon, next(self._orders), client=1)
        )
        return first

    async def _hold(self, coupon: Coupon, order: str) -> str:
        hold_sec = self._random.choice(HOLD_SEC)
        redemption_id = await self._ask(Action.HOLD, coupon, order, hold_sec=hold_sec)
        if not redemption_id:
            return ""
        await wait_for(self._stop_now, self._random.choice([0.0, 0.1, 1.5]))
        end = self._random.choice([Action.CONFIRM, Action.CONFIRM, Action.REDEEM, None])
        if end is not None:
            await self._ask(end, coupon, order, redemption_id=redemption_id)
        return redemption_id

    async def _foreign(self, coupon: Coupon, order: str) -> str:
        """Somebody has found the code."""
        await self._ask(Action.REDEEM, coupon, order, claimed_by=f"{coupon[1]}-thief")
        return ""

    # --- requests ---

    async def _look_up(self, coupon: Coupon) -> bool:
        """Whether the coupon's code is known: it is once the coupon has been issued."""
        campaign_id, user_id = coupon
        message = partial(get_request, path=f"/api/v1/users/{user_id}/coupons", api_key=self._shops.api_key)
        until = time.monotonic() + LOOK_UP_SEC
        while coupon not in self._shops.codes and time.monotonic() < until and not self._stop_now.is_set():
            done = await self._clients[0].send(message)
            for listed in done.document.get("results", []):
                if listed["campaign"] == campaign_id:
                    self._record(Action.LOOK_UP, coupon, done, body={"coupon_code": listed["code"]})
                    self._shops.codes[coupon] = listed["code"]
                    return True
            await wait_for(self._stop_now, PAUSE_SEC)
        return coupon in self._shops.codes

    async def _ask(
        self,
        action: Action,
        coupon: Coupon,
        order: str,
        *,
        redemption_id: str = "",
        claimed_by: str = "",
        hold_sec: float | None = None,
        client: int = 0,
    ) -> str:
        """Repeats the request until the answer is final. Returns the redemption's id if it is a success."""
        claimed_by = claimed_by or coupon[1]
        path, body = "/api/v1/redemptions", self._body(coupon, order, claimed_by, hold_sec)
        if action is Action.CONFIRM:
            path, body = f"{path}/{redemption_id}/confirm", {}
        elif action is Action.RETURN:
            path, body = f"{path}/{redemption_id}/return", {"reason": "the customer cancelled"}
        message: Message = partial(json_request, path=path, api_key=self._shops.api_key, body=body)
        named = {"order_ref": order, "claimed_by": claimed_by, "hold_sec": hold_sec, "redemption_id": redemption_id}
        began = time.monotonic()
        while True:
            done = await self._clients[client].send(message)
            self._record(action, coupon, done, body=done.document, **named)
            if done.status in (200, 201):
                return str(done.document.get("id", ""))
            gives_up = self._stop_now.is_set() or done.end - began > self._shops.habits.give_up_after_sec
            if gives_up or (0 < done.status < 500 and done.status != 429):
                return ""
            await wait_for(self._stop_now, min(done.wait_sec or PAUSE_SEC, self._shops.habits.max_wait_sec))

    def _body(self, coupon: Coupon, order: str, claimed_by: str, hold_sec: float | None) -> dict[str, Any]:
        body: dict[str, Any] = {"code": self._shops.codes[coupon], "order_ref": order, "user_id": claimed_by}
        return body if hold_sec is None else {**body, "hold_sec": hold_sec}

    def _record(self, action: Action, coupon: Coupon, done: Exchange, **more: Any) -> None:
        self._shops.history.checkout(
            Checkout(
                action=action,
                campaign_id=coupon[0],
                user_id=coupon[1],
                start=done.start,
                end=done.end,
                status=done.status,
                address=done.address,
                **more,
            )
        )
