"""A checkout for tests: coupons to redeem, requests that meet at a chosen moment, and what must hold of them."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from django.db import connection
from django.db.models import UniqueConstraint

from coupons.models import LIVE, Campaign, Coupon, CouponEvent, EventKind, Redemption, RedemptionState
from coupons.redemption import redeem
from coupons.runtime.failpoints import REDEMPTION_WRITTEN
from tests.support.database import delete_all_rows
from tests.support.http import Api
from tests.support.service import Service
from tests.support.tickets import admit, issue, ticket
from tests.support.waiting import wait_until

T = TypeVar("T")
MEET_WITHIN_SEC = 20.0


def coupon_of(service: Service, user_id: str = "42", *, campaign: Campaign | None = None, **terms: Any) -> Coupon:
    """An issued coupon, of a campaign with these terms if none is named. They may be such as no operator could set."""
    campaign = campaign or service.campaign(10)
    (sequence,) = admit(campaign, user_id)
    issue(ticket(campaign, user_id, sequence))
    set_terms(campaign, **terms)
    return Coupon.objects.get(campaign=campaign, user_id=user_id)


def set_terms(campaign: Campaign, **terms: Any) -> None:
    if terms:
        Campaign.objects.filter(pk=campaign.pk).update(**terms)


def kinds(coupon: Coupon) -> list[str]:
    return list(CouponEvent.objects.filter(coupon=coupon).order_by("id").values_list("kind", flat=True))


def states(coupon: Coupon) -> dict[str, str]:
    """order -> state"""
    return dict(Redemption.objects.filter(coupon=coupon).values_list("order_ref", "state"))


def assert_lives_are_whole() -> None:
    """Each coupon has one live redemption at most, a revoked one none, and each state has the event that made it."""
    for coupon in Coupon.objects.all():
        uses = Redemption.objects.filter(coupon=coupon)
        revoked = CouponEvent.objects.filter(coupon=coupon, kind=EventKind.REVOKED).count()
        assert uses.filter(LIVE).count() + revoked <= 1, f"{states(coupon)} {kinds(coupon)}"
        for use in uses:
            steps = [event.kind for event in use.events.order_by("id")]
            assert steps[-1] == use.state, f"order {use.order_ref} is {use.state}: {steps}"
            assert steps.count(EventKind.RETURNED) <= 1
            if use.state == RedemptionState.REDEEMED:
                assert use.redeemed_at is not None


def at_once(calls: Sequence[Callable[[Api], T]]) -> list[T]:
    """What each returns; all begin together, each on a thread and a connection of its own."""
    together = threading.Barrier(len(calls))

    def run(call: Callable[[Api], T]) -> T:
        try:
            api = Api()
            together.wait(MEET_WITHIN_SEC)
            return call(api)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


class Meeting:
    """Two requests for one coupon: the first has written its step and not committed it when the second begins, and
    commits when the second waits for it, or has done its work without waiting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._begun = False
        self._passed: list[int] = []
        self._seconds: list[Future[Any]] = []
        monkeypatch.setattr(redeem, "failpoint", self._pass)

    def of(self, first: Callable[[Api], Any], second: Callable[[Api], Any]) -> tuple[Any, Any]:
        """What they return."""
        self._begun, self._passed, self._seconds = True, [], []
        with ThreadPoolExecutor(2) as pool:
            firsts = pool.submit(self._run, first)
            wait_until(lambda: self._passed or firsts.done(), what="the first has written")
            assert self._passed, f"the first has written nothing: {firsts.result()}"
            self._seconds.append(pool.submit(self._run, second))
            return firsts.result(), self._seconds[0].result()

    def _run(self, call: Callable[[Api], Any]) -> Any:
        try:
            return call(Api())
        finally:
            connection.close()

    def _pass(self, point: str) -> None:
        if point != REDEMPTION_WRITTEN or not self._begun:
            return
        self._passed.append(threading.get_ident())
        if len(self._passed) == 1:
            wait_until(self._second_is_there, what="the second waits, or is through")

    def _second_is_there(self) -> bool:
        return bool(self._seconds) and (self._seconds[0].done() or len(self._passed) > 1 or waits_for_a_lock() > 0)


def waits_for_a_lock() -> int:
    """How many sessions do. (pg_stat_activity would say the same again and again within one transaction.)"""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
        return int(cursor.fetchone()[0])


@contextmanager
def without_unique_constraints() -> Iterator[None]:
    """Redemptions that nothing but the coupon's lock keeps apart; what was written meanwhile is deleted at the end."""
    constraints = [each for each in Redemption._meta.constraints if isinstance(each, UniqueConstraint)]
    assert len(constraints) == 2
    with connection.schema_editor() as editor:
        for each in constraints:
            editor.remove_constraint(Redemption, each)
    try:
        yield
    finally:
        delete_all_rows()
        with connection.schema_editor() as editor:
            for each in constraints:
                editor.add_constraint(Redemption, each)


@dataclass(frozen=True)
class Step:
    """A request that moves a coupon; `before` is how it has to be, and `kinds` are the coupon's events then."""

    before: str
    path: str
    body: dict[str, Any]
    kinds: list[str]
    first_status: int = 200


# `{code}` and `{id}` are the coupon's code, and the redemption of order 1001.
STEPS = {
    "redeem": Step("unused", "redemptions", {"code": "{code}", "order_ref": "1001"}, ["redeemed"], 201),
    "hold": Step("unused", "redemptions", {"code": "{code}", "order_ref": "1001", "hold_sec": 600}, ["held"], 201),
    "confirm": Step("held", "redemptions/{id}/confirm", {}, ["held", "redeemed"]),
    "return": Step("redeemed", "redemptions/{id}/return", {"reason": "cancelled"}, ["redeemed", "returned"]),
    "revoke": Step("held", "coupons/revoke", {"code": "{code}", "reason": "fraud"}, ["held", "returned", "revoked"]),
}


def prepare(coupon: Coupon, step: Step) -> tuple[str, dict[str, Any]]:
    """Brings the coupon to where the step begins; the step's path and body."""
    names = {"code": coupon.code}
    if step.before != "unused":
        body = {"code": coupon.code, "order_ref": "1001"} | ({"hold_sec": 600} if step.before == "held" else {})
        names["id"] = Api().post("redemptions", body).json()["id"]
    body = {name: value.format(**names) if isinstance(value, str) else value for name, value in step.body.items()}
    return step.path.format(**names), body
