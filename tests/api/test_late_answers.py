"""A Redis or a Kafka that answers too late: nothing is promised, and the repeat gets the same place."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import LazySettings
from prometheus_client import REGISTRY

from coupons.admission.scripts import admission_redis
from coupons.api import circuit_breakers
from coupons.api.circuit_breakers import Breaker
from coupons.messaging.producer import publisher
from coupons.runtime import failpoints
from coupons.runtime.failpoints import WEB_ACKNOWLEDGED, WEB_ADMITTED
from tests.support.http import Api, assert_problem, json_of
from tests.support.service import Service
from tests.support.timeouts import LONG_MS
from tests.support.topic import published_users


@pytest.fixture(autouse=True)
def _failpoints(service: Service) -> Iterator[None]:
    """Those that the test arms work in this process too."""
    failpoints.switch_on(service.failpoints)
    yield
    failpoints.switch_on(None)


def test_nothing_is_published_after_the_deadline(api: Api, service: Service, settings: LazySettings) -> None:
    campaign = service.campaign(10)
    api.apply(campaign, "first")  # so that everything is known and asked in time
    settings.ACCEPT_TIMEOUT_MS = 1_500

    service.arm(WEB_ADMITTED, "sleep:1600")  # as if Redis had answered so late
    assert_problem(api.apply(campaign, "late"), 503, "unconfirmed")
    publisher().flush(20)
    assert published_users() == {"first"}

    settings.ACCEPT_TIMEOUT_MS = LONG_MS
    assert json_of(api.apply(campaign, "late"))["sequence"] == 2
    assert published_users() == {"first", "late"}


def test_an_answering_redis_counts_as_answering_without_kafka(
    api: Api, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody would be told "sold out" for as long as Kafka hangs, once Redis had hung too."""
    campaign = service.campaign(10)
    redis_hung, kafka_hangs = (Breaker("test", failures=1, span_sec=0, probe_sec=sec) for sec in (0, 60))
    redis_hung.missed()
    kafka_hangs.missed()
    monkeypatch.setattr(circuit_breakers, "redis_breaker", redis_hung)
    monkeypatch.setattr(circuit_breakers, "kafka_breaker", kafka_hangs)

    assert_problem(api.apply(campaign), 503, "unconfirmed")

    assert not redis_hung.is_open


def test_a_redis_hanging_after_the_acknowledgement_confirms_nothing(api: Api, service: Service) -> None:
    campaign = service.campaign(10)
    service.arm(WEB_ACKNOWLEDGED, "sleep:2000")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.apply, campaign)
        service.wait_for(WEB_ACKNOWLEDGED)
        service.stack("pause", "redis")
        assert_problem(answer.result(), 503, "unconfirmed")
    service.stack("resume", "redis")

    assert json_of(api.apply(campaign))["sequence"] == 1


def test_each_gate_call_is_measured_once(api: Api, service: Service) -> None:
    """Answered or not."""
    campaign = service.campaign(10)

    def measured() -> float:
        return REGISTRY.get_sample_value("coupon_gate_duration_seconds_count") or 0

    before = measured()
    assert api.apply(campaign).status_code == 202
    assert measured() == before + 1

    admission_redis().flushall()
    assert_problem(api.apply(campaign, "another"), 503, "unavailable")
    assert measured() == before + 2
