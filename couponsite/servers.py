"""What DATABASE_URL and REDIS_URL say, checked at the start: their clients would find a misspelt parameter only with
the first request, and answer it with an error that nothing waits for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured
from psycopg2 import ProgrammingError
from psycopg2.extensions import make_dsn
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from couponsite.env import url

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
FILES_OF_REDIS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
FILES_OF_POSTGRESQL = ("sslrootcert", "sslcert", "sslkey")
OPTIONS_OF_DJANGO = ("isolation_level", "assume_role")
CONNECT_TIMEOUT_SEC = 3
# A server that is cut off without a reset is noticed in about 10 s instead of the kernel's 2 hours.
NOTICES_A_SERVER_THAT_HAS_GONE = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
# A statement whose client has gone (killed, or tired of waiting) ends, and frees its locks, within a second; a session
# whose host has gone without a word in about 10 s.
NOTICES_A_CLIENT_THAT_HAS_GONE = {
    "client_connection_check_interval": 1_000,
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def redis_url(name: str) -> str:
    """The URL itself, whose parameters redis-py takes. The errors show no value but a file's name."""
    value = url(name, schemes=("redis", "rediss", "unix"))
    try:
        ConnectionPool.from_url(value).make_connection()
    except (TypeError, ValueError, RedisError) as error:
        hint = "" if value.startswith("rediss://") else " Those that begin with ssl_ are for rediss:// alone."
        raise ImproperlyConfigured(f"{name} has a parameter that Redis's client refuses: {error}.{hint}") from None
    _check_files(name, {key: found[0] for key, found in parse_qs(urlsplit(value).query).items()}, FILES_OF_REDIS)
    return value


def redis_cache(location: str, *, timeout_ms: int, max_connections: int) -> dict[str, Any]:
    """An entry of Django's CACHES."""
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": location,
        "OPTIONS": {
            "CLIENT_CLASS": "django_redis.client.DefaultClient",
            "SOCKET_TIMEOUT": timeout_ms / 1000,
            "SOCKET_CONNECT_TIMEOUT": timeout_ms / 1000,
            "CONNECTION_POOL_KWARGS": {
                "max_connections": max_connections,
                # One more try at once after a broken connection (a server that was restarted leaves dead sockets in
                # the pool) and none after a time-out: redis-py's own default would wait up to 10 s three times.
                # Every script is idempotent by user, so a second run is harmless.
                "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            },
        },
    }


def database_config(name: str, *, time_outs_ms: Mapping[str, int]) -> dict[str, Any]:
    """The URL as an entry of Django's DATABASES; its parameters are libpq's, and win over those that are set here.

    `time_outs_ms` are settings of PostgreSQL for each session.
    """
    config: dict[str, Any] = environ.Env().db_url_config(url(name, schemes=("postgres", "postgresql")))
    given = config.get("OPTIONS", {})
    try:
        make_dsn(**{key: value for key, value in given.items() if key not in OPTIONS_OF_DJANGO})
    except ProgrammingError as error:
        reason = str(error).strip()
        raise ImproperlyConfigured(f"{name} has a parameter that PostgreSQL's client refuses: {reason}.") from None
    mode = given.get("sslmode")
    if mode is not None and mode not in SSL_MODES:
        raise ImproperlyConfigured(f"{name}: sslmode={mode} is not one of {', '.join(SSL_MODES)}.")
    _check_files(name, given, FILES_OF_POSTGRESQL)
    config["OPTIONS"] = {"connect_timeout": CONNECT_TIMEOUT_SEC, **NOTICES_A_SERVER_THAT_HAS_GONE, **given}
    connect_timeout = config["OPTIONS"]["connect_timeout"]
    if not isinstance(connect_timeout, int) or connect_timeout < 1:
        raise ImproperlyConfigured(f"{name}: connect_timeout is no whole number of seconds from 1 up.")
    session = [f"-c {key}={value}" for key, value in {**time_outs_ms, **NOTICES_A_CLIENT_THAT_HAS_GONE}.items()]
    config["OPTIONS"]["options"] = " ".join([*session, str(given.get("options", ""))]).strip()  # the last -c wins
    return config


def _check_files(name: str, parameters: dict[str, Any], of_files: tuple[str, ...]) -> None:
    for parameter in of_files:
        path = str(parameters.get(parameter, ""))
        if not path or (parameter == "sslrootcert" and path == "system"):
            continue
        try:
            Path(path).open("rb").close()
        except OSError as error:
            raise ImproperlyConfigured(
                f"{name}: {parameter} names {path!r}, which cannot be read ({error.strerror}): correct the path, or "
                "let this user read it."
            ) from None
