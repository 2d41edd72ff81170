"""/healthz and /readyz: a load balancer must not take out what still admits, nor wait for what does not answer."""

import time

from django.conf import LazySettings
from django.test import Client

from tests.support.http import json_of
from tests.support.service import Service


def ready() -> tuple[int, str, dict[str, str]]:
    started = time.monotonic()
    answer = Client().get("/readyz")
    assert time.monotonic() - started < 4, "a probe must answer before its caller gives up"
    document = json_of(answer)
    return answer.status_code, document["status"], document["parts"]


def test_ready_when_all_three_answer_and_nobody_needs_a_key(service: Service) -> None:
    assert ready() == (200, "ready", {"redis": "ok", "kafka": "ok", "postgresql": "ok"})
    assert Client().get("/healthz").status_code == 200


def test_without_redis_or_kafka_it_is_unavailable_and_alive(service: Service) -> None:
    service.stack("kill", "redis")
    service.stack("pause", "kafka")

    status, word, parts = ready()

    assert (status, word, parts["postgresql"]) == (503, "unavailable", "ok")
    assert parts["redis"].startswith("down")
    assert parts["kafka"] != "ok"
    assert Client().get("/healthz").status_code == 200
    service.stack("resume", "kafka")
    service.stack("start", "redis")
    assert ready()[:2] == (200, "ready")


def test_a_redis_that_hangs_is_not_waited_for(service: Service) -> None:
    service.stack("pause", "redis")

    status, word, parts = ready()

    assert (status, word, parts["kafka"]) == (503, "unavailable", "ok")


def test_without_its_topic_it_is_unavailable_and_says_so(service: Service, settings: LazySettings) -> None:
    settings.TOPIC = "no-such-topic"

    status, word, parts = ready()

    assert (status, word) == (503, "unavailable")
    assert parts["kafka"] == "topic is missing"


def test_without_postgresql_it_is_degraded_and_goes_on_admitting(service: Service) -> None:
    service.stack("pause", "postgres")
    assert ready()[:2] == (200, "degraded")

    service.stack("resume", "postgres")
    service.stack("kill", "postgres")
    status, word, parts = ready()
    assert (status, word, parts["redis"], parts["kafka"]) == (200, "degraded", "ok", "ok")
    assert "127.0.0.1" not in parts["postgresql"], "an address is nothing for strangers"

    service.stack("start", "postgres")
    assert ready()[:2] == (200, "ready")
