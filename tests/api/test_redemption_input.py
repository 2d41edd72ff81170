"""What a checkout may send by mistake, or on purpose: each is 400 with the field's name, and nothing is written."""

from typing import Any

import pytest

from coupons.audit import MAX_REASON
from coupons.models import MAX_ORDER_REF_LENGTH, CouponEvent, Redemption
from coupons.redemption.codes import MAX_TYPED
from coupons.redemption.redeem import MAX_HOLD_SEC
from tests.support.checkout import coupon_of
from tests.support.http import Api, assert_problem, json_of
from tests.support.service import Service

NO_TEXTS: list[Any] = [None, 5, 5.5, True, [], ["1"], {}, {"code": "1"}, "", " ", "\0", "1\0", "\ud800", "1\udfff1"]
LONG = 10**4_000
BAD: dict[str, list[Any]] = {
    "code": [*NO_TEXTS, "0" * (MAX_TYPED + 1), "0" * 50_000, LONG],
    "order_ref": [*NO_TEXTS, "x" * (MAX_ORDER_REF_LENGTH + 1), "x" * 50_000, LONG],
    "user_id": [*NO_TEXTS, "x" * 129, ".", "..", "a b", "a/b", LONG],
    "hold_sec": [None, "60", 60.5, True, [], {}, 0, -1, MAX_HOLD_SEC + 1, LONG, -LONG],
    "reason": [*NO_TEXTS, "x" * (MAX_REASON + 1), LONG],
    "another": ["x", None],
    "": ["x"],
    "\0": ["x"],
    "\ud800": ["x"],
}
FIELDS = {
    "coupons/check": ("code", "user_id"),
    "redemptions": ("code", "order_ref", "user_id", "hold_sec"),
    "coupons/revoke": ("code", "reason"),
    "redemptions/{id}/return": ("reason",),
}
NEEDED = {"code", "order_ref", "reason"}


@pytest.mark.parametrize("path", FIELDS)
def test_a_wrong_value_is_named_and_nothing_is_written(api: Api, service: Service, path: str) -> None:
    coupon = coupon_of(service)
    held = json_of(api.post("redemptions", {"code": coupon.code, "order_ref": "1", "hold_sec": 600}))
    path = path.format(id=held["id"])
    good = {"code": coupon.code, "order_ref": "2", "user_id": "42", "hold_sec": 60, "reason": "because"}
    fields = FIELDS[path.replace(held["id"], "{id}")]
    body = {name: good[name] for name in fields}

    for field, values in BAD.items():
        if field in good and field not in fields:
            continue
        for value in values:
            document = assert_problem(api.post(path, {**body, field: value}), 400, "invalid")
            assert list(document["errors"]) == [field], (field, str(value)[:50])
    for field in NEEDED & set(fields):
        document = assert_problem(
            api.post(path, {name: body[name] for name in fields if name != field}), 400, "invalid"
        )
        assert list(document["errors"]) == [field]

    assert list(Redemption.objects.values_list("order_ref", "state")) == [("1", "held")]
    assert CouponEvent.objects.count() == 1


@pytest.mark.parametrize("path", FIELDS)
def test_what_is_no_object_is_refused(api: Api, service: Service, path: str) -> None:
    path = path.format(id="0198c7f2-5b1c-7d3e-9a41-3f6f0c2b7a10")
    for body in ("", "null", "[]", "5", '"code"', "[{}]", "{", '{"reason":"x","reason":"y"}', "{}\0", "\ud800"):
        raw = body.encode("utf-8", "surrogatepass")
        assert_problem(api.post(path, raw), 400, "invalid")


def test_a_list_s_parameters_are_checked(api: Api, service: Service) -> None:
    for name, value in (
        ("status", ""), ("status", "new"), ("status", "UNUSED"), ("status", "%00"), ("status", "unused&status=held"),
        ("limit", "0"), ("limit", "101"), ("limit", "x"), ("offset", "-1"), ("offset", "1000001"),
    ):  # fmt: skip
        document = assert_problem(api.get(f"users/42/coupons?{name}={value}"), 400, "invalid")
        assert list(document["errors"]) == [name]
    for user_id in ("%00", "a%20b", "%ED%A0%80", "x" * 129, "..%2f42", "%F0%9F%98%80"):
        assert api.get(f"users/{user_id}/coupons").status_code == 404


def test_texts_of_any_script_are_kept(api: Api, service: Service) -> None:
    coupon = coupon_of(service)
    order_ref, reason = "注文-1001/ü̈ 😀 'x\"; --", "line one\nline two\t\u202e"

    made = json_of(api.post("redemptions", {"code": coupon.code, "order_ref": order_ref}))
    api.post(f"redemptions/{made['id']}/return", {"reason": reason})

    assert made["order_ref"] == order_ref
    assert CouponEvent.objects.get(kind="returned").reason == reason
