"""/healthz and /readyz: a load balancer must not take out what still admits, nor wait for what does not answer."""

import time

import pytest
from django.conf import LazySettings
from django.test import Client

from tests.support.http import json_of
from tests.support.service import Service
from tests.support.timeouts import LONG_MS
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def slow_parts(settings: LazySettings) -> int:
    """What only stands still for a moment is no part that hangs. Gives the usual time-out, for those that do."""
    usual: int = settings.HEALTH_TIMEOUT_MS
    settings.HEALTH_TIMEOUT_MS = LONG_MS
    return usual


def ready() -> tuple[int, str, dict[str, str]]:
    answer = Client().get("/readyz")
    document = json_of(answer)
    return answer.status_code, document["status"], document["parts"]


def test_ready_when_all_three_answer_and_nobody_needs_a_key(service: Service) -> None:
    assert ready() == (200, "ready", {"redis": "ok", "kafka": "ok", "postgresql": "ok"})
    assert Client().get("/healthz").status_code == 200


def test_without_redis_or_kafka_it_is_unavailable_and_alive(
    service: Service, settings: LazySettings, slow_parts: int
) -> None:
    service.stack("kill", "redis")
    service.stack("pause", "kafka")
    settings.HEALTH_TIMEOUT_MS = slow_parts

    status, word, parts = wait_until(lambda: (now := ready())[2]["postgresql"] == "ok" and now)

    assert (status, word) == (503, "unavailable")
    assert parts["redis"].startswith("down")
    assert parts["kafka"] != "ok"
    assert Client().get("/healthz").status_code == 200
    service.stack("resume", "kafka")
    service.stack("start", "redis")
    wait_until(lambda: ready()[:2] == (200, "ready"), what="all is well again")


def test_a_redis_that_hangs_does_not_hide_that_kafka_answers(
    service: Service, settings: LazySettings, slow_parts: int
) -> None:
    service.stack("pause", "redis")
    settings.HEALTH_TIMEOUT_MS = slow_parts

    status, word, _ = wait_until(lambda: (now := ready())[2]["kafka"] == "ok" and now)

    assert (status, word) == (503, "unavailable")


def test_parts_that_hang_are_not_waited_for(service: Service, settings: LazySettings, slow_parts: int) -> None:
    """A probe must answer before its caller gives up, in three seconds as a rule: also with two of them."""
    service.stack("pause", "redis")
    service.stack("pause", "kafka")
    settings.HEALTH_TIMEOUT_MS = slow_parts

    def in_time() -> bool:
        started = time.monotonic()
        assert ready()[:2] == (503, "unavailable")
        return time.monotonic() - started < slow_parts / 1000 + 0.5

    wait_until(in_time, what="an answer that waited for one time-out, and not for two")


def test_without_its_topic_it_is_unavailable_and_says_so(service: Service, settings: LazySettings) -> None:
    settings.TOPIC = "no-such-topic"

    status, word, parts = ready()

    assert (status, word) == (503, "unavailable")
    assert parts["kafka"] == "topic is missing"


def test_without_postgresql_it_is_degraded_and_goes_on_admitting(
    service: Service, settings: LazySettings, slow_parts: int
) -> None:
    service.stack("pause", "postgres")
    settings.HEALTH_TIMEOUT_MS = slow_parts
    wait_until(lambda: ready()[:2] == (200, "degraded"), what="the others have answered")
    settings.HEALTH_TIMEOUT_MS = LONG_MS

    service.stack("resume", "postgres")
    service.stack("kill", "postgres")
    status, word, parts = ready()
    assert (status, word, parts["redis"], parts["kafka"]) == (200, "degraded", "ok", "ok")
    assert "127.0.0.1" not in parts["postgresql"], "an address is nothing for strangers"

    service.stack("start", "postgres")
    wait_until(lambda: ready()[:2] == (200, "ready"), what="all is well again")
