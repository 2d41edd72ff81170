"""System checks: settings that contradict each other, a topic that is missing, a Redis that forgets."""

from pathlib import Path

import pytest
from django.conf import LazySettings

from coupons.admission.scripts import admission_redis
from coupons.checks import configuration
from coupons.messaging import topics
from tests.support.service import Service


def ids(found: object) -> list[str | None]:
    return [message.id for message in found]  # type: ignore[attr-defined]


def test_the_settings_of_the_tests_contradict_each_other_in_nothing() -> None:
    assert ids(configuration.check_time_outs(None)) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("REDIS_SOCKET_TIMEOUT_MS", 1_000, "coupons.E001"),
        ("TOPIC_MIN_INSYNC_REPLICAS", 2, "coupons.E003"),
    ],
)
def test_contradicting_settings_are_errors_with_id_and_hint(
    settings: LazySettings, name: str, value: int, expected: str
) -> None:
    setattr(settings, name, value)
    found = list(configuration.check_time_outs(None))

    assert ids(found) == [expected]
    assert found[0].hint


def test_a_service_without_api_keys_is_warned(settings: LazySettings) -> None:
    settings.API_KEYS = []

    assert ids(configuration.check_credentials(None)) == ["coupons.W001"]


def test_a_good_topic_and_redis_pass(service: Service) -> None:
    assert ids(configuration.check_topic(None)) == []
    assert ids(configuration.check_redis(None)) == []


def test_a_missing_topic_is_an_error_with_the_command(service: Service, settings: LazySettings) -> None:
    settings.TOPIC = "coupon_create_not_there"
    found = list(configuration.check_topic(None))

    assert ids(found) == ["coupons.E004"]
    assert found[0].hint == "manage.py create_topic makes it."


def test_a_topic_with_other_settings_is_a_warning(service: Service, settings: LazySettings) -> None:
    settings.TOPIC_RETENTION_MS = 3_600_000

    assert ids(configuration.check_topic(None)) == ["coupons.W002"]


def test_a_topic_that_is_too_small_is_an_error(service: Service, settings: LazySettings) -> None:
    settings.TOPIC_PARTITIONS, settings.TOPIC_REPLICATION = 24, 3
    found = list(configuration.check_topic(None))

    assert ids(found) == ["coupons.E021", "coupons.E021"]
    assert [message.msg for message in found] == [
        f"Topic {settings.TOPIC}: partitions is 4, should be 24.",
        f"Topic {settings.TOPIC}: replication factor is 1, should be 3.",
    ]


def test_a_kafka_that_does_not_answer_is_an_error(service: Service, settings: LazySettings) -> None:
    address = settings.KAFKA_BOOTSTRAP_SERVERS
    settings.KAFKA_BOOTSTRAP_SERVERS = "127.0.0.1:1"
    settings.KAFKA_REQUEST_TIMEOUT_MS = 300
    topics.administrator.reset()
    try:
        assert ids(configuration.check_topic(None)) == ["coupons.E005"]
    finally:
        settings.KAFKA_BOOTSTRAP_SERVERS = address
        topics.administrator.reset()


@pytest.mark.parametrize(
    ("name", "bad", "good"), [("appendfsync", "everysec", "always"), ("maxmemory-policy", "allkeys-lru", "noeviction")]
)
def test_a_forgetful_redis_is_a_warning_naming_the_loss(service: Service, name: str, bad: str, good: str) -> None:
    admission_redis().config_set(name, bad)
    try:
        found = list(configuration.check_redis(None))
    finally:
        admission_redis().config_set(name, good)

    assert ids(found) == ["coupons.W004"]
    assert f"{name} is {bad}, should be {good}" in found[0].msg


def test_a_redis_that_does_not_answer_is_a_warning(service: Service) -> None:
    service.stack("pause", "redis")

    assert ids(configuration.check_redis(None)) == ["coupons.W003"]


def test_failpoints_are_an_error_with_any_database_but_a_tests(
    settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", "coupons")
    assert ids(configuration.check_failpoints(None)) == []
    settings.FAILPOINTS = tmp_path
    found = list(configuration.check_failpoints(None))

    assert ids(found) == ["coupons.E006"]
    assert "'coupons' is no test's" in found[0].msg
    assert found[0].hint
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", "test_coupons")
    assert ids(configuration.check_failpoints(None)) == []


def test_a_web_server_logs_settings_that_nothing_reads(service: Service) -> None:
    web = service.web(COUPON_WEB_WORKERS="1", COUPON_WEB_QUEUE="64")

    web.says("COUPON_WEB_QUEUE is set, and nothing reads it.")
