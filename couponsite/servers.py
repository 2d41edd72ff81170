"""What DATABASE_URL and REDIS_URL say, checked at the start: their clients would find a misspelt parameter only with
the first request, and answer it with an error that nothing waits for."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from django.core.exceptions import ImproperlyConfigured
from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from couponsite.env import required, url

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
FILES_OF_REDIS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
FILES_OF_POSTGRESQL = ("sslrootcert", "sslcert", "sslkey")
SENTINEL_PORT = 26379
PARTS_OF_DJANGO = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
# Where the URL is silent libpq reads these, and so the checks of the way to PostgreSQL must know them.
VARIABLES_OF_LIBPQ = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "service": "PGSERVICE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
}
SEVERAL_HOSTS = "coupons.runtime.several_hosts"
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
    value = required(name, hint="redis://...")
    if _is_sentinel(value):
        try:
            of_server, sentinels, _ = _sentinel_parts(value)
            is_whole = all(host for host, _ in sentinels) and urlsplit(of_server).hostname
        except ValueError:  # a port that is none
            is_whole = False
        if not is_whole:
            raise ImproperlyConfigured(
                f"{name} must name the Sentinels, and the primary as they know it: "
                "redis+sentinel://HOST:26379,HOST:26379/SERVICE/0."
            )
    else:
        of_server = url(name, schemes=("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"))
    try:
        ConnectionPool.from_url(of_server).make_connection()
    except (TypeError, ValueError, RedisError) as error:
        hint = "" if value.startswith("rediss") else " Those that begin with ssl_ are for rediss:// alone."
        raise ImproperlyConfigured(f"{name} has a parameter that Redis's client refuses: {error}.{hint}") from None
    _check_files(name, {key: found[0] for key, found in parse_qs(urlsplit(value).query).items()}, FILES_OF_REDIS)
    return value


def _is_sentinel(value: str) -> bool:
    return value.partition("://")[0] in ("redis+sentinel", "rediss+sentinel")


def redis_cache(location: str, *, timeout_ms: int, max_connections: int) -> dict[str, Any]:
    """An entry of Django's CACHES, also for coupons.runtime.redis_connections.loop_client."""
    of_server = location
    more: dict[str, Any] = {"CONNECTION_POOL_CLASS": "coupons.runtime.redis_connections.Pool"}
    if _is_sentinel(location):
        of_server, sentinels, of_sentinels = _sentinel_parts(location)
        timeouts = {"socket_timeout": timeout_ms / 1000, "socket_connect_timeout": timeout_ms / 1000}
        more = {
            "CONNECTION_POOL_CLASS": "coupons.runtime.redis_connections.SentinelPool",
            "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
            "SENTINELS": sentinels,
            "SENTINEL_KWARGS": {**of_sentinels, **timeouts},
        }
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": of_server,
        "OPTIONS": {
            **more,
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


def _sentinel_parts(value: str) -> tuple[str, list[tuple[str, int]], dict[str, Any]]:
    """Takes `redis+sentinel://user:password@host:port,host:port/service/0?...` apart: a URL whose host is the service,
    the Sentinels, and redis-py's parameters for connections to them. Raises ValueError for a port that is none."""
    parts = urlsplit(value)
    user, at, hosts = parts.netloc.rpartition("@")
    addresses = [urlsplit(f"//{host}") for host in hosts.split(",")]
    sentinels = [(address.hostname or "", address.port or SENTINEL_PORT) for address in addresses]
    service, _, database = parts.path.strip("/").partition("/")
    query = parse_qs(parts.query)
    of_sentinels: dict[str, Any] = {
        name: query.pop(f"sentinel_{name}")[0] for name in ("username", "password") if f"sentinel_{name}" in query
    }
    scheme = parts.scheme.partition("+")[0]
    if scheme == "rediss":
        of_sentinels |= {"ssl": True, **{name: found[0] for name, found in query.items() if name.startswith("ssl_")}}
    of_server = urlunsplit((scheme, f"{user}{at}{service}", f"/{database or 0}", urlencode(query, doseq=True), ""))
    return of_server, sentinels, of_sentinels


def database_config(name: str, *, time_outs_ms: Mapping[str, int]) -> dict[str, Any]:
    """The URL as an entry of Django's DATABASES, read as libpq reads it. Its parameters are libpq's, and win over those
    that are set here. The errors never repeat a part that may be of the password.

    `time_outs_ms` are settings of PostgreSQL for each session.
    """
    given = _parse_as_libpq(name, required(name, hint="postgres://..."))
    config = {key: given.pop(parameter, "") for key, parameter in PARTS_OF_DJANGO.items()}
    _check_hosts(name, config["HOST"], config["PORT"])
    if not config["NAME"] and "service" not in given:
        raise ImproperlyConfigured(f"{name} names no database: postgres://user:password@host:5432/database.")
    mode = given.get("sslmode")
    if mode is not None and mode not in SSL_MODES:
        raise ImproperlyConfigured(f"{name}: sslmode={mode} is not one of {', '.join(SSL_MODES)}.")
    _check_files(name, given, FILES_OF_POSTGRESQL)
    connect_timeout = given.get("connect_timeout", str(CONNECT_TIMEOUT_SEC))
    if not re.fullmatch(r"0*[1-9][0-9]*", connect_timeout):
        raise ImproperlyConfigured(f"{name}: connect_timeout is no whole number of seconds from 1 up.")
    session = [f"-c {key}={value}" for key, value in {**time_outs_ms, **NOTICES_A_CLIENT_THAT_HAS_GONE}.items()]
    options: dict[str, Any] = {**NOTICES_A_SERVER_THAT_HAS_GONE, **given, "connect_timeout": int(connect_timeout)}
    options["options"] = " ".join([*session, given.get("options", "")]).strip()  # the last -c wins
    several = "," in config["HOST"]
    return {
        **config,
        "ENGINE": SEVERAL_HOSTS if several else "django.db.backends.postgresql",
        "OPTIONS": options,
        "SESSION": dict(re.findall(r"-c\s*(\w+)=(\S+)", options["options"])),  # for coupons/checks/session.py
    }


def through_pooler(config: dict[str, Any]) -> dict[str, Any]:
    """The same for a pooler in transaction mode: it refuses startup options, or drops them, and gives a cursor of the
    server's to whoever comes next. The role's own settings take the options' place (docs/deploy/pgbouncer.md)."""
    options = {key: value for key, value in config["OPTIONS"].items() if key != "options"}
    return {**config, "OPTIONS": options, "DISABLE_SERVER_SIDE_CURSORS": True}


def _parse_as_libpq(name: str, value: str) -> dict[str, str]:
    """Returns the parameters of the URL, and those of libpq's own variables that fill in what it leaves out."""
    if not value.startswith(("postgres://", "postgresql://")):
        raise ImproperlyConfigured(f"{name} is no URL that starts with postgres:// or postgresql://.")
    scheme, _, rest = value.partition("://")
    authority, slash, path = rest.partition("/")
    if "@" in path.partition("?")[0]:
        raise ImproperlyConfigured(f"{name} has an @ behind a /: in a user's name or a password, / is written %2F.")
    credentials, at, hosts = authority.rpartition("@")
    # Outside the characters that libpq wants to have encoded, these two are taken as they are.
    credentials = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", credentials.replace("@", "%40"))
    try:
        given: dict[str, str] = parse_dsn(f"{scheme}://{credentials}{at}{hosts}{slash}{path}")
    except ProgrammingError as error:
        parameter = re.search(r'URI query parameter: "(\w+)"', str(error))
        if parameter and parameter[1] in value.rpartition("@")[2]:
            text = f'{name} has a parameter that PostgreSQL\'s client refuses: "{parameter[1]}".'
        else:
            text = f"{name} is refused by PostgreSQL's client: write postgres://user:password@host:5432/database."
        raise ImproperlyConfigured(text) from None
    if "host" not in given and given.get("dbname", "").startswith("/"):  # postgres:////run/postgresql/coupons
        given["host"], _, given["dbname"] = given["dbname"].rpartition("/")
    if "service" not in given:
        given = {key: os.environ[env] for key, env in VARIABLES_OF_LIBPQ.items() if os.environ.get(env)} | given
    return given


def _check_hosts(name: str, hosts: str, ports: str) -> None:
    """libpq would find these errors with the first connection."""
    numbers = ports.split(",")
    if not all(re.fullmatch(r"0*[1-9][0-9]{0,4}|", port) and int(port or 1) <= 65535 for port in numbers):
        raise ImproperlyConfigured(f"{name}: a port is no number from 1 to 65535.")
    if len(numbers) not in (1, len(hosts.split(","))):
        raise ImproperlyConfigured(f"{name} has another number of ports than of hosts.")


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
