"""A checkout while PostgreSQL hangs or dies under it, and while Redis and Kafka are gone, which it does not need."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3

from coupons.auth.api_keys import create_api_key
from coupons.models import Coupon, Redemption, Scope
from coupons.runtime.clock import database_now
from coupons.runtime.failpoints import REDEMPTION_COMMITTED, REDEMPTION_WRITTEN
from tests.support import faketime
from tests.support.checkout import assert_lives_are_whole, coupon_of, kinds
from tests.support.service import Service
from tests.support.waiting import wait_until

QUICK_SEC = 0.4
"""Less than any wait for a part that hangs. The quickest of three tries counts: a process may stand still."""


def test_postgresql_gone_in_the_middle_loses_no_redemption(service: Service) -> None:
    """It hangs, or dies, while the step is written and not committed: 503. Once it is back, the repeat finds or does
    it. And with the commit done, nothing of it is lost."""
    service.web()
    for verb, back in (("pause", "resume"), ("kill", "start")):
        for point in (REDEMPTION_WRITTEN, REDEMPTION_COMMITTED):
            coupon = coupon_of(service)
            body = {"code": coupon.code, "order_ref": "1001"}
            with ThreadPoolExecutor(1) as pool:
                service.arm(point, "stop")
                first = pool.submit(service.post_json, "redemptions", body)
                service.wait_for(point)
                service.stack(verb, "postgres")
                service.resume(point)
                answer = first.result()
            assert answer.status == (201 if point == REDEMPTION_COMMITTED else 503), (verb, point, answer.data)
            assert service.post_json("redemptions", body).status == 503
            service.stack(back, "postgres")

            again = answered(lambda body=body: service.post_json("redemptions", body))  # type: ignore[misc]
            assert again.status in ((200,) if point == REDEMPTION_COMMITTED else (200, 201))
            if answer.status == 201:
                assert again.json() == answer.json()
            assert again.json()["id"] == str(Redemption.objects.get(coupon=coupon).pk)
            assert kinds(coupon) == ["redeemed"]
    assert_lives_are_whole()


def answered(ask: Callable[[], urllib3.BaseHTTPResponse]) -> urllib3.BaseHTTPResponse:
    """Repeated while it is 503."""

    def ask_once() -> urllib3.BaseHTTPResponse | None:
        answer = ask()
        return None if answer.status == 503 else answer

    return wait_until(ask_once, what="another answer than 503")


@pytest.mark.parametrize("verb", ["stop", "pause"])
def test_without_redis_and_kafka_the_checkout_goes_on(service: Service, verb: str) -> None:
    """Each gone alone, and both; with a key of PostgreSQL; also by a web server that starts meanwhile. And at once."""
    _, key = create_api_key(name="till", scopes=Scope.values, actor="test")
    service.headers["Authorization"] = f"Bearer {key}"
    campaign = service.campaign(1_000)
    coupons = [coupon_of(service, f"u{number}", campaign=campaign) for number in range(60)]
    service.web()
    assert_checks_out_quickly(service, coupons)

    service.stack(verb, "kafka")
    assert_checks_out_quickly(service, coupons)
    service.stack(verb, "redis")
    assert_checks_out_quickly(service, coupons)
    fresh = service.web_that_starts()
    wait_until(lambda: is_alive(service), within_sec=40, what=lambda: f"web answers:\n{fresh.output}")
    assert_checks_out_quickly(service, coupons)
    service.stack("start" if verb == "stop" else "resume", "kafka")
    assert_checks_out_quickly(service, coupons)
    assert_lives_are_whole()


def assert_checks_out_quickly(service: Service, coupons: list[Coupon]) -> None:
    """Each request of a checkout, three times: the quickest of each says what a part that is gone costs."""
    took: dict[str, list[float]] = {}

    def ask(what: str, status: int, path: str, body: object = None) -> Any:
        began = time.monotonic()
        answer = service.get_json(path) if body is None else service.post_json(path, body)
        took.setdefault(what, []).append(time.monotonic() - began)
        assert answer.status == status, (what, answer.status, answer.data)
        return answer.json()

    for _ in range(3):
        coupon, held = coupons.pop(), coupons.pop()
        code, order = {"code": coupon.code}, {"order_ref": "1001"}
        assert ask("check", 200, "coupons/check", code)["redeemable"] is True
        used = ask("redeem", 201, "redemptions", {**code, **order})
        holds = ask("hold", 201, "redemptions", {"code": held.code, **order, "hold_sec": 600})
        ask("confirm", 200, f"redemptions/{holds['id']}/confirm", {})
        ask("return", 200, f"redemptions/{used['id']}/return", {"reason": "test"})
        ask("revoke", 200, "coupons/revoke", {**code, "reason": "test"})
        mine = ask("list", 200, f"users/{coupon.user_id}/coupons")
        assert [each["status"] for each in mine["results"]] == ["revoked"]
    slow = {what: min(each) for what, each in took.items() if min(each) > QUICK_SEC}
    assert not slow, f"of three: {slow}"


def is_alive(service: Service) -> bool:
    try:
        return service.get("/healthz").status == 200
    except urllib3.exceptions.HTTPError:
        return False


def test_a_wrong_clock_of_the_web_host_changes_nothing(service: Service, tmp_path: Path) -> None:
    """Hours ahead, and behind: what is valid, expired, held and over is by PostgreSQL's clock."""
    clock = tmp_path / "clock"
    service.web(**faketime.environment(clock))
    for hours in (-30, 30):
        faketime.step(clock, hours * 3_600.0)
        now = database_now()
        lives = [coupon_of(service, **terms) for terms in terms_around(now)]
        said = [service.post_json("coupons/check", {"code": coupon.code}).json()["reasons"] for coupon in lives]
        assert said == [[], ["expired"], ["not-valid-yet"], []], f"{hours} h"

        coupon = lives[0]
        made = service.post_json("redemptions", {"code": coupon.code, "order_ref": "1001", "hold_sec": 600})
        assert (made.status, made.json()["status"]) == (201, "held")
        use = Redemption.objects.get(coupon=coupon)
        assert use.hold_until is not None
        assert 590 <= (use.hold_until - use.created_at).total_seconds() <= 610
        assert abs((use.created_at - database_now()).total_seconds()) < 60
        refused = service.post_json("redemptions", {"code": coupon.code, "order_ref": "1002"})
        assert (refused.status, int(refused.headers["Retry-After"]) > 500) == (409, True)
        Redemption.objects.update(hold_until=database_now())
        assert service.post_json("redemptions", {"code": coupon.code, "order_ref": "1002"}).status == 201
        event = coupon.events.order_by("id").last()
        assert event is not None
        assert abs((event.at - database_now()).total_seconds()) < 60
    assert_lives_are_whole()


def terms_around(now: datetime) -> list[dict[str, Any]]:
    hour = timedelta(hours=1)
    return [
        {"valid_from": now - hour, "valid_until": now + hour},
        {"valid_until": now - hour},
        {"valid_from": now + hour},
        {"valid_days": 1},
    ]
