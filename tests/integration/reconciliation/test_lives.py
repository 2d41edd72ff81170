"""Coupons by status in the ledger, and what their redemptions and events tell; test_corruptions.py has the kinds."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from coupons.models import Campaign, Coupon, CouponEvent, Redemption
from coupons.reconciliation.ledger import Ledger
from coupons.reconciliation.reconcile import Reconciliation
from coupons.redemption.coupon_life import CouponStatus, life_of_code
from coupons.redemption.redeem import redeem, return_redemption, revoke_coupon
from faults.ledgers import reconcile
from tests.support.commands import run
from tests.support.life_corruptions import past_every_trigger
from tests.support.service import Service
from tests.support.tickets import admit, consume, issue, received, ticket
from tests.support.waiting import wait_until

CALLER: Any = {"actor": "test", "may_touch": lambda campaign_id: True}
USERS = ("unused", "held", "lapsed", "redeemed", "returned", "revoked")


def ledger_of(campaign: Campaign) -> Ledger:
    [ledger] = reconcile(campaign_ids=[campaign.pk])
    return ledger


def use(coupon: Coupon, order_ref: str = "1", *, hold_sec: int | None = None) -> Redemption:
    result = redeem(code=coupon.code, order_ref=order_ref, user_id=None, hold_sec=hold_sec, **CALLER)
    return Redemption.objects.get(pk=result.use.id)


def issued(campaign: Campaign, *users: str) -> dict[str, Coupon]:
    issue(*(ticket(campaign, *each) for each in zip(users, admit(campaign, *users), strict=True)))
    return {coupon.user_id: coupon for coupon in Coupon.objects.filter(campaign=campaign)}


@pytest.fixture
def lived(service: Service) -> Campaign:
    """A coupon of each status, of users whose names say which."""
    campaign = service.campaign(10)
    coupons = issued(campaign, *USERS)
    for name in ("held", "lapsed"):
        use(coupons[name], hold_sec=600)
    Redemption.objects.filter(coupon=coupons["lapsed"]).update(hold_until=Now())
    use(coupons["redeemed"])
    return_redemption(redemption_id=use(coupons["returned"]).pk, reason="test", **CALLER)
    revoke_coupon(code=coupons["revoked"].code, reason="test", **CALLER)
    return campaign


def test_coupons_are_counted_by_status(lived: Campaign) -> None:
    ledger = ledger_of(lived)

    assert ledger.closes, ledger.document()
    assert ledger.issued == sum(ledger.statuses.values()) == 6
    assert ledger.statuses == {"unused": 3, "held": 1, "redeemed": 1, "revoked": 1, "expired": 0}


def test_it_counts_what_the_api_says_of_each_coupon(lived: Campaign) -> None:
    Campaign.objects.filter(pk=lived.pk).update(valid_until=Now() - timedelta(hours=1))
    Redemption.objects.update(created_at=F("created_at") - timedelta(hours=2))
    lives = [life_of_code(code) for code in Coupon.objects.values_list("code", flat=True)]

    ledger = ledger_of(lived)

    assert ledger.closes, ledger.document()
    said = [life.status for life in lives if life is not None]
    assert ledger.statuses == {status: said.count(status) for status in CouponStatus}
    assert ledger.statuses[CouponStatus.EXPIRED] == 3, "an expired coupon that is held or redeemed stays so"


def test_an_unloaded_campaign_s_coupons_are_counted_and_compared(lived: Campaign) -> None:
    Campaign.objects.filter(pk=lived.pk).update(state="closed", unloaded_at=Now())
    with past_every_trigger():
        CouponEvent.objects.filter(coupon__user_id="redeemed")._raw_delete("default")
    lived.refresh_from_db()

    with Reconciliation(campaign_ids=[lived.pk]) as looking:
        ledger = looking.rows_of(lived)

    assert ledger.unloaded
    assert (ledger.issued, ledger.statuses[CouponStatus.REDEEMED]) == (6, 1)
    assert {str(kind): found.examples for kind, found in ledger.differences.items()} == {
        "redemption-without-event": ["redeemed #4, order 1"]
    }
    assert not ledger.closes


def test_another_campaign_s_coupons_are_not_this_one_s(service: Service, lived: Campaign) -> None:
    other = service.campaign(10)
    use(issued(other, "redeemed")["redeemed"], order_ref="1")

    assert ledger_of(other).statuses[CouponStatus.REDEEMED] == ledger_of(lived).statuses[CouponStatus.REDEEMED] == 1


def test_events_need_no_order(service: Service) -> None:
    """The clock of a standby that took over is behind, and ids of events are given again after the sequence was set
    back: neither is a difference."""
    campaign = service.campaign(10)
    coupon = issued(campaign, "a")["a"]
    for _ in range(2):
        use(coupon, hold_sec=600)
        Redemption.objects.update(hold_until=Now())
        use(coupon, order_ref="2", hold_sec=600)
        Redemption.objects.update(hold_until=Now())
    return_redemption(redemption_id=use(coupon).pk, reason="test", **CALLER)
    with past_every_trigger():
        CouponEvent.objects.update(id=1_000_000 - F("id"), at=Now() - (F("at") - Now()))

    assert sorted(CouponEvent.objects.values_list("kind", flat=True)) == [
        *["held"] * 4, *["lapsed"] * 4, "redeemed", "returned",
    ]  # fmt: skip
    assert ledger_of(campaign).closes


def test_it_closes_while_coupons_are_redeemed_and_returned(service: Service) -> None:
    campaign = service.campaign(100)
    coupons = list(issued(campaign, *(f"u{number}" for number in range(40))).values())

    with busy_shops(coupons) as orders:
        for _ in range(10):
            before = orders[0]
            with Reconciliation(campaign_ids=[campaign.pk]) as looking:
                ledger = looking.ledger_of(campaign)
                assert ledger.closes, ledger.document()
                assert looking.find_orphans().closes
            wait_until(lambda before=before: orders[0] > before, what="another order")  # type: ignore[misc]

    assert ledger_of(campaign).statuses[CouponStatus.UNUSED] == 40


def test_reconcile_prints_the_coupons_by_status(service: Service) -> None:
    campaign = service.campaign(10)
    consume(received(campaign, "a", admit(campaign, "a")[0]))

    for ran in (run("reconcile_campaigns"), run("reconcile_campaigns", campaign.pk)):
        first, second = ran.out.splitlines()
        assert first.endswith("tickets 1 = issued 1 + failed 0 + pending 0 (quantity 10): closes")
        assert second == "  issued 1 = unused 1 + held 0 + redeemed 0 + revoked 0 + expired 0"


def test_reconcile_names_redemptions_of_no_coupon_when_it_looks_at_all(service: Service) -> None:
    campaign = service.campaign()
    with past_every_trigger():
        Redemption.objects.create(coupon_id=1, order_ref="1001", state="redeemed", redeemed_at=Now())
    ran = run("reconcile_campaigns")

    assert ran.code == 1
    assert "of no campaign:\n  redemption-without-coupon x 1: a redemption whose coupon is not there" in ran.out
    assert "    order 1001, redemption " in ran.out
    assert "  -> manage.py dbshell" in ran.out
    [found] = json.loads(run("reconcile_campaigns", "--json").out)["orphans"]["differences"]
    assert (found["kind"], found["count"]) == ("redemption-without-coupon", 1)
    assert run("reconcile_campaigns", campaign.pk).code == 0
    assert json.loads(run("reconcile_campaigns", campaign.pk, "--json").out)["orphans"] is None


@contextmanager
def busy_shops(coupons: list[Coupon]) -> Iterator[list[int]]:
    """Two of them hold, redeem and return coupons without a pause. Yields how many orders there were."""
    ended, orders, numbers = threading.Event(), [0], count()

    def run(own: list[Coupon]) -> None:
        while not ended.is_set():
            for coupon in own:
                order_ref = str(next(numbers))
                use(coupon, order_ref, hold_sec=600)
                return_redemption(redemption_id=use(coupon, order_ref).pk, reason="test", **CALLER)
                orders[0] += 1
        connection.close()

    threads = [threading.Thread(target=run, args=(coupons[shop::2],)) for shop in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield orders
    finally:
        ended.set()
        for thread in threads:
            thread.join()
