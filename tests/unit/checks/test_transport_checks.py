"""`check --deploy` about the way to the servers: plain text, and TLS that believes anybody."""

import re
from typing import Any

import pytest
from django.conf import LazySettings

from coupons.checks.transport import check_kafka_client, check_transport
from couponsite.servers import database_config
from tests.support.process import ROOT

REDIS = "rediss://coupons:hunter2@redis.example.test:6380/0"
KAFKA = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "hunter2"}


@pytest.fixture(autouse=True)
def far_servers(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them on this machine, all of them by TLS."""
    for name in ("HOST", "OPTIONS"):
        monkeypatch.setitem(settings.DATABASES["default"], name, None)  # so that it is put back
    settings.KAFKA_BOOTSTRAP_SERVERS = "kafka.example.test:9093"
    settings.KAFKA_CLIENT_CONFIG = dict(KAFKA)
    settings.PLAINTEXT_HOSTS = []
    database(settings, sslmode="verify-full")
    redis(settings, REDIS)


def redis(settings: LazySettings, url: str) -> None:
    settings.REDIS_URL = url
    caches: Any = settings.CACHES
    settings.CACHES = {**caches, "admission": {**caches["admission"], "LOCATION": url}}


def database(settings: LazySettings, host: str = "db.example.test", **options: str) -> None:
    settings.DATABASES["default"] |= {"HOST": host, "OPTIONS": options}


def found(messages: Any) -> list[tuple[str, str]]:
    assert all(message.hint and "hunter2" not in f"{message.msg}{message.hint}" for message in messages)
    return [(message.id, message.msg.split(":")[0]) for message in messages]


def all_found() -> list[tuple[str, str]]:
    return found([*check_transport(None), *check_kafka_client(None)])


def test_verified_tls_to_all_three_has_nothing_to_say() -> None:
    assert all_found() == []


@pytest.mark.parametrize("options", [{}, {"sslmode": "disable"}, {"sslmode": "allow"}, {"sslmode": "prefer"}])
def test_postgresql_in_plain_text(settings: LazySettings, options: dict[str, str]) -> None:
    database(settings, **options)

    assert all_found() == [("coupons.W011", "DATABASE_URL")]


@pytest.mark.parametrize(
    ("host", "options", "told"),
    [
        ("127.0.0.1,10.0.0.7", {}, "10.0.0.7"),
        ("localhost", {"hostaddr": "10.0.0.7"}, "10.0.0.7"),
        ("localhost,localhost", {"hostaddr": ",10.0.0.7"}, "10.0.0.7"),
        ("", {"service": "shop"}, "the host of service shop"),
    ],
)
def test_one_far_postgresql_is_enough(settings: LazySettings, host: str, options: dict[str, str], told: str) -> None:
    database(settings, host, **options)

    (message,) = check_transport(None)
    assert f" {told} " in message.msg


def test_a_host_among_the_url_s_parameters_is_checked(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_URL", "postgres://coupons:hunter2@127.0.0.1/coupons?host=db.example.test")
    parts = database_config("SOME_URL", time_outs_ms={})
    database(settings, parts["HOST"], **parts["OPTIONS"])

    assert all_found() == [("coupons.W011", "DATABASE_URL")]


def test_a_direct_url_is_checked_as_well(settings: LazySettings) -> None:
    settings.WEB_DATABASE = {"HOST": "", "OPTIONS": {}}
    settings.BEHIND_POOLER = True
    database(settings, "db.example.test")

    assert all_found() == [("coupons.W011", "COUPON_DATABASE_DIRECT_URL")]


def test_redis_in_plain_text(settings: LazySettings) -> None:
    redis(settings, REDIS.replace("rediss", "redis"))

    assert all_found() == [("coupons.W011", "REDIS_URL")]


@pytest.mark.parametrize(
    "config", [{}, {"security.protocol": "PLAINTEXT"}, {**KAFKA, "security.protocol": "sasl_plaintext"}]
)
def test_kafka_in_plain_text(settings: LazySettings, config: dict[str, str]) -> None:
    settings.KAFKA_CLIENT_CONFIG = config

    assert all_found() == [("coupons.W011", "COUPON_KAFKA_CLIENT_CONFIG")]


def plain_everywhere(settings: LazySettings, *hosts: str) -> None:
    """By these names of PostgreSQL, Redis and Kafka."""
    of_postgresql, of_redis, of_kafka = hosts
    database(settings, of_postgresql)
    redis(settings, f"redis://{of_redis}:6379/0")
    settings.KAFKA_BOOTSTRAP_SERVERS = f"{of_kafka}:9092"
    settings.KAFKA_CLIENT_CONFIG = {}


@pytest.mark.parametrize(
    "hosts",
    [
        ("127.0.0.1", "localhost", "127.0.0.1:9092,127.0.0.2"),
        ("", "[::1]", "[::1]"),
        ("/run/pg", "127.1.2.3", "localhost"),
    ],
)
def test_plain_text_on_this_machine_is_nobody_s_business(settings: LazySettings, hosts: tuple[str, ...]) -> None:
    plain_everywhere(settings, *hosts)

    assert all_found() == []


def test_one_far_broker_among_near_ones_is_enough(settings: LazySettings) -> None:
    plain_everywhere(settings, "127.0.0.1", "127.0.0.1", "127.0.0.1:9092,10.0.0.7")

    (message,) = check_transport(None)
    assert "10.0.0.7" in message.msg


def test_the_compose_file_s_network_is_named_in_it(settings: LazySettings) -> None:
    plain_everywhere(settings, "postgres", "redis", "kafka")
    assert len(all_found()) == 3

    (line,) = re.findall(r"COUPON_PLAINTEXT_HOSTS: (.*)", (ROOT / "docker-compose.yml").read_text())
    settings.PLAINTEXT_HOSTS = line.split(",")

    assert all_found() == []


@pytest.mark.parametrize(
    "parameters", ["ssl_cert_reqs=none", "ssl_cert_reqs=optional", "ssl_check_hostname=false", "ssl_check_hostname=no"]
)
def test_a_redis_that_is_believed_unseen(settings: LazySettings, parameters: str) -> None:
    redis(settings, f"{REDIS}?{parameters}")

    assert all_found() == [("coupons.W012", "REDIS_URL")]


@pytest.mark.parametrize("mode", ["require", "verify-ca"])
def test_a_postgresql_that_is_believed_unseen(settings: LazySettings, mode: str) -> None:
    database(settings, sslmode=mode)

    assert all_found() == [("coupons.W012", "DATABASE_URL")]


def test_libpq_verifies_by_itself_with_the_system_s_authorities(settings: LazySettings) -> None:
    database(settings, sslrootcert="system")

    assert all_found() == []


@pytest.mark.parametrize(
    "more", [{"enable.ssl.certificate.verification": "False"}, {"ssl.endpoint.identification.algorithm": "none"}]
)
def test_a_kafka_that_is_believed_unseen(settings: LazySettings, more: dict[str, str]) -> None:
    settings.KAFKA_CLIENT_CONFIG |= more

    assert all_found() == [("coupons.W012", "COUPON_KAFKA_CLIENT_CONFIG")]


def test_naming_a_host_silences_no_lack_of_verification(settings: LazySettings) -> None:
    redis(settings, f"{REDIS}?ssl_cert_reqs=none")
    settings.PLAINTEXT_HOSTS = ["redis.example.test"]

    assert all_found() == [("coupons.W012", "REDIS_URL")]


@pytest.mark.parametrize(
    "config",
    [
        {**KAFKA, "ssl.ca.location": "/not/there.pem"},
        {**KAFKA, "sasl.mechanism": "SCRAM"},
        {"security.protocol": "TLS"},
        {**KAFKA, "ssl.calocation": "/etc/ssl/ca.pem"},
    ],
)
def test_what_librdkafka_refuses_is_an_error_at_every_start(settings: LazySettings, config: dict[str, str]) -> None:
    settings.KAFKA_CLIENT_CONFIG = config

    assert found(check_kafka_client(None)) == [("coupons.E011", "COUPON_KAFKA_CLIENT_CONFIG is refused")]
