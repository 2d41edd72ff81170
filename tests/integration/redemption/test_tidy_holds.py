"""The job that writes down which holds have ended: beside redemptions and a second run, and past what fails."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from coupons.errors import OperatorError
from coupons.models import Campaign, Coupon, CouponEvent, EventKind, JobRun, Redemption, RedemptionState
from coupons.reconciliation.differences import Kind
from coupons.redemption.lapsed_holds import tidy_lapsed_holds
from coupons.redemption.overtaken import Overtaken
from coupons.redemption.redeem import redeem
from faults.ledgers import reconcile
from tests.support.commands import Ran, run
from tests.support.service import Service
from tests.support.tickets import admit, insert_coupons
from tests.support.waiting import wait_until

CALLER: Any = {"actor": "test", "may_touch": lambda campaign_id: True}


@pytest.fixture
def campaign(service: Service) -> Campaign:
    return service.campaign(10_000)


def hold(campaign: Campaign, count: int, *, ended: bool = True) -> list[Redemption]:
    """As many coupons, each held by an order that is named as its user."""
    users = [f"{'ended' if ended else 'open'}-{number}" for number in range(count)]
    insert_coupons(campaign, list(zip(users, admit(campaign, *users), strict=True)))
    coupons = Coupon.objects.filter(campaign=campaign, user_id__in=users).order_by("sequence")
    until = Now() + timedelta(hours=-1 if ended else 1)
    began = Now() - timedelta(hours=2)
    held = [
        Redemption(coupon=each, order_ref=each.user_id, state="held", hold_until=until, created_at=began)
        for each in coupons
    ]
    Redemption.objects.bulk_create(held)
    CouponEvent.objects.bulk_create(
        CouponEvent(coupon_id=each.coupon_id, redemption=each, kind="held", at=began, actor="test") for each in held
    )
    return held


def states() -> Counter[str]:
    return Counter(Redemption.objects.values_list("state", flat=True))


def assert_each_lapsed_once(campaign: Campaign) -> None:
    lapsed = CouponEvent.objects.filter(kind=EventKind.LAPSED).values_list("redemption", flat=True)
    assert sorted(lapsed) == sorted(Redemption.objects.filter(state="lapsed").values_list("pk", flat=True))
    assert_its_ledger_closes(campaign)


def assert_its_ledger_closes(campaign: Campaign) -> None:
    """Nobody has settled the tickets, which the relay does."""
    [ledger] = reconcile(campaign_ids=[campaign.pk])
    assert not ledger.differences.keys() - {Kind.STALE_PENDING}, ledger.document()


def test_what_has_ended_is_written_down_and_what_is_open_stays(campaign: Campaign) -> None:
    hold(campaign, 3)
    hold(campaign, 2, ended=False)

    assert run("tidy_holds") == Ran(0, "Holds: 3 ended.\n", "")

    assert states() == {"lapsed": 3, "held": 2}
    event = CouponEvent.objects.filter(kind="lapsed").first()
    assert event is not None
    assert event.actor == "tidy_holds"
    job = JobRun.objects.get(pk="tidy_holds")
    assert (job.succeeded, job.result) == (True, "3 ended")
    assert run("tidy_holds").out == "Holds: 0 ended.\n"
    assert_each_lapsed_once(campaign)


def test_more_than_one_batch_is_tidied(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coupons.redemption.lapsed_holds.TIDY_BATCH", 4)
    hold(campaign, 11)

    assert tidy_lapsed_holds(actor="test") == 11


def test_two_runs_share_the_work_beside_orders(campaign: Campaign) -> None:
    """Orders of the same hold, and of others, come while two runs tidy it: each hold ends once."""
    held = hold(campaign, 60)
    start = threading.Barrier(4)

    def order(number: int, each: Redemption) -> None:
        name = each.order_ref if number else f"other {each.order_ref}"
        redeem(code=each.coupon.code, order_ref=name, user_id=None, hold_sec=600, **CALLER)

    def orders(number: int) -> int:
        start.wait()
        for each in held[number::3]:
            order(number, each)
        connection.close()
        return 0

    def tidy() -> int:
        start.wait()
        try:
            return tidy_lapsed_holds(actor="test")
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(tidy), threads.submit(tidy)]
        shops = [threads.submit(orders, number) for number in range(2)]
        tidied = sum(each.result() for each in runs)
        assert [each.result() for each in shops] == [0, 0]

    assert 20 <= tidied <= 60
    assert states()["held"] == 40, "20 holds of other orders, 20 of the same"
    assert CouponEvent.objects.filter(kind="lapsed", actor="test").count() >= tidied
    assert_its_ledger_closes(campaign)


@contextmanager
def somebody_at_work_on(coupon: Coupon) -> Iterator[None]:
    """Another session has the coupon's row lock."""
    locked, ended = threading.Event(), threading.Event()

    def work() -> None:
        with transaction.atomic():
            Coupon.objects.select_for_update(no_key=True).get(pk=coupon.pk)
            locked.set()
            ended.wait()
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    locked.wait()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_coupon_that_somebody_is_at_work_on_is_left_to_the_next_run(campaign: Campaign) -> None:
    busy, *_ = hold(campaign, 3)

    with somebody_at_work_on(busy.coupon):
        assert run("tidy_holds").out == "Holds: 2 ended.\n"

    assert run("tidy_holds").out == "Holds: 1 ended.\n"


@contextmanager
def a_hold_that_postgresql_refuses_to_end(order_ref: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(
            f"ALTER TABLE coupons_redemption ADD CONSTRAINT stuck CHECK (order_ref <> '{order_ref}' OR state = 'held')"
        )
        try:
            yield
        finally:
            cursor.execute("ALTER TABLE coupons_redemption DROP CONSTRAINT stuck")


def test_a_hold_that_cannot_be_ended_stops_no_other(campaign: Campaign) -> None:
    stuck = hold(campaign, 5)[0]

    with a_hold_that_postgresql_refuses_to_end(stuck.order_ref):
        ran = run("tidy_holds")

    assert ran.code == 1
    assert f"4 holds ended, 1 could not be; the first: {stuck.pk}: new row" in ran.err
    assert states() == {"lapsed": 4, "held": 1}
    assert JobRun.objects.get(pk="tidy_holds").succeeded is False


def test_it_ends_when_none_of_a_batch_can_be_ended(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coupons.redemption.lapsed_holds.TIDY_BATCH", 2)
    hold(campaign, 5)

    def overtaken(**_: Any) -> bool:
        raise Overtaken

    monkeypatch.setattr("coupons.redemption.lapsed_holds.lapse_hold", overtaken)

    with pytest.raises(OperatorError, match="0 holds ended, 2 could not be"):
        tidy_lapsed_holds(actor="test")


def test_ids_that_are_taken_stop_nothing(campaign: Campaign) -> None:
    hold(campaign, 3)
    with connection.cursor() as cursor:
        cursor.execute("SELECT setval(pg_get_serial_sequence('coupons_couponevent', 'id'), min(id), false)"
                       " FROM coupons_couponevent")  # fmt: skip

    assert tidy_lapsed_holds(actor="test") == 3


def test_it_stops_between_two_holds(campaign: Campaign) -> None:
    hold(campaign, 5)
    asked = iter([False, False, False, True])

    assert tidy_lapsed_holds(actor="test", stop=lambda: next(asked, True)) == 2
    assert_each_lapsed_once(campaign)


def test_a_signal_ends_the_command_after_the_hold_in_hand(campaign: Campaign, service: Service) -> None:
    count = 3_000
    hold(campaign, count)
    job = service.manage("tidy_holds")
    wait_until(lambda: states()[RedemptionState.LAPSED] > 5, what="it is at work")

    job.signal(signal.SIGTERM)

    assert job.wait() == 0, job.output
    ended = states()[RedemptionState.LAPSED]
    assert 5 < ended < count
    assert JobRun.objects.get(pk="tidy_holds").result == f"{ended} ended"
    assert run("tidy_holds").out == f"Holds: {count - ended} ended.\n"


def test_without_postgresql_nothing_is_known(campaign: Campaign, service: Service) -> None:
    hold(campaign, 1)
    service.stack("kill", "postgres")

    assert run("tidy_holds").code == 2
