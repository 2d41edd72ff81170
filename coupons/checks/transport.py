"""System checks of the connections to the servers: each must be encrypted, and each server must prove its name.

`docs/deploy/security.md` has settings that pass. No message shows a URL, because it holds a password.
"""

import ssl
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from itertools import zip_longest
from typing import Any
from urllib.parse import urlsplit

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  Django's own name
from redis.connection import SSLConnection

from coupons.admission.scripts import admission_redis
from coupons.messaging.kafka import client_config

DOCUMENT = "docs/deploy/security.md"


@register("coupons")
def check_kafka_client(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Checks that librdkafka accepts COUPON_KAFKA_CLIENT_CONFIG. The web server calls this at its start, too."""
    if not settings.KAFKA_CLIENT_CONFIG:
        return []
    try:
        AdminClient(client_config())
    except KafkaException as error:
        hint = f"Files must exist and be readable by this user. {DOCUMENT} has lines to copy for TLS and SASL."
        reason = error.args[0].str()
        return [Error(f"COUPON_KAFKA_CLIENT_CONFIG is refused: {reason}.", hint=hint, id="coupons.E011")]
    return []


@register("coupons", deploy=True)
def check_transport(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Checks that each server is reached by TLS, on this machine, or in a network that COUPON_PLAINTEXT_HOSTS names.
    Each TLS client must require a certificate for the server's very name."""
    return [*_check_redis(), *_check_postgresql(), *_check_kafka()]


def _check_redis() -> Iterator[CheckMessage]:
    parts = urlsplit(settings.REDIS_URL)
    if parts.scheme in ("redis", "redis+sentinel"):
        sentinels = settings.CACHES["admission"]["OPTIONS"].get("SENTINELS")
        for host in [host for host, _ in sentinels] if sentinels else [parts.hostname or ""]:
            yield from _plain_text("REDIS_URL", host)
    pool = admission_redis().connection_pool
    connection = pool.connection_class(**pool.connection_kwargs)
    if isinstance(connection, SSLConnection):
        if connection.cert_reqs != ssl.CERT_REQUIRED:
            yield _unverified("REDIS_URL", "ssl_cert_reqs is not required")
        elif not connection.check_hostname:
            yield _unverified("REDIS_URL", "ssl_check_hostname is false")


def _check_postgresql() -> Iterator[CheckMessage]:
    yield from _check_database("DATABASE_URL", settings.WEB_DATABASE)
    if settings.BEHIND_POOLER:
        yield from _check_database("COUPON_DATABASE_DIRECT_URL", settings.DATABASES["default"])


def _check_database(name: str, database: Mapping[str, Any]) -> Iterator[CheckMessage]:
    options = database["OPTIONS"]
    default = "verify-full" if options.get("sslrootcert") == "system" else "prefer"  # libpq's defaults
    mode = options.get("sslmode", default)
    if mode in ("disable", "allow", "prefer"):
        for host in _hosts_of_postgresql(database["HOST"], options):
            yield from _plain_text(name, host)
    elif mode in ("require", "verify-ca"):
        yield _unverified(name, f"sslmode is {mode}")


def _hosts_of_postgresql(names: str, options: Mapping[str, Any]) -> list[str]:
    """Where libpq connects to: an address wins over the name beside it. A service's file may name any host."""
    if "service" in options:
        return [f"the host of service {options['service']}"]
    pairs = zip_longest(names.split(","), options.get("hostaddr", "").split(","), fillvalue="")
    return [address or name for name, address in pairs]


def _check_kafka() -> Iterator[CheckMessage]:
    name = "COUPON_KAFKA_CLIENT_CONFIG"
    if _kafka("security.protocol", "plaintext").endswith("plaintext"):
        for server in settings.KAFKA_BOOTSTRAP_SERVERS.split(","):
            yield from _plain_text(name, urlsplit(f"//{server.strip().rpartition('://')[2]}").hostname or "")
        return
    if _kafka("enable.ssl.certificate.verification", "true") in ("false", "f", "0"):
        yield _unverified(name, "enable.ssl.certificate.verification is false")
    if _kafka("ssl.endpoint.identification.algorithm", "https") == "none":
        yield _unverified(name, "ssl.endpoint.identification.algorithm is none")


def _plain_text(setting: str, host: str) -> Iterator[CheckMessage]:
    if not _is_local(host) and host not in settings.PLAINTEXT_HOSTS:
        text = f"{setting}: passwords, user ids and coupons go to {host} in plain text."
        hint = f"See {DOCUMENT}. In a network of your own, name the host in COUPON_PLAINTEXT_HOSTS."
        yield Warning(text, hint=hint, id="coupons.W011")


def _unverified(setting: str, why: str) -> CheckMessage:
    hint = f"See {DOCUMENT}. Encryption alone does not protect from a host that poses as the server."
    return Warning(f"{setting}: {why}, so any host may pose as the server.", hint=hint, id="coupons.W012")


def _kafka(name: str, default: str) -> str:
    return str(settings.KAFKA_CLIENT_CONFIG.get(name, default)).lower()


def _is_local(host: str) -> bool:
    """Returns whether the host is this machine: by name, by a loopback address, or by a socket's path."""
    if host in ("", "localhost") or host.startswith("/"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
