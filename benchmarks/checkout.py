"""The demo's shop: redeems some of the coupons over HTTP, holds and confirms others, and takes one back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import urllib3
from django.db.models import QuerySet

from coupons.models import Coupon
from coupons.redemption.coupon_lists import with_status

HOLD_SEC = 600
LEFT_HELD = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of which coupons; of few, each group has fewer. One of `redeemed` is returned."""

    redeemed: Sequence[Coupon]
    held: Sequence[Coupon]

    @classmethod
    def of(cls, coupons: Sequence[Coupon]) -> "Plan":
        first, second = (len(coupons) + 4) // 5, len(coupons) // 10
        return cls(coupons[:first], coupons[first : first + second])

    @property
    def confirmed(self) -> Sequence[Coupon]:
        return self.held[:-LEFT_HELD]

    def __str__(self) -> str:
        return (
            f"{len(self.redeemed)} redeemed, {len(self.held)} held and {len(self.confirmed)} of them confirmed, "
            f"{min(len(self.redeemed), 1)} returned"
        )


class Checkout:
    """`faults` lists what was not as it should be."""

    def __init__(self, *, url: str, api_key: str) -> None:
        self._url, self._headers = url, {"Authorization": f"Bearer {api_key}"}
        self._pool = urllib3.PoolManager(retries=False, timeout=10.0)
        self.faults: list[str] = []

    def carry_out(self, plan: Plan) -> None:
        """Repeats the first order, which changes nothing, and lets another order try its coupon, which is refused."""
        for coupon in plan.redeemed:
            self._redeem(coupon, 201)
        for coupon in plan.redeemed[:1]:
            again = self._redeem(coupon, 200)
            self._redeem(coupon, 409, order_ref="another")
            self._post(f"redemptions/{again['id']}/return", {"reason": "the customer cancelled"}, 200)
        for coupon in plan.held:
            held = self._redeem(coupon, 201, hold_sec=HOLD_SEC)
            if coupon in plan.confirmed:
                self._post(f"redemptions/{held['id']}/confirm", {}, 200)
        self._compare(plan)

    def _redeem(self, coupon: Coupon, status: int, **more: Any) -> dict[str, Any]:
        body = {"code": coupon.code, "order_ref": f"order {coupon.user_id}", "user_id": coupon.user_id, **more}
        return self._post("redemptions", body, status)

    def _post(self, path: str, body: dict[str, Any], status: int) -> dict[str, Any]:
        try:
            answer = self._pool.request("POST", f"{self._url}/{path}", json=body, headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            self.faults.append(f"POST {path}: {type(error).__name__}")
            return {"id": ""}
        document: dict[str, Any] = answer.json()
        if answer.status != status:
            self.faults.append(f"POST {path}: {answer.status} {document.get('code', '')}, expected {status}")
        return {"id": "", **document}

    def _compare(self, plan: Plan) -> None:
        in_use = [coupon.pk for coupon in [*plan.redeemed, *plan.held]]
        coupons: QuerySet[Any, Any] = with_status(Coupon.objects.filter(pk__in=in_use))
        statuses = list(coupons.values_list("status", flat=True))
        returned = min(len(plan.redeemed), 1)
        expected = {
            "unused": returned,
            "redeemed": len(plan.redeemed) - returned + len(plan.confirmed),
            "held": len(plan.held) - len(plan.confirmed),
        }
        found = {status: statuses.count(status) for status in expected}
        if found != expected:
            self.faults.append(f"of the coupons at the checkout {found} are as they should be, expected {expected}")
