"""DATABASE_URL and REDIS_URL: what their clients would refuse later stops the start, and no password is shown."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from couponsite.servers import VARIABLES_OF_LIBPQ, database_config, redis_cache, redis_url

NAME = "SOME_URL"
REDIS = "rediss://coupons:hunter2@redis.example.test:6380/0"
POSTGRESQL = "postgres://coupons:hunter2@db.example.test/coupons"


def parts_of_postgresql() -> dict[str, Any]:
    return database_config(NAME, time_outs_ms={"statement_timeout": 10_000})


def options_of_postgresql() -> dict[str, Any]:
    options: dict[str, Any] = parts_of_postgresql()["OPTIONS"]
    return options


@pytest.fixture(autouse=True)
def no_variables_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES_OF_LIBPQ.values():
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    file.write_text("")
    return file


def test_parameters_of_redis_s_client_are_taken(monkeypatch: pytest.MonkeyPatch, ca: Path) -> None:
    url = f"{REDIS}?ssl_ca_certs={ca}&ssl_certfile={ca}&ssl_keyfile={ca}&ssl_cert_reqs=required"
    monkeypatch.setenv(NAME, url)

    assert redis_url(NAME) == url


def test_parameters_of_libpq_become_options(monkeypatch: pytest.MonkeyPatch, ca: Path) -> None:
    monkeypatch.setenv(NAME, f"{POSTGRESQL}?sslmode=verify-full&sslrootcert={ca}")

    assert {"sslmode": "verify-full", "sslrootcert": str(ca)}.items() <= options_of_postgresql().items()


def test_the_system_s_authorities_are_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, f"{POSTGRESQL}?sslrootcert=system")

    assert options_of_postgresql()["sslrootcert"] == "system"


def test_what_the_url_says_of_time_outs_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, f"{POSTGRESQL}?connect_timeout=9&keepalives_idle=7&options=-c%20statement_timeout%3D300")
    options = options_of_postgresql()

    assert (options["connect_timeout"], options["keepalives_idle"]) == (9, "7")
    assert re.findall(r"statement_timeout=(\d+)", options["options"]) == ["10000", "300"], "the last one counts"


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgres://u:p@h1:5432,h2:5433/db", "h1,h2", "5432,5433"),
        ("postgres://u:p@h1,h2:5433/db", "h1,h2", ",5433"),
        ("postgres://u:p@h1,h2/db?port=5433", "h1,h2", "5433"),
        ("postgres://u:p@[::1]:5432,[::2]/db", "::1,::2", "5432,"),
        ("postgres://u:p@/db?host=h1,h2", "h1,h2", ""),
        ("postgresql://u:p@127.0.0.1/db?host=h2&port=5433", "h2", "5433"),
        ("postgres://u:p@%2Frun%2Fpg/db", "/run/pg", ""),
        ("postgres:///db?host=/run/pg", "/run/pg", ""),
        ("postgres:////run/pg/db", "/run/pg", ""),
        ("postgres://u:p@/db", "", ""),
    ],
)
def test_hosts_are_those_that_libpq_reads(monkeypatch: pytest.MonkeyPatch, url: str, host: str, port: str) -> None:
    monkeypatch.setenv(NAME, url)
    parts = parts_of_postgresql()

    assert (parts["HOST"], parts["PORT"], parts["NAME"]) == (host, port, "db")


def test_of_two_hosts_the_one_that_writes_may_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "postgres://u:p@h1,h2/db?target_session_attrs=read-write")

    assert options_of_postgresql()["target_session_attrs"] == "read-write"


@pytest.mark.parametrize("written", ["p#s?s", "p%23s%3Fs", "%70#s?s"])
def test_a_password_may_have_special_characters(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv(NAME, f"postgres://a%40b:{written}@h/my%20db")
    parts = parts_of_postgresql()

    assert (parts["USER"], parts["PASSWORD"], parts["NAME"]) == ("a@b", "p#s?s", "my db")


def test_what_libpq_wants_encoded_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "postgres://u:100%@h@db.example.test/db")
    parts = parts_of_postgresql()

    assert (parts["PASSWORD"], parts["HOST"]) == ("100%@h", "db.example.test")


def test_variables_of_libpq_fill_in_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "postgres://u:p@/db?sslmode=require")
    monkeypatch.setenv("PGHOST", "db.example.test")
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.7")
    monkeypatch.setenv("PGSSLMODE", "disable")
    parts = parts_of_postgresql()

    assert (parts["HOST"], parts["OPTIONS"]["hostaddr"]) == ("db.example.test", "10.0.0.7")
    assert parts["OPTIONS"]["sslmode"] == "require", "the URL wins"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgres://u:hunter2@h1:1,h2:2,h3/db?port=1,2", "another number of ports than of hosts"),
        ("postgres://u:hunter2@h1:x/db", "a port is no number"),
        ("postgres://u:hunter2@h1:65536/db", "a port is no number"),
        ("postgres://u:hun/ter2@h/db", "/ is written %2F"),
        ("postgres://u:hun?ter2=@h/", "names no database"),
        ("postgres://u:hunter2@[::1/db", "is refused by PostgreSQL's client"),
        ("postgres://u:hunter2@h", "names no database"),
        ("mysql://u:hunter2@h/db", "is no URL that starts with postgres:// or postgresql://"),
        ("host=h password=hunter2", "is no URL that starts with postgres:// or postgresql://"),
    ],
)
def test_an_error_of_the_url_repeats_no_password(monkeypatch: pytest.MonkeyPatch, url: str, says: str) -> None:
    monkeypatch.setenv(NAME, url)

    with pytest.raises(ImproperlyConfigured, match=f"^{NAME}") as caught:
        options_of_postgresql()

    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "2.5"])
def test_a_time_out_for_the_connection_is_whole_seconds(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(NAME, f"{POSTGRESQL}?connect_timeout={text}")

    with pytest.raises(ImproperlyConfigured, match=f"{NAME}: connect_timeout is no whole number of seconds"):
        options_of_postgresql()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"{REDIS}?ssl_cacerts=/ca.pem", "'ssl_cacerts'"),
        (f"{REDIS}?ssl_cert_reqs=always", "Flag: always"),
        (f"{REDIS}?socket_timeout=soon", "'socket_timeout'"),
        (f"{REDIS}?ssl_ca_certs=/not/there.pem", "ssl_ca_certs names '/not/there.pem', which cannot be read"),
        (f"{REDIS}?ssl_keyfile=/not/there.key", "ssl_keyfile names"),
        (REDIS.replace("rediss", "redis") + "?ssl_ca_certs=/ca.pem", "for rediss:// alone"),
    ],
)
def test_what_redis_s_client_refuses(monkeypatch: pytest.MonkeyPatch, url: str, says: str) -> None:
    monkeypatch.setenv(NAME, url)

    with pytest.raises(ImproperlyConfigured, match=f"^{NAME}") as caught:
        redis_url(NAME)

    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ("sslrootcer=/ca.pem", '"sslrootcer"'),
        ("sslmode=verify_full", "sslmode=verify_full is not one of disable, allow"),
        ("sslrootcert=/not/there.pem", "sslrootcert names '/not/there.pem', which cannot be read"),
        ("sslkey=/not/there.key", "sslkey names"),
    ],
)
def test_what_libpq_refuses(monkeypatch: pytest.MonkeyPatch, parameters: str, says: str) -> None:
    monkeypatch.setenv(NAME, f"{POSTGRESQL}?{parameters}")

    with pytest.raises(ImproperlyConfigured, match=f"^{NAME}") as caught:
        options_of_postgresql()

    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_sentinels_are_asked_for_the_primary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "redis+sentinel://coupons:p%40ss@s1.test,[::1]:26380/orders/2?sentinel_password=other")

    cache = redis_cache(redis_url(NAME), timeout_ms=500, max_connections=4)

    assert cache["LOCATION"] == "redis://coupons:p%40ss@orders/2"
    assert cache["OPTIONS"]["SENTINELS"] == [("s1.test", 26379), ("::1", 26380)]
    assert cache["OPTIONS"]["SENTINEL_KWARGS"]["password"] == "other"


@pytest.mark.parametrize("rest", ["s1.test", "s1.test:26379/", "/orders", "s1.test,/orders", "s1.test:hunter2/orders"])
def test_a_sentinel_url_without_hosts_or_service_stops_the_start(monkeypatch: pytest.MonkeyPatch, rest: str) -> None:
    monkeypatch.setenv(NAME, f"redis+sentinel://{rest}")

    with pytest.raises(ImproperlyConfigured, match=f"^{NAME} must name the Sentinels, and the primary") as refused:
        redis_url(NAME)

    assert "hunter2" not in str(refused.value)
