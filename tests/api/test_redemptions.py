"""The checkout: check, redeem, hold, confirm, return, revoke, and a user's own coupons."""

from datetime import timedelta
from uuid import uuid4

from coupons.models import Coupon, Redemption
from coupons.runtime.clock import database_now
from tests.support.checkout import coupon_of, kinds
from tests.support.http import Api, assert_problem, json_of
from tests.support.issuer import Issuer
from tests.support.service import Service


def test_a_coupon_is_checked_redeemed_and_returned(api: Api, service: Service) -> None:
    coupon = coupon_of(service, metadata={"value": 5000})
    checked = api.post("coupons/check", {"code": coupon.code, "user_id": "42"})

    assert json_of(checked) == {
        "redeemable": True,
        "reasons": [],
        "campaign": str(coupon.campaign_id),
        "status": "unused",
        "valid_from": None,
        "valid_until": None,
        "metadata": {"value": 5000},
    }

    answer = api.post("redemptions", {"code": coupon.code, "order_ref": "1001", "user_id": "42"})
    document = json_of(answer)

    assert answer.status_code == 201
    assert document["status"] == "redeemed"
    assert (document["order_ref"], document["user_id"], document["sequence"]) == ("1001", "42", 1)
    assert document["metadata"] == {"value": 5000}
    assert answer["Location"] == f"/api/v1/redemptions/{document['id']}"
    assert json_of(api.get(f"redemptions/{document['id']}")) == document

    again = api.post("redemptions", {"code": coupon.code, "order_ref": "1001", "user_id": "42"})
    assert (again.status_code, json_of(again)) == (200, document)
    assert_problem(api.post("redemptions", {"code": coupon.code, "order_ref": "1002"}), 409, "already-redeemed")

    returned = api.post(f"redemptions/{document['id']}/return", {"reason": "cancelled"})
    assert json_of(returned) == {**document, "status": "returned"}
    assert json_of(api.post(f"redemptions/{document['id']}/return", {"reason": "again"})) == json_of(returned)
    assert_problem(api.post("redemptions", {"code": coupon.code, "order_ref": "1001"}), 409, "order-returned")
    assert api.post("redemptions", {"code": coupon.code, "order_ref": "1002"}).status_code == 201
    assert kinds(coupon) == ["redeemed", "returned", "redeemed"]


def test_a_hold_is_confirmed(api: Api, service: Service) -> None:
    coupon = coupon_of(service)
    answer = api.post("redemptions", {"code": coupon.code, "order_ref": "1001", "hold_sec": 600})
    held = json_of(answer)
    assert (answer.status_code, held["status"]) == (201, "held")
    assert held["hold_until"] is not None

    other = api.post("redemptions", {"code": coupon.code, "order_ref": "1002"})
    assert_problem(other, 409, "held")
    assert 590 <= int(other["Retry-After"]) <= 600
    same = api.post("redemptions", {"code": coupon.code, "order_ref": "1001", "hold_sec": 60})
    assert (same.status_code, json_of(same)) == (200, held), "a repeat does not move the hold's end"

    confirmed = json_of(api.post(f"redemptions/{held['id']}/confirm", {}))

    assert (confirmed["id"], confirmed["status"]) == (held["id"], "redeemed")
    assert json_of(api.post(f"redemptions/{held['id']}/confirm", {})) == confirmed
    assert kinds(coupon) == ["held", "redeemed"]


def test_a_redemption_of_the_order_that_holds_confirms(api: Api, service: Service) -> None:
    coupon = coupon_of(service)
    held = json_of(api.post("redemptions", {"code": coupon.code, "order_ref": "1001", "hold_sec": 600}))

    answer = api.post("redemptions", {"code": coupon.code, "order_ref": "1001"})

    assert (answer.status_code, json_of(answer)["status"]) == (200, "redeemed")
    assert json_of(answer)["id"] == held["id"]


def test_a_hold_ends_by_the_clock_alone(api: Api, service: Service) -> None:
    coupon = coupon_of(service)
    held = json_of(api.post("redemptions", {"code": coupon.code, "order_ref": "1001", "hold_sec": 600}))
    Redemption.objects.update(hold_until=database_now())

    assert json_of(api.post("coupons/check", {"code": coupon.code}))["status"] == "unused"
    assert_problem(api.post(f"redemptions/{held['id']}/confirm", {}), 409, "hold-ended")
    assert api.post("redemptions", {"code": coupon.code, "order_ref": "1002", "hold_sec": 600}).status_code == 201
    assert_problem(api.post("redemptions", {"code": coupon.code, "order_ref": "1001"}), 409, "held")
    assert kinds(coupon) == ["held", "lapsed", "held"]

    Redemption.objects.filter(order_ref="1002").update(hold_until=database_now())
    answer = api.post("redemptions", {"code": coupon.code, "order_ref": "1001"})
    assert (answer.status_code, json_of(answer)["id"]) == (201, held["id"]), "nobody gave the order's coupon back"


def test_an_order_that_holds_again_leaves_a_trace_of_the_hold_that_ended(api: Api, service: Service) -> None:
    coupon = coupon_of(service)
    order = {"code": coupon.code, "order_ref": "1001", "hold_sec": 600}
    held = json_of(api.post("redemptions", order))
    Redemption.objects.update(hold_until=database_now())

    again = api.post("redemptions", order)

    assert (again.status_code, json_of(again)["id"]) == (201, held["id"])
    assert kinds(coupon) == ["held", "lapsed", "held"]


def test_each_obstacle_has_its_answer(api: Api, service: Service) -> None:
    now = database_now()
    early = coupon_of(service, valid_from=now + timedelta(days=1))
    late = coupon_of(service, valid_until=now)
    days = coupon_of(service, valid_days=1)
    Coupon.objects.filter(pk=days.pk).update(issued_at=now - timedelta(days=1))
    gone = coupon_of(service)
    api.post("coupons/revoke", {"code": gone.code, "reason": "fraud"})

    for coupon, user_id, status, code in (
        (early, "42", 409, "not-valid-yet"),
        (late, "42", 410, "expired"),
        (days, "42", 410, "expired"),
        (gone, "42", 410, "revoked"),
        (coupon_of(service), "43", 403, "not-yours"),
    ):
        body = {"code": coupon.code, "user_id": user_id}
        assert_problem(api.post("redemptions", {**body, "order_ref": "1"}), status, code)
        checked = json_of(api.post("coupons/check", body))
        assert (checked["redeemable"], checked["reasons"]) == (False, [code])
    assert_problem(api.post("redemptions", {"code": "0" * 16, "order_ref": "1"}), 404, "not-found")
    assert not Redemption.objects.exists()


def test_a_revoked_coupon_stays_revoked(api: Api, service: Service) -> None:
    coupon = coupon_of(service)
    held = json_of(api.post("redemptions", {"code": coupon.code, "order_ref": "1001", "hold_sec": 600}))

    revoked = api.post("coupons/revoke", {"code": coupon.code, "reason": "fraud"})

    assert json_of(revoked) == {"status": "revoked", "campaign": str(coupon.campaign_id), "user_id": "42"}
    assert json_of(api.post("coupons/revoke", {"code": coupon.code, "reason": "again"})) == json_of(revoked)
    assert_problem(api.post(f"redemptions/{held['id']}/confirm", {}), 409, "order-returned")
    assert_problem(api.post("redemptions", {"code": coupon.code, "order_ref": "1001"}), 410, "revoked")
    assert kinds(coupon) == ["held", "returned", "revoked"]


def test_a_redeemed_coupon_is_not_revoked(api: Api, service: Service) -> None:
    coupon = coupon_of(service)
    api.post("redemptions", {"code": coupon.code, "order_ref": "1001"})

    assert_problem(api.post("coupons/revoke", {"code": coupon.code, "reason": "fraud"}), 409, "already-redeemed")


def test_codes_are_read_as_people_type_them(api: Api, service: Service) -> None:
    coupon = coupon_of(service)
    typed = coupon.code.lower().replace("-", " ").replace("0", "o").replace("1", "l")

    assert json_of(api.post("coupons/check", {"code": typed}))["redeemable"] is True
    for wrong in ("", "ABC", coupon.code[:-1], coupon.code.replace(coupon.code[0], "U"), 5, None):
        answer = api.post("coupons/check", {"code": wrong})
        assert_problem(answer, 400, "invalid")
        assert list(json_of(answer)["errors"]) == ["code"]
    other = "0" if coupon.code[0] != "0" else "2"
    problem = json_of(api.post("coupons/check", {"code": other + coupon.code[1:]}))
    assert problem["errors"] == {"code": ["A letter or digit is wrong, or two have changed places."]}


def test_a_user_sees_the_own_coupons_with_codes(api: Api, service: Service, issuer: Issuer) -> None:
    coupon = coupon_of(service)
    coupon_of(service, "43")
    user = Api(issuer.bearer("42"))

    document = json_of(user.get("users/42/coupons"))

    assert document["count"] == 1
    assert document["results"][0]["code"] == coupon.code
    assert document["results"][0]["status"] == "unused"
    assert json_of(user.get("users/42/coupons?status=redeemed"))["count"] == 0
    assert_problem(user.get("users/43/coupons"), 403, "forbidden")
    assert_problem(user.get("users/42/coupons?status=new"), 400, "invalid")
    assert_problem(user.post("redemptions", {"code": coupon.code, "order_ref": "1"}), 403, "forbidden")


def test_unknown_redemptions_are_not_found(api: Api, service: Service) -> None:
    for redemption_id in (uuid4(), "1", "%00"):
        assert_problem(api.get(f"redemptions/{redemption_id}"), 404, "not-found")
        assert_problem(api.post(f"redemptions/{redemption_id}/confirm", {}), 404, "not-found")
        assert_problem(api.post(f"redemptions/{redemption_id}/return", {"reason": "x"}), 404, "not-found")


def test_validity_may_only_grow_once_users_were_told(api: Api, service: Service) -> None:
    now = database_now()
    campaign = service.campaign(10, opened=False)
    path = f"campaigns/{campaign.pk}"
    first = {"valid_from": now.isoformat(), "valid_days": 30, "metadata": {"value": 1}}
    assert {**json_of(api.patch(path, first)), **first} == json_of(api.patch(path, first))
    api.act(campaign, "open")

    for change in ({"valid_from": (now + timedelta(days=1)).isoformat()}, {"valid_days": 29}):
        assert_problem(api.patch(path, change), 409, "conflict")
    until = (now + timedelta(days=90)).isoformat()
    assert_problem(api.patch(path, {"valid_days": None, "valid_until": until}), 409, "conflict")
    api.act(campaign, "close")
    longer = {"valid_from": None, "valid_days": 31, "metadata": {"value": 2}}
    assert {**json_of(api.patch(path, longer)), **longer} == json_of(api.patch(path, longer))
    assert_problem(api.patch(path, {"quantity": 11}), 409, "conflict")
    assert_problem(api.patch(path, {"metadata": {"text": "x" * 4_096}}), 409, "conflict")
    assert_problem(api.patch(path, {"metadata": {"text": "\0"}}), 409, "conflict")
