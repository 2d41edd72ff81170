"""A step of a coupon's life is done as a whole or not at all, and a repeat after a lost answer finds it."""

from collections.abc import Iterator

import pytest
import urllib3

from coupons.models import AuditEntry
from coupons.redemption.lapsed_holds import tidy_lapsed_holds
from coupons.runtime import failpoints
from coupons.runtime.clock import database_now
from coupons.runtime.failpoints import REDEMPTION_COMMITTED, REDEMPTION_WRITTEN, InjectedDefect
from harness import free_port
from tests.support.checkout import STEPS, assert_lives_are_whole, coupon_of, kinds, prepare, states
from tests.support.http import Api, json_of
from tests.support.service import PYTHON, Service

POINTS = (REDEMPTION_WRITTEN, REDEMPTION_COMMITTED)


@pytest.fixture
def _failpoints(service: Service) -> Iterator[None]:
    """Those that the test arms work in this process too."""
    failpoints.switch_on(service.failpoints)
    yield
    failpoints.switch_on(None)


def test_a_web_killed_at_any_point_loses_no_step(service: Service) -> None:
    """Ten processes die by SIGKILL: with a step written and not committed, and committed and not answered."""
    port = free_port()
    web = service.start("web", [PYTHON, "-m", "tests.support.quick_server", str(port)])
    web.says("quick_server.listens")
    service.url = f"http://127.0.0.1:{port}"
    killed = set()
    for point in POINTS:
        for name, step in STEPS.items():
            coupon = coupon_of(service)
            path, body = prepare(coupon, step)
            before = kinds(coupon)
            service.arm(point, "kill")
            with pytest.raises(urllib3.exceptions.ProtocolError):
                service.post_json(path, body)
            killed.add(service.wait_for(point))
            is_done = point == REDEMPTION_COMMITTED
            assert kinds(coupon) == (step.kinds if is_done else before), name

            answer = service.post_json(path, body)
            assert answer.status == (200 if is_done else step.first_status), (name, point, answer.data)
            assert service.post_json(path, body).json() == answer.json()
            assert kinds(coupon) == step.kinds
    assert len(killed) == len(POINTS) * len(STEPS)
    assert AuditEntry.objects.filter(what="Revoked").count() == 2
    assert_lives_are_whole()


@pytest.mark.usefixtures("_failpoints", "long_timeouts")
def test_a_defect_at_any_point_leaves_no_half_step(service: Service) -> None:
    api = Api()
    for point in POINTS:
        for name, step in STEPS.items():
            coupon = coupon_of(service)
            path, body = prepare(coupon, step)
            before = kinds(coupon), states(coupon)
            service.arm(point, "raise")
            assert api.post(path, body).status_code == 500
            assert service.has_happened(point), name
            is_done = point == REDEMPTION_COMMITTED
            assert is_done or (kinds(coupon), states(coupon)) == before

            answer = api.post(path, body)
            assert answer.status_code == (200 if is_done else step.first_status), (name, point)
            assert json_of(api.post(path, body)) == json_of(answer)
            assert kinds(coupon) == step.kinds
    assert_lives_are_whole()


@pytest.mark.usefixtures("_failpoints", "long_timeouts")
def test_a_tidying_job_that_dies_has_tidied_some(service: Service) -> None:
    """Each hold in a transaction of its own."""
    coupons = [coupon_of(service) for _ in range(3)]
    for coupon in coupons:
        prepare(coupon, STEPS["confirm"])
    for coupon in coupons:
        coupon.redemptions.update(hold_until=database_now())
    service.arm(REDEMPTION_WRITTEN, "raise@2")

    with pytest.raises(InjectedDefect):
        tidy_lapsed_holds(actor="test")
    assert [list(states(coupon).values()) for coupon in coupons] == [["lapsed"], ["held"], ["held"]]

    assert tidy_lapsed_holds(actor="test") == 2
    assert tidy_lapsed_holds(actor="test") == 0
    assert_lives_are_whole()
