"""DATABASE_URL and REDIS_URL: what their clients would refuse later stops the start, and no password is shown."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from couponsite.servers import database_config, redis_url

NAME = "SOME_URL"
REDIS = "rediss://coupons:hunter2@redis.example.test:6380/0"
POSTGRESQL = "postgres://coupons:hunter2@db.example.test/coupons"


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

    assert database_config(NAME)["OPTIONS"] == {"sslmode": "verify-full", "sslrootcert": str(ca)}


def test_the_system_s_authorities_are_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, f"{POSTGRESQL}?sslrootcert=system")

    assert database_config(NAME)["OPTIONS"] == {"sslrootcert": "system"}


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
        database_config(NAME)

    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)
