"""The checker of redemptions: no alarm for what a correct checkout can do, and each wrong thing found and named."""

from typing import Any

import pytest

from faults.history import NO_ANSWER, NO_CONNECTION, Action, Checkout, Event, History, Request
from faults.history_check import check_history
from faults.redemption_check import IN_FORCE, answered_without
from faults.verdict import CampaignRows, Kind, RedemptionRow

APPLIED = [
    Request(campaign_id="c", user_id=user, start=0, end=1, status=202, sequence=number)
    for number, user in enumerate("ab", 1)
]
LOST: dict[str, Any] = {"status": NO_ANSWER, "code": "timeout"}
SUCCESS = {Action.REDEEM: (201, "redeemed"), Action.HOLD: (201, "held"), Action.CONFIRM: (200, "redeemed"),
           Action.RETURN: (200, "returned")}  # fmt: skip


def asked(
    action: str,
    start: float,
    end: float,
    *,
    order: str = "1",
    user: str = "a",
    status: int = 0,
    code: str = "",
    **more: Any,
) -> Checkout:
    """A success unless it has a code; the order "1" has the id "id-1"."""
    what = Action(action)
    usual, state = SUCCESS[what]
    named = {"redemption_id": f"id-{order}"} if what in (Action.CONFIRM, Action.RETURN) else {}
    body = {"id": f"id-{order}", "status": state, "order_ref": order, "user_id": user, "campaign": "c"}
    values = {"claimed_by": user, "body": {"code": code} if code else body | more.pop("body", {}), **named, **more}
    return Checkout(
        action=what, campaign_id="c", user_id=user, order_ref=order, start=start, end=end,
        status=status if code else status or usual, **values,
    )  # fmt: skip


def row(state: str, order: str = "1", *, user: str = "a", row_id: str = "", early: bool = False) -> RedemptionRow:
    return RedemptionRow(row_id or f"id-{order}", user, order, state, early)


def found(*checkouts: Checkout, rows: list[RedemptionRow], codes: dict[str, str] | None = None) -> set[Kind]:
    coupons = [("a", 1), ("b", 2)]
    campaign = CampaignRows(campaign_id="c", quantity=2, coupons=coupons, redemptions=rows, codes=codes or {})
    verdict = check_history(History(APPLIED, [], list(checkouts)), [campaign])
    return {finding.kind for finding in verdict.findings}


# --- each rule, broken by hand ---


def test_what_was_told_and_is_there_holds() -> None:
    assert found(asked("redeem", 2, 3), rows=[row("redeemed")]) == set()
    assert found(asked("hold", 2, 3, hold_sec=9), asked("confirm", 4, 5), rows=[row("redeemed")]) == set()


@pytest.mark.parametrize("rows", [[], [row("lapsed")], [row("returned")]])
def test_a_redemption_that_is_gone_is_lost(rows: list[RedemptionRow]) -> None:
    kinds = found(asked("redeem", 2, 3), rows=rows)
    assert kinds - {Kind.UNASKED} == {Kind.REDEMPTION_LOST}


def test_a_confirmed_hold_that_lapsed_is_lost() -> None:
    assert found(asked("hold", 2, 3, hold_sec=9), asked("confirm", 4, 5), rows=[row("lapsed")]) == {
        Kind.REDEMPTION_LOST
    }


def test_a_hold_may_lapse_and_must_not_vanish() -> None:
    told = asked("hold", 2, 3, hold_sec=1)
    assert found(told, rows=[row("lapsed")]) == set()
    assert found(told, rows=[row("lapsed", early=True)]) == {Kind.UNASKED}
    assert found(told, rows=[]) == {Kind.REDEMPTION_LOST}
    assert found(told, rows=[row("redeemed")]) == {Kind.UNASKED}, "nobody has confirmed it"


def test_a_return_that_was_lost_may_have_happened_or_not() -> None:
    told, lost = asked("redeem", 2, 3), asked("return", 4, 9, **LOST)
    assert found(told, lost, rows=[row("returned")]) == set()
    assert found(told, lost, rows=[row("redeemed")]) == set()
    never_sent = asked("return", 4, 9, status=NO_ANSWER, code=NO_CONNECTION)
    assert found(told, never_sent, rows=[row("returned")]) == {Kind.REDEMPTION_LOST, Kind.UNASKED}


@pytest.mark.parametrize("rows", [[], [row("redeemed")]])
def test_a_return_that_was_told_must_have_happened(rows: list[RedemptionRow]) -> None:
    assert found(asked("redeem", 2, 3), asked("return", 4, 5), rows=rows) == {Kind.RETURN_LOST}


def test_two_orders_that_were_both_told() -> None:
    one, other = asked("redeem", 2, 3), asked("redeem", 2, 3, order="2")
    assert found(one, other, rows=[row("redeemed")]) == {Kind.TWICE_LIVE, Kind.REDEMPTION_LOST}
    later = asked("redeem", 4, 5, order="2")
    assert Kind.TWICE_LIVE in found(one, later, rows=[row("redeemed"), row("redeemed", "2")])


def test_a_second_order_that_was_returned_at_once_lived_beside_the_first_all_the_same() -> None:
    one, other = asked("redeem", 2, 3), asked("redeem", 4, 5, order="2")
    rows = [row("redeemed"), row("returned", "2")]
    assert found(one, other, asked("return", 5, 6, order="2"), rows=rows) == {Kind.TWICE_LIVE}


def test_an_order_after_a_return_is_no_second_one() -> None:
    rows = [row("returned"), row("redeemed", "2")]
    first, other = asked("redeem", 2, 3), asked("redeem", 5, 6, order="2")
    assert found(first, asked("return", 4, 4.5), other, rows=rows) == set()
    assert found(first, asked("return", 4, 9, **LOST), other, rows=rows) == set(), "it happened before its end"
    late = asked("return", 7, 8)
    assert found(first, late, other, rows=rows) == {Kind.TWICE_LIVE}


def test_a_hold_keeps_others_away_until_its_time_is_over() -> None:
    rows = [row("lapsed"), row("redeemed", "2")]
    for start, kinds in [(4, {Kind.TWICE_LIVE}), (6.9, set()), (8, set())]:
        told = asked("hold", 2, 3, hold_sec=5), asked("redeem", start, start + 0.5, order="2")
        assert found(*told, rows=rows) == kinds, start


def test_two_live_rows_are_found_whatever_was_told() -> None:
    lost = asked("redeem", 2, 3, **LOST), asked("redeem", 2, 3, order="2", **LOST)
    assert found(*lost, rows=[row("redeemed"), row("redeemed", "2")]) == {Kind.TWICE_LIVE}


def test_one_id_for_an_order_and_one_order_for_an_id() -> None:
    twice = asked("redeem", 2, 3), asked("redeem", 4, 5, status=200, body={"id": "id-9"})
    assert found(*twice, rows=[row("redeemed")]) == {Kind.TWO_IDS}
    assert found(asked("redeem", 2, 3), rows=[row("redeemed", row_id="id-9")]) == {Kind.TWO_IDS}
    same = asked("redeem", 2, 3), asked("redeem", 2, 3, user="b", order="2", body={"id": "id-1"})
    assert found(*same, rows=[row("redeemed"), row("redeemed", "2", user="b")]) == {Kind.TWO_IDS}
    again = asked("redeem", 2, 3), asked("redeem", 4, 5, status=200)
    assert found(*again, rows=[row("redeemed")]) == set()


def test_nobody_gets_another_ones_coupon() -> None:
    theirs = asked("redeem", 2, 3, body={"user_id": "b"})
    assert found(theirs, rows=[row("redeemed")]) == {Kind.OTHERS_COUPON}
    other_order = asked("redeem", 2, 3, body={"order_ref": "2"})
    assert found(other_order, rows=[row("redeemed")]) == {Kind.OTHERS_COUPON}
    thief = asked("redeem", 2, 3, claimed_by="thief")
    assert found(thief, rows=[row("redeemed")]) == {Kind.OTHERS_COUPON}
    other_id = asked("redeem", 2, 3), asked("confirm", 4, 5, redemption_id="id-2")
    assert found(*other_id, rows=[row("redeemed")]) == {Kind.OTHERS_COUPON}


def test_a_code_is_its_coupon_s() -> None:
    looked = Checkout(action=Action.LOOK_UP, campaign_id="c", user_id="a", start=2, end=3, status=200,
                      body={"coupon_code": "A"})  # fmt: skip
    assert found(looked, rows=[], codes={"a": "A", "b": "B"}) == set()
    assert found(looked, rows=[], codes={"a": "B"}) == {Kind.OTHERS_COUPON}


def test_what_was_returned_does_not_live_again() -> None:
    story = asked("redeem", 2, 3), asked("return", 4, 5), asked("redeem", 6, 7, status=200)
    assert found(*story, rows=[row("returned")]) == {Kind.REVIVED}
    crossing = asked("redeem", 2, 3), asked("return", 4, 7), asked("redeem", 6, 8, status=200)
    assert found(*crossing, rows=[row("returned")]) == set(), "it may have been answered before the return"


THIEF = asked("redeem", 2, 3, order="2", claimed_by="thief", status=403, code="not-yours")
REASONS: dict[str, tuple[list[Checkout], list[RedemptionRow], bool]] = {
    "already-redeemed, and it is": ([asked("redeem", 2, 3, order="2")], [row("redeemed", "2")], True),
    "already-redeemed by an order without an answer": ([asked("redeem", 2, 3, order="2", **LOST)], [], True),
    "already-redeemed by nobody": ([], [], False),
    "already-redeemed by one who asked later": ([asked("redeem", 8, 9, order="2")], [row("redeemed", "2")], False),
    "already-redeemed by one who was refused": ([THIEF], [], False),
    "already-redeemed by one who returned it": (
        [asked("redeem", 2, 3, order="2"), asked("return", 3.1, 3.2, order="2")], [row("returned", "2")], False,
    ),
    "already-redeemed, and it is only held": ([asked("hold", 2, 3, order="2", hold_sec=9)], [row("held", "2")], False),
}  # fmt: skip


@pytest.mark.parametrize("case", REASONS.values(), ids=REASONS)
def test_a_refusal_needs_a_reason(case: tuple[list[Checkout], list[RedemptionRow], bool]) -> None:
    before, rows, is_right = case
    refused = asked("redeem", 4, 5, status=409, code="already-redeemed")
    assert found(*before, refused, rows=rows) == (set() if is_right else {Kind.REFUSED_WRONGLY})


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "not-found"),
        (400, "invalid"),
        (410, "expired"),
        (403, "not-yours"),
        (409, "order-returned"),
        (409, "held"),
    ],
)
def test_no_other_refusal_of_the_own_coupon_has_one(status: int, code: str) -> None:
    assert found(asked("redeem", 4, 5, status=status, code=code), rows=[]) == {Kind.REFUSED_WRONGLY}


def test_refusals_that_have_their_reason() -> None:
    thief = asked("redeem", 2, 3, claimed_by="thief", status=403, code="not-yours")
    limited = asked("redeem", 2, 3, status=429, code="too-many-requests")
    assert found(thief, limited, rows=[]) == set()
    held = asked("hold", 2, 3, order="2", hold_sec=9), asked("redeem", 4, 5, status=409, code="held")
    assert found(*held, rows=[row("held", "2")]) == set()
    hold = asked("hold", 2, 3, hold_sec=3)
    for end, kinds in [(4.5, {Kind.REFUSED_WRONGLY}), (5.5, set())]:
        ended = asked("confirm", 4, end, status=409, code="hold-ended")
        assert found(hold, ended, rows=[row("lapsed")]) == kinds, end


def test_nobody_redeems_what_no_shop_has_asked_for() -> None:
    assert found(asked("redeem", 2, 3, **LOST), rows=[row("redeemed", "7")]) == {Kind.UNASKED}
    refused = asked("redeem", 2, 3, claimed_by="thief", status=403, code="not-yours")
    assert found(refused, rows=[row("redeemed")]) == {Kind.UNASKED}
    assert found(asked("redeem", 2, 3, **LOST), rows=[row("returned")]) == {Kind.UNASKED}
    assert found(rows=[row("redeemed")]) == set(), "of a coupon that no shop of this history has seen"


# --- without Redis or Kafka ---


def test_what_was_answered_without_redis_or_kafka_is_counted() -> None:
    down = [
        ("redis: killed redis", 10, 20),
        ("consumer-1: process_killed consumer-1", 10, 20),
        ("link to kafka: held kafka", 30, 40),
        ("postgres: hanging postgres", 35, 50),
        ("kafka: hanging kafka", 52, 70),
    ]
    events = [
        Event(what=f"{prefix}{what}", start=start, end=end) for what, start, end in down for prefix in ("", IN_FORCE)
    ]
    checkouts = [
        asked("redeem", 11, 12),
        asked("redeem", 13, 14, status=409, code="held"),
        asked("redeem", 15, 16, status=503, code="unavailable"),
        asked("redeem", 17, 18, **LOST),
        asked("redeem", 18, 19, status=NO_ANSWER, code=NO_CONNECTION),  # its web server was down
        asked("redeem", 19, 21),  # it may have been answered when Redis was back
        asked("redeem", 31, 32),
        asked("redeem", 34, 36),  # PostgreSQL was down, too
        asked("redeem", 58, 59),  # PostgreSQL's standby may not be there again
        asked("redeem", 61, 62),
        asked("redeem", 80, 81),
    ]

    assert answered_without(History([], events, checkouts), ("redis", "kafka")) == (4, 6)
    assert answered_without(History([], [], checkouts), ("redis", "kafka")) == (0, 0)
