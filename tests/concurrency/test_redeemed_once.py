"""A coupon is used at most once, for one order, whoever asks at the same time. And the twins, in which it is not.

`Meeting` lets the second request come while the first has written its step and not committed it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection, connections, transaction

from coupons.api import circuit_breakers
from coupons.api.circuit_breakers import Breaker
from coupons.models import LIVE, AuditEntry, Coupon, Redemption
from coupons.redemption import coupon_life, redeem
from coupons.redemption.lapsed_holds import tidy_lapsed_holds
from coupons.runtime.clock import database_now
from tests.support.checkout import (
    Meeting,
    assert_lives_are_whole,
    at_once,
    coupon_of,
    kinds,
    set_terms,
    states,
    waits_for_a_lock,
    without_unique_constraints,
)
from tests.support.http import Api, assert_problem, json_of
from tests.support.service import Service
from tests.support.timeouts import LONG_TIMEOUTS
from tests.support.waiting import wait_until

THREADS = 32
Call = Callable[[Api], Any]


@pytest.fixture(autouse=True)
def _long_timeouts(long_timeouts: None) -> None:
    pass


@pytest.fixture
def meeting(service: Service, monkeypatch: pytest.MonkeyPatch) -> Meeting:
    return Meeting(monkeypatch)


@pytest.fixture
def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody takes the lock of a coupon's row."""
    monkeypatch.setattr(redeem, "_lock", lambda condition, values, **more: True)


# --- 32 threads, through two web processes ---


def test_32_orders_at_once_redeem_a_coupon_once(service: Service) -> None:
    """And one order 32 times has one redemption."""
    service.web(COUPON_WEB_WORKERS="2", **LONG_TIMEOUTS)
    coupon, another = coupon_of(service), coupon_of(service)

    def redeem_at_once(bodies: list[dict[str, str]]) -> list[Any]:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(lambda body: service.post_json("redemptions", body), bodies))

    answers = redeem_at_once([{"code": coupon.code, "order_ref": str(order)} for order in range(THREADS)])
    assert Counter(answer.status for answer in answers) == {201: 1, 409: THREADS - 1}
    assert {answer.json()["code"] for answer in answers if answer.status == 409} == {"already-redeemed"}

    answers = redeem_at_once([{"code": another.code, "order_ref": "1001"}] * THREADS)
    assert Counter(answer.status for answer in answers) == {201: 1, 200: THREADS - 1}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert Redemption.objects.count() == 2
    assert kinds(coupon) == kinds(another) == ["redeemed"]
    assert_lives_are_whole()


def test_32_orders_without_the_lock_meet_the_constraints(service: Service, unlocked: None) -> None:
    """They are answered as with it: what PostgreSQL refuses is tried again, and is no 500."""
    coupon, another = coupon_of(service), coupon_of(service)

    answers = at_once([_redeem(coupon, str(order)) for order in range(THREADS)])
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: THREADS - 1}
    answers = at_once([_redeem(another, "1001")] * THREADS)
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: THREADS - 1}
    assert len({json_of(answer)["id"] for answer in answers}) == 1
    assert_lives_are_whole()


# --- two requests that meet: what the second is told, and what has happened then ---


def _redeem(coupon: Coupon, order: str = "1001", **more: Any) -> Call:
    return lambda api: api.post("redemptions", {"code": coupon.code, "order_ref": order, **more})


def _hold(coupon: Coupon, order: str = "1001") -> Call:
    return _redeem(coupon, order, hold_sec=600)


def _confirm(coupon: Coupon) -> Call:
    return lambda api: api.post(f"redemptions/{_of_first_order(coupon)}/confirm", {})


def _return(coupon: Coupon) -> Call:
    return lambda api: api.post(f"redemptions/{_of_first_order(coupon)}/return", {"reason": "cancelled"})


def _revoke(coupon: Coupon) -> Call:
    return lambda api: api.post("coupons/revoke", {"code": coupon.code, "reason": "fraud"})


def _tidy(coupon: Coupon) -> Call:
    return lambda api: tidy_lapsed_holds(actor="test")


def _of_first_order(coupon: Coupon) -> str:
    return str(Redemption.objects.get(coupon=coupon, order_ref="1001").pk)


def _other(coupon: Coupon) -> Call:
    return _redeem(coupon, "1002")


def _hold_other(coupon: Coupon) -> Call:
    return _hold(coupon, "1002")


NOTHING, HELD, REDEEMED, LAPSED = "unused", "held", "redeemed", "lapsed"
MEETINGS = {
    # id: how the coupon is before, first, second, the second's answer, the coupon's events then
    "redeem, another order redeems": (NOTHING, _redeem, _other, (409, "already-redeemed"), "redeemed"),
    "redeem, the same again": (NOTHING, _redeem, _redeem, (200, "redeemed"), "redeemed"),
    "hold, another order holds": (NOTHING, _hold, _hold_other, (409, "held"), "held"),
    "hold, another order redeems": (NOTHING, _hold, _other, (409, "held"), "held"),
    "hold, the same order redeems": (NOTHING, _hold, _redeem, (200, "redeemed"), "held redeemed"),
    "redeem, revoke": (NOTHING, _redeem, _revoke, (409, "already-redeemed"), "redeemed"),
    "revoke, redeem": (NOTHING, _revoke, _redeem, (410, "revoked"), "revoked"),
    "revoke, revoke": (NOTHING, _revoke, _revoke, (200, "revoked"), "revoked"),
    "confirm, return": (HELD, _confirm, _return, (200, "returned"), "held redeemed returned"),
    "return, confirm": (HELD, _return, _confirm, (409, "order-returned"), "held returned"),
    "confirm, confirm": (HELD, _confirm, _confirm, (200, "redeemed"), "held redeemed"),
    "confirm, revoke": (HELD, _confirm, _revoke, (409, "already-redeemed"), "held redeemed"),
    "revoke, confirm": (HELD, _revoke, _confirm, (409, "order-returned"), "held returned revoked"),
    "return of a hold, another order redeems": (HELD, _return, _other, (201, "redeemed"), "held returned redeemed"),
    "return, return": (REDEEMED, _return, _return, (200, "returned"), "redeemed returned"),
    "return, another order redeems": (REDEEMED, _return, _other, (201, "redeemed"), "redeemed returned redeemed"),
    "return, revoke": (REDEEMED, _return, _revoke, (200, "revoked"), "redeemed returned revoked"),
    "tidy, confirm": (LAPSED, _tidy, _confirm, (409, "hold-ended"), "held lapsed"),
    "tidy, the order redeems": (LAPSED, _tidy, _redeem, (201, "redeemed"), "held lapsed redeemed"),
    "another order redeems, tidy": (LAPSED, _other, _tidy, 0, "held lapsed redeemed"),
    "the order redeems, tidy": (LAPSED, _redeem, _tidy, 0, "held lapsed redeemed"),
    "the order redeems, another order": (LAPSED, _redeem, _other, (409, "already-redeemed"), "held lapsed redeemed"),
    "return of a lapsed hold, tidy": (LAPSED, _return, _tidy, 0, "held returned"),
}


@pytest.mark.parametrize("case", MEETINGS.values(), ids=MEETINGS)
def test_the_second_sees_what_the_first_did(service: Service, meeting: Meeting, case: tuple[Any, ...]) -> None:
    before, first, second, answer, events = case
    coupon = _coupon_that_is(before, service)

    _, seconds = meeting.of(first(coupon), second(coupon))

    assert _said(seconds) == answer
    assert kinds(coupon) == events.split()
    assert AuditEntry.objects.filter(what="Revoked").count() == events.count("revoked")
    assert_lives_are_whole()


def _coupon_that_is(state: str, service: Service) -> Coupon:
    coupon = coupon_of(service)
    if state != NOTHING:
        answer = (_redeem(coupon) if state == REDEEMED else _hold(coupon))(Api())
        assert answer.status_code == 201
    if state == LAPSED:
        Redemption.objects.update(hold_until=database_now())
    return coupon


def _said(answer: Any) -> Any:
    if isinstance(answer, int):
        return answer
    document = json_of(answer)
    return answer.status_code, document.get("code") or document["status"]


# --- the twins: the same without what protects ---


def test_without_lock_and_constraints_two_orders_redeem(service: Service, meeting: Meeting, unlocked: None) -> None:
    with without_unique_constraints():
        for first, second in ((_redeem, _other), (_hold, _hold_other)):
            coupon = coupon_of(service)
            answers = meeting.of(first(coupon), second(coupon))

            assert [answer.status_code for answer in answers] == [201, 201]
            assert Redemption.objects.filter(LIVE, coupon=coupon).count() == 2


def test_without_lock_and_constraints_one_order_redeems_twice(
    service: Service, meeting: Meeting, unlocked: None
) -> None:
    with without_unique_constraints():
        coupon = coupon_of(service)
        answers = meeting.of(_redeem(coupon), _redeem(coupon))

        assert len({json_of(answer)["id"] for answer in answers}) == 2


def test_without_the_lock_a_revoked_coupon_is_redeemed(service: Service, meeting: Meeting, unlocked: None) -> None:
    """No constraint can know it."""
    coupon = coupon_of(service)

    answers = meeting.of(_revoke(coupon), _redeem(coupon))

    assert [answer.status_code for answer in answers] == [200, 201]
    assert sorted(kinds(coupon)) == ["redeemed", "revoked"]


def test_without_the_lock_a_change_under_conditions_is_tried_again(
    service: Service, meeting: Meeting, unlocked: None
) -> None:
    coupon = _coupon_that_is(HELD, service)

    answers = meeting.of(_return(coupon), _confirm(coupon))

    assert [_said(answer) for answer in answers] == [(200, "returned"), (409, "order-returned")]
    assert_lives_are_whole()


def test_without_lock_and_condition_a_returned_order_is_redeemed(
    service: Service, meeting: Meeting, unlocked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(before: Any, after: Any, *, ended_at: Any) -> None:
        values = {"state": after.state, "hold_until": after.hold_until, "redeemed_at": after.redeemed_at}
        Redemption.objects.filter(pk=before.id).update(**values, ended_at=ended_at)

    monkeypatch.setattr(redeem, "_change", change)
    coupon = _coupon_that_is(HELD, service)

    answers = meeting.of(_return(coupon), _confirm(coupon))

    assert [_said(answer) for answer in answers] == [(200, "returned"), (200, "redeemed")]
    assert states(coupon) == {"1001": "redeemed"}, "the shop was told that it is returned"


def test_overtaken_twice_a_client_is_told_to_repeat(
    service: Service, monkeypatch: pytest.MonkeyPatch, unlocked: None
) -> None:
    """By somebody who writes to the table, and is faster at each try."""
    coupon = coupon_of(service)
    read = coupon_life.life_of_code

    def read_between_two_others(code: str, *, order_ref: str = "") -> Any:
        _by_hand(lambda: Redemption.objects.filter(coupon=coupon).delete())
        life = read(code, order_ref=order_ref)
        values = {"order_ref": "by hand", "state": "redeemed", "redeemed_at": database_now()}
        _by_hand(lambda: Redemption.objects.create(coupon=coupon, **values))
        return life

    monkeypatch.setattr(redeem, "life_of_code", read_between_two_others)

    answer = _redeem(coupon)(Api())

    assert_problem(answer, 503, "unavailable")
    assert int(answer["Retry-After"]) >= 1
    assert states(coupon) == {"by hand": "redeemed"}


def _by_hand(write: Callable[[], object]) -> None:
    """In another session, committed when this returns."""

    def run() -> None:
        try:
            write()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()


# --- while a request waits for the lock, the time passes, or the coupon becomes another ---


@pytest.fixture(params=["clock_timestamp()", "now()"], ids=["time read after the lock", "time of the beginning"])
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """PostgreSQL's now() is the time at which the transaction began: the twin."""
    for name in ("_OF_CODE", "_OF_REDEMPTION"):
        monkeypatch.setattr(coupon_life, name, getattr(coupon_life, name).replace("clock_timestamp()", request.param))
    return str(request.param)


def test_time_counts_when_the_lock_is_had(service: Service, clock: str) -> None:
    expires, held, free = coupon_of(service), _coupon_that_is(HELD, service), _coupon_that_is(HELD, service)

    def time_passes() -> bool:
        now = _clock_says()
        set_terms(expires.campaign, valid_until=now)
        return Redemption.objects.filter(coupon__in=(held, free)).update(hold_until=now) == 2

    answers = _while_locked([_redeem(expires), _confirm(held), _other(free)], [expires, held, free], do=time_passes)

    said = [_said(answer) for answer in answers]
    if clock == "now()":
        assert said == [(201, "redeemed"), (200, "redeemed"), (409, "held")], "by a time that was over"
    else:
        assert said == [(410, "expired"), (409, "hold-ended"), (201, "redeemed")]
        assert_lives_are_whole()


def test_the_user_is_who_has_the_coupon_then(service: Service) -> None:
    """As erase_user gives it another user id."""
    coupon = coupon_of(service)

    def erase() -> bool:
        return bool(Coupon.objects.filter(pk=coupon.pk).update(user_id="erased-1"))

    (answer,) = _while_locked([_redeem(coupon, user_id="42")], [coupon], do=erase)

    assert_problem(answer, 403, "not-yours")
    assert _said(_redeem(coupon)(Api())) == (201, "redeemed")


def _clock_says() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def _while_locked(calls: list[Call], coupons: list[Coupon], *, do: Callable[[], bool]) -> list[Any]:
    """What they are answered when this is done while they wait for the coupons' locks, which this process holds."""

    def run(call: Call) -> Any:
        try:
            return call(Api())
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        with transaction.atomic():
            _lock(*coupons)
            answers = [pool.submit(run, call) for call in calls]
            wait_until(lambda: waits_for_a_lock() == len(calls), what="all wait for their coupon")
            assert do()
        return [answer.result() for answer in answers]


def _lock(*coupons: Coupon) -> None:
    list(Coupon.objects.select_for_update(no_key=True).filter(pk__in=[coupon.pk for coupon in coupons]))


# --- an isolation that was set for the role; a process that stands still with a coupon's lock ---


@pytest.fixture
def repeatable_read(service: Service) -> Iterator[None]:
    """The default of every new session: what others commit during a transaction is not seen in it."""
    options = connection.settings_dict["OPTIONS"]
    usual = options["options"]
    options["options"] = rf"{usual} -c default_transaction_isolation=repeatable\ read"
    yield
    options["options"] = usual
    connections.close_all()


def _lock_without(statement: str) -> str:
    assert statement in redeem._LOCK
    return redeem._LOCK.replace(statement, "")


@pytest.mark.parametrize("is_pinned", [True, False])
def test_a_role_s_isolation_changes_nothing(
    service: Service, meeting: Meeting, repeatable_read: None, monkeypatch: pytest.MonkeyPatch, is_pinned: bool
) -> None:
    """The twin takes the lock as well, and reads as of before."""
    coupon = coupon_of(service)
    if not is_pinned:
        monkeypatch.setattr(redeem, "_LOCK", _lock_without("SET TRANSACTION ISOLATION LEVEL READ COMMITTED;"))

    answers = meeting.of(_revoke(coupon), _redeem(coupon))

    assert [answer.status_code for answer in answers] == [200, 410 if is_pinned else 201]


@pytest.mark.parametrize("is_limited", [True, False])
def test_a_coupon_that_stays_locked_stops_no_other(
    service: Service, settings: LazySettings, monkeypatch: pytest.MonkeyPatch, is_limited: bool
) -> None:
    """A process that stands still has its lock. The twin takes that for a PostgreSQL that hangs, which would soon open
    the circuit breaker to all requests."""
    settings.API_DATABASE_TIMEOUT_MS = 4_000 if is_limited else 500
    breaker = Breaker("postgresql")
    monkeypatch.setattr(circuit_breakers, "postgresql_breaker", breaker)
    locked, free = coupon_of(service), coupon_of(service)
    if not is_limited:
        monkeypatch.setattr(redeem, "_LOCK", _lock_without("SET LOCAL lock_timeout = {wait_ms};"))

    with transaction.atomic():
        _lock(locked)
        [answer] = at_once([_redeem(locked)])
        assert_problem(answer, 503, "unavailable")
        assert breaker.has_missed_within(60) is not is_limited
        [answer] = at_once([_redeem(free)])
        assert _said(answer) == (201, "redeemed")
    assert _said(_redeem(locked)(Api())) == (201, "redeemed")
