"""System checks of the connections to the servers: each must be encrypted, and each server must prove its name.

`docs/deploy/security.md` has settings that pass. No message shows a URL, because it holds a password.
"""

import ssl
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
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
LIBRDKAFKA_FALSE = ("false", "f", "0")


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
def check_encryption(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Checks that each server is reached by TLS, on this machine, or in a network that COUPON_PLAINTEXT_HOSTS names."""
    hint = f"See {DOCUMENT}. In a network of your own, name the host in COUPON_PLAINTEXT_HOSTS."
    return [
        Warning(f"{setting}: passwords, user ids and coupons go to {host} in plain text.", hint=hint, id="coupons.W011")
        for setting, host in (*_plaintext_redis(), *_plaintext_postgresql(), *_plaintext_kafka())
        if not _is_local(host) and host not in settings.PLAINTEXT_HOSTS
    ]


@register("coupons", deploy=True)
def check_verification(app_configs: object, **kwargs: Any) -> Sequence[CheckMessage]:
    """Checks that each TLS client requires a certificate for the server's very name."""
    hint = f"See {DOCUMENT}. Encryption alone does not protect from a host that poses as the server."
    return [
        Warning(f"{setting}: {why}, so any host may pose as the server.", hint=hint, id="coupons.W012")
        for setting, why in (*_unverified_redis(), *_unverified_postgresql(), *_unverified_kafka())
    ]


def _plaintext_redis() -> Iterator[tuple[str, str]]:
    parts = urlsplit(settings.REDIS_URL)
    if parts.scheme == "redis":
        yield "REDIS_URL", parts.hostname or ""


def _unverified_redis() -> Iterator[tuple[str, str]]:
    pool = admission_redis().connection_pool
    connection = pool.connection_class(**pool.connection_kwargs)
    if isinstance(connection, SSLConnection):
        if connection.cert_reqs != ssl.CERT_REQUIRED:
            yield "REDIS_URL", "ssl_cert_reqs is not required"
        elif not connection.check_hostname:
            yield "REDIS_URL", "ssl_check_hostname is false"


def _plaintext_postgresql() -> Iterator[tuple[str, str]]:
    if _ssl_mode() in ("disable", "allow", "prefer"):
        yield from (("DATABASE_URL", host) for host in settings.DATABASES["default"]["HOST"].split(","))


def _unverified_postgresql() -> Iterator[tuple[str, str]]:
    if _ssl_mode() in ("require", "verify-ca"):
        yield "DATABASE_URL", f"sslmode is {_ssl_mode()}"


def _ssl_mode() -> str:
    options = settings.DATABASES["default"]["OPTIONS"]
    default = "verify-full" if options.get("sslrootcert") == "system" else "prefer"  # libpq's defaults
    return str(options.get("sslmode", default))


def _plaintext_kafka() -> Iterator[tuple[str, str]]:
    if _kafka("security.protocol", "plaintext").endswith("plaintext"):
        for server in settings.KAFKA_BOOTSTRAP_SERVERS.split(","):
            yield "COUPON_KAFKA_CLIENT_CONFIG", urlsplit(f"//{server.strip().rpartition('://')[2]}").hostname or ""


def _unverified_kafka() -> Iterator[tuple[str, str]]:
    if _kafka("security.protocol", "plaintext").endswith("plaintext"):
        return
    if _kafka("enable.ssl.certificate.verification", "true") in LIBRDKAFKA_FALSE:
        yield "COUPON_KAFKA_CLIENT_CONFIG", "enable.ssl.certificate.verification is false"
    if _kafka("ssl.endpoint.identification.algorithm", "https") == "none":
        yield "COUPON_KAFKA_CLIENT_CONFIG", "ssl.endpoint.identification.algorithm is none"


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
